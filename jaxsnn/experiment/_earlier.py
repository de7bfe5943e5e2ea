"""Checkpoints of an earlier form, from before `training.Metrics` was the record of an epoch."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxsnn.training import Metrics


class Tally(NamedTuple):
    """The record of an epoch under way: sums over its minibatches."""

    minibatches: jax.Array
    loss: jax.Array  # of the mean losses
    correct: jax.Array
    gradient_norm: jax.Array
    skipped: jax.Array
    first_nonfinite: jax.Array
    nonfinite_norm: jax.Array


def form(progress: dict[str, Any]) -> dict[str, Any]:
    """Return the tree of arrays that such a checkpoint has in place of `progress`."""
    now: Metrics = progress["tally"]
    tally = Tally(*(getattr(now, {"loss": "loss_sum"}.get(name, name)) for name in Tally._fields))
    return progress | {"tally": tally, "best_accuracy": now.loss_sum}


def convert(progress: dict[str, Any], batch_size: int | None) -> dict[str, Any]:
    """Return what was read in today's form.

    Raises:
        ValueError: it is of the middle of an epoch, and the batch size is not known.
    """
    tally: Tally = progress["tally"]
    if batch_size is None and int(tally.minibatches):
        raise ValueError(
            "it was saved in the middle of an epoch by an earlier version, whose figures cannot be "
            "continued without the config.json of its run"
        )
    size = batch_size or 0
    rest = {name: array for name, array in progress.items() if name != "best_accuracy"}
    same = {name: array for name, array in tally._asdict().items() if name != "loss"}
    return rest | {
        "tally": Metrics(
            examples=(tally.minibatches - tally.skipped) * size,
            loss_sum=tally.loss * jnp.float32(size),
            nonfinite=jnp.maximum(tally.skipped, (tally.first_nonfinite >= 0).astype(jnp.int32)),
            **same,
        )
    }
