"""The gated LIF neuron: gates mix exponential with linear decay, and two kinds of reset."""

from collections.abc import Callable

import jax
from jaxtyping import Array, Float

from jaxsnn._phases import keep


def gated_lif_step(
    state: tuple[Float[Array, "*shape"], Float[Array, "*shape"]],
    x: Float[Array, "*shape"],
    *,
    alpha: Float[Array, "*#shape"],
    beta: Float[Array, "*#shape"],
    gamma: Float[Array, "*#shape"],
    tau: Float[Array, "*#shape"],
    v_threshold: Float[Array, "*#shape"],
    linear_decay: Float[Array, "*#shape"],
    v_subreset: Float[Array, "*#shape"],
    conduct: Float[Array, "*#shape"],
    surrogate_function: Callable[[jax.Array], jax.Array],
) -> tuple[tuple[Float[Array, "*shape"], Float[Array, "*shape"]], Float[Array, "*shape"]]:
    """One time step of the gated leaky integrate-and-fire neuron.

        i = x (1 - beta (1 - conduct))
        decay = 1 - alpha (1 - tau)
        v' = decay v - (1 - alpha) linear_decay + i
                     - decay gamma v s - (1 - gamma) v_subreset s
        s' = H(v' - v_threshold),  H(0) = 1

    with `v` and `s` of the step before: the reset comes one step after the spike. All of the
    numbers below lie between 0 and 1; they are scalars or broadcast to `v` (one per channel).

    Args:
        state: `(v, s)`, membrane potential and spikes of the step before.
        x: input current of this step, the shape of `v`.
        alpha: gate between linear (0) and exponential decay (1).
        beta: gate between the whole input (0) and the share `conduct` of it (1).
        gamma: gate between a reset by subtraction (0) and one in proportion to `v` (1).
        tau: the share of the potential that exponential decay leaves at each step.
        v_threshold: firing threshold.
        linear_decay: what linear decay takes off at each step.
        v_subreset: what a reset by subtraction takes off.
        conduct: the share of the input that is let in at this step.
        surrogate_function: spike function of `v - v_threshold`, e.g. `jaxsnn.surrogate.Sigmoid()`.

    Returns:
        `((v, s), s)`: the new state in the dtype of `v`, and the spikes in that of `x`.

    Source: Yao et al. 2022, "GLIF: a unified gated leaky integrate-and-fire neuron for spiking
    neural networks".
    """
    v, s = state
    current = x.astype(v.dtype) * (1 - beta * (1 - conduct))
    decay = 1 - alpha * (1 - tau)
    reset = (decay * gamma * v + (1 - gamma) * v_subreset) * s
    v = keep(decay * v - (1 - alpha) * linear_decay + current - reset)
    s = surrogate_function(v - v_threshold)
    return (v, s), s.astype(x.dtype)
