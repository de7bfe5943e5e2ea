"""Softmax cross-entropy of rates, counts, potentials, and of every time step."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Integer

from jaxsnn import _checks, readouts
from jaxsnn._dtypes import state_dtype
from jaxsnn.losses._labels import check_labels, of_classes


def firing_rate_cross_entropy(
    rates: Float[Array, "N C"], labels: Integer[Array, " N"], *, scale: float = 1.0
) -> Float[Array, " N"]:
    """Cross-entropy with firing rates, or any other readout, as logits.

        loss[n] = -log softmax(scale rates[n])[labels[n]]

    Rates are poor logits: they lie between 0 and 1, so that with 10 classes the loss stays above
    1.46. A `scale` of some 10, or spike counts in their place, lets it fall further.

    Args:
        rates: one number per class, `[N, classes]`.
        labels: class numbers, `[N]`, integers.
        scale: factor of the rates, > 0.

    Returns:
        Loss of each example, `[N]`, float32 or wider.

    Raises:
        TypeError: `labels` are not integers, or `scale` is not a number.
        ValueError: the shapes do not fit, or `scale` is not greater than 0.

    Examples:
        For training, with its settings:

        >>> import functools
        >>> loss = functools.partial(firing_rate_cross_entropy, scale=10.0)
        >>> loss(jnp.array([[0.5, 0.25]]), jnp.array([0])).round(3)
        Array([0.079], dtype=float32)
    """
    scale = _checks.positive("scale", scale)
    return _cross_entropy(rates * scale, labels, "rates [N, classes]")


def spike_count_cross_entropy(
    spikes: Float[Array, "T N C"],
    labels: Integer[Array, " N"],
    *,
    mask: Bool[Array, "T N"] | None = None,
) -> Float[Array, " N"]:
    """Cross-entropy with the number of spikes as logits.

        loss[n] = -log softmax(sum_t spikes[t, n])[labels[n]]

    Args:
        spikes: output of all steps, `[T, N, classes]`.
        labels: class numbers, `[N]`, integers.
        mask: bool, `[T, N]`, the steps that count; None for all.

    Returns:
        Loss of each example, `[N]`, float32 or wider.

    Raises:
        TypeError: `labels` are not integers, or `mask` is not bool.
        ValueError: the shapes do not fit.
    """
    counts = readouts.spike_count(spikes, mask=mask)
    return _cross_entropy(counts, labels, "spikes [T, N, classes]")


def max_membrane_cross_entropy(
    v_seq: Float[Array, "T N C"],
    labels: Integer[Array, " N"],
    *,
    mask: Bool[Array, "T N"] | None = None,
) -> Float[Array, " N"]:
    """Cross-entropy with the largest potential over time as logits.

        loss[n] = -log softmax(max_t v[t, n])[labels[n]]

    The gradient reaches the step of the largest potential only.

    Args:
        v_seq: potentials of neurons that do not spike, `[T, N, classes]`.
        labels: class numbers, `[N]`, integers.
        mask: bool, `[T, N]`, the steps that count; None for all.

    Returns:
        Loss of each example, `[N]`, float32 or wider.

    Raises:
        TypeError: `labels` are not integers, or `mask` is not bool.
        ValueError: the shapes do not fit.
    """
    largest = readouts.max_membrane(v_seq, mask=mask)
    return _cross_entropy(largest, labels, "v_seq [T, N, classes]")


def temporal_efficient_training_cross_entropy(
    ys: Float[Array, "T N C *space"],
    labels: Integer[Array, "N *space"],
    *,
    mask: Bool[Array, "T N"] | None = None,
) -> Float[Array, " N"]:
    """Cross-entropy of every time step, mean over time (Deng et al. 2022, "Temporal efficient
    training of spiking neural network via gradient re-weighting").

        loss[n] = mean_t -log softmax(ys[t, n])[labels[n]]

    Each step has to be right by itself, so that fewer steps can be run later.

    Args:
        ys: outputs of all steps, `[T, N, classes]`; or `[T, N, classes, *space]` for one label at
            each place.
        labels: class numbers, `[N]` or `[N, *space]`, integers.
        mask: bool, `[T, N]`, the steps that count; None for all.

    Returns:
        Loss of each example, `[N]`, mean over the places too, float32 or wider.

    Raises:
        TypeError: `labels` are not integers, or `mask` is not bool.
        ValueError: the shapes do not fit.

    Examples:
        >>> ys = jnp.zeros((5, 3, 10))
        >>> temporal_efficient_training_cross_entropy(ys, jnp.array([1, 0, 9])).round(1)
        Array([2.3, 2.3, 2.3], dtype=float32)
    """
    if ys.ndim < 3:
        raise ValueError(f"ys must have shape [T, N, classes, ...], got {list(ys.shape)}")
    by_step = jnp.moveaxis(ys, 2, -1)  # classes last
    labels = jnp.asarray(labels)
    steps = jnp.broadcast_to(labels, (len(ys), *labels.shape))
    losses = _cross_entropy(by_step, steps, "ys [T, N, classes, ...]")
    return readouts.mean_membrane(jnp.mean(losses, axis=tuple(range(2, losses.ndim))), mask=mask)


def _cross_entropy(logits: jax.Array, labels: jax.Array, name: str) -> jax.Array:
    """Cross-entropy over the last axis in float32 or wider; shapes and dtypes checked."""
    labels = check_labels(logits, labels, name)
    logits = logits.astype(state_dtype(logits.dtype))
    loss = optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
    return of_classes(loss, labels, logits.shape[-1])
