"""Batch normalisation of sequences; its statistics are taken over time and batch at once."""

import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from jaxsnn import _checks
from jaxsnn.nn._cell import state_dtype
from jaxsnn.nn._modal_layer import ModalLayer, SequenceLayer
from jaxsnn.nn._mode import NOTHING, Batch, Mode, Seen, over
from jaxsnn.nn._statistics import Statistics


class _Normalization(Statistics, ModalLayer):
    """Abstract: what all batch normalisations share.

    Batch and running statistics are kept in float32 or wider, with the shape `_shape`.
    """

    printed: ClassVar[tuple[str, ...]] = ("num_features", "momentum", "epsilon")
    trains_apart = True

    def __init__(
        self, shape: tuple[int, ...], *, momentum: float, epsilon: float, param_dtype: Any
    ) -> None:
        self.num_features = shape[-1]
        self.momentum = _checks.probability("momentum", momentum)
        self.epsilon = _checks.positive("epsilon", epsilon)
        dtype = state_dtype(param_dtype)  # in bfloat16 a momentum near 1 would change nothing
        self.mean = nnx.BatchStat(jnp.zeros(shape, dtype))
        self.var = nnx.BatchStat(jnp.ones(shape, dtype))

    def _check(self, x: jax.Array) -> None:
        name = type(self).__name__
        _checks.floating(f"the input of {name}", x)
        if x.ndim == 0 or x.shape[-1] != self.num_features:
            raise ValueError(
                f"{name}(num_features={self.num_features}) needs inputs with channels last, "
                f"[N, ..., {self.num_features}], got {list(x.shape)}"
            )

    def _batch(self, x: jax.Array, axes: tuple[int, ...], mask: jax.Array | None) -> Batch:
        """Mean and biased variance of `x` over `axes`, and how many numbers they are made of."""
        if mask is None:
            size = math.prod(x.shape[axis] for axis in axes)
            if size < 2:
                raise ValueError(
                    f"{type(self).__name__} needs more than one number per channel when training, "
                    f"got an input of shape {list(x.shape)}; train on more sequences at once"
                )
            mean = jnp.mean(x, axes, keepdims=True)
            var = jnp.mean(jnp.square(x - mean), axes, keepdims=True)
            return Batch(mean, var, jnp.full_like(mean, size))
        counted = jnp.broadcast_to(over(mask, x), x.shape)
        numbers = jnp.sum(counted, axes, keepdims=True, dtype=x.dtype)

        def over_counted(a: jax.Array) -> jax.Array:
            return jnp.sum(a, axes, keepdims=True, where=counted) / jnp.maximum(numbers, 1)

        mean = over_counted(x)
        return Batch(mean, over_counted(jnp.square(x - mean)), numbers)

    def _normalize(self, x: jax.Array, axes: tuple[int, ...], mode: Mode) -> tuple[jax.Array, Seen]:
        """`(x - mean) / sqrt(var + epsilon)`: of the batch when training, else the running ones."""
        self._check(x)
        wide = x.astype(state_dtype(x.dtype))
        if not mode.training:
            shape = self.mean.shape
            shape = (*shape[:-1], *(1,) * (x.ndim - len(shape)), shape[-1])
            mean, var = (
                jax.lax.stop_gradient(running[...]).astype(wide.dtype).reshape(shape)
                for running in (self.mean, self.var)
            )
            return (wide - mean) * jax.lax.rsqrt(var + self.epsilon), NOTHING
        batch = self._batch(wide, axes, mode.mask)
        y = (wide - batch.mean) * jax.lax.rsqrt(batch.var + self.epsilon)
        unbiased = batch.var * batch.numbers / jnp.maximum(batch.numbers - 1, 1)
        shape = self.mean.shape
        told = Batch(*(a.reshape(shape) for a in (batch.mean, unbiased, batch.numbers)))
        return y, mode.see_batch(told)


class BatchNorm(_Normalization):
    """Batch normalisation over time and batch, channels last.

        y = scale (x - mean) / sqrt(var + epsilon) + bias

    When training (`unroll(..., key=key)`) mean and variance are those of each channel over
    all steps, examples and positions at once; inside a recurrent container, which sees one step
    at a time, over those of the step. Otherwise they are the running ones,

        running = momentum running + (1 - momentum) batch

    with the unbiased variance, which `unroll` returns and which never change in place. Arguments,
    parameters (`scale`, `bias`) and variables (`mean`, `var`) have the names of
    `flax.nnx.BatchNorm`, whose running variance is the biased one.

    Args:
        num_features: number of channels, the size of the last axis.
        momentum: weight of the old value in the running statistics, in `[0, 1]`. One minus torch's
            `momentum`: the default is torch's default of 0.1, where Flax's is 0.99.
        epsilon: added to the variance.
        param_dtype: dtype of `scale` and `bias`, and if wider than float32 of the running
            statistics.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument is out of range; when run, if the input does not fit, or training
            on a single number per channel.

    Source: Ioffe and Szegedy 2015, "Batch normalization: accelerating deep network training by
    reducing internal covariate shift".
    """

    def __init__(
        self,
        num_features: int,
        *,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        param_dtype: Any = jnp.float32,
    ) -> None:
        shape = (_checks.size("num_features", num_features),)
        super().__init__(shape, momentum=momentum, epsilon=epsilon, param_dtype=param_dtype)
        self.scale = nnx.Param(jnp.full(shape, self._first_scale(), param_dtype))
        self.bias = nnx.Param(jnp.zeros(shape, param_dtype))

    def _first_scale(self) -> float:
        return 1.0

    def __call__(
        self, x: Float[Array | np.ndarray, "*N {self.num_features}"]
    ) -> Float[Array, "*N {self.num_features}"]:
        """Normalises by the running statistics; `[N, ..., channels]` or a sequence of them."""
        return self._one_step(jnp.asarray(x), Mode())[0]

    def _one_step(self, x: jax.Array, mode: Mode) -> tuple[jax.Array, Seen]:
        y, seen = self._normalize(x, tuple(range(x.ndim - 1)), mode)
        scale, bias = (
            p[...].astype(y.dtype).reshape((1,) * (y.ndim - 1) + (-1,))
            for p in (self.scale, self.bias)
        )
        return (y * scale + bias).astype(x.dtype), seen

    def _all_steps(self, xs: jax.Array, mode: Mode) -> tuple[jax.Array, Seen]:
        if mode.training and not mode.whole:
            raise ValueError(
                f"{type(self).__name__} takes its statistics over all time steps at once when "
                "training, so unroll cannot run it with checkpoint_every"
            )
        return self._one_step(xs, mode)


