"""Neurons of two linear equations: a synaptic current, or an oscillation, before the potential."""

from dataclasses import KW_ONLY

from jaxsnn import functional
from jaxsnn.nn._constants import Fraction, Negative, Positive, Threshold
from jaxsnn.nn._neurons import Neuron, SpikeFunction
from jaxsnn.surrogate import Rect


class CUBALIFNode(Neuron):
    """Current-based LIF neuron: spikes feed a current that decays, the current feeds the
    potential; the equation is in `jaxsnn.functional.cubalif_step`.

    Args:
        c_decay: what is left of the current after a step, from 0 to 1.
        v_decay: what is left of the potential after a step, from 0 to 1.
        v_reset: potential after a spike and before the first step; None is the soft reset,
            which subtracts the threshold and starts from 0. Either way the potential decays
            towards 0.

    Carry: `jaxsnn.functional.CUBALIFState(v, c)`, `c` 0 before the first step, both in the shape
    of one step's input.
    """

    _: KW_ONLY
    c_decay: Fraction = 0.5
    v_decay: Fraction = 0.75
    v_threshold: Threshold = 0.5
    surrogate_function: SpikeFunction = Rect()
    step = functional.cubalif_step
    state = functional.CUBALIFState


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
