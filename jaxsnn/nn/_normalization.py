"""Batch normalisation of sequences; its statistics are taken over time and batch at once."""

import math
from dataclasses import KW_ONLY, InitVar
from typing import TYPE_CHECKING, Annotated, Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxsnn import _checks, _layout
from jaxsnn._dtypes import state_dtype
from jaxsnn._masks import over
from jaxsnn.nn._fields import Fields, Size
from jaxsnn.nn._layer import TrainsApart
from jaxsnn.nn._layers import along_last
from jaxsnn.nn._run import Batch, Run


class _Normalization(Fields, TrainsApart):
    """Abstract base of all batch normalisations.

    Batch and running statistics are kept in float32 or wider.

    Args:
        T: number of time steps.
        num_features: number of channels, the size of the last axis.
        epsilon: added to the variance.
        momentum: weight of the earlier batches in the running statistics, in `[0, 1]`. (Flax's
            convention; torch's is one minus it.)
        param_dtype: dtype of the parameters, and if wider than float32 of the running statistics.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument is out of range; when run, if the input does not fit, or in training
            on a single number per channel.
    """

    if TYPE_CHECKING:
        num_features: int
    _: KW_ONLY
    epsilon: Annotated[float, _checks.positive] = 1e-5
    momentum: Annotated[float, _checks.probability] = 0.9
    param_dtype: InitVar[Any] = jnp.float32

    def __post_init__(self, param_dtype: Any) -> None:
        dtype = state_dtype(param_dtype)  # in bfloat16 a momentum near 1 would change nothing
        self.mean = nnx.BatchStat(jnp.zeros(self._shape, dtype))
        self.var = nnx.BatchStat(jnp.ones(self._shape, dtype))

    @property
    def _shape(self) -> tuple[int, ...]:
        return (self.num_features,)

    def _check(self, x: jax.Array) -> None:
        name = type(self).__name__
        _checks.floating(f"the input of {name}", x)
        if x.ndim == 0 or x.shape[-1] != self.num_features:
            raise ValueError(
                f"{name}(num_features={self.num_features}) needs inputs with channels last, "
                f"[N, ..., {self.num_features}], got {list(x.shape)}"
            )

    def _batch(self, x: jax.Array, axes: tuple[int, ...], run: Run) -> Batch:
        """Mean and biased variance of `x` over `axes`, and the number of elements."""
        devices = 1 if run.axis_name is None else jax.lax.axis_size(run.axis_name)
        if run.mask is None:
            size = math.prod(x.shape[axis] for axis in axes)
            if size * devices < 2:
                raise ValueError(
                    f"{type(self).__name__} needs more than one number per channel in training, "
                    f"got an input of shape {list(x.shape)}; train on more sequences together"
                )
            mean = jnp.mean(x, axes, keepdims=True)
            var = jnp.mean(jnp.square(x - mean), axes, keepdims=True)
            return _over_devices(Batch(mean, var, jnp.full_like(mean, size)), run.axis_name)
        counted = jnp.broadcast_to(over(run.mask, x), x.shape)
        numbers = jnp.sum(counted, axes, keepdims=True, dtype=x.dtype)

        def over_counted(a: jax.Array) -> jax.Array:
            return jnp.sum(a, axes, keepdims=True, where=counted) / jnp.maximum(numbers, 1)

        mean = over_counted(x)
        batch = Batch(mean, over_counted(jnp.square(x - mean)), numbers)
        return _over_devices(batch, run.axis_name)

    def _normalize(self, x: jax.Array, axes: tuple[int, ...], run: Run) -> jax.Array:
        """`(x - mean) / sqrt(var + epsilon)`: of the batch in training, else the running ones."""
        self._check(x)
        wide = x.astype(state_dtype(x.dtype))
        shape = self.mean.shape
        if not run.training:
            spread = (*shape[:-1], *(1,) * (x.ndim - len(shape)), shape[-1])
            mean, var = (
                jax.lax.stop_gradient(running[...]).astype(wide.dtype).reshape(spread)
                for running in (self.mean, self.var)
            )
            return (wide - mean) * jax.lax.rsqrt(var + self.epsilon)
        batch = self._batch(wide, axes, run)
        unbiased = batch.var * batch.numbers / jnp.maximum(batch.numbers - 1, 1)
        seen = batch.mean, unbiased, batch.numbers
        run._see_batch(Batch(*(a.reshape(shape) for a in seen)))
        return (wide - batch.mean) * jax.lax.rsqrt(batch.var + self.epsilon)

    def _after(self, before: Any, batches: Batch) -> tuple[jax.Array, jax.Array]:
        """The running mean and variance after more batches, `[k, *statistic]`.

        running = momentum running + (1 - momentum) batch
        """

        def update(running: Any, batch: Batch) -> tuple[Any, None]:
            # What a mask leaves may be a single number, which has no variance, or nothing.
            share = jnp.where(batch.numbers > 1, 1 - self.momentum, 0.0).astype(running[0].dtype)
            return tuple(
                (1 - share) * old + share * now.astype(old.dtype)
                for old, now in zip(running, (batch.mean, batch.var), strict=True)
            ), None

        return _layout.scan(update, before, jax.lax.stop_gradient(batches))[0]


def _over_devices(batch: Batch, axis_name: str | None) -> Batch:
    """The statistics of the whole batch from those of each device's part, in one message."""
    if axis_name is None:
        return batch
    devices = jnp.arange(jax.lax.axis_size(axis_name)).reshape(-1, *(1,) * batch.mean.ndim)
    here = devices == jax.lax.axis_index(axis_name)
    means, variances, numbers = jax.lax.psum(
        jnp.where(here, jnp.stack(batch)[:, None], 0), axis_name
    )
    total = jnp.sum(numbers, 0)
    share = numbers / jnp.maximum(total, 1)
    mean = jnp.sum(share * means, 0)
    return Batch(mean, jnp.sum(share * (variances + jnp.square(means - mean)), 0), total)


class BatchNorm(_Normalization):
    """Batch normalisation over time and batch, channels last.

        y = scale (x - mean) / sqrt(var + epsilon) + bias

    In training (`unroll(..., key=key)`) mean and variance are computed for each channel over
    all steps, examples and positions together; inside a recurrent container, which sees one step
    at a time, over those of the step. In inference they are the running ones,

        running = momentum running + (1 - momentum) batch

    with the unbiased variance. `unroll` returns a module with the new ones; they never change in
    place.

    Source: Ioffe and Szegedy 2015, "Batch normalization: accelerating deep network training by
    reducing internal covariate shift".
    """

    num_features: Size

    def __post_init__(self, param_dtype: Any) -> None:
        super().__post_init__(param_dtype)
        self.scale = nnx.Param(jnp.full(self._shape, self._first_scale(), param_dtype))
        self.bias = nnx.Param(jnp.zeros(self._shape, param_dtype))

    def _first_scale(self) -> float:
        return 1.0

    def forward(
        self, x: Float[Array, "*N {self.num_features}"], run: Run
    ) -> Float[Array, "*N {self.num_features}"]:
        if run.training and run.steps and not run._whole:
            raise ValueError(
                f"{type(self).__name__} takes its statistics over all time steps together in "
                "training, so unroll cannot run it with checkpoint_every"
            )
        y = self._normalize(x, tuple(range(x.ndim - 1)), run)
        scale, bias = along_last(self.scale[...], y), along_last(self.bias[...], y)
        return (y * scale + bias).astype(x.dtype)
