"""Neurons of two linear equations: a synaptic current, or an oscillation, before the potential."""

from collections.abc import Callable

import jax

from jaxsnn import _checks, functional
from jaxsnn._carries import check_step
from jaxsnn._phases import SurrogateFunction
from jaxsnn.functional import CUBALIFState, RAFState
from jaxsnn.nn._neurons import _Neuron
from jaxsnn.surrogate import Rect, Sigmoid


class CUBALIFNode(_Neuron):
    """Current-based LIF neuron: spikes feed a current that decays, the current feeds the
    potential; the equation is in `jaxsnn.functional.cubalif_step`.

    Args:
        c_decay: what is left of the current after a step, from 0 to 1.
        v_decay: what is left of the potential after a step, from 0 to 1.
        v_threshold: firing threshold.
        v_reset: potential after a spike and before the first step; None is the soft reset,
            which subtracts the threshold and starts from 0. Either way the potential decays
            towards 0.
        surrogate_function: spike function of `v - v_threshold`, e.g. `jaxsnn.surrogate.ATan()`.
        detach_reset: no gradient flows through the reset (that of the output spike stays).

    Carry: `jaxsnn.functional.CUBALIFState(v, c)`, `c` 0 before the first step, both in the shape
    of one step's input.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: `c_decay` or `v_decay` is not between 0 and 1, or a number is not finite.
    """

    printed = ("c_decay", "v_decay", *_Neuron.printed)

    def __init__(
        self,
        *,
        c_decay: float = 0.5,
        v_decay: float = 0.75,
        v_threshold: float = 0.5,
        v_reset: float | None = 0.0,
        surrogate_function: SurrogateFunction = Rect(),
        detach_reset: bool = False,
    ) -> None:
        super().__init__(v_threshold, v_reset, surrogate_function, detach_reset)
        self.c_decay = _checks.probability("c_decay", c_decay)
        self.v_decay = _checks.probability("v_decay", v_decay)

    def _first(self, full: Callable[[float], jax.Array]) -> CUBALIFState:
        return CUBALIFState(v=super()._first(full), c=full(0.0))

    def _step(self, carry: CUBALIFState, x: jax.Array) -> tuple[CUBALIFState, jax.Array]:
        check_step(self, carry, x, CUBALIFState)
        return functional.cubalif_step(
            carry, x, c_decay=self.c_decay, v_decay=self.v_decay, **self._fire_and_reset()
        )


class RAFNode(_Neuron):
    """Resonate-and-fire neuron: a damped oscillator that fires where inputs keep its rhythm;
    the equation is in `jaxsnn.functional.raf_step`.

    Args:
        b: growth of the oscillation per unit of time, less than 0: it is damped.
        omega: angle per unit of time, greater than 0; the neuron answers best to inputs every
            `2 pi / omega`.
        dt: units of time in a step, greater than 0.
        v_threshold: firing threshold.
        v_reset: potential after a spike and before the first step; None is the soft reset,
            which subtracts the threshold and starts from 0.
        surrogate_function: spike function of `v - v_threshold`, e.g. `jaxsnn.surrogate.ATan()`.
        detach_reset: no gradient flows through the reset (that of the output spike stays).

    Carry: `jaxsnn.functional.RAFState(v, u)`, `u` 0 before the first step, both in the shape of
    one step's input.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: `b` is not less than 0, `omega` or `dt` not greater than 0, or a number is
            not finite.
    """

    printed = ("b", "omega", "dt", *_Neuron.printed)

    def __init__(
        self,
        *,
        b: float = -0.2,
        omega: float = 1.0,
        dt: float = 1.0,
        v_threshold: float = 1.0,
        v_reset: float | None = 0.0,
        surrogate_function: SurrogateFunction = Sigmoid(),
        detach_reset: bool = False,
    ) -> None:
        super().__init__(v_threshold, v_reset, surrogate_function, detach_reset)
        self.b = _checks.negative("b", b)
        self.omega = _checks.positive("omega", omega)
        self.dt = _checks.positive("dt", dt)

    def _first(self, full: Callable[[float], jax.Array]) -> RAFState:
        return RAFState(v=super()._first(full), u=full(0.0))

    def _step(self, carry: RAFState, x: jax.Array) -> tuple[RAFState, jax.Array]:
        check_step(self, carry, x, RAFState)
        return functional.raf_step(
            carry, x, b=self.b, omega=self.omega, dt=self.dt, **self._fire_and_reset()
        )
