"""The shapes in the annotations: a type checker that is switched on refuses others."""

import importlib
import inspect
import os
import pathlib
import subprocess
import sys
import types
import typing

import beartype
import every_shape
import jax
import jaxtyping
import numpy as np
import pytest

from jaxsnn import encoding, learning, nn, quantize

NAMES = """
surrogate functional nn quantize encoding readouts models data losses learning training export
diagnosis interop.nir interop.norse interop.snntorch interop._leaky interop.spikingjelly
"""
PUBLIC = [importlib.import_module(f"jaxsnn.{name}") for name in NAMES.split()]


def is_layer(kind):
    """Whether it is a module without state; the step of a cell says its shapes in `functional`."""
    return issubclass(kind, nn.Module) and not getattr(kind, "carries_state", True)


def public(module):
    """Its functions, and what its classes but the cells can be called for, as they were written."""
    for name, value in vars(module).items():
        if name.startswith("_") or not getattr(value, "__module__", "").startswith(module.__name__):
            continue
        if not isinstance(value, type):
            if hasattr(value, "__name__"):
                yield name, inspect.unwrap(value)
        elif not issubclass(value, nn.Cell) or is_layer(value):
            for method, function in inspect.getmembers(value, inspect.isfunction):
                ours = function.__module__.startswith("jaxsnn.")
                if ours and (method == "__call__" or not method.startswith("_")):
                    yield f"{name}.{method}", inspect.unwrap(function)


def bare_arrays(hint):
    """The parts of an annotation that are arrays of any shape."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType, tuple):
        return [bare for part in typing.get_args(hint) for bare in bare_arrays(part)]
    return [hint] if hint in (jax.Array, np.ndarray) or origin is np.ndarray else []


def test_every_public_function_says_its_shapes():
    shapes = 0
    for module in PUBLIC:
        for name, function in public(module):
            for part, hint in inspect.get_annotations(function).items():
                assert not bare_arrays(hint), f"{module.__name__}.{name}: {part}"
                shapes += "jaxtyping" in repr(hint)
    assert shapes > 300  # they are found


@pytest.mark.parametrize(
    ("function", "wrong", "right"),
    every_shape.ROWS,
    ids=[row[0].__qualname__ for row in every_shape.ROWS],
)
def test_annotations_take_and_refuse(function, wrong, right):
    checked = jaxtyping.jaxtyped(typechecker=beartype.beartype)(inspect.unwrap(function))
    every_shape.trace(checked, right)
    (parameter,) = wrong
    with pytest.raises(jaxtyping.TypeCheckError, match=f"typechecking parameter '{parameter}'"):
        checked(**right | wrong)


def test_no_function_is_left_out():
    """`checked_shapes.py` runs those of the other modules, most of them in networks."""
    there = {inspect.unwrap(function) for function, *_ in every_shape.ROWS}
    for module in (encoding, quantize, learning, nn):
        for name, function in public(module):
            returned = inspect.get_annotations(function).get("return")
            abstract = getattr(function, "__isabstractmethod__", False)
            if "jaxtyping" in repr(returned) and not abstract:
                assert function in there, name


@pytest.mark.slow
def test_a_type_checker_in_the_whole_package():
    """It finds no fault with any cell, model, training, diagnosis or export, and with misuse."""
    program = pathlib.Path(every_shape.__file__).with_name("checked_shapes.py")
    search = os.pathsep.join(sys.path)  # as here, where the tables are found
    subprocess.run(
        [sys.executable, program],
        check=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": search},
    )
