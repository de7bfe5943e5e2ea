"""A module as layers and the edges between them, and the simplest module that has these again."""

import itertools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxsnn import nn
from jaxsnn._graphs import INPUT, OUTPUT, Edge, check, schedule, sources, targets
from jaxsnn._parts import join, named
from jaxsnn.interop.nir._layers import OfInput
from jaxsnn.interop.nir._neurons import in_nodes

Layers = dict[str, Any]
Link = tuple[str, str, bool]  # an edge, and whether it takes a time step
Inside = Callable[[Any, str], tuple[Mapping[str, Any], Sequence[Edge]] | None]

_SUMS = (operator.add, jnp.add, np.add)
_SUB = "sub_module"


def take_apart(inside: Inside, node: Any, path: str = "") -> tuple[Layers, list[Link]]:
    """Return the layers of a node, which may be a graph of graphs, by path, and their edges.

    Args:
        inside: returns the nodes directly inside a node at a path, by name, and their edges from
            INPUT to OUTPUT; None for a node that is no graph.
        node: the node.
        path: its path.
    """
    found = inside(node, path)
    if found is None:
        return {path: node}, [(INPUT, path, False), (path, OUTPUT, False)]
    nodes, edges = found
    check(nodes, edges)
    _, late = schedule(nodes, edges)
    at = {INPUT: INPUT, OUTPUT: OUTPUT} | {name: join(path, name) for name in nodes}
    links = [(at[a], at[b], (a, b) in late) for a, b in edges]
    layers: Layers = {}
    for name, part in nodes.items():
        here = at[name]
        within, more = take_apart(inside, part, here)
        if twice := layers.keys() & within.keys():
            raise ValueError(f"two layers would be called {min(twice)!r}; rename one")
        layers |= within
        if here not in within:  # a graph
            into, out = f"<input of {here}>", f"<output of {here}>"
            links = [(out if a == here else a, into if b == here else b, t) for a, b, t in links]
            links += [(into if a == INPUT else a, out if b == OUTPUT else b, t) for a, b, t in more]
            links = _without(out, _without(into, links))
    return layers, links


def _without(end: str, links: list[Link]) -> list[Link]:
    """Connect the nodes that feed `end` with the nodes that it feeds, and drop `end`."""
    coming = [(a, late) for a, b, late in links if b == end]
    if any(a == end for a, _ in coming):
        raise ValueError(f"there are no layers inside to feed back: {end}")
    passed: list[Link] = []
    for a, b, late in links:
        if a == end:
            passed += [(before, b, late or late_before) for before, late_before in coming]
        elif b != end:
            passed.append((a, b, late))
    return passed


def inside_module(layer: Any, path: str) -> tuple[Mapping[str, Any], Sequence[Edge]] | None:
    """The layers of a stack, a container or a graph of ours, and their edges."""
    kind = type(layer)
    if kind is nn.Sequential:
        layers = in_nodes(layer.layers)
        return layers, list(itertools.pairwise([INPUT, *layers, OUTPUT]))
    if kind is nn.Graph:
        return dict(zip(layer.names, layer.layers, strict=True)), layer.edges
    if kind is nn.ElementWiseRecurrentContainer:
        f = layer.element_wise_function
        if not any(f is known for known in _SUMS):
            raise ValueError(
                f"{named(layer, path)}: element_wise_function={getattr(f, '__name__', f)!r} has no "
                "NIR node; use operator.add or jnp.add"
            )
        return {_SUB: layer.sub_module}, [(_SUB, _SUB), (INPUT, _SUB), (_SUB, OUTPUT)]
    if kind is not nn.LinearRecurrentContainer:
        return None
    n, rc = layer.in_features, layer.rc
    feedback = [("rc", _SUB), (_SUB, "rc"), (_SUB, OUTPUT)]
    if layer.feedback_only:
        return {"rc": rc, _SUB: layer.sub_module}, [(INPUT, _SUB), *feedback]
    of_input = OfInput(_with(rc, rc.kernel[:n], rc.bias), join(path, "rc"))
    of_feedback = _with(rc, rc.kernel[n:], None)
    parts = {"rc_input": of_input, "rc": of_feedback, _SUB: layer.sub_module}
    return parts, [(INPUT, "rc_input"), ("rc_input", _SUB), *feedback]


