"""Whole epochs and whole tests as one compiled call each, over data that live on the device."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Integer, Key

from jaxsnn.training import _parallel
from jaxsnn.training._state import Metrics, Recipe, TrainState, no_metrics
from jaxsnn.training._step import add_test, begin_test, counted_update, examples, for_labels

T = TypeVar("T")
Compiled = TypeVar("Compiled", bound=Callable[..., Any])


def _checked(compiled: Compiled) -> Compiled:
    """Check state and data before a compiled call, where JAX's own errors name no argument."""

    @functools.wraps(compiled)
    def call(recipe: Recipe, state: TrainState, inputs: Any, labels: Any) -> Any:
        examples(state, inputs, labels)
        return compiled(recipe, state, inputs, labels)

    jitted: Any = compiled  # its type does not show what jax.jit adds
    vars(call).update(lower=jitted.lower, _cache_size=jitted._cache_size)
    return cast(Compiled, call)


@_checked
@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def train_epoch(
    recipe: Recipe, state: TrainState, inputs: Any, labels: Any
) -> tuple[TrainState, Metrics]:
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
        epoch resumes there.

    Raises:
        TypeError: inputs or labels are not arrays.
        ValueError: inputs and labels differ in length or are fewer than one minibatch, `state` was
            donated before; or what `train_step` raises.
    """
    n = examples(state, inputs, labels)
    batches = training_batches(recipe, state.key, state.epoch, n)
    done, steps = state.tally.minibatches, len(batches)
    data = inputs, labels, batches, batches < n
    state = over_minibatches(recipe, counted_update, state, data, ON_DEVICE, done, steps)
    state, metrics = end_epoch(state)
    return state, for_labels(metrics, labels)


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
    n = examples(state, inputs, labels)
    batches = jnp.asarray(test_batches(recipe, n))
    test, data = begin_test(state), (inputs, labels, batches, batches < n)
    _, metrics = over_minibatches(recipe, add_test, test, data, ON_DEVICE, 0, len(batches))
    return for_labels(metrics, labels)


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


# The layout of `(inputs, labels, rows, counts)` on several devices, all data on each.
ON_DEVICE = _parallel.WHOLE, _parallel.WHOLE, _parallel.SHARED, _parallel.SHARED


def over_minibatches(
    recipe: Recipe, body: Callable[..., T], carry: T, data: Any, specs: Any, first: Any, end: Any
) -> T:
    """Run `carry = body(recipe, carry, inputs, labels, counts)` for minibatches `first : end`.

    `data` is `(inputs, labels, rows, counts)`: minibatch k holds the rows `rows[k]` of inputs and
    labels, of which those count that `counts[k]` names. `specs` is its layout on several devices.
    """

    def loop(carry: T, data: Any, first: int | jax.Array, end: int | jax.Array) -> T:
        inputs, labels, rows, counts = data

        def step(k: jax.Array, carry: T) -> T:
            pick = functools.partial(jnp.take, indices=rows[k], axis=0, mode="clip")
            batch = *jax.tree.map(pick, (inputs, labels)), counts[k]
            # The barrier keeps XLA from fusing the fetching of a minibatch with the computation on
            # it, so that streamed epochs and epochs on the device are bitwise equal.
            return body(recipe, carry, *jax.lax.optimization_barrier(batch))

        return jax.lax.fori_loop(first, end, step, carry)

    specs = _parallel.WHOLE, specs, _parallel.WHOLE, _parallel.WHOLE
    return _parallel.on_each_device(recipe.mesh, loop, specs)(carry, data, first, end)


def training_batches(recipe: Recipe, key: jax.Array, epoch: jax.Array, n: int) -> jax.Array:
    """The numbers of the examples of each minibatch of an epoch, `[steps, batch_size]`."""
    size = recipe.batch_size
    if n < size:
        raise ValueError(
            f"batch_size={size} is larger than the training set of {n} examples; choose at most {n}"
        )
    return epoch_order(key, epoch, n)[: n // size * size].reshape(-1, size)


def test_batches(recipe: Recipe, n: int) -> np.ndarray:
    """The numbers of the examples of each minibatch of a test, from `n` on to fill the last one."""
    size = -(-min(recipe.batch_size, n) // recipe.shares) * recipe.shares
    steps = -(-n // size)
    return np.arange(steps * size, dtype=np.int32).reshape(steps, size)


def end_epoch(state: TrainState) -> tuple[TrainState, Metrics]:
    """Begin a new epoch; return the figures of the one before."""
    return state._replace(epoch=state.epoch + 1, tally=no_metrics()), state.tally
