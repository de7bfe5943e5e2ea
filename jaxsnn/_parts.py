"""The parts of a module and the paths at which they are."""

from collections.abc import Iterator
from typing import Any

from flax import nnx


def join(path: str, name: str | int) -> str:
    """The path of the part `name` of the module at `path`, e.g. `"1.sub_module"`."""
    return f"{path}.{name}" if path else str(name)


def named(layer: Any, path: str) -> str:
    """The class of a layer, and its path."""
    return f"{type(layer).__name__} at {path!r}" if path else type(layer).__name__


def is_final(method: Any) -> bool:
    """Whether a method is marked by `typing.final`, so that no derived class has replaced it.

    Over a sequence our classes compute their `__call__` in a faster way; a class with another
    `__call__` is run by that.
    """
    return getattr(method, "__final__", False)


def children(module: Any) -> dict[str, Any]:
    """The modules directly inside a module, by the names that they have in paths.

    A name is the attribute; in a list or dictionary the attribute and the index or key, e.g.
    `"blocks.0"`. A class may name its parts otherwise, with a method `_children`.
    """
    if hasattr(module, "_children"):
        return module._children()
    if not isinstance(module, nnx.Module):
        return {}
    found = entries(module)
    return {
        name: value
        for name, value in found.items()
        if isinstance(value, nnx.Module) or name == "sub_module"  # also a plain function
    }


def entries(module: nnx.Module) -> dict[str, Any]:
    """The values of all attributes of a module, those in lists and dictionaries by themselves."""
    own = {name: value for name, value in vars(module).items() if not name.startswith("_pytree__")}
    return dict(_entries("", own.items()))


def _entries(path: str, items: Any) -> Iterator[tuple[str, Any]]:
    for name, value in items:
        here = join(path, name)
        if isinstance(value, nnx.List | list | tuple):
            yield from _entries(here, enumerate(value))
        elif isinstance(value, nnx.Dict | dict):
            yield from _entries(here, value.items())
        else:
            yield here, value


def path_of(part: Any, module: Any) -> str | None:
    """The path of `part` in `module`, None if it is not there."""
    if not isinstance(module, nnx.Module):
        return None
    found = children(module) | entries(module)
    direct = (name for name, value in found.items() if value is part)
    inside = ((name, path_of(part, value)) for name, value in found.items())
    deeper = (join(name, path) for name, path in inside if path is not None)
    return next(direct, None) or next(deeper, None)


def parts(module: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """A module and all modules inside it, with their paths."""
    yield path, module
    for name, child in children(module).items():
        yield from parts(child, join(path, name))
