"""Networks to NIR and back: the same parameters, the same spikes, and what is refused."""

import functools
import operator

import golden_arrays
import jax
import jax.numpy as jnp
import nir
import nir_files
import numpy as np
import pytest
import quick
from flax import nnx

from jaxsnn import data, models, nn, surrogate
from jaxsnn.interop import spikingjelly
from jaxsnn.interop.nir import (
    Neuron,
    Scale,
    Strict,
    SumPool,
    Threshold,
    from_nir,
    to_nir,
)

GOLDEN = golden_arrays.Golden("networks")
HALF = 0.5


def rngs():
    return nnx.Rngs(0)


def linear(inputs, outputs, factor=3.0, **kwargs):
    layer = nn.Linear(inputs, outputs, rngs=rngs(), **kwargs)
    layer.kernel[...] *= factor
    return layer


def recurrent(sub_module, inputs, outputs, **kwargs):
    return nn.LinearRecurrentContainer(sub_module, inputs, outputs, rngs=rngs(), **kwargs)


def image_network():
    return nn.Sequential(
        nn.Conv(2, 3, (3, 3), padding=1, use_bias=False, rngs=rngs()),
        nn.LIFNode(tau=1.3, v_threshold=0.3),
        nn.AvgPool((2, 2)),
        nn.Conv(3, 4, (3, 1), (2, 1), padding="VALID", kernel_dilation=1, rngs=rngs()),
        nn.IFNode(v_threshold=0.2),
        SumPool((1, 2), (1, 1)),
        nn.Flatten(),
        recurrent(nn.IFNode(v_threshold=HALF), 8, 8),
        nn.Flatten(),
        linear(8, 3),
        nn.NonSpikingIFNode(),
    )


def signal_network():
    return nn.Sequential(
        nn.Conv(2, 4, (3,), 2, padding=1, feature_group_count=2, rngs=rngs()),
        nn.IFNode(v_threshold=0.1),
        nn.Flatten(),
        linear(12, 2),
    )


def feature_network():
    scale = np.linspace(0.5, 2, 5)
    taus = np.array([0.002, 0.003, 0.004])
    return nn.Sequential(
        linear(4, 5),
        nn.LIFNode(2.7, decay_input=False, surrogate_function=surrogate.ATan(alpha=3.0)),
        Scale(scale),
        recurrent(nn.ParametricLIFNode(1.9, v_threshold=0.4, v_reset=-0.2), 5, 5),
        recurrent(nn.IFNode(detach_reset=True, surrogate_function=Strict(surrogate.Rect())), 5, 5,
                  feedback_only=True, bias=False),
        nn.Delay(2),
        nn.ElementWiseRecurrentContainer(
            nn.Sequential(linear(5, 5), nn.CUBALIFNode(c_decay=0.1, v_decay=0.85)), operator.add
        ),
        recurrent(nn.Sequential(linear(5, 2), nn.IFNode(v_threshold=0.1)), 5, 2),
        linear(2, 3, use_bias=False),
        Neuron(dt=0.001, r=1.5, tau=taus, v_leak=0.1, v_threshold=0.3, v_reset=-0.1),
        Threshold([0.2, 0.3, 0.4], surrogate_function=surrogate.Sigmoid()),
        linear(3, 3),
        nn.NonSpikingLIFNode(tau=3.3),
    )  # fmt: skip


def residual_network():
    layers = {
        "first": nn.Sequential(linear(4, 4), nn.IFNode(v_threshold=0.6)),
        "ring": recurrent(nn.LIFNode(1.5, v_threshold=0.4), 4, 4, feedback_only=True),
        "second": linear(4, 4),
        "sum": nn.IFNode(),
    }
    edges = [("input", "first"), ("first", "ring"), ("ring", "second"), ("first", "sum")]
    edges += [("second", "sum"), ("input", "sum"), ("sum", "output")]
    return nn.Sequential(nn.Graph(layers, edges), linear(4, 2))


NETWORKS = {
    "images": (image_network, (6, 6, 2)),
    "features": (feature_network, (4,)),
    "residual": (residual_network, (4,)),
    "signal": (signal_network, (6, 2)),
}


def test_containers_in_containers():
    """They come back as they were, whichever is inside."""
    ring = recurrent(nn.IFNode(), 3, 3)
    for net in (
        nn.ElementWiseRecurrentContainer(ring, operator.add),
        recurrent(nn.Sequential(ring, linear(3, 2), nn.IFNode()), 3, 2),
        recurrent(recurrent(nn.LIFNode(), 3, 3, feedback_only=True), 3, 3, feedback_only=True),
    ):
        back = from_nir(to_nir(net, (3,)))[0]
        assert repr(back) == repr(net)
        for a, b in zip(jax.tree.leaves(net), jax.tree.leaves(back), strict=True):
            np.testing.assert_array_equal(a, b)


