"""Layers without state that NIR has and `jaxsnn.nn` has not."""

from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from jaxsnn import _checks
from jaxsnn._repr import Printable
from jaxsnn.interop.nir._settings import Setting, beside, setting
from jaxsnn.nn import AvgPool


class Scale(Printable, nnx.Module):
    """Multiplies each element by its own number: `y = scale x`.

    Args:
        scale: one number for each element of a time step's input without its batch axis,
            channels last; becomes a parameter.
        param_dtype: dtype of the parameter.

    Raises:
        ValueError: when called, if the input does not end in the shape of `scale`.

    Examples:
        >>> Scale([2.0, 3.0])(jnp.ones((1, 2)))
        Array([[2., 3.]], dtype=float32)
    """

    def __init__(self, scale: Any, *, param_dtype: Any = jnp.float32) -> None:
        self.scale = nnx.Param(jnp.array(scale, param_dtype))  # a copy, whatever `scale` is

    def __call__(self, x: Float[Array | np.ndarray, "*shape"]) -> Float[Array, "*shape"]:
        x = jnp.asarray(x)
        scale = self.scale[...]
        if x.shape[x.ndim - scale.ndim :] != scale.shape:
            raise ValueError(
                f"Scale of shape {list(scale.shape)} needs inputs that end in this shape, got "
                f"{list(x.shape)}"
            )
        return x * jnp.broadcast_to(scale.astype(x.dtype), x.shape)


class Threshold(Printable, nnx.Module):
    """Spikes without a memory: `y = H(x - threshold)`.

    Args:
        threshold: a number, or one for each element of a time step's input without its batch
            axis, channels last. Not learned.
        surrogate_function: spike function of `x - threshold`, e.g. `jaxsnn.surrogate.ATan()`.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: a number is not finite; when called, if the input has another shape.

    Examples:
        >>> Threshold(0.5, surrogate_function=jaxsnn.surrogate.ATan())(jnp.array([0.4, 0.6]))
        Array([0., 1.], dtype=float32)
    """

    printed = ("threshold", "surrogate_function")

    def __init__(self, threshold: Any, *, surrogate_function: Any) -> None:
        self.threshold: Setting = setting("threshold", threshold)
        self.surrogate_function = _checks.function("surrogate_function", surrogate_function)

    def __call__(self, x: Float[Array | np.ndarray, "*shape"]) -> Float[Array, "*shape"]:
        x = jnp.asarray(x)
        _checks.floating("the input x of Threshold", x)
        spikes: jax.Array = self.surrogate_function(x - beside(self.threshold, x, "threshold"))
        return spikes


class SumPool(AvgPool):
    """The sum of each window, channels last `[N, H, W, C]`; arguments and errors are those of
    `jaxsnn.nn.AvgPool`.

    Examples:
        >>> SumPool((2, 2))(jnp.ones((1, 4, 4, 1)))[0, ..., 0]
        Array([[4., 4.],
               [4., 4.]], dtype=float32)
    """

    @final  # type: ignore[misc]  # as right for any leading axes as its parent's
    def __call__(self, x: Float[Array | np.ndarray, "*N C"]) -> Float[Array, "*M C"]:
        return self._sums(x)
