"""Neurons with a second variable: an adaptation current, an oscillation, a dendrite."""

from dataclasses import KW_ONLY
from typing import Any

import jax
import numpy as np

from jaxsnn import functional
from jaxsnn.nn._constants import Fraction, NonNegative, Positive, Real, TimeConstant
from jaxsnn.nn._neurons import Firing, Neuron, SpikeFunction
from jaxsnn.surrogate import DoubleGaussian, PiecewiseExp, PiecewiseQuadratic, Rect


class _AdaptiveCurrent(Neuron):
    """Abstract: a potential `u` and an adaptation current `w`, both of which decay towards 0.

    Args:
        tau_u: time constant of the potential in time steps, greater than 1.
        tau_w: time constant of the current in time steps, greater than 1.
    """

    tau_u: TimeConstant = 15.0
    tau_w: TimeConstant = 75.0
    _: KW_ONLY
    a: Real = 0.0
    b: Real = 1.0
    state = functional.AdLIFState

    def settings(self) -> dict[str, Any]:
        decay = functional.exponential_decay
        return super().settings() | {"v_decay": decay(self.tau_u), "w_decay": decay(self.tau_w)}


class AdLIFNode(_AdaptiveCurrent):
    """LIF neuron with an adaptation current (adLIF), the neuron of RadLIF networks.

    The defaults are the middle of the ranges in which SpArch draws and keeps the constants of
    each neuron: `tau_u` 5 to 25, `tau_w` 30 to 120, `a` -1 to 1, `b` 0 to 2.

    Examples:
        >>> _, spikes = unroll(AdLIFNode(tau_u=5.0, b=0.5), jnp.full((60, 1), 4.0))
        >>> spikes.reshape(3, 20).sum(axis=1)
        Array([6., 2., 2.], dtype=float32)

        Constants that each neuron learns, in the ranges of SpArch:

        >>> key = jax.random.key(0)
        >>> draws = jax.random.uniform(key, (128,), minval=-1.0, maxval=1.0)
        >>> neuron = AdLIFNode(tau_u=learnable(15.0, (5, 25)), a=learnable(draws, (-1, 1)))
    """

    _: KW_ONLY
    v_reset: Real | None = None
    surrogate_function: SpikeFunction = Rect()
    step = functional.adlif_step


class SEAdLIFNode(_AdaptiveCurrent):
    """LIF neuron with an adaptation current, in the symplectic form of Euler (SE-adLIF).

    The defaults are the middle of the ranges in which the authors draw and keep the constants of
    each neuron: `tau_u` 5 to 25, `tau_w` 60 to 300, `a` 0 to 1, `b` 0 to 2. Their networks learn
    all four.

    Examples:
        >>> _, spikes = unroll(SEAdLIFNode(tau_u=5.0, b=0.5), jnp.full((60, 1), 4.0))
        >>> spikes.reshape(3, 20).sum(axis=1)  # it adapts to what does not change
        Array([4., 0., 0.], dtype=float32)
    """

    printed = ("tau_u", "tau_w", "a", "b", "q", *Neuron.printed)
    tau_w: TimeConstant = 180.0
    _: KW_ONLY
    a: NonNegative = 0.5
    b: NonNegative = 1.0
    q: Positive = 120.0
    detach_reset: bool = True
    surrogate_function: SpikeFunction = PiecewiseExp(alpha=5.0, gamma=0.4)
    step = functional.se_adlif_step


class BRFNode(Firing):
    """Balanced resonate-and-fire neuron (BRF): an oscillator that cannot diverge and is not
    reset, but damped for a while after a spike.

    Its growth at rest is `b = p(omega) - b_offset` with the bound `p` of
    `jaxsnn.functional.divergence_bound`. The authors' networks learn `omega` and `b_offset` of
    each neuron, e.g. from draws between 15 and 85, and 0.1 and 1.

    Args:
        omega: angle per unit of time, greater than 0 and less than `1 / dt`; the neuron
            answers best to inputs every `2 pi / omega`. Learned, it needs such bounds, e.g.
            `(0, 0.99 / dt)`.
        b_offset: how far the damping is from the bound, not negative.

    Examples:
        >>> omega = jax.random.uniform(jax.random.key(0), (128,), minval=15.0, maxval=85.0)
        >>> neuron = BRFNode(omega=learnable(omega, (0, 99)), b_offset=learnable(0.5))

        It prefers its own rhythm, here 50 steps, to others:

        >>> steps = jnp.arange(500.0)[:, None]
        >>> xs = 4.0 * jnp.sin(2 * jnp.pi * steps / jnp.array([[25.0, 50.0, 100.0]]))
        >>> _, spikes = unroll(BRFNode(omega=4 * jnp.pi), xs)
        >>> spikes.sum(axis=0)
        Array([ 0., 12.,  0.], dtype=float32)
    """

    _: KW_ONLY
    omega: Positive = 10.0
    b_offset: NonNegative = 1.0
    dt: Positive = 0.01
    q_decay: Fraction = 0.9
    surrogate_function: SpikeFunction = DoubleGaussian()
    step = functional.brf_step
    state = functional.BRFState

    def check_fields(self) -> None:
        greatest = {name: high for name, (_, high) in self._bounds}  # of constants that are learned
        omega, dt = (greatest.get(name, getattr(self, name)) for name in ("omega", "dt"))
        if not isinstance(dt * omega, jax.core.Tracer) and np.any(dt * omega >= 1):
            raise ValueError(
                f"omega must be less than 1/dt, got {omega!r} for omega and {dt!r} for dt: a "
                "faster oscillation grows whatever the damping. Make dt smaller; a learned "
                "constant counts with its upper bound, e.g. nn.learnable(value, (0, 0.99 / dt))"
            )

    def settings(self) -> dict[str, Any]:
        bound = functional.divergence_bound(self.omega, self.dt)
        return super().settings() | {"b": bound - self.b_offset}


class TCLIFNode(Firing):
    """Two-compartment LIF neuron (TC-LIF): a dendrite that gathers the input without a leak, and
    a soma that fires.

    The authors learn `beta1` and `beta2`, one of each for a layer, as `learnable(0.5)` does.

    Examples:
        >>> _, spikes = unroll(TCLIFNode(), jnp.full((8, 1), 0.6))
        >>> spikes[:, 0]
        Array([0., 0., 1., 1., 0., 1., 1., 0.], dtype=float32)
    """

    _: KW_ONLY
    beta1: Fraction = 0.5
    beta2: Fraction = 0.5
    gamma: Real = 0.5
    detach_reset: bool = False
    surrogate_function: SpikeFunction = PiecewiseQuadratic()
    step = functional.tclif_step
    state = functional.TCLIFState
