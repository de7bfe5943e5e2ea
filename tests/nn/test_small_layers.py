"""Pooling, delays, standardised weights, spike counts, attention: what no golden array shows."""

import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick
from flax import nnx

from jaxsnn import nn

KEY = jax.random.key(0)
ATTENTIONS = [
    nn.contrib.SpikingSelfAttention,
    nn.contrib.TokenQKAttention,
    nn.contrib.ChannelQKAttention,
]


def rngs():
    return nnx.Rngs(0)


def spikes(shape, rate=0.4, seed=0):
    return (np.random.default_rng(seed).random(shape) < rate).astype("float32")


# Pooling, voting.


def test_of_several_largest_the_first_gets_the_gradient():
    """As in torch. Among spikes it is the rule that several are the largest."""
    xs = np.ones((2, 1, 4, 4, 2), "float32")
    g = quick.run_once(jax.grad(lambda xs: jnp.sum(nn.unroll(nn.MaxPool((2, 2)), xs)[1])), xs)
    expected = np.zeros((4, 4))
    expected[::2, ::2] = 1
    np.testing.assert_array_equal(g, np.broadcast_to(expected[:, :, None], g.shape))


def test_padding_and_strides_of_pooling():
    xs = -np.arange(1.0, 26.0, dtype="float32").reshape(1, 1, 5, 5, 1)

    def runs(xs):
        largest = nn.MaxPool((3, 3), 2, padding=1)
        mean = nn.AvgPool((3, 3), 2, padding=1)
        rows = nn.AvgPool((1, 5))
        steps = nn.MaxPool((2,), 1, padding=((0, 1),))  # one axis: over the columns
        return [nn.unroll(layer, xs)[1] for layer in (largest, mean, rows, steps)]

    largest, mean, rows, steps = quick.run_once(runs, xs)
    np.testing.assert_array_equal(
        largest[0, 0, :, :, 0], [[-1, -2, -4], [-6, -7, -9], [-16, -17, -19]]
    )
    np.testing.assert_allclose(mean[0, 0, 0, 0, 0], -(1 + 2 + 6 + 7) / 9)  # 0 outside, as in torch
    np.testing.assert_allclose(rows[0, 0, :, 0, 0], [-3, -8, -13, -18, -23])
    np.testing.assert_array_equal(steps, xs)


def test_layers_that_change_the_shape_stand_between_others():
    def runs(xs):
        net = nn.Sequential(
            nn.Conv(2, 3, (3, 3), padding=1, rngs=nnx.Rngs(0)),
            nn.MaxPool((2, 2)),
            nn.Flatten(),
            nn.Linear(3 * 3 * 2, 20, rngs=nnx.Rngs(1)),
            nn.IFNode(),
            nn.VotingLayer(10),
        )
        assert net.num_feature_axes == 3
        carry = net.initialize_carry(xs.shape[1:])
        return nn.unroll(net, xs)[1], jnp.stack([net(carry, xs[0])[1]])

    ys, first = quick.run_once(runs, spikes((3, 2, 6, 4, 2)))
    assert ys.shape == (3, 2, 2)
    np.testing.assert_allclose(ys[:1], first)


# Delay, NeuNorm: cells that are not in the table of cells or do more than it asks.


def test_masked_steps_do_not_enter_a_delay():
    xs, lengths = np.arange(1.0, 11.0, dtype="float32").reshape(5, 2), np.array([3, 5])

    def runs(xs):
        mask = nn.sequence_mask(lengths, 5)
        carry, ys, extras = nn.unroll(nn.Delay(2), xs, mask=mask, record="past")
        return carry, ys, extras.records["past"]

    carry, ys, record = quick.run_once(runs, xs)
    np.testing.assert_array_equal(ys, [[0, 0], [0, 0], [1, 2], [0, 4], [0, 6]])
    np.testing.assert_array_equal(carry, [[3, 5], [8, 10]])
    np.testing.assert_array_equal(record[4, 1], [8, 10])


def test_neunorm_and_attention_run_step_by_step():
    """In one go, by hand, in stretches, and some steps masked."""
    xs = spikes((5, 2, 4, 3, 2), 0.5)

    def runs(xs):
        attention = nn.contrib.SpikingSelfAttention(4, 2, rngs=nnx.Rngs(1))
        attention.in_proj[1].bias[...] += 2.0  # so that it fires
        attention.out_proj[1].bias[...] += 1.0
        norm = nn.contrib.NeuNorm(2, 4, 3, rngs=nnx.Rngs(0))
        results = []
        for cell, x in ((norm, xs), (attention, xs.reshape(5, 2, 6, 4))):
            carry, ys = cell.initialize_carry(x.shape[1:]), []
            for now in x:
                carry, y = cell(carry, now)
                ys.append(y)
            middle, head = nn.unroll(cell, x[:2])
            after, tail = nn.unroll(cell, x[2:], middle)
            mask = jnp.zeros((5, 2), bool).at[:2].set(True)
            held, masked = nn.unroll(cell, x, mask=mask)
            streamed = after, jnp.concatenate([head, tail])
            results.append((nn.unroll(cell, x), (carry, jnp.stack(ys)), streamed))
            results.append(((middle, head), (held, masked[:2])))
        return results

    for expected, *others in quick.run_once(runs, xs):
        assert expected[1].any()
        for other in others:
            assert jax.tree.structure(other) == jax.tree.structure(expected)
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), other, expected)


