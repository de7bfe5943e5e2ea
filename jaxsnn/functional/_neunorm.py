"""NeuNorm: inhibition by what the layer has received of late, summed over its channels."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def neunorm_step(
    s: Float[Array, "*N 1"], x: Float[Array, "*N C"], w: Float[Array, "*#N #C"], *, k: float
) -> tuple[Float[Array, "*N 1"], Float[Array, "*N C"]]:
    """One time step of NeuNorm (Wu et al. 2019, "Direct training for spiking neural networks:
    faster, larger, better").

        s = k s + (1 - k) / C^2  sum_c x[c]
        y = x - w s

    Args:
        s: the trace of all channels, at each position, `[..., 1]`.
        x: input of this step (usually spikes), channels last, `[..., C]`.
        w: strength of the inhibition, with as many axes as `x` and broadcasting to it.
        k: decay of the trace a step.

    Returns:
        `(s, y)`: the trace in its dtype, the output in that of `x`.
    """
    wide = x.astype(s.dtype)
    s = k * s + (1 - k) / x.shape[-1] ** 2 * jnp.sum(wide, -1, keepdims=True)
    return s, (wide - w.astype(s.dtype) * s).astype(x.dtype)
