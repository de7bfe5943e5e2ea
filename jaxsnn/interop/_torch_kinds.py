"""Layers of torch as ours, each by its kind, with their parameters still to be filled in."""

import functools
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
from flax import nnx

from jaxsnn import nn
from jaxsnn.interop import _files


def makers_of(torch_nn: Any, batch_axes: tuple[int, ...]) -> dict[type, Callable[[Any], Any]]:
    """The functions that convert torch's layers, by class."""

    def flatten(torch_layer: Any) -> nn.Flatten:
        if torch_layer.start_dim not in batch_axes:
            raise Refused("start_dim", " or ".join(map(str, batch_axes)))
        if torch_layer.end_dim != -1:
            raise Refused("end_dim", "-1")
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


class Refused(Exception):
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
        raise Refused("padding_mode", "'zeros'")
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
            raise Refused(setting, "True")
    if layer.momentum is None:
        raise Refused("momentum", "a number")
    return nn.BatchNorm(layer.num_features, momentum=1 - layer.momentum, epsilon=layer.eps)


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
            raise Refused(setting, str(only))
    if set(each(getattr(layer, "dilation", 1))) != {1}:
        raise Refused("dilation", "1")
    if getattr(layer, "divisor_override", None) is not None:
        raise Refused("divisor_override", "None")
    padding = each(layer.padding)
    if any(padding) and not getattr(layer, "count_include_pad", True):
        raise Refused("count_include_pad", "True")
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
