"""Neurons that adapt: by a current, by their threshold, by their reset."""

from collections.abc import Callable

import jax

from jaxsnn import _checks, functional
from jaxsnn._carries import check_step
from jaxsnn._phases import SurrogateFunction
from jaxsnn.functional import AdaptiveLIFState, ComplementaryLIFState, IzhikevichState
from jaxsnn.nn._neurons import _Neuron
from jaxsnn.surrogate import Rect, Sigmoid


class IzhikevichNode(_Neuron):
    """Izhikevich neuron: quadratic, with an adaptation current; the equation is in
    `jaxsnn.functional.izhikevich_step`.

    Args:
        tau: membrane time constant in time steps, greater than 1.
        v_c: critical potential, above which the neuron fires by itself.
        a0: curvature, greater than 0.
        v_threshold: firing threshold.
        v_reset: potential after a spike and before the first step, less than `v_threshold`; None
            is the soft reset, which subtracts the threshold and starts from 0.
        v_rest: potential at rest.
        w_rest: adaptation current before the first step.
        tau_w: time constant of the adaptation in time steps, greater than 1.
        a: how strongly the adaptation follows the potential.
        b: by how much a spike raises the adaptation current. With `a` and `b` at 0, as by
            default, nothing adapts: set them.
        surrogate_function: spike function of `v - v_threshold`, e.g. `jaxsnn.surrogate.ATan()`.
        detach_reset: no gradient flows through the spike in the reset (those of the output and
            of the adaptation stay).

    Carry: `jaxsnn.functional.IzhikevichState(v, w)`, both in the shape of one step's input.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: `tau` or `tau_w` is not greater than 1, `a0` not greater than 0, `v_reset` not
            less than `v_threshold`, or a number is not finite.
    """

    printed = ("tau", "v_c", "a0", "v_rest", "w_rest", "tau_w", "a", "b", *_Neuron.printed)

    def __init__(
        self,
        tau: float = 2.0,
        *,
        v_c: float = 0.8,
        a0: float = 1.0,
        v_threshold: float = 1.0,
        v_reset: float | None = 0.0,
        v_rest: float = -0.1,
        w_rest: float = 0.0,
        tau_w: float = 2.0,
        a: float = 0.0,
        b: float = 0.0,
        surrogate_function: SurrogateFunction = Sigmoid(),
        detach_reset: bool = False,
    ) -> None:
        super().__init__(v_threshold, v_reset, surrogate_function, detach_reset)
        _checks.less("v_reset", self.v_reset, "v_threshold", self.v_threshold)
        self.tau = _checks.time_constant("tau", tau)
        self.v_c = _checks.real("v_c", v_c)
        self.a0 = _checks.positive("a0", a0)
        self.v_rest = _checks.real("v_rest", v_rest)
        self.w_rest = _checks.real("w_rest", w_rest)
        self.tau_w = _checks.time_constant("tau_w", tau_w)
        self.a = _checks.real("a", a)
        self.b = _checks.real("b", b)

    def _first(self, full: Callable[[float], jax.Array]) -> IzhikevichState:
        return IzhikevichState(v=super()._first(full), w=full(self.w_rest))

    def _step(self, carry: IzhikevichState, x: jax.Array) -> tuple[IzhikevichState, jax.Array]:
        check_step(self, carry, x, IzhikevichState)
        return functional.izhikevich_step(
            carry,
            x,
            tau=self.tau,
            v_c=self.v_c,
            a0=self.a0,
            v_rest=self.v_rest,
            tau_w=self.tau_w,
            a=self.a,
            b=self.b,
            **self._fire_and_reset(),
        )


