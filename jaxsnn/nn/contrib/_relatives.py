"""Close relatives of IF and LIF: one with a gain, one that starts half-way to its threshold."""

from dataclasses import KW_ONLY
from typing import Any

from jaxsnn import functional
from jaxsnn.nn._constants import Positive, Real, TimeConstant, learnable
from jaxsnn.nn._neurons import Firing, Neuron


class KLIFNode(Neuron):
    """LIF neuron with a gain before its threshold, by default learned, one for the whole layer;
    the equation is in `jaxsnn.functional.klif_step`.

    Args:
        tau: membrane time constant in time steps, greater than 1.
        scale_reset: whether the gain is taken back in the reset. Then `k` must stay clear of 0.
        decay_input: whether the input is divided by `tau` too.
        k: gain.
        surrogate_function: spike function of `h - v_threshold`, e.g. `jaxsnn.surrogate.ATan()`.
    """

    tau: TimeConstant = 2.0
    _: KW_ONLY
    scale_reset: bool = False
    decay_input: bool = True
    k: Real = learnable(1.0)
    step = functional.klif_step


class HalfThresholdIFNode(Firing):
    """IF neuron with soft reset that starts half-way to its threshold; the equation is in
    `jaxsnn.functional.if_step`.

    For networks that are converted from conventional ones: the number of spikes for a constant
    input is then rounded, not cut off (Bu et al. 2022, "Optimized potential initialization for
    low-latency spiking neural networks").

    Args:
        v_threshold: firing threshold, greater than 0.
        detach_reset: no gradient flows through the spike in the reset (that of the output stays).

    Carry: the potential `v`, `v_threshold / 2` before the first step, in the shape of one step's
    input.

    Examples:
        >>> _, spikes = unroll(HalfThresholdIFNode(), jnp.full((4, 1), 0.375))
        >>> spikes[:, 0]
        Array([0., 1., 0., 1.], dtype=float32)
    """

    _: KW_ONLY
    v_threshold: Positive = 1.0
    detach_reset: bool = False
    step = functional.if_step

    def initial_state(self) -> Any:
        return self.v_threshold / 2

    def settings(self) -> dict[str, Any]:
        return super().settings() | {"v_reset": None}
