"""Cells, containers and layers; `unroll` runs any of them over time."""

from jaxsnn.nn._cell import Cell as Cell
from jaxsnn.nn._containers import ElementWiseRecurrentContainer as ElementWiseRecurrentContainer
from jaxsnn.nn._containers import LinearRecurrentContainer as LinearRecurrentContainer
from jaxsnn.nn._dropout import Dropout as Dropout
from jaxsnn.nn._dropout import Dropout2d as Dropout2d
from jaxsnn.nn._layers import Conv as Conv
from jaxsnn.nn._layers import Linear as Linear
from jaxsnn.nn._modal_layer import SequenceLayer as SequenceLayer
from jaxsnn.nn._modal_layer import needs_training_mode as needs_training_mode
from jaxsnn.nn._neurons import IFNode as IFNode
from jaxsnn.nn._neurons import LIFNode as LIFNode
from jaxsnn.nn._neurons import ParametricLIFNode as ParametricLIFNode
from jaxsnn.nn._normalization import BatchNorm as BatchNorm
from jaxsnn.nn._normalization import BatchNormThroughTime as BatchNormThroughTime
from jaxsnn.nn._normalization import TemporalEffectiveBatchNorm as TemporalEffectiveBatchNorm
from jaxsnn.nn._normalization import ThresholdDependentBatchNorm as ThresholdDependentBatchNorm
from jaxsnn.nn._sequential import Sequential as Sequential
from jaxsnn.nn._statistics import statistics as statistics
from jaxsnn.nn._statistics import with_statistics as with_statistics
from jaxsnn.nn._synapses import SynapseFilter as SynapseFilter
from jaxsnn.nn._unroll import Extras as Extras
from jaxsnn.nn._unroll import steps_before as steps_before
from jaxsnn.nn._unroll import unroll as unroll
