"""The dtype in which states are kept."""

from typing import Any

import jax.numpy as jnp


def state_dtype(dtype: Any) -> Any:
    """The dtype in which a state is kept for inputs of `dtype`: at least float32."""
    dtype = jnp.dtype(dtype)
    return dtype if dtype.itemsize > 4 else jnp.dtype(jnp.float32)
