"""A function that reads a variable from outside its network is refused, however it reaches it."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxsnn
from jaxsnn import models, nn, training

layer = nn.Linear(4, 4, rngs=nnx.Rngs(0))
of_numpy = nnx.Param(np.ones((1, 4), np.float32))
held = types.SimpleNamespace(layer=layer, w=nn.SynapseFilter(learnable=True).w)
mean = jnp.full((1, 4), 0.5)
xs = jnp.ones((3, 2, 4))


def some_fast(cases, *fast):
    """Marks cases as slow: each looks through all objects, which are many after other tests."""
    return [pytest.param(case, marks=() if case in fast else pytest.mark.slow) for case in cases]


class Calls:
    """Reads the layer in a method."""

    def method(self, x):
        return layer(x)


class Module(nnx.Module):
    """Reads the layer by an object that is not a module."""

    def __call__(self, x):
        return held.layer(x)


class Own(nn.Cell):
    """Likewise, as a cell."""

    def initialize_carry(self, input_shape, rngs=None, *, dtype=jnp.float32):
        return jnp.zeros(input_shape, dtype)

    def __call__(self, carry, x):
        return carry, held.layer(x)


def in_a_closure():
    layers = [layer]
    return lambda x: layers[0](x)


# Functions that `Sequential` cannot know about before they are traced.
WAYS = {
    "attribute": lambda x: held.layer(x),
    "a list in a closure": in_a_closure(),
    "default": lambda x, layers=(layer,): layers[0](x),
    "bound method": Calls().method,
    "partial": functools.partial(lambda layers, x: layers[0](x), [layer]),
    "module": Module(),
    "cell": Own(),
    "compiled": jax.jit(lambda x: held.layer(x)),
    "in a branch": lambda x: jax.lax.cond(jnp.all(x > 0), held.layer, lambda x: x, x),
    "kernel": lambda x: x @ held.layer.kernel[...],
    "scalar": lambda x: x * held.w[...],
    "NumPy": lambda x: x * of_numpy[...],
}


@pytest.mark.parametrize("way", some_fast(WAYS, "attribute"))
def test_every_way_of_reading_a_variable_from_outside(way):
    net = nn.Sequential(WAYS[way], nn.LIFNode())
    with pytest.raises(ValueError, match=r"reads a (Param|Constant).* compiled in as a constant"):
        nn.unroll(net, xs)


@pytest.mark.slow
def test_a_refused_trace_is_not_reused_when_the_weights_are_new():
    net = nn.Sequential(lambda x: held.layer(x), nn.LIFNode())
    for _ in range(2):
        with pytest.raises(ValueError, match=r"reads a (Param|Constant)"):
            nn.unroll(net, xs)
        layer.kernel[...], layer.bias[...] = layer.kernel[...] + 1, layer.bias[...] + 1


PLACES = {
    "feedback": nn.ElementWiseRecurrentContainer(nn.LIFNode(), lambda y, x: y + held.layer(x)),
    "sub-module": nn.LinearRecurrentContainer(lambda i: held.layer(i), 4, 4, rngs=nnx.Rngs(0)),
    "bidirectional": nn.Bidirectional(nn.Sequential(lambda x: held.layer(x)), nn.LIFNode()),
    "surrogate": nn.LIFNode(surrogate_function=lambda u: jax.nn.sigmoid(u * held.w[...])),
    "own layer, once more": nn.Sequential(layer, lambda x: held.layer(x)),
    "compiled feedback": nn.ElementWiseRecurrentContainer(
        nn.LIFNode(), jax.jit(lambda y, x: y + held.layer(x))
    ),
    "checkpointed sub-module": nn.LinearRecurrentContainer(
        jax.checkpoint(lambda i: held.layer(i)), 4, 4, rngs=nnx.Rngs(0)
    ),
}


@pytest.mark.parametrize("place", some_fast(PLACES, "compiled feedback"))
def test_every_place_for_a_function(place):
    net = PLACES[place]
    with pytest.raises(ValueError, match=r"reads a (Param|Constant)"):
        nn.unroll(net, xs)
    if not isinstance(net, nn.Bidirectional):
        with pytest.raises(ValueError, match=r"reads a (Param|Constant)"):
            nn.unroll(net, xs, checkpoint_every=2)


RUNS = {
    "jit": jax.jit(lambda net: nn.unroll(net, xs)),
    "grad": jax.grad(lambda net: jnp.sum(nn.unroll(net, xs)[1]), allow_int=True),
    "vmap": lambda net: jax.vmap(lambda scale: nn.unroll(net, scale * xs))(jnp.ones(2)),
    "Classifier": lambda net: models.Classifier(net)(xs),
    "doctor": lambda net: jaxsnn.doctor(net, xs),
}


@pytest.mark.parametrize("run", some_fast(RUNS))
def test_inside_transformations(run):
    with pytest.raises(ValueError, match="reads a Param of a Linear, shape "):
        RUNS[run](nn.Sequential(lambda x: held.layer(x), nn.LIFNode()))


@pytest.mark.slow
def test_values_of_another_trace():
    """A module that a loss makes of its arguments is no constant, but the trace would be kept."""

    def loss(scale):
        held.scaled = nnx.Param(scale)
        return jnp.sum(nn.unroll(nn.Sequential(lambda x: x * held.scaled[...]), xs)[1])

    with pytest.raises(ValueError, match=r"reads a Param, shape \[\]"):
        jax.grad(loss)(1.0)


def test_arrays_may_be_captured():
    """They cannot change; and a traced one gets its gradient."""

    def loss(scale):
        return jnp.sum(nn.unroll(nn.Sequential(lambda x: scale * (x - mean)), xs)[1])

    np.testing.assert_allclose(loss(1.0), 0.5 * xs.size)
    np.testing.assert_allclose(jax.grad(loss)(2.0), 0.5 * xs.size)

    graphdef, fixed = nnx.split(layer)
    fixed = jax.tree.map(jnp.copy, nnx.to_pure_dict(fixed))
    net = nn.Sequential(lambda x: nnx.merge(graphdef, fixed)(x))
    np.testing.assert_allclose(nn.unroll(net, xs)[1], layer(xs), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"to_sequence": lambda x: held.layer(jnp.moveaxis(x, 0, 1))},
        {"loss": lambda y, labels: jnp.sum(held.layer(y), -1)},
        {"readout": lambda ys: held.layer(ys.mean(0))},
    ],
    ids=lambda change: next(iter(change)),
)
@pytest.mark.parametrize("run", [training.train_epoch, training.evaluate])
def test_training(change, run):
    stack = nn.Sequential(nn.Linear(4, 4, rngs=nnx.Rngs(0)), nn.LIFNode())
    model = models.Classifier(stack, change.get("readout", lambda ys: ys.mean(0)))
    settings = {"to_sequence": lambda x: jnp.moveaxis(x, 0, 1)} | change
    settings.pop("readout", None)
    recipe, state = training.create(model, optax.sgd(0.1), batch_size=2, seed=0, **settings)
    with pytest.raises(ValueError, match="reads a Param of a Linear"):
        run(recipe, state, jnp.ones((4, 3, 4)), jnp.zeros(4, jnp.int32))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: layer(x),
        lambda x, weights=layer: weights(x),
        layer.__call__,
        functools.partial(lambda weights, x: weights(x), layer),
    ],
    ids=["global", "default", "method", "partial"],
)
def test_a_module_that_a_function_names_is_refused_at_once(function):
    with pytest.raises(TypeError, match=r"holds the module Linear.*pass the module itself"):
        nn.Sequential(function, nn.LIFNode())
