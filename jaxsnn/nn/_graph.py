"""`Graph`: layers that are connected in any way, with sums where edges meet."""

import functools
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsnn import _checks
from jaxsnn._carries import refuse_carry
from jaxsnn._graphs import INPUT, OUTPUT, Edge, check, schedule, sources
from jaxsnn.nn._module import FindFirst, Module
from jaxsnn.nn._run import Carry, Run, Streams, first_carry, is_cell


class Graph(Module):
    """Layers and edges between them: the input of a layer is the sum of the outputs it is fed.

    An edge passes the output of the same time step. Only in a cycle some edges pass the output of
    the step before: those that lead back to the node where signals enter the cycle, of which there
    must be one. Before the first step the output of a layer with state is 0, and the output of a
    layer without state is what it makes of 0. A graph with a cycle runs step by step.

    Args:
        layers: cells and stateless layers by name.
        edges: pairs of names, from and to; `"input"` and `"output"` are those of the graph.

    Carry: a tuple with the carry of each layer in the order in which they run. With a cycle it is
    `(carries, late)`, `late` the outputs that take a time step, by the layer that they come from.

    Raises:
        TypeError: a layer is not callable.
        ValueError: a name is `"input"` or `"output"`, an edge has an end that does not
            exist or is given twice, a layer is on no path from input to output, or a cycle is
            entered at more than one layer; when run, if shapes do not fit.

    Examples:
        A residual block:

        >>> edges = [("input", "branch"), ("branch", "fire"), ("input", "fire"), ("fire", "output")]
        >>> layers = {"branch": Linear(3, 3, rngs=nnx.Rngs(0)), "fire": LIFNode()}
        >>> _, spikes = unroll(Graph(layers, edges), jnp.ones((5, 2, 3)))
        >>> spikes.shape
        (5, 2, 3)
    """

    printed = ("names", "edges")

    def __init__(self, layers: Mapping[str, Any], edges: Sequence[Edge]) -> None:
        self.names = tuple(layers)
        self.edges: tuple[Edge, ...] = tuple((str(a), str(b)) for a, b in edges)
        for name, layer in layers.items():
            if name in (INPUT, OUTPUT):
                raise ValueError(f"a layer of Graph cannot be called {name!r}; rename it")
            _checks.function(f"layer {name!r} of Graph", layer)
        check(self.names, self.edges)
        order, late = schedule(self.names, self.edges)
        self._order, self._late = tuple(order), tuple(late)
        self.layers = nnx.List(layers.values())

    def initialize_carry(  # type: ignore[misc]  # with a cycle not that of the parts alone
        self, input_shape: tuple[int, ...], rngs: Streams = None, *, dtype: Any = jnp.float32
    ) -> Carry:
        """The first carry of each layer, and the late outputs before the first step."""
        if not self._late:
            return super().initialize_carry(input_shape, rngs, dtype=dtype)
        before = {INPUT: jnp.zeros(input_shape, dtype)}  # outputs before the first step
        carries: list[Carry] = []
        for name in self._order:
            layer, fed_late = self._layer(name), bool(sources(name, self._late))
            x = self._gather(name, before, None)
            carries.append(first_carry(layer, x, rngs))
            y = jax.eval_shape(functools.partial(_output, layer), x)
            if is_cell(layer) or fed_late:
                before[name] = jnp.zeros(y.shape, y.dtype)
            else:
                before[name] = _output(layer, x)
        return tuple(carries), {a: before[a] for a, _ in self._late}

    def forward(self, x: Any, run: Run) -> Any:
        return self._gather(OUTPUT, self._outputs(x, run, {}), {})

    def _run(self, carry: Carry, x: Any, run: Run) -> tuple[Carry, Any]:
        if not self._late:
            return super()._run(carry, x, run)
        if run.steps:
            return run._scan(self._run, carry, x)
        carries, before = self._check(carry)
        run._begin(self, carries)
        outputs = self._outputs(x, run, before)
        late = {name: outputs[name].astype(y.dtype) for name, y in before.items()}
        return (run._end(), late), self._gather(OUTPUT, outputs, {})

    @property
    def _carry_of_its_own(self) -> bool:
        return bool(self._late)

    def _outputs(self, x: Any, run: Run, late: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """The outputs of all layers, by name."""
        x = jnp.asarray(x)
        _checks.floating("the input x of Graph", x)
        outputs = {INPUT: x}
        for name in self._order:
            inputs = self._gather(name, outputs, late)
            outputs[name] = run._part(name, self._layer(name), inputs)
        return outputs

    def _gather(
        self, name: str, outputs: dict[str, jax.Array], late: dict[str, jax.Array] | None
    ) -> jax.Array:
        """The sum of a node's inputs in the order of edges; `late=None` leaves late ones out."""
        brought = []
        for edge in self.edges:
            if edge[1] == name and (late is not None or edge not in self._late):
                brought.append(late[edge[0]] if late and edge in self._late else outputs[edge[0]])
        shapes = {tuple(a.shape) for a in brought}
        if len(shapes) > 1:
            late_too = bool(sources(name, self._late))
            raise ValueError(
                f"the edges to {name!r} of Graph pass different shapes, {sorted(shapes)}, which "
                f"cannot be added: {sources(name, self.edges)}"
                + ("; for a new batch start from a fresh state (carry=None)" if late_too else "")
            )
        return functools.reduce(operator.add, brought)

    def _children(self) -> dict[str, Any]:
        return dict(zip(self.names, self.layers, strict=True))

    def _layer(self, name: str) -> Any:
        return self.layers[self.names.index(name)]

    def _check(self, carry: Carry) -> tuple[Any, dict[str, jax.Array]]:
        names = {a for a, _ in self._late}
        pair = isinstance(carry, tuple | list) and len(carry) == 2
        if not pair or not isinstance(carry[1], dict) or set(carry[1]) != names:
            refuse_carry(self, f"(carries, late) with the late outputs of {sorted(names)}", carry)
        return carry[0], carry[1]


def _output(layer: Any, x: jax.Array) -> jax.Array:
    """The output of the first step."""
    return FindFirst(steps=False)._go("", layer, None, x)[1]
