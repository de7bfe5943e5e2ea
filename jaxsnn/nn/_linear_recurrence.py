"""A linear feedback over time, whose weight gradient is one matrix product over all steps.

    i[t] = fed[t] + W y[t-1],  carry[t], y[t] = step(carry[t-1], i[t])

Plain autodiff of the scan adds `y[t-1]^T dL/di[t]` to the gradient of `W` at every step. A change
`dW` is the same as a change `dW y[t-1]` of `fed[t]`: one product before the scan of the tangents,
whose transpose, the gradient of `W`, is one product after the scan back.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxsnn._dtypes import state_dtype
from jaxsnn._masks import over
from jaxsnn.nn._layers import on_rows
from jaxsnn.nn._run import Carry, Run


def product(x: jax.Array, w: jax.Array) -> jax.Array:
    """`x w` over the last axis of `x` `[..., k]`, all rows at once, in float32 or wider."""
    dtype = state_dtype(x.dtype)
    return on_rows(lambda rows: jnp.matmul(rows, w, preferred_element_type=dtype), x)


def linear_recurrence(
    step: Callable[..., tuple[Carry, jax.Array]],
    params: Any,
    w: jax.Array,
    carry: tuple[Carry, jax.Array],
    fed: jax.Array,
    run: Run,
) -> tuple[tuple[Carry, jax.Array], jax.Array]:
    """Run the recurrence over all steps: `((carry, y), ys)`, `ys` `[T, ..., out]`.

    `step` is `(params, carry, i, y of the step before, run of the step) -> (carry, y)`, and
    gradients flow to `params`. `w` `[out, in]` has the dtype of the product, `fed` `[T, ..., in]`
    is float32 or wider. At a masked step `ys` holds the feedback of the step before.
    """

    def forward(w: jax.Array, params: Any, carry: Any, fed: Any, key: Any, mask: Any) -> Any:
        def body(carry: Carry, fed: jax.Array, now: Run) -> tuple[Carry, jax.Array]:
            inner, before = carry
            i = fed + product(before.astype(w.dtype), w)
            after, y = step(params, inner, i, before, now)
            if now.mask is not None:
                y = jnp.where(over(now.mask, y), y, before.astype(y.dtype))
            return after, y

        return run._changed(key=key, mask=mask)._scanned(body, carry, fed)

    recurrence = jax.custom_jvp(forward)

    @recurrence.defjvp
    def recurrence_jvp(primals: Any, tangents: Any) -> Any:
        (w, *rest), (to_w, to_params, to_carry, to_fed, *others) = primals, tangents
        outputs, push = jax.linearize(functools.partial(forward, w), *rest)
        first = rest[1][1]
        y_before = jnp.concatenate([first[None], outputs[1][:-1].astype(first.dtype)])
        to_fed += product(y_before.astype(w.dtype), to_w).astype(to_fed.dtype)
        return outputs, push(to_params, to_carry, to_fed, *others)

    carry, ys, seen = recurrence(w, params, carry, fed, run.key, run.mask)
    run._take(seen)
    return carry, ys
