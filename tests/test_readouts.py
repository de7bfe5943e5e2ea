"""Readouts of the membrane; their numbers against SpikingJelly are in nn/test_nonspiking.py."""

import jax.numpy as jnp
import numpy as np

from jaxsnn import readouts


def test_each_readout():
    v_seq = jnp.array([[[0.5, -0.2]], [[-0.8, 0.6]], [[0.3, -0.1]]])
    for name, expected in {
        "max_membrane": [[0.5, 0.6]],
        "max_abs_membrane": [[-0.8, 0.6]],
        "mean_membrane": [[0.0, 0.1]],
        "last_membrane": [[0.3, -0.1]],
    }.items():
        np.testing.assert_allclose(getattr(readouts, name)(v_seq), expected, atol=1e-7)


def test_a_tie_goes_to_the_negative_side():
    assert readouts.max_abs_membrane(jnp.array([[2.0], [-2.0]])) == -2.0
