"""Checks of what a cell is called with."""

from typing import Any, NoReturn

import jax
import jax.numpy as jnp

from jaxsnn import _checks
from jaxsnn._dtypes import state_dtype


def check_call(cell: Any, x: Any) -> None:
    """A cell must be called with a carry and the input `x` of one time step, in this order."""
    if x is _checks.REQUIRED or isinstance(x, tuple):
        name = type(cell).__name__
        found = "the carry last" if isinstance(x, tuple) else "one argument"
        raise TypeError(
            f"{name} is a cell: carry, y = cell(carry, x) is one time step, got {found}. To run "
            "it over a sequence use jaxsnn.nn.unroll(cell, xs). In the forward of a "
            "jaxsnn.nn.Module write run(self.part, x). In a stack use jaxsnn.nn.Sequential, which "
            "passes each layer its carry; flax.nnx.Sequential does not"
        )


def check_step(
    cell: Any,
    carry: Any,
    x: jax.Array | jax.ShapeDtypeStruct,
    kind: type[Any] | None = None,
    shape: tuple[int, ...] | None = None,
) -> None:
    """`carry` must be an array that fits the input `x` of one time step, or a `kind` (a
    NamedTuple) of such arrays. Their shape is that of `x`, unless another is given.
    """
    name = type(cell).__name__
    shape = x.shape if shape is None else shape
    if kind is None:
        states = {cell.state_name: carry}
    elif isinstance(carry, kind):
        states = carry._asdict()
    else:
        found = "one array" if hasattr(carry, "shape") else type(carry).__name__
        raise TypeError(
            f"the carry of {name} must be {kind.__name__}({', '.join(kind._fields)}), got "
            f"{found}; start from initialize_carry(x.shape) or pass the last carry"
        )
    _checks.floating(f"the input x of {name}", x)
    for field, state in states.items():
        if not hasattr(state, "dtype") or not hasattr(state, "shape"):
            raise TypeError(
                f"{field} in the carry of {name} must be an array, got {type(state).__name__}; "
                "start from initialize_carry(x.shape) or pass the last carry"
            )
        if state.dtype != state_dtype(x.dtype) and state.dtype != jnp.float64:
            raise TypeError(
                f"{field} in the carry of {name} has dtype {state.dtype}, but for inputs of "
                f"{x.dtype} it is kept in {state_dtype(x.dtype)}; convert it with .astype"
            )
        if state.shape != shape:
            raise ValueError(
                f"{field} in the carry of {name} has shape {state.shape}, but for an input of "
                f"shape {x.shape} it needs {shape}; for a new batch start from a fresh state "
                "(carry=None, or initialize_carry)"
            )


def check_past(cell: Any, past: Any, x: Any, steps: int) -> None:
    """`past` must be the last `steps` inputs like `x`, along an axis of their own, the last."""
    shape = getattr(past, "shape", None)
    if shape is not None and shape != (*x.shape, steps):
        raise ValueError(
            f"the carry of {type(cell).__name__} must hold {steps} inputs of shape {x.shape} along "
            f"its last axis, got an array of shape {shape}; for a new batch start from a fresh "
            "state (carry=None, or initialize_carry)"
        )
    one = past if shape is None else jax.ShapeDtypeStruct(x.shape, past.dtype)
    check_step(cell, one, x)


def refuse_carry(cell: Any, expected: str, carry: Any) -> NoReturn:
    """Raise: the carry of `cell` must be as `expected`."""
    raise ValueError(
        f"the carry of {type(cell).__name__} must be {expected}, got "
        f"{jax.tree.map(jnp.shape, carry)} as shapes; pass the last carry, or for a new batch "
        "start from a fresh state (carry=None, or initialize_carry(x.shape))"
    )
