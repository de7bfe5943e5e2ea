"""The integrate-and-fire neuron with a threshold and an offset for each channel."""

from collections.abc import Callable

import jax
from jaxtyping import Array, Float

from jaxsnn._phases import in_dtype_of
from jaxsnn.functional._integrate_and_fire import if_step


def activation_aware_if_step(
    v: Float[Array, "*shape"],
    x: Float[Array, "*shape"],
    *,
    v_threshold: float | Float[Array, "*#shape"],
    v_offset: float | Float[Array, "*#shape"],
    v_reset: float | Float[Array, "*#shape"] | None,
    surrogate_function: Callable[[jax.Array], jax.Array],
    detach_reset: bool,
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """One time step of the activation-aware integrate-and-fire neuron.

        h = v + x
        s = H(h + v_offset - v_threshold),  H(0) = 1

    then a reset as in `if_step`: the soft one subtracts `v_threshold`, without the offset. The
    equation is SpikingJelly's, for networks that are converted from ones without spikes.

    Args:
        v: membrane potential after the last reset, any shape.
        x: input current of this step, the shape of `v`.
        v_threshold: firing thresholds, a scalar, or an array that broadcasts to `v`.
        v_offset: what is added to the potential when it is compared, a scalar, or an array that
            broadcasts to `v`.
        v_reset: potential after a spike; None subtracts the threshold instead.
        surrogate_function: spike function of `h + v_offset - v_threshold`.
        detach_reset: no gradient flows through the `s` of the reset (that of the output stays).

    Returns:
        `(v, s)`: the potential after the reset in the dtype of `v`, spikes in that of `x`.
    """
    v_offset = in_dtype_of(v, v_offset)
    return if_step(
        v,
        x,
        v_threshold=in_dtype_of(v, v_threshold),
        v_reset=v_reset,
        surrogate_function=lambda above: surrogate_function(above + v_offset),
        detach_reset=detach_reset,
    )
