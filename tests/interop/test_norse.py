"""Networks of Norse: against its arrays, and against the library where it is installed."""

import itertools
import math
import sys

import golden_arrays
import jax
import jax.numpy as jnp
import nir
import numpy as np
import other_libraries
import pytest
import quick
from flax import nnx

from jaxsnn import nn, surrogate
from jaxsnn.interop import norse, spikingjelly
from jaxsnn.interop.nir import Neuron, from_nir, to_nir

GOLDEN = golden_arrays.Golden("norse")
CASES = other_libraries.NORSE
SIZES = other_libraries.INPUTS, other_libraries.HIDDEN, other_libraries.OUTPUTS


def above(threshold):
    return float(np.nextafter(np.float32(threshold), np.float32(np.inf)))


def synapse(decay):
    return nn.ExponentialSynapse(-1 / math.log(decay))


# The networks of the cases, as the table in the docstring of from_module has them. Norse's
# defaults: dt = 0.001, tau_mem_inv = 100, tau_syn_inv = 200, v_th = 1, v_leak = v_reset = 0.
NEURONS = {
    "IAFCell": lambda: nn.IFNode(v_threshold=above(0.8), v_reset=-0.2),
    "IAFCell_alone": lambda: nn.IFNode(v_threshold=above(1)),
    "LIFBoxCell": lambda: nn.LIFNode(10.0, v_threshold=above(0.25), v_reset=-0.1),
    "LIFBoxCell_alone": lambda: nn.LIFNode(2.0, v_threshold=above(1)),
    "LIFBoxCell_subtract": lambda: nn.LIFNode(5.0, v_threshold=above(0.25), v_reset=None),
    "LIFCell": lambda: nn.Sequential(synapse(0.8), nn.LIFNode(10.0, v_threshold=above(0.5))),
    "LIFCell_no_synapse": lambda: nn.LIFNode(10.0, v_threshold=above(0.2)),
    "LIFRecurrentCell": lambda: nn.LinearRecurrentContainer(
        nn.Sequential(synapse(0.8), nn.LIFNode(4.0, v_threshold=above(0.5))),
        *(SIZES[1], SIZES[1], False),
        feedback_only=True,
        rngs=nnx.Rngs(0),
    ),
}


def by_hand(name):
    if other_libraries.is_alone(name):
        return nn.Sequential(NEURONS[name]())
    bias = name != "LIFRecurrentCell"
    first, second = (
        nn.Linear(a, b, use_bias=bias, rngs=nnx.Rngs(0)) for a, b in itertools.pairwise(SIZES)
    )
    output = [nn.NonSpikingLIFNode(10.0)]
    if name != "IAFCell":
        output = [synapse(0.8), *output]
    return nn.Sequential(first, NEURONS[name](), second, *output)


def filled(net, name):
    start = f"{name}/p_"
    arrays = {n.removeprefix(start): a for n, a in GOLDEN.arrays.items() if n.startswith(start)}
    names = {
        "0.input_weights": "0.weight",
        "0.recurrent_weights": "1.rc.weight",
        "1.input_weights": "2.weight",
    }
    return spikingjelly.load(net, {names.get(key, key): array for key, array in arrays.items()})


def check(nets):
    """Spikes are those of the file; potentials, which are put out at the end, nearly."""
    inputs = {name: GOLDEN.input(f"{name}/x", "float32") for name in nets}
    at = {name: "0" if other_libraries.is_alone(name) else "1" for name in nets}
    if isinstance(nets["LIFRecurrentCell"][0], nn.Sequential):  # from_module keeps the layers apart
        at["LIFRecurrentCell"] = "0.1"

    def run(nets, inputs):
        return {n: nn.unroll(net, inputs[n], record=at[n])[1:] for n, net in nets.items()}

    for name, (ys, extras) in quick.run_once(run, nets, inputs).items():
        golden_arrays.assert_close(ys, GOLDEN.arrays[f"{name}/out"], "float32", name)
        golden_arrays.assert_equal(extras.records[at[name]], GOLDEN.arrays[f"{name}/spikes"], name)


def test_golden():
    nets = quick.empty(lambda: {name: by_hand(name) for name in CASES})
    check({name: filled(net, name) for name, net in nets.items()})


def check_through_nir(nets, folder):
    """The same as `check`, of the networks that come back from a file of NIR."""
    backs = {}
    for name, net in nets.items():
        shape = GOLDEN.arrays[f"{name}/x"].shape[2:]
        nir.write(folder / f"{name}.nir", to_nir(net, shape, dt=0.001, soft_reset=True))
        backs[name] = from_nir(folder / f"{name}.nir")
    check(backs)
    return backs


