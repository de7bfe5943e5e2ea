"""Data streamed from the host give the run of data on the device, to the last bit."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import quick
from flax import nnx

from jaxsnn import data, models, nn, training

IMAGES = data.fashion_mnist_mini()
TRAIN = IMAGES.train_images[:400], IMAGES.train_labels[:400]
TEST = IMAGES.test_images[:90], IMAGES.test_labels[:90]
SGD = optax.sgd(0.1, momentum=0.9)
STEPS = 12  # of 32 examples


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Five minibatches each, so that an epoch takes three of them, the last one partial."""
    size = 5 * 32 * (28 * 28 + 4)
    monkeypatch.setattr(training._stream, "CHUNK_BYTES", size)


def make(**kwargs):
    return training.create(
        models.StatefulSynapseNet(rngs=nnx.Rngs(0)),
        SGD,
        to_sequence=data.columns,
        batch_size=32,
        seed=7,
        **kwargs,
    )


def assert_same(actual, expected):
    jax.tree.map(np.testing.assert_array_equal, quick.as_arrays(actual), quick.as_arrays(expected))


@pytest.fixture(scope="module")
def recipe():
    return make()[0]


@pytest.fixture(scope="module")
def on_the_device(recipe):
    """States and figures of two epochs."""
    state, found = make()[1], []
    for _ in range(2):
        state, metrics = training.train_epoch(recipe, state, *map(jnp.asarray, TRAIN))
        found.append((quick.as_arrays(state), quick.as_arrays(metrics)))
    return found


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_the_same_epochs(recipe, on_the_device, workers):
    state = make()[1]
    for expected_state, expected_metrics in on_the_device:
        state, metrics = training.stream_epoch(recipe, state, *TRAIN, workers=workers)
        assert_same(state, expected_state)
        assert_same(metrics, expected_metrics)


def test_the_same_test(recipe):
    state = make()[1]
    for n in (90, 64, 33, 5):
        some = tuple(array[:n] for array in TEST)
        expected = training.evaluate(recipe, state, *map(jnp.asarray, some))
        assert_same(training.stream_evaluate(recipe, state, *some), expected)


@pytest.mark.parametrize("go_on", ["streamed", "on the device"])
def test_an_epoch_may_be_left_and_gone_on_with(recipe, on_the_device, go_on):
    calls = []

    def between(state):
        calls.append(int(state.tally.minibatches))
        return len(calls) == 3

    state, metrics = training.stream_epoch(recipe, make()[1], *TRAIN, between=between)
    assert metrics is None
    assert calls == [0, 5, 10]
    assert (int(state.tally.minibatches), int(state.step), int(state.epoch)) == (10, 10, 0)
    if go_on == "streamed":
        state, metrics = training.stream_epoch(recipe, state, *TRAIN)
    else:
        state, metrics = training.train_epoch(recipe, state, *map(jnp.asarray, TRAIN))
    assert_same((state, metrics), on_the_device[0])
    assert int(state.step) == STEPS


def test_nothing_is_compiled_twice(recipe):
    state, _ = training.stream_epoch(recipe, make()[1], *TRAIN)
    jax.block_until_ready(state)
    with quick.compilations() as compiled:
        for _ in range(2):
            state, _ = training.stream_epoch(recipe, state, *TRAIN)
        jax.block_until_ready(state)
    assert compiled == []
    with quick.compilations() as compiled:
        jax.jit(lambda a: a + 1)(state.step)
    assert len(compiled) == 1  # the list is kept


def test_what_lies_on_a_disk(recipe, on_the_device, tmp_path):
    """A memory map: the examples are read when they are needed."""
    np.save(tmp_path / "images.npy", TRAIN[0])
    images = np.load(tmp_path / "images.npy", mmap_mode="r")
    state, metrics = training.stream_epoch(recipe, make()[1], images, TRAIN[1])
    assert_same((state, metrics), on_the_device[0])


class Source:
    """Examples that are made when they are asked for."""

    shape, dtype = TRAIN[0].shape, TRAIN[0].dtype

    def __init__(self):
        self.asked = 0

    def __getitem__(self, indices):
        self.asked += len(indices)
        return TRAIN[0][indices]


def test_a_source_of_your_own(recipe, on_the_device):
    source = Source()
    state, metrics = training.stream_epoch(recipe, make()[1], source, TRAIN[1])
    assert_same((state, metrics), on_the_device[0])
    assert source.asked == 3 * 5 * 32  # the last chunk is filled up


def test_several_inputs_dropout_and_normalisation():
    rngs = nnx.Rngs(0)
    stack = nn.Sequential(nn.Linear(28, 10, rngs=rngs), nn.BatchNorm(10), nn.Dropout(0.5))
    recipe, state = training.create(
        models.Classifier(stack),
        SGD,
        to_sequence=lambda inputs: (data.columns(inputs[0]), nn.sequence_mask(inputs[1], 28)),
        batch_size=32,
        seed=0,
    )
    copy = jax.tree.map(jnp.copy, state)
    lengths = np.arange(len(TRAIN[1]), dtype=np.int32) % 20 + 5
    inputs = TRAIN[0], lengths
    expected = training.train_epoch(
        recipe, copy, tuple(map(jnp.asarray, inputs)), jnp.asarray(TRAIN[1])
    )
    assert_same(training.stream_epoch(recipe, state, inputs, TRAIN[1]), expected)


def test_bad_arguments(recipe):
    state = make()[1]
    with pytest.raises(ValueError, match="batch_size=32 is larger than the training set of 5"):
        training.stream_epoch(recipe, state, TRAIN[0][:5], TRAIN[1][:5])
    with pytest.raises(ValueError, match="must hold the same number n of examples"):
        training.stream_evaluate(recipe, state, TRAIN[0], TRAIN[1][:5])
    with pytest.raises(TypeError, match=r"inputs must be an array .* got 1 \(int\)"):
        training.stream_epoch(recipe, state, [1, 2], TRAIN[1])
    with pytest.raises(ValueError, match="workers must be at least 0, got -1"):
        training.stream_epoch(recipe, state, *TRAIN, workers=-1)


def test_grain_is_named_where_it_is_missing(recipe, monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(ImportError, match=r"pip install -e \"\.\[stream\]\""):
        training.stream_epoch(recipe, make()[1], *TRAIN)


def test_an_error_of_the_source_is_raised(recipe):
    class Broken(Source):
        def __getitem__(self, indices):
            raise OSError("the disk has gone")

    with pytest.raises(OSError, match="the disk has gone"):
        training.stream_epoch(recipe, make()[1], Broken(), TRAIN[1])
