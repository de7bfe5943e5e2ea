"""A linear feedback over time, whose weight gradient is one matrix product over all steps.

    i[t] = fed[t] + W y[t-1],  carry[t], y[t] = step(carry[t-1], i[t])

Plain autodiff of the scan adds `y[t-1]^T dL/di[t]` to the gradient of `W` at every step. As
`fed[t]` enters `i[t]` with weight 1, a change `dW` is the same as a change `dW y[t-1]` of
`fed[t]`. All steps of it are one product of matrices before the scan of the tangents; its
transpose, the gradient of `W`, is one product after the scan back.
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

    recurrence = jax.custom_jvp(forward)

    @recurrence.defjvp
    def recurrence_jvp(primals: Any, tangents: Any) -> Any:
        w, drawn, *rest = primals
        to_w, _, to_params, to_carry, to_fed = tangents
        outputs, push = jax.linearize(lambda *args: forward(w, drawn, *args), *rest)
        (_, y_first), ys = rest[1], outputs[1]
        y_before = jnp.concatenate([y_first[None], ys[:-1].astype(y_first.dtype)])
        to_fed = to_fed + product(y_before.astype(w.dtype), to_w).astype(to_fed.dtype)
        return outputs, push(to_params, to_carry, to_fed)

    return recurrence(w, (mode.key, mode.mask), params, carry, fed)
