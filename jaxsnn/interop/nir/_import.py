"""`from_nir`: a NIR graph, or a file of one, as a module of ours."""

import os
from collections.abc import Callable
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from jaxsnn import _checks
from jaxsnn._graphs import INPUT, OUTPUT, Edge, check, schedule, sources, targets
from jaxsnn.interop.nir._assemble import assemble
from jaxsnn.interop.nir._file import read
from jaxsnn.interop.nir._layout import Layout
from jaxsnn.interop.nir._nodes import RESETS, Choices, read_node
from jaxsnn.interop.nir._notes import read_notes
from jaxsnn.interop.nir._package import package
from jaxsnn.interop.nir._strict import Strict
from jaxsnn.nn import Cell


def from_nir(
    graph: Any,
    *,
    dt: float | None = None,
    reset: Literal["hard", "soft", "delayed"] | None = None,
    fires_at_threshold: bool | None = None,
    surrogate_function: Callable[..., Any] | None = None,
    detach_reset: bool | None = None,
    param_dtype: Any = jnp.float32,
) -> Cell:
    """A NIR graph as a cell for `unroll`.

    A chain of nodes becomes a `Sequential`, and cycles of the forms of our two recurrent containers
    become these; any other graph becomes a `Graph`. A neuron becomes a cell of `jaxsnn.nn` where
    one has its equation and parameters, otherwise a `Neuron`. Weights become parameters.

    Args:
        graph: a `nir.NIRGraph` with one input and one output, or the path of a `.nir` file.
        dt: seconds in a time step. Needed for neurons and delays; None is what `to_nir` noted in
            the graph that it wrote.
        reset: what a spike does to the potential: `"hard"` sets it to the node's `v_reset`,
            `"soft"` subtracts the threshold, `"delayed"` too, but in the next step, see `Neuron`.
            None is what the node's metadata say where `to_nir` wrote it, else `"hard"`, the only
            one that NIR has.
        fires_at_threshold: whether a potential equal to the threshold fires. None is what the
            node's metadata say, else False as in NIR.
        surrogate_function: spike function of all neurons. None is what the metadata say, else
            `jaxsnn.surrogate.Sigmoid()`.
        detach_reset: whether no gradient flows through the resets. None is what the metadata
            say, else False.
        param_dtype: dtype of the parameters, whatever that of the weights in the graph is.

    Returns:
        The cell, for inputs `[T, N, ...]` with channels last.

    Raises:
        ImportError: the package `nir` is not installed.
        FileNotFoundError: there is no file at the path.
        ValueError: the graph or the file is damaged, a node cannot be expressed or holds numbers
            that are not finite; names the path and the node.

    Examples:
        >>> net = nn.Sequential(nn.Linear(4, 2, rngs=nnx.Rngs(0)), nn.NonSpikingLIFNode(tau=3.0))
        >>> from_nir(jaxsnn.interop.nir.to_nir(net, (4,)))
        Sequential(
          (0): Linear(in_features=4, out_features=2, use_bias=True)
          (1): NonSpikingLIFNode(tau=3.0, decay_input=True)
        )
    """
    nir = package()
    if reset is not None and reset not in RESETS:
        raise ValueError(f"reset must be one of {RESETS} or None, got {reset!r}")
    for name, value in (("fires_at_threshold", fires_at_threshold), ("detach_reset", detach_reset)):
        if value is not None:
            _checks.boolean(name, value)
    if surrogate_function is not None:
        _checks.function("surrogate_function", surrogate_function)
    if isinstance(surrogate_function, Strict):
        if fires_at_threshold:
            raise ValueError(
                f"fires_at_threshold=True contradicts surrogate_function={surrogate_function}; "
                "pass the surrogate inside it"
            )
        fires_at_threshold, surrogate_function = False, surrogate_function.surrogate
    if dt is not None:
        dt = _checks.positive("dt", dt)

    path = graph if isinstance(graph, str | os.PathLike) else None
    if path is not None:
        graph = read(path)
    if not isinstance(graph, nir.NIRGraph):
        raise TypeError(
            f"graph must be a nir.NIRGraph or the path of a file of one, got {type(graph).__name__}"
        )
    try:
        if dt is None and "dt" in read_notes(graph):
            dt = _checks.positive("its metadata 'dt'", read_notes(graph)["dt"])
        choices = Choices(
            dt, reset, fires_at_threshold, surrogate_function, detach_reset, param_dtype
        )
        return _read_graph(nir, graph, choices)
    except (TypeError, ValueError) as error:
        if path is None:
            raise ValueError(str(error)) from error
        raise ValueError(f"{path}: {error}") from error


