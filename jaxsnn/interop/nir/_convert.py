"""`to_nir` and `from_nir`: a module of ours as a NIR graph, and a NIR graph as a module of ours."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from jaxsnn import _checks
from jaxsnn._graphs import INPUT, OUTPUT, Edge, check, schedule, sources, targets
from jaxsnn.interop.nir._assemble import Layers, Link, assemble, inside_module, take_apart
from jaxsnn.interop.nir._cells import Strict
from jaxsnn.interop.nir._file import package, read
from jaxsnn.interop.nir._layers import LAYERS, REMEDIES, sides_of
from jaxsnn.interop.nir._neurons import NEURONS, RESETS
from jaxsnn.interop.nir._node import KEY, Layout, Reading, Writing, notes_of
from jaxsnn.nn import Cell

TABLE = (*NEURONS, *LAYERS)
WRITE = {layer: row.write for row in TABLE for layer in row.layers}
READ = {node: row.read for row in TABLE for node in row.nodes}


def to_nir(
    module: Any, input_shape: Sequence[int], *, dt: float = 1e-4, soft_reset: bool = False
) -> Any:
    """A module as a NIR graph; `nir.write(path, graph)` puts it into a file.

    Nodes are named by the paths of the layers. The recurrent containers become cycles, a
    `Graph` becomes its nodes and edges. The time constants of the graph are those of the network
    times `dt`, which its metadata keep for `from_nir`.

    Constants of neurons are written as one number per neuron, arrays and learned ones too.

    NIR describes a trained network. Settings of the training are written as metadata, which other
    readers pass over: the surrogate (only the name of a custom one), `detach_reset`, the parameters
    and bounds of learned constants (not those of two layers that become one node), and that a
    potential equal to the threshold fires, which in NIR it does not. `dtype` and `precision` of
    layers that multiply are written there, too.

    Args:
        module: a cell or a layer: of `jaxsnn.nn` `Sequential`, both recurrent containers, `Linear`,
            `Conv` of one or two axes, `WSLinear` and `WSConv` with their standardised weights,
            `AvgPool` of two axes, `Flatten`, `Delay`, `IFNode`, `LIFNode`, `ParametricLIFNode`,
            `CUBALIFNode`, `NonSpikingIFNode`, `NonSpikingLIFNode` and `Graph`; of this module
            `Neuron`, `Threshold`, `Scale` and `SumPool`; of `jaxsnn.interop.snntorch` `Leaky`; and
            Flax's `Linear` and `Conv`. An `ExponentialSynapse` is written with the `LIFNode`,
            `NonSpikingLIFNode` or `Leaky` right after it in a `Sequential`.
            `jaxsnn.nn.fold_batch_norm` puts batch normalisations into the layers before them.
        input_shape: shape of the input of one time step without its batch axis, e.g. `(28,)` or,
            channels last, `(28, 28, 1)`.
        dt: seconds in a time step.
        soft_reset: whether neurons with the soft reset may be written. NIR does not know it:
            they become nodes with a `v_reset` of 0 and the soft reset in their metadata, where
            other readers do not find it.

    Returns:
        A `nir.NIRGraph`, its shapes channels first.

    Raises:
        ImportError: the package `nir` is not installed.
        TypeError: a layer has no NIR node; the message has its path and what to do.
        ValueError: a layer has one, but not with these settings; parameters are not finite, or
            shapes do not fit.

    Examples:
        >>> graph = to_nir(nn.Sequential(nn.Linear(4, 2, rngs=nnx.Rngs(0)), nn.IFNode()), (4,))
        >>> graph.edges
        [('input', '0'), ('0', '1'), ('1', 'output')]
    """
    nir = package()
    dt = _checks.positive("dt", dt)
    if not isinstance(input_shape, Sequence):
        raise TypeError(f"input_shape must be a shape, e.g. (28,), got {input_shape!r}")
    shape = tuple(_checks.size("input_shape", side) for side in input_shape)
    if not 1 <= len(shape) <= 3:
        raise ValueError(f"input_shape must have one to three axes and no batch, got {list(shape)}")
    first = Layout(shape)
    how = Writing(dt, _checks.boolean("soft_reset", soft_reset), first)

    def write(layer: Any, before: Layout, after: Layout | None) -> tuple[Any, Layout]:
        if type(layer) not in WRITE:
            raise TypeError(f"NIR has no node for it; {_remedy(layer)}")
        made = WRITE[type(layer)](layer, how._replace(before=before, after=after))
        metadata = {KEY: made.notes} if made.notes else {}
        node = getattr(nir, made.kind)(**made.fields, metadata=metadata)
        # NIR would work them out, but not those of a kernel that is not square, or in groups.
        node.input_type = {"input": np.array(before.nir_shape)}
        node.output_type = {"output": np.array(made.after.nir_shape)}
        return node, made.after

    layers, links = take_apart(inside_module, module)
    written, last = _walk(layers, links, first, write)
    names = {name: name or type(node).__name__.lower() for name, node in written.items()}
    nodes = {INPUT: nir.Input(np.array(first.nir_shape))}
    nodes |= {names[name]: node for name, node in written.items()}
    nodes[OUTPUT] = nir.Output(np.array(last.nir_shape))
    edges = [(names.get(a, a), names.get(b, b)) for a, b, _ in links]
    edges = [(a, b) for b in nodes for a in sources(b, edges)]
    return nir.NIRGraph(nodes, edges, {KEY: {"dt": dt}}, type_check=False)


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
    if reset not in (None, *RESETS):
        raise ValueError(f"reset must be one of {RESETS} or None, got {reset!r}")

    def optional(check: Callable[[str, Any], Any], name: str, value: Any) -> Any:
        return None if value is None else check(name, value)

    dt = optional(_checks.positive, "dt", dt)
    optional(_checks.boolean, "fires_at_threshold", fires_at_threshold)
    optional(_checks.boolean, "detach_reset", detach_reset)
    function = optional(_checks.function, "surrogate_function", surrogate_function)
    if isinstance(function, Strict):
        if fires_at_threshold:
            raise ValueError(f"fires_at_threshold=True contradicts surrogate_function={function}")
        fires_at_threshold, function = False, function.surrogate
    path = graph if isinstance(graph, str | os.PathLike) else None
    if path is not None:
        graph = read(path)
    if not isinstance(graph, nir.NIRGraph):
        raise TypeError(f"graph must be a nir.NIRGraph or the path of a file, got {type(graph)}")
    try:
        if dt is None and "dt" in notes_of(graph):
            dt = _checks.positive("its metadata 'dt'", notes_of(graph)["dt"])
        how = Reading(dt, reset, fires_at_threshold, function, detach_reset, param_dtype)
        return _read_graph(nir, graph, how)
    except (TypeError, ValueError) as error:
        raise ValueError(str(error) if path is None else f"{path}: {error}") from error


def _read_graph(nir: Any, graph: Any, how: Reading) -> Cell:
    def inside(node: Any, path: str) -> tuple[Mapping[str, Any], Sequence[Edge]] | None:
        """The nodes of a graph but its ends, and the edges."""
        if not isinstance(node, nir.NIRGraph):
            return None
        kinds = ((nir.Input, INPUT), (nir.Output, OUTPUT))
        ends = {_end(kind, called, node, path): called for kind, called in kinds}
        nodes = {str(name): part for name, part in node.nodes.items() if name not in ends}
        return nodes, [(ends.get(a, str(a)), ends.get(b, str(b))) for a, b in node.edges]

    def read_node(node: Any, before: Layout, after: Layout | None) -> tuple[Any, Layout]:
        at = how._replace(node=node, before=before, after=after)
        if at.kind not in READ:
            raise ValueError(f"this version of jaxsnn does not know the node type {at.kind}")
        return READ[at.kind](at)

    nodes, links = take_apart(inside, graph)
    start = _shape(graph.nodes[_end(nir.Input, INPUT, graph)].input_type)
    expected = _shape(graph.nodes[_end(nir.Output, OUTPUT, graph)].output_type)
    if start is None or not 1 <= len(start) <= 3:
        raise ValueError(f"the Input needs a shape of one to three axes, got {start}")
    first = Layout((*start[1:], *start[:1]))
    layers, last = _walk(nodes, links, first, read_node)
    if expected is not None and expected != last.nir_shape:
        raise ValueError(f"the Output has shape {expected}, but what reaches it {last.nir_shape}")
    parts = {name: str(part) for name in nodes if (part := notes_of(nodes[name]).get("part_of"))}
    return assemble(layers, [(a, b) for a, b, _ in links], parts)


def _walk(
    layers: Layers,
    links: list[Link],
    first: Layout,
    convert: Callable[[Any, Layout, Layout | None], tuple[Any, Layout]],
) -> tuple[Layers, Layout]:
    """Converts each layer after those that feed it, and returns the layout of the output too.

    Args:
        layers: by path.
        links: between them.
        first: the layout of the input of all.
        convert: converts a layer, of which it gets the layout of the input and the layout to which
            its output is fed back; returns the layout of the output too.
    """
    check(layers, [(a, b) for a, b, _ in links])
    on_time = [(a, b) for a, b, takes_time in links if not takes_time]
    late = [(a, b) for a, b, takes_time in links if takes_time]
    order, _ = schedule(layers, on_time)
    put_out, converted = {INPUT: first}, dict(layers)
    fed: dict[str, Layout] = {}
    for name in order:
        layer, fed[name] = layers[name], put_out[sources(name, on_time)[0]]
        after = next((fed[target] for target in targets(name, late)), None)
        try:
            converted[name], put_out[name] = convert(layer, fed[name], after)
        except (TypeError, ValueError, OverflowError, ZeroDivisionError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{_named(layer, name)}: {error}") from error
    fed[OUTPUT] = put_out[sources(OUTPUT, on_time)[0]]
    for a, b, _ in links:
        if not put_out[a].agrees(fed[b]):
            raise ValueError(
                f"{b!r} is fed shape {list(put_out[a].shape)} by {a!r} and {list(fed[b].shape)} by "
                "others, or one of these is a Flatten of images; put a Linear after the Flatten"
            )
    if fed[OUTPUT].order is not None:
        raise ValueError("NIR sorts a Flatten of images otherwise; put a Linear after it")
    return converted, fed[OUTPUT]


def _named(layer: Any, path: str) -> str:
    """The class of a layer, or the classes of two that are one node, and the path."""
    parts = layer if isinstance(layer, tuple) else (layer,)
    kinds = " and ".join(type(part).__name__ for part in parts if not isinstance(part, str))
    return f"{kinds} at {path!r}" if path else kinds


def _remedy(layer: Any) -> str:
    """The end of the error message for a layer that NIR has no node for."""
    for stack in ("fc", "stack"):
        if hasattr(layer, stack):
            return f"pass its layers, .{stack}; what is done with their outputs is not in NIR"
    otherwise = "to_nir says which layers it can write; replace it by one of them"
    return REMEDIES.get(type(layer).__name__, otherwise)


def _end(kind: type, called: str, graph: Any, path: str = "") -> Any:
    """The name of the one Input or Output of a graph."""
    names = [name for name, node in graph.nodes.items() if isinstance(node, kind)]
    if len(names) != 1 or called in graph.nodes.keys() - names:
        raise ValueError(
            f"{path or 'the graph'} must have one {kind.__name__}, and no other node called "
            f"{called!r}; it has {len(names)}: {names}"
        )
    return names[0]


def _shape(kind: Any) -> tuple[int, ...] | None:
    """The one shape in an `input_type` or `output_type`."""
    shape = next((value for value in (kind or {}).values() if value is not None), None)
    return None if shape is None else sides_of(shape, np.size(shape))
