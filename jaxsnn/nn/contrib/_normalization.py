"""Batch normalisations made for spiking networks."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxsnn import _checks
from jaxsnn._dtypes import state_dtype
from jaxsnn.nn._layer import Layer
from jaxsnn.nn._normalization import BatchNorm, _Normalization
from jaxsnn.nn._parallel import check_length
from jaxsnn.nn._run import Run


class ThresholdDependentBatchNorm(BatchNorm):
    """Batch normalisation to the scale of the threshold (tdBN).

    A `BatchNorm` whose `scale` starts at `alpha v_threshold`.

    Args:
        num_features: number of channels, the size of the last axis.
        alpha: scale; 1, or `1/sqrt(branches)` where branches add up.
        v_threshold: firing threshold of the neurons after it.
        epsilon: added to the variance.
        momentum: weight of the earlier batches in the running statistics, in `[0, 1]`.
        param_dtype: dtype of `scale` and `bias`, and if wider than float32 of the running
            statistics.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument is out of range; when run, as `BatchNorm`.

    Source: Zheng et al. 2021, "Going deeper with directly-trained larger spiking neural networks".
    """

    printed = ("num_features", "alpha", "v_threshold", "epsilon", "momentum")

    def __init__(
        self,
        num_features: int,
        *,
        alpha: float = 1.0,
        v_threshold: float = 1.0,
        epsilon: float = 1e-5,
        momentum: float = 0.9,
        param_dtype: Any = jnp.float32,
    ) -> None:
        self.alpha = _checks.real("alpha", alpha)
        self.v_threshold = _checks.real("v_threshold", v_threshold)
        super().__init__(num_features, epsilon=epsilon, momentum=momentum, param_dtype=param_dtype)

    def _first_scale(self) -> float:
        return self.alpha * self.v_threshold


class TemporalEffectiveBatchNorm(Layer):
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

    printed = ("T",)

    def __init__(
        self,
        T: int,
        num_features: int,
        *,
        epsilon: float = 1e-5,
        momentum: float = 0.9,
        param_dtype: Any = jnp.float32,
    ) -> None:
        self.T = _checks.size("T", T)
        self.scale = nnx.Param(jnp.ones((T,), param_dtype))
        self.norm = BatchNorm(
            num_features, epsilon=epsilon, momentum=momentum, param_dtype=param_dtype
        )

    def forward(
        self, xs: Float[Array, "{self.T} *N {self.norm.num_features}"], run: Run
    ) -> Float[Array, "{self.T} *N {self.norm.num_features}"]:
        run.require_whole_sequence(self)
        _checks.floating(f"the input of {type(self).__name__}", xs)
        check_length(self, self.T, xs)
        y = run._part("norm", self.norm, xs.astype(state_dtype(xs.dtype)))
        scale = self.scale[...].astype(y.dtype).reshape((-1,) + (1,) * (y.ndim - 1))
        return (y * scale).astype(xs.dtype)


class BatchNormThroughTime(_Normalization):
    """A batch normalisation for each time step (BNTT), without bias.

        y[t] = scale[t] (x[t] - mean[t]) / sqrt(var[t] + epsilon)

    Args:
        T: number of time steps.
        num_features: number of channels, the size of the last axis.
        epsilon: added to the variance.
        momentum: weight of the earlier batches in the running statistics, in `[0, 1]`.
        param_dtype: dtype of `scale`, and if wider than float32 of the running statistics.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument is out of range; when run, if the sequence has not `T` steps, or
            as `BatchNorm`.

    Source: Kim and Panda 2021, "Revisiting batch normalization for training low-latency deep
    spiking neural networks from scratch".
    """

    printed = ("T", *_Normalization.printed)

    def __init__(
        self,
        T: int,
        num_features: int,
        *,
        epsilon: float = 1e-5,
        momentum: float = 0.9,
        param_dtype: Any = jnp.float32,
    ) -> None:
        self.T = _checks.size("T", T)
        shape = (self.T, _checks.size("num_features", num_features))
        super().__init__(shape, epsilon=epsilon, momentum=momentum, param_dtype=param_dtype)
        self.scale = nnx.Param(jnp.ones(shape, param_dtype))

    def forward(
        self, xs: Float[Array, "{self.T} *N {self.num_features}"], run: Run
    ) -> Float[Array, "{self.T} *N {self.num_features}"]:
        run.require_whole_sequence(self)
        check_length(self, self.T, xs)
        y = self._normalize(xs, tuple(range(1, xs.ndim - 1)), run)
        shape = (self.T,) + (1,) * (y.ndim - 2) + (self.num_features,)
        return (y * self.scale[...].astype(y.dtype).reshape(shape)).astype(xs.dtype)
