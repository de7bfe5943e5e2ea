"""Epochs and tests over data that stay on the host and are sent to the device in chunks.

Grain reads ahead in threads. A chunk holds as many minibatches as fit into a few MiB, so that the
device is called seldom; while it computes on one, the next is fetched and sent. The order of the
examples is that of `train_epoch`, and all numbers are bitwise equal. Nothing but the state has to
be kept to resume in the middle of an epoch.
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from jaxsnn import _checks
from jaxsnn.training import _epoch, _parallel
from jaxsnn.training._state import Metrics, Recipe, TrainState
from jaxsnn.training._step import add_test, begin_test, counted_update, examples, for_labels

CHUNK_BYTES = 4 * 2**20


def import_grain() -> Any:
    """Import Grain.

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
) -> tuple[TrainState, Metrics | None]:
    """`train_epoch` over data that need not fit on the device.

    The same numbers as `train_epoch` gives. The epoch begins with minibatch
    `state.tally.minibatches`, so a state that was kept in the middle of an epoch resumes there.

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
    n = examples(state, inputs, labels)
    batches = np.asarray(_training_batches(recipe, state.key, state.epoch, n))
    rest = batches[int(state.tally.minibatches) :]
    for chunk, count in _chunks(recipe, inputs, labels, rest, workers):
        jax.block_until_ready(state)  # while the chunk was fetched and sent
        if between(state):
            return state, None
        state = _train_chunk(recipe, state, chunk, count)
    state, metrics = _end_epoch(state)
    return state, for_labels(metrics, labels)


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
    n = examples(state, inputs, labels)
    test = _begin_test(state)
    for chunk, count in _chunks(recipe, inputs, labels, _epoch.test_batches(recipe, n), workers):
        jax.block_until_ready(test)
        test = _test_chunk(recipe, test, chunk, count)
    return for_labels(test[1], labels)


# The layout of a chunk on several devices, a part of each minibatch on each.
_IN_CHUNK = _parallel.SHARED, _parallel.SHARED, _parallel.WHOLE, _parallel.SHARED


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def _train_chunk(recipe: Recipe, state: TrainState, chunk: Any, count: jax.Array) -> TrainState:
    """Train on the first `count` minibatches of a chunk."""
    return _epoch.over_minibatches(recipe, counted_update, state, chunk, _IN_CHUNK, 0, count)


@functools.partial(jax.jit, static_argnums=0)
def _test_chunk(
    recipe: Recipe, test: tuple[TrainState, Metrics], chunk: Any, count: jax.Array
) -> tuple[TrainState, Metrics]:
    """Test the first `count` minibatches of a chunk."""
    return _epoch.over_minibatches(recipe, add_test, test, chunk, _IN_CHUNK, 0, count)


_training_batches = jax.jit(_epoch.training_batches, static_argnums=(0, 3))
_end_epoch = jax.jit(_epoch.end_epoch, donate_argnums=0)
_begin_test = jax.jit(begin_test)


def _chunks(
    recipe: Recipe, inputs: Any, labels: Any, batches: np.ndarray, workers: int
) -> Iterator[tuple[Any, np.int32]]:
    """Yield chunks that lie on the device, and how many of the K minibatches of each count.

    A chunk is `(inputs [K, N, ...], labels [K, N, ...], rows [K], which examples count [K, N])`.
    """
    workers, grain = _checks.count("workers", workers), import_grain()
    mine = batches[:, _parallel.own_share(recipe.mesh, batches.shape[1])]
    arrays = jax.tree.leaves((inputs, labels))
    size = sum(math.prod(array.shape[1:]) * np.dtype(array.dtype).itemsize for array in arrays)
    share = -(-batches.shape[1] // jax.process_count())  # the same in all, whatever they compute
    length, n = max(1, min(len(mine), CHUNK_BYTES // (size * share))), arrays[0].shape[0]
    rows = _parallel.put(recipe.mesh, np.arange(length, dtype=np.int32))

    def read(number: int) -> tuple[Any, np.int32]:
        numbers = mine[number * length :][:length]
        count = len(numbers)
        numbers = np.pad(numbers, ((0, length - count), (0, 0)), mode="edge")

        def pick(array: Any) -> np.ndarray:
            picked = np.asarray(array[np.minimum(numbers, n - 1).ravel()])
            return picked.reshape(*numbers.shape, *array.shape[1:])

        return (*jax.tree.map(pick, (inputs, labels)), numbers < n), np.int32(count)

    options = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=max(1, workers))
    chunks = grain.MapDataset.range(-(-len(mine) // length)).map(read)
    for chunk, count in chunks.to_iter_dataset(options):
        *sent, counts = _parallel.put(recipe.mesh, chunk, _parallel.SHARED)
        yield (*sent, rows, counts), count
