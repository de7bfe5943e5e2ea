"""Neurons with a second variable: an adaptation current, a count of spikes, an oscillation."""

from dataclasses import KW_ONLY
from typing import Any

from jaxsnn import _checks, functional
from jaxsnn.nn._constants import Negative, Positive, Real, TimeConstant
from jaxsnn.nn._neurons import Firing, Neuron, SpikeFunction
from jaxsnn.surrogate import Rect


class IzhikevichNode(Neuron):
    """Izhikevich neuron: quadratic, with an adaptation current; the equation is in
    `jaxsnn.functional.izhikevich_step`.

    Args:
        tau: membrane time constant in time steps, greater than 1.
        v_c: critical potential, above which the neuron fires by itself.
        a0: curvature, greater than 0.
        v_rest: potential at rest.
        w_rest: adaptation current before the first step.
        tau_w: time constant of the adaptation in time steps, greater than 1.
        a: how strongly the adaptation follows the potential.
        b: by how much a spike raises the adaptation current. With `a` and `b` at 0, the default,
            nothing adapts: set them.
        v_reset: potential after a spike and before the first step, less than `v_threshold`; None
            is the soft reset, which subtracts the threshold and starts from 0.

    Carry: `jaxsnn.functional.IzhikevichState(v, w)`, both in the shape of one step's input.
    """

    tau: TimeConstant = 2.0
    _: KW_ONLY
    v_c: Real = 0.8
    a0: Positive = 1.0
    v_rest: Real = -0.1
    w_rest: Real = 0.0
    tau_w: TimeConstant = 2.0
    a: Real = 0.0
    b: Real = 0.0
    step = functional.izhikevich_step
    state = functional.IzhikevichState

    def __post_init__(self) -> None:
        _checks.less("v_reset", self.v_reset, "v_threshold", self.v_threshold)

    def initial_state(self) -> Any:
        return super().initial_state()._replace(w=self.w_rest)


class ComplementaryLIFNode(Firing):
    """Complementary LIF neuron (CLIF): a second potential counts spikes and deepens the soft
    reset; the equation is in `jaxsnn.functional.complementary_lif_step`.

    Args:
        tau: membrane time constant in time steps, greater than 1. The input is not divided by it.

    Carry: `jaxsnn.functional.ComplementaryLIFState(v, m)`, 0 before the first step, both in the
    shape of one step's input.
    """

    tau: TimeConstant = 2.0
    _: KW_ONLY
    surrogate_function: SpikeFunction = Rect()
    step = functional.complementary_lif_step
    state = functional.ComplementaryLIFState


class RAFNode(Neuron):
    """Resonate-and-fire neuron: a damped oscillator that fires where inputs keep its rhythm;
    the equation is in `jaxsnn.functional.raf_step`.

    Args:
        b: growth of the oscillation per unit of time, less than 0: it is damped.
        omega: angle per unit of time, greater than 0; the neuron answers best to inputs every
            `2 pi / omega`.
        dt: units of time in a step, greater than 0.
        v_reset: potential after a spike and before the first step; None is the soft reset,
            which subtracts the threshold and starts from 0.

    Carry: `jaxsnn.functional.RAFState(v, u)`, `u` 0 before the first step, both in the shape of
    one step's input.
    """

    _: KW_ONLY
    b: Negative = -0.2
    omega: Positive = 1.0
    dt: Positive = 1.0
    step = functional.raf_step
    state = functional.RAFState
