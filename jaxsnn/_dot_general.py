"""`lax.dot_general` with a gradient that a CPU computes fast."""

from typing import Any

import jax


def dot_general(x: jax.Array, kernel: jax.Array, dimensions: Any, **kwargs: Any) -> jax.Array:
    """`x W` by `lax.dot_general`, with a faster gradient where the layer narrows.

    Left to itself the gradient of `W` `[in, out]` is `x^T g`. With few columns XLA's product for
    CPUs is 2 to 4 times slower than `g^T x`, which is what the gradient of `W^T` is. The barrier
    keeps XLA from merging the transposition into the product. With few rows it would not pay.
    """
    wide, narrow = kernel.shape
    rows = x.shape[0]  # a program that is exported may leave it open, and has no gradient
    if x.ndim == 2 and isinstance(rows, int) and narrow < wide < rows:
        kernel = jax.lax.optimization_barrier(kernel.T)
        dimensions = ((1,), (1,)), ((), ())
    return jax.lax.dot_general(x, kernel, dimensions, **kwargs)
