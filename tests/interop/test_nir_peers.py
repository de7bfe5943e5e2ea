"""The other libraries themselves, where they are installed: they write for us, and read ours."""

import contextlib
import importlib.util
import io
import operator
import pathlib
import warnings

import jax
import jax.numpy as jnp
import nir
import numpy as np
import pytest
import quick
from flax import nnx
from nir_files import assert_outputs_of_files

from jaxsnn import nn
from jaxsnn.interop import spikingjelly
from jaxsnn.interop.nir import from_nir, to_nir
from jaxsnn.interop.snntorch import Leaky

LIBRARIES = ["spikingjelly", "snntorch", "norse", "spyx"]
SCRIPT = pathlib.Path(__file__).parent.parent / "golden" / "nir" / "make.py"
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module", autouse=True)
def libraries():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("torch", "nirtorch", *LIBRARIES):
            pytest.importorskip(name)


def test_files_made_now(tmp_path):
    """The script of the committed files, run anew: again the same outputs."""
    spec = importlib.util.spec_from_file_location("make", SCRIPT)
    make = importlib.util.module_from_spec(spec)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        spec.loader.exec_module(make)
        make.main(tmp_path)
    for library in LIBRARIES:
        assert_outputs_of_files(tmp_path, library)


def by_spikingjelly(graph, xs):
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    return with_state(import_from_nir(graph), xs)


def by_norse(graph, xs):
    from norse.torch import from_nir

    return with_state(from_nir(graph, dt=1e-4, ignore_warnings=True), xs)


def by_snntorch(graph, xs):
    from snntorch.import_nir import import_from_nir

    return with_state(import_from_nir(graph), xs)


def by_spyx(graph, xs):
    from spyx.nir import from_nir

    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return np.asarray(from_nir(graph, jnp.asarray(xs), dt=1e-4)[1])


def with_state(module, xs):
    import torch

    ys, state = [], None
    for x in xs:
        y, state = module(torch.tensor(x), state)
        ys.append(y.detach().numpy())
    return np.stack(ys)


def linear(inputs, outputs, seed):
    layer = nn.Linear(inputs, outputs, rngs=nnx.Rngs(seed))
    layer.kernel[...] *= 3
    return layer


def dense(*neurons):
    sizes = [4, *[6] * (len(neurons) - 1), 3]
    layers = []
    for k, neuron in enumerate(neurons):
        layers += [linear(sizes[k], sizes[k + 1], k), neuron]
    return nn.Sequential(*layers)


def without_biases(net):
    """Biases of 0: spyx fires a step later, so that the next layer has its bias for one more."""
    for layer in net.layers:
        if isinstance(layer, nn.Linear):
            layer.bias[...] *= 0
    return net


def ring(neuron, **settings):
    return nn.LinearRecurrentContainer(neuron, 6, 6, rngs=nnx.Rngs(9), **settings)


def undecayed(tau, threshold=1.0):
    return nn.LIFNode(tau, decay_input=False, v_threshold=threshold)


def residual():
    layers = {"a": linear(4, 4, 0), "b": nn.IFNode(), "c": linear(4, 4, 1), "d": nn.IFNode()}
    edges = [("input", "a"), ("a", "b"), ("b", "c"), ("c", "d"), ("b", "d"), ("d", "output")]
    return nn.Graph(layers, edges)


def behind_synapse(neuron):
    return nn.Sequential(nn.ExponentialSynapse(2.0), neuron)


def of_snntorch():
    last = Leaky(0.5, reset_mechanism="zero", reset_delay=False)
    return dense(Leaky(0.9, reset_mechanism="zero"), behind_synapse(last))


def images():
    return nn.Sequential(
        *(nn.Conv(2, 3, (3, 3), padding=1, rngs=nnx.Rngs(0)), nn.LIFNode(1.5, v_threshold=0.3)),
        *(nn.AvgPool((2, 2)), nn.Flatten(), linear(27, 3, 1), nn.IFNode(v_threshold=0.5)),
    )


# By whom, how many steps later, what.
OURS = {
    "SpikingJelly, neurons": (
        by_spikingjelly,
        0,
        lambda: dense(nn.IFNode(), nn.LIFNode(1.5, v_reset=-0.1), undecayed(3.0), nn.CUBALIFNode()),
    ),
    "SpikingJelly, learned": (by_spikingjelly, 0, lambda: dense(nn.ParametricLIFNode(1.5))),
    "SpikingJelly, recurrent": (
        by_spikingjelly,
        0,
        lambda: dense(
            ring(nn.IFNode()),
            ring(undecayed(2.5, 0.4), feedback_only=True, bias=False),
            nn.ElementWiseRecurrentContainer(undecayed(2.0, 0.5), operator.add),
            nn.IFNode(v_threshold=0.5),
        ),
    ),
    "SpikingJelly, residual": (by_spikingjelly, 0, residual),
    "SpikingJelly, images": (by_spikingjelly, 0, images),
    "Norse": (by_norse, 0, lambda: dense(nn.LIFNode(1.5, v_threshold=0.3), nn.CUBALIFNode())),
    "snnTorch": (by_snntorch, 0, lambda: dense(undecayed(2.0), nn.CUBALIFNode())),
    "Norse, synapses": (
        by_norse,
        0,
        lambda: dense(behind_synapse(nn.LIFNode(1.5)), behind_synapse(undecayed(2.0))),
    ),
    "snnTorch, its own": (by_snntorch, 0, of_snntorch),
    "SpikingJelly, snnTorch's": (by_spikingjelly, 0, of_snntorch),
    "spyx": (
        by_spyx,
        2,
        lambda: without_biases(dense(nn.IFNode(v_reset=None), nn.IFNode(v_reset=None))),
    ),
}


