"""The layers that drive the neurons of a network: whose weights to scale for them, and how far."""

import itertools
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.extend.core import Literal

from jaxsnn import nn
from jaxsnn.diagnosis import _watch

LARGEST = 2.0**30  # factor, or one over it


class Drive(NamedTuple):
    """A spiking part, and the parts whose weights set how strongly it is driven."""

    path: str  # of the spiking part
    # Paths of the parts whose weights are scaled, and how many rows of their kernels, None for all:
    # of the `rc` of a `LinearRecurrentContainer` the input's share.
    chosen: tuple[tuple[str, int | None], ...]
    recurrent: tuple[str, ...]  # paths of recurrent layers, whose weights are not scaled
    limit: float  # the largest factor


def drives_of(watch: _watch.Watch, parts: dict[str, Any], loops: AbstractSet[str]) -> list[Drive]:
    """The layers to scale for each spiking part, in the order in which they are run."""
    drives: list[Drive] = []
    before: list[tuple[str, int | None]] = []  # between the last neuron and the next, in no loop
    gates = [path for path, part in parts.items() if isinstance(part, _GATES)]

    def layer_of(path: str) -> str | None:
        return next((layer for layer in watch.chain if _watch.within(path, layer)), None)

    def after(path: str, earlier: list[tuple[str, int | None]]) -> list[tuple[str, int | None]]:
        return [(other, rows) for other, rows in earlier if _both(other, path, parts)]

    for _, paths in itertools.groupby(watch.order, layer_of):
        within_loop: list[tuple[str, int | None]] = []
        recurrent: list[str] = []
        earlier = len(drives)
        for path in paths:
            part = parts[path]
            if _watch.surrogates(part):
                # The spiking RNN cells fire at 0 or more, at any scale.
                fixed = isinstance(part, _watch.SPIKING_RNNS)
                if fixed or before or not within_loop:
                    chosen, limit = () if fixed else tuple(before), LARGEST
                else:
                    chosen = tuple(within_loop)
                    limit = min(_limit(parts[other]) for other, _ in chosen)
                drives.append(Drive(path, chosen, tuple(recurrent), limit))
                before, within_loop, recurrent = [], [], []
            elif _watch.weights(part) and not any(_watch.within(path, gate) for gate in gates):
                if path not in loops:
                    before = [*after(path, before), (path, None)]
                    continue
                recurrent.append(path)
                container = _container(path, parts)
                if container is not None and not container.feedback_only:
                    before = [*after(path, before), (path, container.in_features)]
                else:
                    within_loop = [*after(path, within_loop), (path, None)]
        if recurrent and len(drives) > earlier:  # after the last neuron, which they come back to
            all_of_them = drives[-1].recurrent + tuple(recurrent)
            drives[-1] = drives[-1]._replace(recurrent=all_of_them)
    for layer in watch.chain:
        spiking = any(
            _watch.surrogates(part) for path, part in parts.items() if _watch.within(path, layer)
        )
        if spiking and not any(_watch.within(drive.path, layer) for drive in drives):
            raise unseen(layer, parts[layer])
    return drives


def unseen(path: str, part: Any) -> ValueError:
    return ValueError(
        f"the spikes of {_watch.name_of(path, part)} cannot be seen, so it cannot be calibrated; "
        "put its layers into a jaxsnn.nn.Sequential"
    )


def _container(path: str, parts: dict[str, Any]) -> Any:
    """The `LinearRecurrentContainer` whose `rc` is at `path`, unless another loop is around."""
    around = [part for at, part in parts.items() if at != path and _watch.within(path, at)]
    containers = [part for part in around if isinstance(part, _watch.CONTAINERS)]
    owner, _, name = path.rpartition(".")
    found = name == "rc" and containers == [parts.get(owner)]
    return parts[owner] if found and isinstance(parts[owner], nn.LinearRecurrentContainer) else None


# Layers that multiply their input by weights between 0 and 1 that they make of it.
_GATES = nn.contrib.TemporalWiseAttention, nn.contrib.MultiDimensionalAttention


