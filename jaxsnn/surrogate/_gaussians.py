"""Surrogates whose derivative is a sum of Gaussians."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsnn.surrogate._surrogate import NonNegative, Positive, Surrogate


@dataclasses.dataclass(frozen=True)
class Gaussian(Surrogate):
    """The normal density, scaled: derivative `gamma N(u; 0, sigma)`, primal `gamma Phi(u / sigma)`
    with the normal distribution function `Phi`.

    The surrogate of the first adaptive recurrent networks of Yin, Corradi & Bohté 2020 ("Effective
    and efficient computation with multiple-timescale spiking recurrent neural networks"), whose
    constants are the defaults. With `gamma=1` it is `Erf(alpha=1 / (sqrt(2) sigma))`.

    Args:
        sigma: standard deviation, positive.
        gamma: integral of the derivative, positive; the derivative at 0 is
            `gamma / (sqrt(2 pi) sigma)`.
        spiking: False runs the primal forward instead of the step.

    Raises:
        TypeError: `sigma` or `gamma` is not a number or `spiking` not a bool.
        ValueError: `sigma` or `gamma` is not positive and finite.

    Examples:
        >>> jax.grad(Gaussian(sigma=0.5, gamma=0.5))(jnp.float32(0))
        Array(0.3989423, dtype=float32)
    """

    sigma: Positive = 0.5
    gamma: Positive = 0.5
    spiking: bool = True

    def primal(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return self.gamma * _cumulative(u, self.sigma)

    def derivative(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return self.gamma * _density(u, self.sigma)


@dataclasses.dataclass(frozen=True)
class MultiGaussian(Surrogate):
    """A Gaussian less two wide ones to either side (Yin, Corradi & Bohté 2021, "Accurate and
    efficient time-domain classification with adaptive spiking recurrent neural networks"): far
    from the threshold the derivative is negative.

        derivative  gamma ((1 + h) N(u; 0, sigma)
                           - h N(u; sigma, s sigma) - h N(u; -sigma, s sigma))

    and the primal is its integral, from 0 to `gamma (1 - h)`, a little beyond both in between.

    With the defaults, the paper's, the derivative is 0.439 at 0, crosses zero at `|u| = 1.272`
    and is -0.0159 at its lowest. `sigma` is in units of the potential: the paper's networks have
    thresholds of 0.01, so that practically every neuron is within the window.

    Args:
        h: height of the wide Gaussians relative to the narrow one, not negative.
        s: how many times as wide they are, positive.
        sigma: standard deviation of the narrow one, and how far off the centres of the wide ones
            are, positive.
        gamma: factor of the derivative, positive.
        spiking: False runs the primal forward instead of the step.

    Raises:
        TypeError: `h`, `s`, `sigma` or `gamma` is not a number or `spiking` not a bool.
        ValueError: `s`, `sigma` or `gamma` is not positive or `h` is negative, or one of them is
            not finite.

    Examples:
        >>> MultiGaussian().derivative(jnp.array([0.0, 1.272, 2.0])).round(3)
        Array([ 0.439,  0.   , -0.016], dtype=float32)
    """

    h: NonNegative = 0.15
    s: Positive = 6.0
    sigma: Positive = 0.5
    gamma: Positive = 0.5
    spiking: bool = True

    def primal(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        wide = self.s * self.sigma
        sides = _cumulative(u - self.sigma, wide) + _cumulative(u + self.sigma, wide)
        return self.gamma * ((1 + self.h) * _cumulative(u, self.sigma) - self.h * sides)

    def derivative(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        wide = self.s * self.sigma
        sides = _density(u - self.sigma, wide) + _density(u + self.sigma, wide)
        return self.gamma * ((1 + self.h) * _density(u, self.sigma) - self.h * sides)


@dataclasses.dataclass(frozen=True)
class DoubleGaussian(Surrogate):
    """A Gaussian less a wide one around the same centre, the surrogate of balanced
    resonate-and-fire neurons (Higuchi et al. 2024, "Balanced resonate-and-fire neurons").

        derivative  gamma ((1 + h) N(u; 0, sigma) - 2 h N(u; 0, s sigma))

    and the primal is its integral, from 0 to `gamma (1 - h)`. It is `MultiGaussian` with both wide
    Gaussians moved to the threshold: nearly the same curve, not the same numbers.

    Args:
        h: half the height of the wide Gaussian relative to the narrow one, not negative.
        s: how many times as wide it is, positive.
        sigma: standard deviation of the narrow one, positive.
        gamma: factor of the derivative, positive.
        spiking: False runs the primal forward instead of the step.

    Raises:
        TypeError: `h`, `s`, `sigma` or `gamma` is not a number or `spiking` not a bool.
        ValueError: `s`, `sigma` or `gamma` is not positive or `h` is negative, or one of them is
            not finite.

    Examples:
        >>> DoubleGaussian().derivative(jnp.array([0.0, 2.0])).round(3)
        Array([ 0.439, -0.016], dtype=float32)
    """

    h: NonNegative = 0.15
    s: Positive = 6.0
    sigma: Positive = 0.5
    gamma: Positive = 0.5
    spiking: bool = True

    def primal(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        wide = _cumulative(u, self.s * self.sigma)
        return self.gamma * ((1 + self.h) * _cumulative(u, self.sigma) - 2 * self.h * wide)

    def derivative(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        wide = _density(u, self.s * self.sigma)
        return self.gamma * ((1 + self.h) * _density(u, self.sigma) - 2 * self.h * wide)


def _density(u: jax.Array, sigma: float) -> jax.Array:
    """The normal density around 0 with the standard deviation `sigma`."""
    z = u / sigma
    return jnp.exp(-z * z / 2) / (math.sqrt(2 * math.pi) * sigma)


def _cumulative(u: jax.Array, sigma: float) -> jax.Array:
    """The integral of `_density` from minus infinity to `u`."""
    return jax.scipy.special.erfc(-u / (math.sqrt(2) * sigma)) / 2
