"""`Run`: how a module is run, and the only way in which one module runs another."""

import contextvars
import copy
import dataclasses
import fnmatch
import functools
import re
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
from flax import nnx
from jax.extend.core import get_opaque_trace_state

from jaxsnn import _layout, functional
from jaxsnn._carries import refuse_carry
from jaxsnn._masks import hold, zero
from jaxsnn._parts import is_final, join, named, path_of
from jaxsnn.nn._stateless import run_stateless

Carry = Any  # a pytree of arrays; each cell defines its own
Streams = nnx.Rngs | nnx.RngStream | None  # random streams

_KEPT = jax.checkpoint_policies.save_from_both_policies(
    jax.checkpoint_policies.save_only_these_names(functional.KEPT),
    jax.checkpoint_policies.dots_saveable,
)

trained: contextvars.ContextVar[Any] = contextvars.ContextVar("trained", default=None)
"""The module that `unroll` trains."""


class Batch(NamedTuple):
    """Statistics of one batch: mean, unbiased variance, number of elements (0: all masked)."""

    mean: jax.Array
    var: jax.Array
    numbers: jax.Array


class Seen(NamedTuple):
    """The reports of the parts by their paths: records, and batches of normalisations."""

    records: dict[str, jax.Array]
    batches: dict[str, Batch]


