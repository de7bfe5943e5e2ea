"""Neurons that oscillate: a potential and a second variable that drive each other."""

from typing import Any, NamedTuple

from jaxtyping import Array, Float

from jaxsnn._phases import SurrogateFunction, functions_for, keep, reset


class BRFState(NamedTuple):
    """State of `brf_step`.

    Attributes:
        v: membrane potential, the real part of the oscillation.
        u: the imaginary part.
        q: refractory variable, which a spike raises by 1.
    """

    v: Float[Array, "*shape"]
    u: Float[Array, "*shape"]
    q: Float[Array, "*shape"]


def brf_step(
    state: BRFState,
    x: Float[Array, "*shape"],
    *,
    b: float | Float[Array, "*#shape"],
    omega: float | Float[Array, "*#shape"],
    dt: float | Float[Array, "*#shape"],
    q_decay: float | Float[Array, "*#shape"],
    v_threshold: float | Float[Array, "*#shape"],
    surrogate_function: SurrogateFunction,
) -> tuple[BRFState, Float[Array, "*shape"]]:
    """One time step of the balanced resonate-and-fire neuron (BRF).

        c = b - q
        h = v + dt (c v - omega u + x)
        u = u + dt (c u + omega v)
        s = H(h - v_threshold - q)
        q = q_decay q + s

    where the new `u` takes the `v` of before, and the new `v` is `h`: there is no reset. A spike
    raises the threshold by 1 and damps the oscillation instead, and both fade with `q`. Here
    `b = p(omega) - b_offset` with `p(omega)` from `divergence_bound`, so that the oscillation
    cannot grow. The state is `v + i u`, a complex number in the paper. In the authors' code `u` is
    the real part and `v` the imaginary part, the decay `q_decay` is fixed at 0.9, and a neuron
    fires above its threshold only, not at it.

    Args:
        state: `(v, u, q)`, both parts of the oscillation and the refractory variable, any shape.
        x: input current of this step, the shape of each of them.
        b: growth of the oscillation per unit of time at rest, at most `p(omega)`; a number or an
            array that broadcasts to `v`, as the next three.
        omega: angle per unit of time, > 0, less than `1 / dt`.
        dt: units of time in a step, > 0.
        q_decay: what is left of the refractory variable after a step, from 0 to 1.
        v_threshold: firing threshold at rest.
        surrogate_function: spike function of `h - v_threshold - q`, e.g.
            `jaxsnn.surrogate.DoubleGaussian()`.

    Returns:
        `(state, s)`: the new state in its dtype, spikes in the dtype of `x`.

    Source: Higuchi et al. 2024, "Balanced resonate-and-fire neurons".
    """
    v, u, q = state
    c = b - q
    h = v + dt * (c * v - omega * u + x.astype(v.dtype))
    u = u + dt * (c * u + omega * v)
    spikes = surrogate_function(keep(h - v_threshold - q))
    return BRFState(h, u, q_decay * q + spikes), spikes.astype(x.dtype)


def divergence_bound(omega: Any, dt: Any) -> Any:
    """The growth `b` at which the oscillation of `brf_step` neither grows nor fades.

        p(omega) = (-1 + sqrt(1 - (dt omega)^2)) / dt

    In steps of `dt` an oscillation with the angle `omega` grows unless `b` is less than this
    bound, which is negative (written so that small angles lose no digits). With `omega = 1 / dt`
    or more there is no such bound.

    Args:
        omega: angle per unit of time, less than `1 / dt`: a float (calculated in double
            precision) or a JAX array.
        dt: units of time in a step, > 0, a float or a JAX array.

    Returns:
        A float or an array; an array is NaN where `omega` is greater than `1 / dt`.

    Raises:
        ValueError: `omega` is a float and greater than `1 / dt`.

    Examples:
        >>> round(divergence_bound(10.0, 0.01), 4)
        -0.5013

    Source: Higuchi et al. 2024, "Balanced resonate-and-fire neurons".
    """
    angle = dt * omega
    return -angle * omega / (1 + functions_for(angle).sqrt(1 - angle * angle))


class TCLIFState(NamedTuple):
    """State of `tclif_step`.

    Attributes:
        v: potential of the soma after the last reset.
        d: potential of the dendrite after the last reset.
    """

    v: Float[Array, "*shape"]
    d: Float[Array, "*shape"]


def tclif_step(
    state: TCLIFState,
    x: Float[Array, "*shape"],
    *,
    beta1: float | Float[Array, "*#shape"],
    beta2: float | Float[Array, "*#shape"],
    gamma: float | Float[Array, "*#shape"],
    v_threshold: float | Float[Array, "*#shape"],
    surrogate_function: SurrogateFunction,
    detach_reset: bool,
) -> tuple[TCLIFState, Float[Array, "*shape"]]:
    """One time step of the two-compartment LIF neuron (TC-LIF).

        d = d - beta1 v + x
        h = v + beta2 d
        s = H(h - v_threshold)
        d = d - gamma s
        v = h - s v_threshold

    The dendrite `d` gathers the input without a leak and drives the soma `v`, which inhibits it.
    The order is that of the authors' code. In the paper both resets come at the beginning of the
    next step, after the dendrite has taken the soma's potential, so that it takes the `v` from
    before the reset; and its `beta1` is negative, minus the one here.

    Args:
        state: `(v, d)`, the potentials of soma and dendrite after the last reset, any shape.
        x: input current of this step, the shape of either.
        beta1: how strongly the soma inhibits the dendrite, from 0 to 1; a number or an array that
            broadcasts to `v`, as the next two.
        beta2: how strongly the dendrite drives the soma, from 0 to 1.
        gamma: what a spike takes from the dendrite.
        v_threshold: firing threshold of the soma, and what a spike takes from it.
        surrogate_function: spike function of `h - v_threshold`, e.g.
            `jaxsnn.surrogate.PiecewiseQuadratic()`.
        detach_reset: no gradient flows through the `s` of both resets (that of the output stays).

    Returns:
        `(state, s)`: the state after the resets in its dtype, spikes in the dtype of `x`.

    Source: Zhang et al. 2024, "TC-LIF: a two-compartment spiking neuron model for long-term
    sequential modelling".
    """
    v, d = state
    d = keep(d - beta1 * v + x.astype(d.dtype))  # for the gradient of beta2, if it has one
    h = keep(v + beta2 * d)
    spikes = surrogate_function(h - v_threshold)
    v = reset(h, spikes, v_threshold=v_threshold, v_reset=None, detach_reset=detach_reset)
    d = reset(d, spikes, v_threshold=gamma, v_reset=None, detach_reset=detach_reset)
    return TCLIFState(v, d), spikes.astype(x.dtype)
