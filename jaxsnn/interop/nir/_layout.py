"""Where the channels are: first in NIR, last here. All shapes are those of one step, no batch."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Layout:
    """The layout of the numbers that flow along an edge.

    Attributes:
        shape: its shape here, channels last.
        order: after a `Flatten`, the place of our k-th element in NIR, which flattens channels
            first; None where the two agree.
    """

    shape: tuple[int, ...]
    order: np.ndarray | None = None

    @staticmethod
    def from_nir(shape: tuple[int, ...]) -> "Layout":
        return Layout((*shape[1:], *shape[:1]))

    @property
    def nir_shape(self) -> tuple[int, ...]:
        return (*self.shape[-1:], *self.shape[:-1])

    def to_nir(self, numbers: np.ndarray) -> np.ndarray:
        """One number for each element, from our layout to NIR's."""
        if self.order is not None:
            return numbers[np.argsort(self.order)]
        return np.moveaxis(numbers, -1, 0) if numbers.ndim else numbers

    def to_ours(self, numbers: np.ndarray) -> np.ndarray:
        """One number for each element, from NIR's layout to ours."""
        if self.order is not None:
            return numbers[self.order]
        return np.moveaxis(numbers, 0, -1) if numbers.ndim else numbers

    def flat(self) -> "Layout":
        """The layout after a `Flatten`."""
        size = math.prod(self.shape)
        if self.order is not None:
            return self
        order = self.to_ours(np.arange(size).reshape(self.nir_shape)).ravel()
        return Layout((size,), None if np.array_equal(order, np.arange(size)) else order)

    def agrees(self, other: "Layout") -> bool:
        """True if the two can be added element by element."""
        if self.order is None or other.order is None:
            return self.shape == other.shape and self.order is other.order
        return self.shape == other.shape and np.array_equal(self.order, other.order)


def kernel_to_nir(kernel: np.ndarray, before: Layout, after: Layout) -> np.ndarray:
    """The weights `[in, out]` of a Linear as NIR's `[out, in]`."""
    weight = kernel.T
    if before.order is not None:
        weight = weight[:, np.argsort(before.order)]
    if after.order is not None:
        weight = weight[np.argsort(after.order)]
    return np.ascontiguousarray(weight)


def kernel_to_ours(weight: np.ndarray, before: Layout, after: Layout) -> np.ndarray:
    """NIR's weights `[out, in]` as a kernel `[in, out]`."""
    if before.order is not None:
        weight = weight[:, before.order]
    if after.order is not None:
        weight = weight[after.order]
    return np.ascontiguousarray(weight.T)


def weights(name: str, parameter: Any) -> np.ndarray:
    """A parameter as a NumPy array of a dtype that files have: what is shorter becomes float32."""
    array = finite(name, np.asarray(parameter))
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def finite(name: str, array: np.ndarray) -> np.ndarray:
    """`array`, whose numbers can be written."""
    if not np.all(np.isfinite(array)):
        raise ValueError(
            f"its {name} holds NaN or infinity; use parameters from before the training diverged"
        )
    return array


def parameter(name: str, numbers: Any, dtype: Any) -> jax.Array:
    """Numbers of a node as a parameter."""
    array = np.asarray(numbers)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"its {name} must hold numbers, got dtype {array.dtype}")
    with np.errstate(over="ignore"):  # said below
        made = jnp.array(array, dtype)  # a copy: the node may change in place
    if not np.all(np.isfinite(made)):
        raise ValueError(f"its {name} holds NaN or infinity, or numbers too large for {made.dtype}")
    return made
