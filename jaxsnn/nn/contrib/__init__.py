"""Neurons and layers that few networks need, most of them for parity with SpikingJelly.

They are exact and tested like those of `jaxsnn.nn`. A part is in `jaxsnn.nn` if an example, a
network or a recipe of this project uses it, or if recent networks with published results on
sequences are made of it (`AdLIFNode`, `SEAdLIFNode`, `BRFNode`, `TCLIFNode`, `PSN`, `SlidingPSN`).
Otherwise it is here, and moves when that changes. Names and arguments here may change from one
minor version to the next, which the changelog then says.
"""

from jaxsnn.nn.contrib._attention import MultiDimensionalAttention as MultiDimensionalAttention
from jaxsnn.nn.contrib._attention import TemporalWiseAttention as TemporalWiseAttention
from jaxsnn.nn.contrib._dropconnect import DropConnectLinear as DropConnectLinear
from jaxsnn.nn.contrib._neunorm import NeuNorm as NeuNorm
from jaxsnn.nn.contrib._neurons import ActivationAwareIFNode as ActivationAwareIFNode
from jaxsnn.nn.contrib._neurons import ComplementaryLIFNode as ComplementaryLIFNode
from jaxsnn.nn.contrib._neurons import EIFNode as EIFNode
from jaxsnn.nn.contrib._neurons import HalfThresholdIFNode as HalfThresholdIFNode
from jaxsnn.nn.contrib._neurons import ILIFNode as ILIFNode
from jaxsnn.nn.contrib._neurons import IzhikevichNode as IzhikevichNode
from jaxsnn.nn.contrib._neurons import KLIFNode as KLIFNode
from jaxsnn.nn.contrib._neurons import LIAFNode as LIAFNode
from jaxsnn.nn.contrib._neurons import OTTTLIFNode as OTTTLIFNode
from jaxsnn.nn.contrib._neurons import QIFNode as QIFNode
from jaxsnn.nn.contrib._neurons import RAFNode as RAFNode
from jaxsnn.nn.contrib._neurons import SLTTLIFNode as SLTTLIFNode
from jaxsnn.nn.contrib._neurons import TernaryIFNode as TernaryIFNode
from jaxsnn.nn.contrib._neurons import TernaryLIFNode as TernaryLIFNode
from jaxsnn.nn.contrib._normalization import BatchNormThroughTime as BatchNormThroughTime
from jaxsnn.nn.contrib._normalization import (
    TemporalEffectiveBatchNorm as TemporalEffectiveBatchNorm,
)
from jaxsnn.nn.contrib._normalization import (
    ThresholdDependentBatchNorm as ThresholdDependentBatchNorm,
)
from jaxsnn.nn.contrib._sequence_neurons import DSRIFNode as DSRIFNode
from jaxsnn.nn.contrib._sequence_neurons import DSRLIFNode as DSRLIFNode
from jaxsnn.nn.contrib._sequence_neurons import GatedLIFNode as GatedLIFNode
from jaxsnn.nn.contrib._sequence_neurons import MaskedPSN as MaskedPSN
from jaxsnn.nn.contrib._sequence_neurons import with_lambda as with_lambda
from jaxsnn.nn.contrib._spike_counts import SpikeCountToBinary as SpikeCountToBinary
from jaxsnn.nn.contrib._spike_counts import TemporalBinSum as TemporalBinSum
from jaxsnn.nn.contrib._spiking_attention import ChannelQKAttention as ChannelQKAttention
from jaxsnn.nn.contrib._spiking_attention import SpikingSelfAttention as SpikingSelfAttention
from jaxsnn.nn.contrib._spiking_attention import TokenQKAttention as TokenQKAttention
from jaxsnn.nn.contrib._spiking_rnns import SpikingGRUCell as SpikingGRUCell
from jaxsnn.nn.contrib._spiking_rnns import SpikingLSTMCell as SpikingLSTMCell
from jaxsnn.nn.contrib._spiking_rnns import SpikingVanillaRNNCell as SpikingVanillaRNNCell
from jaxsnn.nn.contrib._weight_standardization import WSConv as WSConv
from jaxsnn.nn.contrib._weight_standardization import WSLinear as WSLinear
