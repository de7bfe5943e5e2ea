"""Values as the times of spikes."""

import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsnn import _checks
from jaxsnn.encoding._interval import within


def latency(
    x: Float[Array | np.ndarray, "*shape"], T: int, *, function: Literal["linear", "log"] = "linear"
) -> Float[Array, "{T} *shape"]:
    """One spike per element, the sooner the larger the value.

        t = round((T - 1) (1 - x))                              linear
        t = round(T - 1 - ln(alpha x + 1)),  alpha = e^(T-1) - 1    log

    rounded half to even. A value of 0 fires too, in the last step; for none multiply the code by
    `x > 0`. `periodic` repeats it. No gradient flows to `x`.

    Args:
        x: values in [0, 1], any shape, as a rule `[N, ...]`. Inside `jax.jit` they cannot be
            checked and are clipped.
        T: number of time steps.
        function: "linear" or "log", from value to time.

    Returns:
        Spikes, `[T, *x.shape]`, in the dtype of `x`.

    Raises:
        TypeError: `x` is not floating, or `T` not an integer.
        ValueError: a value is out of [0, 1], `T` is below 1, or `function` unknown.

    Examples:
        >>> latency(jnp.array([0.0, 0.5, 1.0]), 5).argmax(axis=0)  # times of the spikes
        Array([4, 2, 0], dtype=int32)
    """
    x, last = jnp.asarray(x), _checks.size("T", T) - 1
    value = within(x, 0.0, 1.0, "scale it, e.g. images / 255")
    if function not in ("linear", "log"):
        raise ValueError(f'function must be "linear" or "log", got {function!r}')
    if function == "linear" or last == 0:
        time = last * (1 - value)
    else:
        # ln(alpha x + 1) from ln(alpha), since alpha itself overflows for some 90 steps.
        ln_alpha = last + math.log1p(-math.exp(-last))
        ln_x = jnp.log(jnp.where(value > 0, value, 1))
        sooner = jnp.logaddexp(ln_x + ln_alpha, jnp.zeros_like(value))
        time = last - jnp.where(value > 0, sooner, 0)
    return jax.nn.one_hot(jnp.round(time).astype(jnp.int32), last + 1, dtype=x.dtype, axis=0)


def weighted_phase(x: Float[Array | np.ndarray, "*shape"], K: int) -> Float[Array, "{K} *shape"]:
    """The binary digits of a value, one a step, the largest first (Kim et al. 2018, "Deep neural
    networks with weighted spikes").

        x = sum_t out[t] 2^-(t+1),  t = 0 ... K - 1

    A spike in step t counts `2^-(t+1)`. `periodic` repeats the digits for more than one phase.
    No gradient flows to `x`.

    Args:
        x: values in [0, 1 - 2^-K], any shape, as a rule `[N, ...]`; what K digits cannot hold is
            cut off. Inside `jax.jit` they cannot be checked and are clipped.
        K: number of digits and time steps.

    Returns:
        Spikes, `[K, *x.shape]`, in the dtype of `x`.

    Raises:
        TypeError: `x` is not floating, or `K` not an integer.
        ValueError: a value is out of [0, 1 - 2^-K], or `K` is below 1.

    Examples:
        >>> weighted_phase(jnp.array([0.625]), 3)[:, 0]  # 1/2 + 1/8
        Array([1., 0., 1.], dtype=float32)
    """
    x, K = jnp.asarray(x), _checks.size("K", K)
    largest = 1 - 2.0**-K
    value = within(x, 0.0, largest, f"K={K} digits hold no more: multiply what is in [0, 1] by it")
    places = jnp.asarray(2.0 ** np.arange(1, K + 1), value.dtype)
    shifted = jnp.floor(value[None] * places.reshape(-1, *[1] * x.ndim))
    return (shifted - 2 * jnp.floor(shifted / 2)).astype(x.dtype)


def delta(xs: Float[Array | np.ndarray, "T *shape"], threshold: float) -> Float[Array, "T *shape"]:
    """Spikes where a signal changes: 1 where it rises, -1 where it falls by the threshold.

        d[t] = xs[t] - xs[t-1],  d[0] = 0
        out[t] = [d[t] >= threshold] - [d[t] <= -threshold]

    `jax.nn.relu` of it keeps the rises only. No gradient flows to `xs`.

    Args:
        xs: a signal, time first, `[T, ...]`.
        threshold: the change from one step to the next that counts, > 0, in the unit of `xs`.

    Returns:
        Signed spikes, in the shape and dtype of `xs`.

    Raises:
        TypeError: `xs` is not floating, or `threshold` not a number.
        ValueError: `xs` has no time steps, or `threshold` is not greater than 0.

    Examples:
        >>> delta(jnp.array([0.0, 0.5, 0.6, 0.0]), 0.25)
        Array([ 0.,  1.,  0., -1.], dtype=float32)
    """
    xs, threshold = jnp.asarray(xs), _checks.positive("threshold", threshold)
    _checks.floating("xs", xs)
    if xs.ndim == 0 or not len(xs):
        raise ValueError(f"xs must be a signal [T, ...] with time first, got {list(xs.shape)}")
    change = jnp.diff(xs, axis=0, prepend=xs[:1])
    return (change >= threshold).astype(xs.dtype) - (change <= -threshold).astype(xs.dtype)