# Standardised weights.


def test_standardised_weights():
    """Scale and offset of the weights make no difference, and the parameters stay as they are."""

    def runs(x):
        plain = nn.contrib.WSLinear(
            8, 3, epsilon=1e-12, gain=False, use_bias=False, rngs=nnx.Rngs(0)
        )
        before = plain.kernel[...]
        y = plain(x)
        kept = plain.kernel[...] - before
        plain.kernel[...] = 5 * before + 2
        return y, plain(x), kept

    x = np.eye(8, dtype="float32")
    weights, same, kept = quick.run_once(runs, x)
    np.testing.assert_allclose(weights.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(weights.var(0, ddof=1), 1 / 8, rtol=1e-5)
    np.testing.assert_allclose(same, weights, atol=1e-5)
    assert not kept.any()


# Spike counts.


def test_counts_and_spikes_give_the_same():
    """Forward and backward, through a layer without bias; in training nothing is converted."""
    counts = np.random.default_rng(0).integers(0, 4, (3, 2, 5)).astype("float32")

    def runs(counts):
        linear = nn.Linear(5, 4, use_bias=False, rngs=nnx.Rngs(0))
        net = nn.Sequential(nn.contrib.SpikeCountToBinary(3), linear, nn.contrib.TemporalBinSum(3))

        def total(run):
            return lambda linear, xs: jnp.sum(jnp.cos(run(linear, xs)))

        def by_spikes(linear, xs):
            return nn.unroll(nn.Sequential(net[0], linear, net[2]), xs)[1]

        def by_counts(linear, xs):
            return nn.unroll(linear, xs)[1]

        spikes = nn.unroll(net[0], counts)[1]
        passed = nn.unroll(net[0], counts, key=KEY)[1]
        gradients = (jax.grad(total(run), (0, 1))(linear, counts) for run in (by_spikes, by_counts))
        return spikes, passed, *gradients

    spikes, passed, of_spikes, of_counts = quick.run_once(runs, counts)
    assert spikes.shape == (9, 2, 5)
    assert set(np.unique(spikes)) == {0, 1}
    np.testing.assert_array_equal(spikes.reshape(3, 3, 2, 5).sum(1), counts)
    np.testing.assert_array_equal(passed, counts)
    for a, b in zip(jax.tree.leaves(of_spikes), jax.tree.leaves(of_counts), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


# Attention.


def lif(current, v_threshold):
    """Spikes of a LIF neuron with tau=2."""
    v, spikes = np.zeros_like(current[0]), []
    for x in current:
        h = v + (x - v) / 2
        s = (h >= v_threshold).astype(h.dtype)
        v = (1 - s) * h
        spikes.append(s)
    return np.stack(spikes)


@pytest.mark.parametrize(
    "cls",
    [nn.contrib.SpikingSelfAttention, nn.contrib.TokenQKAttention, nn.contrib.ChannelQKAttention],
)
def test_spiking_attention_attends(cls):
    """Against the equations written with loops over heads, on recorded queries, keys and values.

    (In the golden case of SpikingSelfAttention no neuron of the attention fires.)
    """
    heads, features = 2, 3

    def runs(xs):
        cell = cls(heads * features, heads, rngs=nnx.Rngs(0))
        cell.in_proj[1].bias[...] += 2.0 if cls is nn.contrib.SpikingSelfAttention else 1.0
        record = ("in_proj", "attn_lif", "out_proj.0", "out_proj.2.v")
        _, _, extras = nn.unroll(cell, xs, key=KEY, record=record)
        return extras, cell.out_proj[0].kernel[...]

    (records, trained), kernel = quick.run_once(runs, spikes((4, 3, 5, heads * features)))
    for part in (trained.in_proj, trained.out_proj):
        assert part[1].mean[...].any()
        assert (part[1].var[...] != 1).all()
    assert records["out_proj.2.v"].shape == (4, 3, 5, 6)

    roles = np.split(records["in_proj"], cls.roles, axis=-1)
    inputs = []
    for h in range(heads):
        q, k, *v = (a[..., h * features : (h + 1) * features] for a in roles)
        if cls is nn.contrib.SpikingSelfAttention:
            inputs.append(lif(0.125 * (q @ k.swapaxes(-1, -2)) @ v[0], 0.5))
        elif cls is nn.contrib.TokenQKAttention:
            inputs.append(lif(q.sum(-1, keepdims=True), 0.5) * k)
        else:
            inputs.append(lif(q.sum(-2, keepdims=True), 0.5) * k)
    assert 0.05 < np.mean(records["attn_lif"]) < 0.999
    np.testing.assert_allclose(
        records["out_proj.0"], np.concatenate(inputs, -1) @ kernel, atol=1e-5
    )


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"checkpoint_every": 2}, r"all time steps together.* checkpoint_every"),
        ({"mask": np.ones((4, 2), bool)}, "cannot leave some out by mask"),
    ],
)
def test_attention_of_time_refuses_parts(kwargs, message):
    def run(xs):
        nn.unroll(nn.contrib.TemporalWiseAttention(4, 2, rngs=rngs()), xs, **kwargs)

    with pytest.raises(ValueError, match=message):
        jax.eval_shape(run, jnp.ones((4, 2, 3)))


