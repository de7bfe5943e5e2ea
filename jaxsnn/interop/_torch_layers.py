"""A stack of torch layers as one of ours, and back: what networks of snnTorch and Norse share."""

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import jax
import numpy as np
from flax import nnx

from jaxsnn import nn
from jaxsnn.interop import _files
from jaxsnn.interop._torch_names import children, entries, fill
from jaxsnn.nn._repr import settings_of

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
    # What torch counts we do not.
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
        name: value
        for name, value in settings_of(part).items()
        if name != "surrogate_function" and not isinstance(value, jax.Array | nnx.Variable)
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
    makers = _makers(torch_nn, batch_axes)
    make = makers.get(type(torch_layer))
    if make is None:
        _refuse_kind(name or "the module", type(torch_layer), makers)
    try:
        made = make(torch_layer)
    except _Refused as error:
        refuse(name, torch_layer, *error.args)
    return made, {f"{at}{key}": value for key, value in torch_layer.state_dict().items()}


def _refuse_kind(name: str, kind: type, makers: Mapping[type, Any]) -> NoReturn:
    if kind.__module__.split(".")[0] in ("torch", "snntorch", "norse"):
        raise ValueError(
            f"{name} is a {kind.__name__}, which is not converted. Of torch's layers these are: "
            f"{', '.join(made.__name__ for made in makers)}, Sequential. Convert the layers before "
            "and behind it by themselves, and put what does its work here between them, "
            "jaxsnn.nn.Sequential(before, jax.nn.relu, behind)"
        )
    raise ValueError(
        f"{name} is a {kind.__name__}, and what forward() of a class of your own does cannot be "
        "seen. Hand over its layers in the order in which they run, torch.nn.Sequential(net.fc1, "
        "net.lif1, ...); what forward() does besides, e.g. a sum over time, do with the outputs of "
        "jaxsnn.nn.unroll"
    )


def _makers(torch_nn: Any, batch_axes: tuple[int, ...]) -> dict[type, Callable[[Any], Any]]:
    """What makes our layer of one of torch's, by its class."""

    def flatten(torch_layer: Any) -> nn.Flatten:
        if torch_layer.start_dim not in batch_axes:
            raise _Refused("start_dim", " or ".join(map(str, batch_axes)))
        if torch_layer.end_dim != -1:
            raise _Refused("end_dim", "-1")
        return nn.Flatten()

    makers: dict[type, Callable[[Any], Any]] = {
        torch_nn.Linear: _linear,
        torch_nn.Flatten: flatten,
        torch_nn.Dropout: lambda m: nn.Dropout(m.p),
        torch_nn.Dropout2d: lambda m: nn.Dropout2d(m.p),
        torch_nn.GroupNorm: _group_norm,
        torch_nn.Identity: lambda m: nn.Sequential(),
    }
    for axes in (1, 2, 3):
        makers |= {
            getattr(torch_nn, f"Conv{axes}d"): _conv,
            getattr(torch_nn, f"BatchNorm{axes}d"): _batch_norm,
            getattr(torch_nn, f"MaxPool{axes}d"): functools.partial(_pool, nn.MaxPool, axes),
            getattr(torch_nn, f"AvgPool{axes}d"): functools.partial(_pool, nn.AvgPool, axes),
        }
    return makers


class _Refused(Exception):
    """A setting that is not here, and what it may be."""


def refuse(name: str, torch_layer: Any, setting: str, way_out: str) -> NoReturn:
    """Says which setting of which layer cannot be converted."""
    value = getattr(torch_layer, setting)
    raise ValueError(
        f"{name or 'the module'}, {type(torch_layer).__name__}({setting}={value!r}), cannot be "
        f"converted: {setting} must be {way_out}"
    )


def _linear(layer: Any) -> nn.Linear:
    """`torch.nn.Linear`, its parameters to be loaded."""
    return nn.Linear(
        layer.in_features,
        layer.out_features,
        use_bias=layer.bias is not None,
        rngs=nnx.Rngs(0),
    )


def _conv(layer: Any) -> nn.Conv:
    if layer.padding_mode != "zeros":
        raise _Refused("padding_mode", "'zeros'")
    padding = layer.padding
    return nn.Conv(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        layer.stride,
        padding=padding.upper() if isinstance(padding, str) else [(p, p) for p in padding],
        kernel_dilation=layer.dilation,
        feature_group_count=layer.groups,
        use_bias=layer.bias is not None,
        rngs=nnx.Rngs(0),
    )


def _batch_norm(layer: Any) -> nn.BatchNorm:
    for setting in ("affine", "track_running_stats"):
        if not getattr(layer, setting):
            raise _Refused(setting, "True")
    if layer.momentum is None:
        raise _Refused("momentum", "a number")
    return nn.BatchNorm(layer.num_features, eps=layer.eps, momentum=layer.momentum)


def _group_norm(layer: Any) -> nnx.GroupNorm:
    return nnx.GroupNorm(
        layer.num_channels,
        num_groups=layer.num_groups,
        epsilon=layer.eps,
        use_bias=layer.affine,
        use_scale=layer.affine,
        use_fast_variance=False,
        rngs=nnx.Rngs(0),
    )


def _pool(kind: Any, axes: int, layer: Any) -> Any:
    def each(value: Any) -> tuple[int, ...]:
        return tuple(value) if isinstance(value, tuple | list) else (value,) * axes

    for setting, only in (("ceil_mode", False), ("return_indices", False)):
        if getattr(layer, setting, only) is not only:
            raise _Refused(setting, str(only))
    if set(each(getattr(layer, "dilation", 1))) != {1}:
        raise _Refused("dilation", "1")
    if getattr(layer, "divisor_override", None) is not None:
        raise _Refused("divisor_override", "None")
    padding = each(layer.padding)
    if any(padding) and not getattr(layer, "count_include_pad", True):
        raise _Refused("count_include_pad", "True")
    return kind(each(layer.kernel_size), each(layer.stride), padding=[(p, p) for p in padding])


def number(name: str, torch_layer: Any, setting: str, value: Any) -> float:
    """A setting of a neuron that must be one number: a tensor, or one of Python's."""
    array = (
        _files.read({setting: value})[setting] if hasattr(value, "detach") else np.asarray(value)
    )
    if array.size != 1:
        raise ValueError(
            f"{name or 'the module'}, {type(torch_layer).__name__}, has {setting} of shape "
            f"{array.shape}; only one for the whole layer can be converted"
        )
    return float(array.reshape(()).item())
