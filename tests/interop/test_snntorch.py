"""Networks of snnTorch: against its arrays, and against the library where it is installed."""

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

from jaxsnn import models, nn
from jaxsnn.interop import snntorch, spikingjelly
from jaxsnn.interop.nir import from_nir, to_nir

GOLDEN = golden_arrays.Golden("snntorch")
CASES = other_libraries.SNNTORCH


def parameters(name):
    start = f"{name}/p_"
    return {n.removeprefix(start): a for n, a in GOLDEN.arrays.items() if n.startswith(start)}


def neuron(name):
    """The neuron of a case, as the table in the docstring of from_module has it."""
    kind, settings = CASES[name]
    settings = dict(settings)
    if kind != "Leaky" and settings["reset_mechanism"] == "zero" and settings["reset_delay"]:
        settings["reset_mechanism"] = "discard"
    alpha = settings.pop("alpha", None)
    node = snntorch.Leaky(**settings)
    if alpha is not None:
        node = nn.Sequential(nn.ExponentialSynapse(-1 / math.log(alpha)), node)
    if kind.startswith("R"):
        n = other_libraries.HIDDEN
        node = nn.LinearRecurrentContainer(node, n, n, feedback_only=True, rngs=nnx.Rngs(0))
    return node


def by_hand(name):
    """The network of a case without torch."""
    if other_libraries.is_alone(name):
        return nn.Sequential(neuron(name))
    sizes = other_libraries.INPUTS, other_libraries.HIDDEN, other_libraries.OUTPUTS
    first, second = (nn.Linear(a, b, rngs=nnx.Rngs(0)) for a, b in itertools.pairwise(sizes))
    return nn.Sequential(first, neuron(name), second, snntorch.Leaky(0.9))


def filled(net, arrays):
    """With the weights of the case, part by part; a plain stack takes snnTorch's state_dict."""
    if isinstance(net[min(1, len(net) - 1)], snntorch.Leaky):
        return spikingjelly.load(net, arrays)
    for part, start in ((net[0], "0."), (net[1], "1.recurrent."), (net[2], "2.")):
        layer = getattr(part, "rc", part)
        mine = {n.removeprefix(start): a for n, a in arrays.items() if n.startswith(start)}
        if mine:
            nnx.update(layer, nnx.state(spikingjelly.load(layer, mine)))
    return net


def check(nets):
    """Spikes and outputs of these networks are those of the file, to the last bit."""
    inputs = {name: GOLDEN.input(f"{name}/x", "float32") for name in nets}
    at = {name: "0" if other_libraries.is_alone(name) else "1" for name in nets}

    def run(nets, inputs):
        return {n: nn.unroll(net, inputs[n], record=at[n])[1:] for n, net in nets.items()}

    for name, (ys, extras) in quick.run_once(run, nets, inputs).items():
        golden_arrays.assert_equal(ys, GOLDEN.arrays[f"{name}/out"], name)
        golden_arrays.assert_equal(extras.records[at[name]], GOLDEN.arrays[f"{name}/spikes"], name)


def test_golden():
    """Each kind and each reset; all of them are compared where the library is installed."""
    some = [name for name in CASES if name.startswith("Leaky") or "subtract_delay" in name]
    some += ["RLeaky_zero_delay", "RLeaky_zero_at_once", "Synaptic_zero_delay"]
    nets = quick.empty(lambda: {name: by_hand(name) for name in some})
    check({name: filled(net, parameters(name)) for name, net in nets.items()})


# What NIR has, of what is in the file.
IN_NIR = [n for n in CASES if n.endswith(("subtract_delay", "_alone"))]
IN_NIR += [
    "Leaky_zero_delay",
    *(f"{kind}_zero_at_once" for kind in ("Leaky", "RLeaky", "Synaptic")),
]


def check_through_nir(nets, folder):
    """These networks, from a file of NIR: the spikes of snnTorch, to the last one."""
    backs, inputs = {}, {name: GOLDEN.input(f"{name}/x", "float32") for name in nets}
    for name, net in nets.items():
        graph = to_nir(net, inputs[name].shape[2:], soft_reset=True)
        nir.write(folder / f"{name}.nir", graph)
        backs[name] = from_nir(folder / f"{name}.nir")

    def run(nets, inputs):
        return {name: nn.unroll(net, inputs[name])[1] for name, net in nets.items()}

    for name, ys in quick.run_once(run, backs, inputs).items():
        golden_arrays.assert_equal(ys, GOLDEN.arrays[f"{name}/out"], name)
    return backs


