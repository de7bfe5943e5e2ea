"""Synaptic operations: additions that spikes cause, multiply-adds of everything else."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsnn.diagnosis._follow import Sight, has_weights
from jaxsnn.diagnosis._stack import Part
from jaxsnn.nn import LinearRecurrentContainer
from jaxsnn.nn._spiking_rnns import _SpikingRNNCell

ADD_PJ = 0.9
"""Energy of adding two 32-bit floats in picojoules: 45 nm, 0.9 V (Horowitz 2014)."""

MULTIPLY_ADD_PJ = 3.7 + 0.9
"""Energy of multiplying two and adding the product (the same)."""


def operations(
    part: Part, inside: Sequence[Part], sight: Sight, *, first: bool
) -> dict[str, jax.Array] | None:
    """What the synapses of a layer do for one example, mean over the batch.

    Args:
        part: any layer.
        inside: all parts of the layer that it is in.
        sight: what was seen of that.
        first: whether no spiking layer runs before it: what counts in its input is no spike.

    Returns:
        Scalars: `additions` that spikes cause; `multiply_adds`, of inputs that are not spikes;
        `dense`, the multiply-adds if nothing were left out. None if the layer is no `Linear` or
        `Conv`, or its inputs are not known.
    """
    total = None
    for xs, inner in _inputs(part, inside, sight, first):
        spikes, events = _events(xs, inner)
        counted = jnp.sum(_reached(part.module, events), dtype=jnp.float32) / xs.shape[1]
        one = jnp.ones((1, 1, *xs.shape[2:]), jnp.float32)
        dense = len(xs) * jnp.sum(_reached(part.module, one), dtype=jnp.float32)
        zero = jnp.zeros_like(dense)
        spikes &= counted <= dense  # or else it is cheaper to multiply
        here = {
            "additions": jnp.where(spikes, counted, zero),
            "multiply_adds": jnp.where(spikes, zero, dense),
            "dense": dense,
        }
        total = here if total is None else {name: total[name] + here[name] for name in here}
    return total


def _inputs(
    part: Part, inside: Sequence[Part], sight: Sight, first: bool
) -> list[tuple[jax.Array, bool]]:
    """What a weight layer is fed, and whether that comes from other layers.

    The layers that feed the outputs of a cell back a step later are given those.
    """
    if not has_weights(part.module):
        return []
    if part.path in sight.inputs:
        return [(sight.inputs[part.path], not first)]
    around = next((p for p in inside if part.keys and p.keys == part.keys[:-1]), None)
    if around is None or not {around.path} <= set(sight.inputs) & set(sight.outputs):
        return []
    fed = sight.inputs[around.path], not first
    back = sight.outputs[around.path][:-1], True
    cell, name = around.module, part.keys[-1]
    if isinstance(cell, LinearRecurrentContainer):
        return [back] if cell.feedback_only else [fed, back]
    if isinstance(cell, _SpikingRNNCell):
        return [fed] if name == "linear_ih" else [back]
    return []


def _events(xs: jax.Array, inner: bool) -> tuple[jax.Array, jax.Array]:
    """Whether `xs` are spikes, and how many there are at each place.

    Spikes are -1, 0 and 1. Between layers they may have another size, the same for all (what
    dropout leaves is larger), which weights can take up, or be whole numbers, counts.
    """
    sizes = jnp.abs(xs)
    size = jnp.max(sizes) if inner else jnp.ones((), xs.dtype)
    alike = jnp.all((sizes == 0) | (sizes == size))
    counts = jnp.all(sizes == jnp.round(sizes)) if inner else False
    return alike | counts, jnp.where(alike, (sizes > 0).astype(xs.dtype), sizes)


def _reached(layer: Any, xs: jax.Array) -> jax.Array:
    """How many synapses what is in `xs` reaches, at each output: the layer with weights of 1.

    A `Conv` at a border, or with strides or groups, has fewer than its kernel's size suggests.
    """
    if isinstance(layer, nnx.Linear):
        return jnp.sum(xs, axis=-1, dtype=jnp.float32) * layer.out_features
    ones = jax.tree.map(lambda leaf: leaf, layer)
    ones.kernel = nnx.Param(jnp.ones(layer.kernel.shape, jnp.float32))
    ones.use_bias, ones.dtype, ones.precision = False, jnp.float32, jax.lax.Precision.HIGHEST
    return nnx.Conv.__call__(ones, xs.astype(jnp.float32).reshape(-1, *xs.shape[2:]))
