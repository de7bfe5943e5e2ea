"""Graphs of any form, and NIR's neurons with any parameters."""

import dataclasses
import itertools
import operator

import jax
import jax.numpy as jnp
import nir
import numpy as np
import pytest
import quick
from flax import nnx

from jaxsnn import nn
from jaxsnn.interop.nir import Neuron, SumPool, from_nir, to_nir
from jaxsnn.nn import Graph

LINE = [("input", "a"), ("a", "output")]


def linear(features=3, seed=0, **kwargs):
    layer = nn.Linear(features, features, rngs=nnx.Rngs(seed), **kwargs)
    layer.kernel[...] *= 2
    return layer


def fire(threshold=0.4):
    return nn.LIFNode(1.5, v_threshold=threshold)


def in_two_ways(one, other, xs):
    carry, head = nn.unroll(one, xs[:5])
    return nn.unroll(other, xs)[1], jnp.concatenate([head, nn.unroll(one, xs[5:], carry)[1]])


def assert_same_outputs(one, other, seed=0):
    """Of both, one of them in two chunks."""
    xs = quick.uniform((12, 2, 3), -1, 2, seed=seed)
    ys, chunks = quick.run_once(in_two_ways, one, other, xs)
    np.testing.assert_array_equal(ys, chunks)
    assert len(np.unique(ys)) > 1


def test_a_cycle_is_a_container():
    """The bias of the feedback counts in the first step too."""
    back, neuron = linear(), fire()
    container = nn.LinearRecurrentContainer(neuron, 3, 3, feedback_only=True, rngs=nnx.Rngs(1))
    container.rc = back
    edges = [("input", "n"), ("n", "w"), ("w", "n"), ("n", "output")]
    assert_same_outputs(Graph({"w": back, "n": neuron}, edges), container)
    ring = nn.ElementWiseRecurrentContainer(nn.Sequential(back, neuron), operator.add)
    edges = [("n", "w"), ("input", "w"), ("w", "n"), ("n", "output")]
    assert_same_outputs(Graph({"w": back, "n": neuron}, edges), ring)


def test_cycles_in_cycles():
    """Two loops that no container has: by hand, step for step."""
    layers = {"a": fire(), "b": fire(0.3), "w": linear(), "u": linear(seed=1)}
    edges = [("input", "a"), ("a", "b"), ("b", "w"), ("w", "b"), ("b", "u"), ("u", "a")]
    edges += [("a", "output"), ("b", "output")]

    class ByHand(nn.Cell):
        def __init__(self):
            self.parts = nnx.List(layers.values())

        def initialize_carry(self, input_shape, rngs=None, *, dtype=jnp.float32):
            zeros = jnp.zeros(input_shape, dtype)
            return zeros, zeros, zeros

        def __call__(self, carry, x):
            a, b, w, u = self.parts
            v_a, v_b, y = carry
            v_a, y_a = a(v_a, x + u(y))
            v_b, y = b(v_b, y_a + w(y))
            return (v_a, v_b, y), y_a + y

    graph = Graph(layers, edges)
    assert_same_outputs(graph, ByHand())
    back = from_nir(to_nir(graph, (3,)))
    assert isinstance(back, Graph)
    assert_same_outputs(back, graph)


def test_feedback_to_two_layers_of_a_graph():
    """The output of the container goes to both layers that its input goes to."""
    edges = [("input", "a"), ("a", "b"), ("input", "b"), ("b", "output")]
    net = nn.ElementWiseRecurrentContainer(Graph({"a": linear(), "b": fire()}, edges), operator.add)
    a, b = "sub_module.a", "sub_module.b"
    expected = {("input", a), ("input", b), (a, b), (b, a), (b, b), (b, "output")}
    assert set(to_nir(net, (3,)).edges) == expected


def test_layer_by_layer_equals_step_by_step():
    layers = {"a": linear(), "b": fire(), "c": nn.Delay(1)}
    edges = [("input", "a"), ("a", "b"), ("input", "c"), ("c", "b"), ("c", "output")]
    graph = Graph(layers, [*edges, ("b", "output")])

    def steps(graph, xs):
        carry, ys = graph.initialize_carry(xs.shape[1:]), []
        for x in xs:
            carry, y = graph(carry, x)
            ys.append(y)
        return jnp.stack(ys), *nn.unroll(graph, xs, record="b.v")[1:]

    xs = quick.uniform((4, 2, 3), -1, 2)
    by_hand, ys, extras = quick.run_once(steps, graph, xs)
    np.testing.assert_allclose(by_hand, ys, rtol=1e-6)
    assert extras.records["b.v"].shape == (4, 2, 3)


