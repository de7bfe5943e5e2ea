"""The check of a carry of several named arrays."""

from typing import Any

import jax

from jaxsnn import _checks
from jaxsnn.nn._cell import Cell, state_dtype


def check_state(
    cell: Cell, kind: type | None, carry: Any, shape: tuple[int, ...], x: jax.Array
) -> None:
    """`carry` must be a `kind` (a NamedTuple; None: one array) of arrays of `shape` for `x`."""
    name = type(cell).__name__
    _checks.floating(f"the input x of {name}", x)
    if kind is None:
        fields, states = (cell.state_name,), (carry,)
    else:
        fields, states = kind._fields, carry  # type: ignore[attr-defined]
    if kind is not None and (not isinstance(states, tuple) or len(states) != len(fields)):
        raise TypeError(
            f"the carry of {name} must be {kind.__name__}({', '.join(fields)}), got "
            f"{jax.tree.structure(carry)}; start from initialize_carry(x.shape) or hand on the "
            "last carry"
        )
    for field, state in zip(fields, states, strict=True):
        if not hasattr(state, "dtype") or not hasattr(state, "shape"):
            raise TypeError(
                f"{field} in the carry of {name} must be an array, got {type(state).__name__}; "
                "start from initialize_carry(x.shape) or hand on the last carry"
            )
        if state.dtype not in (state_dtype(x.dtype), "float64"):
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