def _limit(layer: Any) -> float:
    """The largest factor of recurrent weights.

    Their largest singular value, which the spectral radius does not exceed, becomes at most 1, or
    stays if it is larger; weights of other layers than `Linear` become no larger.
    """
    if not isinstance(layer, nnx.Linear) or _watch.weights(layer)[0] != "kernel":
        return 1.0
    kernel = np.asarray(layer.kernel[...], np.float64)
    return 1 / min(1.0, float(np.linalg.norm(kernel, 2)) or 1.0)


def _both(first: str, second: str, parts: dict[str, Any]) -> bool:
    """True if two layers that run one after the other both drive the next neuron.

    In a `Sequential` the second alone does. Modules and cells of your own may do anything with
    the outputs of their layers.
    """
    around = [path for path in parts if _watch.within(first, path) and _watch.within(second, path)]
    innermost = parts[max(around, key=len)]
    return not isinstance(innermost, nn.Sequential | nn.LinearRecurrentContainer)


def scale(layer: Any, rows: int | None, factor: Any) -> None:
    """Multiply the weights of a layer, in place; of its kernel the first `rows`, None for all."""
    for name in _watch.weights(layer):
        values = getattr(layer, name)
        here = slice(None if name == "bias" else rows)
        scaled = values[here] * jnp.asarray(factor).astype(values.dtype)
        values[...] = values[...].at[here].set(scaled)


def in_loops(watch: _watch.Watch, parts: dict[str, Any], key: jax.Array) -> set[str]:
    """Paths of the layers with weights whose output comes back to their input at a later step."""
    cells = [path for path in watch.chain if _watch.has_state(parts[path])]
    return set().union(*(_in_loops(at, parts[at], watch.whole[at], key) for at in cells))


def _in_loops(path: str, cell: Any, xs: Any, key: jax.Array) -> set[str]:
    """Find the looped layers inside a cell, from the traced program of a step.

    A layer is in a loop if its weights are multiplied with values that depend on a state which
    they change.
    """
    names = frozenset(at for at, part in _watch.inside(cell, path) if _watch.weights(part))
    if not names:
        return set()
    xs = jax.ShapeDtypeStruct(xs.shape, xs.dtype)
    carry = jax.eval_shape(lambda cell, xs: nn.unroll(cell, xs)[0], cell, xs)

    def variables(cell: Any) -> dict[str, Any]:
        at = dict(_watch.inside(cell, path))
        return {name: getattr(at[name], _watch.weights(at[name])[0]) for name in sorted(names)}

    def one_step(carry: Any, values: dict[str, jax.Array], x: jax.Array) -> Any:
        copy = jax.tree.map(lambda leaf: leaf, cell)
        for name, variable in variables(copy).items():
            variable[...] = values[name]
        return nn.Run(steps=False, key=key)._go("", copy, carry, x)[0]

    values = {name: variable[...] for name, variable in variables(cell).items()}
    x = jax.ShapeDtypeStruct(xs.shape[1:], xs.dtype)
    program = jax.make_jaxpr(one_step)(carry, values, x).jaxpr
    states = range(len(jax.tree.leaves(carry)))
    needs = {  # what each value depends on: numbers of states, names of weights, the input
        v: frozenset({need})
        for v, need in zip(program.invars, [*states, *values, None], strict=True)
    }
    nothing: frozenset[Any] = frozenset()

    def needed(values: list[Any]) -> list[frozenset[Any]]:
        return [nothing if isinstance(v, Literal) else needs.get(v, nothing) for v in values]

    meets = dict.fromkeys(names, nothing)  # what is multiplied with the weights
    for equation in program.eqns:
        read = needed(equation.invars)
        met = nothing.union(*(need for need in read if need - names)) - names
        for name in nothing.union(*(need for need in read if not need - names)):
            meets[name] |= met
        needs |= dict.fromkeys(equation.outvars, nothing.union(*read))

    # The states that each new state depends on, of the last step, then of all steps before.
    after = needed(program.outvars)
    history = [set(after[k] - names - {None}) | {k} for k in states]
    for through in states:
        for k in states:
            if through in history[k]:
                history[k] |= history[through]
    return {
        name
        for name in names
        if any(name in after[k] for met in meets[name] - {None} for k in history[met])
    }
