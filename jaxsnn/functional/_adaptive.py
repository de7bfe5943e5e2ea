"""Neurons that adapt: a second, slower variable follows their spikes and makes the next harder."""

from collections.abc import Callable
from typing import NamedTuple

import jax
from jaxtyping import Array, Float

from jaxsnn._phases import fire_and_reset, keep, leaky_charge, reset
from jaxsnn.functional._nonlinear import quadratic_charge


class IzhikevichState(NamedTuple):
    """State of `izhikevich_step`.

    Attributes:
        v: membrane potential after the last reset.
        w: adaptation current.
    """

    v: Float[Array, "*shape"]
    w: Float[Array, "*shape"]


def izhikevich_step(
    state: IzhikevichState,
    x: Float[Array, "*shape"],
    *,
    tau: float | Float[Array, "*#shape"],
    v_c: float | Float[Array, "*#shape"],
    a0: float | Float[Array, "*#shape"],
    v_rest: float | Float[Array, "*#shape"],
    tau_w: float | Float[Array, "*#shape"],
    a: float | Float[Array, "*#shape"],
    b: float | Float[Array, "*#shape"],
    v_threshold: float | Float[Array, "*#shape"],
    v_reset: float | Float[Array, "*#shape"] | None,
    surrogate_function: Callable[[jax.Array], jax.Array],
    detach_reset: bool,
) -> tuple[IzhikevichState, Float[Array, "*shape"]]:
    """One time step of the Izhikevich neuron, a quadratic one with an adaptation current.

        h = v + (x + a0 (v - v_rest) (v - v_c) - w) / tau
        s = H(h - v_threshold)
        w = w + (a (h - v_rest) - w) / tau_w + b s

    then the reset of `v` as in `if_step`.

    Args:
        state: `(v, w)`, the potential after the last reset and the adaptation current, any shape.
        x: input current of this step, the shape of either.
        tau: membrane time constant in time steps, > 1.
        v_c: critical potential, above which the neuron fires by itself.
        a0: curvature, > 0.
        v_rest: potential at rest.
        tau_w: time constant of the adaptation in time steps, > 1.
        a: how strongly the adaptation follows the potential.
        b: by how much a spike raises the adaptation current.
        v_threshold: firing threshold.
        v_reset: potential after a spike; None subtracts the threshold instead.
        surrogate_function: spike function of `h - v_threshold`, e.g. `jaxsnn.surrogate.ATan()`.
        detach_reset: no gradient flows through the `s` of the reset (those of the output and of
            the adaptation stay).

    Returns:
        `(state, s)`: the state after the reset in its dtype, spikes in the dtype of `x`.

    Source: Izhikevich 2003, "Simple model of spiking neurons".
    """
    v, w = state
    h = keep(quadratic_charge(v, x.astype(v.dtype) - w, tau=tau, v_c=v_c, a0=a0, v_rest=v_rest))
    v, spikes = fire_and_reset(h, v_threshold, v_reset, surrogate_function, detach_reset)
    w = w + (a * (h - v_rest) - w) / tau_w + b * spikes
    return IzhikevichState(v, w), spikes.astype(x.dtype)


class AdaptiveLIFState(NamedTuple):
    """State of `adaptive_lif_step`.

    Attributes:
        v: membrane potential after the last reset.
        a: mean of the neuron's recent spikes, from 0 to 1.
    """

    v: Float[Array, "*shape"]
    a: Float[Array, "*shape"]