def test_golden_through_nir(tmp_path):
    """Neurons of ours where there is one with the equation, else `Neuron`."""
    some = [name for name in IN_NIR if not name.startswith("RS")]
    nets = quick.empty(lambda: {name: by_hand(name) for name in some})
    nets = {name: filled(net, parameters(name)) for name, net in nets.items()}
    backs = check_through_nir(nets, tmp_path)
    kinds = {name: type(net[min(1, len(net) - 1)]).__name__ for name, net in backs.items()}
    assert kinds["Leaky_zero_delay"] == kinds["Leaky_zero_at_once"] == "LIFNode"
    assert kinds["Leaky_subtract_delay"] == kinds["Synaptic_subtract_delay"] == "Neuron"
    assert kinds["Synaptic_zero_at_once"] == "CUBALIFNode"
    np.testing.assert_allclose(backs["RLeaky_zero_at_once"][1].sub_module.tau, 5.0)


@pytest.mark.parametrize("name", ["Leaky_alone", "Leaky_zero_alone"])
def test_ties_matter(name):
    """Some inputs end exactly on the threshold, where snnTorch does not fire and LIFNode does."""
    xs = GOLDEN.input(f"{name}/x", "float32")
    reset = 0.0 if "zero" in name else None
    node = nn.LIFNode(2.0, decay_input=False, v_reset=reset)
    assert np.any(np.asarray(nn.unroll(node, xs)[1]) != GOLDEN.arrays[f"{name}/out"])


def test_leaky_zero_is_a_lif_node():
    """What the documentation says: the same neuron, but for ties."""
    name = "Leaky_zero_alone"
    above = float(np.nextafter(np.float32(1), np.float32(2)))
    node = nn.LIFNode(2.0, decay_input=False, v_reset=0.0, v_threshold=above)
    _, ys = nn.unroll(node, GOLDEN.input(f"{name}/x", "float32"))
    golden_arrays.assert_equal(ys, GOLDEN.arrays[f"{name}/out"])


@pytest.mark.parametrize("learned", [False, True])
def test_a_threshold_of_0(learned):
    """The next number above it counts as 0 where what is denormal does."""
    node = snntorch.Leaky(0.5, threshold=0.0, learn_threshold=learned)
    _, ys = nn.unroll(node, jnp.array([[0.0], [1e-30], [-1.0], [0.5]]))
    np.testing.assert_array_equal(ys[:, 0], [0, 1, 0, 0])


def test_gradients():
    """They reach what is learned; none flows through the reset, which snnTorch detaches."""
    node = snntorch.Leaky(
        *[0.5], learn_beta=True, learn_threshold=True, learn_graded_spikes_factor=True
    )

    def total(node, xs):
        v, ys = nn.unroll(node, xs)
        return jnp.sum(ys) + jnp.sum(v)

    grads, g_x = jax.grad(total, (0, 1))(node, jnp.array([[1.5], [0.25]]))
    assert all(np.all(getattr(grads, n)[...] != 0) for n in ("beta", "threshold"))
    assert grads.graded_spikes_factor[...] == 1.0  # one spike
    # By hand: h = 1.5, then 0.5 * 1.5 + 0.25 - 1 = 0; s' is 1 / (1 + (pi u)^2).
    slopes = [1 / (1 + (np.pi * u) ** 2) for u in (0.5, -1.0)]
    np.testing.assert_allclose(g_x[:, 0], [slopes[0] + 0.5 * (slopes[1] + 1), slopes[1] + 1], 1e-5)


