"""Any module over all steps of a sequence, or over one: which schedule it gets."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsnn._layout import follow, is_shared_out
from jaxsnn.nn._cell import Carry, Cell, feature_axes, first_carry, is_cell, see_states
from jaxsnn.nn._layers import Linear, on_rows
from jaxsnn.nn._modal_layer import ModalLayer, SequenceLayer, refuse_untold
from jaxsnn.nn._mode import NOTHING, Mode, Seen
from jaxsnn.nn._pooling import Pool
from jaxsnn.nn._schedule import scan


def run(module: Any, carry: Carry, xs: jax.Array, mode: Mode) -> tuple[Carry, jax.Array, Seen]:
    """All steps of `xs` `[T, ...]`; `carry=None` starts afresh."""
    seen = NOTHING
    if isinstance(module, Cell):
        carry, ys, seen = module._over_time(carry, xs, mode)
    elif is_cell(module):  # one of Flax's
        if carry is None:
            carry = first_carry(module, jax.ShapeDtypeStruct(xs.shape[1:], xs.dtype))
        carry = follow(carry, xs, 1)
        carry, ys, seen = scan(lambda *now: step(module, *now), carry, xs, mode)
    else:
        _check_no_carry(module, carry)
        if isinstance(module, SequenceLayer) and carry is not None:
            raise ValueError(
                f"{type(module).__name__} needs all time steps at once, so it cannot go on from "
                "the carry of the steps before; run whole sequences with carry=None (in the carry "
                "of a Sequential, None in its place)"
            )
        carry = ()
        if isinstance(module, ModalLayer):
            ys, seen = module._all_steps(xs, mode)
        else:
            refuse_untold(module, mode)
            ys = map_steps(module, xs)
    return carry, ys, seen | mode.see_output(ys)


def step(module: Any, carry: Carry, x: jax.Array, mode: Mode) -> tuple[Carry, jax.Array, Seen]:
    """One step of `x` `[...]`."""
    seen = NOTHING
    if isinstance(module, Cell):
        carry, y, seen = module._one_step(carry, x, mode)
    elif is_cell(module):
        refuse_untold(module, mode)
        carry, y = module(carry, x)
        seen = see_states(module, carry, mode)
    elif isinstance(module, ModalLayer):
        y, seen = module._one_step(x, mode)
    else:
        refuse_untold(module, mode)
        _refuse_flax_in_training(module)
        with _as_a_layer(module):
            y = module(x)
    return carry, y, seen | mode.see_output(y)


def map_steps(layer: Callable[[jax.Array], jax.Array], xs: jax.Array) -> jax.Array:
    """A layer without state, on every step."""
    _refuse_flax_in_training(layer)
    if xs.ndim < 2 and isinstance(layer, nnx.Linear | nnx.Conv):
        raise ValueError(
            f"xs must have an axis of features after that of time, [T, ..., {layer.in_features}], "
            f"before a {type(layer).__name__}, got {list(xs.shape)}; one step is xs[None]"
        )
    if isinstance(layer, nnx.Conv | Pool) and is_shared_out(xs):
        return _batch_first(layer, xs)
    if isinstance(layer, Linear | Pool):  # which take any leading axes
        return layer(xs)
    if isinstance(layer, nnx.Linear):
        return on_rows(layer, xs)
    with _as_a_layer(layer):
        return jax.vmap(layer)(xs)


_layer: contextvars.ContextVar[Any] = contextvars.ContextVar("layer", default=None)


@contextlib.contextmanager
def _as_a_layer(layer: Any) -> Iterator[None]:
    """Mark that a layer without state is being called on one step."""
    before = _layer.set(layer)
    try:
        yield
    finally:
        _layer.reset(before)


def check_not_in_a_layer() -> None:
    """Raise if `unroll` is called by a layer: the layer would take examples for time steps."""
    layer = _layer.get()
    if layer is not None:
        name = getattr(layer, "__name__", type(layer).__name__)
        raise ValueError(
            f"{name} calls unroll, so it takes a whole sequence, but here it is a layer, which is "
            f"called on one step [N, ...]. Call {name} on the sequence yourself; in a stack use an "
            "nn.Cell, or Sequential and the containers of jaxsnn.nn"
        )


def _batch_first(layer: Callable[[jax.Array], jax.Array], xs: jax.Array) -> jax.Array:
    """Run a layer that makes one axis of all batch axes, with the axis that is shared out first.

    `[T, N, ...]` is run as `[N T, ...]`, where the layer itself would make `[T N, ...]` of it.
    """
    axes = feature_axes(layer) or 0
    if xs.ndim < axes + 2:
        return jax.vmap(layer)(xs)
    ys = layer(jnp.moveaxis(xs, 0, -axes - 1))
    return jnp.moveaxis(ys, ys.ndim - axes - 1, 0)


def _check_no_carry(module: Any, carry: Carry) -> None:
    if jax.tree.leaves(carry):
        raise ValueError(
            f"{type(module).__name__} has no state, so its carry must be () or None, got "
            f"{jax.tree.structure(carry)}"
        )


def _refuse_flax_in_training(layer: Any) -> None:
    """Flax's layers that change themselves, or draw random numbers, when they are called."""
    if (isinstance(layer, nnx.BatchNorm) and layer.use_running_average is not True) or (
        isinstance(layer, nnx.Dropout) and layer.deterministic is not True
    ):
        name = type(layer).__name__
        raise ValueError(
            f"flax.nnx.{name} changes its own variables, which cannot leave a scan over time; use "
            f"jaxsnn.nn.{name}, whose statistics and randomness are arguments and results"
        )
