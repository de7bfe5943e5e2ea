"""The programs that are exported: JAX functions, with the shapes that they are called with."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp

from jaxsnn import _checks
from jaxsnn.models import Classifier, FeedBackNet, PlainNet, StatefulSynapseNet
from jaxsnn.nn import Sequential, unroll


class Program(NamedTuple):
    """An exported function, its example inputs, and the names of its inputs and outputs by leaf."""

    function: Callable[..., Any]
    inputs: tuple[Any, ...]
    takes: tuple[str, ...]
    gives: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.function.__name__


def whole(module: Any, xs: jax.ShapeDtypeStruct) -> Program:
    """The program of a whole sequence: a module or cell is unrolled, any other model called."""
    _checks.function("module", module)

    def run(xs: jax.Array) -> jax.Array:
        ys = unroll(module, xs)[1] if hasattr(module, "initialize_carry") else module(xs)
        if not hasattr(ys, "shape"):
            kind = type(module).__name__
            raise ValueError(f"{kind} must return one array, got {jax.tree.structure(ys)}")
        return ys

    return Program(run, (xs,), ("xs",), ("ys",))


def streaming(module: Any, xs: jax.ShapeDtypeStruct) -> list[Program]:
    """The programs of the first state and of one time step."""
    cell: Any = module
    if isinstance(module, Classifier):
        cell = module.stack
    elif isinstance(module, PlainNet | StatefulSynapseNet | FeedBackNet):
        cell = module.fc
    if not hasattr(cell, "initialize_carry"):
        raise ValueError(
            f"{type(cell).__name__} has no state to go from step to step; save a Sequential or a "
            "Classifier of its layers, or whole sequences only with stream=False"
        )
    stack = Sequential(cell)  # which runs Flax's cells and layers without state as well
    x = jax.ShapeDtypeStruct(xs.shape[1:], xs.dtype)

    def first_carry(x: jax.Array) -> Any:
        return stack.initialize_carry(x.shape, dtype=x.dtype)[0]

    first = jax.eval_shape(first_carry, x)
    leaves, structure = jax.tree.flatten(first)
    kinds = structure, [(leaf.shape, leaf.dtype) for leaf in leaves]
    names = tuple(f"carry{jax.tree_util.keystr(at)}" for at, _ in jax.tree.leaves_with_path(first))

    def start(x: jax.Array) -> tuple[jax.Array, ...]:
        return tuple(jax.tree.leaves(first_carry(x)))

    def step(carry: tuple[jax.Array, ...], x: jax.Array) -> Any:
        (after,), y = stack((jax.tree.unflatten(structure, carry),), x)
        states = jax.tree.leaves(after)
        if (jax.tree.structure(after), [(a.shape, a.dtype) for a in states]) != kinds:
            raise ValueError(
                f"the carry of {type(cell).__name__} must keep its structure, shapes and dtypes, "
                f"but it begins as {leaves} and one step later it is {states}"
            )
        return tuple(states), y

    return [
        Program(start, (x,), ("x",), names),
        Program(step, (tuple(leaves), x), (*names, "x"), (*names, "y")),
    ]


def sequence(input_shape: Any, steps: Any, dtype: Any) -> jax.ShapeDtypeStruct:
    """Shape and dtype of a sequence; sizes that have a name are open."""
    if isinstance(input_shape, str) or not isinstance(input_shape, Sequence):
        raise TypeError(f'input_shape must be a tuple, e.g. ("b", 28), got {input_shape!r}')
    for name, size in [("steps", steps), *(("input_shape", size) for size in input_shape)]:
        if isinstance(size, str):
            if not size.isidentifier():
                raise ValueError(f"{name}: the name of an open size must be a word, got {size!r}")
        else:
            _checks.size(name, size)
    if isinstance(steps, str) and steps in input_shape:
        raise ValueError(f"steps={steps!r} is the name of a size in input_shape={input_shape!r}")
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"dtype must be floating, got {dtype!r}")
    if jax.dtypes.canonicalize_dtype(dtype) != dtype:
        raise ValueError(f"dtype {dtype!r} needs jax.config.update('jax_enable_x64', True)")
    sizes = ", ".join(map(str, (steps, *input_shape)))
    return jax.ShapeDtypeStruct(jax.export.symbolic_shape(sizes), dtype)
