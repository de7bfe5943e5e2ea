"""Attention that weighs steps, channels and positions of real-valued currents."""

from dataclasses import KW_ONLY, InitVar
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxsnn import _checks
from jaxsnn._dtypes import state_dtype
from jaxsnn._repr import Printable
from jaxsnn._ties import largest
from jaxsnn.nn._fields import Fields, Size
from jaxsnn.nn._layer import Layer
from jaxsnn.nn._layers import Conv, Linear
from jaxsnn.nn._run import Run


class AxisWeights(Printable, nnx.Module):
    """A weight in (0, 1) for each entry of one axis, from the mean and the maximum of all others.

    weights = sigmoid(f(mean) + f(max)),  f(z) = W2 relu(W1 z)
    """

    def __init__(self, name: str, size: int, reduction: int, param_dtype: Any, rngs: nnx.Rngs):
        if reduction > size:
            raise ValueError(
                f"the reduction of {name}={size} must be at most {size}, got {reduction}; "
                f"{size} is divided by it"
            )
        hidden, kwargs = size // reduction, {"use_bias": False, "param_dtype": param_dtype}
        self.reduce = Linear(size, hidden, rngs=rngs, **kwargs)
        self.expand = Linear(hidden, size, rngs=rngs, **kwargs)

    def __call__(self, xs: jax.Array, axis: int) -> jax.Array:
        """The weights of the entries of `axis`, for each example, broadcasting to `xs`."""
        others = tuple(k for k in range(xs.ndim) if k not in (1, axis))
        summaries = (jnp.mean(xs, others), _largest_in_torch_order(xs, others))
        z = sum(self._mlp(a.T if axis == 0 else a) for a in summaries)
        weights = jax.nn.sigmoid(z)
        weights = weights.T if axis == 0 else weights
        return jnp.expand_dims(weights, others)

    def _mlp(self, z: jax.Array) -> jax.Array:
        return self.expand(jax.nn.relu(self.reduce(z)))


def _largest_in_torch_order(xs: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """The maximum of `xs` `[T, N, ..., C]` over some axes.

    Its gradient goes to the first of equals in torch's order of the axes, `[T, N, C, ...]`.
    """
    last = xs.ndim - 1
    return largest(xs, tuple(sorted(axes, key=lambda k: 1.5 if k == last else k)))


class TemporalWiseAttention(Fields, Layer):
    """Weighs the time steps of each example.

        y[t] = a[t] x[t],  a = sigmoid(f(mean) + f(max)),  f(z) = W2 relu(W1 z)

    with mean and maximum over all of an example at a step, `[N, T]`. It stands before a neuron.

    Args:
        T: number of time steps.
        reduction: `f` has `T // reduction` hidden units.
        param_dtype: dtype of the parameters.
        rngs: random streams; `params` is used.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: a size is below 1 or `reduction` above `T`; when run, if the sequence has not
            `T` steps, or no features.

    Source: Yao et al. 2021, "Temporal-wise attention spiking neural networks for event streams
    classification".
    """

    T: Size
    reduction: Size = 16
    _: KW_ONLY
    param_dtype: InitVar[Any] = jnp.float32
    rngs: InitVar[nnx.Rngs] = _checks.REQUIRED

    def __post_init__(self, param_dtype: Any, rngs: nnx.Rngs) -> None:
        self.weights = AxisWeights("T", self.T, self.reduction, param_dtype, rngs)

    def forward(
        self, xs: Float[Array, "{self.T} N *shape"], run: Run
    ) -> Float[Array, "{self.T} N *shape"]:
        run.require_whole_sequence(self)
        if xs.ndim < 3 or xs.shape[0] != self.T:
            raise ValueError(
                f"TemporalWiseAttention(T={self.T}) needs sequences [{self.T}, N, ...], got "
                f"{list(xs.shape)}"
            )
        wide = xs.astype(state_dtype(xs.dtype))
        return (wide * self.weights(wide, 0).astype(wide.dtype)).astype(xs.dtype)


class MultiDimensionalAttention(Fields, Layer):
    """Weighs time steps, then channels, then positions, of images with channels last.

        y = relu(a_position a_channel a_time x)

    The weights of steps and channels are those of `TemporalWiseAttention`, on either axis; those
    of the positions a convolution of mean and maximum over steps and channels. Each stage sees
    the output of the one before.

    Args:
        T: number of time steps.
        C: number of channels.
        reduction_t: as the `reduction` of `TemporalWiseAttention`.
        reduction_c: the same for the channels.
        kernel_size: side of the convolution over the positions.
        param_dtype: dtype of the parameters.
        rngs: random streams; `params` is used.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: a size is below 1 or a reduction above what it reduces; when run, if the input
            is not `[T, N, H, W, C]`.

    Source: Yao et al. 2023, "Attention spiking neural networks".
    """

    T: Size
    C: Size
    reduction_t: Size = 16
    reduction_c: Size = 16
    kernel_size: Size = 3
    _: KW_ONLY
    param_dtype: InitVar[Any] = jnp.float32
    rngs: InitVar[nnx.Rngs] = _checks.REQUIRED

    def __post_init__(self, param_dtype: Any, rngs: nnx.Rngs) -> None:
        self.of_time = AxisWeights("T", self.T, self.reduction_t, param_dtype, rngs)
        self.of_channels = AxisWeights("C", self.C, self.reduction_c, param_dtype, rngs)
        sides, settings = (self.kernel_size,) * 2, {"param_dtype": param_dtype, "rngs": rngs}
        self.of_positions = Conv(2, 1, sides, use_bias=False, **settings)

    def forward(
        self, xs: Float[Array, "{self.T} N H W {self.C}"], run: Run
    ) -> Float[Array, "{self.T} N H W {self.C}"]:
        run.require_whole_sequence(self)
        if xs.ndim != 5 or xs.shape[0] != self.T or xs.shape[-1] != self.C:
            raise ValueError(
                f"MultiDimensionalAttention(T={self.T}, C={self.C}) needs images with channels "
                f"last, [{self.T}, N, H, W, {self.C}], got {list(xs.shape)}"
            )
        y = xs.astype(state_dtype(xs.dtype))
        y *= self.of_time(y, 0).astype(y.dtype)
        y *= self.of_channels(y, 4).astype(y.dtype)
        summary = jnp.stack([jnp.mean(y, (0, 4)), _largest_in_torch_order(y, (0, 4))], -1)
        y *= jax.nn.sigmoid(self.of_positions(summary))[None].astype(y.dtype)
        return jax.nn.relu(y).astype(xs.dtype)
