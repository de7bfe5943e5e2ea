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


def parts(now: dict[str, Any]) -> dict[str, Any]:
    """Return the parts that such a checkpoint has for a state that has these parts today."""
    model = {"statistics": {}, **now}
    progress = model.pop("progress")
    metrics: Metrics = progress["tally"]
    names = [{"loss": "loss_sum"}.get(name, name) for name in Tally._fields]
    tally = Tally(*(getattr(metrics, name) for name in names))
    rest = progress | {"tally": tally, "best_accuracy": metrics.loss_sum}
    return {"params": model.pop("params"), "progress": rest | model}


def convert(read: dict[str, Any], batch_size: int | None) -> dict[str, Any]:
    """Return what was read in the parts of today.

    Raises:
        ValueError: it is of the middle of an epoch, and the batch size is not known.
    """
    progress = dict(read["progress"])
    model = {name: progress.pop(name) for name in ("statistics", "constants") if name in progress}
    del progress["best_accuracy"]
    tally: Tally = progress["tally"]
    if batch_size is None and int(tally.minibatches):
        raise ValueError(
            "it was saved in the middle of an epoch by an earlier version, whose figures cannot be "
            "continued without the config.json of its run"
        )
    size = batch_size or 0
    progress["tally"] = Metrics(
        examples=(tally.minibatches - tally.skipped) * size,
        loss_sum=tally.loss * jnp.float32(size),
        nonfinite=jnp.maximum(tally.skipped, (tally.first_nonfinite >= 0).astype(jnp.int32)),
        **{name: array for name, array in tally._asdict().items() if name != "loss"},
    )
    return {"params": read["params"], **model, "progress": progress}
