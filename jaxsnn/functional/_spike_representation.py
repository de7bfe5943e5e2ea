"""Neurons that are trained by their mean output, the "spike representation": one number for the
whole sequence, however the spikes lie in it.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsnn import _layout
from jaxsnn._ranks import with_axes_after


def dsr_if(
    xs: Float[Array, "T *shape"],
    v_threshold: Float[Array, ""],
    *,
    alpha: float,
    v_threshold_grad_scaling: float = 1.0,
) -> Float[Array, "T *shape"]:
    """All time steps of the IF neuron of differentiation on spike representation.

        h[t] = v[t - 1] + x[t],  v[-1] = 0
        y[t] = v_threshold H(h[t] - alpha v_threshold),  H(0) = 1
        v[t] = h[t] - y[t]

    The gradient is that of `mean_t y = clip(mean_t x, 0, v_threshold)`. With `g[t]` that of the
    loss with respect to `y[t]`, and `G = sum_t g[t]`:

        dx[t] = G / T              where 0 <= mean_t x <= v_threshold, else 0
        dv_threshold = sum of G    where mean_t x > v_threshold

    Args:
        xs: input currents, time first, `[T, ...]`.
        v_threshold: threshold, and size of the output where it is reached; a scalar. The
            potential `v` is kept in its dtype.
        alpha: the share of the threshold at which a neuron fires.
        v_threshold_grad_scaling: factor of the gradient of `v_threshold`.

    Returns:
        Outputs `y`, 0 or `v_threshold`, in the shape and dtype of `xs`.

    Source: Meng et al. 2022, "Training high-performance low-latency spiking neural networks by
    differentiation on spike representation".
    """
    wide = xs.astype(v_threshold.dtype)
    return _dsr_if((alpha, v_threshold_grad_scaling), wide, v_threshold).astype(xs.dtype)


def dsr_lif(
    xs: Float[Array, "T *shape"],
    v_threshold: Float[Array, ""],
    *,
    tau: float | Float[Array, "*#shape"],
    delta_t: float,
    alpha: float,
    v_threshold_grad_scaling: float = 1.0,
) -> Float[Array, "T *shape"]:
    """All time steps of the LIF neuron of differentiation on spike representation.

        beta = exp(-delta_t / tau)
        h[t] = beta v[t - 1] + (1 - beta) x[t],  v[-1] = 0
        s[t] = v_threshold H(h[t] - alpha v_threshold),  H(0) = 1
        v[t] = h[t] - s[t]
        y[t] = s[t] / delta_t

    Its representation is a mean with more weight on later steps, `c[t]` in proportion to
    `beta^(T - 1 - t)` with a sum of 1. With `g[t]` the gradient of the loss with respect to
    `y[t]`, `r = sum_t c[t] x[t]` and `G = T sum_t c[t] g[t]`:

        dx[t] = G / (tau T)                  where 0 < r < v_threshold tau / delta_t, else 0
        dv_threshold = delta_t sum of G      where r > v_threshold tau / delta_t

    Args:
        xs: input currents, time first, `[T, ...]`.
        v_threshold: threshold, and what a spike takes off the potential; a scalar. The potential
            `v` is kept in its dtype.
        tau: membrane time constant, in the unit of `delta_t`.
        delta_t: length of a time step.
        alpha: the share of the threshold at which a neuron fires.
        v_threshold_grad_scaling: factor of the gradient of `v_threshold`.

    Returns:
        Outputs `y`, 0 or `v_threshold / delta_t`, in the shape and dtype of `xs`.

    Source: Meng et al. 2022, as for `dsr_if`.
    """
    wide = xs.astype(v_threshold.dtype)
    settings = tau, delta_t, alpha, v_threshold_grad_scaling
    return _dsr_lif(settings, wide, v_threshold).astype(xs.dtype)


def _run(
    xs: jax.Array, v_threshold: jax.Array, alpha: float, beta: float, gain: float
) -> jax.Array:
    """What the spikes take off the potential at each step."""

    def step(v: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        h = beta * v + gain * x
        s = jnp.where(h >= alpha * v_threshold, v_threshold, 0)
        return h - s, s

    return _layout.scan(step, jnp.zeros_like(xs[0]), xs)[1]


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _dsr_if(settings: tuple[float, ...], xs: jax.Array, v_threshold: jax.Array) -> jax.Array:
    return _run(xs, v_threshold, settings[0], 1.0, 1.0)


@_dsr_if.defjvp
def _dsr_if_jvp(
    settings: tuple[float, ...], primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]
) -> tuple[jax.Array, jax.Array]:
    (_, scaling), (xs, limit), (to_xs, to_limit) = settings, primals, tangents
    rate = jnp.mean(xs, 0)
    inside, above = (rate >= 0) & (rate <= limit), rate > limit
    to_rate = _where(inside, jnp.mean(to_xs, 0)) + scaling * _where(above, to_limit)
    return _dsr_if(settings, xs, limit), jnp.broadcast_to(to_rate[None], xs.shape)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _dsr_lif(settings: tuple[float, ...], xs: jax.Array, v_threshold: jax.Array) -> jax.Array:
    tau, delta_t, alpha, _ = settings
    beta = math.exp(-delta_t / tau)
    return _run(xs, v_threshold, alpha, beta, 1 - beta) / delta_t


@_dsr_lif.defjvp
def _dsr_lif_jvp(
    settings: tuple[float, ...], primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]
) -> tuple[jax.Array, jax.Array]:
    tau, delta_t, _, scaling = settings
    (xs, v_threshold), (to_xs, to_threshold) = primals, tangents
    weights = _late_weights(xs, settings)
    rate, limit = jnp.sum(weights * xs, 0), v_threshold * (tau / delta_t)
    inside, above = (rate > 0) & (rate < limit), rate > limit
    to_rate = _where(inside, jnp.mean(to_xs, 0) / tau)
    to_rate += delta_t * scaling * _where(above, to_threshold)
    return _dsr_lif(settings, xs, v_threshold), len(xs) * weights * to_rate[None]


def _late_weights(xs: jax.Array, settings: tuple[float, ...]) -> jax.Array:
    """Weights of a mean over time: how much of a step the membrane still remembers at the end."""
    tau, delta_t, *_ = settings
    left = with_axes_after(jnp.arange(xs.shape[0] - 1, -1, -1, dtype=xs.dtype), xs.ndim)
    weights = jnp.exp(-delta_t / tau * left)
    return weights / jnp.sum(weights)


def _where(condition: jax.Array, value: jax.Array) -> jax.Array:
    return jnp.where(condition, value, 0)
