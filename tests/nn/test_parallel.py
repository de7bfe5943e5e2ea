"""Layers that need all time steps at once; their numbers are in test_psn_glif_misc.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxsnn import functional, nn, surrogate

SMOOTH = surrogate.ATan(spiking=False)  # every change of an input shows in the output
RNGS = nnx.Rngs(0)


def test_masking_hides_the_future():
    weight = np.arange(1, 17, dtype=np.float32).reshape(4, 4)
    masked = np.tril(np.triu(weight, -1))
    mask = jax.jit(functional.masked_psn_weight, static_argnames="k")
    for lambda_, expected in ((1.0, masked), (0.5, (masked + weight) / 2), (1.5, masked)):
        np.testing.assert_array_equal(mask(weight, k=2, lambda_=lambda_), expected)


def test_lambda_is_set_on_a_copy():
    """As a number it is a setting; as an array a jitted function need not compile anew for it."""
    net = nn.Sequential(jnp.tanh, nn.contrib.MaskedPSN(1, 4, surrogate_function=SMOOTH, rngs=RNGS))
    xs = jnp.cos(jnp.arange(8.0)).reshape(4, 2)
    traces = []

    @jax.jit
    def run(net, lambda_):
        traces.append(lambda_)
        return nn.unroll(nn.contrib.with_lambda(net, lambda_), xs)[1]

    for value in (0.25, 1.0):
        other = nn.contrib.with_lambda(net, value)
        assert (other[1].lambda_, net[1].lambda_) == (value, 0.0)
        np.testing.assert_allclose(run(net, jnp.float32(value)), nn.unroll(other, xs)[1], rtol=1e-6)
    assert len(traces) == 1
    held = nn.contrib.with_lambda(net, jnp.float32(0.5))
    grads = jax.grad(lambda net: jnp.sum(nn.unroll(net, xs)[1]))(held)
    assert grads[1].lambda_ == 0  # it is not trained
    assert jnp.any(grads[1].weight[...] != 0)
    assert nn.contrib.with_lambda(held, 0.5)[1].lambda_ == 0.5


def test_first_parameters():
    layers = nn.PSN(64, rngs=RNGS), nn.SlidingPSN(64, exp_init=False, rngs=RNGS)
    for layer in layers:
        assert 0.1 < np.max(np.abs(layer.weight)) <= 1 / 8
        assert np.all(np.asarray(layer.bias) == -1)
    assert layers[0].bias.shape == (64, 1)
    np.testing.assert_array_equal(nn.SlidingPSN(3).weight, [0.25, 0.5, 1.0])
    glif = nn.contrib.GatedLIFNode(5, 3, init_tau=0.2, rngs=RNGS)
    for gate in (glif.alpha, glif.beta, glif.gamma):
        assert gate.shape == (3,)
        assert 0 < np.max(np.abs(gate)) <= 0.1
    shares = {"tau": 0.2, "v_threshold": 0.5, "linear_decay": 0.05, "v_subreset": 0.5}
    for name, share in shares.items():
        logits = np.asarray(getattr(glif, name))
        np.testing.assert_allclose(1 / (1 + np.exp(-logits)), [share] * 3, rtol=1e-6)
    assert glif.conduct.shape == (5, 3)


def test_outputs_keep_the_dtype():
    xs = jnp.ones((4, 2, 3), jnp.bfloat16)
    for layer in (
        nn.PSN(4, rngs=RNGS),
        nn.contrib.GatedLIFNode(4, 3, rngs=RNGS),
        nn.contrib.DSRLIFNode(),
    ):
        assert jax.eval_shape(layer, xs) == jax.ShapeDtypeStruct(xs.shape, xs.dtype)


def test_a_threshold_below_its_bound_is_not_used():
    node = nn.contrib.DSRIFNode(1.0, v_threshold_lower_bound=0.5)
    node.v_threshold[...] = jnp.float32(0.1)
    xs = jnp.full((4, 1), 0.5)
    fixed = nn.contrib.DSRIFNode(0.5, v_threshold_training=False)
    assert jax.tree.leaves(nnx.state(fixed)) == []
    np.testing.assert_array_equal(node(xs), fixed(xs))


def test_wrong_sequences_are_named():
    xs = jnp.ones((5, 2, 3))
    for layer in (nn.PSN(6, rngs=RNGS), nn.contrib.MaskedPSN(2, 6, rngs=RNGS)):
        with pytest.raises(ValueError, match=r"\(T=6\) needs sequences of 6 time steps.*\[5, 2, 3"):
            nn.unroll(layer, xs)
    with pytest.raises(ValueError, match=r"GatedLIFNode\(T=6\) needs sequences of 6"):
        nn.unroll(nn.contrib.GatedLIFNode(6, rngs=RNGS), xs)
    with pytest.raises(ValueError, match=r"GatedLIFNode\(inplane=4\).*channels last"):
        nn.unroll(nn.contrib.GatedLIFNode(5, 4, rngs=RNGS), xs)
    with pytest.raises(TypeError, match="input of DSRIFNode must be floating"):
        nn.unroll(nn.contrib.DSRIFNode(), jnp.ones((5, 2), jnp.int32))
    with pytest.raises(ValueError, match="cannot run step by step"):
        nn.unroll(nn.ElementWiseRecurrentContainer(nn.contrib.DSRIFNode(), jnp.add), xs)


def test_a_sliding_neuron_can_be_masked_and_watched():
    """Then it runs step by step; at a step that does not count the window stays where it is."""
    xs = jnp.cos(jnp.arange(10.0)).reshape(5, 2, 1)
    neuron = nn.SlidingPSN(3, surrogate_function=SMOOTH)
    mask = nn.sequence_mask(jnp.array([5, 3]), 5)
    (past, ys, extras), short = jax.jit(
        lambda xs: (
            nn.unroll(neuron, xs, mask=mask, record="past"),
            nn.unroll(neuron, xs[:3, 1]),
        )
    )(xs)
    np.testing.assert_allclose(past[1], short[0], rtol=1e-6)
    np.testing.assert_allclose(ys[:3, 1], short[1], rtol=1e-6)
    np.testing.assert_array_equal(extras.records["past"][2, 0, 0], xs[1:3, 0, 0])


def test_a_carry_of_another_k_is_refused():
    xs = jnp.ones((5, 2, 3))
    carry = jnp.zeros((2, 3, 3))
    with pytest.raises(ValueError, match=r"SlidingPSN must hold 2 inputs of shape \(2, 3\)"):
        nn.unroll(nn.SlidingPSN(3), xs, carry)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.PSN(0, rngs=RNGS), ValueError, "T must be at least 1, got 0"),
        (lambda: nn.PSN(4, rngs=0), TypeError, r"rngs must be flax\.nnx\.Rngs"),
        (lambda: nn.contrib.MaskedPSN(0, 4, rngs=RNGS), ValueError, "k must be at least 1"),
        (
            lambda: nn.contrib.MaskedPSN(2, 4, 1.5, rngs=RNGS),
            ValueError,
            "lambda_init must be between",
        ),
        (
            lambda: nn.contrib.with_lambda(nn.SlidingPSN(2), 0.5),
            ValueError,
            "no MaskedPSN in SlidingPSN",
        ),
        (lambda: nn.SlidingPSN(2, False), TypeError, r"rngs must be flax\.nnx\.Rngs.*got None"),
        (
            lambda: nn.contrib.GatedLIFNode(4, init_tau=1.0, rngs=RNGS),
            ValueError,
            "init_tau must be betwe",
        ),
        (
            lambda: nn.contrib.DSRIFNode(0.001),
            ValueError,
            "at least v_threshold_lower_bound=0.01, got 0.0",
        ),
        (
            lambda: nn.contrib.DSRIFNode(alpha=1.5),
            ValueError,
            "alpha must be .* at most 1, got 1.5",
        ),
        (lambda: nn.contrib.DSRLIFNode(tau=0.0), ValueError, "tau must be greater than 0"),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()
