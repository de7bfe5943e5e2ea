"""Integrate-and-fire neurons: charge, fire, reset."""

from collections.abc import Callable

import jax
from jaxtyping import Array, Float

from jaxsnn._phases import fire_and_reset, in_dtype_of, keep, leaky_charge, reset


def if_step(
    v: Float[Array, "*shape"],
    x: Float[Array, "*shape"],
    *,
    v_threshold: float | Float[Array, "*#shape"],
    v_reset: float | Float[Array, "*#shape"] | None,
    surrogate_function: Callable[[jax.Array], jax.Array],
    detach_reset: bool,
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """One time step of the integrate-and-fire neuron.

        h = v + x
        s = H(h - v_threshold),  H(0) = 1
        v = s v_reset + (1 - s) h     hard reset
        v = h - s v_threshold         soft reset, v_reset=None

    Args:
        v: membrane potential after the last reset, any shape.
        x: input current of this step, the shape of `v`.
        v_threshold: firing threshold; a number, or an array that broadcasts to `v`.
        v_reset: potential after a spike; None subtracts the threshold instead.
        surrogate_function: spike function of `h - v_threshold`, e.g. `jaxsnn.surrogate.ATan()`.
        detach_reset: no gradient flows through the `s` of the reset (that of the output stays).

    Returns:
        `(v, s)`: the potential after the reset in the dtype of `v`, spikes in that of `x`.
    """
    h = keep(v + x.astype(v.dtype))  # spike, reset and their derivatives follow from it
    v, spikes = fire_and_reset(h, v_threshold, v_reset, surrogate_function, detach_reset)
    return v, spikes.astype(x.dtype)


def lif_step(
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
    """One time step of the leaky integrate-and-fire neuron.

        h = v + (x - (v - v_rest)) / tau      decay_input=True
        h = v - (v - v_rest) / tau + x        decay_input=False

    with `v_rest = v_reset` (0 for the soft reset), then fire and reset as in `if_step`.

    Args:
        v: membrane potential after the last reset, any shape.
        x: input current of this step, the shape of `v`.
        tau: membrane time constant in time steps, > 1; a scalar, or an array that broadcasts
            to `v` (learnable time constants).
        decay_input: whether the input is divided by `tau` too.
        v_threshold: firing threshold.
        v_reset: potential after a spike and at rest; None subtracts the threshold instead.
        surrogate_function: spike function of `h - v_threshold`, e.g. `jaxsnn.surrogate.ATan()`.
        detach_reset: no gradient flows through the `s` of the reset (that of the output stays).

    Returns:
        `(v, s)`: the potential after the reset in the dtype of `v`, spikes in that of `x`.

    Source: after Lapicque 1907, "Recherches quantitatives sur l'excitation électrique des nerfs
    traitée comme une polarisation".
    """
    h = keep(leaky_charge(v, x, tau=tau, decay_input=decay_input, v_reset=v_reset))
    v, spikes = fire_and_reset(h, v_threshold, v_reset, surrogate_function, detach_reset)
    return v, spikes.astype(x.dtype)


def klif_step(
    v: Float[Array, "*shape"],
    x: Float[Array, "*shape"],
    *,
    k: float | Float[Array, "*#shape"],
    scale_reset: bool,
    tau: float | Float[Array, "*#shape"],
    decay_input: bool,
    v_threshold: float | Float[Array, "*#shape"],
    v_reset: float | Float[Array, "*#shape"] | None,
    surrogate_function: Callable[[jax.Array], jax.Array],
    detach_reset: bool,
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """One time step of the KLIF neuron, a LIF neuron with a gain `k` before the threshold.

        u = the h of lif_step
        h = max(k u, 0)
        s = H(h - v_threshold)

    then the reset as in `if_step`, of `h` and `v_threshold` or, with `scale_reset`, of `h / k`
    and `v_threshold / k`, which brings the potential back to the scale of its input.

    Args:
        v: membrane potential after the last reset, any shape.
        x: input current of this step, the shape of `v`.
        k: gain; a scalar, or an array that broadcasts to `v`. Not 0 with `scale_reset`.
        scale_reset: whether the gain is taken back in the reset.
        tau: membrane time constant in time steps, > 1.
        decay_input: whether the input is divided by `tau` too.
        v_threshold: firing threshold.
        v_reset: potential after a spike and at rest; None subtracts the threshold instead.
        surrogate_function: spike function of `h - v_threshold`, e.g. `jaxsnn.surrogate.ATan()`.
        detach_reset: no gradient flows through the `s` of the reset (that of the output stays).

    Returns:
        `(v, s)`: the potential after the reset in the dtype of `v`, spikes in that of `x`.

    Source: Jiang & Zhang 2023, "KLIF: an optimized spiking neuron unit for tuning surrogate
    gradient slope and membrane potential".
    """
    k = in_dtype_of(v, k)
    u = keep(leaky_charge(v, x, tau=tau, decay_input=decay_input, v_reset=v_reset))
    h = jax.nn.relu(k * u)
    spikes = surrogate_function(h - v_threshold)
    gain = k if scale_reset else 1.0
    v = reset(
        h / gain,
        spikes,
        v_threshold=v_threshold / gain,
        v_reset=v_reset,
        detach_reset=detach_reset,
    )
    return v, spikes.astype(x.dtype)
