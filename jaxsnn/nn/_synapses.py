"""Stateful synapses: cells whose carry is a synaptic current."""

from dataclasses import InitVar
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsnn import _checks, functional
from jaxsnn.nn import _constants
from jaxsnn.nn._constants import Positive, TimeConstant
from jaxsnn.nn._elementwise import ElementwiseCell


class SynapseFilter(ElementwiseCell):
    """Turns spikes into a decaying current.

    Args:
        learnable: whether the time constant is learned, as `tau=jaxsnn.nn.learnable(tau)`,
            through the parameter `w` with `1/tau = sigmoid(w)`.

    Examples:
        >>> _, current = unroll(SynapseFilter(tau=2.0), jnp.array([[1.0], [0.0], [0.0]]))
        >>> current[:, 0]
        Array([1.  , 0.5 , 0.25], dtype=float32)
    """

    state_name = "i"
    tau: TimeConstant = 100.0
    learnable: InitVar[bool] = False
    step = functional.synapse_filter_step

    def __post_init__(self, learnable: bool) -> None:
        if _checks.boolean("learnable", learnable) and not self.learned:
            self.tau = _constants.learnable(self.tau)


class ExponentialSynapse(ElementwiseCell):
    """A current that jumps by 1 with each spike and decays by `exp(-1/tau)` in a step.

    Args:
        tau: time constant in time steps, greater than 0.

    Examples:
        >>> _, current = unroll(ExponentialSynapse(tau=1.0), jnp.array([[1.0], [0.0], [0.0]]))
        >>> [f"{i:.3f}" for i in current[:, 0]]  # 1, 1/e, 1/e^2
        ['1.000', '0.368', '0.135']
    """

    state_name = "i"
    tau: Positive
    step = functional.exponential_synapse_step

    def settings(self) -> dict[str, Any]:
        return {"decay": functional.exponential_decay(self.tau)}


class AlphaSynapse(ElementwiseCell):
    """A current that rises to 1 in `tau` steps after a spike and decays as slowly.

    Args:
        tau: time constant of both, in time steps, greater than 0.

    Examples:
        >>> _, current = unroll(AlphaSynapse(tau=2.0), jnp.eye(1, 5).T)
        >>> print(*(f"{i:.3f}" for i in current[:, 0]))
        0.000 0.824 1.000 0.910 0.736
    """

    tau: Positive
    step = functional.double_exponential_synapse_step
    state = functional.RisingCurrent

    def settings(self) -> dict[str, Any]:
        return _factors(self.tau, self.tau)


class DoubleExponentialSynapse(ElementwiseCell):
    """A current that rises with one time constant after a spike, to 1, and decays with another.

    Args:
        tau_decay: time constant of the decay in time steps, greater than 0.
        tau_rise: time constant of the rise in time steps, greater than 0 and at most `tau_decay`,
            at which this is `AlphaSynapse`. The response is the same with the two exchanged, so
            that two that are learned may cross.

    Examples:
        >>> synapse = DoubleExponentialSynapse(tau_decay=4.0, tau_rise=1.0)
        >>> _, current = unroll(synapse, jnp.eye(1, 5).T)
        >>> print(*(f"{i:.3f}" for i in current[:, 0]))
        0.000 0.870 0.997 0.894 0.740
    """

    tau_decay: Positive
    tau_rise: Positive
    step = functional.double_exponential_synapse_step
    state = functional.RisingCurrent

    def check_fields(self) -> None:
        decay, rise = self.tau_decay, self.tau_rise
        if not isinstance(decay > rise, jax.core.Tracer) and np.any(rise > decay):
            raise ValueError(
                f"tau_rise must be at most tau_decay, got tau_rise={rise!r} and "
                f"tau_decay={decay!r}; exchange the two, the response is the same"
            )

    def settings(self) -> dict[str, Any]:
        return _factors(self.tau_decay, self.tau_rise)


def _factors(tau_decay: Any, tau_rise: Any) -> dict[str, Any]:
    if isinstance(tau_decay, jax.Array) or isinstance(tau_rise, jax.Array):
        tau_decay, tau_rise = jnp.asarray(tau_decay), jnp.asarray(tau_rise)
    names = ("decay", "rise", "gain")
    return dict(zip(names, functional.double_exponential_factors(tau_decay, tau_rise), strict=True))
