"""A linear feedback over time, whose weight gradient is one matrix product over all steps.

    i[t] = fed[t] + W y[t-1],  carry[t], y[t] = step(carry[t-1], i[t])

Plain autodiff of the scan adds `y[t-1]^T dL/di[t]` to the gradient of `W` at every step. As
`fed[t]` enters `i[t]` with weight 1, `dL/di[t] = dL/dfed[t]`, so that the sum over all steps is
one product of matrices after the scan.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxsnn.nn._cell import Carry, state_dtype
from jaxsnn.nn._layers import on_rows
from jaxsnn.nn._mode import Mode, Seen, over
from jaxsnn.nn._schedule import scan

# (parameters, carry, i, y of the step before, mode of the step) -> (carry, y, seen)
FeedbackStep = Callable[[Any, Carry, jax.Array, jax.Array, Mode], tuple[Carry, jax.Array, Seen]]


def product(x: jax.Array, w: jax.Array) -> jax.Array:
    """`x w` over the last axis of `x` `[..., k]`, all rows at once, in float32 or wider."""
    dtype = state_dtype(x.dtype)
    return on_rows(lambda rows: jnp.matmul(rows, w, preferred_element_type=dtype), x)


def linear_recurrence(
    step: FeedbackStep,
    params: Any,
    w: jax.Array,
    carry: tuple[Carry, jax.Array],
    fed: jax.Array,
    mode: Mode,
) -> tuple[tuple[Carry, jax.Array], jax.Array, Seen]:
    """Runs the recurrence over all steps.

    Args:
        step: one step of what is fed back.
        params: a pytree, the first argument of `step`; gradients flow to it.
        w: `[out, in]`, in the dtype of the product.
        carry: `(carry of the step, y)` to start from, `y` `[..., out]`.
        fed: `[T, ..., in]`, float32 or wider.
        mode: how the container is run. At a masked step `ys` holds the feedback of before.

    Returns:
        `((carry, y), ys, seen)`, `ys` `[T, ..., out]`.
    """

    def forward(w: jax.Array, drawn: Any, params: Any, carry: Carry, fed: jax.Array) -> Any:
        key, mask = drawn

        def body(carry: Carry, fed: jax.Array, mode: Mode) -> tuple[Carry, jax.Array, Seen]:
            inner, before = carry
            i = fed + product(before.astype(w.dtype), w)
            after, y, seen = step(params, inner, i, before, mode)
            if mode.mask is not None:
                y = jnp.where(over(mode.mask, y), y, before.astype(y.dtype))
            return after, y, seen

        return scan(body, carry, fed, dataclasses.replace(mode, key=key, mask=mask))

    def keep(w: jax.Array, drawn: Any, params: Any, carry: Carry, fed: jax.Array) -> Any:
        outputs, pull = jax.vjp(lambda *args: forward(w, drawn, *args), params, carry, fed)
        return outputs, (pull, carry[1], outputs[1])

    def backward(kept: Any, cotangents: Any) -> tuple[Any, ...]:
        pull, y_first, ys = kept
        to_params, to_carry, to_fed = pull(cotangents)
        y_before = jnp.concatenate([y_first[None], ys[:-1].astype(y_first.dtype)])
        rows = y_before.reshape(-1, w.shape[0]).astype(w.dtype)
        columns = to_fed.reshape(-1, w.shape[1]).astype(w.dtype)
        to_w = jnp.matmul(rows.T, columns, preferred_element_type=to_fed.dtype)
        return to_w.astype(w.dtype), None, to_params, to_carry, to_fed

    recurrence = jax.custom_vjp(forward)
    recurrence.defvjp(keep, backward)
    return recurrence(w, (mode.key, mode.mask), params, carry, fed)
