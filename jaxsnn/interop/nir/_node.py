"""One node of NIR and the layer that it becomes: arrays with channels first or last, notes in the
metadata, and a row of the table of nodes.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsnn.interop.nir._cells import array_of, numbers, setting

KEY = "jaxsnn"  # of our notes in the metadata


@dataclasses.dataclass(frozen=True, eq=False)
class Layout:
    """The layout of the numbers that flow along an edge: channels are first in NIR, last here.

    Attributes:
        shape: its shape here, of one step, without the batch axis.
        order: after a `Flatten`, the place of our k-th element in NIR, which flattens channels
            first; None where the two agree.
    """

    shape: tuple[int, ...]
    order: np.ndarray | None = None

    @property
    def nir_shape(self) -> tuple[int, ...]:
        return (*self.shape[-1:], *self.shape[:-1])

    def to_nir(self, numbers: np.ndarray) -> np.ndarray:
        """Numbers `[*shape, ...]` in our layout, in NIR's."""
        if self.order is not None:
            return numbers[np.argsort(self.order)]
        return np.moveaxis(numbers, len(self.shape) - 1, 0)

    def to_ours(self, numbers: np.ndarray) -> np.ndarray:
        """Numbers `[*nir_shape, ...]` in NIR's layout, in ours."""
        if self.order is not None:
            return numbers[self.order]
        return np.moveaxis(numbers, 0, len(self.shape) - 1)

    def flat(self) -> "Layout":
        """The layout after a `Flatten`."""
        if self.order is not None:
            return self
        size = math.prod(self.shape)
        order = self.to_ours(np.arange(size).reshape(self.nir_shape)).ravel()
        return Layout((size,), None if np.array_equal(order, np.arange(size)) else order)

    def agrees(self, other: "Layout") -> bool:
        """True if the two can be added element by element."""
        if self.order is None or other.order is None:
            return self.shape == other.shape and self.order is other.order
        return self.shape == other.shape and np.array_equal(self.order, other.order)


class Writing(NamedTuple):
    """How a layer is written.

    Attributes:
        dt: seconds in a time step.
        soft_reset: whether neurons with the soft reset may be written.
        before: layout of its input.
        after: layout to which its output is fed back; None where it is not.
    """

    dt: float
    soft_reset: bool
    before: Layout
    after: Layout | None = None

    def broadcast(self, name: str, array: np.ndarray) -> np.ndarray:
        """A number, or an array, as one number for each element of the input."""
        try:
            return np.broadcast_to(array, self.before.shape)
        except ValueError:
            wanted = f"does not broadcast to its input {self.before.shape}"
            raise ValueError(f"{name} has shape {array.shape}, which {wanted}") from None

    def spread(self, name: str, value: Any) -> np.ndarray:
        """A setting or constant as one number for each element of the input, in NIR's layout."""
        return self.before.to_nir(np.array(self.broadcast(name, numbers(name, array_of(value)))))


class Reading(NamedTuple):
    """A node that is read, and the arguments of `from_nir`; where one is None, its notes decide.

    Attributes:
        node: the node, which may come from a damaged file, or from anyone.
        before: layout of its input.
        after: layout to which its output is fed back; None where it is not.
    """

    dt: float | None
    reset: str | None
    fires_at_threshold: bool | None
    surrogate_function: Callable[..., Any] | None
    detach_reset: bool | None
    param_dtype: Any
    node: Any = None
    before: Layout = Layout(())
    after: Layout | None = None

    @property
    def kind(self) -> str:
        return type(self.node).__name__

    def seconds(self) -> float:
        """The seconds per step."""
        if self.dt is None:
            raise ValueError("the graph does not give the time step; pass dt= (snnTorch's: 1e-4)")
        return self.dt

    def elements(self, name: str) -> np.ndarray:
        """A field that has a number for each element of the input: in our layout, or one float64
        where all are equal.
        """
        array = numbers(name, getattr(self.node, name))
        if array.size != 1:
            array = self.before.to_ours(shaped(name, array, self.before.nir_shape))
        return np.asarray(array_of(setting(name, array)))

    def parameter(self, name: str, array: np.ndarray) -> jax.Array:
        """Finite numbers as a parameter."""
        with np.errstate(over="ignore"):  # said below
            made = jnp.array(array, self.param_dtype)  # a copy: the node may change in place
        if not np.all(np.isfinite(made)):
            raise ValueError(f"{name} holds numbers too large for {made.dtype}")
        return made

    def note(self, name: str, known: Mapping[Any, Any], otherwise: Any = None) -> Any:
        """The meaning of a note of which there are a few; `otherwise` where there is none."""
        value = notes_of(self.node).get(name)
        if value is None:
            return otherwise
        if value not in known:
            raise ValueError(f"its metadata {name!r} must be one of {list(known)}, got {value!r}")
        return known[value]

    def flag(self, name: str, otherwise: bool = False) -> bool:
        """A note that is true or false."""
        return bool(self.note(name, {False: False, True: True}, otherwise))


class Written(NamedTuple):
    """A layer as a node: the type of the node, its fields, the layout of its output, notes."""

    kind: str
    fields: dict[str, Any]
    after: Layout
    notes: Mapping[str, Any] = {}


class Row(NamedTuple):
    """Types of nodes and the layers that are written as one of them.

    Attributes:
        nodes: types of nodes.
        layers: types of layers.
        write: makes a node of a layer.
        read: makes a layer of a node, and returns the layout of its output too.
    """

    nodes: tuple[str, ...]
    layers: tuple[type, ...]
    write: Callable[[Any, Writing], Written]
    read: Callable[[Reading], tuple[Any, Layout]]


def weights(name: str, parameter: Any) -> np.ndarray:
    """A parameter in a dtype that files have: what is shorter becomes float32."""
    array = np.asarray(parameter)
    wide = array.dtype in (np.float32, np.float64)
    return numbers(name, array if wide else array.astype(np.float32))


def shaped(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """A field that holds finite numbers, of this shape."""
    array = numbers(name, value)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {list(shape)}, got {list(array.shape)}")
    return array


def notes_of(node: Any) -> dict[str, Any]:
    """Our notes on a node, `{}` where there are none."""
    metadata = getattr(node, "metadata", None)
    notes = metadata.get(KEY, {}) if isinstance(metadata, dict) else {}
    if not isinstance(notes, dict):
        raise ValueError(f"its metadata {KEY!r} must be a group, got {notes!r}")
    return notes
