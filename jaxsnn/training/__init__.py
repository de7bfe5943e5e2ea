"""Training: pure steps, and whole epochs as one compiled, donated call each.

The data set lives on the device, or is streamed to it from the host; either way the run is the
same bit for bit. A minibatch can be shared out among several devices.
"""

from jaxsnn._norm import global_norm as global_norm
from jaxsnn.training._epoch import epoch_order as epoch_order
from jaxsnn.training._epoch import evaluate as evaluate
from jaxsnn.training._epoch import train_epoch as train_epoch
from jaxsnn.training._optax import clip_by_global_norm as clip_by_global_norm
from jaxsnn.training._optax import cosine_learning_rates as cosine_learning_rates
from jaxsnn.training._optax import cosine_schedule as cosine_schedule
from jaxsnn.training._state import Metrics as Metrics
from jaxsnn.training._state import Recipe as Recipe
from jaxsnn.training._state import TrainState as TrainState
from jaxsnn.training._state import create as create
from jaxsnn.training._state import merge as merge
from jaxsnn.training._state import put as put
from jaxsnn.training._step import train_step as train_step
from jaxsnn.training._stream import import_grain as import_grain
from jaxsnn.training._stream import stream_epoch as stream_epoch
from jaxsnn.training._stream import stream_evaluate as stream_evaluate
