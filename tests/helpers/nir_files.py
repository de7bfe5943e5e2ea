"""The files in tests/golden/nir: how each is to be read, and the comparison with its spikes."""

import jax.numpy as jnp
import nir
import numpy as np
import quick

from jaxsnn import nn
from jaxsnn.interop.nir import from_nir


def gains(graph, dt):
    """Norse's `LIFCell` and spyx do not scale the input by dt/tau, but write files that do."""
    for node in graph.nodes.values():
        if isinstance(node, nir.NIRGraph):  # spyx: the input goes past the recurrent weights
            gains(node, dt)
            neuron = next(name for name in node.nodes if name.endswith(".lif"))
            node.edges = [(a, neuron if a.endswith(".input") else b) for a, b in node.edges]
        if isinstance(node, nir.LI | nir.LIF):
            node.r = node.tau / dt
        if isinstance(node, nir.CubaLIF):
            node.w_in = node.tau_syn / dt


def norse_gains(graph, dt):
    for node in graph.nodes.values():
        if isinstance(node, nir.CubaLIF):
            node.w_in = node.tau_syn / dt


def spyx_gains(graph, dt):
    gains(graph, dt)
    for node in graph.nodes.values():
        if isinstance(node, nir.CubaLIF):
            node.r = node.tau_mem / dt


AT = {"dt": 1e-4, "fires_at_threshold": True}
# What from_nir has to be told, how many steps later the library fires, what its file gets wrong.
FILES = {
    "spikingjelly_dense": (AT, 0, None),
    "spikingjelly_conv": (AT, 0, None),
    "spikingjelly_conv1d": (AT, 0, None),
    "spikingjelly_residual": (AT, 0, None),
    "snntorch_zero": ({"dt": 1e-4}, 0, None),
    "snntorch_default": ({"dt": 1e-4, "reset": "delayed"}, 0, None),
    "snntorch_conv": ({"dt": 1e-4}, 0, None),
    "snntorch_soft": ({"dt": 1e-4, "reset": "soft"}, 0, None),
    "norse_box": ({"dt": 1e-3}, 0, None),
    "norse_default": ({"dt": 1e-6}, 0, None),
    "norse_iaf": ({"dt": 1.0}, 0, None),
    "norse_current": ({"dt": 1e-3}, 0, norse_gains),
    "spyx_if": ({"dt": 1.0, "reset": "soft"}, 2, None),
    "spyx_conv": ({"dt": 1.0, "reset": "soft"}, 3, None),
    "spyx_lif": ({"dt": 1.0, "reset": "delayed"}, 3, spyx_gains),
    "spyx_cuba": ({"dt": 1.0, "reset": "soft"}, 2, spyx_gains),
    "spyx_psu": ({"dt": 1.0}, 0, spyx_gains),
}


def read(folder, name):
    """The network in a file, and how many steps earlier it fires than the library's."""
    settings, delay, mend = FILES[name]
    graph = folder / f"{name}.nir"
    if mend:
        graph = nir.read(graph, type_check=False)
        mend(graph, settings["dt"])
    return from_nir(graph, **settings), delay


def assert_outputs_of_files(folder, library):
    """Runs the networks in a library's files; spikes are equal, potentials up to rounding."""
    with np.load(folder / "spikes.npz", allow_pickle=False) as arrays:
        arrays = dict(arrays)
    names = [name for name in FILES if name.startswith(library)]
    nets, delays = zip(*(read(folder, name) for name in names), strict=True)
    xs = [arrays[f"{name}/x"] for name in names]
    xs = [jnp.asarray(np.moveaxis(x, 2, -1)) for x in xs]  # channels last
    outputs = quick.run_once(
        lambda nets, xs: [nn.unroll(net, x)[1] for net, x in zip(nets, xs, strict=True)], nets, xs
    )
    for name, ys, delay in zip(names, outputs, delays, strict=True):
        expected = arrays[f"{name}/y"][delay:]
        values = np.unique(expected)
        assert len(values) > 1
        tolerance = 0 if set(values) == {0, 1} else 1e-6
        actual = ys[: len(expected)]
        np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance, err_msg=name)
    return dict(zip(names, nets, strict=True))
