"""Dropout and DropConnect: which masks are drawn, when, and what inference makes of them."""

import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick
from flax import nnx

from jaxsnn import nn

KEY = jax.random.key(0)
ONES = np.ones((4, 64, 32), "float32")


def train(module, xs, key=KEY, **kwargs):
    return np.asarray(nn.unroll(module, xs, key=key, **kwargs)[1])


def test_dropout_drops_the_same_at_every_step():
    ys = train(nn.Dropout(0.25), ONES)
    assert set(np.unique(ys)) == {0, np.float32(1 / 0.75)}
    np.testing.assert_array_equal(ys, np.broadcast_to(ys[0], ys.shape))
    dropped = np.mean(ys[0] == 0)  # of 2048; the standard deviation is 0.01
    assert abs(dropped - 0.25) < 0.04
    assert len(np.unique(ys[0], axis=0)) == 64  # other elements in each example


def test_dropout2d_drops_whole_channels():
    ys = train(nn.Dropout2d(0.5), np.ones((3, 40, 2, 3, 20), "float32"))
    np.testing.assert_array_equal(ys, np.broadcast_to(ys[:1, :, :1, :1], ys.shape))
    assert abs(np.mean(ys[0, :, 0, 0] == 0) - 0.5) < 0.08  # of 800; standard deviation 0.018
    with pytest.raises(ValueError, match=r"needs images \[N, H, W, C\].*got \[64, 32\]"):
        train(nn.Dropout2d(), ONES)


def test_dropout_follows_the_key_and_the_place():
    net = nn.Sequential(nn.Dropout(), jnp.abs, nn.Dropout())
    ys = train(net, ONES)
    np.testing.assert_array_equal(train(net, ONES), ys)
    assert np.any(train(net, ONES, jax.random.key(1)) != ys)
    assert abs(np.mean(ys == 0) - 0.75) < 0.05  # two masks, which have nothing in common


def test_dropout_in_stretches_drops_what_the_whole_drops():
    def runs(xs):
        net = nn.Sequential(nn.Dropout(), nn.IFNode())
        whole, kept = (nn.unroll(net, xs, key=KEY, checkpoint_every=n)[1] for n in (None, 3))
        carry, head, _ = nn.unroll(net, xs[:2], key=KEY)
        _, tail, _ = nn.unroll(net, xs[2:], carry, key=KEY)
        return whole, kept, jnp.concatenate([head, tail])

    whole, kept, streamed = quick.run_once(runs, jax.random.uniform(KEY, (4, 64, 32)))
    assert whole.any()
    np.testing.assert_array_equal(kept, whole)
    np.testing.assert_array_equal(streamed, whole)


def test_without_training_nothing_is_dropped():
    for layer in (nn.Dropout(), nn.Dropout2d()):
        np.testing.assert_array_equal(nn.unroll(layer, ONES)[1], ONES)
        np.testing.assert_array_equal(layer(ONES), ONES)


def test_dropout_in_containers():
    """The same elements at every step: they are 0 throughout, and no others ever are."""

    def runs(xs):
        containers = (
            nn.ElementWiseRecurrentContainer(nn.Dropout(), operator.add),
            nn.LinearRecurrentContainer(nn.Dropout(), 32, 32, rngs=nnx.Rngs(0)),
        )
        return [nn.unroll(container, xs, key=KEY)[1] for container in containers]

    for ys in quick.run_once(runs, jax.random.uniform(KEY, (4, 64, 32), minval=0.5)):
        always = np.all(ys == 0, axis=0)
        assert abs(np.mean(always) - 0.5) < 0.05
        np.testing.assert_array_equal(np.any(ys == 0, axis=0), always)


# DropConnect.


def connect(rate=0.4, dtype="float32", **kwargs):
    layer = nn.contrib.DropConnectLinear(
        32, 8, rate=rate, param_dtype=dtype, rngs=nnx.Rngs(0), **kwargs
    )
    layer.bias[...] = jnp.linspace(-1.0, 1.0, 8, dtype=dtype)
    return layer


