"""Losses and scores: one number per example, so that a mean over any batch is exact."""

import jax
import jax.numpy as jnp


def firing_rate_mse(rates: jax.Array, labels: jax.Array) -> jax.Array:
    """Squared distance of firing rates to the one-hot label, mean over the classes.

        loss[n] = mean_c (rates[n, c] - [c == labels[n]])^2

    Args:
        rates: firing rates (spikes per time step), `[N, classes]`.
        labels: class numbers, `[N]`, integers.

    Returns:
        Loss of each example, `[N]`.
    """
    target = jax.nn.one_hot(labels, rates.shape[-1], dtype=rates.dtype)
    return jnp.mean(jnp.square(rates - target), axis=-1)


def correct(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Whether the largest output is that of the label (the first of equals counts).

    Args:
        outputs: one number per class, `[N, classes]`.
        labels: class numbers, `[N]`, integers.

    Returns:
        `[N]`, bool.
    """
    return jnp.argmax(outputs, axis=-1).astype(labels.dtype) == labels
