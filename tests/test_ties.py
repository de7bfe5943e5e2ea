"""Slopes at an exact tie, those of torch 2.14 and SpikingJelly 2.0.0, and fillers that are finite.

Spike counts are integers, so that a potential at a bound, two equal maxima, and a loss of exactly
0 are common.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxsnn import encoding, functional, learning, losses, nn, quantize, readouts, surrogate
from jaxsnn.interop import snntorch

TIED = jnp.array([[0.0, 1.0, -2.0], [3.0, 1.0, 2.0], [3.0, -1.0, 2.0], [0.0, 0.0, -2.0]])
LABELS = jnp.array([0, 0])
SHARED = jnp.array([[[1.0, 0.0], [1.0, 0.0]]])  # two examples of a class share one spike, exactly


def similarity(kernel, loss, *parameter):
    return lambda spikes: losses.spike_similar_loss(spikes, LABELS, kernel, loss, *parameter)


def beta_of_leaky(beta):
    settings = {
        "reset_mechanism": "none",
        "reset_delay": True,
        "surrogate_function": surrogate.ATan(),
    }
    v = jnp.ones(2)
    return snntorch.leaky_step(v, v, beta=beta, threshold=jnp.float32(9.0), **settings)[0]


def attention(xs):
    layer = nn.contrib.TemporalWiseAttention(1, 1, rngs=nnx.Rngs(0))
    for linear in (layer.weights.reduce, layer.weights.expand):
        linear.kernel[...] = jnp.ones((1, 1))
    return layer(xs)


def masked(readout):
    """Only the second and third steps of `TIED` count, and the first holds rubbish."""
    mask = jnp.array([False, True, True, False])
    return lambda v: readout(v.at[0].set(jnp.nan), mask=mask)


# The function, where it has a tie, and the gradient of its sum there.
ROWS = {
    "max_membrane": (readouts.max_membrane, TIED, [[0, 1, 0], [1, 0, 1], [0, 0, 0], [0, 0, 0]]),
    "max_membrane, all equal": (readouts.max_membrane, jnp.zeros(4), [1, 0, 0, 0]),
    "max_membrane, mask": (
        masked(readouts.max_membrane),
        TIED,
        [[0, 0, 0], [1, 1, 1], [0, 0, 0], [0, 0, 0]],
    ),
    "max_abs_membrane": (
        readouts.max_abs_membrane,
        TIED,
        [[0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 0]],
    ),
    "max_abs_membrane, mask": (
        masked(readouts.max_abs_membrane),
        TIED,
        [[0, 0, 0], [1, 0, 1], [0, 1, 0], [0, 0, 0]],
    ),
    "l1, polynomial": (similarity("polynomial", "l1", 2), SHARED, np.zeros((1, 2, 2))),
    "l1, linear, silent": (similarity("linear", "l1"), 0 * SHARED, np.zeros((1, 2, 2))),
    "mse, linear, silent": (similarity("linear", "mse"), 0 * SHARED, np.zeros((1, 2, 2))),
    # Torch's order is [T, N, C, H, W]: the first of the two ones is that of channel 0.
    "TemporalWiseAttention": (
        attention,
        jnp.array([[0.0, 1.0], [1.0, 0.0]]).reshape(1, 1, 1, 2, 2),
        np.reshape([[0.892148, 0.892148], [1.190440, 0.892148]], (1, 1, 1, 2, 2)),
    ),
    "MaxPool": (
        nn.MaxPool((4,)),
        jnp.array([[[1.0], [2.0], [2.0], [2.0]]]),
        [[[0], [1], [0], [0]]],
    ),
    "KLIFNode": (
        lambda x: functional.klif_step(
            jnp.zeros(1),
            x,
            k=jnp.ones(()),
            scale_reset=False,
            tau=2.0,
            decay_input=True,
            v_threshold=1.0,
            v_reset=0.0,
            surrogate_function=surrogate.Rect(),
            detach_reset=True,
        )[0],
        jnp.zeros(1),
        [0],
    ),
    "clamp": (
        lambda x: quantize.clamp(x, 0.0, 1.0),
        jnp.array([-0.5, 0.0, 1.0, 1.5]),
        [0, 1, 1, 0],
    ),
    "clamp_by_linear": (
        lambda x: quantize.clamp_by_linear(x, 1.0) * jnp.arange(4.0),
        jnp.array([0.0, 1.0, 1.0, 0.0]),
        [-1.125, 0.125, 0.625, 0.375],
    ),
    "masked_psn_weight": (
        lambda share: functional.masked_psn_weight(jnp.ones((2, 2)), k=1, lambda_=share[0]),
        jnp.array([1.0]),
        [-2],
    ),
    "Leaky, beta": (beta_of_leaky, jnp.array([0.0, 1.0]), [1, 1]),
    "LowerBound": (learning.LowerBound(0.0, 0.5), jnp.array([-1.0, 0.0, 0.25]), [0, 0, 1]),
    "UpperBound": (learning.UpperBound(1.0, 0.5), jnp.array([2.0, 1.0, 0.75]), [0, 0, -1]),
    "SoftSign's primal": (surrogate.SoftSign(2.0, spiking=False), jnp.array([-0.0, 0.0]), [1, 1]),
    "LeakyKReLU's primal": (surrogate.LeakyKReLU(0.25, spiking=False), jnp.array([0.0]), [1]),
    "LogTailedReLU's primal": (surrogate.LogTailedReLU(0.25, spiking=False), jnp.zeros(1), [0.25]),
}


def test_slopes_at_ties():
    def slopes():
        return {
            name: jax.grad(lambda x, f=function: jnp.sum(f(x)))(at)
            for name, (function, at, _) in ROWS.items()
        }

    for name, slope in jax.jit(slopes)().items():
        np.testing.assert_allclose(slope, ROWS[name][2], atol=1e-6, err_msg=name)


def test_second_derivatives_follow_the_first():
    curvature = jax.hessian(lambda v: readouts.max_membrane(v) ** 2)(jnp.array([1.0, 2.0, 2.0]))
    np.testing.assert_array_equal(curvature, np.diag([0.0, 2.0, 0.0]))


def test_fillers_are_finite():
    """Masked steps, and values that no logarithm takes, under JAX's own checks, step by step."""
    mask = jnp.array([[False, True, True, False], [False, False, False, False]]).T
    v = -jnp.ones((4, 2))
    with jax.debug_infs(True), jax.debug_nans(True):
        np.testing.assert_array_equal(readouts.max_membrane(v, mask=mask), [-1, 0])
        np.testing.assert_array_equal(readouts.max_abs_membrane(v, mask=mask), [-1, 0])
        times = encoding.latency(jnp.array([0.0, 1.0]), 4, function="log").argmax(0)
        np.testing.assert_array_equal(times, [3, 0])
        assert encoding.latency(jnp.array([0.0]), 1, function="log") == 1
        pooled = nn.MaxPool((3,), 2, padding=1)(jnp.full((1, 4, 1), -1.0))
        np.testing.assert_array_equal(pooled, jnp.full((1, 2, 1), -1.0))
