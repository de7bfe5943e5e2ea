"""Networks of Norse, with the same spikes: its neurons as ours, in stacks with torch's layers."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import nnx

from jaxsnn import nn
from jaxsnn._phases import SurrogateFunction
from jaxsnn.interop import _files, _torch_layers
from jaxsnn.interop._torch_layers import Made, Reader, Refused
from jaxsnn.surrogate import SuperSpike

_WHOLE = ("LIF", "LIFRecurrent", "IAF", "LI")  # run a sequence; the others one step


def from_module(
    module: Any,
    *,
    surrogate_function: SurrogateFunction | None = None,
    flatten_channels: Mapping[str, int] | None = None,
) -> Any:
    """Our module with the layers, settings and parameters of a network of Norse 1.1.

    | Norse | here, with `tau = 1 / (dt tau_mem_inv)` |
    |---|---|
    | `IAFCell`, `IAF` | `IFNode` |
    | `LIFBoxCell` | `LIFNode(tau)` |
    | `LIFCell`, `LIF` | `Sequential(ExponentialSynapse, LIFNode(tau))` |
    | `LIFRecurrentCell`, `LIFRecurrent` | `Linear` and a `LinearRecurrentContainer` around that |
    | `LICell`, `LI`, `LIBoxCell`, `LILinearCell` | the same with `NonSpikingLIFNode(tau)` |
    | `Lift(layer)`, and layers of torch | those of `jaxsnn.nn` |

    The synapse leaves `1 - dt tau_syn_inv` of its current. Norse's neurons fire above the
    threshold, ours at it: `v_threshold` is therefore the next number above Norse's in float32.
    Numbers of its neurons become settings, also those that are learned there. Layers of torch do
    as after `module.eval()`. Images have their channels last here.

    Args:
        module: a neuron, a layer, or a `SequentialState` or `torch.nn.Sequential` of them. It stays
            as it is.
        surrogate_function: that of all neurons; None for the one of Norse's `method="super"`, its
            default, which is `SuperSpike()`. It matters in training only.
        flatten_channels: as in `jaxsnn.interop.spikingjelly.load`.

    What comes back and what is raised are those of `jaxsnn.interop.snntorch.from_module`.
    """
    reader = _reader(module, surrogate_function)
    return _torch_layers.convert(module, reader, flatten_channels)


def to_module(net: Any, module: Any, *, flatten_channels: Mapping[str, int] | None = None) -> None:
    """Writes the parameters of `net` into the network of Norse that it came from.

    As `jaxsnn.interop.snntorch.to_module`. The numbers of Norse's neurons are settings here, and
    stay as they are.
    """
    reader = _reader(module, SuperSpike())
    _torch_layers.write_back(net, module, reader, flatten_channels)


def _reader(module: Any, surrogate_function: SurrogateFunction | None) -> Reader:
    """Converts what sees sequences; in a Lift, or where there is none, it sees single steps."""
    library = _torch_layers.import_torch("norse.torch", module)
    kinds = {getattr(library, name): kind for name, kind in _KINDS.items()}
    whole = tuple(getattr(library, name) for name in _WHOLE)
    of_sequences, of_steps = (2,), (1,)  # the first axes after time and batch

    def neuron(layer: Any, name: str, reader: Reader) -> Made | None:
        sequences = reader.batch_axes == of_sequences
        if isinstance(layer, library.Lift):
            if not sequences:
                raise Refused("there is a Lift around it already; leave one out")
            return Reader(neuron, of_steps, reader.seen).layer(layer.lifted_module, name)
        if type(layer) not in kinds:
            return None
        if sequences and not isinstance(layer, whole):
            raise Refused("in this network layers see whole sequences; put it in a Lift")
        if isinstance(layer, whole) and not sequences:
            raise Refused("in a Lift it would see single steps; take it out of it")
        return _neuron(layer, *kinds[type(layer)], surrogate_function)

    sequences = any(isinstance(m, (*whole, library.Lift)) for m in module.modules())
    return Reader(neuron, of_sequences if sequences else of_steps)


def _neuron(
    layer: Any, membrane: str, synaptic: bool, surrogate_function: SurrogateFunction | None
) -> Made:
    """Our module for a neuron of Norse, and its weights."""
    recurrent = hasattr(layer, "recurrent_weights")
    node: Any
    if membrane == "LI":
        if (rest := _number(layer, "v_leak")) != 0:
            raise Refused(f"v_leak must be 0, where ours rests, got {rest}")
        node = nn.NonSpikingLIFNode(_tau(layer))
    else:
        settings = _firing(layer, surrogate_function) | {"detach_reset": recurrent}
        node = nn.IFNode(**settings) if membrane == "IAF" else nn.LIFNode(_tau(layer), **settings)
    parts = [*_synapse(layer), node] if synaptic else [node]
    if synaptic:
        node = nn.Sequential(*parts)
    if not hasattr(layer, "input_weights"):
        return node, {}
    n_in, n = int(layer.input_size), int(layer.hidden_size)
    weights = nn.Linear(n_in, n, use_bias=False, rngs=nnx.Rngs(0))
    arrays = {"0.weight": layer.input_weights}
    if not recurrent:
        return nn.Sequential(weights, *parts), arrays
    loop = nn.LinearRecurrentContainer(node, n, n, bias=False, feedback_only=True, rngs=nnx.Rngs(0))
    return nn.Sequential(weights, loop), arrays | {"1.rc.weight": layer.recurrent_weights}


# The kind of membrane of each of Norse's neurons, and whether a synapse is before it.
_KINDS = {
    **dict.fromkeys(("IAFCell", "IAF"), ("IAF", False)),
    **dict.fromkeys(("LIFCell", "LIF", "LIFRecurrentCell", "LIFRecurrent"), ("LIF", True)),
    **dict.fromkeys(("LICell", "LI", "LILinearCell"), ("LI", True)),
    "LIFBoxCell": ("LIF", False),
    "LIBoxCell": ("LI", False),
}


def _number(layer: Any, setting: str) -> float:
    """A setting of a neuron: a tensor, or a number of Python's."""
    value = getattr(layer.p, setting)
    array = _files.array(setting, value) if hasattr(value, "detach") else np.asarray(value)
    if array.size != 1:
        raise Refused(f"{setting} must be one number for the whole layer, got {array.shape}")
    return float(array.item())


