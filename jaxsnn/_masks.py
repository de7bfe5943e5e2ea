"""Masks of padded sequences: which steps of which sequences count."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Integer

from jaxsnn import _checks
from jaxsnn._ranks import with_axes_after


def sequence_mask(lengths: Integer[Array | np.ndarray, "*N"], T: int) -> Bool[Array, "T *N"]:
    """The mask of padded sequences: which steps come before the end of each.

    Args:
        lengths: how many steps each sequence has, integers `[N]`.
        T: number of time steps of the padded sequences.

    Returns:
        bool `[T, N]`.

    Examples:
        >>> sequence_mask(jnp.array([1, 3]), 3).astype(int)
        Array([[1, 1],
               [0, 1],
               [0, 1]], dtype=int32)
    """
    lengths = jnp.asarray(lengths)
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise TypeError(f"lengths must be integers, got dtype {lengths.dtype}")
    if lengths.dtype.itemsize < 4:  # which may not count as far as `T`
        lengths = lengths.astype(jnp.int32)
    times = jnp.arange(_checks.size("T", T), dtype=lengths.dtype)
    return times.reshape((-1,) + (1,) * lengths.ndim) < lengths[None]


def over(mask: jax.Array, like: jax.Array, name: str = "an output") -> jax.Array:
    """`mask` `[N]` with as many axes as `like` `[N, ...]`, which an error calls `name`."""
    if mask.shape != like.shape[: mask.ndim]:
        remedy = (
            "a module that reads out a sequence calls run.require_whole_sequence(self, masks=True) "
            "and uses run.mask itself"
        )
        if name != "an output":
            one = f"jnp.zeros(input_shape[:{mask.ndim}])"
            remedy = f"in initialize_carry, {one} is one number for each sequence"
        raise ValueError(
            f"the mask, here of shape {list(mask.shape)}, does not fit {name} of shape "
            f"{list(like.shape)}: the sequences that a mask distinguishes, usually those of a "
            "batch, must have separate states and outputs, [N, ...], from the first layer to the "
            f"last; {remedy}"
        )
    return with_axes_after(mask, like.ndim)


def zero(mask: jax.Array, a: jax.Array) -> jax.Array:
    """`a` where `mask` is true, elsewhere 0."""
    return jnp.where(over(mask, a), a, jnp.zeros((), a.dtype))


def hold(mask: jax.Array | None, after: Any, before: Any, path: str = "") -> Any:
    """`after` where `mask` is true, elsewhere `before`: a masked step changes no state.

    An error names the state and the layer, which is at `path`.
    """
    if mask is None:
        return after

    def held(keys: Any, a: jax.Array, b: jax.Array) -> jax.Array:
        name = f"the state carry{jax.tree_util.keystr(keys)}"
        return jnp.where(over(mask, a, f"{name} of layer {path}" if path else name), a, b)

    return jax.tree_util.tree_map_with_path(held, after, before)
