"""Neurons whose output is a number of spikes in a step, or spikes with a sign."""

from dataclasses import KW_ONLY

from jaxsnn import _checks, functional
from jaxsnn.nn._constants import Positive, TimeConstant
from jaxsnn.nn._neurons import Firing, Neuron, SpikeFunction
from jaxsnn.surrogate import MultiLevelSpikeCount


class _TernaryNeuron(Neuron):
    """Abstract: a neuron with a threshold on either side of its potential.

    Args:
        v_threshold: firing threshold on either side, greater than 0.
        v_reset: potential after a spike of either sign, at rest and before the first step, between
            `-v_threshold` and `v_threshold`; None is the soft reset, which subtracts or adds the
            threshold, rests at 0 and starts from 0.
        surrogate_function: spike function of `v - v_threshold` and of `-v - v_threshold`, e.g.
            `jaxsnn.surrogate.ATan()`.
    """

    _: KW_ONLY
    v_threshold: Positive = 1.0

    def __post_init__(self) -> None:
        _checks.less("v_reset", self.v_reset, "v_threshold", self.v_threshold)
        _checks.less("-v_threshold", -self.v_threshold, "v_reset", self.v_reset)


class TernaryIFNode(_TernaryNeuron):
    """IF neuron with spikes of either sign, -1, 0 or 1; the equation is in
    `jaxsnn.functional.ternary_if_step`.

    Examples:
        >>> xs = jnp.array([[0.5], [0.5], [-0.5], [-0.75]])
        >>> _, spikes = unroll(TernaryIFNode(), xs)
        >>> spikes[:, 0]
        Array([ 0.,  1.,  0., -1.], dtype=float32)
    """

    step = functional.ternary_if_step


class TernaryLIFNode(_TernaryNeuron):
    """LIF neuron with spikes of either sign, -1, 0 or 1; the equation is in
    `jaxsnn.functional.ternary_lif_step`.

    Args:
        tau: membrane time constant in time steps, greater than 1.
        decay_input: whether the input is divided by `tau` too.
    """

    tau: TimeConstant = 2.0
    _: KW_ONLY
    decay_input: bool = True
    step = functional.ternary_lif_step


class ILIFNode(Firing):
    """Integer LIF neuron: up to several spikes in a step, soft reset; the equation is in
    `jaxsnn.functional.ilif_step`.

    For training: hardware that knows spikes only is given a count one spike after another.

    Args:
        tau: membrane time constant in time steps, greater than 1. The input is not divided by it.
        v_threshold: potential that one spike takes away, greater than 0.
        surrogate_function: count of spikes as a function of `v / v_threshold`: a
            `jaxsnn.surrogate.MultiLevelSpikeCount`, or a function like it.
        detach_reset: no gradient flows through the spike in the reset (that of the output stays).

    Examples:
        >>> xs = jnp.array([[0.25], [1.25], [9.0], [0.0]])
        >>> _, counts = unroll(ILIFNode(), xs)
        >>> counts[:, 0]
        Array([0., 1., 4., 1.], dtype=float32)
    """

    tau: TimeConstant = 4 / 3
    _: KW_ONLY
    v_threshold: Positive = 1.0
    detach_reset: bool = False
    surrogate_function: SpikeFunction = MultiLevelSpikeCount(4)
    step = functional.ilif_step
