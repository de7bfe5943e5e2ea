"""`Delay`: a cell whose carry is the last inputs."""

from typing import Any, final

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxsnn import _checks, functional
from jaxsnn._carries import check_call, check_past
from jaxsnn._dtypes import state_dtype
from jaxsnn._parts import join
from jaxsnn.nn._module import Cell
from jaxsnn.nn._run import Run, run_cell


class Delay(Cell):
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

    printed = ("delay_steps",)
    state_name = "past"

    def __init__(self, delay_steps: int) -> None:
        self.delay_steps = _checks.count("delay_steps", delay_steps)

    def initialize_carry(
        self,
        input_shape: tuple[int, ...],
        rngs: nnx.Rngs | nnx.RngStream | None = None,
        *,
        dtype: Any = jnp.float32,
    ) -> jax.Array:
        """The inputs before the first step, 0."""
        return jnp.zeros((*input_shape, self.delay_steps), state_dtype(dtype))

    @final
    def __call__(
        self,
        carry: Float[Array, "*shape {self.delay_steps}"],
        x: Float[Array, "*shape"] = _checks.REQUIRED,
    ) -> tuple[Float[Array, "*shape {self.delay_steps}"], Float[Array, "*shape"]]:
        check_call(self, x)
        check_past(self, carry, x, self.delay_steps)
        return functional.delay_step(carry, x)

    def _run(self, carry: Any, x: jax.Array, run: Run) -> tuple[Any, jax.Array]:
        if not run.steps or run.mask is not None or run._wants(join(run._path, self.state_name)):
            return run_cell(self, carry, x, run)  # what is asked for lies between the steps
        check_past(self, carry, jax.ShapeDtypeStruct(x.shape[1:], x.dtype), self.delay_steps)
        past = jnp.moveaxis(carry, -1, 0)
        inputs = jnp.concatenate([past, x.astype(past.dtype)])
        ys, past = inputs[: x.shape[0]].astype(x.dtype), inputs[x.shape[0] :]
        return jnp.moveaxis(past, 0, -1), ys
