"""Firing rates: squared error, and which class is chosen."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from jaxsnn.losses._labels import check_labels, of_classes


def firing_rate_mse(
    rates: Float[Array, "N C"],
    labels: Integer[Array, " N"],
    *,
    correct_rate: float = 1.0,
    incorrect_rate: float = 0.0,
) -> Float[Array, " N"]:
    """Squared distance of firing rates to the one-hot label, mean over the classes.

        loss[n] = mean_c (rates[n, c] - target[n, c])^2
        target[n, c] = correct_rate if c == labels[n] else incorrect_rate

    Asking a little activity of the other classes too keeps their neurons from falling silent for
    good. The same of spike counts is `T^2` times as large.

    Args:
        rates: firing rates (spikes per time step), `[N, classes]`.
        labels: class numbers, `[N]`, integers.
        correct_rate: the rate wanted of the class of the label, in spikes per time step.
        incorrect_rate: that of all others.

    Returns:
        Loss of each example, `[N]`; NaN for a label that is none of the classes, which inside a
        `jit` cannot be an error.

    Raises:
        TypeError: `labels` are not integers.
        ValueError: the shapes do not fit.
    """
    labels = check_labels(rates, labels, "rates [N, classes]")
    chosen = jax.nn.one_hot(labels, rates.shape[-1], dtype=rates.dtype)
    target = chosen * (correct_rate - incorrect_rate) + incorrect_rate
    loss = jnp.mean(jnp.square(rates - target), axis=-1)
    return of_classes(loss, labels, rates.shape[-1])


def correct(outputs: Float[Array, "N C"], labels: Integer[Array, " N"]) -> Bool[Array, " N"]:
    """Whether the largest output is that of the label (the first of equals counts).

    Args:
        outputs: one number per class, `[N, classes]`.
        labels: class numbers, `[N]`, integers.

    Returns:
        `[N]`, bool.

    Raises:
        TypeError: `labels` are not integers.
        ValueError: the shapes do not fit.
    """
    labels = check_labels(outputs, labels)
    best = jnp.argmax(outputs, axis=-1)
    return best == labels.astype(best.dtype)