def both(one, other, xs):
    return nn.unroll(one, xs)[1], nn.unroll(other, xs)[1]


@pytest.mark.parametrize("name", NETWORKS)
def test_to_a_file_and_back(name, tmp_path):
    """Bit for bit the same parameters, and outputs at every step."""
    build, shape = NETWORKS[name]
    network = build()
    graph = to_nir(network, shape, dt=0.001)
    assert graph.check_types()
    path = tmp_path / "network.nir"
    nir.write(path, graph)
    back = from_nir(path)
    for a, b in zip(jax.tree.leaves(network), jax.tree.leaves(back), strict=True):
        np.testing.assert_array_equal(a, b)
    if name != "residual":  # whose stacks are taken apart
        assert repr(back) == repr(network)
    xs = quick.uniform((12, 3, *shape), -1, 3)
    ys, expected = quick.run_once(both, back, network, xs)
    np.testing.assert_array_equal(ys, expected)
    assert len(np.unique(expected)) > 1
    assert_same_graph(to_nir(back, shape, dt=0.001), graph)


def assert_same_graph(graph, expected, *, rtol=0.0):
    """The same nodes, fields and edges."""
    assert graph.nodes.keys() == expected.nodes.keys()
    assert sorted(graph.edges) == sorted(expected.edges)
    for name, node in graph.nodes.items():
        other = expected.nodes[name]
        assert type(node) is type(other)
        assert node.metadata == other.metadata
        for field, value in vars(node).items():
            if isinstance(value, dict | str):
                assert str(value) == str(getattr(other, field)), (name, field)
            else:
                np.testing.assert_allclose(value, getattr(other, field), rtol=rtol, err_msg=field)


@pytest.mark.parametrize(("name", "dt"), [("plain", 2.0**-10), ("fb", 1e-4)])
def test_networks_of_spikingjelly(name, dt, tmp_path):
    """SpikingJelly's parameters, to NIR and back: SpikingJelly's spikes at every step."""
    network = golden_network(name)
    nir.write(tmp_path / "network.nir", to_nir(network.fc, (28,), dt=dt))
    back = from_nir(tmp_path / "network.nir")
    assert repr(back) == repr(network.fc)
    _, spikes = run(back, data.columns(GOLDEN.arrays["images"][:64]))
    golden_arrays.assert_equal(spikes, GOLDEN.arrays[f"{name}/hot_out_spikes"])


def test_networks_of_spikingjelly_with_a_leak(tmp_path):
    """A convolution with LIF neurons, containers around one: SpikingJelly's weights and spikes."""
    nets, xs, spikes = {}, {}, {}
    containers = golden_arrays.Golden("containers_linear")
    for name in ("seq_linear_lif_bias", "seq_linear_lif_nobias"):
        inside = nn.Sequential(nn.Linear(6, 4, rngs=rngs()), nn.LIFNode())
        net = recurrent(inside, 6, 4, bias=name.endswith("_bias"))
        start = f"{name}/p_"
        arrays = {n.removeprefix(start): a for n, a in containers.arrays.items() if start in n}
        nets[name] = spikingjelly.load(net, arrays)
        xs[name] = containers.input(f"{name}/x", "float32")
        spikes[name] = containers.arrays[f"{name}/out"]
    name = "spikingjelly_conv"
    nets[name], _ = nir_files.read(golden_arrays.FOLDER / "nir", name)
    with np.load(golden_arrays.FOLDER / "nir" / "spikes.npz") as arrays:
        xs[name] = jnp.moveaxis(jnp.asarray(arrays[f"{name}/x"]), 2, -1)
        spikes[name] = arrays[f"{name}/y"]
    assert [type(layer) for layer in nets[name].layers[:2]] == [nn.Conv, nn.LIFNode]
    backs = {}
    for name, net in nets.items():
        nir.write(tmp_path / f"{name}.nir", to_nir(net, xs[name].shape[2:], dt=2e-3))
        backs[name] = from_nir(tmp_path / f"{name}.nir")

    def outputs(nets, xs):
        return {name: nn.unroll(net, xs[name])[1] for name, net in nets.items()}

    for name, ys in quick.run_once(outputs, backs, xs).items():
        assert 0.05 < spikes[name].mean() < 0.95
        golden_arrays.assert_equal(ys, spikes[name], name)


