"""Functions with a kink whose gradient at a tie is torch's. Spike counts are integers, and tie."""

import functools

import jax
import jax.numpy as jnp


def absolute(x: jax.Array) -> jax.Array:
    """`|x|` with slope 0 at 0, where `jnp.abs` has slope 1."""
    return x * jnp.sign(x)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def largest(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """The maximum over some axes; its gradient goes to the first of equals, in the order of `axes`.

    `jnp.max` shares the gradient among equals.
    """
    return jnp.max(x, axes)


@largest.defjvp
def _largest_jvp(
    axes: tuple[int, ...], primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (x,), (tangent,) = primals, tangents
    # Two reductions of numbers, which a CPU does faster than an argmax.
    best = jnp.max(jax.lax.stop_gradient(x), axes, keepdims=True)
    place, size = jnp.zeros((), jnp.int32), 1
    for axis in reversed(axes):
        place = place + size * jax.lax.broadcasted_iota(jnp.int32, x.shape, axis)
        size *= x.shape[axis]
    first = jnp.min(jnp.where(x == best, place, size), axes, keepdims=True)
    return largest(x, axes), jnp.sum(jnp.where(place == first, tangent, 0), axes)
