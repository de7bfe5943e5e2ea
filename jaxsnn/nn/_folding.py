"""`fold_batch_norm`: batch normalisations become part of the linear layers before them."""

import copy
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxsnn._graphs import INPUT, OUTPUT, sources, targets
from jaxsnn._parts import is_final, join, named
from jaxsnn.nn._containers import LinearRecurrentContainer
from jaxsnn.nn._graph import Graph
from jaxsnn.nn._layers import Conv, Linear
from jaxsnn.nn._normalization import BatchNorm, _Normalization
from jaxsnn.nn._sequential import Sequential
from jaxsnn.nn.contrib import (
    TemporalEffectiveBatchNorm,
    ThresholdDependentBatchNorm,
    WSConv,
    WSLinear,
)

LINEAR = (Linear, Conv, WSLinear, WSConv, nnx.Linear, nnx.Conv)
FOLDED = (BatchNorm, ThresholdDependentBatchNorm, nnx.BatchNorm)
NORMS = (_Normalization, TemporalEffectiveBatchNorm, nnx.BatchNorm)


class Waiting(NamedTuple):
    """A normalisation to be folded into the layer before it, and its path."""

    norm: Any
    path: str


def fold_batch_norm(module: Any) -> Any:
    """A copy of a trained network whose batch normalisations are in the layers before them.

    In inference a `BatchNorm` is a scale and a shift of each channel, which the `Linear` or
    `Conv` directly before it can do as well,

        s = scale / sqrt(var + epsilon)
        W' = W s,    b' = (b - mean) s + bias

    and an empty `Sequential`, which changes nothing, takes its place. Outputs equal those of
    `module` in inference up to rounding; `W'` and `b'` are computed in float64 and have the dtype
    of `W`. Once folded, a network has nothing left to normalise with: fold after
    training.

    Folded are `BatchNorm`, `ThresholdDependentBatchNorm` and Flax's `nnx.BatchNorm` with
    `use_running_average=True`, into `Linear`, `Conv`, `WSLinear`, `WSConv` (into its gain) and
    Flax's `nnx.Linear` and `nnx.Conv`, in a `Sequential` or a `Graph`, wherever that is inside
    `module`. A normalisation that comes first in a `LinearRecurrentContainer` goes into its
    `rc`, unless that is `feedback_only`. A linear layer that is used twice becomes two.

    Args:
        module: a cell, a layer or a model, e.g. a `Sequential` or a `jaxsnn.models.Classifier`. It
            stays as it is.

    Returns:
        The copy; without batch normalisation in `module` it is the same network.

    Raises:
        TypeError: `module` is not a `flax.nnx.Module`.
        ValueError: a batch normalisation has no such layer directly before it, or other parameters
            at each time step; the message has its path.

    Examples:
        >>> rngs = nnx.Rngs(0)
        >>> net = Sequential(Linear(4, 3, use_bias=False, rngs=rngs), BatchNorm(3), IFNode())
        >>> [type(layer).__name__ for layer in fold_batch_norm(net).layers]
        ['Linear', 'Sequential', 'IFNode']
    """
    if not isinstance(module, nnx.Module):
        raise TypeError(
            f"module must be a flax.nnx.Module, e.g. a Sequential, got {type(module).__name__}"
        )
    folded, waiting = fold(nnx.clone(module), "", ())
    refuse(waiting, "nothing comes before it")
    for path, part in nnx.iter_modules(folded):
        if isinstance(part, NORMS):  # in something that is not searched, e.g. an `nnx.data`
            where = ".".join(map(str, path))
            refuse((Waiting(part, where),), "it cannot be seen what runs before it")
    return folded


def fold(layer: Any, path: str, waiting: tuple[Waiting, ...]) -> tuple[Any, tuple[Waiting, ...]]:
    """Fold the normalisations after a layer into it; return those for the layer before it, too.

    Layers are visited from back to front. A stack or a linear layer may be used twice with
    different layers after it; therefore it is copied, not changed.

    Args:
        layer: any part of a network.
        path: of the layer.
        waiting: the normalisations right after it, in the order in which they run.

    Returns:
        `(layer, waiting)`: None instead of a normalisation.
    """
    if isinstance(layer, NORMS):
        _check_norm(layer, path)
        return None, (Waiting(layer, path), *waiting)
    if type(layer) in LINEAR:
        return (_folded(layer, waiting) if waiting else layer), ()
    stack = isinstance(layer, Sequential) and is_final(type(layer).forward)
    if stack or type(layer) is nnx.Sequential:
        return _fold_stack(layer, path, waiting)
    if isinstance(layer, Graph):
        return _fold_graph(layer, path, waiting)
    refuse(waiting, f"{named(layer, path)} comes before it")
    container = isinstance(layer, LinearRecurrentContainer) and is_final(type(layer).__call__)
    if container and not layer.feedback_only:
        _fold_container(layer, path)
    for name, child, replace in _children(layer):
        folded, waiting = fold(child, join(path, name), ())
        refuse(waiting, f"{named(layer, path)} decides what it is fed")
        if folded is not child:
            replace(folded)
    return layer, ()


def refuse(waiting: tuple[Waiting, ...], why: str) -> None:
    """Normalisations that nothing can take up are an error."""
    if waiting:
        norm, path = waiting[0]
        raise ValueError(
            f"{named(norm, path)} cannot be folded into a Linear or Conv before it, as {why}; "
            "if there is such a layer, put both into one Sequential, which can be folded, or fold "
            "the other parts of the network alone"
        )


