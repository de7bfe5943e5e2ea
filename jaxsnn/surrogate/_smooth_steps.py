"""Surrogates whose primal is a smooth step from 0 to 1."""

import dataclasses
import math
import numbers
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsnn import _checks
from jaxsnn.surrogate._surrogate import Positive, Surrogate, magnitude, step_with_tail


@dataclasses.dataclass(frozen=True)
class Sigmoid(Surrogate):
    """The logistic function `sg(alpha u)`; derivative `alpha sg(alpha u) (1 - sg(alpha u))`.

    Args:
        alpha: steepness, positive; the derivative at 0 is `alpha / 4`.
        spiking: False runs the primal forward instead of the step.

    Raises:
        TypeError: `alpha` is not a number or `spiking` not a bool.
        ValueError: `alpha` is not positive and finite.

    Examples:
        >>> Sigmoid(alpha=4.0)(jnp.array([-0.5, 0.0, 0.5]))
        Array([0., 1., 1.], dtype=float32)
    """

    alpha: Positive = 4.0
    spiking: bool = True

    def primal(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jax.nn.sigmoid(self.alpha * u)

    def derivative(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        s = jax.nn.sigmoid(self.alpha * u)
        return self.alpha * s * (1 - s)


@dataclasses.dataclass(frozen=True)
class ATan(Surrogate):
    """The arc tangent `atan(pi/2 alpha u)/pi + 1/2` (Fang et al. 2021, "Incorporating learnable
    membrane time constant"); derivative `alpha/2 / (1 + (pi/2 alpha u)^2)`.

    Args:
        alpha: steepness, positive; the derivative at 0 is `alpha / 2`.
        spiking: False runs the primal forward instead of the step.

    Raises:
        TypeError: `alpha` is not a number or `spiking` not a bool.
        ValueError: `alpha` is not positive and finite.

    Examples:
        >>> jax.grad(ATan(alpha=2.0))(jnp.float32(0))
        Array(1., dtype=float32)
    """

    alpha: Positive = 2.0
    spiking: bool = True

    def primal(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.arctan(math.pi / 2 * self.alpha * u) / math.pi + 0.5

    def derivative(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        z = math.pi / 2 * self.alpha * u
        return self.alpha / 2 / (1 + z * z)


@dataclasses.dataclass(frozen=True)
class Erf(Surrogate):
    """The Gaussian error function `erfc(-alpha u)/2`; derivative the Gaussian
    `alpha/sqrt(pi) exp(-(alpha u)^2)` (Wu et al. 2018, "Spatio-temporal backpropagation for
    training high-performance spiking neural networks", curve h4 with `a4 = 1/(2 alpha^2)`).

    Args:
        alpha: steepness, positive: a standard deviation of `1/(sqrt(2) alpha)`; the derivative
            at 0 is `alpha / sqrt(pi)`.
        spiking: False runs the primal forward instead of the step.

    Raises:
        TypeError: `alpha` is not a number or `spiking` not a bool.
        ValueError: `alpha` is not positive and finite.

    Examples:
        >>> Erf(alpha=2.0, spiking=False)(jnp.float32(0))
        Array(0.5, dtype=float32)
    """

    alpha: Positive = 2.0
    spiking: bool = True

    def primal(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jax.scipy.special.erfc(-self.alpha * u) / 2

    def derivative(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        z = self.alpha * u
        return self.alpha / math.sqrt(math.pi) * jnp.exp(-z * z)


@dataclasses.dataclass(frozen=True)
class SoftSign(Surrogate):
    """The soft sign `(z/(1 + |z|) + 1)/2`, `z = alpha u`; derivative `alpha/2 / (1 + |z|)^2`.

    The shape of Zenke & Ganguli's fast sigmoid with `alpha` for both its width and its height;
    `FastSigmoid` sets the width alone and `SuperSpike` the height alone.

    Args:
        alpha: steepness, positive; the derivative at 0 is `alpha / 2`.
        spiking: False runs the primal forward instead of the step.

    Raises:
        TypeError: `alpha` is not a number or `spiking` not a bool.
        ValueError: `alpha` is not positive and finite.

    Examples:
        >>> jax.grad(SoftSign(alpha=2.0))(jnp.float32(0.5))
        Array(0.25, dtype=float32)
    """

    alpha: Positive = 2.0
    spiking: bool = True

    def primal(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return step_with_tail(u, 0.5 / (1 + self.alpha * magnitude(u)))

    def derivative(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return self.alpha / 2 / (1 + self.alpha * jnp.abs(u)) ** 2


@dataclasses.dataclass(frozen=True)
class PiecewiseExp(Surrogate):
    """Two exponentials: `gamma exp(alpha u)/2` below 0, `gamma (1 - exp(-alpha u)/2)` above;
    derivative `gamma alpha/2 exp(-alpha |u|)`, the shape of the escape rate in SLAYER (Shrestha &
    Orchard 2018, "SLAYER: Spike layer error reassignment in time").

    SpikingJelly has it without `gamma`. SE-adLIF networks (Baronig et al. 2025, "Advancing
    spatio-temporal processing through adaptation in spiking neural networks") use it as
    `SLAYER(alpha=5, c=0.4)`, which is `PiecewiseExp(alpha=5.0, gamma=0.4)`.

    Args:
        alpha: steepness, positive; the derivative at 0 is `gamma alpha / 2`.
        gamma: integral of the derivative, positive.
        spiking: False runs the primal forward instead of the step.

    Raises:
        TypeError: `alpha` or `gamma` is not a number or `spiking` not a bool.
        ValueError: `alpha` or `gamma` is not positive and finite.

    Examples:
        >>> jax.grad(PiecewiseExp(alpha=1.0))(jnp.float32(0))
        Array(0.5, dtype=float32)
    """

    alpha: Positive = 1.0
    gamma: Positive = 1.0
    spiking: bool = True

    def primal(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return self.gamma * step_with_tail(u, 0.5 * jnp.exp(-self.alpha * magnitude(u)))

    def derivative(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return self.gamma * self.alpha / 2 * jnp.exp(-self.alpha * jnp.abs(u))


def _above_one(name: str, value: Any) -> float:
    number = _checks.real(name, value)
    if number <= 1:
        raise ValueError(
            f"{name} must be greater than 1 (the derivative falls off as |u|^-{name}, and its "
            f"width is {name} - 1), got {value!r}"
        )
    return number


@dataclasses.dataclass(frozen=True)
class QPseudoSpike(Surrogate):
    """The q-pseudo-spike (Herranz-Celotti & Rouat 2022, "Surrogate gradients design"):
    derivative `z^-alpha` with `z = 1 + 2|u|/(alpha - 1)`, which is 1 at 0 and covers an area of
    1; primal `z^(1 - alpha)/2` below 0 and `1 - z^(1 - alpha)/2` above.

    Args:
        alpha: exponent of the tails, greater than 1: 2 is that of `SoftSign`, and the larger,
            the nearer to an exponential. (SpikingJelly takes any number, and divides by zero
            at 1.)
        spiking: False runs the primal forward instead of the step.

    Raises:
        TypeError: `alpha` is not a number or `spiking` not a bool.
        ValueError: `alpha` is not greater than 1 and finite.

    Examples:
        >>> jax.grad(QPseudoSpike(alpha=2.0))(jnp.float32(0.5))
        Array(0.25, dtype=float32)
    """

    alpha: Annotated[float, _above_one] = 2.0
    spiking: bool = True

    def primal(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        z = 1 + 2 / (self.alpha - 1) * magnitude(u)
        return step_with_tail(u, 0.5 * z ** (1 - self.alpha))

    def derivative(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return (1 + 2 / (self.alpha - 1) * jnp.abs(u)) ** -self.alpha


def _at_least_two(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an integer, got {value!r} ({type(value).__name__})")
    if value < 2:
        raise ValueError(
            f"{name} must be at least 2 (the series has {name} - 1 terms), got {value!r}"
        )
    return int(value)


@dataclasses.dataclass(frozen=True)
class SquarewaveFourierSeries(Surrogate):
    """The first terms of the Fourier series of a square wave of period `P = T_period`.

        primal      1/2 + 2/pi sum_k sin(2 pi k u / P)/k
        derivative  4/P        sum_k cos(2 pi k u / P)      k = 1, 3, ..., 2n - 3

    A step from about 0 to about 1 near the threshold only: the wave falls again at `P/2`, where
    the derivative is negative, and so on. At an infinite `u` it is not a number.

    Args:
        n: one more than the number of terms, at least 2: SpikingJelly counts so, and its `n=1`
            is an empty series that never learns.
        T_period: period, in units of the membrane potential, positive.
        spiking: False runs the primal forward instead of the step.

    Raises:
        TypeError: `n` is not an integer, `T_period` not a number or `spiking` not a bool.
        ValueError: `n` is less than 2 or `T_period` not positive and finite.

    Examples:
        >>> jax.grad(SquarewaveFourierSeries(n=3, T_period=8.0))(jnp.float32(0))
        Array(1., dtype=float32)
    """

    n: Annotated[int, _at_least_two] = 2
    T_period: Positive = 8.0
    spiking: bool = True

    def primal(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        terms = [jnp.sin(2 * math.pi * k / self.T_period * u) / k for k in self._harmonics]
        return 0.5 + 2 / math.pi * sum(terms[1:], terms[0])

    def derivative(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        terms = [jnp.cos(2 * math.pi * k / self.T_period * u) for k in self._harmonics]
        return 4 / self.T_period * sum(terms[1:], terms[0])

    @property
    def _harmonics(self) -> range:
        return range(1, 2 * self.n - 2, 2)
