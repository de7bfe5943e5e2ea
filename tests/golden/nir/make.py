"""Writes the .nir files and spikes in this folder, by the libraries themselves.

Needs SpikingJelly 2.0.0, snnTorch 1.0.0, Norse 1.1.0, spyx 1.0.0, nir 1.0.8 and nirtorch 2.6.
Each network is run by its own library on `<name>/x` and put out `<name>/y` in spikes.npz.
"""

import pathlib
import warnings

import jax.numpy as jnp
import nir
import norse.torch
import numpy as np
import snntorch
import snntorch.utils
import spyx.nir
import spyx.nn
import torch
from flax import nnx
from snntorch.export_nir import export_to_nir as snntorch_to_nir
from spikingjelly.activation_based import functional, layer, neuron
from spikingjelly.activation_based.nir_exchange import export_to_nir as spikingjelly_to_nir
from torch.nn import AvgPool2d, Conv2d, Flatten, Linear, Module, Sequential

T, N = 20, 3
rng = np.random.default_rng(0)


def inputs(shape):
    return rng.uniform(-1, 3, (T, N, *shape)).astype(np.float32)


def strong(network, factor=2.0):
    """Weights large enough for spikes to reach the output."""
    for parameter in network.parameters():
        if parameter.ndim > 1:
            parameter.data.mul_(factor)
    return network


class Residual(Module):
    """Two layers, the first of which is also added to the input of the second neuron."""

    def __init__(self):
        super().__init__()
        self.first, self.fires = layer.Linear(4, 4), neuron.IFNode()
        self.second, self.adds = layer.Linear(4, 4), neuron.LIFNode(tau=1.7)

    def forward(self, x):
        x = self.fires(self.first(x))
        return self.adds(self.second(x) + x)


def spikingjelly():
    dense = [
        *(layer.Linear(4, 6), neuron.IFNode(v_threshold=0.8)),
        *(layer.Linear(6, 6, bias=False), neuron.LIFNode(tau=1.9, v_threshold=0.3, v_reset=-0.1)),
        *(layer.Linear(6, 6), neuron.LIFNode(tau=3.0, decay_input=False)),
        *(layer.Linear(6, 6), neuron.ParametricLIFNode(1.5, v_threshold=0.2)),
        *(layer.Linear(6, 3), neuron.CUBALIFNode(c_decay=0.3)),
    ]
    conv = [
        *(layer.Conv2d(2, 4, 3, padding=1), neuron.LIFNode(tau=1.5, v_threshold=0.5)),
        *(layer.AvgPool2d(2), layer.Flatten(), layer.Linear(36, 3), neuron.IFNode()),
    ]
    conv1d = [
        layer.Conv1d(2, 4, 3, stride=2),
        neuron.IFNode(),
        layer.Flatten(),
        layer.Linear(12, 3),
    ]
    networks = {
        "dense": (Sequential(*dense), (4,)),
        "conv": (Sequential(*conv), (2, 6, 6)),
        "conv1d": (Sequential(*conv1d, neuron.IFNode()), (2, 8)),
        "residual": (Residual(), (4,)),
    }
    for name, (network, shape) in networks.items():
        x = inputs(shape)
        graph = spikingjelly_to_nir(strong(network), torch.ones(1, *shape))
        functional.reset_net(network)
        yield f"spikingjelly_{name}", graph, x, [network(torch.tensor(step)) for step in x]


def neurons(kind, shape, **settings):
    """A layer of snnTorch: shapes are inferred from parameters, so each neuron needs its own."""
    settings = {"beta": 0.8, "threshold": 1.0} | settings
    for name in ("alpha", "beta", "threshold"):
        if name in settings:
            settings[name] = torch.full(shape, settings[name])
    return kind(init_hidden=True, **settings)


def snntorch_networks():
    zero = {"reset_mechanism": "zero", "reset_delay": False}
    for name, how in (("zero", zero), ("default", {})):
        one, ring = {"all_to_all": True, "linear_features": 6}, {"all_to_all": False}
        ring["V"] = torch.linspace(-0.5, 0.5, 6)
        dense = [
            *(Linear(4, 6), neurons(snntorch.Leaky, (6,), **how)),
            *(Linear(6, 6), neurons(snntorch.RLeaky, (6,), beta=0.7, **one, **how)),
            *(Linear(6, 6), neurons(snntorch.RLeaky, (6,), beta=0.6, **ring, **how)),
            *(Linear(6, 3), neurons(snntorch.Synaptic, (3,), alpha=0.5, beta=0.7, **how)),
        ]
        yield name, Sequential(*dense), (4,)
    conv = [Conv2d(2, 4, 3, padding=1), neurons(snntorch.Leaky, (4, 6, 6), **zero), AvgPool2d(2)]
    conv += [Flatten(), Linear(36, 3), neurons(snntorch.Leaky, (3,), **zero)]
    yield "conv", Sequential(*conv), (2, 6, 6)