def _fold_stack(
    stack: Any, path: str, waiting: tuple[Waiting, ...]
) -> tuple[Any, tuple[Waiting, ...]]:
    before = list(stack.layers)
    after: list[Any] = []
    for k in reversed(range(len(before))):
        layer, waiting = fold(before[k], join(path, k), waiting)
        if layer is None and isinstance(stack, Sequential):
            layer = Sequential()  # so that the other layers keep their places
        if layer is not None:
            after.insert(0, layer)
    if len(after) < len(before) or any(a is not b for a, b in zip(after, before, strict=True)):
        stack = copy.copy(stack)
        stack.layers = nnx.List(after)
    return stack, waiting


def _fold_graph(
    graph: Graph, path: str, waiting: tuple[Waiting, ...]
) -> tuple[Any, tuple[Waiting, ...]]:
    layers = graph._children()
    waits = {OUTPUT: waiting}
    for name in [*reversed(graph._order), INPUT]:
        after = targets(name, graph.edges)
        waiting = next((waits[target] for target in after if waits.get(target)), ())
        if len(after) > 1 or len(sources(after[0], graph.edges)) > 1:
            refuse(waiting, f"other edges of {named(graph, path)} start or end between them")
        if name != INPUT:
            layers[name], waits[name] = fold(layers[name], join(path, name), waiting)
    if all(layers[name] is layer for name, layer in zip(graph.names, graph.layers, strict=True)):
        return graph, waiting
    edges = list(graph.edges)
    for name in (name for name in graph._order if layers[name] is None):
        (before,) = sources(name, edges)
        if any(a == name for a, _ in graph._late) and sources(before, graph._late):
            refuse(
                (Waiting(graph._layer(name), join(path, name)),),
                f"its output is what this loop of {named(graph, path)} begins with",
            )
        edges = [(before if a == name else a, b) for a, b in edges if b != name]
    folded = copy.copy(graph)
    Graph.__init__(folded, {n: a for n, a in layers.items() if a is not None}, edges)
    return folded, waiting


def _fold_container(container: Any, path: str) -> None:
    """What its sub-module begins with goes into the linear layer that feeds the sub-module."""
    inside, waiting = fold(container.sub_module, join(path, "sub_module"), ())
    container.sub_module = Sequential() if inside is None else inside
    container.rc, _ = fold(container.rc, join(path, "rc"), waiting)
    container.bias = container.rc.bias is not None


def _children(module: Any) -> Iterator[tuple[str, Any, Callable[[Any], None]]]:
    """Yield the name, the child and a setter for each direct child."""
    if isinstance(module, nnx.List):
        for k, child in enumerate(module):
            yield str(k), child, functools.partial(module.__setitem__, k)
    elif isinstance(module, nnx.Module):
        for name, child in list(vars(module).items()):
            if isinstance(child, nnx.Module | nnx.List):
                yield name, child, functools.partial(setattr, module, name)


def _check_norm(norm: Any, path: str) -> None:
    """Raise unless it is a constant scale and shift of each channel."""
    if type(norm) not in FOLDED:
        raise ValueError(
            f"{named(norm, path)} is not known to be the same scale and shift at every step, which "
            "is all that the weights of a Linear or Conv can be; train with a BatchNorm to fold it"
        )
    if isinstance(norm, nnx.BatchNorm):
        if norm.use_running_average is not True:
            raise ValueError(
                f"{named(norm, path)} has use_running_average={norm.use_running_average}, so that "
                "it normalises by what it sees; set it to True"
            )
        if norm.dtype is not None and jnp.dtype(norm.dtype).itemsize < 4:
            raise ValueError(
                f"{named(norm, path)} rounds its output to {jnp.dtype(norm.dtype)}; leave "
                "its dtype out, or give it to the layer before"
            )
        if norm.axis != -1:
            raise ValueError(
                f"{named(norm, path)} has axis={norm.axis}; only channels on the last axis, -1, "
                "are those of a Linear or Conv"
            )


def _folded(layer: Any, waiting: tuple[Waiting, ...]) -> Any:
    """A linear layer that does what these normalisations do to its output."""
    layer = nnx.clone(layer)
    channels = layer.kernel.shape[-1]
    scaled = "gain" if isinstance(layer, WSLinear | WSConv) else "kernel"
    weights, bias = getattr(layer, scaled), layer.bias
    w = np.ones(channels) if weights is None else _wide(weights[...])
    b = np.zeros(channels) if bias is None else _wide(bias[...])
    for norm, path in waiting:
        scale, shift = _scale_and_shift(norm)
        if len(scale) != channels:
            raise ValueError(
                f"{named(norm, path)} has {len(scale)} features, but the {type(layer).__name__} "
                f"before it outputs {channels}"
            )
        w, b = w * scale, b * scale + shift
    for name, array in ((scaled, w), ("bias", b)):
        new = jnp.asarray(array.astype(layer.kernel.dtype))
        variable = getattr(layer, name)
        if variable is None:
            setattr(layer, name, nnx.Param(new))
        else:
            variable.set_value(new)
    layer.use_bias = True
    return layer


def _scale_and_shift(norm: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the scale and the shift of each channel in inference."""
    scale = 1 / np.sqrt(_wide(norm.var[...]) + norm.epsilon)
    if norm.scale is not None:
        scale = scale * _wide(norm.scale[...])
    shift = -_wide(norm.mean[...]) * scale
    return scale, shift if norm.bias is None else shift + _wide(norm.bias[...])


def _wide(array: Any) -> np.ndarray:
    return np.asarray(array).astype(np.float64)