def test_attention_of_time_refuses_to_stand_in_a_container():
    def run(xs):
        layer = nn.contrib.TemporalWiseAttention(4, 2, rngs=rngs())
        nn.unroll(nn.ElementWiseRecurrentContainer(layer, operator.add), xs)

    with pytest.raises(ValueError, match="cannot run step by step"):
        jax.eval_shape(run, jnp.ones((4, 2, 3)))


def test_printing():
    def check():
        expected = {
            nn.MaxPool((2, 2), padding="SAME"): (
                "MaxPool(window_shape=(2, 2), strides=(2, 2), padding='SAME')"
            ),
            nn.Flatten(): "Flatten()",
            nn.Delay(3): "Delay(delay_steps=3)",
            nn.contrib.DropConnectLinear(2, 3, rngs=rngs()): (
                "DropConnectLinear(in_features=2, out_features=3, use_bias=True, rate=0.5, "
                "invariant=False, activation=relu)"
            ),
            nn.contrib.WSLinear(2, 3, rngs=rngs()): (
                "WSLinear(in_features=2, out_features=3, use_bias=True, epsilon=0.0001)"
            ),
        }
        for layer, text in expected.items():
            assert repr(layer) == text

    jax.eval_shape(check)


def images(*shape):
    return jnp.zeros(shape)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.MaxPool(2), TypeError, r"window_shape must have one size .*\(2, 2\).* got 2"),
        (lambda: nn.AvgPool((2, 0)), ValueError, "window_shape must be at least 1, got 0"),
        (lambda: nn.AvgPool((2, 2), (1,)), ValueError, r"strides must be as many .*\(2, 2\)"),
        (lambda: nn.MaxPool((2, 2), padding=-1), ValueError, "padding must be at least 0"),
        (lambda: nn.MaxPool((2, 2))(images(3, 3)), ValueError, r"at least 3 axes.*got \[3, 3\]"),
        (lambda: nn.MaxPool((1,))(jnp.ones((3, 3), int)), TypeError, "must be floating"),
        (lambda: nn.Flatten()(jnp.ones(3)), ValueError, "needs inputs with a batch axis"),
        (lambda: nn.VotingLayer()(images(2, 9)), ValueError, r"voting_size=10.*\[2, 9\]"),
        (lambda: nn.Delay(-1), ValueError, "delay_steps must be at least 0, got -1"),
        (lambda: nn.Delay(1.0), TypeError, "delay_steps must be an integer"),
        (
            lambda: nn.contrib.NeuNorm(2, 3, 3, k=2.0, rngs=rngs()),
            ValueError,
            "k must be between 0 and 1",
        ),
        (
            lambda: nn.unroll(nn.contrib.NeuNorm(2, 3, 3, rngs=rngs()), images(4, 1, 2, 3, 3)),
            ValueError,
            r"\[N, 3, 3, 2\] a step, got \[1, 2, 3, 3\]",
        ),
        (
            lambda: nn.contrib.WSLinear(1, 3, rngs=rngs()),
            ValueError,
            "at least 2 weights for each output",
        ),
        (
            lambda: nn.contrib.WSConv(1, 3, (3, 3), gain=1, rngs=rngs()),
            TypeError,
            "gain must be True",
        ),
        (lambda: nn.contrib.SpikeCountToBinary(0), ValueError, "num_slots must be at least 1"),
        (
            lambda: nn.contrib.TemporalWiseAttention(8, rngs=rngs()),
            ValueError,
            "T=8 must be at most 8, got",
        ),
        (
            lambda: nn.contrib.TemporalWiseAttention(2, 1, rngs=rngs())(images(3, 1, 2)),
            ValueError,
            r"\[2, N, ...\], got \[3, 1, 2\]",
        ),
        (
            lambda: nn.contrib.MultiDimensionalAttention(2, 2, 1, 1, rngs=rngs())(
                images(2, 1, 2, 3, 3)
            ),
            ValueError,
            r"\[2, N, H, W, 2\], got \[2, 1, 2, 3, 3\]",
        ),
        (
            lambda: nn.contrib.TokenQKAttention(6, 4, rngs=rngs()),
            ValueError,
            "dim must be a multiple of num",
        ),
        (
            lambda: nn.unroll(nn.contrib.TokenQKAttention(4, 2, rngs=rngs()), images(3, 1, 4, 5)),
            ValueError,
            r"\[N, L, 4\] per step, got \[1, 4, 5\]",
        ),
        (
            lambda: nn.unroll(
                nn.contrib.TokenQKAttention(4, 2, rngs=rngs()), images(3, 1, 5, 4), (1, 2)
            ),
            ValueError,
            r"carry of \w+ must be a tuple with one entry per part",
        ),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        jax.eval_shape(make)  # which draws no parameters
