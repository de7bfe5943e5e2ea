"""Spiking networks with recurrent connections and stateful synapses on JAX and Flax NNX.

`jaxsnn.checkpointing` and `jaxsnn.runs` are imported where they are used: they bring Orbax along.
"""

from jaxsnn import data as data
from jaxsnn import functional as functional
from jaxsnn import losses as losses
from jaxsnn import models as models
from jaxsnn import nn as nn
from jaxsnn import surrogate as surrogate
from jaxsnn import training as training
