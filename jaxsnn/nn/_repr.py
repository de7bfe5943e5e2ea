"""Readable printing: one line a layer with its settings, no arrays."""

import inspect
from typing import Any, ClassVar

import jax
import numpy as np
from flax import nnx


class Printable:
    """Mixin: prints a module as `Name(setting=value, ...)` with its layers indented below.

    `printed` names the attributes that are settings; layers are found by themselves.
    """

    printed: ClassVar[tuple[str, ...]] = ()

    def __repr__(self) -> str:
        return _describe(self)

    def __str__(self) -> str:  # Flax defines both
        return _describe(self)


def _describe(layer: Any) -> str:
    if not isinstance(layer, nnx.Module):
        return getattr(layer, "__name__", None) or repr(layer)
    settings = ", ".join(f"{name}={_value(value)}" for name, value in settings_of(layer).items())
    children = [
        f"({name}): {_describe(child)}".replace("\n", "\n  ")
        for name, child in _children(layer).items()
    ]
    if not children:
        return f"{type(layer).__name__}({settings})"
    head = [settings] if settings else []
    return f"{type(layer).__name__}(\n  " + "\n  ".join(head + children) + "\n)"


def settings_of(layer: nnx.Module) -> dict[str, Any]:
    """Our classes name theirs; of other modules the constructor's plain arguments are shown."""
    if isinstance(layer, Printable):
        return {name: getattr(layer, name) for name in layer.printed}
    shown = {}
    for name, parameter in inspect.signature(type(layer).__init__).parameters.items():
        value = vars(layer).get(name, parameter.default)
        told = parameter.default is parameter.empty or value != parameter.default
        if told and isinstance(value, int | float | str | tuple):
            shown[name] = value
    return shown


def _children(layer: nnx.Module) -> dict[str, Any]:
    children: dict[str, Any] = {}
    for name, value in vars(layer).items():
        if isinstance(value, nnx.List):
            children.update({str(k): child for k, child in enumerate(value)})
        elif isinstance(value, nnx.Module) or name == "sub_module":  # which may be a plain function
            children[name] = value
    return children


def in_short(array: Any) -> str:
    """Many numbers as how many they are and between which."""
    if array.size == 0:
        return f"<{list(array.shape)} numbers>"
    low, high = float(array.min()), float(array.max())
    return f"<{list(array.shape)} numbers from {low:.4g} to {high:.4g}>"


def _value(value: Any) -> str:
    if isinstance(value, nnx.Variable):
        value = value[...]
    if isinstance(value, jax.core.Tracer):
        return "<traced>"
    if isinstance(value, jax.Array | np.ndarray):
        return in_short(value) if value.ndim else repr(round(float(value), 4))
    if isinstance(value, tuple) and len(value) > 4 and all(isinstance(n, float) for n in value):
        return in_short(np.asarray(value))
    name = getattr(value, "__name__", None)  # of a function, also of one of JAX's
    return name if callable(value) and name else repr(value)
