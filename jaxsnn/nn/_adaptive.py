"""Neurons that adapt: by a current, by their threshold, by their reset."""

from dataclasses import KW_ONLY
from typing import Any

from jaxsnn import _checks, functional
from jaxsnn.nn._constants import NonNegative, Positive, Real, TimeConstant
from jaxsnn.nn._neurons import Firing, Neuron, SpikeFunction
from jaxsnn.surrogate import Rect


class IzhikevichNode(Neuron):
    """Izhikevich neuron: quadratic, with an adaptation current; the equation is in
    `jaxsnn.functional.izhikevich_step`.

    Args:
        tau: membrane time constant in time steps, greater than 1.
        v_c: critical potential, above which the neuron fires by itself.
        a0: curvature, greater than 0.
        v_rest: potential at rest.
        w_rest: adaptation current before the first step.
        tau_w: time constant of the adaptation in time steps, greater than 1.
        a: how strongly the adaptation follows the potential.
        b: by how much a spike raises the adaptation current. With `a` and `b` at 0, the default,
            nothing adapts: set them.
        v_reset: potential after a spike and before the first step, less than `v_threshold`; None
            is the soft reset, which subtracts the threshold and starts from 0.

    Carry: `jaxsnn.functional.IzhikevichState(v, w)`, both in the shape of one step's input.
    """

    tau: TimeConstant = 2.0
    _: KW_ONLY
    v_c: Real = 0.8
    a0: Positive = 1.0
    v_rest: Real = -0.1
    w_rest: Real = 0.0
    tau_w: TimeConstant = 2.0
    a: Real = 0.0
    b: Real = 0.0
    step = functional.izhikevich_step
    state = functional.IzhikevichState

    def __post_init__(self) -> None:
        _checks.less("v_reset", self.v_reset, "v_threshold", self.v_threshold)

    def initial_state(self) -> Any:
        return super().initial_state()._replace(w=self.w_rest)


class AdaptiveLIFNode(Neuron):
    """LIF neuron whose threshold rises with each of its spikes and sinks back (ALIF); the
    equation and its sources are in `jaxsnn.functional.adaptive_lif_step`.

    Args:
        tau: membrane time constant in time steps, greater than 1.
        tau_a: time constant of the threshold in time steps, greater than 1: how far back the
            neuron remembers its spikes, so usually about the length of the task.
        beta: how far the threshold rises if the neuron fires at every step, not negative; one
            spike raises it by `beta / tau_a`. The default is the 1.8 of Bellec et al. (2018),
            who use a threshold of 0.01, for a threshold of 1.
        decay_input: whether the input is divided by `tau` too.
        v_threshold: firing threshold at rest.
        v_reset: potential after a spike, at rest and before the first step; None is the soft
            reset, which subtracts the risen threshold, rests at 0 and starts from 0.
        surrogate_function: spike function of the potential less the threshold, e.g.
            `jaxsnn.surrogate.ATan()`.

    Carry: `jaxsnn.functional.AdaptiveLIFState(v, a)`, `a` 0 before the first step, both in the
    shape of one step's input.

    Examples:
        >>> neuron = AdaptiveLIFNode(tau=2.0, tau_a=20.0, beta=10.0)
        >>> _, spikes = unroll(neuron, jnp.full((60, 1), 3.0))
        >>> spikes.reshape(3, 20).sum(axis=1)
        Array([7., 4., 4.], dtype=float32)
    """

    tau: TimeConstant = 2.0
    _: KW_ONLY
    tau_a: TimeConstant = 200.0
    beta: NonNegative = 180.0
    decay_input: bool = True
    v_reset: Real | None = None
    step = functional.adaptive_lif_step
    state = functional.AdaptiveLIFState


class ComplementaryLIFNode(Firing):
    """Complementary LIF neuron (CLIF): a second potential counts spikes and deepens the soft
    reset; the equation is in `jaxsnn.functional.complementary_lif_step`.

    Args:
        tau: membrane time constant in time steps, greater than 1. The input is not divided by it.

    Carry: `jaxsnn.functional.ComplementaryLIFState(v, m)`, 0 before the first step, both in the
    shape of one step's input.
    """

    tau: TimeConstant = 2.0
    _: KW_ONLY
    surrogate_function: SpikeFunction = Rect()
    step = functional.complementary_lif_step
    state = functional.ComplementaryLIFState
