"""Layers of ours as nodes and edges of NIR."""

import operator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxsnn import nn
from jaxsnn._graphs import INPUT, OUTPUT, sources
from jaxsnn._parameters import standardized
from jaxsnn._parts import join, named
from jaxsnn.interop._leaky import Leaky
from jaxsnn.interop.nir._convolutions import conv_to_nir, pool_to_nir
from jaxsnn.interop.nir._equations import NEURONS, equation_of
from jaxsnn.interop.nir._layers import Scale, SumPool, Threshold
from jaxsnn.interop.nir._layout import Layout, finite, kernel_to_nir, weights
from jaxsnn.interop.nir._leaky import neuron_of_leaky
from jaxsnn.interop.nir._notes import KEY, learned_notes, notes_of
from jaxsnn.interop.nir._products import product_notes
from jaxsnn.interop.nir._settings import array_of
from jaxsnn.interop.nir._synapses import Synaptic, in_nodes, with_current
from jaxsnn.interop.nir._ways_out import way_out
from jaxsnn.nn import Graph

SUMS = (operator.add, jnp.add, np.add)


class Flow(NamedTuple):
    """The input of a layer: the nodes whose outputs are added, and their layout."""

    sources: tuple[str, ...]
    layout: Layout


class Writer:
    """Writes layers to `nodes` and `edges`."""

    def __init__(self, nir: Any, dt: float, soft_reset: bool) -> None:
        self.nir, self.dt, self.soft_reset = nir, dt, soft_reset
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.named: Exception | None = None  # that says which layer it is about

    def write(self, layer: Any, path: str, flow: Flow) -> Flow:
        """Writes a layer, and returns what it feeds to the next."""
        try:
            return self._write(layer, path, flow)
        except (TypeError, ValueError) as error:
            if error is self.named:
                raise
            kind = TypeError if isinstance(error, TypeError) else ValueError
            joined = f"{layer.name} at {path!r}" if type(layer) is Synaptic else named(layer, path)
            self.named = kind(f"{joined}: {error}")
            raise self.named from error

    def _write(self, layer: Any, path: str, flow: Flow) -> Flow:
        kind, before = type(layer), flow.layout
        if kind is nn.Sequential:
            for k, inside in in_nodes(layer.layers):
                flow = self.write(inside, join(path, k), flow)
            return flow
        if kind is Graph:
            return self._write_graph(layer, path, flow)
        if kind is nn.ElementWiseRecurrentContainer:
            return self._write_sum_container(layer, path, flow)
        if kind is nn.LinearRecurrentContainer:
            return self._write_linear_container(layer, path, flow)
        if kind in (nn.contrib.WSLinear, nn.contrib.WSConv):
            layer = standardized(layer)
        if kind in (*NEURONS, Leaky, Synaptic):
            return self._node(path, self._neuron(layer, before), flow, before)
        if kind in (nn.Linear, nn.contrib.WSLinear, nnx.Linear):
            bias = None if layer.bias is None else layer.bias[...]
            return self._linear(path, layer.kernel[...], bias, flow, notes=product_notes(layer))
        if kind in (nn.Conv, nn.contrib.WSConv, nnx.Conv):
            node, after = conv_to_nir(self.nir, layer, before)
            return self._node(path, node, flow, after)
        if kind in (nn.AvgPool, SumPool):
            node, after = pool_to_nir(self.nir, layer, before)
            return self._node(path, node, flow, after)
        if kind is nn.Flatten:
            node = self.nir.Flatten(np.array(before.nir_shape), 0, -1)
            return self._node(path, node, flow, before.flat())
        if kind is nn.Delay:
            delay = np.full(before.nir_shape, layer.delay_steps * self.dt)
            return self._node(path, self.nir.Delay(delay), flow, before)
        if kind is Scale:
            scale = weights("scale", layer.scale[...])
            if scale.shape != before.shape:
                raise ValueError(f"scale has shape {scale.shape}, its input {before.shape}")
            return self._node(path, self.nir.Scale(before.to_nir(scale)), flow, before)
        if kind is Threshold:
            threshold = _full(layer.threshold, before, "threshold")
            notes = {KEY: notes_of(layer, spikes=True)}
            node = self.nir.Threshold(threshold, metadata=notes)
            return self._node(path, node, flow, before)
        raise TypeError(f"NIR has no node for it; {way_out(layer)}")

    def _node(self, path: str, node: Any, flow: Flow, after: Layout) -> Flow:
        name = path or type(node).__name__.lower()
        if name in self.nodes:
            raise ValueError(f"two layers would be called {name!r}; rename one")
        # NIR would work them out, but not those of a kernel that is not square, or in groups.
        node.input_type = {"input": np.array(flow.layout.nir_shape)}
        node.output_type = {"output": np.array(after.nir_shape)}
        self.nodes[name] = node
        self.edges += [(source, name) for source in flow.sources]
        return Flow((name,), after)

    def _neuron(self, cell: Any, layout: Layout) -> Any:
        cell, synapse = (cell.neuron, cell.synapse) if type(cell) is Synaptic else (cell, None)
        soft = "v_reset=None"
        if type(cell) is Leaky:
            cell, soft = neuron_of_leaky(cell, self.dt, layout.shape), "reset_mechanism='subtract'"
        kind, fields = equation_of(cell, self.dt)
        if synapse is not None:
            kind, fields = with_current(kind, fields, synapse, self.dt)
        spikes = kind.endswith("F")
        if spikes and cell.v_reset is None and not self.soft_reset:
            raise ValueError(
                f"{soft} is a soft reset, which NIR does not know; soft_reset=True writes "
                "it as a reset to 0 with a note for from_nir, which other readers pass over"
            )
        notes = notes_of(cell, spikes=spikes)
        if synapse is None:  # the cell that comes back has other constants than these two
            notes |= learned_notes(cell)
        arrays = {name: _full(value, layout, name) for name, value in fields.items()}
        return getattr(self.nir, kind)(**arrays, metadata={KEY: notes} if notes else {})

    def _linear(
        self,
        path: str,
        kernel: Any,
        bias: Any,
        flow: Flow,
        after: Layout | None = None,
        notes: dict[str, Any] | None = None,
    ) -> Flow:
        before = flow.layout
        kernel = weights("kernel", kernel)
        if before.shape != kernel.shape[:1]:
            raise ValueError(
                f"NIR's Linear and Affine take one axis of {kernel.shape[0]} features, but the "
                f"input of this layer has shape {list(before.shape)} a step; put a Flatten before "
                "it, or correct input_shape"
            )
        after = after or Layout(kernel.shape[1:])
        weight, metadata = kernel_to_nir(kernel, before, after), {KEY: notes} if notes else {}
        if bias is None:
            node = self.nir.Linear(weight, metadata=metadata)
        else:
            node = self.nir.Affine(weight, after.to_nir(weights("bias", bias)), metadata=metadata)
        return self._node(path, node, flow, after)

    def _write_sum_container(self, layer: Any, path: str, flow: Flow) -> Flow:
        f = layer.element_wise_function
        if not any(f is known for known in SUMS):
            raise ValueError(
                f"element_wise_function={getattr(f, '__name__', f)!r} has no NIR node: where edges "
                "meet NIR adds; only operator.add and jnp.add can be written"
            )
        before = flow.layout
        loop = self._loop(path)
        flow = Flow((loop, *flow.sources), before)
        return self._close(
            loop, self.write(layer.sub_module, join(path, "sub_module"), flow), before
        )

    def _write_linear_container(self, layer: Any, path: str, flow: Flow) -> Flow:
        loop, name = self._loop(path), join(path, "rc")
        kernel, notes = layer.rc.kernel[...], product_notes(layer.rc)
        bias = None if layer.rc.bias is None else layer.rc.bias[...]
        if not layer.feedback_only:
            kernel, of_input = kernel[layer.in_features :], kernel[: layer.in_features]
            part = {**notes, "part_of": name}
            flow = self._linear(join(path, "rc_input"), of_input, bias, flow, notes=part)
            bias = None
        i = flow.layout
        if i.shape != (layer.in_features,):
            raise ValueError(
                f"in_features={layer.in_features}, but its input has shape {list(i.shape)} a step"
            )
        same = layer.in_features == layer.out_features  # then y may be in the order of i
        y = i if same else Layout((layer.out_features,))
        rc = self._linear(name, kernel, bias, Flow((loop,), y), after=i, notes=notes)
        into = Flow((*flow.sources, *rc.sources), i)
        return self._close(loop, self.write(layer.sub_module, join(path, "sub_module"), into), y)

    def _loop(self, path: str) -> str:
        """A stand-in for the nodes that will be fed back."""
        return f"<feedback of {path}>"

    def _close(self, loop: str, end: Flow, wanted: Layout) -> Flow:
        """Puts the nodes that are fed back in the place of the stand-in."""
        if not end.layout.agrees(wanted):
            raise ValueError(
                f"shape {list(end.layout.shape)} (a step) is fed back to where there is "
                f"{list(wanted.shape)}, or a Flatten of images within it changes the "
                "order of the elements; put a Linear after the Flatten"
            )
        if loop in end.sources:
            raise ValueError("there are no layers inside, so that there is nothing to feed back")
        edges = []
        for a, b in self.edges:
            edges += [(source, b) for source in end.sources] if a == loop else [(a, b)]
        self.edges = edges
        return end

    def _write_graph(self, graph: Graph, path: str, flow: Flow) -> Flow:
        flows = {INPUT: flow}
        late = {name: f"<output of {join(path, name)}>" for name, _ in graph._late}
        fed: dict[str, Layout] = {}
        for name in graph._order:
            into = self._join(graph, name, flows, late)
            fed[name] = into.layout
            flows[name] = self.write(graph._layer(name), join(path, name), into)
        for a, b in graph._late:
            self._close(late[a], flows[a], fed[b])
        return self._join(graph, OUTPUT, flows, late)

    def _join(self, graph: Graph, name: str, flows: dict[str, Flow], late: dict[str, str]) -> Flow:
        on_time = [a for a in sources(name, graph.edges) if (a, name) not in graph._late]
        layout = flows[on_time[0]].layout
        for other in on_time:
            if not flows[other].layout.agrees(layout):
                raise ValueError(
                    f"the edges to {name!r} bring shapes {[flows[a].layout.shape for a in on_time]}"
                    " (a step), or a Flatten of images has changed the order of one of them; put a "
                    "Linear after the Flatten"
                )
        feeding: list[str] = []
        for a in sources(name, graph.edges):
            feeding += [late[a]] if (a, name) in graph._late else flows[a].sources
        if len(set(feeding)) < len(feeding):
            raise ValueError(f"one node feeds {name!r} twice, which NIR does not know")
        return Flow(tuple(feeding), layout)


def _full(value: Any, layout: Layout, name: str) -> np.ndarray:
    """A setting or constant as one number for each neuron, in NIR's layout."""
    array = finite(name, array_of(value))
    try:
        array = np.broadcast_to(array, layout.shape)
    except ValueError:
        raise ValueError(
            f"{name} has shape {array.shape}, which does not broadcast to its input {layout.shape}"
        ) from None
    return layout.to_nir(np.array(array))
