"""Parallel spiking neurons: no reset, so a sum over the inputs gives all time steps at once."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsnn import quantize
from jaxsnn._ranks import with_axes_after


def psn(
    xs: Float[Array, "T *shape"],
    weight: Float[Array, "T T"],
    bias: Float[Array, "T 1"],
    *,
    surrogate_function: Callable[[jax.Array], jax.Array],
) -> Float[Array, "T *shape"]:
    """All time steps of the parallel spiking neuron.

        h[t] = b[t] + sum_j W[t, j] x[j]
        s[t] = H(h[t]),  H(0) = 1

    `h` is computed in the dtype of `weight`.

    Args:
        xs: input currents, time first, `[T, ...]`.
        weight: `W`, how much each step (row) takes of each step's input (column), `[T, T]`.
        bias: `b`, the negative thresholds, `[T, 1]`.
        surrogate_function: spike function of `h`, e.g. `jaxsnn.surrogate.ATan()`.

    Returns:
        Spikes `s` in the shape and dtype of `xs`.

    Source: Fang et al. 2023, "Parallel spiking neurons with high efficiency and ability to learn
    long-term dependencies".
    """
    return surrogate_function(_product(weight, xs) + with_axes_after(bias.ravel(), xs.ndim)).astype(
        xs.dtype
    )


def masked_psn_weight(
    weight: Float[Array, "T T"], *, k: int, lambda_: float | Float[Array, ""]
) -> Float[Array, "T T"]:
    """The weights of the masked parallel spiking neuron, for `psn`.

        W'[t, j] = W[t, j]                    0 <= t - j < k
        W'[t, j] = (1 - lambda) W[t, j]       elsewhere

    With `lambda = 0` nothing is masked; with `lambda = 1` a step sees itself and the `k - 1`
    steps before it, and no future.

    Args:
        weight: `W`, `[T, T]`.
        k: how many steps are never masked.
        lambda_: how far the others are masked, from 0 to 1.

    Returns:
        `W'`, in the shape and dtype of `weight`.

    Source: Fang et al. 2023, as for `psn`.
    """
    steps = jnp.arange(len(weight))
    behind = steps[:, None] - steps[None]
    left = 1 - quantize.clamp(jnp.asarray(lambda_, weight.dtype), 0.0, 1.0)
    return jnp.where((behind >= 0) & (behind < k), weight, left * weight)


def sliding_psn_step(
    past: Float[Array, "*shape past"],
    x: Float[Array, "*shape"],
    weight: Float[Array, " k"],
    bias: Float[Array, ""],
    *,
    surrogate_function: Callable[[jax.Array], jax.Array],
) -> tuple[Float[Array, "*shape past"], Float[Array, "*shape"]]:
    """One time step of the sliding parallel spiking neuron.

        h[t] = b + sum_{j < k} w[k - 1 - j] x[t - j],  x = 0 before the first step
        s[t] = H(h[t]),  H(0) = 1

    Args:
        past: the last `k - 1` inputs along the last axis, the oldest first, `[..., k - 1]`.
        x: input current of this step, `[...]`.
        weight: `w`, `[k]`; the last one is that of this step.
        bias: `b`, the negative threshold, a scalar.
        surrogate_function: spike function of `h`, e.g. `jaxsnn.surrogate.ATan()`.

    Returns:
        `(past, s)`: the last `k - 1` inputs with this one, and spikes in the dtype of `x`.

    Source: Fang et al. 2023, as for `psn`.
    """
    inputs = jnp.concatenate([past, x.astype(past.dtype)[..., None]], axis=-1)
    h = inputs @ weight.astype(past.dtype) + bias.astype(past.dtype)
    return inputs[..., 1:], surrogate_function(h).astype(x.dtype)


def sliding_psn(
    past: Float[Array, "*shape past"],
    xs: Float[Array, "T *shape"],
    weight: Float[Array, " k"],
    bias: Float[Array, ""],
    *,
    surrogate_function: Callable[[jax.Array], jax.Array],
) -> tuple[Float[Array, "*shape past"], Float[Array, "T *shape"]]:
    """Many time steps of the sliding parallel spiking neuron at once; see `sliding_psn_step`.

    Args:
        past: the last `k - 1` inputs along the last axis, the oldest first, `[..., k - 1]`.
        xs: input currents, time first, `[T, ...]`.
        weight: `w`, `[k]`.
        bias: `b`, a scalar.
        surrogate_function: spike function of `h`.

    Returns:
        `(past, s)`: the last `k - 1` inputs, and spikes in the shape and dtype of `xs`.
    """
    inputs = jnp.concatenate([jnp.moveaxis(past, -1, 0), xs.astype(past.dtype)])
    # One product with a band of weights: XLA's convolution of one channel is far slower.
    h = _product(_band(weight.astype(past.dtype), xs.shape[0]), inputs) + bias.astype(past.dtype)
    return jnp.moveaxis(inputs[xs.shape[0] :], 0, -1), surrogate_function(h).astype(xs.dtype)


def _band(weight: jax.Array, steps: int) -> jax.Array:
    """Rows that hold `weight` `[k]`, each one further to the right: `[steps, k - 1 + steps]`."""
    row = jnp.pad(weight, (0, steps))
    # Cut into rows that are shorter by one, copies of it in a row move to the right by themselves.
    copies = jnp.broadcast_to(row[None], (steps, *row.shape)).reshape(-1)
    return copies[: steps * (row.shape[0] - 1)].reshape(steps, row.shape[0] - 1)


def _product(weight: jax.Array, xs: jax.Array) -> jax.Array:
    """`weight` `[T, S]` times `xs` `[S, ...]` over time."""
    rows = xs.astype(weight.dtype).reshape(xs.shape[0], -1)
    return (weight @ rows).reshape(-1, *xs.shape[1:])
