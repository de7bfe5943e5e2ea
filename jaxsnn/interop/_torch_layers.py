"""A stack of torch layers as one of ours, and back: what networks of snnTorch and Norse share."""

import dataclasses
import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxsnn import nn
from jaxsnn._parts import join
from jaxsnn._repr import settings_of
from jaxsnn.interop import _files
from jaxsnn.interop._torch_names import children, entries, fill

# Our module, and its arrays as torch names them, the names beginning at the module.
Made = tuple[Any, dict[str, Any]]


Maker = Callable[[Any], Any]

# Settings that must have one of these values, of every layer that has them.
_ONLY: dict[str, tuple[Any, ...]] = {
    "padding_mode": ("zeros",),
    "end_dim": (-1,),
    "track_running_stats": (True,),
    "ceil_mode": (False,),
    "return_indices": (False,),
    "divisor_override": (None,),
}


class Refused(Exception):
    """The reason why a torch layer cannot be converted."""


def require(layer: Any, setting: str, *allowed: Any) -> None:
    """Raise unless a setting of a torch layer has one of the `allowed` values."""
    if (value := getattr(layer, setting)) not in allowed:
        raise Refused(f"{setting} must be {' or '.join(map(repr, allowed))}, got {value!r}")


@dataclasses.dataclass(frozen=True)
class Reader:
    """Converts torch layers.

    Attributes:
        neuron: converts a neuron, given its name in the network and this reader; None if it is not
            one of the library's. It raises `Refused` for one that cannot be converted.
        batch_axes: values that the `start_dim` of a torch `Flatten` may have.
        seen: where each torch module is first, and ours for it, by the id of torch's.
    """

    neuron: Callable[[Any, str, "Reader"], Made | None]
    batch_axes: tuple[int, ...] = (1,)
    seen: dict[int, tuple[str, Any]] = dataclasses.field(default_factory=dict)

    def layer(self, torch_layer: Any, name: str) -> Made:
        """Our layer and its arrays. A module that is used in two places is one here too."""
        try:
            made = self.neuron(torch_layer, name, self) or self._of_torch(torch_layer, name)
        except Refused as error:
            kind = type(torch_layer).__name__
            message = f"{name or 'the module'}, {kind}, cannot be converted: {error}"
            raise ValueError(message) from None
        module, arrays = made
        return self.seen.setdefault(id(torch_layer), (name, module))[1], arrays

    def _of_torch(self, torch_layer: Any, name: str) -> Made:
        from torch import nn as torch_nn

        if isinstance(torch_layer, torch_nn.Sequential):
            made = [self.layer(inner, join(name, k)) for k, inner in enumerate(torch_layer)]
            named = {
                f"{k}.{key}": array for k, (_, own) in enumerate(made) for key, array in own.items()
            }
            return nn.Sequential(*(module for module, _ in made)), named
        makers, kind = _makers(torch_nn), type(torch_layer)
        if kind in makers:
            only = _ONLY | {"start_dim": self.batch_axes}
            for setting in only:
                if hasattr(torch_layer, setting):
                    require(torch_layer, setting, *only[setting])
            return makers[kind](torch_layer), torch_layer.state_dict()
        if kind.__module__.split(".")[0] in ("torch", "snntorch", "norse"):
            raise Refused(
                f"supported are {', '.join(made.__name__ for made in makers)}, Sequential; convert "
                "the rest in parts, jaxsnn.nn.Sequential(before, jax.nn.relu, after)"
            )
        raise Refused(
            "forward() of a class of your own cannot be seen. Pass its layers in the order in "
            "which they run, torch.nn.Sequential(net.fc1, net.lif1, ...)"
        )


