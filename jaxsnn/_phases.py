"""The phases of a step that neurons share: charge, fire, reset; and the values a step keeps."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

SurrogateFunction = Callable[[jax.Array], jax.Array]

KEPT = "jaxsnn: kept for the backward pass"
"""The name that `keep` gives: `jax.checkpoint` with the policy
`jax.checkpoint_policies.save_only_these_names(KEPT)` keeps nothing else."""


def keep(array: jax.Array) -> jax.Array:
    """`array`, marked with the name `KEPT` for the backward pass; the rest is cheap to recompute.

    Where the backward pass has no use for it, it costs nothing.
    """
    return checkpoint_name(array, KEPT)


def leaky_charge(
    v: jax.Array,
    x: jax.Array,
    *,
    tau: float | jax.Array,
    decay_input: bool,
    v_reset: float | jax.Array | None,
) -> jax.Array:
    """The potential that has leaked towards `v_reset` (None: towards 0) and taken in `x`."""
    tau = in_dtype_of(v, tau)
    current = x.astype(v.dtype)
    above_rest = v if v_reset is None else v - v_reset
    if decay_input:
        return v + keep(current - above_rest) / tau  # kept for the gradient of tau, if it has one
    return v - above_rest / tau + current


def reset(
    h: jax.Array,
    spikes: jax.Array,
    *,
    v_threshold: float | jax.Array,
    v_reset: float | jax.Array | None,
    detach_reset: bool,
) -> jax.Array:
    """The hard or (`v_reset=None`) the soft reset of `h` where there are spikes."""
    s = jax.lax.stop_gradient(spikes) if detach_reset else spikes
    return h - s * v_threshold if v_reset is None else s * v_reset + (1 - s) * h


def fire_and_reset(
    h: jax.Array,
    v_threshold: float | jax.Array,
    v_reset: float | jax.Array | None,
    surrogate_function: SurrogateFunction,
    detach_reset: bool,
) -> tuple[jax.Array, jax.Array]:
    """`s = H(h - v_threshold)`, then the reset: `(v, s)`."""
    spikes = surrogate_function(h - v_threshold)
    v = reset(h, spikes, v_threshold=v_threshold, v_reset=v_reset, detach_reset=detach_reset)
    return v, spikes


def in_dtype_of(v: jax.Array, number: float | jax.Array) -> float | jax.Array:
    """`number` as it can be combined with `v`: a parameter may have another dtype."""
    return number.astype(v.dtype) if isinstance(number, jax.Array) else number


def functions_for(x: Any) -> Any:
    """The module with the functions of `x`: `math`, in double precision, for a number."""
    return jnp if isinstance(x, jax.Array) else math