def test_leaky_keeps_the_dtype_of_its_input():
    for dtype, state in ((jnp.bfloat16, jnp.float32), (jnp.float32, jnp.float32)):
        v, ys = nn.unroll(snntorch.Leaky([0.5, 0.25]), jnp.ones((3, 1, 2), dtype))
        assert (v.dtype, ys.dtype) == (state, dtype)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"beta": "x"}, TypeError, "beta must be a number"),
        ({"beta": math.nan}, ValueError, "beta must be finite"),
        ({"beta": [[0.5, 0.25]]}, ValueError, r"beta must be .* got shape \[1, 2\]"),
        ({"beta": 0.5, "reset_mechanism": "half"}, ValueError, "reset_mechanism must be one of"),
        ({"beta": 0.5, "reset_delay": 1}, TypeError, "reset_delay must be True or False"),
        ({"beta": 0.5, "learn_threshold": 1}, TypeError, "learn_threshold must be True or False"),
    ],
)
def test_arguments(settings, error, message):
    with pytest.raises(error, match=message):
        snntorch.Leaky(**settings)


def test_printed():
    """Many numbers in short."""
    assert repr(snntorch.Leaky(0.5, learn_threshold=True)).startswith(
        "Leaky(beta=0.5, threshold=learnable(1.0), graded_spikes_factor=1.0, reset_mechanism="
    )
    for learned in (False, True):
        many = repr(snntorch.Leaky(np.linspace(0, 0.5, 6), learn_beta=learned))
        assert "<[6] numbers from 0 to 0.5>" in many


def test_one_number_for_each_neuron():
    with pytest.raises(ValueError, match=r"beta of Leaky .* \[2\], which does not broadcast"):
        nn.unroll(snntorch.Leaky([0.5, 0.25]), jnp.ones((3, 1, 4)))


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match="pip install snntorch"):
        snntorch.from_module(None)


# Against the library itself.


@pytest.fixture
def library():
    pytest.importorskip("torch")
    return pytest.importorskip("snntorch")


def test_from_module(library, tmp_path):
    """The library gives what is in the file, and so do its networks as ours, through NIR too."""
    import torch

    nets = {}
    for name in CASES:
        network = other_libraries.make_snntorch(name)
        arrays = {n: torch.from_numpy(np.asarray(a)) for n, a in parameters(name).items()}
        network.load_state_dict(arrays)
        xs = torch.from_numpy(GOLDEN.arrays[f"{name}/x"])
        ys = other_libraries.run(network, xs)[-1]
        golden_arrays.assert_equal(ys, GOLDEN.arrays[f"{name}/out"], name)
        nets[name] = snntorch.from_module(network)
    check(nets)
    check_through_nir({name: nets[name] for name in IN_NIR}, tmp_path)


def test_what_is_learned(library):
    """Parameters stay parameters."""
    import torch

    torch.manual_seed(0)
    learned = {"learn_beta": True, "learn_threshold": True, "init_hidden": True}
    network = torch.nn.Sequential(
        library.Leaky(torch.tensor([0.5, 0.75]), learn_graded_spikes_factor=True, **learned),
        library.Synaptic(0.75, 0.5, learn_alpha=True, **learned),
    )
    net = snntorch.from_module(network)
    values = {".".join(map(str, p)): v for p, v in nnx.to_flat_state(nnx.state(net, nnx.Param))}
    assert {name: value[...].shape for name, value in values.items()} == {
        "layers.0.w_beta": (2,),
        "layers.0.w_threshold": (),
        "layers.0.w_graded_spikes_factor": (),
        "layers.1.layers.0.w": (),
        "layers.1.layers.1.w_beta": (),
        "layers.1.layers.1.w_threshold": (),
    }
    assert all(isinstance(value, nn.Constant) for value in values.values())
    xs = torch.rand(10, 2, 2)
    ys = other_libraries.run(network, xs)[-1].numpy()
    assert 0 < ys.mean() < 1
    np.testing.assert_array_equal(nn.unroll(net, jnp.asarray(xs))[1], ys)