def test_dropconnect_masks():
    """Mean and variance over the masks are those that inference reckons with."""

    def runs(xs):
        layers = [connect(activation=None, invariant=invariant) for invariant in (False, True)]
        ys = [nn.unroll(layer, xs, key=KEY)[1] for layer in layers]
        return ys, layers[0].kernel[...], layers[0].bias[...]

    (other, same), w, b = quick.run_once(runs, np.ones((2, 4000, 32), "float32"))
    np.testing.assert_array_equal(same[0], same[1])
    assert np.all(np.any(other[0] != other[1], axis=0))
    for ys in (other[0], other[1], same[0]):
        np.testing.assert_allclose(ys.mean(0), 0.6 * (w.sum(0) + b), atol=0.04)
        np.testing.assert_allclose(ys.var(0), 0.24 * ((w**2).sum(0) + b**2), rtol=0.15)


def test_dropconnect_in_inference_is_the_mean():
    """For a ReLU behind a normal distribution there is a closed form."""

    def runs(xs):
        relu, none, square = (
            nn.unroll(connect(dtype="float64", activation=f), xs)[1]
            for f in (jax.nn.relu, None, jnp.square)
        )
        layer = connect(dtype="float64")
        w, b = layer.kernel[...], layer.bias[...].reshape(1, 1, 8)
        mean, var = 0.6 * (xs @ w + b), 0.24 * (xs**2 @ w**2 + b**2)
        std = jnp.sqrt(var)
        normal = jax.scipy.stats.norm
        expected = mean * normal.cdf(mean / std) + std * normal.pdf(mean / std)
        return (relu - expected) / std, none - mean, square - mean**2 - var

    with jax.enable_x64(True):
        xs = np.random.default_rng(0).normal(size=(2, 50, 32))
        of_relu, of_none, of_square = quick.run_once(runs, xs)
    assert np.max(np.abs(of_relu)) < 1.5e-3
    np.testing.assert_allclose(of_none, 0, atol=1e-12)
    np.testing.assert_allclose(of_square, 0, atol=1e-6)


def test_dropconnect_gradients():
    """Also where there is no input, so that no weight makes a difference."""

    def gradients(xs):
        layer = connect()
        layer.bias[...] = jnp.zeros(8)
        inference = jax.grad(lambda *args: jnp.sum(nn.unroll(*args)[1]), (0, 1))(layer, xs)
        training = jax.grad(lambda *args: jnp.sum(nn.unroll(*args, key=KEY)[1]))(layer, xs)
        return inference, training

    xs = np.zeros((2, 3, 32), "float32")
    xs[1] = 1
    leaves = jax.tree.leaves(quick.run_once(gradients, xs))
    assert len(leaves) == 5
    assert all(np.all(np.isfinite(leaf)) and np.any(leaf) for leaf in leaves)


def test_dropconnect_where_a_part_of_the_sequence_is_seen():
    xs = np.ones((4, 3, 32), "float32")

    def runs(xs):
        layer = connect(invariant=True)
        container = nn.ElementWiseRecurrentContainer(
            nn.Sequential(layer, lambda y: jnp.tile(y, (1, 4))), lambda y, x: x
        )
        return (
            nn.unroll(layer, xs, key=KEY)[1],
            nn.unroll(layer, xs, key=KEY, checkpoint_every=2)[1],
            nn.unroll(container, xs, key=KEY)[1],
        )

    whole, kept, inside = quick.run_once(runs, xs)
    np.testing.assert_allclose(kept, whole, rtol=1e-6)
    np.testing.assert_array_equal(inside, np.broadcast_to(inside[:1], inside.shape))
    with pytest.raises(ValueError, match=r"checkpoint_every; with invariant=True it keeps them"):
        train(connect(), xs, checkpoint_every=2)
    with pytest.raises(ValueError, match=r"in a recurrent container; with invariant=True"):
        train(nn.ElementWiseRecurrentContainer(connect(), operator.add), xs)
    with pytest.raises(ValueError, match="batch axis in training"):
        train(connect(), xs[:, 0])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.Dropout(1.0), ValueError, "rate must be at least 0 and below 1, got 1.0"),
        (lambda: nn.Dropout("a"), TypeError, "rate must be a number"),
        (lambda: connect(rate=-0.1), ValueError, "rate must be at least 0 and below 1"),
        (lambda: connect(invariant=1), TypeError, "invariant must be True or False"),
        (lambda: connect(activation=3), TypeError, "activation must be callable"),
        (lambda: connect()(jnp.ones((2, 3))), ValueError, r"in_features=32.*got \[2, 3\]"),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        jax.eval_shape(make)  # which draws no parameters