def test_the_network_with_a_synapse_filter_is_refused():
    with pytest.raises(TypeError, match=r"SynapseFilter at '2': .*NonSpikingLIFNode"):
        to_nir(golden_network("ss").fc, (28,))


def golden_network(name):
    """SpikingJelly's network, with weights so large that it fires a lot."""
    scale = np.float32(GOLDEN.cases[name]["hot_scale"])
    start = f"{name}/p0_"
    arrays = {
        key.removeprefix(start): array * scale if key.endswith(("weight", "bias")) else array
        for key, array in GOLDEN.arrays.items()
        if key.startswith(start)
    }
    return spikingjelly.load(models.MODELS[name](rngs=rngs()), arrays)


run = functools.partial(quick.run_once, nn.unroll)


def test_every_time_constant_comes_back():
    """As far as a person writes it; the last of 17 digits may differ by one rounding."""
    rng = np.random.default_rng(0)
    for tau in [1.1, 2.0, 3.3, 100.0, *(float(f"{t:.15g}") for t in rng.uniform(1.01, 50, 50))]:
        for dt in (1e-4, 1e-3, 0.7, 2.0**-10):
            for decay_input in (True, False):
                cell = nn.LIFNode(tau, decay_input=decay_input)
                back = from_nir(to_nir(cell, (2,), dt=dt))[0]
                assert (back.tau, back.decay_input) == (tau, decay_input)
    for decay in [0.0, 0.1, 0.9, 0.99, *(float(f"{d:.12g}") for d in rng.uniform(0, 1, 50))]:
        cell = nn.CUBALIFNode(c_decay=decay, v_decay=1 - decay if decay else 0.5)
        back = from_nir(to_nir(cell, (2,)))[0]
        assert back.c_decay == decay


def test_units():
    """Seconds and volts per second are those of NIR's equations, with Euler steps of dt."""
    node = to_nir(nn.LIFNode(3.0, v_reset=-0.5, v_threshold=0.7), (2,), dt=0.01).nodes["lif"]
    fields = node.tau, node.r, node.v_leak, node.v_threshold, node.v_reset
    for field, expected in zip(fields, (0.03, 1.0, -0.5, 0.7, -0.5), strict=True):
        np.testing.assert_allclose(field, [expected] * 2)
    node = to_nir(nn.LIFNode(3.0, decay_input=False), (2,), dt=0.01).nodes["lif"]
    np.testing.assert_allclose(node.r, [3.0, 3.0])
    np.testing.assert_allclose(to_nir(nn.IFNode(), (2,), dt=0.01).nodes["if"].r, [100.0, 100.0])
    node = to_nir(nn.CUBALIFNode(c_decay=0.5, v_decay=0.75), (1,), dt=0.01).nodes["cubalif"]
    fields = node.tau_syn, node.tau_mem, node.w_in, node.r
    np.testing.assert_allclose(np.ravel(fields), [0.02, 0.04, 2.0, 4.0])
    delay = to_nir(nn.Delay(3), (4, 5, 2), dt=0.01).nodes["delay"].delay
    np.testing.assert_allclose(delay, np.full((2, 4, 5), 0.03))
    # Another dt is another discretisation of the same equation.
    graph = to_nir(nn.LIFNode(3.0), (2,), dt=0.01)
    assert from_nir(graph, dt=0.005)[0].tau == 6.0


def test_a_flatten_sorts_the_weights_behind_it():
    layer = linear(12, 2)
    weight = to_nir(nn.Sequential(nn.Flatten(), layer), (2, 3, 2)).nodes["1"].weight
    x = quick.uniform((1, 2, 3, 2))
    channels_first = np.moveaxis(np.asarray(x[0]), -1, 0).ravel()
    expected = layer(x.reshape(1, -1)) - layer.bias[...][None]
    np.testing.assert_allclose(weight @ channels_first, expected[0], rtol=1e-5)


def test_equal_to_the_threshold():
    """NIR fires above the threshold; ours, SpikingJelly's too, at it."""
    graph = to_nir(nn.IFNode(), (1,), dt=1.0)
    xs = jnp.array([[[0.5]], [[0.5]], [[0.5]]])
    assert run(from_nir(graph), xs)[1].ravel().tolist() == [0, 1, 0]
    assert run(from_nir(graph, fires_at_threshold=False), xs)[1].ravel().tolist() == [0, 0, 1]
    graph.nodes["if"].metadata = {}
    assert run(from_nir(graph), xs)[1].ravel().tolist() == [0, 0, 1]
    assert run(from_nir(graph, fires_at_threshold=True), xs)[1].ravel().tolist() == [0, 1, 0]


