"""`Delay`, and the base of cells whose carry is their last inputs."""

import abc
from typing import Annotated, Any, final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsnn import _checks, functional
from jaxsnn._carries import check_call, check_past
from jaxsnn._dtypes import state_dtype
from jaxsnn._parts import join
from jaxsnn.nn._fields import Fields
from jaxsnn.nn._module import Cell
from jaxsnn.nn._run import Carry, Run, Streams, run_cell


class Window(Fields, Cell):
    """Abstract: a cell whose carry is its last inputs; it computes all steps without a loop."""

    state_name = "past"

    @property
    @abc.abstractmethod
    def _length(self) -> int:
        """How many inputs it keeps."""

    @abc.abstractmethod
    def _step(self, past: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """One time step."""

    @abc.abstractmethod
    def _steps(self, past: jax.Array, xs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """All time steps of a sequence."""

    def initialize_carry(
        self, input_shape: tuple[int, ...], rngs: Streams = None, *, dtype: Any = jnp.float32
    ) -> jax.Array:
        """The inputs before the first step, 0."""
        return jnp.zeros((*input_shape, self._length), state_dtype(dtype))

    @final
    def __call__(
        self,
        carry: Float[Array, "*shape {self._length}"],
        x: Float[Array, "*shape"] = _checks.REQUIRED,
    ) -> tuple[Float[Array, "*shape {self._length}"], Float[Array, "*shape"]]:
        check_call(self, x)
        check_past(self, carry, x, self._length)
        return self._step(carry, x)

    def _run(self, carry: Carry, x: jax.Array, run: Run) -> tuple[Carry, jax.Array]:
        if not run.steps or run.mask is not None or run._wants(join(run._path, self.state_name)):
            return run_cell(self, carry, x, run)  # what is asked for lies between the steps
        check_past(self, carry, jax.ShapeDtypeStruct(x.shape[1:], x.dtype), self._length)
        return self._steps(carry, x)


class Delay(Window):
    """Delays its input by whole time steps; outputs 0 before the first input.

        y[t] = x[t - delay_steps]

    Args:
        delay_steps: the delay in time steps; 0 changes nothing.

    Carry: `past`, the last `delay_steps` inputs, along the last axis, the oldest first,
    `[..., delay_steps]`; 0 before the first step.

    Raises:
        TypeError: `delay_steps` is not an integer.
        ValueError: `delay_steps` is below 0.

    Examples:
        >>> carry, ys = unroll(Delay(2), jnp.array([1.0, 2.0, 3.0, 4.0]))
        >>> ys, carry
        (Array([0., 0., 1., 2.], dtype=float32), Array([3., 4.], dtype=float32))
    """

    delay_steps: Annotated[int, _checks.count]
    _length = property(lambda self: self.delay_steps)
    _step = staticmethod(functional.delay_step)

    def _steps(self, past: jax.Array, xs: jax.Array) -> tuple[jax.Array, jax.Array]:
        past = jnp.moveaxis(past, -1, 0)
        inputs = jnp.concatenate([past, xs.astype(past.dtype)])
        ys, past = inputs[: xs.shape[0]].astype(xs.dtype), inputs[xs.shape[0] :]
        return jnp.moveaxis(past, 0, -1), ys
