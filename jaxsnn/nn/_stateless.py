"""Layers without state: on one time step, or on every step of a sequence."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsnn._layout import is_shared_out
from jaxsnn._parts import is_final
from jaxsnn.nn._layers import Linear, on_rows
from jaxsnn.nn._pooling import Pool

_running: contextvars.ContextVar[Any] = contextvars.ContextVar("layer", default=None)


def run_stateless(layer: Any, x: Any, *, steps: bool) -> Any:
    """The output of a layer for one time step, or for all `steps` of `x` `[T, ...]`."""
    if not callable(layer):
        raise TypeError(
            f"run needs a cell, a module, a layer or a function, got {type(layer).__name__}"
        )
    changes = (isinstance(layer, nnx.BatchNorm) and layer.use_running_average is not True) or (
        isinstance(layer, nnx.Dropout) and layer.deterministic is not True
    )
    if changes:
        name = type(layer).__name__
        raise ValueError(
            f"flax.nnx.{name} changes its own variables, which cannot leave a scan over time; use "
            f"jaxsnn.nn.{name}, whose statistics and randomness are arguments and results"
        )
    with one_step_of(layer):
        return _over_steps(layer, x) if steps else layer(x)


@contextlib.contextmanager
def one_step_of(layer: Any) -> Iterator[None]:
    """Mark that a layer or module is called on one step, which `unroll` inside it refuses."""
    before = _running.set(layer)
    try:
        yield
    finally:
        _running.reset(before)


def check_not_in_a_layer() -> None:
    """Raise if `unroll` is called by a layer: the layer would take examples for time steps."""
    layer = _running.get()
    if layer is not None:
        name = getattr(layer, "__name__", type(layer).__name__)
        raise ValueError(
            f"{name} calls unroll, so it takes a whole sequence, but here it is a layer, which is "
            f"called on one step [N, ...]. Call {name} on the sequence yourself; in a stack use an "
            "nn.Cell or an nn.Module"
        )


def _over_steps(layer: Callable[[jax.Array], jax.Array], xs: Any) -> Any:
    """The outputs of a layer for each step of `xs` `[T, ...]`, if possible in one call."""
    if isinstance(layer, nnx.Linear | nnx.Conv) and xs.ndim < 2:
        raise ValueError(
            f"xs must have an axis of features after that of time, [T, ..., {layer.in_features}], "
            f"before a {type(layer).__name__}, got {list(xs.shape)}; one step is xs[None]"
        )
    own = is_final(type(layer).__call__)  # a derived class may do anything with the batch
    if (
        (own or type(layer) is nnx.Conv)
        and isinstance(layer, nnx.Conv | Pool)
        and is_shared_out(xs)
    ):
        return _batch_first(layer, xs)
    if own and isinstance(layer, Linear | Pool):  # which take any leading axes
        return layer(xs)
    if type(layer) is nnx.Linear:
        return on_rows(layer, xs)
    return jax.vmap(layer)(xs)


def _batch_first(layer: Any, xs: jax.Array) -> jax.Array:
    """Run a layer that makes one axis of all batch axes, with the axis that is shared out first.

    `[T, N, ...]` is run as `[N T, ...]`, where the layer itself would make `[T N, ...]` of it.
    """
    axes = len(layer.window_shape if isinstance(layer, Pool) else layer.kernel_size) + 1
    if xs.ndim < axes + 2:
        return jax.vmap(layer)(xs)
    ys = layer(jnp.moveaxis(xs, 0, -axes - 1))
    return jnp.moveaxis(ys, ys.ndim - axes - 1, 0)
