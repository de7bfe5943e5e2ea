"""A linear map written in two ways, one of them for CPUs."""

from collections.abc import Callable

import jax

Linear = Callable[[jax.Array, jax.Array], jax.Array]  # (operand, tangent) -> tangent


def faster_on_cpu(fast: Linear, plain: Linear) -> Linear:
    """`fast` in a program that is lowered for a CPU, else `plain`, which gives the same numbers.

    Both are linear in the second argument, the tangent of a derivative. Only the
    operand itself is kept for the backward pass.
    """

    def choose(operand: jax.Array, tangent: jax.Array) -> jax.Array:
        return jax.lax.platform_dependent(operand, tangent, cpu=fast, default=plain)

    return jax.checkpoint(choose, prevent_cse=False)
