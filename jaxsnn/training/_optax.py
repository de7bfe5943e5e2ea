"""For optax: clipping by the norm over all parameters, and the tutorial's learning rate."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float64

from jaxsnn import _checks
from jaxsnn._norm import scaled_norm


def clip_by_global_norm(max_norm: float) -> optax.GradientTransformation:
    """Scale gradients down to a norm of at most `max_norm`, whatever their size.

        u = g min(1, max_norm / |g|)

    `optax.clip_by_global_norm` computes the same with a norm that overflows: from gradients of
    1.8e19 on (float32) its update is 0, and a network that has met one may stand still for good.

    Args:
        max_norm: the largest norm of an update, > 0.

    Returns:
        An optax transformation without state, to be chained before an optimiser.

    Raises:
        TypeError: `max_norm` is not a number.
        ValueError: `max_norm` is not greater than 0.

    Examples:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> from jaxsnn import training
        >>> optimizer = optax.chain(training.clip_by_global_norm(1.0), optax.adam(1e-3))
        >>> clip = training.clip_by_global_norm(1.0)
        >>> print(clip.update(jnp.array([3e25, 4e25]), clip.init(None))[0])
        [0.6 0.8]
    """
    max_norm = _checks.positive("max_norm", max_norm)

    def update(
        updates: Any, state: optax.OptState, params: Any = None
    ) -> tuple[Any, optax.OptState]:
        scale, norm = scaled_norm(updates)
        inside = norm * scale < max_norm

        def clip(update: jax.Array) -> jax.Array:
            with jax.numpy_dtype_promotion("standard"):  # half precision is clipped in float32
                clipped = update / scale / norm * max_norm
            return jnp.where(inside, update, clipped.astype(update.dtype))

        return jax.tree.map(clip, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def cosine_schedule(lr: float, epochs: int, steps_per_epoch: int) -> optax.Schedule:
    """Learning rate of a half cosine over the run, constant within an epoch.

        lr[e] = lr (1 + cos(pi e / epochs)) / 2

    Args:
        lr: learning rate of the first epoch.
        epochs: length of the run.
        steps_per_epoch: minibatches per epoch.

    Returns:
        An optax schedule: step count -> learning rate.
    """
    table = cosine_learning_rates(lr, epochs).astype(np.float32)

    def schedule(count: Any) -> jax.Array:
        return jnp.asarray(table)[jnp.minimum(count // steps_per_epoch, epochs - 1)]

    return schedule


def cosine_learning_rates(lr: float, epochs: int) -> Float64[np.ndarray, "{epochs}"]:
    """The learning rate of each epoch, `[epochs]`, float64; see `cosine_schedule`."""
    return lr * (1 + np.cos(np.pi * np.arange(epochs) / epochs)) / 2