@functools.cache
def _makers(torch_nn: Any) -> dict[type, Maker]:
    """The functions that convert torch's layers, by class."""
    makers: dict[type, Maker] = {
        torch_nn.Linear: _linear,
        torch_nn.Flatten: lambda m: nn.Flatten(),
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


def _linear(layer: Any) -> nn.Linear:
    bias = layer.bias is not None
    return nn.Linear(layer.in_features, layer.out_features, use_bias=bias, rngs=nnx.Rngs(0))


def _conv(layer: Any) -> nn.Conv:
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
    require(layer, "affine", True)
    if layer.momentum is None:
        raise Refused("momentum must be a number, got None")
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


def _pool(kind: Callable[..., Any], axes: int, layer: Any) -> Any:
    def each(value: Any) -> tuple[int, ...]:
        return tuple(value) if isinstance(value, tuple | list) else (value,) * axes

    padding = each(layer.padding)
    if hasattr(layer, "dilation"):
        require(layer, "dilation", 1, (1,) * axes)
    if any(padding) and hasattr(layer, "count_include_pad"):
        require(layer, "count_include_pad", True)
    return kind(each(layer.kernel_size), each(layer.stride), padding=[(p, p) for p in padding])


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


def convert(stack: Any, reader: Reader, flatten_channels: Mapping[str, int] | None) -> Any:
    """Our module with the layers and parameters of a torch module.

    Args:
        stack: a layer, or a `torch.nn.Sequential` of layers and such.
        reader: converts the layers.
        flatten_channels: as in `jaxsnn.interop.spikingjelly.load`.
    """
    _refuse_hooks(stack)
    module, arrays = reader.layer(stack, "")
    known = entries(module, flatten_channels, all_of_it=False)  # neurons have their numbers
    wrong = fill({name: known[name] for name in arrays}, _files.read(arrays))
    if wrong:
        raise ValueError(f"the parameters of {type(stack).__name__} do not fit: {'; '.join(wrong)}")
    return module


def write_back(
    net: Any, stack: Any, reader: Reader, flatten_channels: Mapping[str, int] | None
) -> None:
    """Writes the parameters of `net` into the torch module that `convert` made it of.

    All is compared first: if anything differs, nothing is written.
    """
    import torch

    _refuse_hooks(stack)
    twin, tensors = reader.layer(stack, "")
    wrong = _differences(net, twin)
    if wrong:
        raise ValueError(
            f"net does not match this {type(stack).__name__}: {'; '.join(wrong)}. Pass what "
            "from_module returned; of a Classifier its stack, of a network of jaxsnn.models its fc"
        )
    known = entries(net, flatten_channels, all_of_it=False)
    # Counters of torch have no counterpart.
    arrays = {name: np.array(known[name].read()) for name in tensors if not known[name].optional}
    first: dict[int, str] = {}
    for name, array in arrays.items():
        one = first.setdefault(tensors[name].data_ptr(), name) if array.size else name
        found = ""
        if array.size != tensors[name].numel():
            found = f"has shape {array.shape}, in torch {tuple(tensors[name].shape)}"
        elif not np.all(np.isfinite(array)):
            found = "holds NaN or infinity"
        elif not np.array_equal(arrays[one].ravel(), array.ravel()):
            found = (
                f"differs from {one}, and in torch both are one tensor: make two of it there, "
                "torch.nn.Parameter(weight.detach().clone()), or train net as nnx.split keeps it"
            )
        if found:
            raise ValueError(f"nothing was written: {name} of net {found}")
    with torch.no_grad():
        for name, array in arrays.items():
            tensors[name].copy_(torch.from_numpy(array).reshape(tensors[name].shape))


def _refuse_hooks(stack: Any) -> None:
    """Refuses layers that calculate their weights, or that do more than their forward()."""
    from torch.nn.utils import parametrize

    for name, part in stack.named_modules():
        at = f"{name or 'the module'}, {type(part).__name__}"
        hooks = [*part._forward_pre_hooks.values(), *part._forward_hooks.values()]
        names = [getattr(hook, "__name__", type(hook).__name__) for hook in hooks]
        names += ["parametrizations"] if parametrize.is_parametrized(part) else []
        if names:
            raise ValueError(
                f"{at}, has hooks, {', '.join(names)}, which are not converted; remove them first, "
                "handle.remove(), or with torch.nn.utils prune.remove(layer, 'weight'), "
                "remove_weight_norm(layer), remove_spectral_norm(layer), "
                "parametrize.remove_parametrizations(layer, 'weight')"
            )


def _differences(ours: Any, theirs: Any, name: str = "") -> list[str]:
    """The layers whose kinds or settings differ, with both descriptions."""
    one, other = _described(ours), _described(theirs)
    found = [] if one == other else [f"{name or 'the whole'} is {one}, not {other}"]
    if type(ours) is not type(theirs):
        return found
    mine, parts = dict(children(ours)), dict(children(theirs))
    for key in mine | parts:
        inner = name if key == "layers" else join(name, key)  # as torch does
        found += _differences(mine.get(key), parts.get(key), inner)
    return found


def _described(part: Any) -> str:
    """A layer with its settings, without constants that it learned."""
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
