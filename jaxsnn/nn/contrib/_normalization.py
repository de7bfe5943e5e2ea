"""Batch normalisations made for spiking networks."""

from dataclasses import KW_ONLY, InitVar
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxsnn._dtypes import state_dtype
from jaxsnn._ranks import with_axes_after
from jaxsnn.nn._fields import Fields, Size
from jaxsnn.nn._layer import Layer
from jaxsnn.nn._normalization import BatchNorm, _Normalization
from jaxsnn.nn._parallel import check_sequence
from jaxsnn.nn._run import Run


class ThresholdDependentBatchNorm(BatchNorm):
    """Batch normalisation to the scale of the threshold (tdBN).

    A `BatchNorm` whose `scale` starts at `alpha v_threshold`.

    Args:
        alpha: scale; 1, or `1/sqrt(branches)` where branches add up.
        v_threshold: firing threshold of the neurons after it.

    Source: Zheng et al. 2021, "Going deeper with directly-trained larger spiking neural networks".
    """

    printed = ("num_features", "alpha", "v_threshold", "epsilon", "momentum")

    _: KW_ONLY
    alpha: float = 1.0
    v_threshold: float = 1.0

    def _first_scale(self) -> float:
        return self.alpha * self.v_threshold


class TemporalEffectiveBatchNorm(Fields, Layer):
    """Batch normalisation over time and batch with a learned weight for each step (TEBN).

        y[t] = scale[t] BatchNorm(x)[t]

    Args:
        T: number of time steps.
        num_features: number of channels, the size of the last axis.
        epsilon: added to the variance.
        momentum: weight of the earlier batches in the running statistics, in `[0, 1]`.
        param_dtype: dtype of the parameters, and if wider than float32 of the running statistics.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument is out of range; when run, if the sequence has not `T` steps, or
            as `BatchNorm`.

    Source: Duan et al. 2022, "Temporal effective batch normalization in spiking neural networks".
    """

    T: Size
    num_features: InitVar[int]
    _: KW_ONLY
    epsilon: InitVar[float] = 1e-5
    momentum: InitVar[float] = 0.9
    param_dtype: InitVar[Any] = jnp.float32

    def __post_init__(
        self, num_features: int, epsilon: float, momentum: float, param_dtype: Any
    ) -> None:
        self.scale = nnx.Param(jnp.ones((self.T,), param_dtype))
        settings = {"epsilon": epsilon, "momentum": momentum, "param_dtype": param_dtype}
        self.norm = BatchNorm(num_features, **settings)

    def forward(
        self, xs: Float[Array, "{self.T} *N {self.norm.num_features}"], run: Run
    ) -> Float[Array, "{self.T} *N {self.norm.num_features}"]:
        check_sequence(self, self.T, xs, run)
        y = run._part("norm", self.norm, xs.astype(state_dtype(xs.dtype)))
        scale = with_axes_after(self.scale[...].astype(y.dtype).ravel(), y.ndim)
        return (y * scale).astype(xs.dtype)


class BatchNormThroughTime(_Normalization):
    """A batch normalisation for each time step (BNTT), without bias.

        y[t] = scale[t] (x[t] - mean[t]) / sqrt(var[t] + epsilon)

    Source: Kim and Panda 2021, "Revisiting batch normalization for training low-latency deep
    spiking neural networks from scratch".
    """

    T: Size
    num_features: Size

    def __post_init__(self, param_dtype: Any) -> None:
        super().__post_init__(param_dtype)
        self.scale = nnx.Param(jnp.ones(self._shape, param_dtype))

    @property
    def _shape(self) -> tuple[int, ...]:
        return self.T, self.num_features

    def forward(
        self, xs: Float[Array, "{self.T} *N {self.num_features}"], run: Run
    ) -> Float[Array, "{self.T} *N {self.num_features}"]:
        check_sequence(self, self.T, xs, run)
        y = self._normalize(xs, tuple(range(1, xs.ndim - 1)), run)
        shape = (self.T,) + (1,) * (y.ndim - 2) + (self.num_features,)
        return (y * self.scale[...].astype(y.dtype).reshape(shape)).astype(xs.dtype)
