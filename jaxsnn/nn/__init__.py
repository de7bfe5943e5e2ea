"""Cells, containers and layers; `unroll` runs any of them over time."""

import typing as _typing

from jaxsnn._masks import sequence_mask as sequence_mask
from jaxsnn.nn import constants as constants
from jaxsnn.nn import contrib as contrib
from jaxsnn.nn._bidirectional import Bidirectional as Bidirectional
from jaxsnn.nn._blocks import Concatenate as Concatenate
from jaxsnn.nn._blocks import Residual as Residual
from jaxsnn.nn._constants import Constant as Constant
from jaxsnn.nn._constants import learnable as learnable
from jaxsnn.nn._containers import ElementWiseRecurrentContainer as ElementWiseRecurrentContainer
from jaxsnn.nn._containers import LinearRecurrentContainer as LinearRecurrentContainer
from jaxsnn.nn._delay import Delay as Delay
from jaxsnn.nn._dropout import Dropout as Dropout
from jaxsnn.nn._dropout import Dropout2d as Dropout2d
from jaxsnn.nn._elementwise import ElementwiseCell as ElementwiseCell
from jaxsnn.nn._folding import fold_batch_norm as fold_batch_norm
from jaxsnn.nn._graph import Graph as Graph
from jaxsnn.nn._layers import Conv as Conv
from jaxsnn.nn._layers import Linear as Linear
from jaxsnn.nn._module import Cell as Cell
from jaxsnn.nn._module import Module as Module
from jaxsnn.nn._neurons import AdaptiveLIFNode as AdaptiveLIFNode
from jaxsnn.nn._neurons import CUBALIFNode as CUBALIFNode
from jaxsnn.nn._neurons import IFNode as IFNode
from jaxsnn.nn._neurons import LIFNode as LIFNode
from jaxsnn.nn._neurons import Neuron as Neuron
from jaxsnn.nn._neurons import NonSpikingIFNode as NonSpikingIFNode
from jaxsnn.nn._neurons import NonSpikingLIFNode as NonSpikingLIFNode
from jaxsnn.nn._neurons import ParametricLIFNode as ParametricLIFNode
from jaxsnn.nn._normalization import BatchNorm as BatchNorm
from jaxsnn.nn._parallel import PSN as PSN
from jaxsnn.nn._parallel import SlidingPSN as SlidingPSN
from jaxsnn.nn._pooling import AvgPool as AvgPool
from jaxsnn.nn._pooling import Flatten as Flatten
from jaxsnn.nn._pooling import MaxPool as MaxPool
from jaxsnn.nn._pooling import VotingLayer as VotingLayer
from jaxsnn.nn._run import Run as Run
from jaxsnn.nn._sequential import Sequential as Sequential
from jaxsnn.nn._synapses import AlphaSynapse as AlphaSynapse
from jaxsnn.nn._synapses import DoubleExponentialSynapse as DoubleExponentialSynapse
from jaxsnn.nn._synapses import ExponentialSynapse as ExponentialSynapse
from jaxsnn.nn._synapses import SynapseFilter as SynapseFilter
from jaxsnn.nn._two_variables import AdLIFNode as AdLIFNode
from jaxsnn.nn._two_variables import BRFNode as BRFNode
from jaxsnn.nn._two_variables import SEAdLIFNode as SEAdLIFNode
from jaxsnn.nn._two_variables import TCLIFNode as TCLIFNode
from jaxsnn.nn._unroll import Extras as Extras
from jaxsnn.nn._unroll import unroll as unroll

if not _typing.TYPE_CHECKING:  # a type checker would take every name for an attribute

    def __getattr__(name):
        where = f"; it is jaxsnn.nn.contrib.{name}" if hasattr(contrib, name) else ""
        raise AttributeError(f"module 'jaxsnn.nn' has no attribute {name!r}{where}")
