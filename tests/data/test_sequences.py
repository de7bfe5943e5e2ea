"""Images as sequences: which axis is time, and the exact division by 255."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsnn import data


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (3, 5, 7), dtype=np.uint8)


def test_columns_read_from_left_to_right(images):
    xs = data.columns(images)
    assert xs.shape == (7, 3, 5)
    for t in range(7):
        np.testing.assert_array_equal(xs[t], images[:, :, t].astype(np.float32) / np.float32(255))


def test_rows_read_from_top_to_bottom(images):
    xs = data.rows(images)
    assert xs.shape == (5, 3, 7)
    for t in range(5):
        np.testing.assert_array_equal(xs[t], images[:, t, :].astype(np.float32) / np.float32(255))


@pytest.mark.parametrize("sequence", data.SEQUENCES.values())
def test_all_256_values_are_exact_compiled_too(sequence):
    values = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    expected = np.sort(np.arange(256, dtype=np.float32) / np.float32(255))
    for run in (sequence, jax.jit(sequence)):
        xs = run(values)
        assert xs.dtype == jnp.float32
        np.testing.assert_array_equal(np.sort(np.ravel(xs)), expected)


@pytest.mark.parametrize("sequence", data.SEQUENCES.values())
def test_other_arrays_are_refused(sequence):
    with pytest.raises(TypeError, match="images must be uint8"):
        sequence(jnp.zeros((2, 28, 28)))
    for shape in ((28, 28), (28, 28, 1), (5, 28, 28, 1), (5, 1, 28, 28), (2, 5, 28, 28, 3)):
        message = re.escape(f"got {list(shape)}; a batch of one image is images[None]")
        with pytest.raises(ValueError, match=message):
            sequence(jnp.zeros(shape, jnp.uint8))
