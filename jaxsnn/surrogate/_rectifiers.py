"""Surrogates that pass the gradient through as a rectifier or an identity does."""

import dataclasses
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsnn import _checks
from jaxsnn.surrogate._surrogate import NonNegative, Positive, Surrogate


@dataclasses.dataclass(frozen=True)
class DeterministicPass(Surrogate):
    """The straight-through estimator: primal `u`, derivative 1 everywhere (Bengio, Leonard &
    Courville 2013, "Estimating or propagating gradients through stochastic neurons").

    `Rect` is the straight-through estimator in a window.

    Args:
        spiking: False runs the primal forward instead of the step.

    Raises:
        TypeError: `spiking` is not a bool.

    Examples:
        >>> jax.grad(DeterministicPass())(jnp.float32(-3))
        Array(1., dtype=float32)
    """

    spiking: bool = True

    def primal(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return u

    def derivative(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.ones_like(u)


@dataclasses.dataclass(frozen=True)
class LeakyKReLU(Surrogate):
    """A leaky rectifier: primal `k u` where `u >= 0`, `leak u` below; derivative `k` or `leak`.

    Args:
        leak: slope below the threshold, not negative.
        k: slope from the threshold on, positive.
        spiking: False runs the primal forward instead of the step.

    Raises:
        TypeError: `leak` or `k` is not a number or `spiking` not a bool.
        ValueError: `leak` is negative or `k` not positive, or one of them is not finite.

    Examples:
        >>> LeakyKReLU(leak=0.25, k=0.5).derivative(jnp.array([-2.0, 0.0, 2.0]))
        Array([0.25, 0.5 , 0.5 ], dtype=float32)
    """

    leak: NonNegative = 0.0
    k: Positive = 1.0
    spiking: bool = True

    def primal(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.where(u >= 0, self.k * u, self.leak * u)

    def derivative(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.where(u >= 0, self.k, self.leak).astype(u.dtype)


@dataclasses.dataclass(frozen=True)
class LogTailedReLU(Surrogate):
    """A rectifier with a logarithmic tail (Cai et al. 2017, "Deep learning with low precision by
    half-wave Gaussian quantization"): primal `alpha u` up to 0, `u` up to 1, `log(u) + 1` above;
    derivative `alpha`, 1, `1/u`.

    The derivative just below and at the threshold is `alpha`: with the default of 0 a neuron
    that is exactly at its threshold fires and does not learn.

    Args:
        alpha: slope up to the threshold, not negative.
        spiking: False runs the primal forward instead of the step.

    Raises:
        TypeError: `alpha` is not a number or `spiking` not a bool.
        ValueError: `alpha` is negative or not finite.

    Examples:
        >>> LogTailedReLU(alpha=0.25).derivative(jnp.array([-1.0, 0.5, 2.0]))
        Array([0.25, 1.  , 0.5 ], dtype=float32)
    """

    alpha: NonNegative = 0.0
    spiking: bool = True

    def primal(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        tail = jnp.log(jnp.where(u > 1, u, 1)) + 1
        return jnp.where(u > 1, tail, jnp.where(u > 0, u, self.alpha * u))

    def derivative(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.where(u > 0, 1 / jnp.maximum(u, 1), self.alpha)


def _window(name: str, value: Any) -> tuple[float, float] | None:
    if value is None:
        return None
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise TypeError(f"{name} must be a pair (low, high) or None, got {value!r}")
    low, high = (_checks.real(f"{name}[{k}]", value[k]) for k in range(2))
    if low > high:
        raise ValueError(f"{name} must be (low, high) with low <= high, got {value!r}")
    return low, high


@dataclasses.dataclass(frozen=True)
class MultiLevelSpikeCount(Surrogate):
    """Several spikes at once, those of I-LIF (Luo et al. 2024, "Integer-valued training and
    spike-driven inference spiking neural network"): `round(clip(u, 0, max_spike_count))` forward,
    halves to the even number; derivative 1 where `low <= u <= high`, else 0; primal
    `clip(u, 0, max_spike_count)`.

    The only surrogate here that is no step at `u = 0`: its `u` is a potential over its
    threshold, `h / v_threshold`, which `jaxsnn.nn.contrib.ILIFNode` passes, not the difference
    `h - v_threshold` of the other neurons, and spikes are counts. Where `u` is not a number,
    neither is the count.

    Args:
        max_spike_count: greatest number of spikes in one step, at least 1.
        grad_window: `(low, high)`, where the gradient passes; None is `(0, max_spike_count)`.
        spiking: False runs the primal forward instead of the rounding.

    Raises:
        TypeError: `max_spike_count` is not an integer, `grad_window` not a pair of numbers or
            `spiking` not a bool.
        ValueError: `max_spike_count` is less than 1 or `grad_window` the wrong way round.

    Examples:
        >>> MultiLevelSpikeCount(4)(jnp.array([-1.0, 0.5, 0.6, 1.5, 9.0]))
        Array([0., 0., 1., 2., 4.], dtype=float32)
    """

    max_spike_count: Annotated[int, _checks.size]
    grad_window: Annotated[tuple[float, float] | None, _window] = None
    spiking: bool = True

    def primal(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jax.lax.clamp(jnp.zeros_like(u), u, jnp.full_like(u, self.max_spike_count))

    def derivative(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        low, high = self.grad_window or (0.0, float(self.max_spike_count))
        return ((low <= u) & (u <= high)).astype(u.dtype)

    def spikes(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.round(self.primal(u))
