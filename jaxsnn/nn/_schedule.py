"""How one layer is run over all time steps: the numbers of a plain loop in less time and memory."""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from jaxsnn import functional
from jaxsnn.nn._layers import Linear, on_rows
from jaxsnn.nn._sequence_layer import SequenceLayer

Carry = Any
Step = Callable[[Carry, jax.Array], tuple[Carry, jax.Array]]

_KEEP_NAMED = jax.checkpoint_policies.save_only_these_names(functional.KEPT)
_KEEP_NAMED_AND_PRODUCTS = jax.checkpoint_policies.save_from_both_policies(
    _KEEP_NAMED, jax.checkpoint_policies.dots_saveable
)


def scan(step: Step, carry: Carry, xs: jax.Array) -> tuple[Carry, jax.Array]:
    """`jax.lax.scan` that keeps little for the backward pass.

    Kept are what a step names (`functional.KEPT`) and products of matrices; what is cheap is
    computed anew. For a neuron that is one float a step, where plain autodiff keeps several.
    """
    # prevent_cse guards against a merge of the two passes that cannot happen across a scan.
    kept = jax.checkpoint(step, policy=_KEEP_NAMED_AND_PRODUCTS, prevent_cse=False)
    return jax.lax.scan(kept, carry, xs)


def map_steps(layer: Callable[[jax.Array], jax.Array], xs: jax.Array) -> jax.Array:
    """A layer without state, on every step."""
    if isinstance(layer, Linear | SequenceLayer):
        return layer(xs)
    if isinstance(layer, nnx.Linear):
        return on_rows(layer, xs)
    return jax.vmap(layer)(xs)
