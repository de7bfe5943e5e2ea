"""Readouts: from what a network gives at each time step to one number per class."""

import jax
import jax.numpy as jnp


def max_membrane(v_seq: jax.Array) -> jax.Array:
    """The largest potential of each neuron over time.

        out[n, c] = max_t v[t, n, c]

    Args:
        v_seq: potentials, time first, `[T, N, C]`, e.g. of `jaxsnn.nn.NonSpikingLIFNode`.

    Returns:
        `[N, C]`.
    """
    return jnp.max(v_seq, axis=0)


def max_abs_membrane(v_seq: jax.Array) -> jax.Array:
    """The potential of each neuron that is furthest from 0, with its sign.

        out[n, c] = v[t*, n, c],  t* = argmax_t |v[t, n, c]|

    Between a positive and a negative one of the same size the negative one is taken.

    Args:
        v_seq: potentials, time first, `[T, N, C]`, e.g. of `jaxsnn.nn.NonSpikingLIFNode`.

    Returns:
        `[N, C]`.

    Example:
        >>> max_abs_membrane(jnp.array([[0.5], [-0.8], [0.3]]))
        Array([-0.8], dtype=float32)
    """
    highest, lowest = jnp.max(v_seq, axis=0), jnp.min(v_seq, axis=0)
    return jnp.where(highest > -lowest, highest, lowest)


def mean_membrane(v_seq: jax.Array) -> jax.Array:
    """The potential of each neuron, mean over time.

        out[n, c] = mean_t v[t, n, c]

    Args:
        v_seq: potentials, time first, `[T, N, C]`, e.g. of `jaxsnn.nn.NonSpikingLIFNode`.

    Returns:
        `[N, C]`.
    """
    return jnp.mean(v_seq, axis=0)


def last_membrane(v_seq: jax.Array) -> jax.Array:
    """The potential of each neuron after the last time step.

        out[n, c] = v[T - 1, n, c]

    Args:
        v_seq: potentials, time first, `[T, N, C]`, e.g. of `jaxsnn.nn.NonSpikingLIFNode`.

    Returns:
        `[N, C]`.
    """
    return v_seq[-1]


def firing_rate(ys: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Placeholder, replaced by that of branch encoders."""
    if mask is None:
        return jnp.mean(ys, axis=0, dtype=jnp.promote_types(ys.dtype, jnp.float32))
    weight = mask.reshape(mask.shape + (1,) * (ys.ndim - mask.ndim)).astype(ys.dtype)
    return jnp.sum(ys * weight, 0) / jnp.maximum(jnp.sum(weight, 0), 1)
