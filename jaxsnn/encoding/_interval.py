"""The interval an encoder takes its values from."""

import jax
import jax.numpy as jnp

from jaxsnn import _checks, quantize
from jaxsnn._dtypes import state_dtype


def within(x: jax.Array, low: float, high: float, remedy: str) -> jax.Array:
    """`x`, which must be floating and lie in `[low, high]`, in float32 or wider.

    Values can be looked at only outside `jax.jit`; inside, they are clipped.
    """
    _checks.floating("x", x)
    if not isinstance(x, jax.core.Tracer) and x.size:
        smallest, largest = float(jnp.min(x)), float(jnp.max(x))
        if not (low <= smallest and largest <= high):  # so that not-a-number is caught too
            raise ValueError(
                f"x must lie in [{low:g}, {high:.10g}], got values from {smallest:g} to "
                f"{largest:g}; {remedy}"
            )
    return quantize.clamp(x.astype(state_dtype(x.dtype)), low, high)