def test_strict_keeps_the_derivative():
    u = jnp.array([-0.5, 0.0, 0.5])
    derivative = jax.vmap(jax.grad(surrogate.ATan()))
    strict = jax.vmap(jax.grad(Strict(surrogate.ATan())))
    np.testing.assert_allclose(strict(u), derivative(u))
    assert Strict(surrogate.ATan())(u).tolist() == [0, 0, 1]


def test_soft_reset():
    network = nn.Sequential(nn.IFNode(v_reset=None), nn.LIFNode(v_reset=-0.5))
    with pytest.raises(ValueError, match=r"IFNode at '0': NIR has no soft .*soft_reset=True"):
        to_nir(network, (3,))
    graph = to_nir(network, (3,), soft_reset=True)
    assert graph.nodes["0"].v_reset.tolist() == [0, 0, 0]
    assert repr(from_nir(graph)) == repr(network)
    assert from_nir(graph, reset="hard")[0].v_reset == 0.0
    with pytest.raises(
        ValueError, match=r"LIF at '1': a soft reset needs a v_reset of 0, got -0.5"
    ):
        from_nir(graph, reset="soft")


def test_delayed_reset():
    """As snnTorch has it: the threshold is subtracted in the next step, without a leak."""
    graph = to_nir(nn.LIFNode(4.0, decay_input=False), (1,))
    cell = from_nir(graph, reset="delayed")[0]
    xs = quick.uniform((20, 1, 1), 0, 1.5)
    v, spike, expected = 0.0, 0.0, []
    for x in np.asarray(xs, np.float64).ravel():
        v = 0.75 * v + x - spike
        spike = float(v >= 1)
        expected.append(spike)
    assert run(cell, xs)[1].ravel().tolist() == expected
    assert 0 < sum(expected) < 20
    again = to_nir(cell, (1,), soft_reset=True)
    assert repr(from_nir(again)[0]) == repr(cell)


def of_each(*shape, low=1.5, high=9.0, seed=0):
    return quick.uniform(shape, low, high, seed=seed)


def constants_network():
    """Constants for each neuron or channel, fixed and learned, also after a Flatten of images."""
    fields = {
        "v_threshold": nn.learnable(of_each(2, low=0.1, high=0.6)),
        "v_reset": of_each(2) / -9,
    }
    return nn.Sequential(
        nn.LIFNode(of_each(2), **fields),
        nn.IFNode(v_threshold=of_each(3, 2, 2, high=2.0)),
        nn.Flatten(),
        nn.LIFNode(nn.learnable(of_each(12), (0.0, 20.0)), decay_input=False),
        linear(12, 5),
        nn.CUBALIFNode(c_decay=nn.learnable(of_each(5) / 10), v_decay=of_each(5) / 10),
        nn.LIFNode(nn.learnable(2.5), v_threshold=0.1),
        nn.NonSpikingLIFNode(nn.learnable(of_each(5)), decay_input=False),
    )


def test_constants_of_each_neuron(tmp_path):
    """They come back bit for bit, in the shapes that they had, learned as before."""
    net = constants_network()
    nir.write(tmp_path / "net.nir", to_nir(net, (3, 2, 2), dt=0.003))
    back = from_nir(tmp_path / "net.nir")
    assert repr(back) == repr(net)
    a, b = map(jax.tree_util.tree_leaves_with_path, (net, back))
    for (path, leaf), (path_back, leaf_back) in zip(a, b, strict=True):
        assert path == path_back
        assert (leaf.shape, leaf.dtype) == (leaf_back.shape, leaf_back.dtype), path
        np.testing.assert_array_equal(leaf, leaf_back, str(path))
    for cell, cell_back in zip(net.layers, back.layers, strict=True):
        learned = getattr(cell, "learned", {})
        assert {name: c.bounds for name, c in learned.items()} == {
            name: c.bounds for name, c in getattr(cell_back, "learned", {}).items()
        }
    ys, expected = quick.run_once(both, back, net, quick.uniform((8, 2, 3, 2, 2), 0, 2))
    np.testing.assert_array_equal(ys, expected)
    assert np.ptp(expected) > 0


