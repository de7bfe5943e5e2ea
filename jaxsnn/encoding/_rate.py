"""Values as firing rates: at random, or evenly spaced."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from jaxsnn import _checks, quantize
from jaxsnn.encoding._interval import within
from jaxsnn.encoding._repetition import repeat
from jaxsnn.nn import IFNode, unroll
from jaxsnn.surrogate import DeterministicPass

_REMEDY = "x is the probability of a spike: scale it, e.g. images / 255"


def poisson(
    x: Float[Array | np.ndarray, "*shape"], T: int, *, key: Key[Array, ""]
) -> Float[Array, "{T} *shape"]:
    """Spikes at random, at each step with probability `x`.

        out[t] = [u[t] < x],  u uniform in [0, 1)

    0 never fires and 1 fires at every step. The gradient passes straight through: that of the
    mean of the spikes, which is `x`.

    Args:
        x: probability of a spike in one time step, in [0, 1], any shape, as a rule `[N, ...]`.
            Inside `jax.jit` it cannot be checked and is clipped.
        T: number of time steps.
        key: random key, e.g. `jax.random.key(0)`; the same one gives the same spikes.

    Returns:
        Spikes, `[T, *x.shape]`, in the dtype of `x`.

    Raises:
        TypeError: `x` is not floating, `T` not an integer, or `key` not a random key.
        ValueError: a value is out of [0, 1], or `T` is below 1.

    Examples:
        >>> spikes = poisson(jnp.full((100,), 0.25), 1000, key=jax.random.key(0))
        >>> spikes.shape, bool(abs(spikes.mean() - 0.25) < 0.01)
        ((1000, 100), True)
    """
    _checks.random_key("key", key)
    x = jnp.asarray(x)
    probability = jnp.broadcast_to(within(x, 0.0, 1.0, _REMEDY), (_checks.size("T", T), *x.shape))
    spikes = jax.random.bernoulli(key, probability).astype(probability.dtype)
    return quantize.straight_through(probability, spikes).astype(x.dtype)


def regular(x: Float[Array | np.ndarray, "*shape"], T: int) -> Float[Array, "{T} *shape"]:
    """Evenly spaced spikes at rate `x`: the deterministic rate code.

        v = v + x
        out[t] = H(v - 0.999)
        v = v - 0.999 out[t]

    An integrate-and-fire neuron with soft reset makes the spikes, always from `v = 0`; its
    threshold is a little below 1, so that rounding does not put off a spike. The gradient passes
    straight through each spike (`jaxsnn.surrogate.DeterministicPass`) and not through the reset.
    For a state that lasts from one call to the next run such a neuron in `jaxsnn.nn.unroll`:
    `IFNode(v_threshold=0.999, v_reset=None, surrogate_function=DeterministicPass(),
    detach_reset=True)` on `repeat(x, T)`.

    Args:
        x: firing rate in spikes per time step, in [0, 1], any shape, as a rule `[N, ...]`.
            Inside `jax.jit` it cannot be checked and is clipped.
        T: number of time steps.

    Returns:
        Spikes, `[T, *x.shape]`, in the dtype of `x`.

    Raises:
        TypeError: `x` is not floating, or `T` not an integer.
        ValueError: a value is out of [0, 1], or `T` is below 1.

    Examples:
        >>> regular(jnp.array([0.25, 1.0]), 8)[:, 0]
        Array([0., 0., 0., 1., 0., 0., 0., 1.], dtype=float32)
    """
    x = jnp.asarray(x)
    neuron = IFNode(
        v_threshold=0.999,
        v_reset=None,
        surrogate_function=DeterministicPass(),
        detach_reset=True,
    )
    _, spikes = unroll(neuron, repeat(within(x, 0.0, 1.0, _REMEDY), T))
    return spikes.astype(x.dtype)
