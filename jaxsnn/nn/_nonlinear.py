"""Neurons whose potential speeds up on its way to the threshold: quadratic and exponential."""

import jax

from jaxsnn import _checks, functional
from jaxsnn._carries import check_step
from jaxsnn._phases import SurrogateFunction
from jaxsnn.nn._neurons import _Neuron
from jaxsnn.surrogate import Sigmoid


class QIFNode(_Neuron):
    """Quadratic integrate-and-fire neuron; the equation is in `jaxsnn.functional.qif_step`.

    Args:
        tau: membrane time constant in time steps, greater than 1.
        v_c: critical potential, above which the neuron fires by itself.
        a0: curvature, greater than 0.
        v_threshold: firing threshold.
        v_rest: potential at rest.
        v_reset: potential after a spike and before the first step, less than `v_threshold`; None
            is the soft reset, which subtracts the threshold and starts from 0.
        surrogate_function: spike function of `v - v_threshold`, e.g. `jaxsnn.surrogate.ATan()`.
        detach_reset: no gradient flows through the reset (that of the output spike stays).

    Carry: the potential `v`, in the shape of one step's input.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: `tau` is not greater than 1, `a0` not greater than 0, `v_reset` not less than
            `v_threshold`, or a number is not finite.
    """

    printed = ("tau", "v_c", "a0", "v_rest", *_Neuron.printed)

    def __init__(
        self,
        tau: float = 2.0,
        *,
        v_c: float = 0.8,
        a0: float = 1.0,
        v_threshold: float = 1.0,
        v_rest: float = 0.0,
        v_reset: float | None = -0.1,
        surrogate_function: SurrogateFunction = Sigmoid(),
        detach_reset: bool = False,
    ) -> None:
        super().__init__(v_threshold, v_reset, surrogate_function, detach_reset)
        _checks.less("v_reset", self.v_reset, "v_threshold", self.v_threshold)
        self.tau = _checks.time_constant("tau", tau)
        self.v_c = _checks.real("v_c", v_c)
        self.a0 = _checks.positive("a0", a0)
        self.v_rest = _checks.real("v_rest", v_rest)

    def _step(self, carry: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        check_step(self, carry, x)
        return functional.qif_step(
            carry,
            x,
            tau=self.tau,
            v_c=self.v_c,
            a0=self.a0,
            v_rest=self.v_rest,
            **self._fire_and_reset(),
        )


class EIFNode(_Neuron):
    """Exponential integrate-and-fire neuron; the equation is in `jaxsnn.functional.eif_step`.

    Args:
        tau: membrane time constant in time steps, greater than 1.
        delta_T: sharpness of the upswing, greater than 0.
        theta_rh: potential at which the upswing sets in.
        v_threshold: firing threshold.
        v_rest: potential at rest.
        v_reset: potential after a spike and before the first step, less than `v_threshold`; None
            is the soft reset, which subtracts the threshold and starts from 0.
        surrogate_function: spike function of `v - v_threshold`, e.g. `jaxsnn.surrogate.ATan()`.
        detach_reset: no gradient flows through the reset (that of the output spike stays).

    Carry: the potential `v`, in the shape of one step's input.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: `tau` is not greater than 1, `delta_T` not greater than 0, `v_reset` not less
            than `v_threshold`, or a number is not finite.
    """

    printed = ("tau", "delta_T", "theta_rh", "v_rest", *_Neuron.printed)

    def __init__(
        self,
        tau: float = 2.0,
        *,
        delta_T: float = 1.0,
        theta_rh: float = 0.8,
        v_threshold: float = 1.0,
        v_rest: float = 0.0,
        v_reset: float | None = -0.1,
        surrogate_function: SurrogateFunction = Sigmoid(),
        detach_reset: bool = False,
    ) -> None:
        super().__init__(v_threshold, v_reset, surrogate_function, detach_reset)
        _checks.less("v_reset", self.v_reset, "v_threshold", self.v_threshold)
        self.tau = _checks.time_constant("tau", tau)
        self.delta_T = _checks.positive("delta_T", delta_T)
        self.theta_rh = _checks.real("theta_rh", theta_rh)
        self.v_rest = _checks.real("v_rest", v_rest)

    def _step(self, carry: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        check_step(self, carry, x)
        return functional.eif_step(
            carry,
            x,
            tau=self.tau,
            delta_T=self.delta_T,
            theta_rh=self.theta_rh,
            v_rest=self.v_rest,
            **self._fire_and_reset(),
        )