def test_constants_that_were_edited():
    """The node's numbers count: learned from there, in the same bounds."""
    graph = to_nir(nn.LIFNode(nn.learnable(of_each(3), (0.0, 50.0))), (3,))
    graph.nodes["lif"].tau *= np.array([2.0, 1.0, 1.0])
    back = from_nir(graph, param_dtype=jnp.float32)[0]
    np.testing.assert_allclose(back.tau, of_each(3) * np.array([2.0, 1.0, 1.0]), rtol=1e-6)
    assert back.learned["tau"].bounds == (0.0, 50.0)


def saturated(cell, **shifts):
    """The cell, trained so far that its constants have reached their bounds."""
    for name, shift in shifts.items():
        w = getattr(cell, name)
        w[...] += jnp.asarray(shift, w[...].dtype)
    return cell


def at_their_bounds():
    two = jnp.array([2.0, 8.0])
    bounded = nn.learnable(two, (1.0, 20.0))
    return {
        "tau, above": saturated(nn.LIFNode(bounded), w=100.0),
        "tau, below": saturated(nn.NonSpikingLIFNode(bounded), w=-100.0),
        "tau, one of two": saturated(nn.LIFNode(bounded), w=[100.0, 0.5]),
        "tau by default": saturated(nn.LIFNode(nn.learnable(2.0)), w=100.0),
        "tau by default, one of two": saturated(
            nn.LIFNode(nn.learnable(two), decay_input=False), w=[100.0, 0.5]
        ),
        "tau of SpikingJelly": saturated(nn.ParametricLIFNode(), w=100.0),
        "v_threshold": saturated(nn.IFNode(v_threshold=nn.learnable(two)), w_v_threshold=200.0),
        "v_reset": saturated(
            nn.LIFNode(v_reset=nn.learnable(-two, (-9.0, 0.0))), w_v_reset=[200.0, -200.0]
        ),
        "decays": saturated(
            nn.CUBALIFNode(c_decay=nn.learnable(two / 9), v_decay=nn.learnable(0.5)),
            w_c_decay=-200.0,
            w_v_decay=-200.0,
        ),
    }


@pytest.mark.parametrize("case", at_their_bounds())
def test_constants_at_their_bounds(case):
    """They come back with the same parameter, from which no start of `learnable` would lead."""
    cell = at_their_bounds()[case]
    back = from_nir(to_nir(nn.Sequential(cell), (2,), dt=1e-3))[0]
    assert (type(back), repr(back)) == (type(cell), repr(cell))
    for name, (parameter, bounds) in cell.learned.items():
        np.testing.assert_array_equal(back.learned[name].parameter[...], parameter[...])
        assert back.learned[name].bounds == bounds


def test_an_edit_next_to_a_constant_at_its_bound():
    cell = saturated(nn.LIFNode(nn.learnable([2.0, 8.0], (1.0, 20.0))), w=[100.0, 0.0])
    graph = to_nir(cell, (2,), dt=1.0)
    graph.nodes["lif"].tau[1] = 5.0
    back = from_nir(graph)[0]
    assert back.w[0] == cell.w[0]
    np.testing.assert_allclose(back.tau, [20.0, 5.0], rtol=1e-6)
    graph.nodes["lif"].tau[1] = 25.0
    message = r"LIF at 'lif': tau does not fit .*'learned': tau must start inside of its bounds"
    with pytest.raises(ValueError, match=message):
        from_nir(graph)
    below = saturated(nn.IFNode(v_threshold=nn.learnable([1.0, 2.0])), w_v_threshold=200.0)
    graph = to_nir(below, (2,))
    graph.nodes["if"].v_threshold[:] = 1e-87, 2e-87  # as float64 has them
    np.testing.assert_array_equal(from_nir(graph)[0].w_v_threshold, below.w_v_threshold)


def test_learned_constants_are_never_dropped():
    """No neuron with fixed numbers comes back where the note says that they are learned."""
    for cell in (nn.LIFNode(nn.learnable(2.0)), nn.ParametricLIFNode()):
        graph = to_nir(cell, (2,), dt=1e-3)
        for changed in ({"reset": "delayed"}, {"dt": 1e-2}):
            with pytest.raises(ValueError, match=r"note that tau is learned, .* remove 'learn"):
                from_nir(graph, **changed)
        graph.nodes["lif"].r *= 3
        with pytest.raises(ValueError, match=r"note that tau is learned, but .* learns nothing"):
            from_nir(graph)
        graph.nodes["lif"].metadata["jaxsnn"].pop("learned", None)
        graph.nodes["lif"].metadata["jaxsnn"].pop("w", None)
        assert type(from_nir(graph)[0]) is Neuron
    with_bounds = nn.ParametricLIFNode()
    with_bounds.tau = nn.learnable(jnp.array([2.0, 3.0]), (1.0, 20.0))
    back = from_nir(to_nir(with_bounds, (2,)))[0]
    assert back.learned["tau"].bounds == (1.0, 20.0)
    np.testing.assert_array_equal(back.w, with_bounds.w)


