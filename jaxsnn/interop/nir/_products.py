"""The arithmetic of a `Linear` or `Conv`, which NIR lacks: kept in the notes on its node."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsnn._convolution import conv_general_dilated
from jaxsnn._dot_general import dot_general

_DTYPES = {name: jnp.dtype(name) for name in ("bfloat16", "float16", "float32", "float64")}
_OWN = ("dot_general", "conv_general_dilated", "promote_dtype", "preferred_element_type")


def product_notes(layer: Any) -> dict[str, str]:
    """The notes on `layer`; none if it multiplies in the dtype of its operands, as most do.

    Raises:
        ValueError: it multiplies by a function of its own, which no note can hold.
    """
    kind = nnx.Conv if isinstance(layer, nnx.Conv) else nnx.Linear
    defaults = inspect.signature(kind.__init__).parameters
    ours = dot_general, conv_general_dilated
    for name in _OWN:
        if name in defaults and getattr(layer, name) not in (defaults[name].default, *ours):
            raise ValueError(f"NIR has nothing for its {name}={getattr(layer, name)}; leave it out")
    notes = {}
    if layer.dtype is not None:
        notes["dtype"] = jnp.dtype(layer.dtype).name
        if notes["dtype"] not in _DTYPES:
            raise ValueError(f"dtype must be one of {list(_DTYPES)}, got {layer.dtype}")
    if layer.precision is not None:
        try:
            notes["precision"] = jax.lax.Precision(layer.precision).name
        except ValueError as error:
            raise ValueError(
                f"precision must be one of jax.lax.Precision, got {layer.precision!r}"
            ) from error
    return notes


def product_settings(notes: dict[str, Any]) -> dict[str, Any]:
    """The arguments `dtype` and `precision` of the layer that has these notes."""
    dtype, precision = notes.get("dtype"), notes.get("precision")
    if dtype is not None and dtype not in _DTYPES:
        raise ValueError(f"its metadata 'dtype' must be one of {list(_DTYPES)}, got {dtype!r}")
    known = jax.lax.Precision.__members__
    if precision is not None and precision not in known:
        raise ValueError(
            f"its metadata 'precision' must be one of {list(known)}, got {precision!r}"
        )
    return {
        "dtype": None if dtype is None else _DTYPES[dtype],
        "precision": None if precision is None else known[precision],
    }
