"""Neurons of two linear equations: the input reaches the potential through a second variable."""

from collections.abc import Callable
from typing import NamedTuple

import jax
from jaxtyping import Array, Float

from jaxsnn._phases import fire_and_reset, functions_for, keep


class CUBALIFState(NamedTuple):
    """State of `cubalif_step`.

    Attributes:
        v: membrane potential after the last reset.
        c: synaptic current.
    """

    v: Float[Array, "*shape"]
    c: Float[Array, "*shape"]


def cubalif_step(
    state: CUBALIFState,
    x: Float[Array, "*shape"],
    *,
    c_decay: float | Float[Array, "*#shape"],
    v_decay: float | Float[Array, "*#shape"],
    v_threshold: float | Float[Array, "*#shape"],
    v_reset: float | Float[Array, "*#shape"] | None,
    surrogate_function: Callable[[jax.Array], jax.Array],
    detach_reset: bool,
) -> tuple[CUBALIFState, Float[Array, "*shape"]]:
    """One time step of the current-based LIF neuron.

        c = c_decay c + x
        h = v_decay v + c

    then fire and reset as in `if_step`. Both decay towards 0, whatever `v_reset` is.

    Args:
        state: `(v, c)`, the potential after the last reset and the current, any shape.
        x: input of this step (weighted spikes), the shape of either.
        c_decay: what is left of the current after a step, from 0 to 1; `1 - 1/tau` for a time
            constant `tau` in time steps.
        v_decay: what is left of the potential after a step, from 0 to 1.
        v_threshold: firing threshold.
        v_reset: potential after a spike, less than `v_threshold`; None subtracts the threshold
            instead.
        surrogate_function: spike function of `h - v_threshold`, e.g. `jaxsnn.surrogate.ATan()`.
        detach_reset: no gradient flows through the `s` of the reset (that of the output stays).

    Returns:
        `(state, s)`: the state after the reset in its dtype, spikes in the dtype of `x`.

    Source: Tang et al. 2020, "Deep reinforcement learning with population-coded spiking neural
    network for continuous control".
    """
    v, c = state
    c = c * c_decay + x.astype(c.dtype)
    h = keep(v * v_decay + c)
    v, spikes = fire_and_reset(h, v_threshold, v_reset, surrogate_function, detach_reset)
    return CUBALIFState(v, c), spikes.astype(x.dtype)


class RAFState(NamedTuple):
    """State of `raf_step`.

    Attributes:
        v: membrane potential after the last reset.
        u: current that turns into it and back.
    """

    v: Float[Array, "*shape"]
    u: Float[Array, "*shape"]


def raf_step(
    state: RAFState,
    x: Float[Array, "*shape"],
    *,
    b: float | Float[Array, "*#shape"],
    omega: float | Float[Array, "*#shape"],
    dt: float | Float[Array, "*#shape"],
    v_threshold: float | Float[Array, "*#shape"],
    v_reset: float | Float[Array, "*#shape"] | None,
    surrogate_function: Callable[[jax.Array], jax.Array],
    detach_reset: bool,
) -> tuple[RAFState, Float[Array, "*shape"]]:
    """One time step of the resonate-and-fire neuron, a damped oscillator with a threshold.

        h = exp(b dt) (v cos(omega dt) + u sin(omega dt))
        u = exp(b dt) (u cos(omega dt) - v sin(omega dt)) + x

    both from the `v` and `u` of the step before, so that an input reaches the potential one step
    later; then fire and reset (of `v` alone) as in `if_step`.

    Args:
        state: `(v, u)`, the potential after the last reset and the current, any shape.
        x: input of this step, the shape of either.
        b: growth of the oscillation per unit of time, < 0: it is damped.
        omega: angle per unit of time, > 0; the neuron answers best to inputs every
            `2 pi / omega`.
        dt: units of time in a step, > 0.
        v_threshold: firing threshold.
        v_reset: potential after a spike; None subtracts the threshold instead.
        surrogate_function: spike function of `h - v_threshold`, e.g. `jaxsnn.surrogate.ATan()`.
        detach_reset: no gradient flows through the `s` of the reset (that of the output stays).

    Returns:
        `(state, s)`: the state after the reset in its dtype, spikes in the dtype of `x`.

    Source: Izhikevich 2001, "Resonate-and-fire neurons".
    """
    v, u = state
    angle, growth = omega * dt, functions_for(b * dt).exp(b * dt)
    cos = growth * functions_for(angle).cos(angle)
    sin = growth * functions_for(angle).sin(angle)
    h = keep(v * cos + u * sin)
    u = u * cos - v * sin + x.astype(u.dtype)
    v, spikes = fire_and_reset(h, v_threshold, v_reset, surrogate_function, detach_reset)
    return RAFState(v, u), spikes.astype(x.dtype)
