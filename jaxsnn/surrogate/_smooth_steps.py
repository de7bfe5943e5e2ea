"""Surrogates whose primal is a smooth step from 0 to 1."""

import dataclasses
import math

import jax
import jax.numpy as jnp

from jaxsnn.surrogate._surrogate import Positive, Surrogate


@dataclasses.dataclass(frozen=True)
class Sigmoid(Surrogate):
    """The logistic function `sg(alpha u)`; derivative `alpha sg(alpha u) (1 - sg(alpha u))`.

    Args:
        alpha: steepness, positive; the derivative at 0 is `alpha / 4`.
        spiking: False runs the primal forward in place of the step.

    Raises:
        TypeError: `alpha` is not a number or `spiking` not a bool.
        ValueError: `alpha` is not positive and finite.

    Example:
        >>> Sigmoid(alpha=4.0)(jnp.array([-0.5, 0.0, 0.5]))
        Array([0., 1., 1.], dtype=float32)
    """

    alpha: Positive = 4.0
    spiking: bool = True

    def primal(self, u: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(self.alpha * u)

    def derivative(self, u: jax.Array) -> jax.Array:
        s = jax.nn.sigmoid(self.alpha * u)
        return self.alpha * s * (1 - s)


@dataclasses.dataclass(frozen=True)
class ATan(Surrogate):
    """The arc tangent `atan(pi/2 alpha u)/pi + 1/2` (Fang et al. 2021, "Incorporating learnable
    membrane time constant"); derivative `alpha/2 / (1 + (pi/2 alpha u)^2)`.

    Args:
        alpha: steepness, positive; the derivative at 0 is `alpha / 2`.
        spiking: False runs the primal forward in place of the step.

    Raises:
        TypeError: `alpha` is not a number or `spiking` not a bool.
        ValueError: `alpha` is not positive and finite.

    Example:
        >>> jax.grad(ATan(alpha=2.0))(jnp.float32(0))
        Array(1., dtype=float32)
    """

    alpha: Positive = 2.0
    spiking: bool = True

    def primal(self, u: jax.Array) -> jax.Array:
        return jnp.arctan(math.pi / 2 * self.alpha * u) / math.pi + 0.5

    def derivative(self, u: jax.Array) -> jax.Array:
        z = math.pi / 2 * self.alpha * u
        return self.alpha / 2 / (1 + z * z)
