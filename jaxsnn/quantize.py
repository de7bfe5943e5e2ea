"""Quantisers with straight-through gradients, for weights and activations of few bits."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsnn import _checks


@jax.custom_jvp
def straight_through(
    x: Float[Array, "*shape"], values: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """`values`, with the gradient of `x` (Bengio, Leonard & Courville 2013, "Estimating or
    propagating gradients through stochastic neurons").

    Args:
        x: what was quantised, floating; the gradient goes to it as if it had been handed on.
        values: what it became, in the shape and dtype of `x`; no gradient goes to it.

    Returns:
        `values`.

    Examples:
        >>> signs = lambda x: straight_through(x, jnp.sign(x))
        >>> jax.value_and_grad(signs)(jnp.float32(-0.5))
        (Array(-1., dtype=float32), Array(1., dtype=float32))
    """
    return values


@straight_through.defjvp
def _straight_through_jvp(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    return primals[1], tangents[0]


def round(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Rounds to integers, half to even; the gradient is 1.

    Args:
        x: any shape, floating.

    Returns:
        In the shape and dtype of `x`.

    Examples:
        >>> jax.value_and_grad(round)(jnp.float32(1.7))
        (Array(2., dtype=float32), Array(1., dtype=float32))
    """
    return straight_through(x, jnp.round(x))


def ceil(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Rounds up to integers; the gradient is 1.

    Args:
        x: any shape, floating.

    Returns:
        In the shape and dtype of `x`.
    """
    return straight_through(x, jnp.ceil(x))


def floor(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Rounds down to integers; the gradient is 1.

    Args:
        x: any shape, floating.

    Returns:
        In the shape and dtype of `x`.
    """
    return straight_through(x, jnp.floor(x))


def clamp(x: Float[Array, "*shape"], min_value: float, max_value: float) -> Float[Array, "*shape"]:
    """Clips to `[min_value, max_value]`; the gradient is 1 there, both ends included, 0 outside.

    `jnp.clip` has the same values, but half the gradient at the ends.

    Args:
        x: any shape, floating.
        min_value: the smallest value.
        max_value: the largest value.

    Returns:
        In the shape and dtype of `x`.

    Raises:
        TypeError: a bound is not a number.
        ValueError: `min_value` is greater than `max_value`, or one of them is not finite.
    """
    low, high = _checks.real("min_value", min_value), _checks.real("max_value", max_value)
    if low > high:
        raise ValueError(f"min_value must be at most max_value={max_value!r}, got {min_value!r}")
    return jnp.where(x < low, low, jnp.where(x > high, high, x))


def step_quantize(x: Float[Array, "*shape"], step: float = 1.0) -> Float[Array, "*shape"]:
    """Rounds to multiples of `step`, half to even; the gradient is 1.

        out = step round(x / step)

    Args:
        x: any shape, floating.
        step: distance of the levels, > 0.

    Returns:
        In the shape and dtype of `x`.

    Raises:
        TypeError: `step` is not a number.
        ValueError: `step` is not greater than 0.
    """
    step = _checks.positive("step", step)
    return straight_through(x, jnp.round(x / step) * step)


def k_bit_quantize(x: Float[Array, "*shape"], k: int) -> Float[Array, "*shape"]:
    """Rounds to the levels of `k` bits in [0, 1], half to even; the gradient is 1 (Zhou et al.
    2016, "DoReFa-Net: training low bitwidth convolutional neural networks with low bitwidth
    gradients").

        out = round((2^k - 1) x) / (2^k - 1)

    Args:
        x: any shape, floating, as a rule in [0, 1]: what is outside is not clipped.
        k: number of bits.

    Returns:
        In the shape and dtype of `x`.

    Raises:
        TypeError: `k` is not an integer.
        ValueError: `k` is below 1.
    """
    levels = 2.0 ** _checks.size("k", k) - 1
    return straight_through(x, jnp.round(x * levels) / levels)


def clamp_by_linear(x: Float[Array, "*shape"], eps: float = 1e-5) -> Float[Array, "*shape"]:
    """Maps an array to [0, 1) by its smallest and its largest value.

        out = (x - min(x)) / (max(x) - min(x) + eps)

    The gradient is that of the equation, through minimum and maximum too.

    Args:
        x: any shape, floating.
        eps: keeps an array of equal values from a division by 0; > 0.

    Returns:
        In the shape and dtype of `x`.

    Raises:
        TypeError: `eps` is not a number.
        ValueError: `eps` is not greater than 0.
    """
    smallest, eps = jnp.min(x), _checks.positive("eps", eps)
    return (x - smallest) / (jnp.max(x) - smallest + eps)
