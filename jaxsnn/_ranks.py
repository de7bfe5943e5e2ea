"""An array with the rank of another one."""

import jax


def with_axes_after(a: jax.Array, ndim: int) -> jax.Array:
    """`a` `[N]` as `[N, 1, ...]` with `ndim` axes."""
    return a.reshape(a.shape + (1,) * (ndim - a.ndim))


def with_axes_before(a: jax.Array, ndim: int) -> jax.Array:
    """`a` `[k]` as `[..., 1, k]` with `ndim` axes."""
    return a.reshape((1,) * (ndim - a.ndim) + a.shape)
