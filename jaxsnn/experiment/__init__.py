"""An experiment from the command line: settings, the folder of a run, checkpoints, devices.

`train.py` is the experiment itself; this package is what surrounds it. Parts of it serve loops of
your own: `Checkpoints` and `load_model`, `Log`, `devices`. Import it where it is used: it brings
Orbax along.
"""

from jaxsnn.experiment import devices as devices
from jaxsnn.experiment._checkpoints import CheckpointError as CheckpointError
from jaxsnn.experiment._checkpoints import Checkpoints as Checkpoints
from jaxsnn.experiment._checkpoints import CheckpointWriteError as CheckpointWriteError
from jaxsnn.experiment._checkpoints import check_path as check_path
from jaxsnn.experiment._checkpoints import load_model as load_model
from jaxsnn.experiment._command_line import OneLineParser as OneLineParser
from jaxsnn.experiment._command_line import main as main
from jaxsnn.experiment._config import Config as Config
from jaxsnn.experiment._config import Placement as Placement
from jaxsnn.experiment._config import Runtime as Runtime
from jaxsnn.experiment._config import build_model as build_model
from jaxsnn.experiment._config import choice as choice
from jaxsnn.experiment._config import integer as integer
from jaxsnn.experiment._endings import one_line as one_line
from jaxsnn.experiment._folder import lock as lock
from jaxsnn.experiment._folder import read_config as read_config
from jaxsnn.experiment._folder import write_text as write_text
from jaxsnn.experiment._log import Log as Log
from jaxsnn.experiment._log import Row as Row
from jaxsnn.experiment._log import best_row as best_row
from jaxsnn.experiment._run import Run as Run
from jaxsnn.experiment._run import new_model as new_model
