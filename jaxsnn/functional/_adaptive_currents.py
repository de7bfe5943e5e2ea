"""LIF neurons with an adaptation current that follows both their potential and their spikes."""

from typing import NamedTuple

import jax
from jaxtyping import Array, Float

from jaxsnn._phases import SurrogateFunction, fire_and_reset, keep


class AdLIFState(NamedTuple):
    """State of `adlif_step` and `se_adlif_step`.

    Attributes:
        v: membrane potential after the last reset.
        w: adaptation current, which the next step subtracts from its input.
    """

    v: Float[Array, "*shape"]
    w: Float[Array, "*shape"]


def adlif_step(
    state: AdLIFState,
    x: Float[Array, "*shape"],
    *,
    v_decay: float | Float[Array, "*#shape"],
    w_decay: float | Float[Array, "*#shape"],
    a: float | Float[Array, "*#shape"],
    b: float | Float[Array, "*#shape"],
    v_threshold: float | Float[Array, "*#shape"],
    v_reset: float | Float[Array, "*#shape"] | None,
    surrogate_function: SurrogateFunction,
    detach_reset: bool,
) -> tuple[AdLIFState, Float[Array, "*shape"]]:
    """One time step of the LIF neuron with an adaptation current (adLIF), as SpArch computes it.

        h = v_decay v + (1 - v_decay) (x - w)
        s = H(h - v_threshold)
        w = w_decay w + a h + b s

    with `v_decay = exp(-1 / tau_u)` and `w_decay = exp(-1 / tau_w)`, then the reset of `v` as in
    `if_step`. The current follows the potential `h` from before the reset.

    With the soft reset and a threshold of 1 this is the neuron of SpArch's adLIF and RadLIF
    layers. Their code updates `w` and subtracts the reset at the beginning of the next step: the
    same numbers, where their state `(u, w, s)` is `(u - s, w_decay w + a u + b s)` here. It begins
    with random states between 0 and 1, subtracts 1 whatever the threshold, and fires above the
    threshold only, not at it. Euler's forward form would subtract the `w` of one step earlier.

    Args:
        state: `(v, w)`, the potential after the last reset and the adaptation current, any shape.
        x: input current of this step, the shape of either.
        v_decay: what is left of the potential after a step, from 0 to 1; a number or an array
            that broadcasts to `v`, as the next three.
        w_decay: what is left of the current after a step, from 0 to 1.
        a: coupling of the current to the potential; SpArch's range is -1 to 1.
        b: by how much a spike raises the current; SpArch's range is 0 to 2.
        v_threshold: firing threshold.
        v_reset: potential after a spike; None subtracts the threshold instead.
        surrogate_function: spike function of `h - v_threshold`, e.g. `jaxsnn.surrogate.Rect()`.
        detach_reset: no gradient flows through the `s` of the reset (those of the output and of
            the adaptation stay).

    Returns:
        `(state, s)`: the state after the reset in its dtype, spikes in the dtype of `x`.

    Source: Bittar & Garner 2022, "A surrogate gradient spiking baseline for speech command
    recognition", and its code, SpArch.
    """
    v, w = state
    h = keep(_charge(v, w, x, v_decay))
    v, spikes = fire_and_reset(h, v_threshold, v_reset, surrogate_function, detach_reset)
    w = w_decay * w + a * h + b * spikes
    return AdLIFState(v, w), spikes.astype(x.dtype)


def se_adlif_step(
    state: AdLIFState,
    x: Float[Array, "*shape"],
    *,
    v_decay: float | Float[Array, "*#shape"],
    w_decay: float | Float[Array, "*#shape"],
    a: float | Float[Array, "*#shape"],
    b: float | Float[Array, "*#shape"],
    q: float | Float[Array, "*#shape"],
    v_threshold: float | Float[Array, "*#shape"],
    v_reset: float | Float[Array, "*#shape"] | None,
    surrogate_function: SurrogateFunction,
    detach_reset: bool,
) -> tuple[AdLIFState, Float[Array, "*shape"]]:
    """One time step of the LIF neuron with an adaptation current, in the symplectic form of Euler
    (SE-adLIF).

        h = v_decay v + (1 - v_decay) (x - w)
        s = H(h - v_threshold)
        v = s v_reset + (1 - s) h     hard reset
        v = h - s v_threshold         soft reset, v_reset=None
        w = w_decay w + (1 - w_decay) q (a v + b s)

    with `v_decay = exp(-1 / tau_u)` and `w_decay = exp(-1 / tau_w)`. The current follows the new
    potential, from after the reset. Below the threshold an oscillation of the two fades by the
    factor `sqrt(v_decay w_decay)` per step, however strong the coupling is; in Euler's forward
    form, whose `w` follows the potential of one step earlier, a strong coupling makes it grow.

    The factor `q` is in the authors' code, not in the paper's equations: it lets `a` lie between 0
    and 1 and `b` between 0 and 2. The code has the hard reset to 0 and detaches it, and a neuron
    fires above its threshold only, not at it.

    Args:
        state: `(v, w)`, the potential after the last reset and the adaptation current, any shape.
        x: input current of this step, the shape of either.
        v_decay: what is left of the potential after a step, from 0 to 1; a number or an array
            that broadcasts to `v`, as the next four.
        w_decay: what is left of the current after a step, from 0 to 1.
        a: coupling of the current to the potential, not negative.
        b: by how much a spike raises the current, not negative.
        q: common factor of `a` and `b`, > 0.
        v_threshold: firing threshold.
        v_reset: potential after a spike; None subtracts the threshold instead.
        surrogate_function: spike function of `h - v_threshold`, e.g.
            `jaxsnn.surrogate.PiecewiseExp(alpha=5.0, gamma=0.4)`.
        detach_reset: no gradient flows through the `s` of the reset (those of the output and of
            the adaptation stay).

    Returns:
        `(state, s)`: the state after the reset in its dtype, spikes in the dtype of `x`.

    Source: Baronig et al. 2025, "Advancing spatio-temporal processing through adaptation in
    spiking neural networks".
    """
    v, w = state
    h = keep(_charge(v, w, x, v_decay))
    v, spikes = fire_and_reset(h, v_threshold, v_reset, surrogate_function, detach_reset)
    w = w_decay * w + (1 - w_decay) * q * (a * v + b * spikes)
    return AdLIFState(v, w), spikes.astype(x.dtype)


def _charge(v: jax.Array, w: jax.Array, x: jax.Array, v_decay: float | jax.Array) -> jax.Array:
    # v_decay v + (1 - v_decay) (x - w); the difference is kept for the gradient of a learned decay
    return v + (1 - v_decay) * keep(x.astype(v.dtype) - w - v)
