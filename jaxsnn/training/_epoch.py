"""Whole epochs and whole tests as one compiled call each, over data that live on the device."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Integer, Key

from jaxsnn.training import _shares
from jaxsnn.training._metrics import (
    EpochMetrics,
    Metrics,
    Sums,
    are_classes,
    end_epoch,
    no_sums,
    tested,
)
from jaxsnn.training._recipe import Recipe, TrainState, merge, refuse_donated
from jaxsnn.training._step import add_test, counted_update, examples

Compiled = TypeVar("Compiled", bound=Callable[..., Any])


def _checked(compiled: Compiled) -> Compiled:
    """Check state and data before a compiled call, where JAX's own errors name no argument."""

    @functools.wraps(compiled)
    def call(recipe: Recipe, state: TrainState, inputs: Any, labels: Any) -> Any:
        refuse_donated(state)
        examples(inputs, labels)
        return compiled(recipe, state, inputs, labels)

    jitted: Any = compiled  # its type does not show what jax.jit adds
    vars(call).update(lower=jitted.lower, _cache_size=jitted._cache_size)
    return cast(Compiled, call)


@_checked
@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def train_epoch(
    recipe: Recipe, state: TrainState, inputs: Any, labels: Any
) -> tuple[TrainState, EpochMetrics]:
    """One pass over the data in a fresh order; the last partial minibatch is dropped.

    Epoch e visits the examples in the order `permutation(fold_in(key, e), n)`. The random key of
    step s, counted from the start of the run, is `fold_in(fold_in(key, 2^32 - 1), s)`.

    Args:
        recipe: from `create`.
        state: of the epoch before; donated, so use the one returned from now on.
        inputs: the whole training set, `[n, ...]`, or a pytree of such arrays; for a recipe with
            several devices, from `put`.
        labels: class numbers, `[n]`, integers; or other targets that the loss takes, `[n, ...]`, or
            a pytree of them. Likewise from `put`.

    Returns:
        The new state, and the figures of the epoch. A state that was kept in the middle of an
        epoch goes on there.

    Raises:
        TypeError: inputs or labels are not arrays.
        ValueError: inputs and labels differ in length or are fewer than one minibatch, `state` was
            donated before; or what `train_step` raises.
    """
    n = examples(inputs, labels)
    steps = minibatches(recipe, n)

    def epoch(state: TrainState, inputs: Any, labels: Any) -> TrainState:
        order = epoch_order(state.key, state.epoch, n)[: steps * recipe.batch_size]
        order = order.reshape(steps, recipe.batch_size)

        def body(k: jax.Array, state: TrainState) -> TrainState:
            batch = _shares.part(recipe.mesh, order[k])
            return counted_update(recipe, state, _pick(inputs, batch), _pick(labels, batch))

        return jax.lax.fori_loop(state.tally.minibatches, steps, body, state)

    whole = _shares.WHOLE
    state = _shares.everywhere(recipe.mesh, epoch, whole, whole, whole)(state, inputs, labels)
    return end_epoch(state, recipe.batch_size, are_classes(labels))


@_checked
@functools.partial(jax.jit, static_argnums=0)
def evaluate(recipe: Recipe, state: TrainState, inputs: Any, labels: Any) -> Metrics:
    """Loss and accuracy over all examples, whatever the batch size.

    Args:
        recipe: from `create`.
        state: its parameters and running statistics are used.
        inputs: `[n, ...]`, or a pytree of such arrays; for a recipe with several devices, from
            `put`.
        labels: as for `train_epoch`.

    Raises:
        TypeError: inputs or labels are not arrays.
        ValueError: inputs and labels differ in length or are empty, or `state` was donated before.
    """
    n = examples(inputs, labels)
    batches = jnp.asarray(test_batches(recipe, n))

    def all_batches(state: TrainState, inputs: Any, labels: Any) -> Sums:
        model = merge(recipe, state)

        def body(sums: Sums, batch: jax.Array) -> tuple[Sums, None]:
            batch = _shares.part(recipe.mesh, batch)
            seen = jnp.minimum(batch, n - 1)
            picked = _pick(inputs, seen), _pick(labels, seen)
            return add_test(recipe, model, sums, *picked, batch < n), None

        return jax.lax.scan(body, no_sums(), batches)[0]

    whole = _shares.WHOLE
    sums = _shares.everywhere(recipe.mesh, all_batches, whole, whole, whole)(state, inputs, labels)
    return tested(sums, n, state, are_classes(labels))


def epoch_order(
    key: Key[Array, ""], epoch: int | Integer[Array, ""], n: int
) -> Integer[Array, "{n}"]:
    """The order in which an epoch visits its examples, a permutation of 0 to n - 1.

    Args:
        key: `TrainState.key`, that is `jax.random.key(seed)`.
        epoch: its number, from 0.
        n: how many examples there are.

    Returns:
        Their numbers, `[n]`, integers.

    Examples:
        >>> sorted(epoch_order(jax.random.key(0), 0, 3).tolist())
        [0, 1, 2]
    """
    return jax.random.permutation(jax.random.fold_in(key, epoch), n)


def minibatches(recipe: Recipe, n: int) -> int:
    """How many minibatches an epoch of `n` examples has."""
    if n < recipe.batch_size:
        raise ValueError(
            f"batch_size={recipe.batch_size} is larger than the training set of {n} examples; "
            f"choose at most {n}"
        )
    return n // recipe.batch_size


def test_batches(recipe: Recipe, n: int) -> np.ndarray:
    """The examples of each minibatch of a test; numbers from `n` on fill the last one up."""
    size = -(-min(recipe.batch_size, n) // recipe.shares) * recipe.shares
    steps = -(-n // size)
    return np.arange(steps * size, dtype=np.int32).reshape(steps, size)


def _pick(tree: Any, batch: jax.Array) -> Any:
    return jax.tree.map(lambda array: array[batch], tree)
