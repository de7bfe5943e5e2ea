"""Neurons that say more than yes or no: spikes with a sign, several spikes in a step."""

from collections.abc import Callable

import jax
from jaxtyping import Array, Float

from jaxsnn._phases import keep, leaky_charge, reset


def ternary_if_step(
    v: Float[Array, "*shape"],
    x: Float[Array, "*shape"],
    *,
    v_threshold: float | Float[Array, "*#shape"],
    v_reset: float | Float[Array, "*#shape"] | None,
    surrogate_function: Callable[[jax.Array], jax.Array],
    detach_reset: bool,
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """One time step of the ternary integrate-and-fire neuron.

        h = v + x
        p = H(h - v_threshold),  n = H(-h - v_threshold),  H(0) = 1
        s = p - n
        v = (p + n) v_reset + (1 - p - n) h     hard reset
        v = h - s v_threshold                   soft reset, v_reset=None

    Args:
        v: membrane potential after the last reset, any shape.
        x: input current of this step, the shape of `v`.
        v_threshold: firing threshold on either side, > 0.
        v_reset: potential after a spike of either sign, between `-v_threshold` and
            `v_threshold`; None subtracts or adds the threshold instead.
        surrogate_function: spike function of `h - v_threshold` and `-h - v_threshold`, e.g.
            `jaxsnn.surrogate.ATan()`.
        detach_reset: no gradient flows through the spikes of the reset (those of the output
            stay).

    Returns:
        `(v, s)`: the potential after the reset in the dtype of `v`, spikes -1, 0 or 1 in that of
        `x`.

    Source: Guo et al. 2024, "Ternary spike: learning ternary spikes for spiking neural networks".
    """
    h = keep(v + x.astype(v.dtype))
    v, spikes = _fire_either_way(h, v_threshold, v_reset, surrogate_function, detach_reset)
    return v, spikes.astype(x.dtype)


def ternary_lif_step(
    v: Float[Array, "*shape"],
    x: Float[Array, "*shape"],
    *,
    tau: float | Float[Array, "*#shape"],
    decay_input: bool,
    v_threshold: float | Float[Array, "*#shape"],
    v_reset: float | Float[Array, "*#shape"] | None,
    surrogate_function: Callable[[jax.Array], jax.Array],
    detach_reset: bool,
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """One time step of the ternary LIF neuron.

    Charge as in `lif_step`, then fire and reset as in `ternary_if_step`.

    Args:
        v: membrane potential after the last reset, any shape.
        x: input current of this step, the shape of `v`.
        tau: membrane time constant in time steps, > 1; a scalar, or an array that broadcasts
            to `v`.
        decay_input: whether the input is divided by `tau` too.
        v_threshold: firing threshold on either side, > 0.
        v_reset: potential after a spike of either sign and at rest, between `-v_threshold` and
            `v_threshold`; None subtracts or adds the threshold instead.
        surrogate_function: spike function of `h - v_threshold` and `-h - v_threshold`, e.g.
            `jaxsnn.surrogate.ATan()`.
        detach_reset: no gradient flows through the spikes of the reset (those of the output
            stay).

    Returns:
        `(v, s)`: the potential after the reset in the dtype of `v`, spikes -1, 0 or 1 in that of
        `x`.

    Source: Guo et al. 2024, as for `ternary_if_step`.
    """
    h = keep(leaky_charge(v, x, tau=tau, decay_input=decay_input, v_reset=v_reset))
    v, spikes = _fire_either_way(h, v_threshold, v_reset, surrogate_function, detach_reset)
    return v, spikes.astype(x.dtype)


def _fire_either_way(
    h: jax.Array,
    v_threshold: float | Float[Array, "*#shape"],
    v_reset: float | Float[Array, "*#shape"] | None,
    surrogate_function: Callable[[jax.Array], jax.Array],
    detach_reset: bool,
) -> tuple[jax.Array, jax.Array]:
    positive, negative = surrogate_function(h - v_threshold), surrogate_function(-h - v_threshold)
    spikes = positive - negative
    events = spikes if v_reset is None else positive + negative
    v = reset(h, events, v_threshold=v_threshold, v_reset=v_reset, detach_reset=detach_reset)
    return v, spikes


def ilif_step(
    v: Float[Array, "*shape"],
    x: Float[Array, "*shape"],
    *,
    tau: float | Float[Array, "*#shape"],
    v_threshold: float | Float[Array, "*#shape"],
    surrogate_function: Callable[[jax.Array], jax.Array],
    detach_reset: bool,
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """One time step of the integer LIF neuron, which fires as often as its threshold fits in.

        h = v - v / tau + x
        s = round(clip(h / v_threshold, 0, max_spike_count))
        v = h - s v_threshold

    Args:
        v: membrane potential after the last reset, any shape.
        x: input current of this step, the shape of `v`.
        tau: membrane time constant in time steps, > 1; a scalar, or an array that broadcasts
            to `v`.
        v_threshold: potential that one spike takes away, > 0.
        surrogate_function: count of spikes as a function of `h / v_threshold`, e.g.
            `jaxsnn.surrogate.MultiLevelSpikeCount(4)`.
        detach_reset: no gradient flows through the `s` of the reset (that of the output stays).

    Returns:
        `(v, s)`: the potential after the reset in the dtype of `v`, counts of spikes in that of
        `x`.

    Source: Luo et al. 2024, "Integer-valued training and spike-driven inference spiking neural
    network for high-performance and energy-efficient object detection".
    """
    h = keep(leaky_charge(v, x, tau=tau, decay_input=False, v_reset=None))
    spikes = surrogate_function(h / v_threshold)
    v = reset(h, spikes, v_threshold=v_threshold, v_reset=None, detach_reset=detach_reset)
    return v, spikes.astype(x.dtype)
