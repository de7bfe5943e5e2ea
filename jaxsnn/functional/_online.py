"""LIF neurons for training online: no gradient flows from one time step to the one before."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float

from jaxsnn.functional._integrate_and_fire import lif_step


class OTTTState(NamedTuple):
    """The state of `ottt_lif_step`.

    Attributes:
        v: membrane potential after the last reset.
        trace: trace of the spikes.
    """

    v: Float[Array, "*shape"]
    trace: Float[Array, "*shape"]


def sltt_lif_step(
    v: Float[Array, "*shape"], x: Float[Array, "*shape"], **settings: Any
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """One time step of the LIF neuron of spatial learning through time.

        v = stop_gradient(v), then as in lif_step

    Args:
        v: membrane potential after the last reset, any shape.
        x: input current of this step, the shape of `v`.
        **settings: as for `lif_step`.

    Returns:
        `(v, s)`: the potential after the reset in the dtype of `v`, spikes in that of `x`.

    Source: Meng et al. 2023, "Towards memory- and time-efficient backpropagation for training
    spiking neural networks".
    """
    return lif_step(jax.lax.stop_gradient(v), x, **settings)


def ottt_lif_step(
    state: OTTTState,
    x: Float[Array, "*shape"],
    *,
    tau: float | Float[Array, "*#shape"],
    **settings: Any,
) -> tuple[OTTTState, Float[Array, "*shape"]]:
    """One time step of the LIF neuron of online training through time.

        v = stop_gradient(v), then as in lif_step
        trace = (1 - 1/tau) trace + s

    No gradient flows through the trace; see `with_trace_gradient` for what it is good for.

    Args:
        state: potential and trace after the last step, any shape.
        x: input current of this step, in the same shape.
        tau: time constant of membrane and trace in time steps, > 1.
        **settings: as for `lif_step`.

    Returns:
        `(state, s)`: the new state in the dtype of the old one, and the spikes in that of `x`.

    Source: Xiao et al. 2022, "Online training through time for spiking neural networks".
    """
    v, spikes = sltt_lif_step(state.v, x, tau=tau, **settings)
    trace = (1 - 1 / tau) * state.trace + spikes.astype(v.dtype)
    return OTTTState(v, jax.lax.stop_gradient(trace)), spikes


def with_trace_gradient(
    layer: Callable[[jax.Array], jax.Array],
    spikes: Float[Array, "N *shape"],
    trace: Float[Array, "N *shape"],
) -> Float[Array, "N *out"]:
    """`layer(spikes)`, with the gradient of the layer's parameters taken at `trace`.

    For a linear layer `y = s W` that is `dW = trace^T dy` instead of `s^T dy`, the rule of
    online training through time. The gradient of the spikes is that of `layer` at `trace` too.

    Args:
        layer: the layer after an `OTTTLIFNode`, e.g. a `Linear` or a `Conv`.
        spikes: its input at this step, `[N, ...]`.
        trace: trace of these spikes, the shape of `spikes`.

    Returns:
        The output of `layer`.

    Source: Xiao et al. 2022, as for `ottt_lif_step`.
    """
    stop = jax.lax.stop_gradient
    at_trace = layer(spikes + stop(trace.astype(spikes.dtype) - spikes))
    return stop(layer(spikes)) + (at_trace - stop(at_trace))
