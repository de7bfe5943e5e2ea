"""For the reference: `Float[Array, "T *shape"]` as it is written, and not as a product of names."""

import ast
from typing import Any

import griffe


class ShapesAsWritten(griffe.Extension):
    """Reads annotations anew, with the strings in brackets as strings."""

    def on_function_instance(self, *, node: Any, func: griffe.Function, **_: Any) -> None:
        if isinstance(node, ast.FunctionDef):
            for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
                parameter = func.parameters[argument.arg]
                parameter.annotation = _read(argument, func, parameter.annotation)
            func.returns = _read(node, func, func.returns)

    def on_attribute_instance(self, *, node: Any, attr: griffe.Attribute, **_: Any) -> None:
        if isinstance(node, ast.AnnAssign):
            attr.annotation = _read(node, attr, attr.annotation)


def _read(node: Any, of: griffe.Object, before: Any) -> Any:
    annotation = node.returns if isinstance(node, ast.FunctionDef) else node.annotation
    if isinstance(annotation, ast.Constant):  # the name of what is defined further down
        return before
    return griffe.get_expression(annotation, of.parent, parse_strings=False)