def test_alphas(library):
    """A synapse has one time constant, or one for each feature or channel, learned or not."""
    import torch

    torch.manual_seed(0)
    alphas = torch.tensor([0.1, 0.5, 0.75, 0.9])
    network = torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3, padding=1),
        library.Synaptic(alphas.reshape(4, 1, 1), 0.5, init_hidden=True),
        torch.nn.Flatten(),
        torch.nn.Linear(64, 4),
        library.Synaptic(alphas.clone(), 0.5, learn_alpha=True, init_hidden=True),
    ).eval()
    with torch.no_grad():
        network[0].weight.mul_(4)
    net = snntorch.from_module(network)
    assert net[4][0].w.shape == (4,)
    np.testing.assert_allclose(np.exp(-1 / net[4][0].tau), alphas, rtol=1e-6)
    assert net[1][0].learned == {}
    xs = torch.rand(10, 3, 2, 4, 4)
    channels_last = jnp.asarray(np.moveaxis(xs.numpy(), 2, -1))
    net[4][0].w[...] += 0.25  # as after training: alpha below exp(-1), too
    snntorch.to_module(net, network)
    np.testing.assert_allclose(network[4].alpha.detach(), np.exp(-1 / net[4][0].tau), rtol=1e-6)
    np.testing.assert_allclose(network[1].alpha.ravel(), alphas, rtol=1e-6)
    ys = other_libraries.run(network, xs)[-1].numpy()
    assert 0.02 < ys.mean() < 0.98
    np.testing.assert_array_equal(quick.run_once(nn.unroll, net, channels_last)[1], ys)
    net[1][0].tau = jnp.full(4, 2.0)  # a setting that differs
    with pytest.raises(ValueError, match=r"1.0 is ExponentialSynapse\(tau=\[2.0, 2.0, 2.0, 2.0\]"):
        snntorch.to_module(net, network)
    first = library.Synaptic(alphas, 0.5, init_hidden=True)
    with pytest.raises(ValueError, match=r"0.alpha has one number .* 4 features, but its layer "):
        snntorch.from_module(first)


def changed(net):
    """Other parameters, as after training; constants that are arrays stay."""

    def scaled(leaf):
        return jax.tree.map(lambda a: a * 1.125, leaf) if isinstance(leaf, nnx.Variable) else leaf

    return jax.tree.map(scaled, net, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))


def test_and_back(library):
    import torch

    for name in CASES:
        network = other_libraries.make_snntorch(name)
        net = changed(snntorch.from_module(network))
        snntorch.to_module(net, network)
        xs = GOLDEN.arrays[f"{name}/x"]
        ys = other_libraries.run(network, torch.from_numpy(xs))[-1]
        np.testing.assert_array_equal(quick.run_once(nn.unroll, net, jnp.asarray(xs))[1], ys, name)
        again = nnx.state(snntorch.from_module(network))
        jax.tree.map(np.testing.assert_array_equal, again, nnx.state(net))


def test_what_is_learned_and_images_back(library):
    import torch

    torch.manual_seed(0)
    learned = {"learn_beta": True, "learn_threshold": True, "init_hidden": True}
    network = torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3, padding=1),
        torch.nn.BatchNorm2d(4),
        library.Leaky(torch.full((1, 4, 1, 1), 0.5), learn_graded_spikes_factor=True, **learned),
        torch.nn.Sequential(library.Synaptic(0.75, 0.5, learn_alpha=True, **learned)),
        torch.nn.Flatten(),
        torch.nn.Linear(64, 4),
        library.RSynaptic(0.5, 0.5, linear_features=4, learn_alpha=True, **learned),
    ).eval()
    with torch.no_grad():
        network[0].weight.mul_(4)
        network[2].beta.copy_(torch.linspace(0.1, 0.7, 4).reshape(1, 4, 1, 1))
    net = changed(snntorch.from_module(network))
    snntorch.to_module(net, network)
    assert network[3][0].alpha.item() == pytest.approx(math.exp(-1 / float(net[3][0][0].tau)))
    assert network[6].alpha.item() == pytest.approx(math.exp(-1 / float(net[6].sub_module[0].tau)))
    np.testing.assert_array_equal(network[2].beta.detach().ravel(), net[2].beta[...])
    np.testing.assert_array_equal(network[1].running_var, net[1].var[...])
    assert network[1].num_batches_tracked == 0
    xs = torch.rand(10, 3, 2, 4, 4)
    ys = other_libraries.run(network, xs)[-1].numpy()
    assert 0.02 < ys.mean() < 0.98
    channels_last = jnp.asarray(np.moveaxis(xs.numpy(), 2, -1))
    np.testing.assert_array_equal(quick.run_once(nn.unroll, net, channels_last)[1], ys)