def _tau(layer: Any) -> float:
    """The membrane time constant in time steps."""
    return 1 / _share(layer, "tau_mem_inv", below_one=True)


def _share(layer: Any, setting: str, *, below_one: bool = False) -> float:
    """The part of a state that leaks in a step."""
    share = float(layer.dt) * _number(layer, setting)
    if not 0 < share <= 1 or (below_one and share == 1):
        raise Refused(f"dt * {setting} must be between 0 and 1, got {share}")
    return share


def _synapse(layer: Any) -> list[nn.ExponentialSynapse]:
    """The current before the membrane; nothing if nothing is left of it after a step."""
    share = _share(layer, "tau_syn_inv")
    return [] if share == 1 else [nn.ExponentialSynapse(-1 / math.log1p(-share))]


def _firing(layer: Any, surrogate_function: SurrogateFunction | None) -> dict[str, Any]:
    """Threshold, reset and surrogate of our neuron; it rests where it is reset to."""
    p = layer.p
    reset = getattr(getattr(p, "reset_method", None), "__name__", "reset_value")
    if reset not in ("reset_value", "reset_subtract"):
        raise Refused(f"reset_method must be reset_value or reset_subtract, got {reset}")
    v_reset = _number(layer, "v_reset") if reset == "reset_value" else 0.0
    if hasattr(p, "v_leak") and (rest := _number(layer, "v_leak")) != v_reset:
        name = "v_reset" if reset == "reset_value" else "0 with reset_subtract"
        raise Refused(f"v_leak must be {name}, where a LIF neuron rests here, got {rest}")
    if surrogate_function is None and p.method != "super":
        raise Refused(f"method={p.method!r} has no counterpart; pass surrogate_function=")
    threshold = np.float32(_number(layer, "v_th"))
    above = np.nextafter(threshold, np.float32(np.inf))
    if threshold == 0:
        above = np.finfo(np.float32).tiny  # less would count as 0 on most devices
    return {
        "v_threshold": float(above),
        "v_reset": v_reset if reset == "reset_value" else None,
        "surrogate_function": surrogate_function or SuperSpike(),
    }
