"""Argument checks: one line a check, one message style (argument, value, way out)."""

import contextlib
import dataclasses
import dis
import functools
import math
import numbers
import types
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

Number = TypeVar("Number", int, float)


class _Required:
    """Default of an argument that must be given, so that our error says how."""

    def __repr__(self) -> str:
        return "<required>"


REQUIRED: Any = _Required()


def not_traced(name: str, value: object) -> None:
    """`value` must not depend on what `jax.grad`, `jax.jit` or `jax.vmap` runs over."""
    if isinstance(value, jax.core.Tracer):
        raise TypeError(
            f"{name} must be known when it is set, got a traced array ({value.aval.str_short()}). "
            "The constants of neurons and synapses may be traced, and the arguments of "
            "jaxsnn.functional; to compare other settings, make one module for each"
        )


def real(name: str, value: Any) -> float:
    """Returns `value` as a finite Python float; NumPy's and JAX's scalars count as numbers."""
    not_traced(name, value)
    if isinstance(value, np.ndarray | jax.Array) and value.ndim == 0:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {value!r} ({type(value).__name__})")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value!r}")
    return float(value)


def less(name: str, value: Any, other_name: str, other: Any) -> None:
    """`value` must be less than `other`, unless one of them is None, or traced."""
    traced = any(isinstance(number, jax.core.Tracer) for number in (value, other))
    if value is not None and other is not None and not traced and np.any(value >= other):
        raise ValueError(f"{name} must be less than {other_name}, got {value!r} and {other!r}")


def probability(name: str, value: Any, *, below_one: bool = False) -> float:
    """Returns `value` as a float from 0 to 1, or below 1: a probability or a fraction."""
    number = real(name, value)
    if number < 0 or number > 1 or (below_one and number == 1):
        allowed = "at least 0 and below 1" if below_one else "between 0 and 1"
        raise ValueError(f"{name} must be {allowed}, got {value!r}")
    return number


def boolean(name: str, value: Any) -> bool:
    """Returns `value`, which must be True or False."""
    not_traced(name, value)
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r} ({type(value).__name__})")
    return value


def integer(name: str, value: Any) -> int:
    """Returns `value` as an int; NumPy's integers count."""
    not_traced(name, value)
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an integer, got {value!r} ({type(value).__name__})")
    return int(value)


def _range(
    kind: Callable[[str, Any], Number], fits: Callable[[Number], bool], expected: str
) -> Callable[[str, Any], Number]:
    """A check that returns `value` as a number that `fits`."""

    def check(name: str, value: Any) -> Number:
        number = kind(name, value)
        if not fits(number):
            raise ValueError(f"{name} must be {expected}, got {value!r}")
        return number

    return check


positive = _range(real, lambda number: number > 0, "greater than 0")
non_negative = _range(real, lambda number: number >= 0, "at least 0")
negative = _range(real, lambda number: number < 0, "less than 0")
time_constant = _range(
    real,
    lambda number: number > 1,
    "greater than 1 (a time constant in time steps: each step decays by its inverse)",
)
trace_constant = _range(
    real, lambda number: number >= 1, "at least 1 (a time constant in time steps)"
)
size = _range(integer, lambda number: number >= 1, "at least 1")
count = _range(integer, lambda number: number >= 0, "at least 0")


def interval(name: str, value: Any) -> tuple[float, float]:
    """Returns `value` as two numbers, the smaller first."""
    if np.shape(value) != (2,):
        raise ValueError(f"{name} must be two numbers, e.g. (-1.0, 1.0), got {value!r}")
    low, high = (real(name, number) for number in value)
    if low >= high:
        raise ValueError(f"{name} must have the smaller number first, got {value!r}")
    return low, high


def seed(value: Any) -> int:
    """Returns `value` as a seed: JAX would take larger ones modulo 2^32."""
    number = integer("seed", value)
    if not 0 <= number < 2**32:
        raise ValueError(f"seed must be at least 0 and below 2^32, got {number}")
    return number


def function(name: str, value: Any) -> Any:
    """Returns `value`, which must be callable, an instance, and name no module of its own."""
    if not callable(value):
        raise TypeError(f"{name} must be callable, got {value!r} ({type(value).__name__})")
    if isinstance(value, type):
        kind = value.__name__
        raise TypeError(f"{name} must be an instance, got the class {kind}; write {kind}()")
    if dataclasses.is_dataclass(value) and not isinstance(value, nnx.Module):
        for field in dataclasses.fields(value):
            not_traced(f"{field.name} of {name}", getattr(value, field.name))
    for module in _names(value):
        if isinstance(module, nnx.Module):
            raise TypeError(
                f"{name} is a function that holds the module {type(module).__name__}, which would "
                "not be trained; pass the module itself"
            )
    return value


def _names(function: Any) -> list[Any]:
    """The objects that a function names: bound, by default, in its closure, or as a global.

    `_captured` finds modules that a function reaches in other ways, once the function is traced.
    """
    named = [getattr(function, "__self__", None), getattr(function, "__wrapped__", None)]
    if isinstance(function, functools.partial):
        named += [function.func, *function.args, *function.keywords.values()]
    if isinstance(function, types.FunctionType):
        named += [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
        for cell in function.__closure__ or ():
            with contextlib.suppress(ValueError):  # not assigned yet
                named.append(cell.cell_contents)
        for step in dis.get_instructions(function):
            if step.opname == "LOAD_GLOBAL":
                named.append(function.__globals__.get(step.argval))
    return named


def floating(name: str, array: jax.Array | jax.ShapeDtypeStruct) -> None:
    """`array` must have a floating dtype."""
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{name} must be floating, got dtype {array.dtype}; use .astype")


def streams(value: Any) -> nnx.Rngs:
    """Returns `value`, which must be random streams."""
    if value is REQUIRED:
        raise TypeError("rngs is missing; pass rngs=nnx.Rngs(0) (from flax import nnx)")
    if not isinstance(value, nnx.Rngs):
        raise TypeError(f"rngs must be flax.nnx.Rngs, e.g. nnx.Rngs(0), got {value!r}")
    return value


def random_key(name: str, value: Any) -> None:
    """`value` must be one random key of JAX."""
    dtype = getattr(value, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jax.dtypes.prng_key) or value.shape:
        raise TypeError(f"{name} must be a random key, e.g. jax.random.key(0), got {value!r}")


def mask(value: Any, xs: jax.Array) -> jax.Array:
    """The argument `mask`: bool, with the shape of the leading axes of `xs`."""
    value = jnp.asarray(value)
    if value.dtype != jnp.bool_:
        raise TypeError(f"mask must be bool (True for the steps that count), got {value.dtype}")
    if value.ndim == 0 or value.shape != xs.shape[: value.ndim]:
        raise ValueError(
            f"mask must have the shape of the leading axes of the sequence {list(xs.shape)}, "
            f"usually [T, N], got {list(value.shape)}"
        )
    return value


def paths(name: str, value: Any) -> tuple[str, ...]:
    """One path, or several."""
    several = (value,) if isinstance(value, str) else value
    if not isinstance(several, Sequence | set) or not all(isinstance(p, str) for p in several):
        raise TypeError(f"{name} must be a path or several, e.g. ['1.v', '2'], got {value!r}")
    return tuple(sorted(several)) if isinstance(several, set) else tuple(several)
