"""Networks of snnTorch and Norse, and what they put out: makes golden/snntorch.npz and norse.npz.

    python tests/helpers/other_libraries.py

needs torch, snnTorch 1.0 and Norse 1.1. Each network is `Linear, neuron, Linear, output`, with the
neuron alone where ties are to be seen: its inputs are multiples of 1/4, and every number is exact.
Those of the others are such that the spikes are the same if all inputs are larger or smaller by a
share of 1e-5, about a hundred times the rounding of float32.
"""

import json
import pathlib

import numpy as np

FOLDER = pathlib.Path(__file__).parents[1] / "golden"
T, N, INPUTS, HIDDEN, OUTPUTS = 20, 3, 6, 8, 4

VECTOR = [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0, 0.0]

# The class of the neuron and its arguments.
SNNTORCH = {
    f"{kind}_{reset}_{'delay' if delay else 'at_once'}": (kind, {"reset_mechanism": reset, **more})
    for kind, numbers in (
        ("Leaky", {"beta": 0.9}),
        ("RLeaky", {"beta": 0.8}),
        ("Synaptic", {"alpha": 0.7, "beta": 0.8}),
        ("RSynaptic", {"alpha": 0.5, "beta": 0.7}),
    )
    for reset in ("subtract", "zero", "none")
    for delay in (True, False)
    for more in [numbers | {"reset_delay": delay}]
    if delay or (kind != "RSynaptic" and reset != "none")  # which snnTorch cannot, or does not, do
}
SNNTORCH |= {
    "Leaky_numbers": (
        "Leaky",
        {"beta": VECTOR, "threshold": [0.5, 1.0] * 4, "graded_spikes_factor": 1.5},
    ),
    "Leaky_alone": ("Leaky", {"beta": 0.5}),
    "Leaky_zero_alone": ("Leaky", {"beta": 0.5, "reset_mechanism": "zero"}),
}

# The class of the neuron, its time step, and its parameters; the output is a leaky integrator.
NORSE = {
    "IAFCell": ("IAFCell", 0.001, {"v_th": 0.8, "v_reset": -0.2}),
    "LIFBoxCell": ("LIFBoxCell", 0.001, {"v_th": 0.25, "v_leak": -0.1, "v_reset": -0.1}),
    "LIFBoxCell_subtract": ("LIFBoxCell", 0.002, {"v_th": 0.25, "reset_method": "reset_subtract"}),
    "LIFCell": ("LIFCell", 0.001, {"v_th": 0.5}),
    "LIFCell_no_synapse": ("LIFCell", 0.001, {"v_th": 0.2, "tau_syn_inv": 1000.0}),
    "LIFRecurrentCell": ("LIFRecurrentCell", 0.001, {"v_th": 0.5, "tau_mem_inv": 250.0}),
    "IAFCell_alone": ("IAFCell", 0.001, {}),
    "LIFBoxCell_alone": ("LIFBoxCell", 0.5, {"tau_mem_inv": 1.0}),
}


def is_alone(name):
    return name.endswith("_alone")


def inputs(name, seed):
    """The inputs of a network, `[T, N, features]`."""
    rng = np.random.default_rng(seed)
    if is_alone(name):
        return rng.integers(-2, 9, (T, N, HIDDEN)).astype(np.float32) / 4
    return rng.uniform(0, 2, (T, N, INPUTS)).astype(np.float32)


def make_snntorch(name):
    """A network of snnTorch."""
    import snntorch
    import torch

    kind, settings = SNNTORCH[name]
    settings = {k: torch.tensor(v) if isinstance(v, list) else v for k, v in settings.items()}
    recurrent = {"linear_features": HIDDEN} if kind.startswith("R") else {}
    neuron = getattr(snntorch, kind)(**settings, **recurrent, init_hidden=True)
    if is_alone(name):
        return torch.nn.Sequential(neuron)
    linear = torch.nn.Linear
    output = snntorch.Leaky(beta=0.9, init_hidden=True)
    return torch.nn.Sequential(linear(INPUTS, HIDDEN), neuron, linear(HIDDEN, OUTPUTS), output)


def make_norse(name):
    """A network of Norse."""
    import norse.torch as norse
    import torch
    from norse.torch.functional import reset

    kind, dt, numbers = NORSE[name]
    p = {
        key: getattr(reset, value) if isinstance(value, str) else torch.tensor(value)
        for key, value in numbers.items()
    }
    p = getattr(norse, kind.replace("RecurrentCell", "Cell").replace("Cell", "Parameters"))(**p)
    if kind == "LIFRecurrentCell":
        layers = [norse.LIFRecurrentCell(INPUTS, HIDDEN, p, dt=dt)]
    else:
        layers = [torch.nn.Linear(INPUTS, HIDDEN), getattr(norse, kind)(p, dt=dt)]
    if is_alone(name):
        return norse.SequentialState(layers[1])
    if kind == "IAFCell":
        return norse.SequentialState(*layers, torch.nn.Linear(HIDDEN, OUTPUTS), norse.LIBoxCell())
    if kind == "LIFRecurrentCell":
        return norse.SequentialState(*layers, norse.LILinearCell(HIDDEN, OUTPUTS))
    return norse.SequentialState(*layers, torch.nn.Linear(HIDDEN, OUTPUTS), norse.LICell())


def run(network, xs):
    """The outputs of all layers over time, `[T, ...]` each, from a fresh state."""
    import copy

    import torch

    network = copy.deepcopy(network)  # snnTorch's neurons keep their state, which begins at 0
    states = [None] * len(network)
    seen = []
    with torch.no_grad():
        for x in xs:
            seen.append([])
            for k, layer in enumerate(network):
                if hasattr(layer, "state_fallback") or hasattr(layer, "input_weights"):
                    x, states[k] = layer(x, states[k])
                else:
                    x = layer(x)
                seen[-1].append(x)
    return [torch.stack(ys) for ys in zip(*seen, strict=True)]


def main():
    """Writes both files."""
    import importlib.metadata

    import torch

    for library, cases, make in (
        ("snntorch", SNNTORCH, make_snntorch),
        ("norse", NORSE, make_norse),
    ):
        arrays, meta = {}, {}
        for name in cases:
            for seed in range(1000):
                torch.manual_seed(seed)
                network = make(name)
                with torch.no_grad():
                    for parameter in network.parameters():
                        if parameter.ndim == 2:  # else they would barely fire
                            parameter *= 2
                xs = torch.from_numpy(inputs(name, seed))
                at = 0 if is_alone(name) or name == "LIFRecurrentCell" else 1
                ys = run(network, xs)
                rate = float((ys[at] != 0).float().mean())
                off = () if is_alone(name) else (1e-5, -1e-5)
                others = [run(network, xs * (1 + share)) for share in off]
                spiking = [at] if library == "norse" else [at, -1]
                if 0.05 < rate < 0.8 and all(
                    torch.equal(ys[k], other[k]) for k in spiking for other in others
                ):
                    break
            else:
                raise RuntimeError(f"no seed will do for {name}")
            arrays |= {f"{name}/x": xs.numpy(), f"{name}/out": ys[-1].numpy()}
            arrays |= {f"{name}/p_{k}": p.numpy() for k, p in network.state_dict().items()}
            arrays[f"{name}/spikes"] = ys[at].numpy()
            meta[name] = {"seed": seed, "rate": rate}
        versions = {p: importlib.metadata.version(p) for p in ("torch", library)}
        arrays["__meta__"] = np.array(json.dumps({"cases": meta, "versions": versions}))
        np.savez_compressed(FOLDER / f"{library}.npz", **arrays)


if __name__ == "__main__":
    main()
