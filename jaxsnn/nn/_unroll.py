"""`unroll` runs a module over time."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsnn import _checks
from jaxsnn.nn._cell import Carry
from jaxsnn.nn._run import run


def unroll(
    module: Any, xs: jax.Array, carry: Carry = None, *, checkpoint_every: int | None = None
) -> tuple[Carry, jax.Array]:
    """Runs `module` over a sequence.

    Feed-forward parts run layer by layer: a `Linear` sees all time steps as rows of one matrix
    product, then a neuron scans. Inside a recurrent container the sub-module runs step by step.
    Both orders give the same numbers.

    Args:
        module: a cell, or any callable without state (then the carry is `()`).
        xs: the sequence, time first, `[T, ...]`, as a rule `[T, N, ...]`.
        carry: the state to start from, as returned for the stretch before; None starts afresh.
        checkpoint_every: for the gradient of long sequences: keep the state only every so many
            steps and run the stretch after it a second time on the way back. Same numbers, and
            memory for `T / checkpoint_every` states and one stretch: least with the square
            root of T (Chen et al. 2016, "Training deep nets with sublinear memory cost").
            None keeps what every step needs.

    Returns:
        `(carry, ys)`: the state after the last step, and the outputs `[T, ...]`. Handing the
        carry on to the next stretch gives the same as one long sequence; to cut the gradient
        between them (truncated backpropagation) use `jax.lax.stop_gradient` on it.

    Raises:
        TypeError: `module` is not callable, a cell gets an input that is not floating, or
            `checkpoint_every` is not an integer.
        ValueError: `xs` has no time axis or no steps, the carry or the input does not fit, or
            `checkpoint_every` is below 1.

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
    if checkpoint_every is not None:
        checkpoint_every = _checks.size("checkpoint_every", checkpoint_every)
    if isinstance(module, nnx.Module):
        return _run_module(module, carry, xs, checkpoint_every)
    return _run_stretches(module, carry, xs, checkpoint_every)  # nothing in it to go stale


def _run_stretches(
    module: Any, carry: Carry, xs: jax.Array, length: int | None
) -> tuple[Carry, jax.Array]:
    """`run`, in stretches of `length` steps of which the states between are all that is kept."""
    steps = xs.shape[0]
    if length is None or length >= steps:
        return run(module, carry, xs)

    def stretch(carry: Carry, xs: jax.Array) -> tuple[Carry, jax.Array]:
        return run(module, carry, xs)

    # The first one, which takes what does not divide, shows what the carry looks like.
    first = steps % length or length
    carry, ys_first = jax.checkpoint(stretch)(carry, xs[:first])
    rest = xs[first:].reshape(-1, length, *xs.shape[1:])
    carry, ys = jax.lax.scan(jax.checkpoint(stretch, prevent_cse=False), carry, rest)
    return carry, jnp.concatenate([ys_first, ys.reshape(-1, *ys.shape[2:])])


# One jit around everything, the module an argument of it: called outside any jit, `lax.scan`
# would remember its trace by the identity of the module and go on with the parameters of then.
_run_module = jax.jit(_run_stretches, static_argnums=3)
