"""Argument checks: one line a check, one message style (argument, value, way out)."""

import math
import numbers
from typing import Any

import jax
import jax.numpy as jnp


def real(name: str, value: Any) -> float:
    """Returns `value` as a finite Python float."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {value!r} ({type(value).__name__})")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value!r}")
    return float(value)


def positive(name: str, value: Any) -> float:
    """Returns `value` as a float that is greater than 0."""
    number = real(name, value)
    if number <= 0:
        raise ValueError(f"{name} must be greater than 0, got {value!r}")
    return number


def time_constant(name: str, value: Any) -> float:
    """Returns `value` as a time constant in time steps, greater than 1."""
    number = real(name, value)
    if number <= 1:
        raise ValueError(
            f"{name} must be greater than 1 (a time constant in time steps: each step decays by "
            f"1/{name}), got {value!r}"
        )
    return number


def boolean(name: str, value: Any) -> bool:
    """Returns `value`, which must be True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r} ({type(value).__name__})")
    return value


def size(name: str, value: Any) -> int:
    """Returns `value` as an int of at least 1."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an integer, got {value!r} ({type(value).__name__})")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value!r}")
    return int(value)


def function(name: str, value: Any) -> Any:
    """Returns `value`, which must be callable."""
    if not callable(value):
        raise TypeError(f"{name} must be callable, got {value!r} ({type(value).__name__})")
    return value


def floating(name: str, array: jax.Array) -> None:
    """`array` must have a floating dtype."""
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(
            f"{name} must be floating, got dtype {array.dtype}; "
            f"convert it with {name}.astype(jnp.float32)"
        )