def adaptive_lif_step(
    state: AdaptiveLIFState,
    x: Float[Array, "*shape"],
    *,
    tau: float | Float[Array, "*#shape"],
    decay_input: bool,
    tau_a: float | Float[Array, "*#shape"],
    beta: float | Float[Array, "*#shape"],
    v_threshold: float | Float[Array, "*#shape"],
    v_reset: float | Float[Array, "*#shape"] | None,
    surrogate_function: Callable[[jax.Array], jax.Array],
    detach_reset: bool,
) -> tuple[AdaptiveLIFState, Float[Array, "*shape"]]:
    """One time step of the LIF neuron with an adaptive threshold (ALIF).

        h = the h of lif_step
        A = v_threshold + beta a
        s = H(h - A)
        v = s v_reset + (1 - s) h     hard reset
        v = h - s A                   soft reset, v_reset=None
        a = rho a + (1 - rho) s,      rho = 1 - 1/tau_a

    The threshold is that of the papers below, whose `rho = exp(-1/tau_a)` is nearly the same.
    Charge and reset are those of the other neurons here; in the papers the reset comes one step
    later, after the leak.

    Args:
        state: `(v, a)`, the potential after the last reset and the mean of recent spikes, any
            shape.
        x: input current of this step, the shape of either.
        tau: membrane time constant in time steps, > 1.
        decay_input: whether the input is divided by `tau` too.
        tau_a: time constant of the adaptation in time steps, > 1.
        beta: how far the threshold rises if the neuron fires at every step; one spike raises it
            by `beta / tau_a`.
        v_threshold: firing threshold at rest.
        v_reset: potential after a spike and at rest; None subtracts the threshold instead.
        surrogate_function: spike function of `h - A`, e.g. `jaxsnn.surrogate.ATan()`.
        detach_reset: no gradient flows through the `s` of the reset (those of the output and of
            the adaptation stay).

    Returns:
        `(state, s)`: the state after the reset in its dtype, spikes in the dtype of `x`.

    Source: Bellec et al. 2018, "Long short-term memory and learning-to-learn in networks of
    spiking neurons"; Yin, Corradi & Bohté 2020, "Effective and efficient computation with
    multiple-timescale spiking recurrent neural networks".
    """
    v, a = state
    threshold = v_threshold + beta * a
    # Of h, what is above the threshold and `a` never more than two are needed on the way back.
    h = keep(leaky_charge(v, x, tau=tau, decay_input=decay_input, v_reset=v_reset))
    spikes = surrogate_function(keep(h - threshold))
    v = reset(h, spikes, v_threshold=threshold, v_reset=v_reset, detach_reset=detach_reset)
    return AdaptiveLIFState(v, a + (spikes - a) / tau_a), spikes.astype(x.dtype)


class ComplementaryLIFState(NamedTuple):
    """State of `complementary_lif_step`.

    Attributes:
        v: membrane potential after the last reset.
        m: complementary potential, which counts spikes.
    """

    v: Float[Array, "*shape"]
    m: Float[Array, "*shape"]


def complementary_lif_step(
    state: ComplementaryLIFState,
    x: Float[Array, "*shape"],
    *,
    tau: float | Float[Array, "*#shape"],
    v_threshold: float | Float[Array, "*#shape"],
    surrogate_function: Callable[[jax.Array], jax.Array],
) -> tuple[ComplementaryLIFState, Float[Array, "*shape"]]:
    """One time step of the complementary LIF neuron (CLIF).

        h = v - v / tau + x
        s = H(h - v_threshold)
        m = sigmoid(h / tau) m + s
        v = h - s (v_threshold + sigmoid(m))

    The more it has fired, the lower a spike sets the potential; `m` carries gradients further
    back than `v` does.

    Args:
        state: `(v, m)`, the potential after the last reset and the complementary potential, any
            shape.
        x: input current of this step, the shape of either.
        tau: membrane time constant in time steps, > 1.
        v_threshold: firing threshold.
        surrogate_function: spike function of `h - v_threshold`, e.g. `jaxsnn.surrogate.Rect()`.

    Returns:
        `(state, s)`: the state after the reset in its dtype, spikes in the dtype of `x`.

    Source: Huang et al. 2024, "CLIF: complementary leaky integrate-and-fire neuron for spiking
    neural networks".
    """
    v, m = state
    h = keep(leaky_charge(v, x, tau=tau, decay_input=False, v_reset=None))
    spikes = surrogate_function(h - v_threshold)
    m = m * jax.nn.sigmoid(h / tau) + spikes
    v = reset(
        h,
        spikes,
        v_threshold=v_threshold + jax.nn.sigmoid(m),
        v_reset=None,
        detach_reset=False,
    )
    return ComplementaryLIFState(v, m), spikes.astype(x.dtype)
