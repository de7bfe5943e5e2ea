"""How one step is repeated over time: the numbers of a plain loop in less time and memory."""

from typing import Any

import jax

from jaxsnn import _layout, functional
from jaxsnn.nn._mode import Carry, Mode, Step, hold

_KEEP_NAMED = jax.checkpoint_policies.save_only_these_names(functional.KEPT)
_KEEP_NAMED_AND_PRODUCTS = jax.checkpoint_policies.save_from_both_policies(
    _KEEP_NAMED, jax.checkpoint_policies.dots_saveable
)


def scan(step: Step, carry: Carry, xs: Any, mode: Mode) -> tuple[Carry, jax.Array, Any]:
    """`jax.lax.scan` that keeps little for the backward pass, and passes over masked steps.

    Kept are what a step names (`functional.KEPT`) and products of matrices; what is cheap is
    computed anew. For a neuron that is one float a step, where plain autodiff keeps several.
    """

    def body(
        carry: Carry, now: tuple[Any, jax.Array | None]
    ) -> tuple[Carry, tuple[jax.Array, Any]]:
        x, mask = now
        after, y, seen = step(carry, x, mode.of_step(mask))
        return hold(mask, after, carry, mode.path), (y, seen)

    # prevent_cse guards against a merge of the two passes that cannot happen across a scan.
    kept = jax.checkpoint(body, policy=_KEEP_NAMED_AND_PRODUCTS, prevent_cse=False)
    carry, (ys, seen) = _layout.scan(kept, carry, (xs, mode.mask))
    return carry, ys, seen
