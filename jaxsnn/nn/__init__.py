"""Cells, containers and layers; `unroll` runs any of them over time."""

from jaxsnn.nn._cell import Cell as Cell
from jaxsnn.nn._containers import ElementWiseRecurrentContainer as ElementWiseRecurrentContainer
from jaxsnn.nn._containers import LinearRecurrentContainer as LinearRecurrentContainer
from jaxsnn.nn._layers import Conv as Conv
from jaxsnn.nn._layers import Linear as Linear
from jaxsnn.nn._neurons import IFNode as IFNode
from jaxsnn.nn._neurons import LIFNode as LIFNode
from jaxsnn.nn._neurons import ParametricLIFNode as ParametricLIFNode
from jaxsnn.nn._sequence_layer import SequenceLayer as SequenceLayer
from jaxsnn.nn._sequential import Sequential as Sequential
from jaxsnn.nn._synapses import SynapseFilter as SynapseFilter
from jaxsnn.nn._unroll import unroll as unroll