def test_what_cannot_go_back(library):
    import torch

    network = torch.nn.Sequential(torch.nn.Linear(2, 3), library.Leaky(0.5))
    before = network.state_dict()["0.weight"].clone()
    linear = nn.Linear(2, 3, rngs=nnx.Rngs(0))
    for net, message in (
        (nn.Sequential(linear, snntorch.Leaky(0.25)), r"1 is Leaky\(beta=0.25, .*not .*beta=0.5"),
        (nn.Sequential(linear, nn.IFNode()), r"1 is IFNode\(.*\), not Leaky\("),
        (nn.Sequential(linear), r"1 is missing, not Leaky\("),
        (
            nn.Sequential(nn.Linear(2, 4, rngs=nnx.Rngs(0)), snntorch.Leaky(0.5)),
            r"0 is Linear\(.*out_features=4, .*, not Linear\(.*out_features=3,",
        ),
        (
            nn.Sequential(linear, snntorch.Leaky(0.5, learn_threshold=True)),
            r"1 is Leaky\(beta=0.5, grad.*not Leaky\(beta=0.5, threshold=1.0",
        ),
        (3, r"the whole is int, not Sequential\(\)\. "),
        (models.Classifier(linear), r"the whole is Classifier\(.*\), not Sequential\(\)\. "),
        (
            models.Classifier(nn.Sequential(linear, snntorch.Leaky(0.5))),
            r"the whole is Classifier\(.*Classifier its stack",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            snntorch.to_module(net, network)
    for number in (jnp.nan, jnp.inf):
        net = snntorch.from_module(network)
        net[0].bias[...] = net[0].bias[...].at[1].set(number)
        with pytest.raises(ValueError, match=r"nothing was written: 0\.bias of net holds NaN"):
            snntorch.to_module(changed(net), network)
    assert torch.equal(network[0].weight, before)
    for convert in (snntorch.from_module, lambda net: snntorch.to_module(net, net)):
        with pytest.raises(TypeError, match=r"module must be a torch\.nn\.Module, got Sequential"):
            convert(nn.Sequential(linear))


def test_a_layer_in_two_places(library):
    """Is one here too: it is trained as one, and goes back; two that differ do not."""
    import torch

    torch.manual_seed(0)
    linear = torch.nn.Linear(4, 4)
    stack = torch.nn.Sequential(linear, torch.nn.Linear(4, 4))
    network = torch.nn.Sequential(linear, library.Leaky(0.5, init_hidden=True), stack, stack)
    network.append(library.Leaky(0.5, threshold=0.1, init_hidden=True))
    net = snntorch.from_module(network)
    assert net[0] is net[2][0]
    assert net[2] is net[3]
    graphdef, parameters = nnx.split(net)
    assert len(jax.tree.leaves(parameters)) == 4
    net = nnx.merge(graphdef, changed(parameters))
    snntorch.to_module(net, network)
    xs = torch.rand(10, 3, 4)
    ys = other_libraries.run(network, xs)[-1].numpy()
    assert 0.05 < ys.mean() < 0.95
    back = from_nir(to_nir(net, (4,), soft_reset=True))
    for one in (net, back):
        np.testing.assert_array_equal(quick.run_once(nn.unroll, one, jnp.asarray(xs))[1], ys)

    snntorch.to_module(changed(net), network)  # jax.tree.map made more of one, but all are equal
    before = linear.weight.detach().clone()
    apart = changed(net)
    apart[2][0].kernel[...] *= 2
    with pytest.raises(ValueError, match=r"nothing .*: 2\.0\.weight of net differs from 0\.weight"):
        snntorch.to_module(apart, network)
    tied = torch.nn.Sequential(linear, torch.nn.Linear(4, 4))
    tied[1].weight = linear.weight
    net = snntorch.from_module(tied)
    snntorch.to_module(net, tied)
    net[1].kernel[...] *= 2
    with pytest.raises(ValueError, match=r"1\.weight of net differs from 0\.weight, .* one tensor"):
        snntorch.to_module(net, tied)
    assert torch.equal(linear.weight, before)


def test_a_neuron_in_two_places(library):
    """It would have one potential for both."""
    import torch

    leaky = library.Leaky(0.5, init_hidden=True)
    network = torch.nn.Sequential(leaky, torch.nn.Sequential(torch.nn.Linear(2, 2), leaky))
    with pytest.raises(ValueError, match=r"1\.1, Leaky, .* for 0 and 1\.1; make two neurons"):
        snntorch.from_module(network)


def test_what_runs_beside_forward(library):
    """Weights that are calculated, and hooks; as soon as they are removed all is well."""
    import torch
    from torch.nn import utils
    from torch.nn.utils import parametrizations, parametrize, prune

    def check(part, message, remove):
        network = torch.nn.Sequential(torch.nn.Identity(), part, library.Leaky(0.5))
        for convert in (snntorch.from_module, lambda m: snntorch.to_module(nn.Sequential(), m)):
            with pytest.raises(ValueError, match=message):
                convert(network)
        remove(part)
        assert len(snntorch.from_module(network)) == 3

    def linear():
        return torch.nn.Linear(2, 2)

    check(
        prune.l1_unstructured(linear(), "weight", 0.5),
        r"^1, Linear, has hooks, L1Unstructured, .* prune\.remove\(layer, 'weight'\)",
        lambda part: prune.remove(part, "weight"),
    )
    check(
        utils.spectral_norm(linear()),
        r"^1, Linear, has hooks, SpectralNorm, .* remove_spectral_norm\(layer\)",
        utils.remove_spectral_norm,
    )
    check(
        parametrizations.weight_norm(linear()),
        r"^1, ParametrizedLinear, .*remove_parametrizations\(layer, 'weight'\)",
        lambda part: parametrize.remove_parametrizations(part, "weight"),
    )
    part = library.RLeaky(0.5, linear_features=2)
    handle = part.recurrent.register_forward_hook(lambda *_: None)
    message = r"^1\.recurrent, Linear, has hooks, <lambda>, .* handle\.remove\(\)"
    check(part, message, lambda _: handle.remove())
    part = linear()
    handle = part.register_forward_pre_hook(lambda *_: None)
    check(part, r"^1, Linear, has hooks, <lambda>, ", lambda _: handle.remove())


def test_numbers_for_each_neuron(library):
    """Torch puts `[n]` along the last axis: of images the width, of which there are as many."""
    import torch

    torch.manual_seed(2)
    betas, thresholds = torch.linspace(0.1, 0.9, 4), torch.linspace(0.1, 1.5, 4)
    of_channels = {"beta": betas[:, None, None], "threshold": thresholds[None, :, None, None]}
    kept = {"init_hidden": True}
    network = torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3, padding=1),
        library.Leaky(**of_channels, **kept),
        torch.nn.AvgPool2d(1),
        library.Synaptic(0.5, **of_channels, learn_beta=True, **kept),
        library.Leaky(torch.full((4, 4, 4), 0.5), **kept),
        torch.nn.Flatten(),
        torch.nn.Linear(64, 4),
        library.Leaky(betas, threshold=thresholds, learn_threshold=True, **kept),
        library.RLeaky(betas, threshold=0.5, linear_features=4, **kept),
        library.RSynaptic(0.5, betas[None], threshold=0.5, linear_features=4, **kept),
    )
    with torch.no_grad():
        network[6].weight *= 3
    xs = 3 * torch.rand(20, 3, 2, 4, 4)
    *_, ys = other_libraries.run(network, xs)
    ys = ys.numpy()
    assert 0.05 < ys.mean() < 0.95
    net = snntorch.from_module(network)
    channels_last = jnp.asarray(np.moveaxis(xs.numpy(), 2, -1))
    np.testing.assert_array_equal(quick.run_once(nn.unroll, net, channels_last)[1], ys)

    conv, pool = torch.nn.Conv2d(2, 4, 3, padding=1), torch.nn.MaxPool2d(1)
    width = r"1(\.1)?\.(beta|threshold): expected shape \(4, 1, 1\), found \(4,\) .* its width"
    for layers, message in (
        ((conv, library.Leaky(betas)), width),
        ((conv, library.Leaky(betas, learn_beta=True)), width),
        ((conv, library.Leaky(0.5, threshold=thresholds)), width),
        ((conv, library.Synaptic(0.5, betas)), width),
        ((pool, library.Leaky(betas)), width),
        (
            (conv, library.Leaky(torch.rand(4, 4))),
            r"^1, Leaky, cannot .*: beta .* got shape \[4, 4\]",
        ),
        (
            (conv, library.Leaky(torch.tensor([0.1, np.nan]))),
            "^1, Leaky, cannot be converted: beta must be finite",
        ),
        ((torch.nn.Linear(2, 4), library.Leaky(betas[:, None])), r"1\.beta: .* for each feature"),
    ):
        with pytest.raises(ValueError, match=message):
            snntorch.from_module(torch.nn.Sequential(*layers))
    alone = snntorch.from_module(library.Leaky(betas))
    with pytest.raises(ValueError, match="beta has one number for each of 4 features, as it came"):
        nn.unroll(alone, jnp.ones((2, 3, 4, 4, 4)))