def test_golden_through_nir(tmp_path):
    """A synapse and the neuron behind it are one node."""
    nets = quick.empty(lambda: {name: by_hand(name) for name in CASES})
    backs = check_through_nir({name: filled(net, name) for name, net in nets.items()}, tmp_path)
    kinds = [layer.kind for layer in backs["LIFCell"].layers if isinstance(layer, Neuron)]
    assert kinds == ["CubaLIF", "CubaLI"]
    assert backs["LIFRecurrentCell"][1].sub_module.kind == "CubaLIF"


@pytest.mark.parametrize("name", ["IAFCell_alone", "LIFBoxCell_alone"])
def test_ties_matter(name):
    """Some inputs end exactly on the threshold, where Norse does not fire and our neurons do."""
    node = nn.IFNode() if name.startswith("IAF") else nn.LIFNode(2.0)
    _, ys = nn.unroll(node, GOLDEN.input(f"{name}/x", "float32"))
    assert np.any(np.asarray(ys) != GOLDEN.arrays[f"{name}/out"])


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match="pip install norse"):
        norse.from_module(None)


# Against the library itself.


@pytest.fixture
def library():
    pytest.importorskip("torch")
    pytest.importorskip("norse")
    import norse.torch

    return norse.torch


def test_from_module(library, tmp_path):
    """The library gives what is in the file, and so do its networks as ours, through NIR too."""
    import torch

    nets = {}
    for name in CASES:
        network = other_libraries.make_norse(name)
        start = f"{name}/p_"
        arrays = {n: a for n, a in GOLDEN.arrays.items() if n.startswith(start)}
        network.load_state_dict(
            {n.removeprefix(start): torch.from_numpy(a) for n, a in arrays.items()}
        )
        xs = torch.from_numpy(GOLDEN.arrays[f"{name}/x"])
        ys = other_libraries.run(network, xs)
        golden_arrays.assert_equal(ys[-1], GOLDEN.arrays[f"{name}/out"], name)
        nets[name] = norse.from_module(network)
    check(nets)
    check_through_nir(nets, tmp_path)


def test_and_back(library):
    """A network that was trained here, in Norse."""
    import torch

    for name in CASES:
        network = other_libraries.make_norse(name)
        net = jax.tree.map(lambda leaf: leaf * 1.125, norse.from_module(network))
        norse.to_module(net, network)
        xs = GOLDEN.arrays[f"{name}/x"]
        ys = other_libraries.run(network, torch.from_numpy(xs))[-1]
        _, ours = quick.run_once(nn.unroll, net, jnp.asarray(xs))
        golden_arrays.assert_close(ours, ys, "float32", name)
        again = nnx.state(norse.from_module(network))
        jax.tree.map(np.testing.assert_array_equal, again, nnx.state(net))
    with pytest.raises(ValueError, match=r"net does not match .* SequentialState: .*0 is LIFNode"):
        norse.to_module(nn.Sequential(nn.LIFNode(2.0)), network)


def test_modules_that_run_sequences(library):
    """Not step by step; with a convolution in Lift, and a Flatten behind two axes."""
    import torch

    torch.manual_seed(0)
    p = library.LIFParameters(v_th=torch.tensor(0.25))
    network = library.SequentialState(
        library.Lift(torch.nn.Conv2d(2, 3, 3)),
        library.LIF(p),
        library.Lift(torch.nn.MaxPool2d(2)),
        torch.nn.Flatten(2),
        torch.nn.Linear(12, 4),
        library.IAF(),
        library.LIFRecurrent(4, 5, p),
        library.LI(),
    )
    xs = torch.rand(20, 3, 2, 6, 6)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter *= 2
        ys = network(xs)[0].numpy()
    assert ys.std() > 0.01
    net = norse.from_module(network)
    channels_last = jnp.asarray(np.moveaxis(xs.numpy(), 2, -1))
    golden_arrays.assert_close(quick.run_once(nn.unroll, net, channels_last)[1], ys, "float32")
    net = jax.tree.map(lambda leaf: leaf * 1.125, net)
    norse.to_module(net, network)
    with torch.no_grad():
        ys = network(xs)[0].numpy()
    golden_arrays.assert_close(quick.run_once(nn.unroll, net, channels_last)[1], ys, "float32")


def test_a_lift_sees_single_steps(library):
    """Also what stands in a stack in it."""
    import torch

    torch.manual_seed(0)
    p = library.LIFParameters(v_th=torch.tensor(0.25))
    conv, linear = torch.nn.Conv2d(2, 3, 3), torch.nn.Linear(48, 4)
    Lift, State = library.Lift, library.SequentialState
    xs = 20 * torch.rand(20, 3, 2, 6, 6)
    channels_last = jnp.asarray(np.moveaxis(xs.numpy(), 2, -1))
    for network in (
        State(Lift(conv), library.LIF(p), Lift(torch.nn.Flatten()), Lift(linear), library.LIF(p)),
        Lift(State(conv, library.LIFCell(p), torch.nn.Flatten(), linear, library.LIFCell(p))),
    ):
        with torch.no_grad():
            ys = network(xs)[0].numpy()
        assert 0.05 < ys.mean() < 0.95
        _, ours = quick.run_once(nn.unroll, norse.from_module(network), channels_last)
        np.testing.assert_array_equal(ours, ys)
    for layers, message in (
        (
            [library.LIF(), Lift(torch.nn.Flatten(2))],
            "1, Flatten, cannot .*: start_dim must be 1, got 2",
        ),
        ([library.LIF(), torch.nn.Flatten()], "1, Flatten, cannot .*: start_dim must be 2, got 1"),
        ([Lift(library.LIF())], "0, LIF, .* single steps; take it out of it"),
        ([Lift(torch.nn.Flatten()), library.LIFCell()], "1, LIFCell, .* put it in a Lift"),
        ([Lift(Lift(torch.nn.Flatten()))], "0, Lift, .* leave one out"),
    ):
        with pytest.raises(ValueError, match=message):
            norse.from_module(State(*layers))


