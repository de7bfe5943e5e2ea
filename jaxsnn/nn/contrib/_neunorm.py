"""`NeuNorm`: a cell whose carry is a trace of what came in, over all channels."""

from dataclasses import KW_ONLY, InitVar
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxsnn import _checks, functional
from jaxsnn._carries import check_call, check_step
from jaxsnn._dtypes import state_dtype
from jaxsnn._ranks import with_axes_before
from jaxsnn.nn._fields import Fields, Size
from jaxsnn.nn._layers import uniform
from jaxsnn.nn._module import Cell
from jaxsnn.nn._run import Streams


class NeuNorm(Fields, Cell):
    """Inhibits each position of an image by its recent past; the equation is in
    `jaxsnn.functional.neunorm_step`.

    Args:
        in_channels: channels of the input `[N, height, width, in_channels]`.
        height: rows of the input.
        width: columns of the input.
        k: decay of the trace a step, between 0 and 1.
        shared_across_channels: whether all channels share the weights `w`, which are
            `[height, width, 1]` then, else `[height, width, in_channels]`.
        param_dtype: dtype of `w`.
        rngs: random streams; `params` is used.

    Carry: the trace `s`, `[N, height, width, 1]`, 0 before the first step.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument is out of range; when run, if the input does not fit.
    """

    state_name = "s"
    _feature_axes = 3

    in_channels: Size
    height: Size
    width: Size
    k: Annotated[float, _checks.probability] = 0.9
    shared_across_channels: bool = False
    _: KW_ONLY
    param_dtype: InitVar[Any] = jnp.float32
    rngs: InitVar[nnx.Rngs] = _checks.REQUIRED

    def __post_init__(self, param_dtype: Any, rngs: nnx.Rngs) -> None:
        channels = 1 if self.shared_across_channels else self.in_channels
        shape, key = (self.height, self.width, channels), _checks.streams(rngs).params()
        self.w = nnx.Param(uniform(self.height * self.width)(key, shape, param_dtype))

    def initialize_carry(
        self, input_shape: tuple[int, ...], rngs: Streams = None, *, dtype: Any = jnp.float32
    ) -> jax.Array:
        """The trace before the first step, 0."""
        self._check(input_shape)
        return jnp.zeros((*input_shape[:-1], 1), state_dtype(dtype))

    def __call__(
        self,
        carry: Float[Array, "*N H W 1"],
        x: Float[Array, "*N H W {self.in_channels}"] = _checks.REQUIRED,
    ) -> tuple[Float[Array, "*N H W 1"], Float[Array, "*N H W {self.in_channels}"]]:
        check_call(self, x)
        self._check(x.shape)
        check_step(self, carry, x[..., :1])
        w = with_axes_before(self.w[...], x.ndim)
        return functional.neunorm_step(carry, x, w, k=self.k)

    def _check(self, shape: tuple[int, ...]) -> None:
        expected = self.height, self.width, self.in_channels
        if tuple(shape[-3:]) != expected:
            raise ValueError(
                f"NeuNorm(in_channels={self.in_channels}, height={self.height}, "
                f"width={self.width}) needs images with channels last, [N, "
                f"{', '.join(map(str, expected))}] a step, got {list(shape)}"
            )
