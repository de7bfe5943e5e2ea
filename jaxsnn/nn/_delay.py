"""`Delay`: a cell whose carry is the last inputs."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxsnn import _checks, functional
from jaxsnn.nn._cell import Cell, check_call, check_past, see_states, state_dtype
from jaxsnn.nn._mode import NOTHING, Mode, Seen


class Delay(Cell):
    """Delays its input by whole time steps; before the first input comes, it puts out 0.

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

    def __call__(
        self,
        carry: Float[Array, "*shape {self.delay_steps}"],
        x: Float[Array, "*shape"] = _checks.REQUIRED,
    ) -> tuple[Float[Array, "*shape {self.delay_steps}"], Float[Array, "*shape"]]:
        check_call(self, x)
        check_past(self, carry, x, self.delay_steps)
        return functional.delay_step(carry, x)

    def _over_time(self, carry: Any, xs: jax.Array, mode: Mode) -> tuple[Any, jax.Array, Seen]:
        carry = self._start(carry, xs)
        check_past(self, carry, jax.ShapeDtypeStruct(xs.shape[1:], xs.dtype), self.delay_steps)
        if mode.mask is not None or see_states(self, carry, mode).records:
            return super()._over_time(carry, xs, mode)  # what is asked for lies between the steps
        past = jnp.moveaxis(carry, -1, 0)
        inputs = jnp.concatenate([past, xs.astype(past.dtype)])
        ys, past = inputs[: xs.shape[0]].astype(xs.dtype), inputs[xs.shape[0] :]
        return jnp.moveaxis(past, 0, -1), ys, NOTHING