def _read_graph(nir: Any, graph: Any, choices: Choices) -> Cell:
    nodes, edges = _flat(nir, graph)
    first, last = (_only_one(nodes, kind) for kind in (nir.Input, nir.Output))
    ends = {first: INPUT, last: OUTPUT}
    edges = [(ends.get(a, a), ends.get(b, b)) for a, b in edges]
    shape = _shape(nodes.pop(first).input_type)
    expected = nodes.pop(last).output_type
    for name in (INPUT, OUTPUT):
        if name in nodes:
            raise ValueError(f"a node that is a {type(nodes[name]).__name__} is called {name!r}")
    check(nodes, edges)
    if shape is None or not 1 <= len(shape) <= 3:
        raise ValueError(f"the Input needs a shape of one to three axes, got {shape}")
    layers, layout = _read_nodes(nodes, edges, Layout.from_nir(shape), choices)
    if layout.order is not None:
        raise ValueError(
            "the output is that of a Flatten of images, whose order differs here, where channels "
            "are last; a Linear has to come after it"
        )
    wanted = _shape(expected)
    if wanted is not None and wanted != layout.nir_shape:
        raise ValueError(f"the Output has shape {wanted}, but what reaches it {layout.nir_shape}")
    parts = {name: str(part) for name in nodes if (part := read_notes(nodes[name]).get("part_of"))}
    return assemble(layers, edges, parts)


def _read_nodes(
    nodes: dict[str, Any], edges: list[Edge], first: Layout, choices: Choices
) -> tuple[dict[str, Any], Layout]:
    """The layer of each node, in the graph's order, and the layout of the output."""
    order, late = schedule(nodes, edges)
    on_time = [edge for edge in edges if edge not in set(late)]
    fed: dict[str, Layout] = {}
    put_out = {INPUT: first}
    layers: dict[str, Any] = {}
    for name in [*order, OUTPUT]:
        fed[name] = put_out[sources(name, on_time)[0]]
        if name == OUTPUT:
            break
        meets = [fed[target] for target in targets(name, late)]
        try:
            layers[name], put_out[name] = read_node(
                nodes[name], fed[name], meets[0] if meets else None, choices
            )
        except (TypeError, ValueError, OverflowError, ZeroDivisionError) as error:
            raise ValueError(f"node {name!r} ({type(nodes[name]).__name__}): {error}") from error
    for a, b in edges:
        if not put_out[a].agrees(fed[b]):
            raise ValueError(
                f"{b!r} is fed shape {put_out[a].nir_shape} by {a!r} and {fed[b].nir_shape} by "
                "others, or a Flatten of images has changed the order of one of the two"
            )
    return {name: layers[name] for name in nodes}, fed[OUTPUT]


def _flat(nir: Any, graph: Any) -> tuple[dict[str, Any], list[Edge]]:
    """The nodes and edges of a graph, graphs within it taken apart."""
    nodes: dict[str, Any] = {}
    edges: list[Edge] = [(str(a), str(b)) for a, b in graph.edges]
    for name, node in graph.nodes.items():
        if not isinstance(node, nir.NIRGraph):
            nodes[str(name)] = node
            continue
        inner_nodes, inner_edges = _flat(nir, node)
        into, out = (_only_one(inner_nodes, kind, name) for kind in (nir.Input, nir.Output))
        nodes |= {
            f"{name}.{k}": inside for k, inside in inner_nodes.items() if k not in (into, out)
        }
        within = [(f"{name}.{a}", f"{name}.{b}") for a, b in inner_edges]
        into, out = f"{name}.{into}", f"{name}.{out}"
        edges = [(out if a == name else a, into if b == name else b) for a, b in edges] + within
        for end in (into, out):  # what comes to it goes on from it
            coming, going = sources(end, edges), targets(end, edges)
            edges = [edge for edge in edges if end not in edge]
            edges += [(a, b) for a in coming for b in going]
    return nodes, edges


def _only_one(nodes: dict[str, Any], kind: type, graph: str = "the graph") -> str:
    names = [name for name, node in nodes.items() if isinstance(node, kind)]
    if len(names) != 1:
        raise ValueError(
            f"{graph} must have one {kind.__name__}, as a cell has one input and one output; it "
            f"has {len(names)}: {names}"
        )
    return names[0]


def _shape(kind: Any) -> tuple[int, ...] | None:
    """The one shape in an `input_type` or `output_type`."""
    values = [value for value in (kind or {}).values() if value is not None]
    if not values:
        return None
    numbers = np.asarray(values[0])
    if numbers.dtype.kind not in "iu" or numbers.ndim != 1 or np.any(numbers < 1):
        raise ValueError(f"a shape must be a row of integers of at least 1, got {values[0]!r}")
    return tuple(int(number) for number in numbers)
