"""Neurons that are trained by their mean output, the "spike representation": one number for the
whole sequence, however the spikes lie in it.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


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
    tau: float,
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

    return jax.lax.scan(step, jnp.zeros_like(xs[0]), xs)[1]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _dsr_if(settings: tuple[float, ...], xs: jax.Array, v_threshold: jax.Array) -> jax.Array:
    return _run(xs, v_threshold, settings[0], 1.0, 1.0)


def _dsr_if_forward(settings: tuple[float, ...], xs: jax.Array, v_threshold: jax.Array) -> Any:
    return _dsr_if(settings, xs, v_threshold), (jnp.mean(xs, 0), v_threshold)


def _dsr_if_backward(
    settings: tuple[float, ...], kept: tuple[jax.Array, jax.Array], g: jax.Array
) -> tuple[jax.Array, jax.Array]:
    (_, scaling), (rate, limit), total = settings, kept, jnp.sum(g, 0)
    inside = (rate >= 0) & (rate <= limit)
    return _spread(total, inside, g), scaling * _sum_where(total, rate > limit)


_dsr_if.defvjp(_dsr_if_forward, _dsr_if_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _dsr_lif(settings: tuple[float, ...], xs: jax.Array, v_threshold: jax.Array) -> jax.Array:
    tau, delta_t, alpha, _ = settings
    beta = math.exp(-delta_t / tau)
    return _run(xs, v_threshold, alpha, beta, 1 - beta) / delta_t


def _dsr_lif_forward(settings: tuple[float, ...], xs: jax.Array, v_threshold: jax.Array) -> Any:
    return _dsr_lif(settings, xs, v_threshold), (_late_mean(xs, settings), v_threshold)


def _dsr_lif_backward(
    settings: tuple[float, ...], kept: tuple[jax.Array, jax.Array], g: jax.Array
) -> tuple[jax.Array, jax.Array]:
    tau, delta_t, _, scaling = settings
    rate, v_threshold = kept
    total, limit = len(g) * _late_mean(g, settings), v_threshold * (tau / delta_t)
    inside = (rate > 0) & (rate < limit)
    to_threshold = delta_t * scaling * _sum_where(total, rate > limit)
    return _spread(total / tau, inside, g), to_threshold


_dsr_lif.defvjp(_dsr_lif_forward, _dsr_lif_backward)


def _late_mean(xs: jax.Array, settings: tuple[float, ...]) -> jax.Array:
    """Mean over time, a step weighed by how much of it the membrane still remembers at the end."""
    tau, delta_t, *_ = settings
    left = jnp.arange(xs.shape[0] - 1, -1, -1, dtype=xs.dtype).reshape(-1, *(1,) * (xs.ndim - 1))
    weights = jnp.exp(-delta_t / tau * left)
    return jnp.sum(weights * xs, 0) / jnp.sum(weights)


def _spread(total: jax.Array, inside: jax.Array, like: jax.Array) -> jax.Array:
    """`total` in equal parts over the steps of `like`, where it is `inside`."""
    return jnp.broadcast_to(jnp.where(inside, total, 0) / len(like), like.shape)


def _sum_where(total: jax.Array, where: jax.Array) -> jax.Array:
    return jnp.sum(jnp.where(where, total, 0))
