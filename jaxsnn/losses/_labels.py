"""Labels as targets for output layers with several neurons a class."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Integer, Shaped

from jaxsnn import _checks


def check_labels(
    outputs: jax.Array, labels: jax.Array | np.ndarray, name: str = "outputs [N, classes]"
) -> jax.Array:
    """Labels as an array: an integer for each of the outputs, whose last axis are the classes."""
    labels = jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels must be integers (class numbers), got dtype {labels.dtype}")
    if outputs.ndim == 0 or outputs.shape[:-1] != labels.shape:
        raise ValueError(
            f"{name} and labels [N] must hold the same examples, got labels of shape "
            f"{list(labels.shape)} for {list(outputs.shape)}"
        )
    return labels


def of_classes(loss: jax.Array, labels: jax.Array, classes: int) -> jax.Array:
    """NaN instead of the loss of each label that is none of the classes, 0 to `classes - 1`."""
    if labels.dtype.itemsize < 4:  # 8 bits do not hold a large number of classes
        labels = labels.astype(jnp.int32)
    there = (labels >= 0) & (labels < classes)
    # Added rather than chosen between, so that gradients keep their bits.
    return loss + jnp.where(there, 0, jnp.nan).astype(loss.dtype)


def redundant_one_hot(
    labels: Integer[Array | np.ndarray, " N"],
    num_classes: int,
    n: int,
    *,
    dtype: jax.typing.DTypeLike = jnp.float32,
) -> Shaped[Array, "N {num_classes*n}"]:
    """One-hot labels with each class `n` times side by side, as the neurons of a population vote.

        out[i, n c] ... out[i, n c + n - 1] = [c == labels[i]]

    Args:
        labels: class numbers, `[N]`, integers.
        num_classes: number of classes.
        n: neurons for each class.
        dtype: of the result.

    Returns:
        `[N, num_classes * n]`.

    Raises:
        TypeError: a size is not an integer.
        ValueError: a size is below 1.

    Examples:
        >>> redundant_one_hot(jnp.array([1, 0]), 2, 3)
        Array([[0., 0., 0., 1., 1., 1.],
               [1., 1., 1., 0., 0., 0.]], dtype=float32)
    """
    num_classes, n = _checks.size("num_classes", num_classes), _checks.size("n", n)
    return jnp.repeat(jax.nn.one_hot(labels, num_classes, dtype=dtype), n, axis=-1)