def test_constants_that_cannot_be_written():
    for cell, message in (
        (nn.LIFNode(of_each(2)), r"tau has shape \(2,\), which does not broadcast .* \(3,\)"),
        (nn.CUBALIFNode(c_decay=[0.5, 1.0, 0.5]), "c_decay=1 never decays, which NIR has not"),
        (nn.AdaptiveLIFNode(nn.learnable(2.0)), "NIR has no node for it"),
        (
            saturated(nn.LIFNode(nn.learnable(2.0, (0.0, jnp.inf))), w=1.0),
            r"LIFNode: tau must be at least 1 in NIR, got 0\.73.*bounds=\(1\.0, math\.inf\)",
        ),
        (
            saturated(nn.LIFNode(nn.learnable(2.0), decay_input=False), w=100.0),
            "tau has become 1 with decay_input=False",
        ),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            to_nir(cell, (3,))
    diverged = nn.LIFNode(nn.learnable(of_each(3)))
    diverged.w[...] = jnp.array([0.0, jnp.nan, 0.0])
    with pytest.raises(ValueError, match=r"LIFNode: tau must hold finite .* nan"):
        to_nir(diverged, (3,))


def test_training_goes_on():
    """Weights are parameters, and a learned time constant stays one."""
    cell = nn.ParametricLIFNode(3.0)
    cell.w[...] += 0.123
    back = from_nir(to_nir(cell, (2,)))[0]
    assert isinstance(back, nn.ParametricLIFNode)
    assert back.w[...] == cell.w[...]
    graph = to_nir(cell, (2,))
    graph.nodes["lif"].tau *= 2  # edited since: what the node says counts
    np.testing.assert_allclose(from_nir(graph)[0].tau, 2 * cell.tau, rtol=1e-6)
    back = from_nir(graph, surrogate_function=surrogate.Rect(), detach_reset=True)[0]
    assert (back.surrogate_function, back.detach_reset) == (surrogate.Rect(), True)


def test_every_surrogate_comes_back():
    for name in ("ATan", "SquarewaveFourierSeries", "PiecewiseLeakyReLU"):
        function = getattr(surrogate, name)()
        for own in (function, Strict(function)):
            cell = from_nir(to_nir(nn.IFNode(surrogate_function=own), (1,)))[0]
            assert cell.surrogate_function == own


def above(u):
    """A spike function of one's own, strict."""
    return (u > 0).astype(u.dtype)


def test_a_surrogate_of_ones_own_must_be_said():
    graph = to_nir(nn.Sequential(nn.IFNode(surrogate_function=above)), (1,))
    with pytest.raises(
        ValueError, match=r"IF at '0': .* above is a custom one; pass .*surrogate_func"
    ):
        from_nir(graph)
    cell = from_nir(graph, surrogate_function=surrogate.ATan())[0]
    assert cell.surrogate_function == Strict(surrogate.ATan())


def test_double_precision(tmp_path):
    with jax.enable_x64(True):
        layer = nn.Linear(3, 2, param_dtype=jnp.float64, rngs=rngs())
        nir.write(tmp_path / "net.nir", to_nir(layer, (3,)))
        back = from_nir(tmp_path / "net.nir", param_dtype=jnp.float64)[0]
        np.testing.assert_array_equal(back.kernel[...], layer.kernel[...])
        assert back.kernel[...].dtype == jnp.float64
        assert from_nir(tmp_path / "net.nir")[0].kernel[...].dtype == jnp.float32


def test_how_products_are_calculated(tmp_path):
    """In which dtype, and how exactly: NIR does not say it, notes do."""
    how = {"dtype": jnp.bfloat16, "precision": "highest", "rngs": rngs()}
    ring = recurrent(nn.IFNode(), 4, 4, dtype=jnp.bfloat16)
    ring.rc.precision = jax.lax.Precision.HIGH
    network = nn.Sequential(
        nn.Conv(1, 2, (3,), padding=1, use_bias=False, **how), nn.Flatten(), nn.Linear(4, 4, **how),
        *(ring, linear(4, 4, dtype=jnp.bfloat16)),
    )  # fmt: skip
    nir.write(tmp_path / "net.nir", to_nir(network, (2, 1)))
    graph = nir.read(tmp_path / "net.nir")
    back = from_nir(graph)
    assert repr(back) == repr(network)
    highest, high = jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGH
    found = [(layer.dtype, layer.precision) for layer in (back[0], back[2], back[3].rc, back[4])]
    assert found == [(jnp.bfloat16, p) for p in (highest, highest, high, None)]
    xs = quick.uniform((5, 1, 2, 1), 0, 5)
    ys, expected = quick.run_once(both, back, network, xs)
    assert ys.dtype == jnp.bfloat16
    np.testing.assert_array_equal(ys, expected)
    graph.nodes["3.rc_input"].metadata["jaxsnn"]["dtype"] = "float32"  # edited: no longer one
    edited = from_nir(graph)
    assert (edited[3].dtype, edited[4].feedback_only) == (jnp.float32, True)

    plain = to_nir(nn.Sequential(linear(4, 4), ring.sub_module), (4,))
    assert not plain.nodes["0"].metadata
    for note, value in (("dtype", "int8"), ("precision", "x")):
        plain.nodes["0"].metadata = {"jaxsnn": {note: value}}
        with pytest.raises(ValueError, match=rf"Affine at '0': its metadata '{note}' must be"):
            from_nir(plain)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_numbers_that_are_none(number):
    """Neither written nor read."""
    leaky = nn.ParametricLIFNode()
    leaky.w[...] = number * jnp.ones(())
    conv = nn.Conv(1, 1, (1,), rngs=rngs())
    for name, layer, shape, kind in (
        ("kernel", linear(2, 2), (2,), "Affine"),
        ("bias", linear(2, 2), (2,), "Affine"),
        ("kernel", linear(2, 2, use_bias=False), (2,), "Linear"),
        ("kernel", conv, (2, 1), "Conv1d"),
        ("bias", nn.Conv(1, 1, (1, 1), rngs=rngs()), (2, 2, 1), "Conv2d"),
        ("scale", Scale([1.0, 2.0]), (2,), "Scale"),
    ):
        network = nn.Sequential(layer)
        graph = to_nir(network, shape)
        field = {"kernel": "weight"}.get(name, name)
        array = np.array(getattr(graph.nodes["0"], field))
        array.flat[-1] = number
        setattr(graph.nodes["0"], field, array)
        with pytest.raises(
            ValueError, match=f"{kind} at '0': {field} must hold finite numbers, got"
        ):
            from_nir(graph)
        getattr(layer, name)[...] = jnp.full_like(getattr(layer, name)[...], number)
        with pytest.raises(ValueError, match=f"at '0': {name} must hold finite numbers"):
            to_nir(network, shape)
    with pytest.raises(ValueError, match=r"at '1': (parameter of )?tau must hold finite"):
        to_nir(nn.Sequential(nn.IFNode(), leaky), (2,))
    graph = to_nir(conv_of(1e30), (2, 1))
    with pytest.raises(ValueError, match=r"weight holds .* too large for float16"):
        from_nir(graph, param_dtype=jnp.float16)


def conv_of(number):
    conv = nn.Conv(1, 1, (1,), rngs=rngs())
    conv.kernel[...] = jnp.full_like(conv.kernel[...], number)
    return conv


class Doubled(nn.IFNode):
    """A neuron of a user's own."""


REFUSED = {
    "a synapse": (nn.ExponentialSynapse(2.0), (3,), r"ExponentialSynapse: NIR has no node .*exp"),
    "another neuron": (nn.contrib.QIFNode(), (3,), "QIFNode: NIR has no node for it; to_nir says"),
    "a subclass": (Doubled(), (3,), "Doubled: NIR has no node"),
    "a function": (nn.Sequential(jax.nn.relu), (3,), "at '0': NIR has no node"),
    "a name": (nn.Graph({"a.0": nn.IFNode(), "a": nn.Sequential(nn.IFNode())},
                        [("input", "a.0"), ("a.0", "a"), ("a", "output")]),
               (3,), r"two layers would be called 'a\.0'; rename one"),
    "dropout": (nn.Sequential(nn.IFNode(), nn.Dropout(0.5)), (3,), "Dropout at '1'.*leave it out"),
    "a norm": (nn.BatchNorm(3), (3,), r"BatchNorm: .*jaxsnn\.nn\.fold_batch_norm\(net\)"),
    "a norm a step": (nn.contrib.BatchNormThroughTime(2, 3), (3,), "another one at each time ste"),
    "another norm": (nnx.LayerNorm(3, rngs=nnx.Rngs(0)), (3,), "LayerNorm: .*; to_nir says which"),
    "a model": (models.PlainNet(rngs=nnx.Rngs(0)), (28,), r"PlainNet: .*\.fc"),
    "a product": (
        nn.ElementWiseRecurrentContainer(nn.IFNode(), operator.mul),
        (3,),
        "element_wise_function='mul' has no NIR node; use operator.add",
    ),
    "features": (nn.Linear(4, 2, rngs=nnx.Rngs(0)), (3,), r"one axis of 4 features, .*shape \[3\]"),
    "two axes": (nn.Linear(4, 2, rngs=nnx.Rngs(0)), (3, 4), "one axis of 4 .*put a Flatten"),
    "flat images": (nn.Flatten(), (2, 2, 2), "put a Linear after it"),
    "no decay": (nn.CUBALIFNode(v_decay=1.0), (3,), "v_decay=1 never decays"),
    "same": (nn.Conv(1, 1, (3, 3), 2, rngs=nnx.Rngs(0)), (4, 4, 1), "padding='SAME' with strides"),
    "one side": (
        nn.Conv(1, 1, (3,), padding=((1, 0),), rngs=nnx.Rngs(0)), (4, 1), "both sides .*alike, got"
    ),
    "three axes": (nn.Conv(1, 1, (1, 1, 1), rngs=nnx.Rngs(0)), (4, 1), "needs 1 channels and 3 ax"),
    "circular": (nn.Conv(1, 1, (3,), padding="CIRCULAR", rngs=nnx.Rngs(0)), (4, 1), "'CIRCULAR'"),
    "a pool of one axis": (nn.AvgPool((2,)), (4, 1), "pools over two axes"),
    "the largest": (nn.MaxPool((2, 2)), (4, 4, 1), "MaxPool: NIR has no node"),
    "another dt": (Neuron(dt=0.1, r=1.0), (3,), "its dt=0.1 seconds, to_nir got dt=0.0001"),
    "nothing to feed back": (
        nn.ElementWiseRecurrentContainer(nn.Sequential(), operator.add), (3,), "no layers inside"
    ),
    "a product of one's own": (
        nn.Linear(3, 2, dot_general=lambda *_, **__: 0, rngs=nnx.Rngs(0)),
        (3,),
        "Linear: NIR has nothing for its dot_general=",
    ),
    "a dtype": (
        nn.Linear(3, 2, dtype=jnp.float8_e4m3fn, rngs=nnx.Rngs(0)), (3,), "Linear: dtype must be o"
    ),
    "smooth values": (
        nn.IFNode(surrogate_function=surrogate.ATan(spiking=False)),
        (3,),
        r"surrogate_function=ATan\(.* outputs \[0.* leave spiking=False out",
    ),
    "counts": (
        nn.Sequential(nn.IFNode(surrogate_function=surrogate.MultiLevelSpikeCount(4))),
        (3,),
        r"IFNode at '0': .*MultiLevelSpikeCount.* a spike or none",
    ),
    "a scale": (Scale([1.0, 2.0]), (3,), r"scale must have shape \[3\], got \[2\]"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_nir_cannot_express_is_refused(case):
    layer, shape, message = REFUSED[case]
    with pytest.raises((TypeError, ValueError), match=message):
        to_nir(layer, shape)


def test_arguments():
    with pytest.raises(ValueError, match="dt must be greater than 0"):
        to_nir(nn.IFNode(), (3,), dt=0.0)
    with pytest.raises(TypeError, match="input_shape must be a shape"):
        to_nir(nn.IFNode(), 3)
    with pytest.raises(ValueError, match="one to three axes"):
        to_nir(nn.IFNode(), (2, 3, 4, 5))
    graph = to_nir(nn.IFNode(), (3,))
    with pytest.raises(ValueError, match="reset must be one of"):
        from_nir(graph, reset="none")
    strict = Strict(surrogate.ATan())
    assert from_nir(graph, surrogate_function=strict)[0].surrogate_function == strict
    with pytest.raises(ValueError, match="fires_at_threshold=True contradicts"):
        from_nir(graph, surrogate_function=strict, fires_at_threshold=True)
    with pytest.raises(TypeError, match="fires_at_threshold must be True or False"):
        from_nir(graph, fires_at_threshold=1)
    with pytest.raises(TypeError, match=r"graph must be a nir\.NIRGraph or the path"):
        from_nir(graph.nodes["if"])


def test_the_package_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "nir", None)
    with pytest.raises(ImportError, match=r'pip install "jaxsnn-nnx\[nir\]".*-e "\.\[nir\]"'):
        to_nir(nn.IFNode(), (3,))
