"""Images as sequences: one column, or one row, is one time step."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, UInt8

# 1/255 in two parts. XLA turns a division by a constant into a product with its inverse, which is
# off by one unit in the last place for some of the 256 values. The first part has 12 digits, so
# that its product with an integer up to 255 is exact and the sum rounds once, as division does.
_INVERSE_HIGH = np.float32(round(2**19 / 255) / 2**19)
_INVERSE_LOW = np.float32(1 / 255 - float(_INVERSE_HIGH))


def columns(images: UInt8[Array | np.ndarray, "N H W"]) -> Float32[Array, "W N H"]:
    """Reads images column by column, left to right, as the tutorial does.

    Args:
        images: `[N, H, W]`, uint8.

    Returns:
        `[T=W, N, H]`, float32 in [0, 1]: step t is column t, its pixels from top to bottom.

    Raises:
        TypeError: `images` is not uint8.
        ValueError: `images` has not three axes, or the last is of size 1, as a channel is.
    """
    return jnp.transpose(_unit_interval(images), (2, 0, 1))


def rows(images: UInt8[Array | np.ndarray, "N H W"]) -> Float32[Array, "H N W"]:
    """Reads images row by row, from top to bottom.

    Args:
        images: `[N, H, W]`, uint8.

    Returns:
        `[T=H, N, W]`, float32 in [0, 1]: step t is row t, its pixels from left to right.

    Raises:
        TypeError: `images` is not uint8.
        ValueError: `images` has not three axes, or the last is of size 1, as a channel is.
    """
    return jnp.transpose(_unit_interval(images), (1, 0, 2))


SEQUENCES = {"columns": columns, "rows": rows}


def _unit_interval(images: Array | np.ndarray) -> Array:
    images = jnp.asarray(images)
    if images.dtype != jnp.uint8:
        raise TypeError(
            f"images must be uint8 (0 to 255), got dtype {images.dtype}; floating images need "
            "only a transpose to [T, N, features]"
        )
    if images.ndim != 3 or images.shape[2] == 1:
        raise ValueError(
            f"images must have shape [N, H, W], got {list(images.shape)}; a batch of one image is "
            "images[None], and the axis of one channel goes away with images[..., 0] or "
            "images[:, 0]; make sequences [T, N, features] of anything else yourself"
        )
    values = images.astype(jnp.float32)
    return values * _INVERSE_HIGH + values * _INVERSE_LOW
