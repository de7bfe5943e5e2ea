"""Surrogates whose derivative falls off as `1/|u|` or `1/u^2`, and whose primal is no 0-to-1 step.

Far from the threshold they learn where a Gaussian's gradient has vanished.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsnn.surrogate._surrogate import Positive, Surrogate, magnitude


@dataclasses.dataclass(frozen=True)
class SuperSpike(Surrogate):
    """The fast sigmoid of Zenke & Ganguli 2018 ("SuperSpike: Supervised learning in multilayer
    spiking neural networks") as SpikingJelly spells it: primal `alpha u/(1 + |u|)`, derivative
    `alpha/(1 + |u|)^2`.

    `alpha` scales the derivative; the paper, and most libraries under this name, set the width
    instead, which here is `FastSigmoid`. SpikingJelly has no primal and raises; this one goes
    through 0 at the threshold and lies between -alpha and alpha.

    Args:
        alpha: the derivative at 0, positive.
        spiking: False runs the primal forward instead of the step.

    Raises:
        TypeError: `alpha` is not a number or `spiking` not a bool.
        ValueError: `alpha` is not positive and finite.

    Examples:
        >>> jax.grad(SuperSpike(alpha=1.0))(jnp.float32(-1))
        Array(0.25, dtype=float32)
    """

    alpha: Positive = 1.0
    spiking: bool = True

    def primal(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return self.alpha * u / (1 + jnp.abs(u))

    def derivative(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return self.alpha / (1 + jnp.abs(u)) ** 2


@dataclasses.dataclass(frozen=True)
class FastSigmoid(Surrogate):
    """The fast sigmoid of Zenke & Ganguli 2018 ("SuperSpike: Supervised learning in multilayer
    spiking neural networks"): primal `u/(1 + slope |u|)`, derivative `1/(1 + slope |u|)^2`.

    snnTorch's `fast_sigmoid(slope)`, Norse's and spyx's SuperSpike with their `alpha` or `k`.
    SpikingJelly has it only with the height tied to the width (`SoftSign`) or with a fixed width
    (`SuperSpike`).

    Args:
        slope: the inverse of the width, positive; the derivative is 1 at 0 whatever the slope.
        spiking: False runs the primal forward instead of the step.

    Raises:
        TypeError: `slope` is not a number or `spiking` not a bool.
        ValueError: `slope` is not positive and finite.

    Examples:
        >>> jax.grad(FastSigmoid(slope=2.0))(jnp.float32(0.5))
        Array(0.25, dtype=float32)
    """

    slope: Positive = 25.0
    spiking: bool = True

    def primal(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return u / (1 + self.slope * jnp.abs(u))

    def derivative(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return 1 / (1 + self.slope * jnp.abs(u)) ** 2


@dataclasses.dataclass(frozen=True)
class NonzeroSignLogAbs(Surrogate):
    """A logarithm to either side: primal `sign(u) log(1 + alpha |u|)` with `sign(0) = 1`,
    without bounds; derivative `1/(1/alpha + |u|)`.

    Args:
        alpha: steepness, positive; the derivative at 0 is `alpha`.
        spiking: False runs the primal forward instead of the step.

    Raises:
        TypeError: `alpha` is not a number or `spiking` not a bool.
        ValueError: `alpha` is not positive and finite.

    Examples:
        >>> jax.grad(NonzeroSignLogAbs(alpha=1.0))(jnp.float32(-1))
        Array(0.5, dtype=float32)
    """

    alpha: Positive = 1.0
    spiking: bool = True

    def primal(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        half = jnp.log1p(self.alpha * magnitude(u))
        return jnp.where(u >= 0, half, -half)

    def derivative(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return 1 / (1 / self.alpha + jnp.abs(u))


@dataclasses.dataclass(frozen=True)
class FakeNumericalGradient(Surrogate):
    """The slope `1/|u|` of the chord that the step would have across the threshold, at most
    `alpha`: derivative `min(1/|u|, alpha)`; primal `alpha u` where `|u| <= 1/alpha` and
    `sign(u) (1 + log(alpha |u|))` outside.

    SpikingJelly has no primal, and its derivative at -0.0 is minus infinity; here it is `alpha`
    at both zeros.

    Args:
        alpha: greatest slope, positive.
        spiking: False runs the primal forward instead of the step.

    Raises:
        TypeError: `alpha` is not a number or `spiking` not a bool.
        ValueError: `alpha` is not positive and finite.

    Examples:
        >>> FakeNumericalGradient(alpha=0.5).derivative(jnp.array([-4.0, -0.0, 1.0]))
        Array([0.25, 0.5 , 0.5 ], dtype=float32)
    """

    alpha: Positive = 0.3
    spiking: bool = True

    def primal(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        z = self.alpha * u
        inside = jnp.abs(z) <= 1
        tail = jnp.sign(z) * (1 + jnp.log(jnp.where(inside, 1, jnp.abs(z))))
        return jnp.where(inside, z, tail)

    def derivative(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return 1 / jnp.maximum(jnp.abs(u), 1 / self.alpha)


@dataclasses.dataclass(frozen=True)
class S2NN(Surrogate):
    """A logistic function below the threshold and a logarithm above.

        primal      sg(alpha u)                             u < 0
                    beta log(1 + u + 1e-5) + 1/2            u >= 0
        derivative  alpha sg(alpha u) (1 - sg(alpha u))     u < 0
                    beta/(1 + u)                            u >= 0

    Suetake et al. 2022, "S3NN: Time step reduction of spiking surrogate gradients for training
    energy efficient single-step spiking neural networks" (S2NN in its first version).

    The 1e-5 and the 1/2 are those of SpikingJelly's code (its documentation has 1 for the
    latter), so that the primal's own slope above the threshold is smaller than the derivative by
    up to one part in 100,000. Unless `alpha = 4 beta` the derivative jumps at the threshold.

    Args:
        alpha: steepness below the threshold, positive.
        beta: slope just above the threshold, positive.
        spiking: False runs the primal forward instead of the step.

    Raises:
        TypeError: `alpha` or `beta` is not a number or `spiking` not a bool.
        ValueError: `alpha` or `beta` is not positive and finite.

    Examples:
        >>> S2NN(alpha=4.0, beta=1.0).derivative(jnp.array([0.0, 1.0]))
        Array([1. , 0.5], dtype=float32)
    """

    alpha: Positive = 4.0
    beta: Positive = 1.0
    spiking: bool = True

    def primal(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        above = jnp.where(u >= 0, u, 0)  # the logarithm is taken everywhere
        log = self.beta * jnp.log1p(above + 1e-5) + 0.5
        return jnp.where(u >= 0, log, jax.nn.sigmoid(self.alpha * u))

    def derivative(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        s = jax.nn.sigmoid(self.alpha * u)
        return jnp.where(u >= 0, self.beta / (1 + jnp.abs(u)), self.alpha * s * (1 - s))
