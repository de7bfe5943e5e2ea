"""Integrate-and-fire neurons whose potential speeds up on its way to the threshold."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsnn._phases import fire_and_reset, keep


def qif_step(
    v: Float[Array, "*shape"],
    x: Float[Array, "*shape"],
    *,
    tau: float | Float[Array, "*#shape"],
    v_c: float | Float[Array, "*#shape"],
    a0: float | Float[Array, "*#shape"],
    v_rest: float | Float[Array, "*#shape"],
    v_threshold: float | Float[Array, "*#shape"],
    v_reset: float | Float[Array, "*#shape"] | None,
    surrogate_function: Callable[[jax.Array], jax.Array],
    detach_reset: bool,
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """One time step of the quadratic integrate-and-fire neuron.

        h = v + (x + a0 (v - v_rest) (v - v_c)) / tau

    then fire and reset as in `if_step`. Without input the potential falls back to `v_rest` from
    below `v_c` and runs away from above it.

    Args:
        v: membrane potential after the last reset, any shape.
        x: input current of this step, the shape of `v`.
        tau: membrane time constant in time steps, > 1.
        v_c: critical potential, above which the neuron fires by itself.
        a0: curvature, > 0.
        v_rest: potential at rest.
        v_threshold: firing threshold.
        v_reset: potential after a spike, less than `v_threshold`; None subtracts the threshold
            instead.
        surrogate_function: spike function of `h - v_threshold`, e.g. `jaxsnn.surrogate.ATan()`.
        detach_reset: no gradient flows through the `s` of the reset (that of the output stays).

    Returns:
        `(v, s)`: the potential after the reset in the dtype of `v`, spikes in that of `x`.

    Source: Latham et al. 2000, "Intrinsic dynamics in neuronal networks. I. Theory".
    """
    h = keep(quadratic_charge(v, x.astype(v.dtype), tau=tau, v_c=v_c, a0=a0, v_rest=v_rest))
    v, spikes = fire_and_reset(h, v_threshold, v_reset, surrogate_function, detach_reset)
    return v, spikes.astype(x.dtype)


def quadratic_charge(
    v: jax.Array, current: jax.Array, *, tau: Any, v_c: Any, a0: Any, v_rest: Any
) -> jax.Array:
    """The charge of `qif_step`."""
    return v + (current + a0 * (v - v_rest) * (v - v_c)) / tau


def eif_step(
    v: Float[Array, "*shape"],
    x: Float[Array, "*shape"],
    *,
    tau: float | Float[Array, "*#shape"],
    delta_T: float | Float[Array, "*#shape"],
    theta_rh: float | Float[Array, "*#shape"],
    v_rest: float | Float[Array, "*#shape"],
    v_threshold: float | Float[Array, "*#shape"],
    v_reset: float | Float[Array, "*#shape"] | None,
    surrogate_function: Callable[[jax.Array], jax.Array],
    detach_reset: bool,
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """One time step of the exponential integrate-and-fire neuron.

        h = v + (x - (v - v_rest) + delta_T exp((v - theta_rh) / delta_T)) / tau

    then fire and reset as in `if_step`.

    Args:
        v: membrane potential after the last reset, any shape.
        x: input current of this step, the shape of `v`.
        tau: membrane time constant in time steps, > 1.
        delta_T: sharpness of the upswing, > 0; towards 0 the neuron becomes a LIF neuron.
        theta_rh: potential at which the upswing sets in (rheobase threshold).
        v_rest: potential at rest.
        v_threshold: firing threshold.
        v_reset: potential after a spike, less than `v_threshold`; None subtracts the threshold
            instead.
        surrogate_function: spike function of `h - v_threshold`, e.g. `jaxsnn.surrogate.ATan()`.
        detach_reset: no gradient flows through the `s` of the reset (that of the output stays).

    Returns:
        `(v, s)`: the potential after the reset in the dtype of `v`, spikes in that of `x`.

    Source: Fourcaud-Trocmé et al. 2003, "How spike generation mechanisms determine the neuronal
    response to fluctuating inputs".
    """
    upswing = delta_T * jnp.exp((v - theta_rh) / delta_T)
    h = keep(v + (x.astype(v.dtype) - (v - v_rest) + upswing) / tau)
    v, spikes = fire_and_reset(h, v_threshold, v_reset, surrogate_function, detach_reset)
    return v, spikes.astype(x.dtype)
