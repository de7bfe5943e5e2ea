"""Linear synapses: exponential, alpha and double-exponential responses to a spike.

All three are made of one transition, a leaky sum that starts from 0,

    i = decay i + x,    decay = exp(-1 / tau)

which is the exact solution of `di/dt = -i / tau` between spikes that arrive at the time steps
(Rotter & Diesmann 1999, "Exact digital simulation of time-invariant linear systems with
applications to neuronal modeling"). The double exponential has two of them in a row; the alpha
function is the double exponential with two equal time constants.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsnn._phases import functions_for


class RisingCurrent(NamedTuple):
    """State of a double-exponential or alpha synapse.

    Attributes:
        i: synaptic current, the output.
        rise: what has arrived and not yet risen, decaying with the time constant of the rise.
    """

    i: Float[Array, "*shape"]
    rise: Float[Array, "*shape"]


def exponential_synapse_step(
    i: Float[Array, "*shape"], x: Float[Array, "*shape"], *, decay: float | Float[Array, "*#shape"]
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """One time step of the exponential synapse.

        i = decay i + x,    decay = exp(-1 / tau)

    A spike adds 1 at once: the response to one spike is `exp(-t / tau)` after `t` steps, its peak
    1 at `t = 0` and its sum `1 / (1 - decay)`. Linear in `x`, unlike `synapse_filter_step`.

    Args:
        i: synaptic current after the last step, any shape.
        x: input of this step (usually spikes), the shape of `i`.
        decay: factor of one step, from `exponential_decay`; a scalar or an array like `i`.

    Returns:
        `(i, i)`: the current as the new state in the dtype of `i`, and as output in that of `x`.
    """
    i = _leak(i, decay) + x.astype(i.dtype)
    return i, i.astype(x.dtype)


def double_exponential_synapse_step(
    state: RisingCurrent,
    x: Float[Array, "*shape"],
    *,
    decay: float | Float[Array, "*#shape"],
    rise: float | Float[Array, "*#shape"],
    gain: float | Float[Array, "*#shape"],
) -> tuple[RisingCurrent, Float[Array, "*shape"]]:
    """One time step of the double-exponential synapse, which is also the alpha synapse.

        i = decay i + gain r,    decay = exp(-1 / tau_decay)
        r = rise r + x,          rise = exp(-1 / tau_rise)

    where `i` takes the `r` of before this step. After `t` steps the response to one spike is

        i(t) = c (exp(-t / tau_decay) - exp(-t / tau_rise))     tau_rise < tau_decay
        i(t) = (t / tau) exp(1 - t / tau)                       alpha: tau_rise = tau_decay = tau

    0 in the step of the spike itself. `gain` holds the `c` for which the peak of this curve is 1,
    at `t = tau` of the alpha function; the largest sample is a little less where the peak falls
    between two steps (Roth & van Rossum 2009, "Modeling synapses").

    Args:
        state: current and rise after the last step, any shape.
        x: input of this step (usually spikes), the shape of the state's arrays.
        decay: factor of `i` in one step; a scalar or an array like `state.i`.
        rise: factor of `r` in one step; a scalar or an array like `state.i`.
        gain: share of `r` that reaches `i`; all three from `double_exponential_factors`.

    Returns:
        `(state, i)`: the new state in its own dtype, and the current in the dtype of `x`.
    """
    gain = gain.astype(state.i.dtype) if isinstance(gain, jax.Array) else gain
    i = _leak(state.i, decay) + gain * state.rise
    state = RisingCurrent(i, _leak(state.rise, rise) + x.astype(state.rise.dtype))
    return state, i.astype(x.dtype)


def _leak(i: jax.Array, decay: float | jax.Array) -> jax.Array:
    return (decay.astype(i.dtype) if isinstance(decay, jax.Array) else decay) * i


def exponential_decay(tau: Any) -> Any:
    """The factor by which a current decays in one step, `exp(-1 / tau)`.

    Args:
        tau: time constant in time steps, greater than 0: a float (calculated in double
            precision) or a JAX array.

    Returns:
        A float or an array, as `tau`.
    """
    return functions_for(tau).exp(-1 / tau)


def double_exponential_factors(tau_decay: Any, tau_rise: Any) -> tuple[Any, Any, Any]:
    """What `double_exponential_synapse_step` needs, with the peak of the response at 1.

        decay = exp(-1 / tau_decay)
        rise = exp(-1 / tau_rise)
        gain = c (decay - rise),    c such that the peak is 1

    Written so that `tau_rise = tau_decay`, where `c` is infinite and `decay - rise` is 0, gives
    the alpha function's `gain = exp(1 - 1 / tau) / tau`, and near it nothing is lost to rounding.

    Args:
        tau_decay: time constant of the decay in time steps, greater than 0: a float (calculated
            in double precision) or a JAX array.
        tau_rise: time constant of the rise in time steps, also a float or an array, greater
            than 0 and at most `tau_decay`, though the response
            is the same with the two exchanged.

    Returns:
        `(decay, rise, gain)`, floats or arrays as the time constants.
    """
    decay, rise = exponential_decay(tau_decay), exponential_decay(tau_rise)
    apart = 1 / tau_rise - 1 / tau_decay
    # The slope at 0 for which the curve of the continuous time t has its peak at 1.
    xp = functions_for(tau_rise)
    slope = xp.exp(1 / _growth(xp.log(tau_decay / tau_rise))) / tau_rise
    return decay, rise, slope * decay * _growth(-apart)


def _growth(x: Any) -> Any:
    """`(exp(x) - 1) / x`, and 1 at 0."""
    if not isinstance(x, jax.Array):
        return math.expm1(x) / x if x else 1.0
    near = jnp.abs(x) < 0.01  # here autodiff of the quotient would lose digits
    away = jnp.where(near, 1, x)
    series = 1 + x / 2 * (1 + x / 3 * (1 + x / 4 * (1 + x / 5)))
    return jnp.where(near, series, jnp.expm1(away) / away)