def test_layers_in_two_places(library):
    """One for the weights; each place has a potential of its own, as in a SequentialState."""
    import torch

    torch.manual_seed(0)
    cell = library.LIFRecurrentCell(4, 4, library.LIFParameters(v_th=torch.tensor(0.1)))
    linear = torch.nn.Linear(4, 4)
    network = library.SequentialState(linear, cell, linear, cell)
    net = norse.from_module(network)
    graphdef, parameters = nnx.split(net)
    assert len(jax.tree.leaves(parameters)) == 4
    net = nnx.merge(graphdef, jax.tree.map(lambda leaf: leaf * 2, parameters))
    norse.to_module(net, network)
    xs = 3 * torch.rand(20, 3, 4)
    ys = other_libraries.run(network, xs)[-1]
    assert 0.05 < ys.mean() < 0.95
    np.testing.assert_array_equal(quick.run_once(nn.unroll, net, jnp.asarray(xs))[1], ys)
    lifted = library.SequentialState(library.Lift(linear), library.LIF(), library.Lift(linear))
    net = norse.from_module(lifted)
    assert net[0] is net[2]


def test_a_threshold_of_0(library):
    """The next number above it counts as 0 where what is denormal does."""
    import torch

    node = norse.from_module(library.IAFCell(library.IAFParameters(v_th=torch.tensor(0.0))))
    _, ys = nn.unroll(node, jnp.array([[0.0], [1e-30], [-1.0]]))
    np.testing.assert_array_equal(ys[:, 0], [0, 1, 0])


def test_gradient(library):
    """The default surrogate is Norse's; the reset is detached where Norse detaches it."""
    assert norse.from_module(library.IAFCell()).surrogate_function == surrogate.SuperSpike()
    recurrent = norse.from_module(library.LIFRecurrentCell(2, 3))
    assert recurrent[1].sub_module[1].detach_reset
    assert not norse.from_module(library.LIFCell())[1].detach_reset
    p = library.IAFParameters(method="triangle")
    with pytest.raises(ValueError, match=r"method='triangle' has no .* surrogate_function"):
        norse.from_module(library.IAFCell(p))
    chosen = surrogate.Triangle()
    node = norse.from_module(library.IAFCell(p), surrogate_function=chosen)
    assert node.surrogate_function == chosen


def test_what_is_refused_by_name(library):
    import torch
    from norse.torch.functional.reset import reset_subtract

    t = torch.tensor
    box, lif = library.LIFBoxParameters, library.LIFParameters
    for layer, message in (
        (library.LIFBoxCell(box(v_leak=t(-0.5))), "LIFBoxCell, .* v_leak must be v_reset, .* -0.5"),
        (
            library.LIFBoxCell(box(v_leak=t(0.5), reset_method=reset_subtract)),
            "must be 0 with reset_subtract",
        ),
        (
            library.LIFBoxCell(box(reset_method=lambda *_: 0)),
            "reset_method must be reset_value .* got <lambda>",
        ),
        (library.LIFBoxCell(dt=0.01), r"dt \* tau_mem_inv must be between 0 and 1, got 1.0"),
        (
            library.LIFCell(lif(tau_syn_inv=t(2000.0))),
            r"dt \* tau_syn_inv must be between 0 and 1, got 2.0",
        ),
        (
            library.LIFCell(lif(tau_mem_inv=t([100.0, 50.0]))),
            r"tau_mem_inv must be one number .* \(2,\)",
        ),
        (library.LIFCell(lif(v_th=t([1.0, 0.5]))), r"v_th must be one number .* \(2,\)"),
        (
            library.LICell(library.LIParameters(v_leak=t(0.5))),
            "LICell, .* v_leak must be 0, .* 0.5",
        ),
        (library.LSNNCell(), "1, LSNNCell, cannot be converted: supported"),
        (torch.nn.Flatten(2), "1, Flatten, cannot .*: start_dim must be 1, got 2"),
    ):
        with pytest.raises(ValueError, match=message):
            norse.from_module(library.SequentialState(torch.nn.Identity(), layer))
