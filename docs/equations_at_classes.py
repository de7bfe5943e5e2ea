"""For the reference: a class whose docstring points to a function shows the function's equation."""

import re
from typing import Any

import griffe

FUNCTION = re.compile(r"`jaxsnn\.functional\.(\w+)`")
SECTION = re.compile(r"^(?:Args|Returns|Raises|Source|Examples?):", re.MULTILINE)


class EquationsAtClasses(griffe.Extension):
    """Copy the equation of `jaxsnn.functional.name` after the paragraph that mentions it.

    Only the first paragraph of a class of `jaxsnn.nn` counts. The source of the class stays as it
    is: the equation is written once, at the function.
    """

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        if pkg.name == "jaxsnn":
            _insert_in(pkg["nn"], pkg["functional"].members)


def _insert_in(module: griffe.Module, functions: dict[str, Any]) -> None:
    for described in module.classes.values():
        _insert(described, functions)
    for inside in module.modules.values():
        _insert_in(inside, functions)


def _insert(described: griffe.Class, functions: dict[str, Any]) -> None:
    if described.is_alias or described.docstring is None:
        return
    summary, _, rest = described.docstring.value.partition("\n\n")
    names = [name for name in FUNCTION.findall(summary) if functions[name].is_function]
    equations = [_equation(functions[name], functions) for name in names]
    described.docstring.value = "\n\n".join([summary, *equations, rest])


def _equation(function: Any, functions: dict[str, Any]) -> str:
    """Return what a function's docstring has between its first paragraph and its first section."""
    body = SECTION.split(function.docstring.value)[0].partition("\n\n")[2].rstrip()
    if not body:
        raise ValueError(f"{function.path} has no equation before its arguments")
    return re.sub(
        r"`(\w+)`",  # its neighbours, named from outside
        lambda name: f"`jaxsnn.functional.{name[1]}`" if name[1] in functions else name[0],
        body,
    )
