"""Cells that act on each element alone: neurons and synapses, however many stand in a row."""

import abc
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxsnn import _checks
from jaxsnn._layout import is_shared_out
from jaxsnn.nn._cell import Carry, Cell, check_call, see_states
from jaxsnn.nn._mode import NOTHING, Mode, Seen, over
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

    def __call__(self, carry: Carry, x: jax.Array = _checks.REQUIRED) -> tuple[Carry, jax.Array]:
        check_call(self, x)
        return self._step(carry, x, *self._scalars())

    def _over_time(self, carry: Carry, xs: jax.Array, mode: Mode) -> tuple[Carry, jax.Array, Seen]:
        (carry,), ys, seen = scan_elements([self], [carry], xs, [mode])
        return carry, ys, seen


def is_elementwise(layer: Any) -> bool:
    """Whether `layer` is such a cell, and its step has not been replaced in a subclass."""
    return getattr(type(layer), "_over_time", None) is ElementwiseCell._over_time


def scan_elements(
    cells: Sequence[ElementwiseCell],
    carries: Sequence[Carry],
    xs: jax.Array,
    modes: Sequence[Mode],
) -> tuple[list[Carry], jax.Array, Seen]:
    """Runs cells that follow one another over `xs` `[T, ...]`, in one scan."""
    carries = [cell._start(carry, xs) for cell, carry in zip(cells, carries, strict=True)]
    shape = xs.shape[1:]
    fits = all(getattr(state, "shape", None) == shape for state in jax.tree.leaves(carries))
    # Where it does not fit, the cell itself raises.
    flat = (math.prod(shape),) if fits and not is_shared_out(xs) else shape
    # Spread over the elements, a scalar gets its gradient by one sum at the end, not at each step.
    spread = [[jnp.broadcast_to(s, flat) for s in cell._scalars()] for cell in cells]

    def step(carries: list[Carry], x: jax.Array, _: Mode) -> tuple[list[Carry], jax.Array, Seen]:
        after: list[Any] = []
        seen = NOTHING
        for cell, carry, scalars, mode in zip(cells, carries, spread, modes, strict=True):
            carry, x = cell._step(carry, x, *scalars)
            seen |= see_states(cell, carry, mode) | mode.see_output(x)
            after.append(carry)
        return after, x, seen

    if fits:
        carries = jax.tree.map(lambda state: state.reshape(flat), carries)
    mask = modes[0].mask
    if mask is not None:
        mask = jnp.broadcast_to(over(mask, xs), xs.shape).reshape(xs.shape[0], *flat)
    steps = xs.shape[0]
    carries, ys, seen = scan(step, carries, xs.reshape(steps, *flat), modes[0].of_step(mask))
    ys, seen = jax.tree.map(lambda a: a.reshape(steps, *shape), (ys, seen))
    return jax.tree.map(lambda state: state.reshape(shape), carries), ys, seen
