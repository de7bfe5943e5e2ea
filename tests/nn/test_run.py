"""Paths, keys, first states and masks of parts that are run in unusual ways."""

import operator

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import quick
from flax import nnx

from jaxsnn import models, nn, training
from jaxsnn.firing import firing_rates

T, N, C = 5, 3, 3


def inputs():
    return quick.uniform((T, N, C), 0, 2)


def key():
    return jax.random.key(1)


class Wired(nn.Module):
    """Parts `a` and `b`, and a function that wires them."""

    def __init__(self, how, a=None, b=None):
        self.how, self.a, self.b = nnx.static(how), a, b

    def forward(self, x, run):
        return self.how(self, x, run)


def last(net, x, run):
    return run(net.b, run(net.a, x))


@pytest.mark.parametrize("checkpoint_every", [None, 2, 3])
def test_statistics_in_the_order_of_the_calls(checkpoint_every):
    """Of two calls of a container with a normalisation, also in stretches."""
    net = Wired(
        lambda net, x, run: run(net.a, run(net.a, x) + 5),
        nn.ElementWiseRecurrentContainer(nn.BatchNorm(C), operator.add),
    )
    *_, extras = nn.unroll(
        net, inputs(), key=key(), record="*.i", checkpoint_every=checkpoint_every
    )
    mean = np.zeros(C)
    for path in ("a.i", "a#2.i"):
        for batch in np.asarray(extras.records[path]).mean(1):
            mean = 0.9 * mean + 0.1 * batch
    np.testing.assert_allclose(extras.module.a.sub_module.mean[...], mean, rtol=1e-5)


@pytest.mark.parametrize(
    "how",
    [
        lambda net, x, run: run(net.a, x) + run(net.a.sub_module, x + 10),
        lambda net, x, run: run(net.a.sub_module, x + 10) + run(net.a, x),
    ],
)
def test_statistics_in_a_container_and_outside(how):
    """All batches count: one from outside, and one of each step inside."""
    net = Wired(how, nn.ElementWiseRecurrentContainer(nn.BatchNorm(C), operator.add))
    mean = nn.unroll(net, inputs(), key=key())[2].module.a.sub_module.mean[...]
    assert (mean > 0.1 * 10 * 0.9**T).all()


@pytest.mark.parametrize(
    "how",
    [
        lambda net, x, run: jnp.concatenate([run(net.a, x), run(net.a, x)], -1),
        lambda net, x, run: jnp.concatenate([run(net.b, x), run(net.b.a, x)], -1),
    ],
)
def test_each_draw_of_each_call_has_its_own_numbers(how):
    part = Wired(draw_twice)
    inside = Wired(lambda net, x, run: run(net.a, x), part)
    ys = nn.unroll(Wired(how, part, inside), jnp.zeros((1, N, 1)), key=key())[1]
    assert len(np.unique(ys)) == ys.size == 4 * N


def draw_twice(net, x, run):
    return jnp.concatenate([x + run.draw(jax.random.normal, (N, 1))[None] for _ in "ab"], -1)


class Nested(nn.Cell):
    """A cell whose carry is a dictionary with a tuple in it."""

    def initialize_carry(self, input_shape, rngs=None, *, dtype=jnp.float32):
        zeros = jnp.zeros(input_shape, dtype)
        return {"sum": zeros, "last": (zeros, zeros)}

    def __call__(self, carry, x):
        return {"sum": carry["sum"] + x, "last": (x, carry["last"][0])}, -x


def test_records_of_a_nested_carry():
    xs = inputs()
    records = nn.unroll(nn.Sequential(Nested()), xs, record="0.*")[2].records
    late = jnp.concatenate([jnp.zeros_like(xs[:1]), xs[:-1]])
    expected = {"0.sum": jnp.cumsum(xs, 0), "0.last.0": xs, "0.last.1": late}
    assert records.keys() == expected.keys()
    for path, values in expected.items():
        np.testing.assert_allclose(records[path], values, rtol=1e-6, err_msg=path)


class OwnFirstCarry(nn.Module):
    """A neuron that starts near its threshold."""

    def __init__(self):
        self.node = nn.IFNode()

    def initialize_carry(self, input_shape, rngs=None, *, dtype=jnp.float32):
        return (jnp.full(input_shape, 0.9, dtype),)

    def forward(self, x, run):
        return run(self.node, x)


