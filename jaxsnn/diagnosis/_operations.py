"""Synaptic operations: additions that spikes cause, multiply-adds of everything else."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsnn.nn import LinearRecurrentContainer

ADD_PJ = 0.9
"""Energy of adding two 32-bit floats in picojoules: 45 nm, 0.9 V (Horowitz 2014)."""

MULTIPLY_ADD_PJ = 3.7 + 0.9
"""Energy of multiplying two and adding the product (the same)."""


def operations(layer: Any, xs: jax.Array, counts_are_spikes: bool) -> dict[str, jax.Array]:
    """What the synapses of a layer do for one example, mean over the batch.

    Args:
        layer: a `Linear` or a `Conv`.
        xs: its inputs, `[T, N, ...]`.
        counts_are_spikes: whether whole numbers beyond -1, 0 and 1 are counts of spikes, too.

    Returns:
        Scalars: `additions` if the inputs are spikes, else 0; `multiply_adds` if they are not,
        else 0; `dense`, the multiply-adds if nothing were left out.
    """
    spikes = are_spikes(xs, counts_are_spikes)
    counted = jnp.sum(reached(layer, jnp.abs(xs)), dtype=jnp.float32) / xs.shape[1]
    one = jnp.ones((1, 1, *xs.shape[2:]), jnp.float32)
    dense = len(xs) * jnp.sum(reached(layer, one), dtype=jnp.float32)
    return _by_kind(spikes, counted, dense)


def recurrent_operations(
    container: LinearRecurrentContainer, xs: jax.Array, ys: jax.Array, counts_are_spikes: bool
) -> dict[str, jax.Array]:
    """The same for `rc`: its input's share, and that of the outputs fed back a step later."""
    fan_out = container.in_features
    fed = [ys[:-1]] if container.feedback_only else [xs, ys[:-1]]
    total = dict.fromkeys(("additions", "multiply_adds", "dense"), jnp.float32(0))
    for k, values in enumerate(fed):
        steps, examples, *features = values.shape
        counted = jnp.sum(jnp.abs(values), dtype=jnp.float32) * fan_out / examples
        dense = jnp.float32(steps * math.prod(features) * fan_out)
        # What is fed back comes from the neurons of the container itself.
        spikes = are_spikes(values, counts_are_spikes or k == len(fed) - 1)
        here = _by_kind(spikes, counted, dense)
        total = {name: total[name] + here[name] for name in total}
    return total


def _by_kind(spikes: jax.Array, counted: jax.Array, dense: jax.Array) -> dict[str, jax.Array]:
    zero = jnp.float32(0)
    return {
        "additions": jnp.where(spikes, counted, zero),
        "multiply_adds": jnp.where(spikes, zero, dense),
        "dense": dense,
    }


def are_spikes(xs: jax.Array, counts: bool = False) -> jax.Array:
    """Whether all of `xs` are -1, 0 or 1, or with `counts` whole numbers."""
    whole = jnp.all(xs == jnp.round(xs))
    return whole if counts else whole & jnp.all(jnp.abs(xs) <= 1)


def reached(layer: Any, xs: jax.Array) -> jax.Array:
    """How many synapses what is in `xs` reaches, at each output: the layer with weights of 1.

    A `Conv` at a border, or with strides or groups, has fewer than its kernel's size suggests.
    """
    if isinstance(layer, nnx.Linear):
        return jnp.sum(xs, axis=-1, dtype=jnp.float32) * layer.out_features
    ones = jax.tree.map(lambda leaf: leaf, layer)
    ones.kernel = nnx.Param(jnp.ones(layer.kernel.shape, jnp.float32))
    ones.bias = nnx.data(None)
    ones.dtype, ones.precision = jnp.float32, jax.lax.Precision.HIGHEST
    return nnx.Conv.__call__(ones, xs.astype(jnp.float32).reshape(-1, *xs.shape[2:]))
