"""A learning rule over a recorded sequence of spikes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from jaxsnn.learning._rule import PairRule, State


def over_time(
    rule: PairRule,
    weight: Float[Array | np.ndarray, "*weight"],
    pre: Float[Array | np.ndarray, "T *before"],
    post: Float[Array | np.ndarray, "T *behind"],
    reward: Shaped[Array | np.ndarray, "T *N"] | None = None,
    *,
    state: State | None = None,
) -> tuple[State, Float[Array, "*weight"]]:
    """Runs a rule over a sequence, the weight standing still, and adds the changes up.

    To change the weight at every step, call the rule itself in a `jax.lax.scan`.

    Args:
        rule: e.g. `STDP(tau_pre=2.0, tau_post=2.0)`.
        weight: the kernel of the layer, `[in, out]` or `[..., in, out]`.
        pre: spikes before the weight, time first, `[T, ..., in]` (channels last).
        post: spikes behind it, `[T, ..., out]`.
        reward: `[T, ...]`, one number for each example, or `[T]`, one for all; for `MSTDP` and
            `MSTDPET` only.
        state: from the stretch before; None starts afresh.

    Returns:
        `(state, dw)`: the state after the last step, and the sum of all changes, to be added to
        the weight, in its shape and dtype. Handing the state on to the next stretch, the sum of
        both `dw` is that of one long sequence.

    Raises:
        TypeError: `rule` is not a learning rule, spikes are not floating, or a reward is missing
            or has no use.
        ValueError: the sequences differ in length, have no steps, or a shape does not fit.
    """
    if not isinstance(rule, PairRule):
        raise TypeError(f"rule must be a learning rule, e.g. STDP(2.0, 2.0), got {rule!r}")
    if (reward is not None) != rule.rewarded:
        raise TypeError(
            f"{type(rule).__name__} {'needs a' if rule.rewarded else 'takes no'} reward, "
            f"got {reward!r}"
        )
    sequences = [jnp.asarray(xs) for xs in (pre, post, reward) if xs is not None]
    shapes = [list(xs.shape) for xs in sequences]
    if not all(shapes) or len({shape[0] for shape in shapes}) != 1 or shapes[0][0] == 0:
        raise ValueError(
            f"the sequences must be time first, with the same number of steps, got {shapes}"
        )
    return _over_time(rule, jnp.asarray(weight), state, *sequences)


@functools.partial(jax.jit, static_argnums=0)
def _over_time(
    rule: PairRule, weight: jax.Array, state: State | None, *sequences: jax.Array
) -> tuple[State, jax.Array]:
    if state is None:
        state = rule.init(weight, *(jax.eval_shape(lambda xs: xs[0], xs) for xs in sequences[:2]))
    state, dw = rule._over_time(state, weight, *sequences)
    return state, dw.astype(weight.dtype)
