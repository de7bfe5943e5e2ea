"""The table of every cell there is, for tests of what all of them must do."""

import operator

import jax
from flax import nnx

from jaxsnn import nn

F = 4  # features of the inputs


def rngs():
    return nnx.Rngs(0)


# What stands between batch and features.
SHAPES = {
    "NeuNorm": (2, 2),
    "SpikingSelfAttention": (2,),
    "TokenQKAttention": (2,),
    "ChannelQKAttention": (2,),
}

CELLS = {
    "ActivationAwareIFNode": lambda: nn.ActivationAwareIFNode((0.9, 1.0, 1.1, 1.2), 0.1),
    "AdLIFNode": lambda: nn.AdLIFNode(2.0, 4.0, a=0.25, b=0.5, v_threshold=0.3),
    "AdaptiveLIFNode": lambda: nn.AdaptiveLIFNode(),
    "AlphaSynapse": lambda: nn.AlphaSynapse(3.0),
    "BRFNode": lambda: nn.BRFNode(omega=0.8, b_offset=0.1, dt=1.0, v_threshold=0.5),
    "CUBALIFNode": lambda: nn.CUBALIFNode(),
    "ChannelQKAttention": lambda: nn.ChannelQKAttention(F, num_heads=2, rngs=rngs()),
    "ComplementaryLIFNode": lambda: nn.ComplementaryLIFNode(),
    "Delay": lambda: nn.Delay(2),
    "Concatenate": lambda: nn.Concatenate(
        nn.LIFNode(v_threshold=0.3), nn.Linear(F, 2, rngs=rngs())
    ),
    "DoubleExponentialSynapse": lambda: nn.DoubleExponentialSynapse(4.0, 1.5),
    "EIFNode": lambda: nn.EIFNode(),
    "ElementWiseRecurrentContainer": lambda: nn.ElementWiseRecurrentContainer(
        nn.IFNode(), operator.add
    ),
    "ExponentialSynapse": lambda: nn.ExponentialSynapse(3.0),
    "Graph": lambda: nn.Graph(
        {"a": nn.Linear(F, F, rngs=rngs()), "b": nn.LIFNode(v_threshold=0.3)},
        [("input", "b"), ("b", "a"), ("a", "b"), ("b", "output"), ("input", "output")],
    ),
    "HalfThresholdIFNode": lambda: nn.HalfThresholdIFNode(),
    "IFNode": lambda: nn.IFNode(),
    "ILIFNode": lambda: nn.ILIFNode(),
    "IzhikevichNode": lambda: nn.IzhikevichNode(),
    "KLIFNode": lambda: nn.KLIFNode(),
    "LIAFNode": lambda: nn.LIAFNode(jax.nn.relu, True),
    "LIFNode": lambda: nn.LIFNode(),
    "LinearRecurrentContainer": lambda: nn.LinearRecurrentContainer(
        nn.LIFNode(v_threshold=0.3), F, F, rngs=rngs()
    ),
    "NeuNorm": lambda: nn.NeuNorm(F, 2, 2, rngs=rngs()),
    "NonSpikingIFNode": lambda: nn.NonSpikingIFNode(),
    "NonSpikingLIFNode": lambda: nn.NonSpikingLIFNode(),
    "OTTTLIFNode": lambda: nn.OTTTLIFNode(),
    "ParametricLIFNode": lambda: nn.ParametricLIFNode(),
    "QIFNode": lambda: nn.QIFNode(),
    "RAFNode": lambda: nn.RAFNode(),
    "Residual": lambda: nn.Residual(
        nn.Sequential(nn.Linear(F, F, rngs=rngs()), nn.IFNode(v_threshold=0.3)),
        shortcut=nn.LIFNode(v_threshold=0.3),
        combine=operator.sub,
    ),
    "SEAdLIFNode": lambda: nn.SEAdLIFNode(2.0, 8.0, q=4.0, v_threshold=0.3),
    "SLTTLIFNode": lambda: nn.SLTTLIFNode(),
    "Sequential": lambda: nn.Sequential(nn.Linear(F, 2, rngs=rngs()), nn.IFNode()),
    "SlidingPSN": lambda: nn.SlidingPSN(k=3, rngs=rngs()),
    "SpikingGRUCell": lambda: nn.SpikingGRUCell(F, 3, rngs=rngs()),
    "SpikingLSTMCell": lambda: nn.SpikingLSTMCell(F, 3, rngs=rngs()),
    "SpikingSelfAttention": lambda: nn.SpikingSelfAttention(F, num_heads=2, rngs=rngs()),
    "SpikingVanillaRNNCell": lambda: nn.SpikingVanillaRNNCell(F, 3, rngs=rngs()),
    "SynapseFilter": lambda: nn.SynapseFilter(tau=2.0),
    "TCLIFNode": lambda: nn.TCLIFNode(v_threshold=0.5),
    "TernaryIFNode": lambda: nn.TernaryIFNode(),
    "TernaryLIFNode": lambda: nn.TernaryLIFNode(),
    "TokenQKAttention": lambda: nn.TokenQKAttention(F, num_heads=2, rngs=rngs()),
}
