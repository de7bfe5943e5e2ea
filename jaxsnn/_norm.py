"""The Euclidean norm over a tree of arrays, taken so that squares neither overflow nor vanish."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


@jax.jit
def global_norm(tree: Any) -> Float[Array, ""]:
    """Compute the Euclidean norm over all entries of a tree of arrays.

        norm = s sqrt(sum_i (x_i / s)^2)

    The scale `s` is the power of two nearest to the largest magnitude, so that no square overflows
    and none that matters vanishes. Without it, float32 gives infinity for entries above 1.8e19 and
    0 for entries below 1e-23.

    Args:
        tree: a pytree of arrays, e.g. gradients. Integers are taken as float32.

    Returns:
        The norm, float32, or float64 if one of the arrays is float64. It is finite exactly if every
        entry is: a norm beyond the largest number of its dtype is given as this number. 0 if there
        is no entry.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxsnn import training
        >>> norm = training.global_norm({"a": jnp.array([3e25, 0.0]), "b": jnp.float32(4e25)})
        >>> print(f"{norm:.1e}")
        5.0e+25
    """
    scale, scaled = scaled_norm(tree)
    largest = np.finfo(scaled.dtype).max
    norm = jnp.where(scaled > largest / scale, largest, scaled * scale)
    return jnp.where(jnp.isfinite(scaled), norm, scaled)


def scaled_norm(tree: Any) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return a power of two `s`, and the norm of `tree` divided by `s`."""
    arrays = [jnp.asarray(array) for array in jax.tree.leaves(tree)]
    wide = any(array.dtype in (jnp.float64, jnp.complex128) for array in arrays)
    info = np.finfo(np.float64 if wide else np.float32)
    magnitudes = [jnp.abs(array).astype(info.dtype) for array in arrays if array.size]
    zero, one = jnp.zeros((), info.dtype), jnp.ones((), info.dtype)
    largest = functools.reduce(jnp.maximum, map(jnp.max, magnitudes), zero)
    # The bound keeps 1 / s a normal number, since XLA multiplies with it and flushes others to 0.
    scale = jax.lax.reduce_precision(largest, info.nexp, 0)
    scale = jnp.minimum(scale, 2.0 ** (info.maxexp - 2))
    scale = jnp.where(jnp.isfinite(largest) & (scale > 0), scale, one)
    squares = [jnp.sum(jnp.square(magnitude / scale)) for magnitude in magnitudes]
    total = functools.reduce(jnp.add, squares, zero)
    # The gradient of a norm of 0 is 0, where that of the root alone is NaN.
    return scale, jnp.where(total == 0, zero, jnp.sqrt(jnp.where(total == 0, one, total)))
