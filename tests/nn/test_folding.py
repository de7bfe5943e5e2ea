"""Batch normalisation that is folded into the layer before it: the same outputs without it."""

import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick
from flax import nnx

from jaxsnn import models, nn
from jaxsnn.interop.nir import from_nir, to_nir


def rngs():
    return nnx.Rngs(0)


def trained(norm, seed=0):
    """A normalisation with statistics and parameters as if it had been trained."""
    rng = np.random.default_rng(seed)
    ranges = {"mean": (-0.5, 0.5), "var": (0.3, 2.0), "scale": (-0.5, 1.5), "bias": (-0.5, 0.5)}
    for name, (low, high) in ranges.items():
        variable = getattr(norm, name)
        if variable is not None:
            numbers = rng.uniform(low, high, variable.shape)
            variable[...] = jnp.asarray(numbers.astype(variable.dtype))
    return norm


def norm(features, seed=0, kind=nn.BatchNorm, **kwargs):
    return trained(kind(features, **kwargs), seed)


def linear(inputs, outputs, **kwargs):
    return nn.Linear(inputs, outputs, rngs=rngs(), **kwargs)


def images():
    return nn.Sequential(
        nn.Conv(2, 4, (3, 3), padding=1, feature_group_count=2, use_bias=False, rngs=rngs()),
        norm(4),
        nn.LIFNode(tau=1.3, v_threshold=0.3),
        nn.Sequential(nn.AvgPool((2, 2)), nn.Conv(4, 3, (3, 1), 2, padding="VALID", rngs=rngs())),
        nn.Sequential(
            norm(3, 1, nn.contrib.ThresholdDependentBatchNorm, v_threshold=0.5), nn.IFNode()
        ),
        nn.Flatten(),
        linear(6, 3),
        norm(3, 2, epsilon=0.1),
        norm(3, 3),
    )


def features():
    container = nn.LinearRecurrentContainer
    inside = nn.Sequential(linear(4, 4), norm(4, 1), nn.IFNode(v_threshold=0.3))
    return nn.Sequential(
        nn.contrib.WSLinear(4, 4, rngs=rngs()),
        norm(4),
        container(inside, 4, 4, feedback_only=True, rngs=rngs()),
        container(
            nn.Sequential(nn.Sequential(norm(4, 2)), nn.LIFNode(v_threshold=0.3)),
            *(4, 4, False),
            rngs=rngs(),
        ),
        nn.ElementWiseRecurrentContainer(
            nn.Sequential(
                nn.contrib.WSLinear(4, 4, gain=False, use_bias=False, rngs=rngs()), norm(4, 3)
            ),
            operator.add,
        ),
    )


def branches():
    layers = {
        "a": linear(4, 4),
        "a_norm": norm(4),
        "fire": nn.IFNode(v_threshold=0.3),
        "b": nn.Sequential(linear(4, 4), norm(4, 1), linear(4, 4)),
        "b_norm": nn.Sequential(norm(4, 2), nn.IFNode(v_threshold=0.3)),
        "c": linear(4, 4),
    }
    edges = [("input", "a"), ("a", "a_norm"), ("a_norm", "fire"), ("fire", "b"), ("b", "b_norm")]
    edges += [("fire", "c"), ("b_norm", "c"), ("c", "output")]
    return nn.Sequential(nn.Graph(layers, edges), norm(4, 3))


def flax():
    running = {"use_running_average": True, "rngs": rngs()}
    return nnx.Sequential(
        nnx.Linear(4, 3, use_bias=False, rngs=rngs()),
        trained(nnx.BatchNorm(3, **running)),
        jax.nn.relu,
        nnx.Linear(3, 2, rngs=rngs()),
        trained(nnx.BatchNorm(2, use_scale=False, use_bias=False, epsilon=0.1, **running), 1),
    )


class Twice(nnx.Module):
    """A model with stacks in attributes and in a list, and a layer in two of them."""

    def __init__(self):
        shared = linear(4, 4)
        self.stacks = nnx.List([nn.Sequential(shared, norm(4)), nn.Sequential(shared, norm(4, 1))])
        self.last = nn.Sequential(shared)

    def __call__(self, xs):
        first, second = self.stacks
        return [nn.unroll(stack, xs)[1] for stack in (first, second, self.last)]


def unrolled(net, xs):
    return nn.unroll(net, xs)[1]


NETWORKS = {
    "images": (images, (6, 6, 2), unrolled),
    "features": (features, (4,), unrolled),
    "branches": (branches, (4,), unrolled),
    "of Flax": (flax, (4,), unrolled),
    "a model": (Twice, (4,), lambda net, xs: net(xs)),
    "a classifier": (
        lambda: models.Classifier(nn.Sequential(linear(4, 3), norm(3), nn.IFNode(v_threshold=0.3))),
        (4,),
        lambda net, xs: net(xs),
    ),
}


