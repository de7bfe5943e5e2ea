"""Spiking networks with recurrent connections and stateful synapses on JAX and Flax NNX.

`jaxsnn.experiment` and `jaxsnn.plotting` are imported where they are used: the first brings Orbax
along, the second Matplotlib.
"""

from jaxsnn import data as data
from jaxsnn import diagnosis as diagnosis
from jaxsnn import encoding as encoding
from jaxsnn import export as export
from jaxsnn import functional as functional
from jaxsnn import learning as learning
from jaxsnn import losses as losses
from jaxsnn import models as models
from jaxsnn import nn as nn
from jaxsnn import quantize as quantize
from jaxsnn import readouts as readouts
from jaxsnn import surrogate as surrogate
from jaxsnn import training as training
from jaxsnn.diagnosis import calibrate as calibrate
from jaxsnn.diagnosis import doctor as doctor
