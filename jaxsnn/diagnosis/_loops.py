"""Find the layers whose output comes back to their input at a later step."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx
from jax.extend.core import Literal

from jaxsnn.diagnosis._drives import Keys
from jaxsnn.diagnosis._follow import watch
from jaxsnn.diagnosis._stack import Part, parts
from jaxsnn.nn._cell import first_carry, is_cell
from jaxsnn.nn._mode import Mode
from jaxsnn.nn._run import step

Names = frozenset[Any]  # keys of parameters, numbers of states


def in_loops(segment: Sequence[Part], xs: jax.Array, key: jax.Array) -> set[Keys]:
    """Find the parameters in a loop, among those of layers that are run one after the other.

    A parameter is in a loop if what it is multiplied with depends on a state that it changes.

    Args:
        segment: the layers.
        xs: input of the first, `[T, N, ...]`.
        key: random key of dropout.

    Returns:
        For each the path of its layer, and the keys from there, e.g. `("1", "rc", "kernel")`.
    """
    found: set[Keys] = set()
    for layer in segment:
        look = functools.partial(watch, layer, mode=Mode(key=key))
        xs, sight = jax.eval_shape(look, xs)
        for part in parts(layer):
            # A cell inside another is stepped by that one.
            if is_cell(part.module) and part.path in sight.inputs:
                cell = _in_loops(part, sight.inputs[part.path], key)
                found |= {(layer.path, *part.keys, *keys) for keys in cell}
    return found


def _in_loops(cell: Part, xs: jax.ShapeDtypeStruct, key: jax.Array) -> set[Keys]:
    """Find the looped parameters of one cell, from the traced program of a step: keys within it."""
    x = jax.ShapeDtypeStruct(xs.shape[1:], xs.dtype)
    carry = jax.eval_shape(lambda: first_carry(cell.module, x))
    split: Any = nnx.split(cell.module, nnx.Param, ...)
    graph, params, rest = split
    if not jax.tree.leaves(params):
        return set()
    flat = nnx.to_flat_state(params)
    names: list[Any] = [path for path, _ in flat]

    def one_step(values: list[Any], carry: Any, x: jax.Array) -> Any:
        state = nnx.from_flat_state(
            [(path, leaf.replace(value)) for (path, leaf), value in zip(flat, values, strict=True)]
        )
        mode = Mode(cell.path, key=key)
        return step(nnx.merge(graph, state, rest), carry, x, mode)[0]

    values = [leaf[...] for _, leaf in flat]
    program = jax.make_jaxpr(one_step)(values, carry, x).jaxpr
    states = list(range(len(jax.tree.leaves(carry))))
    inputs = [frozenset({name}) for name in names] + [frozenset({k}) for k in states]
    needs = dict(zip(program.invars, inputs, strict=False))  # what each value depends on
    meets: dict[Keys, Names] = {name: frozenset() for name in names}
    parameters = frozenset(names)
    activity = set(program.invars[len(names) :])  # values that are not made of parameters alone

    for equation in program.eqns:
        read = [v for v in equation.invars if not isinstance(v, Literal)]
        alive = [v for v in read if v in activity]
        met = frozenset().union(*(needs.get(v, frozenset()) for v in alive)) - parameters
        for v in read:
            if v not in activity:
                for name in needs.get(v, frozenset()):
                    meets[name] |= met
        for v in equation.outvars:
            needs[v] = frozenset().union(*(needs.get(v, frozenset()) for v in read))
            if alive:
                activity.add(v)

    # The states that each new state depends on, of the last step, then of all steps before.
    nothing: Names = frozenset()
    after = [nothing if isinstance(v, Literal) else needs.get(v, nothing) for v in program.outvars]
    history = [set(after[k]) & set(states) | {k} for k in states]
    for through in states:
        for k in states:
            if through in history[k]:
                history[k] |= history[through]
    return {
        name for name in names if any(name in after[k] for met in meets[name] for k in history[met])
    }
