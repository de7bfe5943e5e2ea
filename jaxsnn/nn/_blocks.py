"""Residual blocks and parallel branches."""

import operator
from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsnn import _checks
from jaxsnn.nn._fields import Fields, Part
from jaxsnn.nn._module import Module
from jaxsnn.nn._run import Run


class Residual(Fields, Module):
    """A branch and a shortcut around it, whose outputs are combined.

        y = combine(shortcut(x), branch(x))

    Args:
        branch: a cell, a module, a layer or a function.
        shortcut: the same, e.g. a 1x1 `Conv` with strides where the branch changes the shape; None
            passes `x` as it is.
        combine: element-wise function of the shortcut's output `x` and the branch's output `y`. The
            three of SEW-ResNet are `operator.add`, `operator.mul` (AND) and
            `lambda x, y: x * (1 - y)` (IAND).

    Raises:
        TypeError: an argument is not callable.
        ValueError: when run, if the shapes of the two outputs do not fit.

    Examples:
        >>> rngs = nnx.Rngs(0)
        >>> block = Residual(Sequential(Linear(3, 3, rngs=rngs), BatchNorm(3), IFNode()))
        >>> unroll(block, jnp.ones((5, 2, 3)))[1].shape
        (5, 2, 3)

    Source: Fang et al. 2021, "Deep residual learning in spiking neural networks".
    """

    printed = ("combine",)
    branch: Part
    shortcut: Part | None = None
    combine: Annotated[Callable[[jax.Array, jax.Array], jax.Array], _checks.function] = operator.add

    def forward(self, x: Any, run: Run) -> Any:
        y = run._part("branch", self.branch, x)
        if self.shortcut is not None:
            x = run._part("shortcut", self.shortcut, x)
        try:
            return self.combine(x, y)
        except TypeError as error:
            shapes = [list(getattr(z, "shape", ())) for z in (x, y)]
            if shapes[0] == shapes[1]:
                raise
            raise ValueError(
                f"Residual cannot combine its shortcut's output {shapes[0]} with its branch's "
                f"output {shapes[1]}; give it a shortcut that outputs the branch's shape, e.g. a "
                "1x1 Conv with the strides of the branch"
            ) from error


class Concatenate(Module):
    """Branches side by side, whose outputs are joined along the last axis, the channels.

        y = [branch_0(x); branch_1(x); ...]

    Args:
        *branches: cells, modules, layers or functions; `jax.numpy.asarray` passes `x` as it is.

    Raises:
        TypeError: a branch is not callable.
        ValueError: there is no branch.

    Examples:
        >>> rngs = nnx.Rngs(0)
        >>> block = Concatenate(Linear(3, 2, rngs=rngs), IFNode())
        >>> unroll(block, jnp.ones((5, 2, 3)))[1].shape
        (5, 2, 5)
    """

    def __init__(self, *branches: Any) -> None:
        if not branches:
            raise ValueError("Concatenate needs at least one branch, got none")
        for k, branch in enumerate(branches):
            _checks.function(f"branch {k} of Concatenate", branch)
        self.branches = nnx.List(branches)

    def forward(self, x: Any, run: Run) -> Any:
        ys = [run._part(f"branches.{k}", part, x) for k, part in enumerate(self.branches)]
        return jnp.concatenate(ys, axis=-1)
