"""The figures of a minibatch, of an epoch of training, and of a test."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from jaxsnn.training._recipe import TrainState, no_tally


class StepMetrics(NamedTuple):
    """The figures of one minibatch.

    Attributes:
        loss: mean loss before the update.
        correct: number of examples classified correctly before the update; None if the labels are
            not class numbers, `[N]`, integers.
        gradient_norm: Euclidean norm of the gradient over all parameters, before any clipping.
        finite: whether loss, gradient, parameters and running statistics are finite, and the
            optimiser's state stayed so. Adam, for example, stands still once the square of a
            gradient has overflowed in its state.
    """

    loss: Float[Array, ""]
    correct: Integer[Array, ""] | None
    gradient_norm: Float[Array, ""]
    finite: Bool[Array, ""]


class EpochMetrics(NamedTuple):
    """The figures of an epoch of training, over its minibatches as they were met.

    Attributes:
        loss: mean loss, of the minibatches that were not skipped.
        accuracy: share of examples classified correctly, of the same; None if the labels are not
            class numbers, `[n]`, integers.
        finite: whether loss, parameters and running statistics are all finite, and every update
            was that was not skipped. Spiking networks need this: a membrane potential of NaN does
            not fire, so the loss of a ruined network is finite.
        gradient_norm: largest norm of a gradient, over all minibatches, also those whose update
            was not finite or was skipped. A norm that is itself NaN or infinite is in
            `nonfinite_norm`.
        skipped: number of updates left out because they were not finite (`skip_nonfinite`).
        first_nonfinite: number of the first minibatch, counted from 0, whose update was not
            finite; -1 if there was none.
        nonfinite_norm: norm of its gradient; 0 if there was none.
    """

    loss: Float[Array, ""]
    accuracy: Float[Array, ""] | None
    finite: Bool[Array, ""]
    gradient_norm: Float[Array, ""]
    skipped: Integer[Array, ""]
    first_nonfinite: Integer[Array, ""]
    nonfinite_norm: Float[Array, ""]


class Metrics(NamedTuple):
    """The figures of a test: means over the examples, and whether all is finite.

    Attributes:
        loss: mean loss.
        accuracy: share of examples classified correctly; None if the labels are not class numbers,
            `[n]`, integers.
        finite: whether loss, parameters and running statistics are all finite.
    """

    loss: Float[Array, ""]
    accuracy: Float[Array, ""] | None
    finite: Bool[Array, ""]


class Sums(NamedTuple):
    """What a test adds up."""

    loss: Float[Array, ""]
    correct: Integer[Array, ""]


def no_sums() -> Sums:
    """Sums of nothing."""
    return Sums(jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32))


def end_epoch(state: TrainState, batch_size: int, classes: bool) -> tuple[TrainState, EpochMetrics]:
    """Turn the tally of an epoch into its figures, and begin a new one."""
    tally = state.tally
    counted = (tally.minibatches - tally.skipped).astype(jnp.float32)
    loss, first = tally.loss / counted, tally.first_nonfinite
    metrics = EpochMetrics(
        loss=loss,
        accuracy=tally.correct.astype(jnp.float32) / (counted * batch_size) if classes else None,
        finite=jnp.isfinite(loss) & all_finite(state) & ((first < 0) | (tally.skipped > 0)),
        gradient_norm=tally.gradient_norm,
        skipped=tally.skipped,
        first_nonfinite=first,
        nonfinite_norm=tally.nonfinite_norm,
    )
    return state._replace(epoch=state.epoch + 1, tally=no_tally()), metrics


def tested(sums: Sums, n: int, state: TrainState, classes: bool) -> Metrics:
    """The figures of a test of `n` examples."""
    loss = sums.loss / n
    finite = jnp.isfinite(loss) & all_finite(state)
    return Metrics(loss, sums.correct.astype(jnp.float32) / n if classes else None, finite)


def are_classes(labels: Any) -> bool:
    """Return whether labels are class numbers, of which there is an accuracy."""
    shape = getattr(labels, "shape", None)  # a tree of targets has none
    return shape is not None and len(shape) == 1 and jnp.issubdtype(labels.dtype, jnp.integer)


def all_finite(state: TrainState) -> jax.Array:
    """Whether all parameters and running statistics are finite."""
    finite = jnp.bool_(True)
    for array in jax.tree.leaves((state.params, state.statistics)):
        finite &= jnp.all(jnp.isfinite(array))
    return finite
