"""Element-wise cells (neurons and synapses); consecutive ones are fused into a single scan."""

import abc
import math
from collections.abc import Sequence
from typing import Any, ClassVar, final

import jax
import jax.numpy as jnp

from jaxsnn import _checks
from jaxsnn._carries import check_call
from jaxsnn._layout import is_shared_out
from jaxsnn._masks import over
from jaxsnn._parts import is_final
from jaxsnn.nn._module import Cell
from jaxsnn.nn._run import Carry, Run, run_cell, start


class ElementwiseCell(Cell):
    """Abstract: a cell whose output and state at an element depend on that element alone.

    Over time all axes but the first are therefore one to it, so that XLA's inner loops are long,
    and a row of such cells is a single scan.
    """

    elementwise: ClassVar[bool] = True

    def _scalars(self) -> tuple[jax.Array, ...]:
        """The learnable scalars of the step, e.g. a time constant."""
        return ()

    @abc.abstractmethod
    def _step(self, carry: Carry, x: jax.Array, *scalars: jax.Array) -> tuple[Carry, jax.Array]:
        """One time step; each of `scalars` is a scalar or in the shape of `x`."""

    @final
    def __call__(self, carry: Carry, x: jax.Array = _checks.REQUIRED) -> tuple[Carry, jax.Array]:
        check_call(self, x)
        return self._step(carry, x, *self._scalars())

    def _run(self, carry: Carry, x: jax.Array, run: Run) -> tuple[Carry, jax.Array]:
        if run.steps and self.elementwise:
            (carry,), ys = scan_elements([self], [carry], x, run, [run])
            return carry, ys
        return run_cell(self, carry, x, run)


def is_elementwise(layer: Any) -> bool:
    """Whether `layer` is such a cell, without a step of its own in a derived class."""
    fits = isinstance(layer, ElementwiseCell) and layer.elementwise
    return fits and is_final(type(layer).__call__)


def run_elements(
    cells: Sequence[ElementwiseCell], xs: jax.Array, run: Run, names: Sequence[str]
) -> jax.Array:
    """Run parts of a module that follow one another over `xs` `[T, ...]`, in one scan."""
    within = [run._inside(run._named(name)) for name in names]
    run._ran.update(inside._path for inside in within)
    carries, ys = scan_elements(cells, run._next(len(cells)), xs, run, within)
    run._after += carries
    return ys


def scan_elements(
    cells: Sequence[ElementwiseCell],
    carries: Sequence[Carry],
    xs: jax.Array,
    run: Run,
    within: Sequence[Run],
) -> tuple[list[Carry], jax.Array]:
    """The new carries and the outputs of cells that follow one another, each run `within`."""
    carries = [start(cell, carry, xs) for cell, carry in zip(cells, carries, strict=True)]
    shape = xs.shape[1:]
    fits = all(getattr(state, "shape", None) == shape for state in jax.tree.leaves(carries))
    # Where it does not fit, the cell itself raises.
    flat = (math.prod(shape),) if fits and not is_shared_out(xs) else shape
    # Spread over the elements, a scalar gets its gradient by one sum at the end, not at each step.
    spread = [[jnp.broadcast_to(s, flat) for s in cell._scalars()] for cell in cells]

    def step(carries: list[Carry], x: jax.Array, now: Run) -> tuple[list[Carry], jax.Array]:
        after: list[Any] = []
        for cell, carry, scalars, inside in zip(cells, carries, spread, within, strict=True):
            carry, x = cell._step(carry, x, *scalars)
            now._path = inside._path
            now._see_states(cell, carry)
            if inside is not run:  # which records its output itself
                now._see("", x)
            after.append(carry)
        return after, x

    if fits:
        carries = jax.tree.map(lambda state: state.reshape(flat), carries)
    mask = run.mask
    if mask is not None:
        mask = jnp.broadcast_to(over(mask, xs), xs.shape).reshape(xs.shape[0], *flat)
    steps = xs.shape[0]
    carries, ys, seen = run._changed(mask=mask)._scanned(step, carries, xs.reshape(steps, *flat))
    ys, seen = jax.tree.map(lambda a: a.reshape(steps, *shape), (ys, seen))
    run._take(seen)
    return jax.tree.map(lambda state: state.reshape(shape), carries), ys
