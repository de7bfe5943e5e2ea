"""A stack of torch layers as one of ours, and back: what networks of snnTorch and Norse share."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import jax
import numpy as np
from flax import nnx

from jaxsnn import nn
from jaxsnn._repr import settings_of
from jaxsnn.interop import _files
from jaxsnn.interop._torch_kinds import Refused, makers_of, refuse
from jaxsnn.interop._torch_names import children, entries, fill

Made = tuple[Any, dict[str, Any]]  # our module, and its arrays as torch names them
# Where each torch module stood first, and ours for it, by the id of torch's.
Seen = dict[int, tuple[str, Any]]
# Makes ours of a neuron and its name in the network; None if it is not one of the library's.
Neuron = Callable[[Any, str, Seen], Made | None]


def import_torch(library: str, module: Any) -> Any:
    """Returns the library that made the network `module`, which needs torch."""
    try:
        torch = importlib.import_module("torch")
        imported = importlib.import_module(library)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"a network of {library} is read with {library} itself, but {error.name} is not "
            f"installed: pip install {library.split('.')[0]}"
        ) from error
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, got {type(module).__name__}")
    return imported


def convert(
    stack: Any,
    neuron: Neuron,
    flatten_channels: Mapping[str, int] | None,
    *,
    batch_axes: tuple[int, ...] = (1,),
) -> Any:
    """Our module with the layers and parameters of a torch module.

    Args:
        stack: a layer, or a `torch.nn.Sequential` of layers and such.
        neuron: converts what belongs to the library.
        flatten_channels: as in `jaxsnn.interop.spikingjelly.load`.
        batch_axes: what the `start_dim` of a torch `Flatten` may be.
    """
    _refuse_hooks(stack)
    module, arrays = layer(stack, "", neuron, batch_axes, {})
    known = entries(module, flatten_channels, all_of_it=False)  # neurons have their numbers
    wrong = fill({name: known[name] for name in arrays}, _files.read(arrays))
    if wrong:
        raise ValueError(f"the parameters of {type(stack).__name__} do not fit: {'; '.join(wrong)}")
    return module


def write_back(
    net: Any,
    stack: Any,
    neuron: Neuron,
    flatten_channels: Mapping[str, int] | None,
    *,
    batch_axes: tuple[int, ...] = (1,),
) -> None:
    """Writes the parameters of `net` into the torch module that `convert` made it of.

    All is compared first: if anything differs, nothing is written.
    """
    import torch

    _refuse_hooks(stack)
    twin, tensors = layer(stack, "", neuron, batch_axes, {})
    if type(net) is not type(twin):
        for attribute in ("stack", "fc"):
            if type(getattr(net, attribute, None)) is type(twin):
                raise ValueError(
                    f"net is a {type(net).__name__}; pass its stack, net.{attribute}, which "
                    f"from_module makes of such a {type(stack).__name__}"
                )
    wrong = _differences(net, twin)
    if not wrong:
        known = entries(net, flatten_channels, all_of_it=False)
        expected = entries(twin, flatten_channels, all_of_it=False)
        for name in sorted(known.keys() | expected.keys()):
            shapes = [e[name].read().shape if name in e else None for e in (known, expected)]
            if shapes[0] != shapes[1]:
                wrong.append(f"{name}: shape {shapes[0]} in net, {shapes[1]} in module")
    if wrong:
        raise ValueError(
            f"net is not what from_module makes of this {type(stack).__name__}, as far as layers "
            f"and settings go: {'; '.join(wrong)}"
        )
    # Counters of torch have no counterpart.
    arrays = {name: np.array(known[name].read()) for name in tensors if not known[name].optional}
    _check_arrays(arrays, tensors)
    with torch.no_grad():
        for name, array in arrays.items():
            tensors[name].copy_(torch.from_numpy(array).reshape(tensors[name].shape))


def _refuse_hooks(stack: Any) -> None:
    """Refuses layers that calculate their weights, or that do more than their forward()."""
    from torch.nn.utils import parametrize

    for name, part in stack.named_modules():
        name, kind = name or "the module", type(part).__name__
        if parametrize.is_parametrized(part):
            raise ValueError(
                f"{name}, {kind}, calculates its parameters from others. Put the result in their "
                "place first: torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight')"
            )
        hooks = [*part._forward_pre_hooks.values(), *part._forward_hooks.values()]
        if hooks:
            names = ", ".join(getattr(hook, "__name__", type(hook).__name__) for hook in hooks)
            raise ValueError(
                f"{name}, {kind}, has hooks, {names}, which run with its forward(), and what they "
                "do is not converted. Remove them first, handle.remove(). For those of "
                "torch.nn.utils prune.remove(layer, 'weight'), remove_weight_norm(layer) and "
                "remove_spectral_norm(layer) leave the weights that were calculated in the layer"
            )


def _check_arrays(arrays: dict[str, np.ndarray], tensors: dict[str, Any]) -> None:
    """They are numbers, and there is one array only for each tensor."""
    first: dict[int, str] = {}
    for name, array in arrays.items():
        if not np.all(np.isfinite(array)):
            raise ValueError(f"{name} of net holds NaN or infinity; nothing was written")
        one = first.setdefault(tensors[name].data_ptr(), name) if array.size else name
        if not np.array_equal(arrays[one].ravel(), array.ravel()):
            raise ValueError(
                f"{one} and {name} are one tensor of torch's, but in net they differ; nothing was "
                "written. Make two of it in torch, torch.nn.Parameter(weight.detach().clone()), or "
                "train them as one: from_module makes one layer of ours where one layer of torch "
                "stands in both places, and jaxsnn.training and nnx.split keep it one, but not "
                "jax.tree.map and jax.grad of net itself"
            )


def _differences(ours: Any, theirs: Any, name: str = "") -> list[str]:
    """The layers that differ, and their settings; of each place, what stands in it."""
    one, other = _described(ours), _described(theirs)
    found = [] if one == other else [f"{name or 'the whole'} is {one}, not {other}"]
    if type(ours) is not type(theirs):
        return found
    mine, parts = dict(children(ours)), dict(children(theirs))
    for key in mine | parts:
        inner = name if key == "layers" else f"{name}.{key}".removeprefix(".")  # as torch does
        found += _differences(mine.get(key), parts.get(key), inner)
    return found


def _described(part: Any) -> str:
    """A layer with the settings that say what it does; what it learned is not among them."""
    if part is None:
        return "missing"
    if not isinstance(part, nnx.Module) or isinstance(part, nnx.List | nnx.Dict):
        return type(part).__name__
    settings = {
        name: np.asarray(value).tolist() if isinstance(value, jax.Array) else value
        for name, value in settings_of(part).items()
        if name not in ("surrogate_function", *getattr(part, "learned", ()))
        and not isinstance(value, nnx.Variable)
    }
    return f"{type(part).__name__}({', '.join(f'{k}={v}' for k, v in settings.items())})"


def layer(
    torch_layer: Any, name: str, neuron: Neuron, batch_axes: tuple[int, ...], seen: Seen
) -> Made:
    """Our layer, and the arrays that belong into it under their full names in torch.

    A module that stands in two places is one here too; its arrays have the names of both.
    """
    module, arrays = _layer(torch_layer, name, neuron, batch_axes, seen)
    return seen.setdefault(id(torch_layer), (name, module))[1], arrays


def _layer(
    torch_layer: Any, name: str, neuron: Neuron, batch_axes: tuple[int, ...], seen: Seen
) -> Made:
    from torch import nn as torch_nn

    at = f"{name}." if name else ""
    known = neuron(torch_layer, at, seen)
    if known is not None:
        return known
    if isinstance(torch_layer, torch_nn.Sequential):
        ours: list[Any] = []
        arrays: dict[str, Any] = {}
        for k, inner in enumerate(torch_layer):
            module, more = layer(inner, f"{at}{k}", neuron, batch_axes, seen)
            ours.append(module)
            arrays |= more
        return nn.Sequential(*ours), arrays
    makers = makers_of(torch_nn, batch_axes)
    make = makers.get(type(torch_layer))
    if make is None:
        _refuse_kind(name or "the module", type(torch_layer), makers)
    try:
        made = make(torch_layer)
    except Refused as error:
        refuse(name, torch_layer, *error.args)
    return made, {f"{at}{key}": value for key, value in torch_layer.state_dict().items()}


def _refuse_kind(name: str, kind: type, makers: Mapping[type, Any]) -> NoReturn:
    if kind.__module__.split(".")[0] in ("torch", "snntorch", "norse"):
        raise ValueError(
            f"{name} is a {kind.__name__}, which is not converted. Supported layers of torch are: "
            f"{', '.join(made.__name__ for made in makers)}, Sequential. Convert the layers before "
            "and after it by themselves, and put its replacement between them, "
            "jaxsnn.nn.Sequential(before, jax.nn.relu, after)"
        )
    raise ValueError(
        f"{name} is a {kind.__name__}, and what forward() of a class of your own does cannot be "
        "seen. Hand over its layers in the order in which they run, torch.nn.Sequential(net.fc1, "
        "net.lif1, ...); what forward() does besides, e.g. a sum over time, do with the outputs of "
        "jaxsnn.nn.unroll"
    )