class AdaptiveLIFNode(_Neuron):
    """LIF neuron whose threshold rises with each of its spikes and sinks back (ALIF); the
    equation and its sources are in `jaxsnn.functional.adaptive_lif_step`.

    Args:
        tau: membrane time constant in time steps, greater than 1.
        tau_a: time constant of the threshold in time steps, greater than 1: how far back the
            neuron remembers its spikes, so as a rule about the length of the task.
        beta: how far the threshold rises if the neuron fires at every step, not negative; one
            spike raises it by `beta / tau_a`. The default is the 1.8 of Bellec et al. (2018),
            who use a threshold of 0.01, for a threshold of 1.
        decay_input: whether the input is divided by `tau` too.
        v_threshold: firing threshold at rest.
        v_reset: potential after a spike, at rest and before the first step; None is the soft
            reset, which subtracts the risen threshold, rests at 0 and starts from 0.
        surrogate_function: spike function of the potential less the threshold, e.g.
            `jaxsnn.surrogate.ATan()`.
        detach_reset: no gradient flows through the spike in the reset (those of the output and
            of the adaptation stay).

    Carry: `jaxsnn.functional.AdaptiveLIFState(v, a)`, `a` 0 before the first step, both in the
    shape of one step's input.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: `tau` or `tau_a` is not greater than 1, `beta` negative, or a number is not
            finite.

    Examples:
        >>> neuron = AdaptiveLIFNode(tau=2.0, tau_a=20.0, beta=10.0)
        >>> _, spikes = unroll(neuron, jnp.full((60, 1), 3.0))
        >>> spikes.reshape(3, 20).sum(axis=1)
        Array([7., 4., 4.], dtype=float32)
    """

    printed = ("tau", "tau_a", "beta", "decay_input", *_Neuron.printed)

    def __init__(
        self,
        tau: float = 2.0,
        *,
        tau_a: float = 200.0,
        beta: float = 180.0,
        decay_input: bool = True,
        v_threshold: float = 1.0,
        v_reset: float | None = None,
        surrogate_function: SurrogateFunction = Sigmoid(),
        detach_reset: bool = False,
    ) -> None:
        super().__init__(v_threshold, v_reset, surrogate_function, detach_reset)
        self.tau = _checks.time_constant("tau", tau)
        self.tau_a = _checks.time_constant("tau_a", tau_a)
        self.beta = _checks.non_negative("beta", beta)
        self.decay_input = _checks.boolean("decay_input", decay_input)

    def _first(self, full: Callable[[float], jax.Array]) -> AdaptiveLIFState:
        return AdaptiveLIFState(v=super()._first(full), a=full(0.0))

    def _step(self, carry: AdaptiveLIFState, x: jax.Array) -> tuple[AdaptiveLIFState, jax.Array]:
        check_step(self, carry, x, AdaptiveLIFState)
        return functional.adaptive_lif_step(
            carry,
            x,
            tau=self.tau,
            decay_input=self.decay_input,
            tau_a=self.tau_a,
            beta=self.beta,
            **self._fire_and_reset(),
        )


class ComplementaryLIFNode(_Neuron):
    """Complementary LIF neuron (CLIF): a second potential counts spikes and deepens the soft
    reset; the equation is in `jaxsnn.functional.complementary_lif_step`.

    Args:
        tau: membrane time constant in time steps, greater than 1. The input is not divided by it.
        v_threshold: firing threshold.
        surrogate_function: spike function of `v - v_threshold`, e.g. `jaxsnn.surrogate.ATan()`.

    Carry: `jaxsnn.functional.ComplementaryLIFState(v, m)`, 0 before the first step, both in the
    shape of one step's input.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: `tau` is not greater than 1, or a number is not finite.
    """

    printed = ("tau", "v_threshold", "surrogate_function")

    def __init__(
        self,
        tau: float = 2.0,
        *,
        v_threshold: float = 1.0,
        surrogate_function: SurrogateFunction = Rect(),
    ) -> None:
        super().__init__(v_threshold, None, surrogate_function, False)
        self.tau = _checks.time_constant("tau", tau)

    def _first(self, full: Callable[[float], jax.Array]) -> ComplementaryLIFState:
        return ComplementaryLIFState(v=full(0.0), m=full(0.0))

    def _step(
        self, carry: ComplementaryLIFState, x: jax.Array
    ) -> tuple[ComplementaryLIFState, jax.Array]:
        check_step(self, carry, x, ComplementaryLIFState)
        return functional.complementary_lif_step(
            carry,
            x,
            tau=self.tau,
            v_threshold=self.v_threshold,
            surrogate_function=self.surrogate_function,
        )