@dataclasses.dataclass(kw_only=True, eq=False)
class Run:
    """How a module is being run. `run(part, x)` runs a part of the module in the same way.

    `Module.forward` gets one. A call takes the next entry of the module's carry and leaves the new
    one. Therefore the calls must be the same at every step, in training and in inference.

    Attributes:
        steps: whether `x` is a whole sequence `[T, ...]`; if not, it is one time step `[...]`.
        key: random key of the sequence in training, None in inference; see `draw`.
        mask: the steps that count, `[T, N]`, or `[N]` of one step; None for all.
        axis_name: the axis of a mesh over which the batch is divided, see `unroll`; or None.
        record: the paths of the values to record, see `unroll`.
    """

    steps: bool
    key: jax.Array | None = None
    mask: jax.Array | None = None
    axis_name: str | None = None
    record: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._whole = True  # whether a sequence is complete, not a stretch of one
        self._in_rows = True  # whether a row of element-wise cells is one scan
        self._path = ""  # of the module that is run
        self._there: set[str] = set()  # paths of all values that could be recorded
        self._masked: list[Any] = []  # outputs of modules that take care of the mask
        self._begin()
        self._open()

    @property
    def training(self) -> bool:
        """Whether this is training: dropout drops, normalisations use the batch."""
        # A module that asks, but has no key while `unroll` trains, was called without its `Run`.
        if self.key is None and (module := trained.get()) is not None:
            refuse_forgotten(self._owner, path_of(self._owner, module) or "", module)
        return self.key is not None

    def __call__(self, part: Any, x: Any) -> Any:
        """The output of a part of the module whose `forward` this is.

        Args:
            part: a cell, a module, a Flax layer, or a function of one time step.
            x: its input: all time steps `[T, ...]` or one, as `run.steps` says.

        Raises:
            TypeError: `part` is not callable.
            ValueError: the call is inside a transformation within `forward`, e.g. `jax.lax.scan`,
                has no entry in the carry, or `part` has variables that the module has not.
        """
        name = path_of(part, self._owner)
        if name is None:
            name = getattr(part, "__name__", type(part).__name__)
            own = {id(variable) for variable in jax.tree.leaves(self._owner)}
            leaves = jax.tree.leaves(part) if isinstance(part, nnx.Module) else []
            if self._owner is not None and not own.issuperset(map(id, leaves)):
                raise ValueError(
                    f"the {name} that {type(self._owner).__name__} runs has variables that are in "
                    "none of its attributes and would not be trained; make it in __init__"
                )
        return self._part(name, part, x)

    def draw(self, random: Callable[[jax.Array, tuple[int, ...]], Any], shape: Any) -> Any:
        """Random numbers in training: the same at every step of a sequence.

        They depend on the key of the sequence, the path of the module and the number of the call.
        If the batch is divided among devices, each gets its part of those of the whole batch.

        Args:
            random: `(key, shape) -> array`, or a pytree of arrays, e.g. `jax.random.normal`.
            shape: the shape, `[N, ...]`, N the number of sequences in `x`.

        Raises:
            ValueError: this is inference.
        """
        if self.key is None:
            raise ValueError("run.draw is for training; there are no random numbers in inference")
        name = self._path + self._named("").replace("#", ":")  # "#2" is the second call of a part
        key = jax.random.fold_in(self.key, zlib.crc32(name.encode()))
        if self.axis_name is None or not shape:
            return random(key, tuple(shape))
        numbers = random(key, (jax.lax.axis_size(self.axis_name) * shape[0], *shape[1:]))
        start = jax.lax.axis_index(self.axis_name) * shape[0]
        return jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, start, shape[0]), numbers)

    def require_whole_sequence(self, module: Any, *, masks: bool = False) -> None:
        """Raise unless `x` is a complete sequence; for modules that mix time steps.

        Args:
            module: the module, for the message.
            masks: whether the module takes care of `run.mask` itself, also in its outputs.

        Raises:
            ValueError: `x` is one step, a stretch of a sequence (`checkpoint_every`), or the rest
                of one (with a carry); or there is a mask.
        """
        self._masks_itself, cannot = masks, None
        if not self.steps:
            cannot = "run step by step, e.g. in a recurrent container; put it next to one"
        elif not self._whole:
            cannot = "run with checkpoint_every"
        elif self._entries is not None:
            cannot = "continue from the carry of earlier steps; pass None for this layer"
        elif self.mask is not None and not masks:
            cannot = "leave some out by mask; run sequences of one length together"
        if cannot:
            name = type(module).__name__
            raise ValueError(f"{name} needs all time steps together, so it cannot {cannot}")

    def _part(self, name: str, part: Any, x: Any) -> Any:
        """`run(part, x)` for a part that is called `name` in paths."""
        (before,) = self._next(1)
        after, y = self._go(self._named(name), part, before, x)
        self._after.append(after)
        return y

    def _go(self, name: str, part: Any, carry: Carry, x: Any) -> tuple[Carry, Any]:
        """Run a part from its own carry; for a sequence None is the first state."""
        if get_opaque_trace_state(convention="flax") != self._trace:
            raise ValueError(
                f"the forward of {type(self._owner).__name__} uses run inside a transformation, "
                "e.g. jax.lax.scan, jax.vmap or jax.jit, which states and statistics cannot leave; "
                "call run outside of it, or for a loop over time write an nn.Cell"
            )
        inside = self._inside(name)
        if self.steps and has_first_carry(part):
            carry = start(part, carry, x)
        if hasattr(part, "_run") and is_final(type(part).__call__):
            carry, y = part._run(carry, x, inside)
        elif is_cell(part):
            carry, y = run_cell(part, carry, x, inside)
        elif jax.tree.leaves(carry):
            raise ValueError(
                f"{type(part).__name__} has no state, so its carry must be () or None, got "
                f"{jax.tree.structure(carry)}"
            )
        else:
            carry, y = (), run_stateless(part, x, steps=self.steps)
        if inside._masks_itself:
            self._masked.append(y)
        if inside._path:
            inside._see("", y)
        return carry, y

    def _scan(self, step: Any, carry: Carry, xs: Any) -> tuple[Carry, Any]:
        """`_scanned`, whose reports become those of this run."""
        carry, ys, seen = self._scanned(step, carry, xs)
        self._take(seen)
        return carry, ys

    def _scanned(self, step: Any, carry: Carry, xs: Any) -> tuple[Carry, Any, Seen]:
        """`jax.lax.scan` of `step(carry, x, run of the step) -> (carry, y)` over all time steps.

        A masked step changes no state. For the backward pass the values that a step names
        (`functional.KEPT`) and products of matrices are kept, and the rest is computed again: for a
        neuron one float per step, where plain autodiff keeps several.
        """

        def body(carry: Carry, now: tuple[Any, jax.Array | None]) -> tuple[Carry, Any]:
            x, mask = now
            inside = self._changed(steps=False, mask=mask)
            after, y = step(carry, x, inside)
            return hold(mask, after, carry, self._path), (y, inside._seen)

        # prevent_cse guards against a merge of the two passes that cannot happen across a scan.
        kept = jax.checkpoint(body, policy=_KEPT, prevent_cse=False)
        carry, (ys, seen) = _layout.scan(kept, carry, (xs, self.mask))
        return carry, ys, seen

    def _take(self, seen: Seen) -> None:
        """Add the reports of all steps, `[T, ...]`, batches `[T, calls per step, ...]`."""
        self._seen.records.update(seen.records)
        for path, batches in seen.batches.items():
            flat = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), batches)
            before = [self._seen.batches[path]] if path in self._seen.batches else []
            self._seen.batches[path] = jax.tree.map(lambda *a: jnp.concatenate(a), *before, flat)

    def _see(self, name: str, value: Any) -> None:
        """Record a value of the module, its output without a name, if it is asked for."""
        path = f"{self._path}.{name}".strip(".")
        if self._wants(path):
            self._seen.records[path] = self._counted(value)

    def _counted(self, values: Any) -> Any:
        """All steps of a value, 0 where they do not count."""
        if self.mask is None or any(values is output for output in self._masked):
            return values
        return jax.tree.map(functools.partial(zero, self.mask), values)

    def _see_states(self, cell: Any, carry: Carry) -> None:
        """Record the arrays of a cell's carry, by their names."""
        for keys, state in jax.tree.leaves_with_path(carry):
            name = jax.tree_util.keystr(keys, simple=True, separator=".")
            self._see(name or getattr(cell, "state_name", "carry"), state)

    def _see_batch(self, batch: Batch) -> None:
        """Report a batch that a normalisation is trained on, for its running statistics."""
        # Of a layer that is called several times in a step, the batches of a step are in a row.
        path = self._root + re.sub(r"#\d+", "", self._path[len(self._root) :])
        self._take(Seen({}, {path: jax.tree.map(lambda a: a[None, None], batch)}))

    def _wants(self, path: str) -> bool:
        """Whether the value at a path is to be recorded."""
        self._there.add(path)
        return any(fnmatch.fnmatchcase(path, pattern) for pattern in self.record)

    def _open(self) -> None:
        """Collect the reports of a function that JAX traces; they leave it as results only."""
        self._trace = get_opaque_trace_state(convention="flax")
        # JAX sorts a dict; the batches must stay in the order of the calls.
        self._seen, self._root = Seen({}, OrderedDict()), self._path
        self._calls: dict[str, int] = {}  # by path

    def _begin(self, owner: Any = None, carry: Carry = None) -> None:
        """Begin the `forward` of a module; `carry` has one entry per call, None for all."""
        self._owner, self._entries = owner, carry
        self._after: list[Carry] = []
        self._masks_itself = False

    def _end(self) -> Carry:
        """The carry at the end of `forward`."""
        self._next(0)
        return tuple(self._after)

    def _next(self, parts: int) -> Sequence[Carry]:
        """The carries of the parts that are run next; 0 means that no more are run."""
        entries, stop = self._entries, len(self._after) + parts
        if entries is None:
            return [None] * parts
        count = len(entries) if isinstance(entries, tuple | list) else -1
        if count < stop or (parts == 0 and count > stop):
            expected = (
                "a tuple with one entry per part that its forward runs, which must be the same at "
                "every step, in training and in inference"
            )
            refuse_carry(self._owner, expected, entries)
        return entries[stop - parts : stop]

    def _named(self, name: str) -> str:
        """The name of a call: of the second call of a part it is `"part#2"`."""
        path = join(self._path, name)
        self._calls[path] = self._calls.get(path, 0) + 1
        return name if self._calls[path] == 1 else f"{name}#{self._calls[path]}"

    def _inside(self, name: str, **attributes: Any) -> Any:
        """The run of a part, or without a name of the same module, with other settings."""
        inside = copy.copy(self)
        vars(inside).update(attributes, _path=f"{self._path}.{name}".strip("."))
        inside._begin(self._owner)
        return inside

    def _changed(self, **attributes: Any) -> Any:
        """A run of the same module with other settings, which collects its own reports."""
        other = self._inside("", **attributes)
        other._open()
        return other


