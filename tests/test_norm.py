"""The norm over a tree of arrays, for entries whose squares are no numbers of their dtype."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsnn import training

MAX = float(np.finfo(np.float32).max)


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([3.0, 4.0], 5.0),
        ([3e25, 4e25], 5e25),
        ([1e25, 1e-30], 1e25),
        ([3e-30, 4e-30], 5e-30),
        ([1.2e-38, 0.0], 1.2e-38),
        ([MAX, 1.0], MAX),
        ([MAX, MAX], MAX),  # sqrt(2) of it is no float32
        ([-np.inf, np.inf], np.inf),
        ([np.inf, np.nan], np.nan),
        ([np.nan, 1e30], np.nan),
        ([0.0, -0.0], 0.0),
    ],
)
def test_norm_of_any_size(entries, expected):
    a, b = np.float32(entries)
    norm = training.global_norm({"a": jnp.asarray(a), "b": [jnp.full((2, 1), b) / jnp.sqrt(2.0)]})
    assert norm.dtype == jnp.float32
    np.testing.assert_allclose(norm, np.float32(expected), rtol=1e-6)


def test_norm_of_ordinary_gradients_and_dtypes():
    rng = np.random.default_rng(0)
    arrays = rng.normal(size=(28, 32)), rng.normal(size=(7, 5, 3))
    expected = np.sqrt(sum(np.sum(array**2) for array in arrays))
    for dtype, rtol in ((jnp.float32, 1e-6), (jnp.bfloat16, 1e-3), (jnp.float16, 1e-3)):
        norm = training.global_norm([jnp.asarray(array, dtype) for array in arrays])
        assert norm.dtype == jnp.float32
        np.testing.assert_allclose(norm, expected, rtol=rtol)
    mixed = {
        "half": jnp.float16([3e4, 0]),
        "whole": jnp.array([40_000]),
        "bits": jnp.zeros(0, bool),
    }
    assert training.global_norm(mixed) == 5e4
    for empty in ({}, None, jnp.zeros((0, 3))):
        assert training.global_norm(empty) == 0
    with jax.enable_x64(True):
        norm = training.global_norm((np.float64([3e200]), np.float32([1.0]), np.float64([4e200])))
        assert norm.dtype == jnp.float64
        np.testing.assert_allclose(norm, 5e200, rtol=1e-14)
        assert training.global_norm(np.float64([1e308, 1.7e308])) == np.finfo(np.float64).max
