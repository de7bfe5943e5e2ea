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
from jaxsnn.interop._torch_names import entries, fill
from jaxsnn.nn._repr import settings_of

Made = tuple[Any, dict[str, Any]]  # our module, and its arrays as torch names them
# Makes it of a neuron and its name in the network; None if it is not one of the library's.
Neuron = Callable[[Any, str], Made | None]


def import_torch(library: str) -> Any:
    """Returns the library that made the network, which needs torch."""
    try:
        importlib.import_module("torch")
        return importlib.import_module(library)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"a network of {library} is read with {library} itself, but {error.name} is not "
            f"installed: pip install {library.split('.')[0]}"
        ) from error


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
    module, arrays = layer(stack, "", neuron, batch_axes)
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

    twin, tensors = layer(stack, "", neuron, batch_axes)
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
    with torch.no_grad():
        for name, tensor in tensors.items():
            if not known[name].optional:  # what torch counts, which we do not
                array = np.array(known[name].read())
                tensor.copy_(torch.from_numpy(array).reshape(tensor.shape))


def _differences(net: Any, twin: Any) -> list[str]:
    """The layers that differ, and their settings."""
    if not isinstance(net, nnx.Module):
        return [f"its type is {type(net).__name__}"]
    ours, theirs = (
        {
            ".".join(str(step) for step in path if step != "layers"): part  # as torch does
            for path, part in nnx.iter_modules(module)
        }
        for module in (net, twin)
    )
    found = []
    for path in sorted(ours.keys() | theirs.keys()):
        one, other = (_described(parts.get(path)) for parts in (ours, theirs))
        if one != other:
            found.append(f"{path or 'the whole'} is {one}, not {other}")
    return found


def _described(part: Any) -> str:
    """A layer with the settings that say what it does; what it learned is not among them."""
    if part is None:
        return "missing"
    settings = {
        name: value
        for name, value in settings_of(part).items()
        if name != "surrogate_function" and not isinstance(value, jax.Array | nnx.Variable)
    }
    return f"{type(part).__name__}({', '.join(f'{k}={v}' for k, v in settings.items())})"


def layer(torch_layer: Any, name: str, neuron: Neuron, batch_axes: tuple[int, ...]) -> Made:
    """Our layer, and the arrays that belong into it under their full names in torch."""
    from torch import nn as torch_nn

    at = f"{name}." if name else ""
    known = neuron(torch_layer, at)
    if known is not None:
        return known
    if isinstance(torch_layer, torch_nn.Sequential):
        ours: list[Any] = []
        arrays: dict[str, Any] = {}
        for k, inner in enumerate(torch_layer):
            module, more = layer(inner, f"{at}{k}", neuron, batch_axes)
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
