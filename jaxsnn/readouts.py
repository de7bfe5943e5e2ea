"""Readouts: from what a network gives at each time step to one number per class.

All take an optional `mask`, as `jaxsnn.nn.unroll` does, for batches of sequences that differ in
length: which steps of which example count. The others may hold anything. An example is read out
as if it had been run alone, with the steps that count and no others; one that has none gives 0.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxsnn import _checks
from jaxsnn._dtypes import state_dtype
from jaxsnn._masks import over
from jaxsnn._ties import largest


def firing_rate(
    spikes: Float[Array, "T *shape"], mask: Bool[Array, "T *N"] | None = None
) -> Float[Array, "*shape"]:
    """Spikes per time step, the mean over time.

        out[n, c] = mean_t spikes[t, n, c]

    Args:
        spikes: time first, `[T, N, ...]`.
        mask: bool, `[T, N]`, the steps that count; None for all.

    Returns:
        `[N, ...]`, float32 or wider.

    Raises:
        TypeError: `mask` is not bool.
        ValueError: `mask` has not the first axes of `spikes`.

    Examples:
        A batch of two sequences, of 4 steps and of 2:

        >>> spikes = jnp.array([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
        >>> firing_rate(spikes, mask=jaxsnn.nn.sequence_mask(jnp.array([4, 2]), 4))
        Array([0.25, 1.  ], dtype=float32)
    """
    return _mean(spikes, mask)


def spike_count(
    spikes: Float[Array, "T *shape"], mask: Bool[Array, "T *N"] | None = None
) -> Float[Array, "*shape"]:
    """Number of spikes, the sum over time.

        out[n, c] = sum_t spikes[t, n, c]

    Args:
        spikes: time first, `[T, N, ...]`.
        mask: bool, `[T, N]`, the steps that count; None for all.

    Returns:
        `[N, ...]`, float32 or wider.

    Raises:
        TypeError: `mask` is not bool.
        ValueError: `mask` has not the first axes of `spikes`.
    """
    if mask is not None:
        spikes = jnp.where(_spread(mask, spikes), spikes, 0)
    return jnp.sum(spikes, axis=0, dtype=state_dtype(spikes.dtype))


def first_spike_time(
    spikes: Float[Array, "T *shape"], mask: Bool[Array, "T *N"] | None = None
) -> Float[Array, "*shape"]:
    """Time steps before the first spike; all of them for a neuron that never fires.

        out[n, c] = min { t : spikes[t, n, c] = 1 },  T if there is none

    The earlier the smaller: as the score of a class take `-first_spike_time(spikes)`. The
    gradient is that of `T - (T - t) spikes[t]` at the first spike, so that firing more at that
    step counts as firing earlier; a neuron that never fires gets none.

    Args:
        spikes: 0 or 1, time first, `[T, N, ...]`.
        mask: bool, `[T, N]`, the steps that count; None for all. The others are not counted
            as time either.

    Returns:
        `[N, ...]`, float32 or wider.

    Raises:
        TypeError: `mask` is not bool.
        ValueError: `mask` has not the first axes of `spikes`.

    Examples:
        >>> first_spike_time(jnp.array([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0]]))
        Array([1., 3.], dtype=float32)
    """
    dtype = state_dtype(spikes.dtype)
    counted = jnp.ones(spikes.shape[:1], bool) if mask is None else mask
    counted = _spread(counted, spikes).astype(dtype)
    steps = jnp.sum(counted, axis=0, keepdims=True)
    left = steps - (jnp.cumsum(counted, axis=0) - counted)  # from this step on
    first = first_spike_index(spikes, mask=mask)
    left_at_spike = jnp.where(first, spikes.astype(dtype), 0) * jnp.broadcast_to(left, first.shape)
    return jnp.broadcast_to(steps[0], first.shape[1:]) - jnp.sum(left_at_spike, axis=0)


def first_spike_index(
    spikes: Float[Array, "T *shape"], mask: Bool[Array, "T *N"] | None = None
) -> Bool[Array, "T *shape"]:
    """Marks the first spike of each neuron.

    Args:
        spikes: time first, `[T, N, ...]`; what is greater than 0 is a spike.
        mask: bool, `[T, N]`, the steps that count; None for all.

    Returns:
        bool, in the shape of `spikes`: True at the first spike, nowhere for a neuron that never
        fires.

    Raises:
        TypeError: `mask` is not bool.
        ValueError: `mask` has not the first axes of `spikes`.
    """
    fired = spikes > 0
    if mask is not None:
        fired &= jnp.broadcast_to(_spread(mask, spikes), fired.shape)
    return fired & (jnp.cumsum(fired, axis=0, dtype=jnp.int32) == 1)


def max_membrane(
    v_seq: Float[Array, "T *shape"], mask: Bool[Array, "T *N"] | None = None
) -> Float[Array, "*shape"]:
    """The largest potential of each neuron over time.

        out[n, c] = max_t v[t, n, c]

    The gradient goes to the step of the largest potential, of equal ones to the first.

    Args:
        v_seq: potentials, time first, `[T, N, C]`, e.g. of `jaxsnn.nn.NonSpikingLIFNode`.
        mask: bool, `[T, N]`, the steps that count; None for all.

    Returns:
        `[N, C]`.

    Raises:
        TypeError: `mask` is not bool.
        ValueError: `mask` has not the first axes of `v_seq`.

    Examples:
        >>> v = jnp.array([0.0, 2.0, 2.0])
        >>> jax.value_and_grad(max_membrane)(v)
        (Array(2., dtype=float32), Array([0., 1., 0.], dtype=float32))
    """
    if mask is None:
        return largest(v_seq, (0,))
    counted = _spread(mask, v_seq)
    # Steps that do not count repeat the first one that does, which changes no maximum.
    first = counted & (jnp.cumsum(counted, axis=0, dtype=jnp.int32) == 1)
    start = jnp.sum(jnp.where(first, v_seq, 0), axis=0, keepdims=True)
    return _if_any(counted, largest(jnp.where(counted, v_seq, start), (0,)))


def max_abs_membrane(
    v_seq: Float[Array, "T *shape"], mask: Bool[Array, "T *N"] | None = None
) -> Float[Array, "*shape"]:
    """The potential of each neuron that is furthest from 0, with its sign.

        out[n, c] = v[t*, n, c],  t* = argmax_t |v[t, n, c]|

    Between a positive and a negative one of the same size the negative one is taken. The gradient
    goes to its step, of equal ones to the first.

    Args:
        v_seq: potentials, time first, `[T, N, C]`, e.g. of `jaxsnn.nn.NonSpikingLIFNode`.
        mask: bool, `[T, N]`, the steps that count; None for all.

    Returns:
        `[N, C]`.

    Raises:
        TypeError: `mask` is not bool.
        ValueError: `mask` has not the first axes of `v_seq`.

    Examples:
        >>> max_abs_membrane(jnp.array([[0.5], [-0.8], [0.3]]))
        Array([-0.8], dtype=float32)
    """
    highest, lowest = max_membrane(v_seq, mask=mask), -max_membrane(-v_seq, mask=mask)
    return jnp.where(highest > -lowest, highest, lowest)


def mean_membrane(
    v_seq: Float[Array, "T *shape"], mask: Bool[Array, "T *N"] | None = None
) -> Float[Array, "*shape"]:
    """The potential of each neuron, mean over time.

        out[n, c] = mean_t v[t, n, c]

    Args:
        v_seq: potentials, time first, `[T, N, C]`, e.g. of `jaxsnn.nn.NonSpikingLIFNode`.
        mask: bool, `[T, N]`, the steps that count; None for all.

    Returns:
        `[N, C]`.

    Raises:
        TypeError: `mask` is not bool.
        ValueError: `mask` has not the first axes of `v_seq`.
    """
    return _mean(v_seq, mask).astype(v_seq.dtype)


def last_membrane(
    v_seq: Float[Array, "T *shape"], mask: Bool[Array, "T *N"] | None = None
) -> Float[Array, "*shape"]:
    """The potential of each neuron after the last time step.

        out[n, c] = v[T - 1, n, c]

    Args:
        v_seq: potentials, time first, `[T, N, C]`, e.g. of `jaxsnn.nn.NonSpikingLIFNode`.
        mask: bool, `[T, N]`, the steps that count; None for all.

    Returns:
        `[N, C]`.

    Raises:
        TypeError: `mask` is not bool.
        ValueError: `mask` has not the first axes of `v_seq`.
    """
    if mask is None:
        return v_seq[-1]
    counted = _spread(mask, v_seq)
    last = len(v_seq) - 1 - jnp.argmax(jnp.flip(counted, axis=0), axis=0, keepdims=True)
    return _if_any(counted, jnp.take_along_axis(v_seq, last, axis=0)[0])


def _mean(ys: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Mean over time in float32 or wider."""
    if mask is None:
        return jnp.mean(ys, axis=0, dtype=state_dtype(ys.dtype))
    total = spike_count(ys, mask=mask)
    steps = jnp.sum(_spread(mask, ys), axis=0, dtype=total.dtype)
    return total / jnp.broadcast_to(jnp.maximum(steps, 1), total.shape)


def _spread(mask: jax.Array, ys: jax.Array) -> jax.Array:
    """`mask` `[T, N]`, checked, with axes of size 1 up to the rank of `ys` `[T, N, ...]`."""
    return over(_checks.mask(mask, ys), ys)


def _if_any(counted: jax.Array, out: jax.Array) -> jax.Array:
    """`out`, or 0 for an example without a step that counts."""
    return jnp.where(jnp.any(counted, axis=0), out, 0)
