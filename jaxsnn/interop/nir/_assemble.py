"""Layers and edges as the simplest module that has them: a stack, containers, or a `Graph`."""

import itertools
import operator
from typing import Any

import jax.numpy as jnp
from flax import nnx

from jaxsnn import nn
from jaxsnn._graphs import INPUT, OUTPUT, Edge, schedule, sources, targets
from jaxsnn.nn import Graph


def assemble(layers: dict[str, Any], edges: list[Edge], parts: dict[str, str]) -> nn.Cell:
    """The module of layers that are connected by edges.

    Args:
        layers: by name.
        edges: checked.
        parts: of a `Linear`, which other one it was in the `LinearRecurrentContainer` that was
            written.
    """
    layers = dict(layers)
    while True:
        order, late = schedule(layers, edges)
        loop = next((found for edge in late if (found := _loop(layers, edges, late, edge))), None)
        if loop is None:
            break
        layers, edges = _fold(layers, edges, loop, parts)
    steps = [INPUT, *order, OUTPUT]
    if sorted(edges) == sorted(itertools.pairwise(steps)):
        return nn.Sequential(*(layers[name] for name in order))
    return Graph(layers, edges)


def _loop(
    layers: dict[str, Any], edges: list[Edge], late: list[Edge], back: Edge
) -> tuple[list[str], str | None] | None:
    """The nodes that a container goes round, and its linear layer if it has one; None if the late
    edge `back` does not close a loop of that form.
    """
    end, entry = back
    way = [end]
    while way[0] != entry:
        before = sources(way[0], edges)
        if len(before) != 1 or before[0] in (INPUT, *way):
            return None
        way.insert(0, before[0])
    others = [edge for edge in late if edge[1] == entry and edge != back]
    linear = isinstance(layers[end], nn.Linear) and targets(end, edges) == [entry] and len(way) > 1
    if not linear and any(isinstance(layers[a], nn.Linear) for a, _ in others):
        return None  # the sum goes round the linear layer: that one first
    inside = way[:-1] if linear else way
    if any(len(targets(name, edges)) != 1 for name in inside[:-1]):
        return None  # an output inside
    return inside, end if linear else None


def _fold(
    layers: dict[str, Any],
    edges: list[Edge],
    loop: tuple[list[str], str | None],
    parts: dict[str, str],
) -> tuple[dict[str, Any], list[Edge]]:
    """Puts a container in the place of the nodes of a loop."""
    inside, linear = loop
    sub_module = (
        layers[inside[0]] if len(inside) == 1 else nn.Sequential(*(layers[name] for name in inside))
    )
    name = inside[0].split(".sub_module")[0]
    gone = set(inside)
    first = None
    if linear is None:
        container: Any = nn.ElementWiseRecurrentContainer(sub_module, operator.add)
    else:
        gone.add(linear)
        before = [a for a in sources(inside[0], edges) if a != linear]
        if _was_one(before, linear, layers, edges, parts):
            first = before[0]
            gone.add(first)
        container = _linear_container(sub_module, layers[linear], layers.get(first or ""))
    while name in layers.keys() - gone:
        name += "_"
    way = [first, *inside, linear, inside[0]]
    within = set(itertools.pairwise(node for node in way if node is not None))
    kept: list[Edge] = []
    for a, b in edges:
        if (a, b) not in within:
            kept.append((name if a in gone else a, name if b in gone else b))
    together: dict[str, Any] = {}
    for old, layer in layers.items():
        if old == inside[0]:
            together[name] = container
        elif old not in gone:
            together[old] = layer
    return together, kept


def _was_one(
    before: list[str],
    linear: str,
    layers: dict[str, Any],
    edges: list[Edge],
    parts: dict[str, str],
) -> bool:
    """True if the layer before a loop and the linear layer in it were one when it was written."""
    return (
        len(before) == 1
        and parts.get(before[0]) == linear
        and isinstance(layers.get(before[0]), nn.Linear)
        and len(targets(before[0], edges)) == 1
        and layers[linear].bias is None
        and layers[before[0]].dtype == layers[linear].dtype
        and layers[before[0]].precision == layers[linear].precision
    )


def _linear_container(
    sub_module: Any, feedback: nn.Linear, first: nn.Linear | None
) -> nn.LinearRecurrentContainer:
    """The container whose weights are those of one layer, or of two."""
    inputs = feedback.out_features if first is None else first.in_features
    bias = feedback.bias if first is None else first.bias
    dtype = feedback.kernel[...].dtype
    container = nn.LinearRecurrentContainer(
        sub_module,
        inputs,
        feedback.in_features,
        bias is not None,
        feedback_only=first is None,
        dtype=feedback.dtype,
        param_dtype=dtype,
        rngs=nnx.Rngs(0),
    )
    container.rc.precision = feedback.precision
    kernels = [layer.kernel[...] for layer in (first, feedback) if layer is not None]
    container.rc.kernel[...] = jnp.concatenate(kernels)
    if bias is not None and container.rc.bias is not None:
        container.rc.bias[...] = bias[...]
    return container
