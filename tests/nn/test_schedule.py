"""How `unroll` runs layers: what it keeps for the backward pass, what it runs as one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick
from flax import nnx

from jaxsnn import nn, surrogate

T, N, F = 50, 4, 8


def kept(module):
    """Floats per step and neuron that the backward pass of `unroll` keeps, beside its inputs."""
    xs = jnp.zeros((T, N, F))
    pull = jax.eval_shape(lambda m, xs: jax.vjp(lambda *a: nn.unroll(*a)[1], m, xs)[1], module, xs)
    return sum(leaf.size for leaf in jax.tree.leaves(pull) if leaf.size >= T * N) / xs.size


@pytest.mark.parametrize(
    ("module", "floats"),
    [
        (nn.IFNode(), 1),
        (nn.IFNode(v_reset=None, detach_reset=True, surrogate_function=surrogate.ATan()), 1),
        (nn.LIFNode(), 1),
        (nn.LIFNode(decay_input=False, v_reset=None), 1),
        *(
            (node, 1)
            for node in (
                nn.contrib.KLIFNode(scale_reset=True),
                nn.CUBALIFNode(),
                nn.contrib.RAFNode(),
            )
        ),
        *(
            (node, 1)
            for node in (
                nn.contrib.TernaryLIFNode(),
                nn.contrib.ILIFNode(),
                nn.contrib.HalfThresholdIFNode(),
            )
        ),
        # Their charge is not linear in the potential after the last reset: that is needed too.
        *(
            (node, 2)
            for node in (
                nn.contrib.QIFNode(),
                nn.contrib.EIFNode(),
                nn.contrib.IzhikevichNode(a=0.1, b=0.1),
            )
        ),
        (nn.ParametricLIFNode(), 2),  # and what tau divides
        (nn.ParametricLIFNode(decay_input=False), 2),
        (nn.contrib.ComplementaryLIFNode(), 2),
        (nn.AdaptiveLIFNode(), 2),
        (nn.AdaptiveLIFNode(detach_reset=True), 1),  # what is above the threshold
        (nn.NonSpikingLIFNode(), 0),
        (nn.SynapseFilter(2.0), 1 + 1),  # and its input
        (nn.SynapseFilter(2.0, learnable=True), 1 + 1),
        (nn.ElementWiseRecurrentContainer(nn.IFNode(), jnp.add), 1),
        # The potential and the spikes, which are the inputs of its weights; and the input.
        (nn.LinearRecurrentContainer(nn.IFNode(), F, F, rngs=nnx.Rngs(0)), 2 + 1),
        (
            nn.LinearRecurrentContainer(nn.IFNode(), F, F, feedback_only=True, rngs=nnx.Rngs(0)),
            2,
        ),
        # A spike follows from the potential: the filter needs no input.
        (nn.Sequential(nn.IFNode(), nn.SynapseFilter(2.0)), 2),
    ],
)
def test_what_the_backward_pass_keeps(module, floats):
    assert kept(module) == floats


def scans(module):
    """How many scans over time `unroll` makes of a module."""
    text = str(jax.make_jaxpr(lambda m, xs: nn.unroll(m, xs))(module, jnp.zeros((T, N, F))))
    return text.count("scan[")


def test_neurons_and_synapses_in_a_row_are_one_scan():
    rngs = nnx.Rngs(0)
    row = (nn.IFNode(), nn.SynapseFilter(2.0, learnable=True), nn.ParametricLIFNode())
    assert scans(nn.Sequential(nn.Linear(F, F, rngs=rngs), *row)) == 1
    assert scans(nn.Sequential(row[0], nn.Linear(F, F, rngs=rngs), row[1])) == 2
    xs = quick.uniform((T, N, F))
    carries, ys = nn.unroll(nn.Sequential(*row), xs)
    for cell, carry in zip(row, carries, strict=True):
        expected, xs = nn.unroll(cell, xs)
        np.testing.assert_array_equal(carry, expected)
    np.testing.assert_array_equal(ys, xs)


def equations(jaxpr, in_scan=False):
    """The names of all operations of a program, and whether each is inside a loop."""
    for equation in jaxpr.eqns:
        yield equation.primitive.name, in_scan
        inside = in_scan or equation.primitive.name == "scan"
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=is_program):
            if is_program(value):
                yield from equations(getattr(value, "jaxpr", value), inside)


def is_program(value):
    return hasattr(value, "eqns") or hasattr(value, "jaxpr")


TAU = nn.learnable(np.linspace(2.0, 9.0, F))


@pytest.mark.parametrize(
    "module",
    [
        nn.LIFNode(TAU, v_threshold=nn.learnable(0.7)),
        nn.Sequential(
            nn.ExponentialSynapse(TAU),
            nn.SEAdLIFNode(TAU, TAU, surrogate_function=surrogate.ATan()),
        ),
        nn.ElementWiseRecurrentContainer(nn.AdLIFNode(TAU, TAU), jnp.add),
        nn.LinearRecurrentContainer(
            nn.SEAdLIFNode(TAU, TAU, surrogate_function=surrogate.ATan()), F, F, rngs=nnx.Rngs(0)
        ),
    ],
    ids=lambda module: type(module).__name__,
)
def test_gradients_of_constants_are_summed_after_the_loop(module):
    def loss(module, xs):
        return jnp.sum(nn.unroll(module, xs)[1])

    program = jax.make_jaxpr(jax.grad(loss))(module, jnp.ones((T, N, F)))
    found = list(equations(program.jaxpr))
    assert ("mul", True) in found
    assert ("reduce_sum", False) in found
    assert ("reduce_sum", True) not in found
    assert ("exp", True) not in found  # decays are computed before it too


def test_a_step_replaced_in_a_subclass_is_used():
    class Twice(nn.IFNode):
        def __call__(self, carry, x):
            return super().__call__(carry, 2 * x)

    xs = quick.uniform((T, N, F))
    _, expected = nn.unroll(nn.IFNode(), 2 * xs)
    np.testing.assert_array_equal(nn.unroll(Twice(), xs)[1], expected)
    _, row = nn.unroll(nn.Sequential(Twice(), nn.SynapseFilter(2.0)), xs)
    np.testing.assert_array_equal(row, nn.unroll(nn.SynapseFilter(2.0), expected)[1])

    class Doubled(nn.LinearRecurrentContainer):
        def __call__(self, carry, x):
            return super().__call__(carry, 2 * x)

    container = nn.LinearRecurrentContainer(nn.IFNode(), F, F, rngs=nnx.Rngs(0))
    _, expected = nn.unroll(container, 2 * xs)
    doubled = Doubled(nn.IFNode(), F, F, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(nn.unroll(doubled, xs)[1], expected)


def test_a_layer_that_narrows_is_the_plain_product():
    """Its kernel is turned for the sake of speed; values and gradients stay."""
    layer, xs = nn.Linear(F, 3, rngs=nnx.Rngs(0)), quick.uniform((T, N, F), -1, 1)
    turned = jax.make_jaxpr(lambda layer, xs: nn.unroll(layer, xs))(layer, xs)
    assert "optimization_barrier" in str(turned)

    def loss(run, kernel, bias, xs):
        layer = nn.Linear(F, 3, rngs=nnx.Rngs(0))
        layer.kernel[...], layer.bias[...] = kernel, bias
        return jnp.sum(jnp.sin(run(layer, xs)))

    ways = [
        lambda layer, xs: nn.unroll(layer, xs)[1],
        lambda layer, xs: nnx.Linear.__call__(layer, xs),
    ]
    args = layer.kernel[...], layer.bias[...], xs
    one, many = [], []
    for way in ways:
        grad = jax.value_and_grad(functools.partial(loss, way), argnums=(0, 1, 2))
        one.append(grad(*args))
        many.append(jax.vmap(grad, in_axes=(None, None, 0))(*args[:2], jnp.stack([xs, 2 * xs])))
    for found, expected in (one, many):
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_flax_linear_is_one_product():
    """Also Flax's own layer sees all steps as rows of one matrix, and its gradient is the same."""
    layer = nnx.Linear(F, 3, rngs=nnx.Rngs(0))
    xs = quick.uniform((T, N, F), -1, 1)
    run = jax.value_and_grad(lambda layer, xs: jnp.sum(jnp.square(nn.unroll(layer, xs)[1])))
    plain = jax.value_and_grad(lambda layer, xs: jnp.sum(jnp.square(layer(xs))))
    for a, b in zip(
        jax.tree.leaves(run(layer, xs)), jax.tree.leaves(plain(layer, xs)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5)
