"""Surrogate gradients: a Heaviside step forward, a smooth derivative backward.

A spike is `H(u)` with `u = v - v_threshold` and `H(0) = 1`. Its derivative is zero almost
everywhere, so training replaces it by the derivative of a smooth function, the *primal*
(Neftci, Mostafa & Zenke 2019, "Surrogate gradient learning in spiking neural networks").
"""

import abc
import dataclasses
import functools
import math

import jax
import jax.numpy as jnp

from jaxsnn import _checks


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _spike(surrogate: "Surrogate", u: jax.Array) -> jax.Array:
    return (u >= 0).astype(u.dtype)


def _spike_forward(surrogate: "Surrogate", u: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _spike(surrogate, u), u


def _spike_backward(surrogate: "Surrogate", u: jax.Array, g: jax.Array) -> tuple[jax.Array]:
    return (g * surrogate.derivative(u),)


_spike.defvjp(_spike_forward, _spike_backward)


class Surrogate(abc.ABC):
    """A spike function with a surrogate derivative.

    Subclasses are frozen dataclasses, so that two with equal settings are one and the same to
    `jax.jit`, and define `primal` and `derivative`. `spiking` says which of the two sides is
    run forward: the Heaviside step (True) or the primal itself (False).
    """

    spiking: bool

    @abc.abstractmethod
    def primal(self, u: jax.Array) -> jax.Array:
        """The smooth function whose derivative stands in for that of the step."""

    @abc.abstractmethod
    def derivative(self, u: jax.Array) -> jax.Array:
        """The surrogate derivative, `d primal / du`."""

    def __call__(self, u: jax.Array) -> jax.Array:
        """Fires where `u >= 0`.

        Args:
            u: membrane potential less threshold, `v - v_threshold`, any shape, floating.

        Returns:
            Spikes, 0 or 1, in the shape and dtype of `u` (the primal if `spiking=False`).

        Raises:
            TypeError: `u` is not floating.
        """
        u = jnp.asarray(u)
        _checks.floating("u", u)
        return _spike(self, u) if self.spiking else self.primal(u)


@dataclasses.dataclass(frozen=True)
class Sigmoid(Surrogate):
    """The logistic function `sg(alpha u)`; derivative `alpha sg(alpha u) (1 - sg(alpha u))`.

    Args:
        alpha: steepness, positive.
        spiking: False runs the primal forward in place of the step.

    Raises:
        TypeError: `alpha` is not a number or `spiking` not a bool.
        ValueError: `alpha` is not positive and finite.

    Example:
        >>> Sigmoid(alpha=4.0)(jnp.array([-0.5, 0.0, 0.5]))
        Array([0., 1., 1.], dtype=float32)
    """

    alpha: float = 4.0
    spiking: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", _checks.positive("alpha", self.alpha))
        _checks.boolean("spiking", self.spiking)

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

    alpha: float = 2.0
    spiking: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", _checks.positive("alpha", self.alpha))
        _checks.boolean("spiking", self.spiking)

    def primal(self, u: jax.Array) -> jax.Array:
        return jnp.arctan(math.pi / 2 * self.alpha * u) / math.pi + 0.5

    def derivative(self, u: jax.Array) -> jax.Array:
        z = math.pi / 2 * self.alpha * u
        return self.alpha / 2 / (1 + z * z)
