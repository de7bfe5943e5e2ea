"""Spikes where the potential is above its threshold, and not where it is equal."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsnn import _checks
from jaxsnn.quantize import straight_through


@dataclasses.dataclass(frozen=True)
class Strict:
    """A spike function that does not fire at `u = 0`, as NIR, snnTorch, Norse and spyx have it.

    Args:
        surrogate: any spike function, e.g. `jaxsnn.surrogate.ATan()`. Everywhere else its values
            are kept, and its derivative everywhere.

    Raises:
        TypeError: `surrogate` is not callable.

    Examples:
        >>> u = jnp.array([-1.0, 0.0, 1.0])
        >>> jaxsnn.surrogate.ATan()(u), Strict(jaxsnn.surrogate.ATan())(u)
        (Array([0., 1., 1.], dtype=float32), Array([0., 0., 1.], dtype=float32))
    """

    surrogate: Callable[[jax.Array], jax.Array]

    def __post_init__(self) -> None:
        _checks.function("surrogate", self.surrogate)

    def __call__(self, u: Float[Array | np.ndarray, "*shape"]) -> Float[Array, "*shape"]:
        """Spikes where `u > 0`.

        Args:
            u: membrane potential less threshold, any shape, floating.
        """
        u = jnp.asarray(u)
        _checks.floating("u", u)
        tiny = jnp.finfo(u.dtype).tiny  # type: ignore[no-untyped-call]  # ml_dtypes has no types
        below = jnp.asarray(-tiny, u.dtype)
        return self.surrogate(straight_through(u, jnp.where(u == 0, below, u)))
