"""`Graph`: a cell made of layers that are connected in any way, with sums where edges meet."""

import copy
import functools
import operator
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsnn import _checks
from jaxsnn.interop.nir._order import INPUT, OUTPUT, Edge, check, schedule, sources, targets
from jaxsnn.nn._cell import Carry, Cell, check_call, feature_axes, first_carry, is_cell
from jaxsnn.nn._folding import Waiting, fold, named, refuse
from jaxsnn.nn._mode import NOTHING, Mode, Seen, join
from jaxsnn.nn._run import run, step


class GraphState(NamedTuple):
    """State of a `Graph`.

    Attributes:
        cells: the carry of each layer, in the order of `Graph.names`.
        late: what the edges that take a time step carry, by the node that they start from.
    """

    cells: tuple[Carry, ...]
    late: dict[str, jax.Array]


class Graph(Cell):
    """Layers, and edges between them: the input of a layer is the sum of what its edges bring.

    An edge brings the output of the same time step. Only in a cycle some bring that of the step
    before: those that lead back to the node where signals enter the cycle, of which there must be
    one. Before the first step a layer with state has put out 0, one without what it makes of 0.

    Args:
        layers: cells and stateless layers by name.
        edges: pairs of names, from and to; `"input"` and `"output"` are those of the graph.

    Carry: `GraphState(cells, late)`.

    Raises:
        TypeError: a layer is not callable.
        ValueError: a name is `"input"` or `"output"`, an edge has an end that is not there or
            stands there twice, a layer lies on no way from input to output, or a cycle is
            entered at more than one layer; when run, if shapes do not fit.

    Examples:
        A residual block:

        >>> edges = [("input", "branch"), ("branch", "fire"), ("input", "fire"), ("fire", "output")]
        >>> layers = {"branch": nn.Linear(3, 3, rngs=nnx.Rngs(0)), "fire": nn.LIFNode()}
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

    def initialize_carry(
        self,
        input_shape: tuple[int, ...],
        rngs: nnx.Rngs | nnx.RngStream | None = None,
        *,
        dtype: Any = jnp.float32,
    ) -> GraphState:
        """The first carry of each layer, and what the late edges bring to the first step."""
        before = {INPUT: jnp.zeros(input_shape, dtype)}  # outputs before the first step
        carries: dict[str, Carry] = {}
        for name in self._order:
            layer, fed_late = self._layer(name), bool(sources(name, self._late))
            x = self._gather(name, before, None)
            carries[name] = first_carry(layer, x, rngs) if is_cell(layer) else ()
            y = jax.eval_shape(functools.partial(step, layer, mode=Mode()), carries[name], x)[1]
            if is_cell(layer) or fed_late:
                before[name] = jnp.zeros(y.shape, y.dtype)
            else:
                before[name] = step(layer, (), x, Mode())[1]
        late = {a: before[a] for a, _ in self._late}
        return GraphState(tuple(carries[name] for name in self.names), late)

    def __call__(
        self, carry: GraphState, x: jax.Array = _checks.REQUIRED
    ) -> tuple[GraphState, jax.Array]:
        check_call(self, x)
        carry, y, _ = Graph._one_step(self, carry, x, Mode())
        return carry, y

    def _one_step(self, carry: GraphState, x: jax.Array, mode: Mode) -> tuple[Any, jax.Array, Seen]:
        return self._pass(step, self._check(carry), x, mode)

    def _over_time(self, carry: Carry, xs: jax.Array, mode: Mode) -> tuple[Any, jax.Array, Seen]:
        """Layer by layer, or with cycles step by step."""
        if self._late:
            return super()._over_time(carry, xs, mode)
        if carry is None:
            carry = GraphState((None,) * len(self.names), {})
        return self._pass(run, self._check(carry), xs, mode)

    def _pass(
        self, go: Any, carry: GraphState, x: jax.Array, mode: Mode
    ) -> tuple[GraphState, jax.Array, Seen]:
        """Each layer once, by `go`, which is `run` for all steps or `step` for one."""
        x = jnp.asarray(x)
        _checks.floating("the input x of Graph", x)
        outputs = {INPUT: x}
        carries = dict(zip(self.names, carry.cells, strict=True))
        seen = NOTHING
        for name in self._order:
            inputs = self._gather(name, outputs, carry.late)
            carries[name], outputs[name], here = go(
                self._layer(name), carries[name], inputs, mode.at(name)
            )
            seen |= here
        late = {name: outputs[name].astype(y.dtype) for name, y in carry.late.items()}
        y = self._gather(OUTPUT, outputs, {})
        return GraphState(tuple(carries[name] for name in self.names), late), y, seen

    def _gather(
        self, name: str, outputs: dict[str, jax.Array], late: dict[str, jax.Array] | None
    ) -> jax.Array:
        """What the edges bring to a node, added up in their order; `late=None` leaves those out."""
        brought = []
        for edge in self.edges:
            if edge[1] == name and (late is not None or edge not in self._late):
                brought.append(late[edge[0]] if late and edge in self._late else outputs[edge[0]])
        shapes = {tuple(a.shape) for a in brought}
        if len(shapes) > 1:
            late_too = bool(sources(name, self._late))
            raise ValueError(
                f"the edges to {name!r} of Graph bring different shapes, {sorted(shapes)}, which "
                f"cannot be added: {sources(name, self.edges)}"
                + ("; for a new batch start from a fresh state (carry=None)" if late_too else "")
            )
        return functools.reduce(operator.add, brought)

    def _fold_batch_norm(self, path: str, waiting: tuple[Waiting, ...]) -> Any:
        """Without normalisations that the layers before them have taken up; see `fold`."""
        layers = self._children()
        waits = {OUTPUT: waiting}
        for name in [*reversed(self._order), INPUT]:
            after = targets(name, self.edges)
            waiting = next((waits[target] for target in after if waits.get(target)), ())
            if len(after) > 1 or len(sources(after[0], self.edges)) > 1:
                refuse(waiting, f"other edges of {named(self, path)} start or end between them")
            if name != INPUT:
                layers[name], waits[name] = fold(layers[name], join(path, name), waiting)
        if all(layers[name] is layer for name, layer in zip(self.names, self.layers, strict=True)):
            return self, waiting
        edges = list(self.edges)
        for name in (name for name in self._order if layers[name] is None):
            (before,) = sources(name, edges)
            if any(a == name for a, _ in self._late) and sources(before, self._late):
                refuse(
                    (Waiting(self._layer(name), join(path, name)),),
                    f"its output is what this loop of {named(self, path)} begins with",
                )
            edges = [(before if a == name else a, b) for a, b in edges if b != name]
        graph = copy.copy(self)
        Graph.__init__(graph, {n: a for n, a in layers.items() if a is not None}, edges)
        return graph, waiting

    def _children(self) -> dict[str, Any]:
        return dict(zip(self.names, self.layers, strict=True))

    def _layer(self, name: str) -> Any:
        return self.layers[self.names.index(name)]

    def _check(self, carry: Any) -> GraphState:
        if not isinstance(carry, GraphState) or len(carry.cells) != len(self.names):
            raise ValueError(
                f"the carry of a Graph of {len(self.names)} layers must be GraphState(cells, "
                f"late) with as many cells, got {jax.tree.structure(carry)}; start from "
                "initialize_carry(x.shape) or hand on the last carry"
            )
        late = {a for a, _ in self._late}
        if set(carry.late) != late:
            raise ValueError(
                f"the carry of this Graph needs late outputs of {sorted(late)}, got those of "
                f"{sorted(carry.late)}; start from initialize_carry(x.shape)"
            )
        return carry

    def _feature_axes(self) -> int | None:
        known = (feature_axes(layer) for layer in self.layers)
        return next((axes for axes in known if axes is not None), None)
