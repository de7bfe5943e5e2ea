"""Networks of Norse, with the same spikes: its neurons as ours, in stacks with torch's layers."""

import math
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
from flax import nnx

from jaxsnn import nn
from jaxsnn._phases import SurrogateFunction
from jaxsnn.interop import _torch_kinds, _torch_layers
from jaxsnn.interop._torch_layers import Made, Seen
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
    reader, batch_axes = _reader(module, surrogate_function)
    return _torch_layers.convert(module, reader, flatten_channels, batch_axes=batch_axes)


def to_module(net: Any, module: Any, *, flatten_channels: Mapping[str, int] | None = None) -> None:
    """Writes the parameters of `net` into the network of Norse that it came from.

    As `jaxsnn.interop.snntorch.to_module`. The numbers of Norse's neurons are settings here, and
    stay as they are.
    """
    reader, batch_axes = _reader(module, SuperSpike())
    _torch_layers.write_back(net, module, reader, flatten_channels, batch_axes=batch_axes)


def _reader(
    module: Any, surrogate_function: SurrogateFunction | None
) -> tuple[_torch_layers.Neuron, tuple[int, ...]]:
    """The converters of neurons, and the first axis that a Flatten may flatten."""
    library = _torch_layers.import_torch("norse.torch", module)
    kinds = {
        getattr(library, name): make
        for names, make in (
            (("IAFCell", "IAF"), _iaf),
            (("LIFBoxCell",), _lif_box),
            (("LIFCell", "LIF"), _lif),
            (("LIFRecurrentCell", "LIFRecurrent"), _lif_recurrent),
            (("LICell", "LI"), _li),
            (("LIBoxCell",), _li_box),
            (("LILinearCell",), _li_linear),
        )
        for name in names
    }
    whole = tuple(getattr(library, name) for name in _WHOLE)

    def reader(sees_sequence: bool) -> _torch_layers.Neuron:
        """Converts what sees sequences; in a Lift, or where there is none, it sees single steps."""

        def neuron(layer: Any, at: str, seen: Seen) -> Made | None:
            if isinstance(layer, library.Lift):
                if not sees_sequence:
                    _refuse_kind(layer, at, "there is a Lift around it already; leave one out")
                inner = layer.lifted_module
                return _torch_layers.layer(inner, at.removesuffix("."), reader(False), (1,), seen)
            if type(layer) not in kinds:
                return None
            if isinstance(layer, whole) and not sees_sequence:
                _refuse_kind(layer, at, "in a Lift it would see single steps; take it out of it")
            if sees_sequence and not isinstance(layer, whole):
                _refuse_kind(
                    layer, at, "in this network layers see whole sequences; put it in a Lift"
                )
            return kinds[type(layer)](_Settings(layer, at, surrogate_function), at)

        return neuron

    sequence = any(isinstance(m, (*whole, library.Lift)) for m in module.modules())
    return reader(sequence), ((2,) if sequence else (1,))


def _refuse_kind(layer: Any, at: str, way_out: str) -> NoReturn:
    name = at.removesuffix(".") or "the module"
    raise ValueError(f"{name}, {type(layer).__name__}, cannot be converted: {way_out}")


