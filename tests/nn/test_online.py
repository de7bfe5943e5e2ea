"""Neurons without a gradient through time, and with other outputs; numbers are in
test_psn_glif_misc.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsnn import functional, nn


def test_the_gradient_of_a_sequence_is_the_sum_over_its_steps():
    """So it can be trained step by step, with memory for one."""
    node = nn.contrib.SLTTLIFNode(v_threshold=0.5)
    xs = jnp.cos(jnp.arange(12.0)).reshape(4, 3)

    def rate(gain, carry, xs):
        carry, ys = nn.unroll(node, gain * xs, carry)
        return jnp.sum(ys), carry

    @jax.jit
    def both_ways(gain):
        gradient = jax.grad(rate, has_aux=True)
        state, total = node.initialize_carry((3,)), 0.0
        whole = gradient(gain, state, xs)
        for x in xs:
            part, state = gradient(gain, state, x[None])
            total += part
        return whole, (total, state)

    whole, by_steps = both_ways(1.0)
    np.testing.assert_allclose(by_steps[0], whole[0], rtol=1e-6)
    np.testing.assert_allclose(by_steps[1], whole[1], rtol=1e-6)


def test_the_layer_behind_learns_from_the_trace():
    spikes, trace = np.float32([[1, 0]]), np.float32([[1.5, 0.25]])
    kernel, weights = np.float32([[1, 2], [3, 4]]), np.float32([[0.5, -1]])

    def output(kernel, spikes):
        y = functional.with_trace_gradient(lambda s: s @ kernel, spikes, jnp.asarray(trace))
        return jnp.sum(y * weights), y

    gradient = jax.jit(jax.grad(output, (0, 1), has_aux=True))
    (to_kernel, to_spikes), y = gradient(kernel, spikes)
    np.testing.assert_array_equal(y, spikes @ kernel)
    np.testing.assert_allclose(to_kernel, trace.T @ weights)
    np.testing.assert_allclose(to_spikes, weights @ kernel.T)


def test_channels_may_be_any_axis():
    x = jnp.full((2, 3, 4), 0.6)
    node = nn.contrib.ActivationAwareIFNode(v_threshold=jnp.array([[0.5], [0.6], [0.7]]))
    _, spikes = jax.jit(node)(jnp.zeros_like(x), x)
    np.testing.assert_array_equal(np.asarray(spikes)[0, :, 0], [1, 1, 0])
    node = nn.contrib.ActivationAwareIFNode(v_offset=[0.0, 0.1, 0.2])
    with pytest.raises(ValueError, match=r"v_offset of .* has the shape \[3\], which does not"):
        node(jnp.zeros_like(x), x)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.contrib.LIAFNode("relu", True), TypeError, "act must be callable, got 'relu'"),
        (
            lambda: nn.contrib.LIAFNode(jnp.tanh, 1),
            TypeError,
            "threshold_related must be True or False",
        ),
        (lambda: nn.contrib.OTTTLIFNode(tau=1.0), ValueError, "tau must be greater than 1"),
        (lambda: nn.NonSpikingLIFNode(tau=0.5), ValueError, "tau must be greater than 1"),
        (
            lambda: nn.contrib.ActivationAwareIFNode(v_threshold=[0.5, 0.0]),
            ValueError,
            "v_threshold must be greater",
        ),
        (
            lambda: nn.contrib.ActivationAwareIFNode(v_threshold=["1"]),
            TypeError,
            "v_threshold must be an array of nu",
        ),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()