def normalisations(module):
    kinds = (nn.BatchNorm, nnx.BatchNorm)
    return [path for path, part in nnx.iter_modules(module) if isinstance(part, kinds)]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_outputs(name):
    """Spikes and sums to the rounding of float32, and the network itself as it was."""
    build, shape, run = NETWORKS[name]
    net = build()
    before = jax.tree.map(np.array, jax.tree.leaves(net))
    folded = nn.fold_batch_norm(net)
    assert normalisations(net)
    assert not normalisations(folded)
    xs = quick.uniform((12, 3, *shape), -1, 3)
    both = quick.run_once(lambda *nets: [run(net, xs) for net in nets], net, folded)
    for expected, ys in zip(*map(jax.tree.leaves, both), strict=True):
        assert len(np.unique(expected)) > 1
        np.testing.assert_allclose(ys, expected, rtol=1e-5, atol=1e-5)
    for old, now in zip(before, jax.tree.leaves(net), strict=True):
        np.testing.assert_array_equal(old, now)
    ours, theirs = ({id(v) for _, v in nnx.iter_graph(m) if isinstance(v, nnx.Variable)}
                    for m in (net, folded))  # fmt: skip
    assert not ours & theirs


def test_the_equation():
    """With numbers that a person can check."""
    layer = linear(1, 2)
    layer.kernel[...], layer.bias[...] = jnp.array([[2.0, 3.0]]), jnp.array([1.0, 1.0])
    bn = nn.BatchNorm(2, epsilon=1.0)
    bn.mean[...], bn.var[...] = jnp.array([0.5, -1.0]), jnp.array([3.0, 0.0])
    bn.scale[...], bn.bias[...] = jnp.array([4.0, 1.0]), jnp.array([0.25, 0.0])
    folded = nn.fold_batch_norm(nn.Sequential(layer, bn))[0]
    np.testing.assert_array_equal(folded.kernel[...], [[4.0, 3.0]])
    np.testing.assert_array_equal(folded.bias[...], [1.25, 2.0])


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_the_dtype_is_kept(dtype):
    """In float64 nothing is lost; in bfloat16 the product is rounded once."""
    with jax.enable_x64(True):
        layer = linear(3, 4, use_bias=False, param_dtype=dtype)
        bn = norm(4, param_dtype=jnp.float64)
        folded = nn.fold_batch_norm(nn.Sequential(layer, bn))[0]
        assert (folded.kernel.dtype, folded.bias.dtype) == (dtype, dtype)
        scale = bn.scale[...] / np.sqrt(np.asarray(bn.var[...]) + 1e-5)
        exact = np.asarray(layer.kernel[...], np.float64) * np.asarray(scale)[None]
        np.testing.assert_allclose(
            np.asarray(folded.kernel[...], np.float64), exact, rtol=jnp.finfo(dtype).eps
        )


def test_what_is_shared_stays_shared():
    """As far as no normalisation comes in between."""
    shared, own = nn.Sequential(linear(4, 4), nn.IFNode()), linear(4, 4)
    net = nn.fold_batch_norm(nn.Sequential(shared, shared, own, norm(4), own))
    assert net[0] is net[1]
    assert net[2].kernel is not net[4].kernel
    np.testing.assert_array_equal(net[4].kernel[...], own.kernel[...])


def test_spikes_through_nir():
    """What is read is the folded network, to the last bit; a norm is refused with the way out."""
    net = images()
    with pytest.raises(TypeError, match=r"BatchNorm at '1': .*jaxsnn\.nn\.fold_batch_norm\(net\)"):
        to_nir(net, (6, 6, 2))
    folded = nn.fold_batch_norm(net)
    back = from_nir(to_nir(folded, (6, 6, 2)))
    for a, b in zip(jax.tree.leaves(folded), jax.tree.leaves(back), strict=True):
        np.testing.assert_array_equal(a, b)
    xs = quick.uniform((12, 2, 6, 6, 2), -1, 3)
    ys, expected = quick.run_once(lambda *nets: [unrolled(n, xs) for n in nets], back, folded)
    np.testing.assert_array_equal(ys, expected)
    graph = to_nir(nn.fold_batch_norm(branches()), (4,))
    assert graph.edges[:2] == [("input", "0.a"), ("0.a", "0.fire")]


def test_standardised_weights_through_nir():
    """They are written as they multiply the input."""
    net = nn.fold_batch_norm(nn.Sequential(nn.contrib.WSConv(2, 3, (2,), rngs=rngs()), norm(3)))
    xs = quick.uniform((1, 2, 5, 2))
    both = quick.run_once(
        lambda *nets: [unrolled(n, xs) for n in nets], net, from_nir(to_nir(net, (5, 2)))
    )
    np.testing.assert_allclose(*both, rtol=1e-6, atol=1e-6)


