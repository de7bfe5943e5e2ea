"""`unroll` runs a module over time: the only place that scans."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsnn import _checks
from jaxsnn.nn._cell import Carry, first_carry, is_cell
from jaxsnn.nn._sequential import Sequential


def unroll(module: Any, xs: jax.Array, carry: Carry = None) -> tuple[Carry, jax.Array]:
    """Runs `module` over a sequence.

    Feed-forward parts run layer by layer: a `Linear` sees all time steps as rows of one matrix
    product, then a neuron scans. Inside a recurrent container the sub-module runs step by step.
    Both orders give the same numbers.

    Args:
        module: a cell, or any callable without state (then the carry is `()`).
        xs: the sequence, time first, `[T, ...]`, as a rule `[T, N, ...]`.
        carry: the state to start from, as returned for the stretch before; None starts afresh.

    Returns:
        `(carry, ys)`: the state after the last step, and the outputs `[T, ...]`. Handing the
        carry on to the next stretch gives the same as one long sequence; to cut the gradient
        between them (truncated backpropagation) use `jax.lax.stop_gradient` on it.

    Raises:
        TypeError: `module` is not callable, or a cell gets an input that is not floating.
        ValueError: `xs` has no time axis or no steps, or the carry or the input does not fit.

    Example:
        >>> carry, spikes = unroll(LIFNode(tau=2.0), jnp.ones((28, 256, 32)))
        >>> carry.shape, spikes.shape
        ((256, 32), (28, 256, 32))
    """
    _checks.function("module", module)
    xs = jnp.asarray(xs)
    if xs.ndim == 0:
        raise ValueError("xs must be a sequence [T, ...] with time first, got a scalar (0-d)")
    if xs.shape[0] == 0:
        raise ValueError(f"xs must have at least one time step, got shape {list(xs.shape)}")
    if isinstance(module, nnx.Module):
        return _unroll_module(module, xs, carry)
    return _run(module, xs, carry)  # nothing in it to go stale


def _run(module: Any, xs: jax.Array, carry: Carry) -> tuple[Carry, jax.Array]:
    if isinstance(module, Sequential):
        if carry is None:
            carry = (None,) * len(module)
        module._check_carry(carry)
        carries = []
        for layer, state in zip(module.layers, carry, strict=True):
            state, xs = _run(layer, xs, state)
            carries.append(state)
        return tuple(carries), xs
    if is_cell(module):
        if carry is None:
            carry = first_carry(module, jax.ShapeDtypeStruct(xs.shape[1:], xs.dtype))
        return jax.lax.scan(module, carry, xs)
    if jax.tree.leaves(carry):
        raise ValueError(
            f"{type(module).__name__} has no state, so its carry must be () or None, got "
            f"{jax.tree.structure(carry)}"
        )
    if isinstance(module, nnx.Linear):  # acts on the last axis alone: one product for all steps
        return (), module(xs)
    return (), jax.vmap(module)(xs)


# One jit around everything, the module an argument of it: called outside any jit, `lax.scan`
# would remember its trace by the identity of the module and go on with the parameters of then.
_unroll_module = jax.jit(_run)
