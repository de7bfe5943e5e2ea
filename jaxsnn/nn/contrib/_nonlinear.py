"""Neurons whose potential speeds up on its way to the threshold: quadratic and exponential."""

from dataclasses import KW_ONLY

from jaxsnn import _checks, functional
from jaxsnn.nn._constants import Positive, Real, TimeConstant
from jaxsnn.nn._neurons import Neuron


class _NonlinearNeuron(Neuron):
    """Abstract: a neuron that rests above its reset.

    Args:
        tau: membrane time constant in time steps, greater than 1.
        v_rest: potential at rest.
        v_reset: potential after a spike and before the first step, less than `v_threshold`; None
            is the soft reset, which subtracts the threshold and starts from 0.
    """

    tau: TimeConstant = 2.0
    _: KW_ONLY
    v_rest: Real = 0.0
    v_reset: Real | None = -0.1

    def __post_init__(self) -> None:
        _checks.less("v_reset", self.v_reset, "v_threshold", self.v_threshold)


class QIFNode(_NonlinearNeuron):
    """Quadratic integrate-and-fire neuron; the equation is in `jaxsnn.functional.qif_step`.

    Args:
        v_c: critical potential, above which the neuron fires by itself.
        a0: curvature, greater than 0.
    """

    _: KW_ONLY
    v_c: Real = 0.8
    a0: Positive = 1.0
    step = functional.qif_step


class EIFNode(_NonlinearNeuron):
    """Exponential integrate-and-fire neuron; the equation is in `jaxsnn.functional.eif_step`.

    Args:
        delta_T: sharpness of the upswing, greater than 0.
        theta_rh: potential at which the upswing sets in.
    """

    _: KW_ONLY
    delta_T: Positive = 1.0
    theta_rh: Real = 0.8
    step = functional.eif_step