def test_images(library):
    """Convolution, batch normalisation, pooling; the layer behind a Flatten is sorted."""
    import torch

    torch.manual_seed(1)
    leaky = {"beta": 0.9, "init_hidden": True}
    network = torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2, bias=False),
        torch.nn.BatchNorm2d(4),
        library.Leaky(**leaky),
        torch.nn.AvgPool2d(2),
        torch.nn.Conv2d(4, 3, (1, 3), padding="same"),
        torch.nn.Sequential(torch.nn.Identity(), torch.nn.MaxPool2d(2, 1)),
        torch.nn.Dropout2d(0.5),
        torch.nn.Flatten(),
        torch.nn.Linear(3, 5),
        library.Leaky(threshold=0.25, **leaky),
    ).eval()
    network[1].running_mean.uniform_(-0.1, 0.1)
    xs = torch.rand(10, 3, 2, 8, 8) * 3
    network[8] = torch.nn.Linear(3, 5)
    ys = other_libraries.run(network, xs)[-1].numpy()
    assert 0.02 < ys.mean() < 0.98
    net = snntorch.from_module(network)
    channels_last = jnp.asarray(np.moveaxis(xs.numpy(), 2, -1))
    np.testing.assert_array_equal(quick.run_once(nn.unroll, net, channels_last)[1], ys)