WRONG = {
    "no such node": (
        [("input", "a"), ("a", "b")],
        r"edge \('a', 'b'\) must lead from input to output",
    ),
    "twice": ([*LINE, LINE[0]], "given twice"),
    "from the output": ([*LINE, ("output", "a")], r"edge \('output', 'a'\)"),
    "to nothing": ([("input", "a"), ("input", "output")], "no edges lead to the output from"),
    "from nothing": ([("a", "output"), ("input", "output")], "no edges lead from the input to"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_edges(case):
    edges, message = WRONG[case]
    with pytest.raises(ValueError, match=message):
        Graph({"a": nn.IFNode()}, edges)


def test_what_a_graph_refuses():
    with pytest.raises(ValueError, match="cannot be called 'input'"):
        Graph({"input": nn.IFNode()}, LINE)
    with pytest.raises(TypeError, match="layer 'a' of Graph must be callable"):
        Graph({"a": 1}, LINE)
    two = [("input", "a"), ("input", "b"), ("a", "b"), ("b", "a"), ("b", "output")]
    with pytest.raises(ValueError, match=r"enter the cycle of \['a', 'b'\] at \['a', 'b'\]"):
        Graph({"a": nn.IFNode(), "b": nn.IFNode()}, two)
    shapes = Graph({"a": nn.Linear(3, 2, rngs=nnx.Rngs(0))}, [*LINE, ("input", "output")])
    with pytest.raises(ValueError, match=r"edges to 'output' of Graph pass different shapes"):
        nn.unroll(shapes, jnp.ones((2, 1, 3)))
    graph = Graph({"a": nn.IFNode()}, [*LINE, ("a", "a")])
    carries, late = graph.initialize_carry((1, 3))
    assert len(carries) == 1
    assert set(late) == {"a"}
    for wrong in (carries, (carries, {}), (carries, {"b": late["a"]}), ((*carries, ()), late)):
        with pytest.raises(ValueError, match=r"carry of (this )?Graph must be"):
            graph(wrong, jnp.ones((1, 3)))


CURRENT = ("tau_mem", "tau_syn", "r", "v_leak", "w_in")
FIELDS = {
    "I": ("r",),
    "IF": ("r", "v_threshold", "v_reset"),
    "LI": ("tau", "r", "v_leak"),
    "LIF": ("tau", "r", "v_leak", "v_threshold", "v_reset"),
    "CubaLI": CURRENT,
    "CubaLIF": (*CURRENT, "v_threshold", "v_reset"),
}


def test_no_parameter_of_nir_is_left_out():
    for kind, names in FIELDS.items():
        there = {field.name for field in dataclasses.fields(getattr(nir, kind))}
        assert there - {"input_type", "output_type", "metadata"} == set(names)


def euler(kind, fields, xs, dt):
    """NIR's equations in Python, one number after the other."""
    outputs = []
    v = fields.get("v_leak", fields.get("v_reset", 0 * fields["r"]))
    i = 0 * fields["r"]
    for x in xs:
        i = i + dt / fields["tau_syn"] * (fields["w_in"] * x - i) if "tau_syn" in fields else x
        tau = fields.get("tau", fields.get("tau_mem"))
        slope = fields["r"] * i if tau is None else (fields["v_leak"] - v + fields["r"] * i) / tau
        y = v = v + dt * slope
        if kind.endswith("F"):
            y = (v > fields["v_threshold"]).astype(float)
            v = np.where(y > 0, fields["v_reset"], v)
        outputs.append(y)
    return np.stack(outputs)


def test_neurons_with_any_parameters():
    """One number for each neuron, channels first in NIR and last here."""
    dt, rng = 0.01, np.random.default_rng(0)
    ranges = {"tau": (0.01, 0.05), "tau_mem": (0.01, 0.05), "tau_syn": (0.01, 0.05), "r": (0.5, 2)}
    ranges |= {"v_leak": (-0.1, 0.1), "v_reset": (-0.3, 0), "v_threshold": (0.2, 0.5)}
    with jax.enable_x64(True):
        xs, nets, expected = jnp.asarray(rng.uniform(-1, 3, (15, 2, 3, 4))), {}, {}
        for kind, names in FIELDS.items():
            fields = {name: rng.uniform(*ranges.get(name, (0.5, 2)), (4, 3)) for name in names}
            if kind in ("I", "IF"):
                fields["r"] *= 20
            graph = nir.NIRGraph.from_list(getattr(nir, kind)(**fields))
            nets[kind] = from_nir(graph, dt=dt)
            channels_first = np.moveaxis(np.asarray(xs), -1, 2)
            expected[kind] = np.moveaxis(euler(kind, fields, channels_first, dt), 2, -1)
            again = to_nir(nets[kind], (3, 4), dt=dt).nodes["0"]
            for name in names:  # not a bit is lost
                np.testing.assert_array_equal(getattr(again, name), fields[name])
            assert nets[kind][0].kind == kind
        run = lambda nets, xs: {k: nn.unroll(net, xs)[1] for k, net in nets.items()}  # noqa: E731
        outputs = quick.run_once(run, nets, xs)
    for kind in FIELDS:
        np.testing.assert_allclose(outputs[kind], expected[kind], rtol=1e-9, atol=1e-12)


def test_what_a_neuron_refuses():
    for settings, message in {
        "tau=0.5, v_leak=0.0": "tau must be at least dt=1.0, got 0.5; .*smaller dt",
        "tau=2.0": "tau needs a v_leak",
        "tau=2.0, v_leak=0.0, w_in=1.0": "w_in needs a tau_syn",
        "tau_syn=2.0, w_in=1.0": "tau_syn needs a tau",
        "v_reset=0.0": "v_reset needs a v_threshold",
        "delayed_reset=True": "delayed_reset=True needs a v_threshold, no v_reset",
        "tau=1.0, v_leak=0.0, v_threshold=1.0, delayed_reset=True": "needs a tau above dt=1.0",
        "tau=[2.0, 3.0], v_leak=[0.0, 0.1, 0.2]": "need one shape",
        "v_threshold=[1.0, float('nan')]": r"v_threshold must hold finite numbers, got \[ 1. nan\]",
        "v_threshold=['a', 'b']": "v_threshold must hold finite numbers, got dtype",
    }.items():
        with pytest.raises((TypeError, ValueError), match=message):
            eval(f"Neuron(dt=1.0, r=1.0, {settings})")
    cell = Neuron(dt=1.0, r=[1.0, 2.0])
    with pytest.raises(ValueError, match=r"shape \[2\], so inputs must end in this shape"):
        nn.unroll(cell, jnp.ones((2, 1, 3)))


def test_sum_pool():
    x = quick.uniform((2, 4, 4, 3))
    np.testing.assert_allclose(SumPool((2, 2))(x), 4 * nn.AvgPool((2, 2))(x), rtol=1e-6)


def test_many_names_print():
    names = [f"layer{k}" for k in range(6)]
    edges = list(itertools.pairwise(["input", *names, "output"]))
    assert "'layer4', 'layer5')" in repr(Graph({name: nn.IFNode() for name in names}, edges))


def residual(names=("branch", "fire")):
    """`fire(x + branch(x))` with a normalisation and dropout in the branch."""
    rngs = nnx.Rngs(0)
    branch, fire = names
    layers = {
        branch: nn.Sequential(nn.Linear(3, 3, rngs=rngs), nn.BatchNorm(3), nn.Dropout(0.5)),
        fire: nn.LIFNode(1.5, v_threshold=0.4),
    }
    edges = [("input", branch), (branch, fire), ("input", fire), (fire, "output")]
    return Graph(layers, edges), layers


# Such names are common in NIR: of parts of parts, and of layers of torch's Sequential.
@pytest.mark.parametrize("names", [("branch", "fire"), ("block.0", "0")])
def test_normalisation_and_dropout_in_training(names):
    graph, layers = residual(names)
    branch, fire = names
    net = nn.Sequential(nn.Linear(3, 3, rngs=nnx.Rngs(1)), graph)
    xs, key = quick.uniform((6, 4, 3), -1, 2), jax.random.key(1)

    @jax.jit
    def both(net, xs):
        inside = nn.unroll(net, xs, key=key, record=("1.*",))
        records = inside[2].records
        # By hand, with the numbers that the dropout has kept.
        x = net[0](xs)
        before, drawn = layers[branch][0](x), records[f"1.{branch}.2"]
        mean, var = before.mean((0, 1)), before.var((0, 1))
        normal = (before - mean[None, None]) / jnp.sqrt(var[None, None] + 1e-5)
        return inside, drawn, nn.unroll(layers[fire], x + drawn)[1], normal, mean, var

    (_, ys, extras), drawn, want, normal, mean, var = both(net, xs)
    np.testing.assert_array_equal(ys, want)
    np.testing.assert_allclose(extras.records[f"1.{branch}.1"], normal, rtol=1e-4, atol=1e-5)
    kept = drawn != 0
    assert 0.2 < kept.mean() < 0.8
    assert (kept.all(0) | ~kept.any(0)).all()  # the same at every step
    np.testing.assert_allclose(drawn[kept], 2 * normal[kept], rtol=1e-5)

    trained = extras.module[1].layers[names.index(branch)][1]
    numbers = xs[..., 0].size
    np.testing.assert_allclose(trained.mean[...], 0.1 * mean, rtol=1e-5)
    unbiased = var * numbers / (numbers - 1)
    np.testing.assert_allclose(trained.var[...], 0.9 + 0.1 * unbiased, rtol=1e-5)


def test_a_normalisation_in_a_stream_and_in_a_cycle():
    graph, _ = residual()
    norm = graph.layers[0][1]
    norm.mean[...], norm.var[...] = norm.mean[...] + 0.5, norm.var[...] + 0.5
    assert_same_outputs(graph, graph)

    loop = [("input", "n"), ("n", "w"), ("w", "n"), ("n", "output")]
    layers = {"w": nn.Sequential(linear(), nn.BatchNorm(3)), "n": fire()}
    cycle = Graph(layers, loop)
    _, _, extras = nn.unroll(cycle, quick.uniform((4, 5, 3), 0, 2), key=jax.random.key(0))
    assert not jnp.allclose(extras.module.layers[0][1].mean[...], 0)