def test_without_normalisations_nothing_changes():
    net = nn.Sequential(linear(4, 3), nnx.LayerNorm(3, rngs=rngs()), nn.IFNode())
    assert repr(nn.fold_batch_norm(net)) == repr(net)


class Own(nnx.Module):
    """A layer of a user's own that calls its layers by itself."""

    def __init__(self):
        self.linear, self.norm = linear(4, 4), norm(4)

    def __call__(self, x):
        return self.norm(self.linear(x))


class OwnNorm(nn.BatchNorm):
    """A normalisation of a user's own."""


def behind(layer, inputs=4):
    return nn.Sequential(linear(inputs, 4), nn.Sequential(layer))


class Parts(nnx.Module):
    """Holds its layers where nobody looks for them."""

    def __init__(self):
        self.parts = nnx.data((nn.Sequential(linear(4, 4), norm(4)),))


REFUSED = {
    "first": (
        nn.Sequential(norm(4)),
        "BatchNorm at '0' cannot .*as nothing comes before it; if",
    ),
    "alone": (norm(4), "BatchNorm cannot be folded"),
    "behind a neuron": (
        nn.Sequential(linear(4, 4), nn.Sequential(nn.IFNode()), norm(4)),
        "BatchNorm at '2' cannot be folded .*, as IFNode at '1.0' comes before it",
    ),
    "behind a function": (nn.Sequential(linear(4, 4), jax.nn.relu, norm(4)), "at '2' .* at '1' co"),
    "of a sum": (
        nn.Sequential(linear(4, 4), nn.ElementWiseRecurrentContainer(norm(4), operator.add)),
        "at '1.sub_module' cannot .* ElementWiseRecurrentContainer at '1' decides what it is fed",
    ),
    "of a feedback alone": (
        nn.LinearRecurrentContainer(norm(4), 4, 4, feedback_only=True, rngs=nnx.Rngs(0)),
        "at 'sub_module' cannot .* LinearRecurrentContainer decides what it is fed",
    ),
    "behind a container": (
        nn.Sequential(nn.ElementWiseRecurrentContainer(linear(4, 4), operator.add), norm(4)),
        "at '1' cannot .* ElementWiseRecurrentContainer at '0' comes before it",
    ),
    "in a layer of one's own": (behind(Own()), "BatchNorm at '1.0.norm' .*, as Own at '1.0' decid"),
    "in a model": (models.Classifier(nn.Sequential(norm(4))), "at 'stack.0' .*Classifier decides"),
    "edges that meet": (
        nn.Graph(
            {"a": linear(4, 4), "n": norm(4)},
            [("input", "a"), ("a", "n"), ("input", "n"), ("n", "output")],
        ),
        "BatchNorm at 'n' .* as other edges of Graph start or end between them",
    ),
    "edges that part": (
        nn.Graph({"n": norm(4)}, [("input", "n"), ("input", "output"), ("n", "output")]),
        "BatchNorm at 'n' .* as other edges of Graph",
    ),
    "in a tuple": (Parts(), "BatchNorm at 'parts.0.layers.1' .* be seen what runs before it"),
    "a loop without state": (
        nn.Graph(
            {"a": linear(4, 4), "n": norm(4)},
            [("input", "a"), ("a", "n"), ("n", "a"), ("n", "output")],
        ),
        "BatchNorm at 'n' .* as its output is what this loop of Graph begins with",
    ),
    "of 16 bits": (
        behind(
            nnx.BatchNorm(4, use_running_average=True, dtype=jnp.bfloat16, rngs=nnx.Rngs(0)),
        ),
        "BatchNorm at '1.0' rounds its output",
    ),
    "for each step": (
        behind(nn.contrib.BatchNormThroughTime(3, 4)),
        "BatchNormThroughTime at '1.0' is not",
    ),
    "scaled at each step": (
        behind(nn.contrib.TemporalEffectiveBatchNorm(3, 4)),
        "train with a BatchNorm",
    ),
    "a subclass": (behind(OwnNorm(4)), "OwnNorm at '1.0' is not known to be"),
    "of batches": (
        behind(nnx.BatchNorm(4, rngs=nnx.Rngs(0))),
        "BatchNorm at '1.0' has use_running_average=False, .*; set it to True",
    ),
    "of another axis": (
        behind(nnx.BatchNorm(4, use_running_average=True, axis=1, rngs=nnx.Rngs(0))),
        "has axis=1; only channels on the last",
    ),
    "of other features": (behind(norm(3)), "at '1.0' has 3 features, but the Linear .* outputs 4"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_folded_is_refused(case):
    module, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        nn.fold_batch_norm(module)


def test_a_function_is_refused():
    with pytest.raises(TypeError, match=r"module must be a flax\.nnx\.Module, .*got function"):
        nn.fold_batch_norm(lambda x: x)