def test_images_to_nir(library):
    """With batch normalisation, which is folded."""
    import torch

    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3, stride=2, padding=1, bias=False),
        torch.nn.BatchNorm2d(4),
        library.Leaky(0.9, reset_mechanism="zero", init_hidden=True),
        torch.nn.AvgPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(16, 5),
        torch.nn.BatchNorm1d(5),
        library.Leaky(0.8, threshold=0.5, init_hidden=True),
    ).eval()
    for norm in (network[1], network[6]):
        norm.running_mean.uniform_(-0.1, 0.1)
        norm.running_var.uniform_(0.1, 0.5)
    xs = torch.rand(20, 3, 2, 8, 8)
    ys = other_libraries.run(network, xs)[-1].numpy()
    assert 0.05 < ys.mean() < 0.95
    net = nn.fold_batch_norm(snntorch.from_module(network))
    back = from_nir(to_nir(net, (8, 8, 2), soft_reset=True))
    channels_last = jnp.asarray(np.moveaxis(xs.numpy(), 2, -1))
    np.testing.assert_array_equal(quick.run_once(nn.unroll, back, channels_last)[1], ys)


def test_batch_normalisation_in_training(library):
    """The share of a batch in the running statistics is torch's `momentum`, one minus ours."""
    import torch

    norm = torch.nn.BatchNorm1d(3, momentum=0.3, eps=0.1)
    net = snntorch.from_module(torch.nn.Sequential(norm, torch.nn.Identity()))
    assert (net[0].momentum, net[0].epsilon) == (0.7, 0.1)
    xs = quick.uniform((4, 5, 3), -1, 3)
    _, ours, extras = nn.unroll(net, xs, key=jax.random.key(0))
    ys = norm(torch.from_numpy(np.array(xs).reshape(20, 3))).detach().numpy()
    np.testing.assert_allclose(ours, ys.reshape(4, 5, 3), rtol=1e-4, atol=1e-6)
    running = extras.module[0]
    np.testing.assert_allclose(running.mean[...], norm.running_mean, rtol=1e-5)
    np.testing.assert_allclose(running.var[...], norm.running_var, rtol=1e-5)