class _Settings:
    """The settings of a neuron of Norse, as numbers of ours."""

    def __init__(self, layer: Any, at: str, surrogate_function: SurrogateFunction | None) -> None:
        self.layer, self.name = layer, at.removesuffix(".") or "the module"
        self._surrogate_function = surrogate_function

    def number(self, setting: str) -> float:
        return _torch_kinds.number(self.name, self.layer, setting, getattr(self.layer.p, setting))

    def refuse(self, setting: str, value: Any, way_out: str) -> NoReturn:
        raise ValueError(
            f"{self.name}, {type(self.layer).__name__} with {setting}={value!r}, cannot be "
            f"converted: {way_out}"
        )

    def tau(self) -> float:
        """The membrane time constant in time steps."""
        share = float(self.layer.dt) * self.number("tau_mem_inv")
        if not 0 < share < 1:
            self.refuse("dt * tau_mem_inv", share, "it must be between 0 and 1")
        return 1 / share

    def synapse(self) -> list[Any]:
        """The current before the membrane; nothing if nothing is left of it after a step."""
        share = float(self.layer.dt) * self.number("tau_syn_inv")
        if not 0 < share <= 1:
            self.refuse("dt * tau_syn_inv", share, "it must be greater than 0 and at most 1")
        return [] if share == 1 else [nn.ExponentialSynapse(-1 / math.log1p(-share))]

    def firing(self, *, detach_reset: bool = False) -> dict[str, Any]:
        """Threshold, reset and surrogate of our neuron; it rests where it is reset to."""
        p = self.layer.p
        reset = getattr(getattr(p, "reset_method", None), "__name__", "reset_value")
        if reset not in ("reset_value", "reset_subtract"):
            self.refuse("reset_method", reset, "it must be reset_value or reset_subtract")
        subtracts = reset == "reset_subtract"
        v_reset = 0.0 if subtracts else self.number("v_reset")
        if hasattr(p, "v_leak") and self.number("v_leak") != v_reset:
            way_out = "it must be 0 with reset_subtract" if subtracts else "it must be v_reset"
            self.refuse(
                "v_leak", self.number("v_leak"), f"{way_out}, as here a LIF neuron rests there"
            )
        surrogate = self._surrogate_function
        if surrogate is None:
            if p.method != "super":
                self.refuse("method", p.method, "say which surrogate_function is to take its place")
            surrogate = SuperSpike()
        threshold = np.float32(self.number("v_th"))
        above = np.nextafter(threshold, np.float32(np.inf))
        if threshold == 0:
            above = np.finfo(np.float32).tiny  # less would count as 0 on most devices
        return {
            "v_threshold": float(above),
            "v_reset": None if subtracts else v_reset,
            "detach_reset": detach_reset,
            "surrogate_function": surrogate,
        }

    def integrator(self) -> nn.NonSpikingLIFNode:
        if self.number("v_leak") != 0:
            self.refuse("v_leak", self.number("v_leak"), "it must be 0, where ours rests")
        return nn.NonSpikingLIFNode(self.tau())


def _iaf(settings: _Settings, at: str) -> Made:
    return nn.IFNode(**settings.firing()), {}


def _lif_box(settings: _Settings, at: str) -> Made:
    return nn.LIFNode(settings.tau(), **settings.firing()), {}


def _lif(settings: _Settings, at: str) -> Made:
    membrane = nn.LIFNode(settings.tau(), **settings.firing())
    return nn.Sequential(*settings.synapse(), membrane), {}


def _lif_recurrent(settings: _Settings, at: str) -> Made:
    layer = settings.layer
    n_in, n = int(layer.input_size), int(layer.hidden_size)
    membrane = nn.LIFNode(settings.tau(), **settings.firing(detach_reset=True))
    node = nn.Sequential(*settings.synapse(), membrane)
    stack = nn.Sequential(
        nn.Linear(n_in, n, use_bias=False, rngs=nnx.Rngs(0)),
        nn.LinearRecurrentContainer(node, n, n, bias=False, feedback_only=True, rngs=nnx.Rngs(0)),
    )
    return stack, {
        f"{at}0.weight": layer.input_weights,
        f"{at}1.rc.weight": layer.recurrent_weights,
    }


def _li(settings: _Settings, at: str) -> Made:
    return nn.Sequential(*settings.synapse(), settings.integrator()), {}


def _li_box(settings: _Settings, at: str) -> Made:
    return settings.integrator(), {}


def _li_linear(settings: _Settings, at: str) -> Made:
    layer = settings.layer
    weights = nn.Linear(layer.input_size, layer.hidden_size, use_bias=False, rngs=nnx.Rngs(0))
    stack = nn.Sequential(weights, *settings.synapse(), settings.integrator())
    return stack, {f"{at}0.weight": layer.input_weights}
