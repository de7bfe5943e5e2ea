"""Surrogates that let the gradient through in a window around the threshold."""

import dataclasses
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsnn import _checks
from jaxsnn.surrogate._surrogate import NonNegative, Positive, Surrogate


def _width(name: str, value: Any) -> float | None:
    return None if value is None else _checks.positive(name, value)


@dataclasses.dataclass(frozen=True)
class Rect(Surrogate):
    """The boxcar: derivative `alpha` where `|u| < width/2`, else 0; primal
    `alpha clip(u + width/2, 0, width)`.

    Without a `width` of its own it is `1/alpha`, so that the primal goes from 0 to 1 (Wu et al.
    2018, "Spatio-temporal backpropagation for training high-performance spiking neural networks",
    curve h1 with `a1 = 1/alpha`). `Rect()` is the boxcar of Bittar & Garner 2022 ("A surrogate
    gradient spiking baseline for speech command recognition"), whose code includes `u = 1/2`.

    Args:
        alpha: height of the window, positive.
        width: whole width of the window, positive; None is `1/alpha`.
        spiking: False runs the primal forward instead of the step.

    Raises:
        TypeError: `alpha` or `width` is not a number or `spiking` not a bool.
        ValueError: `alpha` or `width` is not positive and finite.

    Examples:
        >>> Rect(alpha=1.0).derivative(jnp.array([-0.6, -0.4, 0.4, 0.5]))
        Array([0., 1., 1., 0.], dtype=float32)
        >>> Rect(alpha=0.5, width=1.0).derivative(jnp.array([-0.6, -0.4, 0.4, 0.5]))
        Array([0. , 0.5, 0.5, 0. ], dtype=float32)
    """

    alpha: Positive = 1.0
    width: Annotated[float | None, _width] = None
    spiking: bool = True

    def primal(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        area = 1.0 if self.width is None else self.alpha * self.width
        outside = area * (u > 0).astype(u.dtype)
        return jnp.where(self._in_window(u), self.alpha * u + area / 2, outside)

    def derivative(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return self.alpha * self._in_window(u).astype(u.dtype)

    def _in_window(self, u: jax.Array) -> jax.Array:
        return jnp.abs(u) < (1 / self.alpha if self.width is None else self.width) / 2


@dataclasses.dataclass(frozen=True)
class PiecewiseQuadratic(Surrogate):
    """The triangle of area 1: derivative `max(0, alpha - alpha^2 |u|)`; primal
    `1/2 + alpha u - alpha^2 |u| u/2` where `|u| <= 1/alpha`, 0 below and 1 above.

    With `alpha=1` it is the triangle of Esser et al. 2016 ("Convolutional networks for fast,
    energy-efficient neuromorphic computing"); `Triangle` sets height and width one by one.

    Args:
        alpha: height of the triangle and the inverse of half its base, positive.
        spiking: False runs the primal forward instead of the step.

    Raises:
        TypeError: `alpha` is not a number or `spiking` not a bool.
        ValueError: `alpha` is not positive and finite.

    Examples:
        >>> PiecewiseQuadratic(alpha=1.0).derivative(jnp.array([-1.5, -0.5, 0.0, 0.5]))
        Array([0. , 0.5, 1. , 0.5], dtype=float32)
    """

    alpha: Positive = 1.0
    spiking: bool = True

    def primal(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return _half_triangle(self.alpha * u) + 0.5

    def derivative(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return self.alpha * jnp.maximum(1 - self.alpha * jnp.abs(u), 0)


@dataclasses.dataclass(frozen=True)
class Triangle(Surrogate):
    """The triangle of Bellec et al. 2018 ("Long short-term memory and learning-to-learn in
    networks of spiking neurons"): derivative `gamma max(0, 1 - |u|/width)`; primal
    `gamma u (1 - |u|/(2 width))` where `|u| <= width`, `-+gamma width/2` outside.

    Not in SpikingJelly, whose triangle, `PiecewiseQuadratic`, has no height of its own.

    Args:
        gamma: height, positive: dampens the gradient that goes back through many steps.
        width: distance from the threshold at which the derivative becomes 0, positive; the
            paper's is the threshold itself.
        spiking: False runs the primal forward instead of the step.

    Raises:
        TypeError: `gamma` or `width` is not a number or `spiking` not a bool.
        ValueError: `gamma` or `width` is not positive and finite.

    Examples:
        >>> Triangle(gamma=0.5, width=2.0).derivative(jnp.array([-1.0, 0.0, 2.0]))
        Array([0.25, 0.5 , 0.  ], dtype=float32)
    """

    gamma: Positive = 0.3
    width: Positive = 1.0
    spiking: bool = True

    def primal(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return self.gamma * self.width * _half_triangle(u / self.width)

    def derivative(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return self.gamma * jnp.maximum(1 - jnp.abs(u) / self.width, 0)


def _half_triangle(z: jax.Array) -> jax.Array:
    """The odd function whose derivative is `max(0, 1 - |z|)`, between -1/2 and 1/2."""
    inside = jnp.abs(z) <= 1
    z_inside = jnp.where(inside, z, 0)  # no overflow in the branch that is not taken
    return jnp.where(inside, z_inside * (1 - jnp.abs(z_inside) / 2), jnp.sign(z) / 2)


@dataclasses.dataclass(frozen=True)
class PiecewiseLeakyReLU(Surrogate):
    """A window that leaks: derivative `1/(2w)` where `|u| < w`, else `c`; primal `u/(2w) + 1/2`
    where `|u| <= w`, `c (u + w)` below and `c (u - w) + 1` above.

    With `c=0` it is `Rect(alpha=1/(2w))`. At `|u| = w` itself SpikingJelly's code, and this
    function, take `c` where SpikingJelly's documentation has `1/(2w)`.

    Args:
        w: half the width of the window, positive.
        c: slope outside of the window, not negative.
        spiking: False runs the primal forward instead of the step.

    Raises:
        TypeError: `w` or `c` is not a number or `spiking` not a bool.
        ValueError: `w` is not positive or `c` is negative, or one of them is not finite.

    Examples:
        >>> PiecewiseLeakyReLU(w=1.0, c=0.25).derivative(jnp.array([-2.0, 0.5, 1.0]))
        Array([0.25, 0.5 , 0.25], dtype=float32)
    """

    w: Positive = 1.0
    c: NonNegative = 0.01
    spiking: bool = True

    def primal(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        leak = jnp.where(u < 0, self.c * (u + self.w), self.c * (u - self.w) + 1)
        return jnp.where(jnp.abs(u) <= self.w, u / (2 * self.w) + 0.5, leak)

    def derivative(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.where(jnp.abs(u) < self.w, 0.5 / self.w, self.c).astype(u.dtype)