def is_cell(layer: Any) -> bool:
    """Whether `layer` carries state: our cells and Flax's do; any other callable does not."""
    return hasattr(layer, "initialize_carry") and getattr(layer, "carries_state", True)


def first_carry(part: Any, x: jax.Array | jax.ShapeDtypeStruct, rngs: Streams = None) -> Carry:
    """The first carry of a part for an input like `x` (one time step)."""
    if not is_cell(part):
        return ()
    if hasattr(part, "state_name"):  # ours
        return part.initialize_carry(x.shape, rngs, dtype=x.dtype)
    # Flax's cells ask for a random stream even to make zeros.
    return part.initialize_carry(x.shape, nnx.Rngs(0) if rngs is None else rngs)


def has_first_carry(part: Any) -> bool:
    """Whether the first carry of `part` is its own, and not just the first ones of its parts."""
    own = not (is_final(type(part).__call__) and is_final(getattr(part, "initialize_carry", None)))
    return is_cell(part) and getattr(part, "_carry_of_its_own", own)


def start(cell: Any, carry: Carry, xs: jax.Array) -> Carry:
    """`carry`, or the first one for the sequence `xs` if it is None."""
    if carry is None:
        carry = first_carry(cell, jax.ShapeDtypeStruct(xs.shape[1:], xs.dtype))
    return _layout.follow(carry, xs, 1)


def run_cell(cell: Any, carry: Carry, x: Any, run: Run) -> tuple[Carry, Any]:
    """One step of a cell by its `__call__`, or all steps of `x`."""
    if run.steps:
        return run._scan(lambda *now: run_cell(cell, *now), carry, x)
    carry, y = cell(carry, x)
    run._see_states(cell, carry)
    return carry, y


def refuse_forgotten(layer: Any, path: str, module: Any) -> NoReturn:
    """Raise: `layer` at `path` of `module` was called without a `Run` in training."""
    raise ValueError(
        f"{named(layer, path)} of {type(module).__name__} was not run by a Run, so it would do the "
        "same in training as in inference. Every module around it must be an nn.Module or a "
        "container of jaxsnn.nn, have no __call__ of its own, and run its parts by run(part, x), "
        "not by part(x). Remove a part that is not used"
    )
