"""Settings that are one number, or one number for each neuron."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsnn import _checks
from jaxsnn._repr import in_short


class Numbers:
    """An array that never changes, and so can be a setting of a module: it has a hash.

    Args:
        array: the numbers; kept as they are, in float64 if need be.
    """

    def __init__(self, array: np.ndarray) -> None:
        self.array = np.array(array)
        self.array.setflags(write=False)
        self._key = self.array.shape, self.array.dtype.str, self.array.tobytes()
        self._hash = hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Numbers) and self._key == other._key

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return in_short(self.array)


Setting = float | Numbers


def setting(name: str, value: Any) -> Setting:
    """`value` as a float if it is one number or many equal ones, otherwise as `Numbers`."""
    if isinstance(value, Numbers):
        value = value.array
    array = np.asarray(value)
    if array.ndim == 0:
        return _checks.real(name, value)
    if array.dtype.kind not in "fiu" or array.size == 0:
        raise TypeError(
            f"{name} must be a number or an array of numbers, got an array of shape "
            f"{list(array.shape)} and dtype {array.dtype}"
        )
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} must be finite, got {shown(array)}")
    first = array.flat[0]
    return float(first) if np.all(array == first) else Numbers(array)


def shown(array: np.ndarray) -> str:
    """Numbers in an error message: a few as they are, many in short."""
    return in_short(array) if array.size > 4 else str(array)


def array_of(value: Setting) -> np.ndarray:
    """The numbers as a NumPy array, 0-d where there is one."""
    return value.array if isinstance(value, Numbers) else np.asarray(value)


def beside(value: Setting, x: jax.Array, name: str) -> float | jax.Array:
    """The setting as it is combined with `x` `[..., *its shape]`, in the dtype of `x`."""
    if isinstance(value, float):
        return value
    shape = value.array.shape
    if x.shape[x.ndim - len(shape) :] != shape:
        raise ValueError(
            f"{name} has shape {list(shape)}, so inputs must end in this shape, got {list(x.shape)}"
        )
    return jnp.broadcast_to(jnp.asarray(value.array.astype(x.dtype)), x.shape)
