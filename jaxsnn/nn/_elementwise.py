"""Cells that act on each element alone: neurons and synapses, however many stand in a row."""

import abc
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxsnn.nn._cell import Carry, Cell
from jaxsnn.nn._schedule import scan


class ElementwiseCell(Cell):
    """Abstract: a cell whose output and state at an element depend on that element alone.

    Over time all axes but the first are therefore one to it, so that XLA's inner loops are long,
    and a row of such cells is a single scan.
    """

    def _scalars(self) -> tuple[jax.Array, ...]:
        """The learnable scalars of the step, e.g. a time constant."""
        return ()

    @abc.abstractmethod
    def _step(self, carry: Carry, x: jax.Array, *scalars: jax.Array) -> tuple[Carry, jax.Array]:
        """One time step; each of `scalars` is a scalar or in the shape of `x`."""

    def __call__(self, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        return self._step(carry, x, *self._scalars())

    def _over_time(self, carry: Carry, xs: jax.Array) -> tuple[Carry, jax.Array]:
        (carry,), ys = scan_elements([self], [carry], xs)
        return carry, ys


def is_elementwise(layer: Any) -> bool:
    """Whether `layer` is such a cell, and its step has not been replaced in a subclass."""
    return getattr(type(layer), "_over_time", None) is ElementwiseCell._over_time


def scan_elements(
    cells: Sequence[ElementwiseCell], carries: Sequence[Carry], xs: jax.Array
) -> tuple[list[Carry], jax.Array]:
    """Runs cells that follow one another over `xs` `[T, ...]`, in one scan."""
    carries = [cell._start(carry, xs) for cell, carry in zip(cells, carries, strict=True)]
    shape = xs.shape[1:]
    fits = all(getattr(state, "shape", None) == shape for state in jax.tree.leaves(carries))
    flat = (math.prod(shape),) if fits else shape  # if not, the cell itself says what is wrong
    # Spread over the elements, a scalar gets its gradient by one sum at the end, not at each step.
    spread = [[jnp.broadcast_to(s, flat) for s in cell._scalars()] for cell in cells]

    def step(carries: list[Carry], x: jax.Array) -> tuple[list[Carry], jax.Array]:
        after: list[Any] = []
        for cell, carry, scalars in zip(cells, carries, spread, strict=True):
            carry, x = cell._step(carry, x, *scalars)
            after.append(carry)
        return after, x

    if fits:
        carries = jax.tree.map(lambda state: state.reshape(flat), carries)
    carries, ys = scan(step, carries, xs.reshape(-1, *flat))
    return jax.tree.map(lambda state: state.reshape(shape), carries), ys.reshape(-1, *shape)
