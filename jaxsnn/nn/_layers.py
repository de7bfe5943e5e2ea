"""Flax's `Linear` and `Conv` with torch's default initialisers.

torch draws weights and biases alike from `U(-1/sqrt(fan_in), 1/sqrt(fan_in))`; with Flax's
own defaults (narrower weights, biases of 0) an untrained spiking network barely fires.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, final

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from jaxsnn import _checks
from jaxsnn._convolution import conv_general_dilated
from jaxsnn._dot_general import dot_general
from jaxsnn._layout import is_shared_out
from jaxsnn._ranks import with_axes_before
from jaxsnn._repr import Printable


@functools.cache  # layers keep it, and what is made of equal layers is compiled once
def uniform(fan_in: int) -> Callable[..., jax.Array]:
    """An initialiser that draws from `U(-1/sqrt(fan_in), 1/sqrt(fan_in))`."""
    bound = 1 / math.sqrt(fan_in)

    def initializer(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        # Drawn as one row: the same numbers, and XLA compiles it up to four times faster.
        return jax.random.uniform(key, (math.prod(shape),), dtype, -bound, bound).reshape(shape)

    return initializer


def on_rows(layer: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """Runs a layer that acts on the last axis on `x` `[..., k]` as one matrix of rows.

    The gradient of the weights is then one plain matrix product, which XLA runs several times
    faster on a CPU than the same sum over more than one axis. Where the batch is shared out over
    devices the axes stay apart, so that each device computes its own rows.
    """
    if is_shared_out(x):
        return layer(x)
    rows = layer(x.reshape(-1, x.shape[-1]))
    return rows.reshape(*x.shape[:-1], rows.shape[-1])


def along_last(b: jax.Array, like: jax.Array) -> jax.Array:
    """`b` `[k]` with the rank and the dtype of `like` `[..., k]`."""
    return with_axes_before(b, like.ndim).astype(like.dtype)


def operands(layer: nnx.Linear, dtype: Any) -> tuple[jax.Array, jax.Array | None]:
    """Kernel and bias of a layer in the dtype of its product with inputs of `dtype`."""
    b = None if layer.bias is None else layer.bias[...]
    _, w, b = layer.promote_dtype((jnp.zeros((), dtype), layer.kernel[...], b), dtype=layer.dtype)
    return w, b


class Linear(Printable, nnx.Linear):
    """`y = x W + b` over the last axis; `flax.nnx.Linear` with torch's initialisers.

    Args:
        in_features: size of the input's last axis.
        out_features: size of the output's last axis.
        rngs: random streams; `params` is used.
        **kwargs: as for `flax.nnx.Linear`, e.g. `use_bias`, `dtype`, `param_dtype`.

    Raises:
        TypeError: a size is not an integer, or `rngs` are not random streams.
        ValueError: a size is below 1; when called on an input that does not fit.
    """

    printed: ClassVar[tuple[str, ...]] = ("in_features", "out_features", "use_bias")

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        rngs: nnx.Rngs = _checks.REQUIRED,
        **kwargs: Any,
    ) -> None:
        in_features = _checks.size("in_features", in_features)
        out_features = _checks.size("out_features", out_features)
        initial: dict[str, Any] = {
            "kernel_init": uniform(in_features),
            "bias_init": uniform(in_features),
            "dot_general": dot_general,
        }
        super().__init__(
            in_features, out_features, rngs=_checks.streams(rngs), **(initial | kwargs)
        )

    @final
    def __call__(
        self, inputs: Float[Array | np.ndarray, "*N {self.in_features}"], out_sharding: Any = None
    ) -> Float[Array, "*N {self.out_features}"]:
        inputs = jnp.asarray(inputs)
        if inputs.ndim == 0 or inputs.shape[-1] != self.in_features:
            raise ValueError(
                f"Linear(in_features={self.in_features}) needs inputs of shape "
                f"[..., {self.in_features}], got {list(inputs.shape)}"
            )
        if out_sharding is not None:
            return super().__call__(inputs, out_sharding)
        return on_rows(super().__call__, inputs)


class Conv(Printable, nnx.Conv):
    """Convolution, channels last `[N, H, W, C]`; `flax.nnx.Conv` with torch's initialisers.

    On a CPU its gradients are fast inside loops, e.g. in `training.train_epoch` or in a recurrent
    container, where those of `flax.nnx.Conv` are 5 to 50 times slower. Forward mode (`jax.jvp`) in
    a loop on a CPU is slow.

    Args:
        in_features: number of input channels.
        out_features: number of output channels.
        kernel_size: one size per axis of the window, e.g. `(3, 3)` for images, `(3,)` for a
            convolution along one axis.
        strides: e.g. `1` or `(2, 2)`.
        padding: e.g. `1` (on every side), `"SAME"` or `"VALID"`.
        rngs: random streams; `params` is used.
        **kwargs: as for `flax.nnx.Conv`, e.g. `use_bias`, `feature_group_count`, `dtype`.

    Raises:
        TypeError: a size is not an integer, `kernel_size` is not a sequence, or `rngs` are not
            random streams.
        ValueError: a size is below 1; when called on an input that does not fit.
    """

    printed: ClassVar[tuple[str, ...]] = (
        *("in_features", "out_features", "kernel_size", "strides", "padding", "use_bias"),
    )

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: Sequence[int],
        strides: int | Sequence[int] = 1,
        *,
        padding: Any = "SAME",
        rngs: nnx.Rngs = _checks.REQUIRED,
        **kwargs: Any,
    ) -> None:
        in_features = _checks.size("in_features", in_features)
        out_features = _checks.size("out_features", out_features)
        if not isinstance(kernel_size, Sequence):
            raise TypeError(
                "kernel_size must have one size per axis of the window, e.g. (3, 3) for images or "
                f"(3,) for a convolution along one axis, got {kernel_size!r}"
            )
        sides = tuple(kernel_size)
        taps = math.prod(_checks.size("kernel_size", side) for side in sides)
        fan_in = in_features // kwargs.get("feature_group_count", 1) * taps
        initial: dict[str, Any] = {
            "kernel_init": uniform(fan_in),
            "bias_init": uniform(fan_in),
            "conv_general_dilated": conv_general_dilated,
        }
        super().__init__(
            in_features,
            out_features,
            kernel_size,
            strides,
            padding=padding,
            rngs=_checks.streams(rngs),
            **(initial | kwargs),
        )

    @final
    def __call__(
        self, inputs: Float[Array | np.ndarray, "*N {self.in_features}"], out_sharding: Any = None
    ) -> Float[Array, "*M {self.out_features}"]:
        inputs = jnp.asarray(inputs)
        axes = len(self.kernel_size) + 1
        if inputs.ndim < axes or inputs.shape[-1] != self.in_features:
            hint = ""
            if inputs.ndim >= axes and inputs.shape[-axes] == self.in_features:
                hint = f"; channels are first here, jnp.moveaxis(xs, {-axes}, -1) puts them last"
            elif inputs.shape[-1:] == (self.in_features,):
                hint = "; over time xs is [T, N, ...], so axes of time or batch are missing"
            elif self.in_features == 1 and inputs.ndim >= axes - 1:
                hint = "; xs[..., None] adds the missing axis of channels"
            raise ValueError(
                f"Conv(in_features={self.in_features}) needs inputs of at least {axes} axes with "
                f"channels last, [..., {self.in_features}], got {list(inputs.shape)}{hint}"
            )
        return super().__call__(inputs, out_sharding)
