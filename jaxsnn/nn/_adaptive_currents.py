"""LIF neurons with an adaptation current that follows both their potential and their spikes."""

from dataclasses import KW_ONLY
from typing import Any

from jaxsnn import functional
from jaxsnn.nn._constants import NonNegative, Positive, Real, TimeConstant
from jaxsnn.nn._neurons import Neuron, SpikeFunction
from jaxsnn.surrogate import PiecewiseExp, Rect


class AdLIFNode(Neuron):
    """LIF neuron with an adaptation current (adLIF), the neuron of RadLIF networks; the equation
    is in `jaxsnn.functional.adlif_step`.

    The defaults are the middle of the ranges in which SpArch draws and keeps the constants of
    each neuron: `tau_u` 5 to 25, `tau_w` 30 to 120, `a` -1 to 1, `b` 0 to 2.

    Args:
        tau_u: time constant of the potential in time steps, greater than 1.
        tau_w: time constant of the current in time steps, greater than 1.
        a: coupling of the current to the potential.
        b: by how much a spike raises the current.
        v_reset: potential after a spike and before the first step; None is the soft reset, which
            subtracts the threshold and starts from 0. Either way the potential decays towards 0.

    Carry: `jaxsnn.functional.AdLIFState(v, w)`, `w` 0 before the first step, both in the shape of
    one step's input.

    Examples:
        >>> _, spikes = unroll(AdLIFNode(tau_u=5.0, b=0.5), jnp.full((60, 1), 4.0))
        >>> spikes.reshape(3, 20).sum(axis=1)
        Array([6., 2., 2.], dtype=float32)

        Constants that each neuron learns, in the ranges of SpArch:

        >>> key = jax.random.key(0)
        >>> draws = jax.random.uniform(key, (128,), minval=-1.0, maxval=1.0)
        >>> neuron = AdLIFNode(tau_u=learnable(15.0, (5, 25)), a=learnable(draws, (-1, 1)))
    """

    tau_u: TimeConstant = 15.0
    tau_w: TimeConstant = 75.0
    _: KW_ONLY
    a: Real = 0.0
    b: Real = 1.0
    v_reset: Real | None = None
    surrogate_function: SpikeFunction = Rect()
    step = functional.adlif_step
    state = functional.AdLIFState

    def settings(self) -> dict[str, Any]:
        return super().settings() | _decays(self.tau_u, self.tau_w)


class SEAdLIFNode(Neuron):
    """LIF neuron with an adaptation current, in the symplectic form of Euler (SE-adLIF); the
    equation is in `jaxsnn.functional.se_adlif_step`.

    The defaults are the middle of the ranges in which the authors draw and keep the constants of
    each neuron: `tau_u` 5 to 25, `tau_w` 60 to 300, `a` 0 to 1, `b` 0 to 2. Their networks learn
    all four.

    Args:
        tau_u: time constant of the potential in time steps, greater than 1.
        tau_w: time constant of the current in time steps, greater than 1.
        a: coupling of the current to the potential, not negative.
        b: by how much a spike raises the current, not negative.
        q: common factor of `a` and `b`, greater than 0.
        v_reset: potential after a spike and before the first step; None is the soft reset, which
            subtracts the threshold and starts from 0. Either way the potential decays towards 0.
        detach_reset: no gradient flows through the spike in the reset (those of the output and
            of the adaptation stay).

    Carry: `jaxsnn.functional.AdLIFState(v, w)`, `w` 0 before the first step, both in the shape of
    one step's input.

    Examples:
        >>> _, spikes = unroll(SEAdLIFNode(tau_u=5.0, b=0.5), jnp.full((60, 1), 4.0))
        >>> spikes.reshape(3, 20).sum(axis=1)  # it adapts to what does not change
        Array([4., 0., 0.], dtype=float32)
    """

    tau_u: TimeConstant = 15.0
    tau_w: TimeConstant = 180.0
    _: KW_ONLY
    a: NonNegative = 0.5
    b: NonNegative = 1.0
    q: Positive = 120.0
    detach_reset: bool = True
    surrogate_function: SpikeFunction = PiecewiseExp(alpha=5.0, gamma=0.4)
    step = functional.se_adlif_step
    state = functional.AdLIFState

    def settings(self) -> dict[str, Any]:
        return super().settings() | _decays(self.tau_u, self.tau_w)


def _decays(tau_u: Any, tau_w: Any) -> dict[str, Any]:
    decay = functional.exponential_decay
    return {"v_decay": decay(tau_u), "w_decay": decay(tau_w)}
