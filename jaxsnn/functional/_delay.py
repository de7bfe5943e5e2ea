"""Delay by whole time steps."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxsnn import _checks


def delay_step(
    past: Float[Array, "*shape steps"], x: Float[Array, "*shape"]
) -> tuple[Float[Array, "*shape steps"], Float[Array, "*shape"]]:
    """One time step of a delay by `n` steps.

        y[t] = x[t - n],  x = 0 before the first step

    Args:
        past: the last `n` inputs along the last axis, the oldest first, `[..., n]`.
        x: input of this step, `[...]`.

    Returns:
        `(past, y)`: the last `n` inputs with this one, and the oldest before in the dtype of `x`.
    """
    inputs = jnp.concatenate([past, x.astype(past.dtype)[..., None]], axis=-1)
    return inputs[..., 1:], inputs[..., 0].astype(x.dtype)


def delay(xs: Shaped[Array, "T *shape"], delay_steps: int) -> Shaped[Array, "T *shape"]:
    """A whole sequence delayed; what is pushed out at the end is lost.

        y[t] = x[t - delay_steps],  0 where t < delay_steps

    Args:
        xs: the sequence, time first, `[T, ...]`.
        delay_steps: the delay in time steps, at least 0.

    Returns:
        The sequence `y`, in the shape of `xs`.

    Raises:
        TypeError: `delay_steps` is not an integer.
        ValueError: `delay_steps` is below 0.
    """
    delay_steps = _checks.count("delay_steps", delay_steps)
    first = jnp.zeros_like(xs[:delay_steps])
    return jnp.concatenate([first, xs])[: len(xs)]
