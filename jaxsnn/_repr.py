"""Readable modules: printed as one line per layer with its settings, and with a signature."""

import inspect
from collections.abc import Iterator
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.nnx import reprlib

from jaxsnn._parts import children


class _Signature:
    """The signature of a class: its constructor's, where Flax's metaclass has `*args, **kwargs`."""

    def __get__(self, instance: Any, owner: type) -> inspect.Signature:
        if instance is not None:  # its signature is that of its __call__
            raise AttributeError("__signature__")
        if getattr(owner, "shown_signature", None) is not None:
            return owner.shown_signature  # type: ignore[attr-defined]  # of a declaration
        init: Any = owner.__init__  # type: ignore[misc]  # only read
        if init is object.__init__:
            return inspect.Signature()
        _, *parameters = inspect.signature(init).parameters.values()
        return inspect.Signature(parameters)


class Printable:
    """Mixin: prints a module as `Name(setting=value, ...)` with its layers indented below.

    `printed` names the attributes that are settings; layers are found by themselves.
    """

    printed: ClassVar[tuple[str, ...]] = ()
    __signature__ = _Signature()

    def __repr__(self) -> str:
        return _describe(self)

    def __str__(self) -> str:  # Flax defines both
        return _describe(self)

    def __nnx_repr__(self) -> Iterator[reprlib.Object]:
        """Inside a module that Flax prints."""
        yield reprlib.Object(type=_describe(self), start="", end="")


def _describe(layer: Any) -> str:
    if not isinstance(layer, nnx.Module):
        return getattr(layer, "__name__", None) or repr(layer)
    shown = {name: _value(value) for name, value in settings_of(layer).items()}
    learned = getattr(layer, "learned", ())
    shown |= {name: f"learnable({shown[name]})" for name in learned if name in shown}
    settings = ", ".join(f"{name}={value}" for name, value in shown.items())
    inside = [
        f"({name}): {_describe(child)}".replace("\n", "\n  ")
        for name, child in children(layer).items()
    ]
    if not inside:
        return f"{type(layer).__name__}({settings})"
    head = [settings] if settings else []
    return f"{type(layer).__name__}(\n  " + "\n  ".join(head + inside) + "\n)"


def settings_of(layer: nnx.Module) -> dict[str, Any]:
    """Our classes name theirs; of other modules the constructor's plain arguments are shown."""
    if isinstance(layer, Printable):
        return {name: _setting(layer, name) for name in layer.printed}
    shown = {}
    for name, parameter in inspect.signature(type(layer).__init__).parameters.items():
        value = vars(layer).get(name, parameter.default)
        plain = isinstance(value, int | float | str | tuple)
        if plain and (parameter.default is parameter.empty or value != parameter.default):
            shown[name] = value
    return shown


def _setting(layer: nnx.Module, name: str) -> Any:
    """The value of a setting, or its shape if it comes from variables without numbers."""
    if all(map(_has_numbers, jax.tree.leaves(layer))):
        return getattr(layer, name)
    values: list[Any] = []
    jax.eval_shape(lambda layer: values.append(getattr(layer, name)), layer)
    value = values[0].get_raw_value() if isinstance(values[0], nnx.Variable) else values[0]
    return value.aval if isinstance(value, jax.core.Tracer) else value


def _has_numbers(leaf: Any) -> bool:
    if isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer):
        return not leaf.is_deleted()
    return not isinstance(leaf, jax.ShapeDtypeStruct)


def in_short(array: Any) -> str:
    """The shape of an array and the range of its numbers."""
    if array.size == 0:
        return f"<{list(array.shape)} numbers>"
    numbers = np.asarray(array)  # inside jit JAX would only trace the minimum
    low, high = float(numbers.min()), float(numbers.max())
    return f"<{list(array.shape)} numbers from {low:.4g} to {high:.4g}>"


def _value(value: Any) -> str:
    if isinstance(value, nnx.Variable):
        value = value.get_raw_value()
    if isinstance(value, jax.core.Tracer):
        return "<traced>"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        numeric = jnp.issubdtype(value.dtype, jnp.number) or value.dtype == bool
        there = isinstance(value, jax.Array | np.ndarray) and _has_numbers(value)
        if not numeric or not there or not getattr(value, "is_fully_addressable", True):
            return f"<{value.dtype}{list(value.shape)}>"
        return in_short(value) if value.ndim else repr(round(float(value), 4))
    if isinstance(value, tuple) and len(value) > 4 and all(isinstance(n, float) for n in value):
        return in_short(np.asarray(value))
    name = getattr(value, "__name__", None)  # of a function, also of one of JAX's
    return name if callable(value) and name else repr(value)
