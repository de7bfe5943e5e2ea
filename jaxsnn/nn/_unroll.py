"""`unroll` runs a module over time."""

import fnmatch
import operator
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.errors import TraceContextError
from jaxtyping import Array, Bool, Key, Shaped

from jaxsnn import _checks, _layout
from jaxsnn._captured import no_captured_variables
from jaxsnn._masks import zero
from jaxsnn._parts import is_final, parts
from jaxsnn.nn._run import Carry, Run, refuse_forgotten, trained
from jaxsnn.nn._stateless import check_not_in_a_layer


class Extras(NamedTuple):
    """The third result of `unroll`, if `key` or `record` is given.

    Attributes:
        records: the arrays asked for with `record`, by path, each `[T, ...]`.
        module: in training the module with its running statistics after this sequence. It shares
            all other arrays with the module that was run, which does not change.
    """

    records: dict[str, Shaped[Array, "T *shape"]]
    module: Any


def unroll(
    module: Any,
    xs: Shaped[Array | np.ndarray, "T *shape"],
    carry: Carry = None,
    *,
    mask: Bool[Array | np.ndarray, "T *N"] | None = None,
    key: Key[Array, ""] | None = None,
    record: str | Sequence[str] = (),
    checkpoint_every: int | None = None,
    axis_name: str | None = None,
) -> Any:
    """Run `module` over a sequence.

    Feed-forward parts run layer by layer, and the sub-module of a recurrent container step by step.
    Both give the same numbers, except that batch normalisation in training takes its statistics
    over all steps together, and inside a container over each step.

    Args:
        module: a cell or module, or any callable without state (then the carry is `()`).
        xs: the sequence, time first, `[T, ...]`, usually `[T, N, ...]`.
        carry: the state to start from, as returned for the stretch before; None is the first state.
        mask: for padded sequences: which steps count, bool `[T, N]` (or as many leading axes of
            `xs` as there are), see `sequence_mask`. At the others no state changes, and `xs` and
            the outputs are 0.
        key: a random key (`jax.random.key`) for training: dropout drops, and normalisations use
            the statistics of this sequence. None, the default, is inference.
        record: paths of values to return as well, e.g. `"1"` for the output of layer 1 of a
            `Sequential`, `"branch.1.v"` for the potential of layer 1 of the attribute `branch`,
            `"1.i"` for the current that a container feeds to its sub-module, `"part#2"` for the
            second call of a part in a `forward`. `*` and `?` stand for any characters.
        checkpoint_every: for the gradient of long sequences: keep the state only every so many
            steps and run the stretch after it again on the way back. Same numbers, least memory
            with the square root of T (Chen et al. 2016, "Training deep nets with sublinear memory
            cost").
        axis_name: inside `jax.shard_map`, the axis of the mesh over which the batch is divided,
            on whose number of devices then neither batch statistics nor dropout masks depend.

    Returns:
        `(carry, ys)`: the state after the last step, and the outputs `[T, ...]`; with `key` or
        `record` `(carry, ys, extras)`, see `Extras`. Passing the carry to the next stretch gives
        the same as one long sequence; `jax.lax.stop_gradient` on it truncates backpropagation.

    Raises:
        TypeError: an argument is of the wrong type, or a cell gets an input that is not floating.
        ValueError: `xs` has no time axis or no steps, a layer without state calls `unroll`, an
            argument is out of range or does not fit, there is nothing at a path to record, or in
            training a normalisation or dropout inside `module` is called without its `Run`.

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
    mask = None if mask is None else _checks.mask(mask, xs)
    if key is not None:
        _checks.random_key("key", key)
    if checkpoint_every is not None:
        checkpoint_every = _checks.size("checkpoint_every", checkpoint_every)
    record = _checks.paths("record", record)
    # `jax.jit` makes a module of each place where one is used; its first place counts.
    first: dict[int, str] = {}
    inside = parts(module) if key is not None else ()
    places = tuple((path, first.setdefault(id(part), path)) for path, part in inside)
    static = record, checkpoint_every, axis_name, places
    # Only in a module can anything become stale.
    run_all = _run_compiled if isinstance(module, nnx.Module) else _run_all
    carry, ys, records, statistics = run_all(static, module, carry, xs, mask, key)
    if key is None and not record:
        return carry, ys
    if statistics:
        module = nnx.clone(module)
        for path, part in parts(module):
            if path in statistics:
                part.mean[...], part.var[...] = statistics[path]
    return carry, ys, Extras(records, module)


def _run_all(static: Any, module: Any, carry: Carry, xs: jax.Array, mask: Any, key: Any) -> Any:
    """The carry, the outputs, the records and the running statistics after the sequence."""
    record, length, axis_name, places = static
    if mask is not None:
        mask = _layout.follow(mask, xs)
        xs = zero(mask, xs)  # of NaN or infinity even a gradient of 0 makes NaN
    run = Run(steps=True, key=key, mask=mask, axis_name=axis_name, record=record)
    before = jax.tree.leaves(module)
    token = trained.set(None if key is None else module)
    try:
        if length is None or length >= xs.shape[0]:
            carry, ys = run._go("", module, carry, xs)
        else:
            carry, ys = _run_stretches(module, carry, xs, run, length)
    except TraceContextError as error:
        raise ValueError(_CHANGES) from error
    finally:
        trained.reset(token)
    after = jax.tree.leaves(module)
    if len(before) != len(after) or any(map(operator.is_not, before, after)):
        raise ValueError(_CHANGES)
    for pattern in record:
        if not fnmatch.filter(run._there, pattern):
            raise ValueError(
                f"record={pattern!r} finds nothing in this module; there are "
                f"{', '.join(sorted(run._there)) or 'no layers inside it'}"
            )
    statistics = {} if key is None else _statistics_after(module, run, dict(places))
    return carry, run._counted(ys), run._seen.records, statistics


_CHANGES = (
    "a layer of this module changes its own variables when it is called, which cannot leave a scan "
    "over time and would be lost; keep state in the carry of a cell, and use the BatchNorm and "
    "Dropout of jaxsnn.nn instead of Flax's"
)


def _run_stretches(
    module: Any, carry: Carry, xs: jax.Array, run: Run, length: int
) -> tuple[Carry, jax.Array]:
    """Run in stretches of `length` steps; only the states between them are kept."""

    def stretch(carry: Carry, steps: tuple[jax.Array, jax.Array | None]) -> Any:
        xs, mask = steps
        inside = run._changed(mask=mask, _whole=False)
        carry, ys = inside._go("", module, carry, xs)
        return carry, (ys, inside._seen)

    # The first one, which takes what does not divide, shows what the carry looks like.
    first = xs.shape[0] % length or length
    steps = xs, run.mask
    carry, head = jax.checkpoint(stretch)(carry, jax.tree.map(lambda a: a[:first], steps))
    rest = jax.tree.map(lambda a: a[first:].reshape(-1, length, *a.shape[1:]), steps)
    carry, tail = _layout.scan(jax.checkpoint(stretch, prevent_cse=False), carry, rest)

    def join(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.concatenate([a, b.reshape(-1, *b.shape[2:])])

    ys, run._seen = jax.tree.map(join, head, tail)
    return carry, ys


def _statistics_after(module: Any, run: Run, first: dict[str, str]) -> dict[str, Any]:
    """The running mean and variance of each normalisation after a run in training, by path.

    Raise if a part was not run by `Run`. `first` has the first path of each part by all its paths.
    """

    def place(path: str) -> str:
        path = re.sub(r"#\d+", "", path)  # of a second call
        return first.get(path, path)

    layers, reached = dict(parts(module)), {"", *map(place, run._there)}
    for path, layer in layers.items():
        by_run = first[path] in reached and is_final(type(layer).__call__)
        if getattr(layer, "trains_apart", False) and not by_run:
            refuse_forgotten(layer, path, module)
    after: dict[str, Any] = {}
    for path, batch in run._seen.batches.items():  # in the order of the calls
        layer = layers[place(path)]
        before = after.get(place(path), (layer.mean[...], layer.var[...]))
        after[place(path)] = layer._after(before, batch)
    return after


# One jit around everything, with the module as an argument: called outside any jit, `lax.scan`
# caches its trace by the module's identity and would reuse stale parameters.
_run_compiled = jax.jit(no_captured_variables(static=1)(_run_all), static_argnums=0)