def _with(linear: nn.Linear, kernel: Any, bias: Any) -> nn.Linear:
    """A copy with these weights."""
    copy: nn.Linear = nnx.merge(*nnx.split(linear))
    copy.kernel, copy.bias = nnx.Param(kernel), bias
    copy.in_features, copy.use_bias = len(kernel), bias is not None
    return copy


def assemble(layers: Layers, edges: list[Edge], parts: Mapping[str, str]) -> nn.Cell:
    """The module of layers that are connected by edges: a stack, containers, or a `Graph`.

    Args:
        layers: by name.
        edges: checked.
        parts: pairs of two `Linear` by name that were the `rc` of one container when written.
    """
    while True:
        order, late = schedule(layers, edges)
        folded = (_folded(layers, edges, late, back, parts) for back in late)
        found = next((graph for graph in folded if graph is not None), None)
        if found is None:
            break
        layers, edges = found
    if sorted(edges) == sorted(itertools.pairwise([INPUT, *order, OUTPUT])):
        return nn.Sequential(*(layers[name] for name in order))
    return nn.Graph(layers, edges)


def _folded(
    layers: Layers, edges: list[Edge], late: list[Edge], back: Edge, parts: Mapping[str, str]
) -> tuple[Layers, list[Edge]] | None:
    """The graph with a container in the place of the nodes of a loop; None if the late edge `back`
    does not close a loop of that form.
    """
    end, entry = back
    inside = [end]
    while inside[0] != entry:
        before = sources(inside[0], edges)
        if len(before) != 1 or before[0] in (INPUT, *inside):
            return None
        inside.insert(0, before[0])
    linear, first = None, None
    if isinstance(layers[end], nn.Linear) and targets(end, edges) == [entry] and len(inside) > 1:
        linear = inside.pop()
        before = [a for a in sources(entry, edges) if a != linear]
        if len(before) == 1 and _were_one(layers, edges, before[0], linear, parts):
            first = before[0]
    elif any(isinstance(layers[a], nn.Linear) for a, b in late if b == entry and a != end):
        return None  # the sum goes round the linear layer: that one first
    if any(len(targets(name, edges)) != 1 for name in inside[:-1]):
        return None  # an output inside
    several = [layers[name] for name in inside]
    sub_module = several[0] if len(several) == 1 else nn.Sequential(*several)
    if linear is None:
        container: Any = nn.ElementWiseRecurrentContainer(sub_module, operator.add)
    else:
        container = _linear_container(sub_module, layers[linear], layers.get(first or ""))
    way = [name for name in (first, *inside, linear) if name is not None]
    within = {*itertools.pairwise([*way, entry])}
    name = entry.split(f".{_SUB}")[0]
    while name in layers.keys() - set(way):
        name += "_"
    called = dict.fromkeys(way, name)
    edges = [(called.get(a, a), called.get(b, b)) for a, b in edges if (a, b) not in within]
    layers = {
        called.get(old, old): container if old == entry else layer
        for old, layer in layers.items()
        if old == entry or old not in way
    }
    return layers, edges


def _were_one(
    layers: Layers, edges: list[Edge], first: str, linear: str, parts: Mapping[str, str]
) -> bool:
    """True if the layer before a loop and the linear layer in it were one when it was written."""
    one, other = layers.get(first), layers[linear]
    return (
        parts.get(first) == linear
        and isinstance(one, nn.Linear)
        and len(targets(first, edges)) == 1
        and other.bias is None
        and (one.dtype, one.precision) == (other.dtype, other.precision)
    )


def _linear_container(
    sub_module: Any, feedback: nn.Linear, first: nn.Linear | None
) -> nn.LinearRecurrentContainer:
    """The container whose weights are those of one layer, or of two."""
    kernel, bias, inputs = feedback.kernel[...], feedback.bias, feedback.out_features
    if first is not None:
        kernel = jnp.concatenate([first.kernel[...], kernel])
        bias, inputs = first.bias, first.in_features
    container = nn.LinearRecurrentContainer(
        sub_module,
        *(inputs, feedback.in_features, bias is not None),
        feedback_only=first is None,
        rngs=nnx.Rngs(0),
    )
    container.rc = _with(feedback, kernel, bias)
    return container