class ThresholdDependentBatchNorm(BatchNorm):
    """Batch normalisation to the scale of the threshold (tdBN).

    A `BatchNorm` whose `scale` starts at `alpha v_threshold`.

    Args:
        num_features: number of channels, the size of the last axis.
        alpha: scale; 1, or `1/sqrt(branches)` where branches add up.
        v_threshold: firing threshold of the neurons behind.
        momentum: weight of the old value in the running statistics, in `[0, 1]`.
        epsilon: added to the variance.
        param_dtype: dtype of `scale` and `bias`, and if wider than float32 of the running
            statistics.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument is out of range; when run, as `BatchNorm`.

    Source: Zheng et al. 2021, "Going deeper with directly-trained larger spiking neural networks".
    """

    printed = ("num_features", "alpha", "v_threshold", "momentum", "epsilon")

    def __init__(
        self,
        num_features: int,
        *,
        alpha: float = 1.0,
        v_threshold: float = 1.0,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        param_dtype: Any = jnp.float32,
    ) -> None:
        self.alpha = _checks.real("alpha", alpha)
        self.v_threshold = _checks.real("v_threshold", v_threshold)
        super().__init__(num_features, momentum=momentum, epsilon=epsilon, param_dtype=param_dtype)

    def _first_scale(self) -> float:
        return self.alpha * self.v_threshold


class TemporalEffectiveBatchNorm(SequenceLayer):
    """Batch normalisation over time and batch with a learned weight for each step (TEBN).

        y[t] = scale[t] BatchNorm(x)[t]

    Args:
        T: number of time steps.
        num_features: number of channels, the size of the last axis.
        momentum: weight of the old value in the running statistics, in `[0, 1]`.
        epsilon: added to the variance.
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
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        param_dtype: Any = jnp.float32,
    ) -> None:
        self.T = _checks.size("T", T)
        self.scale = nnx.Param(jnp.ones((T,), param_dtype))
        self.norm = BatchNorm(
            num_features, momentum=momentum, epsilon=epsilon, param_dtype=param_dtype
        )

    def __call__(
        self, xs: Float[Array | np.ndarray, "{self.T} *N {self.norm.num_features}"]
    ) -> Float[Array, "{self.T} *N {self.norm.num_features}"]:
        return self._all_steps(jnp.asarray(xs), Mode())[0]

    def _all_steps(self, xs: jax.Array, mode: Mode) -> tuple[jax.Array, Seen]:
        self._refuse_parts(mode)
        _checks.floating(f"the input of {type(self).__name__}", xs)
        _check_steps(self, xs)
        y, seen = self.norm._all_steps(xs.astype(state_dtype(xs.dtype)), mode.at("norm"))
        scale = self.scale[...].astype(y.dtype).reshape((-1,) + (1,) * (y.ndim - 1))
        return (y * scale).astype(xs.dtype), seen


class BatchNormThroughTime(_Normalization, SequenceLayer):
    """A batch normalisation for each time step (BNTT), without bias.

        y[t] = scale[t] (x[t] - mean[t]) / sqrt(var[t] + epsilon)

    Args:
        T: number of time steps.
        num_features: number of channels, the size of the last axis.
        momentum: weight of the old value in the running statistics, in `[0, 1]`.
        epsilon: added to the variance.
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
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        param_dtype: Any = jnp.float32,
    ) -> None:
        self.T = _checks.size("T", T)
        shape = (self.T, _checks.size("num_features", num_features))
        super().__init__(shape, momentum=momentum, epsilon=epsilon, param_dtype=param_dtype)
        self.scale = nnx.Param(jnp.ones(shape, param_dtype))

    def __call__(
        self, xs: Float[Array | np.ndarray, "{self.T} *N {self.num_features}"]
    ) -> Float[Array, "{self.T} *N {self.num_features}"]:
        return self._all_steps(jnp.asarray(xs), Mode())[0]

    def _all_steps(self, xs: jax.Array, mode: Mode) -> tuple[jax.Array, Seen]:
        self._refuse_parts(mode)
        _check_steps(self, xs)
        y, seen = self._normalize(xs, tuple(range(1, xs.ndim - 1)), mode)
        shape = (self.T,) + (1,) * (y.ndim - 2) + (self.num_features,)
        return (y * self.scale[...].astype(y.dtype).reshape(shape)).astype(xs.dtype), seen

    _one_step = SequenceLayer._one_step


def _check_steps(layer: Any, xs: jax.Array) -> None:
    if xs.shape[0] != layer.T:
        raise ValueError(
            f"{type(layer).__name__}(T={layer.T}) needs sequences of {layer.T} steps, got "
            f"{xs.shape[0]}, in xs of shape {list(xs.shape)}"
        )
