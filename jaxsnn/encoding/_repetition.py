"""One input, or one stretch of spikes, again and again."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Shaped

from jaxsnn import _checks


def repeat(x: Shaped[Array | np.ndarray, "*shape"], T: int) -> Shaped[Array, "{T} *shape"]:
    """The same input at every time step (direct coding): the first layer makes the spikes.

        out[t] = x

    Args:
        x: the input, any shape, as a rule `[N, ...]`.
        T: number of time steps.

    Returns:
        `[T, *x.shape]` in the dtype of `x`.

    Raises:
        TypeError: `T` is not an integer.
        ValueError: `T` is below 1.

    Examples:
        >>> repeat(jnp.array([0.25, 0.5]), 3)[:, 0]
        Array([0.25, 0.25, 0.25], dtype=float32)
    """
    x = jnp.asarray(x)
    return jnp.broadcast_to(x, (_checks.size("T", T), *x.shape))


def periodic(
    spikes: Shaped[Array | np.ndarray, "period *shape"], T: int
) -> Shaped[Array, "{T} *shape"]:
    """A stretch of spikes over and over, e.g. a latency code for longer than one period.

        out[t] = spikes[t mod period]

    Args:
        spikes: one period, time first, `[period, ...]`.
        T: number of time steps; what it does not divide is cut off.

    Returns:
        `[T, ...]` in the dtype of `spikes`.

    Raises:
        TypeError: `T` is not an integer.
        ValueError: `T` is below 1, or `spikes` has no time steps.

    Examples:
        >>> periodic(jnp.array([1.0, 0.0, 0.0]), 7)
        Array([1., 0., 0., 1., 0., 0., 1.], dtype=float32)
    """
    spikes = jnp.asarray(spikes)
    if spikes.ndim == 0 or not len(spikes):
        raise ValueError(
            f"spikes must be one period [period, ...] of at least one step, got shape "
            f"{list(spikes.shape)}"
        )
    return jnp.take(spikes, np.arange(_checks.size("T", T)) % len(spikes), axis=0)
