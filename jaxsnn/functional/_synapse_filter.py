"""The stateful synapse: a current that jumps with each spike and decays between spikes."""

import jax
from jaxtyping import Array, Float


def synapse_filter_step(
    i: Float[Array, "*shape"], x: Float[Array, "*shape"], *, tau: float | Float[Array, "*#shape"]
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """One time step of the synapse filter.

        i = i - (1 - x) i / tau + x

    A spike (x = 1) adds 1 and stops the decay for this step; silence (x = 0) lets the current
    decay by the factor `1 - 1/tau`. For inputs other than 0 and 1 the decay is scaled by
    `1 - x`, so this is not a linear filter. The equation is SpikingJelly's.

    Args:
        i: synaptic current after the last step, any shape.
        x: input of this step (usually spikes), the shape of `i`.
        tau: time constant in time steps, > 1; a scalar, or an array that broadcasts to `i`.

    Returns:
        `(i, i)`: the current as the new state in the dtype of `i`, and as output in that of `x`.
    """
    decay = 1 / (tau.astype(i.dtype) if isinstance(tau, jax.Array) else tau)
    spikes = x.astype(i.dtype)
    i = i - (1 - spikes) * i * decay + spikes
    return i, i.astype(x.dtype)
