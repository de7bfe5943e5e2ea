"""`unroll` runs a module over time."""

import functools
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.errors import TraceContextError
from jaxtyping import Array, Bool, Integer, Key, Shaped

from jaxsnn import _checks, _layout
from jaxsnn._captured import no_captured_variables
from jaxsnn.nn._cell import Carry
from jaxsnn.nn._mode import Mode, Seen, zero
from jaxsnn.nn._run import check_not_in_a_layer, run
from jaxsnn.nn._statistics import shapes, statistics, updated_statistics


class Extras(NamedTuple):
    """What `unroll` returns beside carry and outputs when it is asked to.

    Attributes:
        records: the arrays asked for with `record`, by path, each `[T, ...]`.
        statistics: with `key`, the running statistics of all normalisations after this
            sequence, a nested dict; see `with_statistics`.
    """

    records: dict[str, Shaped[Array, "T *shape"]]
    statistics: Any


def unroll(
    module: Any,
    xs: Shaped[Array | np.ndarray, "T *shape"],
    carry: Carry = None,
    *,
    mask: Bool[Array | np.ndarray, "T *N"] | None = None,
    key: Key[Array, ""] | None = None,
    record: str | Sequence[str] = (),
    checkpoint_every: int | None = None,
) -> Any:
    """Runs `module` over a sequence.

    Feed-forward parts run layer by layer: a `Linear` sees all time steps as rows of one matrix
    product, then a neuron scans. Inside a recurrent container the sub-module runs step by step.
    Both orders give the same numbers, but for one thing: batch normalisation, when training,
    takes its statistics over all steps at once, and inside a container over each step.

    Args:
        module: a cell, or any callable without state (then the carry is `()`).
        xs: the sequence, time first, `[T, ...]`, as a rule `[T, N, ...]`.
        carry: the state to start from, as returned for the stretch before; None starts afresh.
        mask: for sequences of different lengths, padded: which steps count, bool `[T, N]` (or
            as many leading axes of `xs` as there are). At the others no state changes, `xs` counts
            as 0 whatever it holds, and the outputs are 0; see `sequence_mask`.
        key: random key (`jax.random.key`) of this sequence in training: dropout drops, and
            normalisations use the statistics of the sequence. None, the default, is inference.
        record: paths of what is to be returned as well, e.g. `"1"` for the output of layer 1 of a
            `Sequential`, `"1.v"` for the membrane potential of the neuron that it is,
            `"1.sub_module.v"` inside a container, `"1.i"` for the current a container feeds to
            its sub-module. `*` and `?` stand for any characters, as in file names.
        checkpoint_every: for the gradient of long sequences: keep the state only every so many
            steps and run the stretch after it a second time on the way back. Same numbers, and
            memory for `T / checkpoint_every` states and one stretch: least with the square
            root of T (Chen et al. 2016, "Training deep nets with sublinear memory cost").
            None keeps what every step needs.

    Returns:
        `(carry, ys)`: the state after the last step, and the outputs `[T, ...]`; with `key` or
        `record` `(carry, ys, extras)`, see `Extras`. Handing the carry on to the next stretch
        gives the same as one long sequence; to cut the gradient between them (truncated
        backpropagation) use `jax.lax.stop_gradient` on it.

    Raises:
        TypeError: `module` is not callable, a cell gets an input that is not floating, `mask` is
            not bool, `key` is not a random key, or `checkpoint_every` is not an integer.
        ValueError: `xs` has no time axis or no steps, a layer without state calls `unroll`, the
            carry, the mask or the input does not fit, there is nothing at a path to record, or
            `checkpoint_every` is below 1.

    Examples:
        >>> carry, spikes = unroll(LIFNode(tau=2.0), jnp.ones((28, 256, 32)))
        >>> carry.shape, spikes.shape
        ((256, 32), (28, 256, 32))
        >>> net = Sequential(Linear(32, 10, rngs=nnx.Rngs(0)), LIFNode())
        >>> _, _, extras = unroll(net, jnp.ones((28, 256, 32)), record="1.v")
        >>> extras.records["1.v"].shape
        (28, 256, 10)
    """
    check_not_in_a_layer()
    _checks.function("module", module)
    xs = jnp.asarray(xs)
    if xs.ndim == 0:
        raise ValueError("xs must be a sequence [T, ...] with time first, got a scalar (0-d)")
    if xs.shape[0] == 0:
        raise ValueError(f"xs must have at least one time step, got shape {list(xs.shape)}")
    if mask is not None:
        mask = _check_mask(mask, xs)
    if key is not None:
        _checks.random_key("key", key)
    if checkpoint_every is not None:
        checkpoint_every = _checks.size("checkpoint_every", checkpoint_every)
    patterns = _check_record(record)

    arguments = module, carry, xs, mask, key
    # Only in a module can anything go stale.
    run_all = _run_compiled if isinstance(module, nnx.Module) else _run_all
    carry, ys, extras = run_all(patterns, checkpoint_every, *arguments)
    if key is None and not patterns:
        return carry, ys
    _check_found(patterns, extras.records, arguments)
    if key is not None:
        _check_not_shared(module, extras.statistics)
    return carry, ys, extras


