"""Trains an arm for some seeds: one after another, or all at once under `jax.vmap`."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypedDict

import jax
import jax.numpy as jnp
import numpy as np

from experiments._arms import Arm, build, optimizer, standardized_columns
from jaxsnn import data, training


class Row(TypedDict):
    """The figures of one epoch."""

    epoch: int
    train_loss: float
    train_acc: float
    test_loss: float
    test_acc: float


def train(
    arm: Arm,
    seeds: Sequence[int],
    images: data.ImageDataset,
    after_epoch: Callable[[], object] = lambda: None,
) -> dict[int, list[Row]]:
    """Trains one network for each seed; several are trained at once.

    Args:
        arm: what is trained, and how.
        seeds: of initial parameters and order of the data, as in train.py.
        images: the data.
        after_epoch: called after every epoch, e.g. to move a progress bar.

    Returns:
        For each seed its epochs.

    Raises:
        ValueError: a loss or a parameter is not finite.
    """
    train_set = jnp.asarray(images.train_images), jnp.asarray(images.train_labels)
    test_set = jnp.asarray(images.test_images), jnp.asarray(images.test_labels)
    updates = optimizer(arm, len(images.train_labels) // arm.batch_size)
    states = []
    for seed in seeds:
        recipe, state = training.create(
            build(arm, seed),
            updates,
            to_sequence=standardized_columns if arm.standardize else data.columns,
            batch_size=arm.batch_size,
            seed=seed,
        )
        states.append(state)
    train_epoch: Callable[..., Any] = partial(training.train_epoch, recipe)
    evaluate: Callable[..., Any] = partial(training.evaluate, recipe)
    if len(seeds) == 1:
        (state,) = states
    else:
        state = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
        train_epoch = jax.jit(jax.vmap(train_epoch, (0, None, None)), donate_argnums=0)
        evaluate = jax.jit(jax.vmap(evaluate, (0, None, None)))

    found: dict[int, list[Row]] = {seed: [] for seed in seeds}
    for epoch in range(arm.epochs):
        state, trained = train_epoch(state, *train_set)
        tested = evaluate(state, *test_set)
        figures = jax.tree.map(np.atleast_1d, jax.device_get((trained, tested)))
        for k, seed in enumerate(seeds):
            trained, tested = jax.tree.map(lambda values, k=k: values[k], figures)
            if not (trained.finite and tested.finite):
                raise ValueError(
                    f"seed {seed}, epoch {epoch}: the loss or a parameter is not finite"
                )
            found[seed].append(
                {
                    "epoch": epoch,
                    "train_loss": float(trained.loss),
                    "train_acc": float(trained.accuracy),
                    "test_loss": float(tested.loss),
                    "test_acc": float(tested.accuracy),
                }
            )
        after_epoch()
    return found