@pytest.mark.parametrize(
    ("net", "expected"),
    [
        (Wired(lambda net, x, run: x), "a tuple with one entry per part that its forward runs"),
        (
            nn.ElementWiseRecurrentContainer(nn.IFNode(), operator.add),
            r"\(carry of the sub-module, last output y\) with a y of shape \(3, 3\)",
        ),
        (
            nn.Graph({"a": nn.IFNode()}, [("input", "a"), ("a", "a"), ("a", "output")]),
            r"\(carries, late\) with the late outputs of \['a'\]",
        ),
    ],
)
def test_a_carry_that_does_not_fit_is_shown_by_its_shapes(net, expected):
    carry = (jnp.zeros((2, C)),)
    for call in (lambda: nn.unroll(net, inputs(), carry), lambda: net(carry, inputs()[0])):
        found = r"got \(\(2, 3\),\) as shapes; pass the last carry, or .* \(carry=None"
        with pytest.raises(
            ValueError, match=f"carry of {type(net).__name__} .*{expected}.*{found}"
        ):
            call()


def test_a_step_needs_a_carry():
    """None is the first state of a sequence only: in a loop it would be a reset at each step."""
    for net in (nn.IFNode(), nn.Sequential(nn.IFNode()), Wired(last, nn.IFNode(), nn.LIFNode())):
        with pytest.raises(TypeError, match=r"v in the carry of IFNode .* got NoneType"):
            net(None, inputs()[0])


class Doubled(nn.Sequential):
    """A stack with twice the output."""

    def __call__(self, carry, x):
        carry, y = super().__call__(carry, x)
        return carry, 2 * y


def test_a_first_carry_of_ones_own():
    xs = jnp.full((2, 1, 1), 0.2)
    for net in (OwnFirstCarry(), nn.Sequential(OwnFirstCarry())):
        assert nn.unroll(net, xs)[1].ravel().tolist() == [1, 0]
        first = net.initialize_carry((1, 1))
        assert nn.unroll(net, xs, first)[1].ravel().tolist() == [1, 0]


def test_a_call_of_ones_own():
    for net in (Doubled(nn.IFNode()), nn.Sequential(Doubled(nn.IFNode()))):
        assert nn.unroll(net, jnp.full((2, 1, 1), 0.6))[1].ravel().tolist() == [0, 2]


def read_out(net, xs, run):
    run.require_whole_sequence(net, masks=True)
    return xs.sum(0)


@pytest.mark.parametrize("around", [nn.Sequential, lambda *parts: Wired(last, *parts)])
def test_a_readout_at_the_end_masks_itself(around):
    """Its output is not a sequence, even if it has the shape of the mask."""
    mask = nn.sequence_mask(jnp.array([5, 2, 4, 1, 3]), T)
    xs = quick.uniform((T, T, T), 0, 1)
    ys = nn.unroll(around(jnp.negative, Wired(read_out)), xs, mask=mask)[1]
    np.testing.assert_allclose(ys, -np.where(mask[..., None], xs, 0).sum(0), rtol=1e-6)


class Around(nn.Cell):
    """Calls a module by itself."""

    def __init__(self, inner):
        self.inner = inner

    def initialize_carry(self, input_shape, rngs=None, *, dtype=jnp.float32):
        return self.inner.initialize_carry(input_shape, dtype=dtype)

    def __call__(self, carry, x):
        return self.inner(carry, x)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (Wired(lambda net, x, run: run(net.a, x) + net.a(x), nn.BatchNorm(C)), "BatchNorm at 'a'"),
        (Around(Wired(lambda net, x, run: -x if run.training else x)), "Wired at 'inner'"),
    ],
)
def test_never_inference_in_silence(net, message):
    with pytest.raises(ValueError, match=f"{message} of .* was not run by a Run"):
        nn.unroll(net, inputs(), key=key())
    nn.unroll(net, inputs())


def test_a_variable_that_forward_adds():
    def adds(net, x, run):
        net.z = nnx.Variable(x.mean())
        return x

    with pytest.raises(ValueError, match="changes its own"):
        nn.unroll(Wired(adds), inputs())


def create(to_sequence):
    net = models.Classifier(nn.Sequential(nn.IFNode()))
    return training.create(net, optax.sgd(0.1), to_sequence=to_sequence, batch_size=N, seed=0)


def test_firing_rates_of_padded_sequences():
    mask = nn.sequence_mask(jnp.array([5, 2, 4]), T)
    recipe, state = create(lambda x: (jnp.stack([x] * T), mask))
    rates = firing_rates(recipe, jnp.ones((N, C)))(state)
    assert rates == {"stack.0": pytest.approx(1)}


def test_three_inputs_of_a_module():
    recipe, state = create(lambda x: (jnp.stack([x] * T), jnp.ones((T, N), bool), x))
    with pytest.raises(ValueError, match=r"xs or \(xs, mask\)"):
        training.train_step(recipe, state, inputs()[0], jnp.arange(N))