def sequence_mask(lengths: Integer[Array | np.ndarray, "*N"], T: int) -> Bool[Array, "T *N"]:
    """The mask of padded sequences: True for the steps before the end of each sequence.

    Args:
        lengths: number of steps of each sequence, integers `[N]`.
        T: number of steps of the padded sequences.

    Returns:
        bool `[T, N]`.

    Examples:
        >>> sequence_mask(jnp.array([1, 3]), 3).astype(int)
        Array([[1, 1],
               [0, 1],
               [0, 1]], dtype=int32)
    """
    lengths = jnp.asarray(lengths)
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise TypeError(f"lengths must be integers, got dtype {lengths.dtype}")
    if lengths.dtype.itemsize < 4:  # too narrow to count to `T`
        lengths = lengths.astype(jnp.int32)
    times = jnp.arange(_checks.size("T", T), dtype=lengths.dtype)
    return times.reshape((-1,) + (1,) * lengths.ndim) < lengths[None]


def _run_all(
    record: tuple[str, ...],
    length: int | None,
    module: Any,
    carry: Carry,
    xs: jax.Array,
    mask: jax.Array | None,
    key: jax.Array | None,
) -> tuple[Carry, jax.Array, Extras]:
    if mask is not None:
        mask = _layout.follow(mask, xs)
        xs = zero(mask, xs)  # of NaN or infinity even a gradient of 0 makes NaN
    mode = Mode(record=record, key=key, mask=mask)
    variables = jax.tree.leaves(module)
    try:
        if length is None or length >= xs.shape[0]:
            carry, ys, seen = run(module, carry, xs, mode)
        else:
            carry, ys, seen = _run_stretches(module, carry, xs, mode, length)
    except TraceContextError as error:
        raise ValueError(_CHANGES) from error
    if any(map(operator.is_not, variables, jax.tree.leaves(module))):
        raise ValueError(_CHANGES)
    records = seen.records
    if mask is not None:
        ys, records = jax.tree.map(functools.partial(zero, mask), (ys, records))
    return carry, ys, Extras(records, updated_statistics(module, seen.batches))


_CHANGES = (
    "a layer of this module changes its own variables when it is called, which cannot leave a scan "
    "over time and would be lost; keep state in the carry of a cell, and use the BatchNorm and "
    "Dropout of jaxsnn.nn in place of Flax's"
)


def _run_stretches(
    module: Any, carry: Carry, xs: jax.Array, mode: Mode, length: int
) -> tuple[Carry, jax.Array, Seen]:
    """`run`, in stretches of `length` steps of which the states between are all that is kept."""

    def stretch(carry: Carry, part: tuple[jax.Array, jax.Array | None]) -> Any:
        xs, mask = part
        carry, ys, seen = run(module, carry, xs, Mode("", mode.record, mode.key, mask, whole=False))
        return carry, (ys, seen)

    # The first one, which takes what does not divide, shows what the carry looks like.
    first = xs.shape[0] % length or length
    steps = xs, mode.mask
    carry, head = jax.checkpoint(stretch)(carry, jax.tree.map(lambda a: a[:first], steps))
    rest = jax.tree.map(lambda a: a[first:].reshape(-1, length, *a.shape[1:]), steps)
    carry, tail = _layout.scan(jax.checkpoint(stretch, prevent_cse=False), carry, rest)

    def join(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.concatenate([a, b.reshape(-1, *b.shape[2:])])

    ys, seen = jax.tree.map(join, head, tail)
    return carry, ys, seen


# One jit around everything, with the module as an argument: called outside any jit, `lax.scan`
# caches its trace by the module's identity and would reuse stale parameters.
_run_compiled = jax.jit(no_captured_variables(static=2)(_run_all), static_argnums=(0, 1))


def _check_mask(mask: Any, xs: jax.Array) -> jax.Array:
    mask = jnp.asarray(mask)
    if mask.dtype != jnp.bool_:
        raise TypeError(f"mask must be bool (True for the steps that count), got {mask.dtype}")
    if mask.ndim == 0 or mask.shape != xs.shape[: mask.ndim]:
        raise ValueError(
            f"mask must have the shape of the leading axes of xs {list(xs.shape)}, as a rule "
            f"[T, N], got {list(mask.shape)}"
        )
    return mask


def _check_record(record: Any) -> tuple[str, ...]:
    patterns = (record,) if isinstance(record, str) else record
    if not isinstance(patterns, Sequence | set) or not all(isinstance(p, str) for p in patterns):
        raise TypeError(
            f"record must be a path or several, e.g. record='1.v' or record=['1.v', '2'], got "
            f"{record!r}"
        )
    return tuple(sorted(patterns)) if isinstance(patterns, set) else tuple(patterns)


def _check_found(patterns: tuple[str, ...], records: Any, arguments: tuple[Any, ...]) -> None:
    """Every pattern must have found something."""
    import fnmatch

    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(path, pattern) for path in records):
            module, *arrays = arguments
            everything = functools.partial(_run_all, ("*",), None)
            if isinstance(module, nnx.Module):
                there = jax.eval_shape(everything, module, *arrays)[2].records
            else:
                there = {}
            raise ValueError(
                f"record={pattern!r} finds nothing in this module; there are "
                f"{', '.join(sorted(there)) or 'no layers inside it'}"
            )


def _check_not_shared(module: Any, after: Any) -> None:
    """A layer that stands in two places has one set of statistics, but was given two."""
    there = statistics(module) if isinstance(module, nnx.Module) else {}
    twice = sorted(set(shapes(after)) - set(shapes(there)))
    if twice:
        raise ValueError(
            f"the normalisation at {twice[0].rpartition('.')[0]} also stands in another place of "
            f"this {type(module).__name__}, but the inputs of two places cannot share running "
            "statistics; give each place a normalisation of its own"
        )