@pytest.mark.parametrize("axes", [1, 3])
def test_other_numbers_of_axes(library, axes):
    import torch

    def kind(name):
        return getattr(torch.nn, f"{name}{axes}d")

    torch.manual_seed(0)
    network = torch.nn.Sequential(
        kind("Conv")(2, 3, 2, padding=1),
        kind("MaxPool")(2, stride=1, padding=1),
        kind("BatchNorm")(3),
        torch.nn.GroupNorm(3, 3),
        torch.nn.GroupNorm(1, 3, eps=0.1, affine=False),
        kind("AvgPool")(2, padding=1),
        torch.nn.Flatten(),
        torch.nn.Linear(3 * 4**axes, 4),
    ).eval()
    with torch.no_grad():
        network[3].weight.uniform_(0.5, 2)
        network[3].bias.uniform_(-1, 1)
    xs = torch.rand(2, 3, 2, *(4,) * axes)
    ys = other_libraries.run(network, xs)[-1].numpy()
    net = snntorch.from_module(network)
    channels_last = jnp.asarray(np.moveaxis(xs.numpy(), 2, -1))
    golden_arrays.assert_close(quick.run_once(nn.unroll, net, channels_last)[1], ys, "float32")


def test_what_is_refused_by_name(library):
    import torch

    class Net(torch.nn.Module):
        pass

    def stack(layer):
        return torch.nn.Sequential(torch.nn.Identity(), layer)

    torch_nn = torch.nn
    for layer, message in (
        (library.Leaky(0.5, state_quant=lambda m: m), "1, Leaky, .* state_quant must be False"),
        (library.RLeaky(0.5, all_to_all=False), "1, RLeaky, .* must have all_to_all=True"),
        (
            library.RLeaky(0.5, conv2d_channels=2, kernel_size=3),
            "1, RLeaky, .* must have all_to_all",
        ),
        (
            library.RSynaptic(0.5, 0.5, linear_features=2, reset_delay=False),
            r"1, RSynaptic, cannot be converted: reset_delay must be True, got False",
        ),
        (library.Synaptic(1.0, 0.5), r"1, Synaptic, .* alpha must be between 0 and 1, got 1.0"),
        (
            library.Synaptic(torch.tensor([0.0, 0.5]), 0.5),
            r"1, Synaptic, .* alpha must be between 0 and 1, got \[0.0, 0.5\]",
        ),
        (
            library.Synaptic(torch.full((2, 2), 0.5), 0.5, learn_alpha=True),
            r"1, Synaptic, .* alpha must be one number, .* \[2, 2\]",
        ),
        (library.Alpha(0.9, 0.8), "1, Alpha, .* are Leaky, RLeaky, Synaptic"),
        (library.Lapicque(0.9), r"1, Lapicque, .* Leaky\(beta=1 - time_step / "),
        (Net(), r"1, Net, .* forward\(\) of a class .*Pass its layers"),
        (torch_nn.ReLU(), r"1, ReLU, .* GroupNorm, .*jax\.nn\.relu"),
        (torch_nn.Flatten(2), "1, Flatten, cannot be converted: start_dim must be 1, got 2"),
        (torch_nn.Flatten(1, 2), "1, Flatten, .* end_dim must be -1, got 2"),
        (
            torch_nn.Conv2d(1, 1, 3, padding_mode="circular"),
            "padding_mode must be 'zeros', got 'circular'",
        ),
        (torch_nn.BatchNorm1d(2, affine=False), "1, BatchNorm1d, .* affine must be True"),
        (torch_nn.BatchNorm1d(2, momentum=None), "1, BatchNorm1d, .* momentum must be a number"),
        (torch_nn.MaxPool2d(2, ceil_mode=True), "1, MaxPool2d, .* ceil_mode must be False"),
        (torch_nn.MaxPool2d(2, dilation=2), "1, MaxPool2d, .* dilation must be 1 .* got 2"),
        (
            torch_nn.AvgPool2d(2, divisor_override=3),
            "1, AvgPool2d, .* divisor_override must be None",
        ),
        (
            torch_nn.AvgPool2d(2, padding=1, count_include_pad=False),
            "count_include_pad must be True, got False",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            snntorch.from_module(stack(layer))
    with pytest.warns(UserWarning, match="Inhibition"):
        inhibited = library.Leaky(0.5, inhibition=True)
    with pytest.raises(ValueError, match=r"the module, Leaky, .* inhibition must be False"):
        snntorch.from_module(inhibited)
