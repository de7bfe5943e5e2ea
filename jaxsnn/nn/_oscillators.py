"""Neurons that oscillate: a potential and a second variable that drive each other."""

from dataclasses import KW_ONLY
from typing import Any

import jax
import numpy as np

from jaxsnn import functional
from jaxsnn.nn._constants import Fraction, NonNegative, Positive, Real
from jaxsnn.nn._neurons import Firing, SpikeFunction
from jaxsnn.surrogate import DoubleGaussian, PiecewiseQuadratic


class BRFNode(Firing):
    """Balanced resonate-and-fire neuron (BRF): an oscillator that cannot diverge and is not
    reset, but damped for a while after a spike; the equation is in `jaxsnn.functional.brf_step`.

    Its growth at rest is `b = p(omega) - b_offset` with the bound `p` of
    `jaxsnn.functional.divergence_bound`. The authors' networks learn `omega` and `b_offset` of
    each neuron, e.g. from draws between 15 and 85, and 0.1 and 1.

    Args:
        omega: angle per unit of time, greater than 0 and less than `1 / dt`; the neuron
            answers best to inputs every `2 pi / omega`. Learned, it needs such bounds, e.g.
            `(0, 0.99 / dt)`.
        b_offset: how far the damping is from the bound, not negative.
        dt: units of time in a step, greater than 0.
        q_decay: what is left of the refractory variable after a step, from 0 to 1.
        v_threshold: firing threshold at rest.
        surrogate_function: spike function of `v - v_threshold - q`, e.g.
            `jaxsnn.surrogate.DoubleGaussian()`.

    Carry: `jaxsnn.functional.BRFState(v, u, q)`, all 0 before the first step, in the shape of one
    step's input.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: a constant is out of range or not finite, or `omega` not less than `1 / dt`;
            when run, if an array of constants does not broadcast to the input.

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

    def __post_init__(self) -> None:
        omega, dt = self._greatest("omega"), self._greatest("dt")
        if not isinstance(dt * omega, jax.core.Tracer) and np.any(dt * omega >= 1):
            raise ValueError(
                f"omega must be less than 1/dt, got {omega!r} for omega and {dt!r} for dt: a "
                "faster oscillation grows whatever the damping. Make dt smaller; a learned "
                "constant counts with its upper bound, e.g. nn.learnable(value, (0, 0.99 / dt))"
            )

    def _greatest(self, name: str) -> Any:
        """The constant, or the upper bound of one that is learned."""
        bounds = dict(self._bounds)
        return bounds[name][1] if name in bounds else getattr(self, name)

    def settings(self) -> dict[str, Any]:
        bound = functional.divergence_bound(self.omega, self.dt)
        return super().settings() | {"b": bound - self.b_offset}


class TCLIFNode(Firing):
    """Two-compartment LIF neuron (TC-LIF): a dendrite that gathers the input without a leak, and
    a soma that fires; the equation is in `jaxsnn.functional.tclif_step`.

    The authors learn `beta1` and `beta2`, one of each for a layer, as `learnable(0.5)` does.

    Args:
        beta1: how strongly the soma inhibits the dendrite, from 0 to 1.
        beta2: how strongly the dendrite drives the soma, from 0 to 1.
        gamma: what a spike takes from the dendrite.
        v_threshold: firing threshold of the soma, and what a spike takes from it.
        detach_reset: no gradient flows through the spike in both resets (that of the output
            stays).

    Carry: `jaxsnn.functional.TCLIFState(v, d)`, the potentials of soma and dendrite, 0 before the
    first step, both in the shape of one step's input.

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
