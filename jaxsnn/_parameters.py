"""Standardised weights."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsnn._dtypes import state_dtype


def standardized(layer: Any) -> Any:
    """A copy of `layer` whose kernel is standardised."""
    kernel = layer.kernel[...]
    wide = kernel.astype(state_dtype(kernel.dtype)).reshape(-1, layer.out_features)
    n = len(wide)
    centred = wide - jnp.mean(wide, 0, keepdims=True)
    var = jnp.sum(jnp.square(centred), 0, keepdims=True) / (n - 1)
    wide = centred * jax.lax.rsqrt(n * var + layer.epsilon)
    if layer.gain is not None:
        wide *= layer.gain[...].astype(wide.dtype)[None]
    copy = nnx.merge(*nnx.split(layer))
    copy.kernel = nnx.Param(wide.astype(kernel.dtype).reshape(kernel.shape))
    return copy
