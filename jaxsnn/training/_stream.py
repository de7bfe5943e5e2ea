"""Epochs and tests over data that stay on the host and are sent to the device in chunks.

Grain reads ahead in threads. A chunk holds as many minibatches as fit into a few MiB, so that the
device is called seldom; while it computes on one, the next is fetched and sent. The order of the
examples is that of `train_epoch`, and so are all numbers, to the last bit. Nothing but the state
has to be kept to go on in the middle of an epoch.
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsnn import _checks
from jaxsnn.training import _shares
from jaxsnn.training._epoch import epoch_order, minibatches, test_batches
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

CHUNK_BYTES = 4 * 2**20


def import_grain() -> Any:
    """Imports Grain.

    Raises:
        ImportError: it is not installed; the message says how to.
    """
    try:
        import grain
    except ImportError as error:
        raise ImportError(
            f"data on the host are read by Grain, which cannot be imported ({error}); install it "
            'with pip install "jaxsnn-nnx[stream]", or pip install -e ".[stream]" in a clone'
        ) from error
    return grain


def stream_epoch(
    recipe: Recipe,
    state: TrainState,
    inputs: Any,
    labels: Any,
    *,
    workers: int = 2,
    between: Callable[[TrainState], bool] = lambda state: False,
) -> tuple[TrainState, EpochMetrics | None]:
    """`train_epoch` over data that need not fit on the device.

    The same numbers as `train_epoch` gives. The epoch begins with minibatch
    `state.tally.minibatches`, so a state that was kept in the middle of an epoch goes on there.

    Args:
        recipe: from `create`.
        state: of the epoch before; donated, so use the one returned from now on.
        inputs: the whole training set, `[n, ...]`, or a pytree of such: NumPy arrays, memory maps,
            or anything that has a `shape` and takes an array of indices in brackets. With several
            processes each reads its part of every minibatch.
        labels: class numbers, `[n]`, integers; or other targets that the loss takes, `[n, ...]`, or
            a pytree of them. Likewise on the host.
        workers: threads that read ahead; 0 reads when it is needed.
        between: called with the state between chunks, e.g. to save it; True ends the call there.

    Returns:
        The new state, and the figures of the epoch, None if `between` has ended it early.

    Raises:
        ImportError: Grain is not installed.
        TypeError: inputs or labels are not arrays.
        ValueError: inputs and labels differ in length or are fewer than one minibatch, or `state`
            was donated before.
    """
    refuse_donated(state)
    n = examples(inputs, labels)
    steps, size = minibatches(recipe, n), recipe.batch_size
    order = np.asarray(_order(state.key, state.epoch, n))[: steps * size].reshape(steps, size)
    rest = order[int(state.tally.minibatches) :]
    for chunk, count in _chunks(recipe, inputs, labels, rest, workers):
        jax.block_until_ready(state)  # while the chunk was fetched and sent
        if between(state):
            return state, None
        state = _train_chunk(recipe, state, *chunk, count)
    return _end_epoch(state, size, are_classes(labels))


def stream_evaluate(
    recipe: Recipe, state: TrainState, inputs: Any, labels: Any, *, workers: int = 2
) -> Metrics:
    """`evaluate` over data that need not fit on the device.

    Args:
        recipe: from `create`.
        state: its parameters and running statistics are used.
        inputs: as for `stream_epoch`.
        labels: as for `stream_epoch`.
        workers: threads that read ahead; 0 reads when it is needed.

    Raises:
        ImportError: Grain is not installed.
        TypeError: inputs or labels are not arrays.
        ValueError: inputs and labels differ in length or are empty, or `state` was donated before.
    """
    refuse_donated(state)
    n = examples(inputs, labels)
    batches = test_batches(recipe, n)
    sums = _shares.put_whole(recipe.mesh, no_sums())
    first = 0
    for chunk, count in _chunks(recipe, inputs, labels, np.minimum(batches, n - 1), workers):
        jax.block_until_ready(sums)
        sums = _test_chunk(recipe, state, sums, *chunk, count, first, n)
        first += int(count) * batches.shape[1]
    return _tested(sums, n, state, are_classes(labels))


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def _train_chunk(
    recipe: Recipe, state: TrainState, inputs: Any, labels: Any, count: jax.Array
) -> TrainState:
    """Trains on the first `count` minibatches of a chunk `[K, N, ...]`."""

    def chunk(state: TrainState, inputs: Any, labels: Any, count: jax.Array) -> TrainState:
        def body(k: jax.Array, state: TrainState) -> TrainState:
            return counted_update(recipe, state, _at(inputs, k), _at(labels, k))

        return jax.lax.fori_loop(0, count, body, state)

    specs = _shares.WHOLE, _shares.SHARED, _shares.SHARED, _shares.WHOLE
    return _shares.everywhere(recipe.mesh, chunk, *specs)(state, inputs, labels, count)


@functools.partial(jax.jit, static_argnums=0)
def _test_chunk(
    recipe: Recipe,
    state: TrainState,
    sums: Sums,
    inputs: Any,
    labels: Any,
    count: jax.Array,
    first: jax.Array,
    n: jax.Array,
) -> Sums:
    """Tests the first `count` minibatches of a chunk, whose first example is number `first`."""

    def chunk(
        state: TrainState,
        sums: Sums,
        inputs: Any,
        labels: Any,
        count: jax.Array,
        first: jax.Array,
        n: jax.Array,
    ) -> Sums:
        model = merge(recipe, state)
        size = jax.tree.leaves(labels)[0].shape[1] * recipe.shares

        def body(k: jax.Array, sums: Sums) -> Sums:
            numbers = _shares.part(recipe.mesh, first + k * size + jnp.arange(size))
            return add_test(recipe, model, sums, _at(inputs, k), _at(labels, k), numbers < n)

        return jax.lax.fori_loop(0, count, body, sums)

    whole, shared = _shares.WHOLE, _shares.SHARED
    specs = whole, whole, shared, shared, whole, whole, whole
    run = _shares.everywhere(recipe.mesh, chunk, *specs)
    return run(state, sums, inputs, labels, count, first, n)


_order = jax.jit(epoch_order, static_argnums=2)
_end_epoch = jax.jit(end_epoch, static_argnums=(1, 2), donate_argnums=0)
_tested = jax.jit(tested, static_argnums=(1, 3))


class _Chunks:
    """The chunks of a list of minibatches, for Grain: `len()` of them, each to be had by number."""

    def __init__(self, inputs: Any, labels: Any, batches: np.ndarray, length: int) -> None:
        self._inputs, self._labels = inputs, labels
        self._batches, self._length = batches, length

    def __len__(self) -> int:
        return math.ceil(len(self._batches) / self._length)

    def __getitem__(self, number: int) -> tuple[tuple[Any, Any], np.int32]:
        """`((inputs [K, N, ...], labels [K, N]), how many of the K count)`."""
        rows = self._batches[number * self._length :][: self._length]
        count = len(rows)
        rows = np.concatenate([rows, np.repeat(rows[:1], self._length - count, axis=0)])

        def pick(array: Any) -> np.ndarray:
            return np.asarray(array[rows.ravel()]).reshape(*rows.shape, *array.shape[1:])

        return jax.tree.map(pick, (self._inputs, self._labels)), np.int32(count)


def _chunks(
    recipe: Recipe, inputs: Any, labels: Any, batches: np.ndarray, workers: int
) -> Iterator[tuple[tuple[Any, Any], np.int32]]:
    """The minibatches, in chunks that lie on the device, and how many of each chunk count."""
    workers, grain = _checks.count("workers", workers), import_grain()
    mine = batches[:, _shares.own_share(recipe.mesh, batches.shape[1])]
    size = sum(
        math.prod(array.shape[1:]) * np.dtype(array.dtype).itemsize
        for array in jax.tree.leaves((inputs, labels))
    )
    share = -(-batches.shape[1] // jax.process_count())  # the same in all, whatever they compute
    length = max(1, min(len(mine), CHUNK_BYTES // (size * share)))
    options = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=max(1, workers))
    chunks = grain.MapDataset.source(_Chunks(inputs, labels, mine, length))
    for chunk, count in chunks.to_iter_dataset(options):
        yield _shares.put_shares(recipe.mesh, chunk), count


def _at(inputs: Any, k: jax.Array) -> Any:
    return jax.tree.map(lambda array: array[k], inputs)
