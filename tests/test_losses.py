"""Losses against torch's arithmetic, done by hand."""

import jax.numpy as jnp
import numpy as np

from jaxsnn import losses


def test_firing_rate_mse():
    rates = jnp.array([[0.5, 0.25], [1.0, 0.0]])
    per_example = losses.firing_rate_mse(rates, jnp.array([0, 1]))
    np.testing.assert_allclose(per_example, [(0.25 + 0.0625) / 2, 1.0])


def test_correct_takes_the_first_of_equals():
    outputs = jnp.array([[0.0, 0.0], [0.0, 0.0], [0.1, 0.2]])
    np.testing.assert_array_equal(
        losses.correct(outputs, jnp.array([0, 1, 1])), [True, False, True]
    )
