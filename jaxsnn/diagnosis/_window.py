"""Where a surrogate lets the gradient through: its window, found from the surrogate itself."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

INSIDE = 0.1
"""A potential is inside the window where the derivative is at least this share of its peak."""

# Far and near on either side of the threshold: peaks as narrow as 1e-6 at it, and wide ones.
_NEAR = np.logspace(-6, 3, 901)
_GRID = np.concatenate([-_NEAR, [0.0], _NEAR, np.linspace(-8, 8, 1601)]).astype(np.float32)


def slope(surrogate: Callable[[jax.Array], jax.Array], u: jax.Array) -> jax.Array:
    """What a gradient is multiplied with on its way back through the spikes, at each `u`."""
    spikes, pull = jax.vjp(lambda u: surrogate(u).astype(u.dtype), u)
    return jnp.abs(pull(jnp.ones_like(spikes))[0])


class Window(NamedTuple):
    """Where potentials lie, seen through a surrogate.

    Attributes:
        share: how many of them are inside its window, from 0 to 1.
        peak: the largest derivative anywhere.
    """

    share: jax.Array
    peak: jax.Array


def window(surrogate: Callable[[jax.Array], jax.Array], u: jax.Array) -> Window:
    """Looks at the potentials `u` (less the threshold, any shape) through a surrogate."""
    here = slope(surrogate, u)
    everywhere = slope(surrogate, jnp.asarray(_GRID, u.dtype))
    peak = jnp.maximum(jnp.max(jnp.where(jnp.isfinite(everywhere), everywhere, 0)), jnp.max(here))
    inside = (here >= INSIDE * peak) & (peak > 0)
    return Window(jnp.mean(inside, dtype=jnp.float32), peak)
