"""`Linear` and `Conv` with standardised weights."""

from collections.abc import Sequence
from typing import Any, final

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from jaxsnn import _checks
from jaxsnn._parameters import standardized
from jaxsnn.nn._layers import Conv, Linear


class WSLinear(Linear):
    """A `Linear` with standardised weights.

        W' = gain (W - mean) / sqrt(n var + epsilon)

    with mean and unbiased variance over the `n` weights of each output. Only `W'` multiplies the
    input; `W` is what is learned.

    Args:
        in_features: size of the input's last axis, at least 2.
        out_features: size of the output's last axis.
        gain: whether there is a learnable `gain` for each output, 1 at the start.
        epsilon: added to the variance.
        rngs: random streams; `params` is used.
        **kwargs: as for `Linear`.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: a size is out of range; when called on an input that does not fit.

    Source: Qiao et al. 2019, "Micro-batch training with batch-channel normalization and weight
    standardization"; with a gain: Brock et al. 2021, "Characterizing signal propagation to close
    the performance gap in unnormalized ResNets".
    """

    printed = (*Linear.printed, "epsilon")

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        gain: bool = True,
        epsilon: float = 1e-4,
        rngs: nnx.Rngs = _checks.REQUIRED,
        **kwargs: Any,
    ) -> None:
        super().__init__(in_features, out_features, rngs=rngs, **kwargs)
        _prepare(self, gain, epsilon)

    @final  # type: ignore[misc]  # as right for any leading axes as its parent's
    def __call__(
        self, inputs: Float[Array | np.ndarray, "*N {self.in_features}"], out_sharding: Any = None
    ) -> Float[Array, "*N {self.out_features}"]:
        return Linear.__call__(standardized(self), inputs, out_sharding)


class WSConv(Conv):
    """A `Conv` with standardised weights; the equation is that of `WSLinear`.

    Args:
        in_features: number of input channels.
        out_features: number of output channels.
        kernel_size: one size per axis of the window, e.g. `(3, 3)` for images.
        strides: e.g. `1` or `(2, 2)`.
        padding: e.g. `1` (on every side), `"SAME"` or `"VALID"`.
        gain: whether there is a learnable `gain` for each output channel, 1 at the start.
        epsilon: added to the variance.
        rngs: random streams; `params` is used.
        **kwargs: as for `Conv`.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: a size is out of range, or an output has a single weight; when called on an
            input that does not fit.
    """

    printed = (*Conv.printed, "epsilon")

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: Sequence[int],
        strides: int | Sequence[int] = 1,
        *,
        padding: Any = "SAME",
        gain: bool = True,
        epsilon: float = 1e-4,
        rngs: nnx.Rngs = _checks.REQUIRED,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            in_features, out_features, kernel_size, strides, padding=padding, rngs=rngs, **kwargs
        )
        _prepare(self, gain, epsilon)

    @final  # type: ignore[misc]  # as right for any leading axes as its parent's
    def __call__(
        self, inputs: Float[Array | np.ndarray, "*N {self.in_features}"], out_sharding: Any = None
    ) -> Float[Array, "*M {self.out_features}"]:
        return Conv.__call__(standardized(self), inputs, out_sharding)


def _prepare(layer: Any, gain: bool, epsilon: float) -> None:
    kernel = layer.kernel[...]
    weights = kernel.size // layer.out_features
    if weights < 2:
        raise ValueError(
            f"{type(layer).__name__} needs at least 2 weights for each output, whose variance it "
            f"takes, got a kernel of shape {kernel.shape}"
        )
    layer.epsilon = _checks.positive("epsilon", epsilon)
    has_gain = _checks.boolean("gain", gain)
    ones = jnp.ones((layer.out_features,), kernel.dtype)
    layer.gain = nnx.Param(ones) if has_gain else nnx.data(None)
