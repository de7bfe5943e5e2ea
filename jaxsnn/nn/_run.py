"""Any module over all steps of a sequence: which schedule it gets."""

from typing import Any

import jax

from jaxsnn.nn._cell import Carry, Cell, first_carry, is_cell
from jaxsnn.nn._schedule import map_steps


def run(module: Any, carry: Carry, xs: jax.Array) -> tuple[Carry, jax.Array]:
    """`unroll` without its checks; `carry=None` starts afresh."""
    if isinstance(module, Cell):
        return module._over_time(carry, xs)
    if is_cell(module):  # one of Flax's
        if carry is None:
            carry = first_carry(module, jax.ShapeDtypeStruct(xs.shape[1:], xs.dtype))
        return jax.lax.scan(module, carry, xs)
    if jax.tree.leaves(carry):
        raise ValueError(
            f"{type(module).__name__} has no state, so its carry must be () or None, got "
            f"{jax.tree.structure(carry)}"
        )
    return (), map_steps(module, xs)