def snn_torch():
    for name, network, shape in snntorch_networks():
        x = inputs(shape)
        graph = snntorch_to_nir(strong(network), torch.ones(1, *shape), ignore_dims=[0])
        snntorch.utils.reset(network)
        yield f"snntorch_{name}", graph, x, [network(torch.tensor(step)) for step in x]


def snn_torch_soft():
    """Inputs so weak that no potential is above the threshold after a reset."""
    how = {"reset_mechanism": "subtract", "reset_delay": False}
    layers = [Linear(4, 8), neurons(snntorch.Leaky, (8,), **how), Linear(8, 6)]
    network = Sequential(*layers, neurons(snntorch.Synaptic, (6,), alpha=0.3, beta=0.5, **how))
    x = inputs((4,)) / 2
    graph = snntorch_to_nir(network, torch.ones(1, 4), ignore_dims=[0])
    yield "snntorch_soft", graph, x, [network(torch.tensor(step)) for step in x]


def norse_networks():
    box = norse.torch.LIFBoxParameters(tau_mem_inv=torch.tensor(300.0))
    small = norse.torch.LIFBoxParameters(tau_mem_inv=torch.tensor(200.0), v_th=torch.tensor(0.3))
    li, lif, iaf = norse.torch.LIBoxCell, norse.torch.LIFBoxCell, norse.torch.IAFCell
    yield "box", [Linear(4, 6), lif(box), Linear(6, 6), lif(small), Linear(6, 3), li()], 1.0
    yield "default", [Linear(4, 6), lif(small), Linear(6, 9), lif(small)], 0.001
    yield "iaf", [Linear(4, 6), iaf(), Linear(6, 3), iaf()], 1.0
    yield "current", [Linear(4, 6), norse.torch.LIFCell(), Linear(6, 3), li()], 1.0


def norse_torch():
    for name, layers, dt in norse_networks():
        network, x, state, ys = (
            strong(norse.torch.SequentialState(*layers), 4.0),
            inputs((4,)),
            None,
            [],
        )
        graph = norse.torch.to_nir(network, torch.ones(4), dt=dt)
        for step in x:
            y, state = network(torch.tensor(step), state)
            ys.append(y)
        yield f"norse_{name}", graph, x, ys


def spyx_networks():
    rngs = nnx.Rngs(0)
    linear = [nnx.Linear(*sizes, rngs=rngs) for sizes in ((4, 6), (6, 6), (6, 3), (4, 3))]
    for kernel in linear:
        kernel.kernel[...] *= 1.5
    conv = [nnx.Conv(2, 3, (3, 3), rngs=rngs), spyx.nn.IF((6, 6, 3))]
    conv += [spyx.nn.SumPool((3, 3), (3, 3), "VALID", channel_axis=-1)]
    # Down to one pixel: spyx does not sort the weights behind a Flatten, as NIR would have it.
    conv += [nnx.Conv(3, 4, (2, 2), padding="VALID", rngs=rngs), spyx.nn.IF((1, 1, 4))]
    conv += [spyx.nn.Flatten()]
    yield "if", [linear[0], spyx.nn.IF((6,)), linear[2], spyx.nn.IF((3,))], (4,)
    yield "conv", [*conv, linear[3], spyx.nn.IF((3,))], (6, 6, 2)
    lif = [spyx.nn.LIF((6,), rngs=rngs), spyx.nn.RLIF((6,), rngs=rngs)]
    yield "lif", [linear[0], lif[0], linear[1], lif[1], linear[2], spyx.nn.IF((3,))], (4,)
    cuba = [spyx.nn.CuBaLIF((n,), alpha=0.5, beta=0.7, rngs=rngs) for n in (6, 3)]
    yield "cuba", [linear[0], cuba[0], linear[2], cuba[1]], (4,)
    yield "psu", [linear[0], spyx.nn.PSU_LIF((6,), beta=0.7, rngs=rngs), linear[2]], (4,)


def spyx_():
    for name, layers, shape in spyx_networks():
        network, x = spyx.nn.Sequential(*layers), inputs(shape)
        ys, _ = spyx.nn.run(network, jnp.asarray(x))
        first = np.array((*shape[-1:], *shape[:-1]))
        graph = spyx.nir.to_nir(network, {"input": first}, {"output": np.array([3])})
        yield f"spyx_{name}", graph, np.moveaxis(x, -1, 2) if x.ndim > 3 else x, list(ys)


def main(folder):
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    arrays = {}
    for library in (spikingjelly, snn_torch, norse_torch, spyx_, snn_torch_soft):
        for name, graph, x, ys in library():
            nir.write(folder / f"{name}.nir", graph, compression=None)
            arrays[f"{name}/x"] = x
            arrays[f"{name}/y"] = np.stack([torch_or_jax(y) for y in ys])
            print(name, f"{np.mean(arrays[f'{name}/y']):.3f}")
    np.savez_compressed(folder / "spikes.npz", **arrays)


def torch_or_jax(y):
    return y.detach().numpy() if isinstance(y, torch.Tensor) else np.asarray(y)


if __name__ == "__main__":
    main(pathlib.Path(__file__).parent)
