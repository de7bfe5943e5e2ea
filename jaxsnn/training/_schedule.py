"""The tutorial's learning rate: a half cosine over the run, stepped once per epoch."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float64


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