@pytest.mark.parametrize("case", OURS)
def test_ours_read_by_others(case, tmp_path):
    read, delay, build = OURS[case]
    net, shape = build(), (6, 6, 2) if case.endswith("images") else (4,)
    nir.write(tmp_path / "net.nir", to_nir(net, shape, soft_reset=True))
    xs = np.array(quick.uniform((20, 3, *shape), -1, 3, seed=1))
    _, expected = quick.run_once(nn.unroll, net, jnp.asarray(xs))
    with contextlib.redirect_stdout(io.StringIO()):
        ys = read(nir.read(tmp_path / "net.nir"), np.moveaxis(xs, -1, 2))
    assert 0.02 < expected.mean() < 0.98
    np.testing.assert_array_equal(ys[delay:], expected[: len(expected) - delay])


def from_spikingjelly():
    """Pairs of a network of SpikingJelly and one of ours, and the shape of a step there."""
    import torch
    from spikingjelly.activation_based import layer, neuron

    rngs = nnx.Rngs(0)
    yield (
        torch.nn.Sequential(
            *(layer.Conv2d(2, 4, 3, padding=1, bias=False), neuron.LIFNode(), layer.AvgPool2d(2)),
            layer.Conv2d(4, 4, 3, groups=2),
            neuron.LIFNode(tau=3.0, decay_input=False, v_reset=None),
            *(
                layer.Flatten(),
                layer.Linear(16, 10),
                neuron.ParametricLIFNode(v_threshold=0.3, v_reset=None),
            ),
        ),
        nn.Sequential(
            nn.Conv(2, 4, (3, 3), padding=1, use_bias=False, rngs=rngs),
            *(nn.LIFNode(), nn.AvgPool((2, 2))),
            nn.Conv(4, 4, (3, 3), padding="VALID", feature_group_count=2, rngs=rngs),
            nn.LIFNode(tau=3.0, decay_input=False, v_reset=None),
            *(
                nn.Flatten(),
                nn.Linear(16, 10, rngs=rngs),
                nn.ParametricLIFNode(v_threshold=0.3, v_reset=None),
            ),
        ),
        (2, 8, 8),
    )
    yield (
        torch.nn.Sequential(
            layer.LinearRecurrentContainer(
                torch.nn.Sequential(layer.Linear(12, 9), neuron.LIFNode(tau=1.5)), 12, 9
            ),
            layer.ElementWiseRecurrentContainer(
                neuron.LIFNode(v_threshold=0.4, v_reset=-0.1), operator.add
            ),
            *(layer.Linear(9, 9), layer.LinearRecurrentContainer(neuron.LIFNode(), 9, 9)),
        ),
        nn.Sequential(
            nn.LinearRecurrentContainer(
                nn.Sequential(nn.Linear(12, 9, rngs=rngs), nn.LIFNode(tau=1.5)), 12, 9, rngs=rngs
            ),
            nn.ElementWiseRecurrentContainer(
                nn.LIFNode(v_threshold=0.4, v_reset=-0.1), operator.add
            ),
            nn.Linear(9, 9, rngs=rngs),
            nn.LinearRecurrentContainer(nn.LIFNode(), 9, 9, rngs=rngs),
        ),
        (12,),
    )


@pytest.mark.parametrize("k", range(2))
def test_spikingjelly_and_back(k, tmp_path):
    """Its weights, to NIR and back: at every neuron the spikes that it gives now, and many."""
    import torch
    from spikingjelly.activation_based import functional

    torch.manual_seed(0)
    theirs, ours, shape = list(from_spikingjelly())[k]
    functional.set_step_mode(theirs, "m")
    with torch.no_grad():
        for parameter in theirs.parameters():
            if parameter.ndim > 1:
                parameter *= 3
                parameter += 0.05
        xs, spikes = 4 * torch.rand(25, 3, *shape), {}
        ys = xs
        for name, layer in theirs.named_children():
            ys = layer(ys)
            spikes[name] = ys.numpy()
    net = spikingjelly.load(ours, theirs.state_dict())
    shape = (*shape[1:], *shape[:1])
    nir.write(tmp_path / "net.nir", to_nir(net, shape, soft_reset=True))
    back = from_nir(tmp_path / "net.nir")
    assert repr(back) == repr(net)
    cells = [str(k) for k, cell in enumerate(back.layers) if isinstance(cell, nn.Cell)]

    def run(net, xs):
        return nn.unroll(net, xs, record=cells)[2].records

    records = quick.run_once(run, back, jnp.asarray(np.moveaxis(xs.numpy(), 2, -1)))
    for name in cells:
        assert 0.05 < spikes[name].mean() < 0.95, (name, spikes[name].mean())
        np.testing.assert_array_equal(np.moveaxis(records[name], -1, 2), spikes[name])
