"""For the reference: a class that is declared by its fields shows its constructor and arguments."""

import importlib
import inspect
from typing import Any

import griffe


class ConstructorsOfFields(griffe.Extension):
    """Take signature and docstring, which Python completes from the base classes, from the class.

    The source has each field, and each description of a shared argument, only once.
    """

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        if pkg.name == "jaxsnn":
            _complete(pkg["nn"])


def _complete(module: griffe.Module) -> None:
    for inside in module.modules.values():
        if not inside.is_alias:
            _complete(inside)
    for described in module.classes.values():
        if not described.is_alias:
            cls = getattr(importlib.import_module(module.path), described.name)
            if getattr(cls, "shown_signature", None) is not None:
                _add_constructor(described, cls)


def _add_constructor(described: griffe.Class, cls: Any) -> None:
    if described.docstring is not None:
        described.docstring.value = inspect.getdoc(cls) or ""
    parameters = [
        griffe.Parameter(
            parameter.name,
            kind=griffe.ParameterKind(parameter.kind.description),
            annotation=_written(parameter.annotation),
            default=_default(parameter.default),
        )
        for parameter in inspect.signature(cls).parameters.values()
    ]
    described.set_member(
        "__init__", griffe.Function("__init__", parameters=griffe.Parameters(*parameters))
    )


def _default(value: Any) -> str | None:
    if value is inspect.Parameter.empty:
        return None
    return "REQUIRED" if repr(value) == "<required>" else getattr(value, "__name__", repr(value))


def _written(annotation: Any) -> str | None:
    if annotation is inspect.Parameter.empty:
        return None
    written = inspect.formatannotation(annotation).replace("collections.abc.", "")
    return written.replace("jax.jaxlib._jax.", "jax.")
