"""LIF neurons that output a number instead of spikes, and neurons that do not spike at all."""

from collections.abc import Callable

import jax
from jaxtyping import Array, Float

from jaxsnn._phases import fire_and_reset, keep, leaky_charge


def liaf_step(
    v: Float[Array, "*shape"],
    x: Float[Array, "*shape"],
    *,
    act: Callable[[jax.Array], jax.Array],
    threshold_related: bool,
    tau: float | Float[Array, "*#shape"],
    decay_input: bool,
    v_threshold: float | Float[Array, "*#shape"],
    v_reset: float | Float[Array, "*#shape"] | None,
    surrogate_function: Callable[[jax.Array], jax.Array],
    detach_reset: bool,
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """One time step of the leaky integrate and analog fire neuron.

        h, s, v: as in `lif_step`
        y = act(h - v_threshold)      threshold_related=True
        y = act(h)                    threshold_related=False

    The spikes `s` cause the resets, but are not the output.

    Args:
        v: membrane potential after the last reset, any shape.
        x: input current of this step, the shape of `v`.
        act: activation of the output, e.g. `jax.nn.relu`.
        threshold_related: whether the threshold is subtracted before the activation.
        tau: membrane time constant in time steps, > 1.
        decay_input: whether the input is divided by `tau` too.
        v_threshold: firing threshold.
        v_reset: potential after a spike and at rest; None subtracts the threshold instead.
        surrogate_function: spike function of `h - v_threshold`, e.g. `jaxsnn.surrogate.ATan()`.
        detach_reset: no gradient flows through the `s` of the reset.

    Returns:
        `(v, y)`: the potential after the reset in the dtype of `v`, outputs in that of `x`.

    Source: Wu et al. 2021, "LIAF-Net: leaky integrate and analog fire network for lightweight
    and efficient spatiotemporal information processing".
    """
    h = keep(leaky_charge(v, x, tau=tau, decay_input=decay_input, v_reset=v_reset))
    y = act(h - v_threshold if threshold_related else h)
    v, _ = fire_and_reset(h, v_threshold, v_reset, surrogate_function, detach_reset)
    return v, y.astype(x.dtype)


def nonspiking_if_step(
    v: Float[Array, "*shape"], x: Float[Array, "*shape"]
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """One time step of the integrator that never fires.

        v = v + x

    Args:
        v: membrane potential, any shape.
        x: input current of this step, the shape of `v`.

    Returns:
        `(v, v)`: the potential as the new state in the dtype of `v`, and as output in that of `x`.
    """
    v = v + x.astype(v.dtype)
    return v, v.astype(x.dtype)


def nonspiking_lif_step(
    v: Float[Array, "*shape"],
    x: Float[Array, "*shape"],
    *,
    tau: float | Float[Array, "*#shape"],
    decay_input: bool,
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """One time step of the leaky integrator that never fires.

        v = v + (x - v) / tau     decay_input=True
        v = v - v / tau + x       decay_input=False

    Args:
        v: membrane potential, any shape.
        x: input current of this step, the shape of `v`.
        tau: membrane time constant in time steps, > 1.
        decay_input: whether the input is divided by `tau` too.

    Returns:
        `(v, v)`: the potential as the new state in the dtype of `v`, and as output in that of `x`.
    """
    v = leaky_charge(v, x, tau=tau, decay_input=decay_input, v_reset=None)
    return v, v.astype(x.dtype)
