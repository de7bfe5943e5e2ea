"""`Neuron`, the base of neurons that fire and are reset, and those without or with a plain leak."""

from dataclasses import KW_ONLY
from typing import Annotated, Any

import jax.numpy as jnp

from jaxsnn import _checks, functional
from jaxsnn._phases import SurrogateFunction
from jaxsnn.nn._constants import Positive, Real, Threshold, TimeConstant, learnable
from jaxsnn.nn._elementwise import ElementwiseCell
from jaxsnn.surrogate import Sigmoid

SpikeFunction = Annotated[SurrogateFunction, _checks.function]


class Firing(ElementwiseCell):
    """Abstract base of neurons with a threshold.

    Args:
        v_threshold: firing threshold.
        surrogate_function: spike function of `v - v_threshold`, e.g. `jaxsnn.surrogate.ATan()`.

    Carry: the potential `v`, in the shape of one step's input.
    """

    state_name = "v"

    _: KW_ONLY
    v_threshold: Threshold = 1.0
    surrogate_function: SpikeFunction = Sigmoid()


class Neuron(Firing):
    """Abstract base of neurons that fire and are reset: their step and their constants.

    The arguments below are those of all such neurons. Each constant is a number, an array that
    broadcasts to the features (the last axes of the input), or `learnable`.

    Args:
        v_reset: potential after a spike, at rest and before the first step; None is the soft
            reset, which subtracts the threshold, rests at 0 and starts from 0.
        detach_reset: no gradient flows through the spike in the reset (that of the output stays).

    Examples:
        >>> class DecayingIF(Neuron):
        ...     decay: Fraction = 0.9
        ...
        ...     @staticmethod
        ...     def step(v, x, *, decay, **fire_and_reset):
        ...         return functional.if_step(decay * v, x, **fire_and_reset)
        >>> _, spikes = unroll(DecayingIF(0.5, v_threshold=0.7), jnp.full((4, 1), 0.5))
        >>> spikes[:, 0]
        Array([0., 1., 0., 1.], dtype=float32)
    """

    printed = ("v_threshold", "v_reset", "detach_reset", "surrogate_function")

    _: KW_ONLY
    v_reset: Real | None = 0.0
    detach_reset: bool = False

    def initial_state(self) -> Any:
        """The state before the first step: `v` is `v_reset`, 0 for the soft reset."""
        v = 0.0 if self.v_reset is None else self.v_reset
        return v if self.state is None else super().initial_state()._replace(v=v)


class IFNode(Neuron):
    """Integrate-and-fire neuron; the equation is in `jaxsnn.functional.if_step`.

    Args:
        v_reset: potential after a spike and before the first step; None is the soft reset,
            which subtracts the threshold and starts from 0.

    Examples:
        >>> _, spikes = unroll(IFNode(), jnp.full((4, 1), 0.5))
        >>> spikes[:, 0]
        Array([0., 1., 0., 1.], dtype=float32)
    """

    step = functional.if_step


class LIFNode(Neuron):
    """Leaky integrate-and-fire neuron; the equation is in `jaxsnn.functional.lif_step`.

    Args:
        tau: membrane time constant in time steps, greater than 1.
        decay_input: whether the input is divided by `tau` too.
    """

    tau: TimeConstant = 2.0
    _: KW_ONLY
    decay_input: bool = True
    step = functional.lif_step


class ParametricLIFNode(LIFNode):
    """LIF neuron that learns its time constant, one for the whole layer, as
    `LIFNode(tau=learnable(init_tau))` does; the equation is in `jaxsnn.functional.lif_step`.

    The parameter is `w` with `1/tau = sigmoid(w)` (Fang et al. 2021, "Incorporating learnable
    membrane time constant to enhance learning of spiking neural networks").

    Args:
        init_tau: membrane time constant at the start, in time steps, greater than 1.
        decay_input: whether the input is divided by `tau` too.
        v_threshold: firing threshold.
        v_reset: potential after a spike, at rest and before the first step; None is the soft
            reset, which subtracts the threshold, rests at 0 and starts from 0.
        detach_reset: no gradient flows through the spike in the reset (that of the output stays).
        surrogate_function: spike function of `v - v_threshold`, e.g. `jaxsnn.surrogate.ATan()`.
        param_dtype: dtype of `w`.

    Carry: the potential `v`, in the shape of one step's input.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: `init_tau` is not greater than 1, or a number is not finite.
    """

    def __init__(
        self,
        init_tau: float = 2.0,
        *,
        decay_input: bool = True,
        v_threshold: float = 1.0,
        v_reset: float | None = 0.0,
        detach_reset: bool = False,
        surrogate_function: SurrogateFunction = Sigmoid(),
        param_dtype: Any = jnp.float32,
    ) -> None:
        super().__init__(
            learnable(_checks.time_constant("init_tau", init_tau), param_dtype=param_dtype),
            decay_input=decay_input,
            v_threshold=v_threshold,
            v_reset=v_reset,
            detach_reset=detach_reset,
            surrogate_function=surrogate_function,
        )


class KLIFNode(Neuron):
    """LIF neuron with a gain before its threshold, by default learned, one for the whole layer;
    the equation is in `jaxsnn.functional.klif_step`.

    Args:
        tau: membrane time constant in time steps, greater than 1.
        scale_reset: whether the gain is taken back in the reset. Then `k` must stay clear of 0.
        decay_input: whether the input is divided by `tau` too.
        k: gain.
        surrogate_function: spike function of `h - v_threshold`, e.g. `jaxsnn.surrogate.ATan()`.
    """

    tau: TimeConstant = 2.0
    _: KW_ONLY
    scale_reset: bool = False
    decay_input: bool = True
    k: Real = learnable(1.0)
    step = functional.klif_step


class HalfThresholdIFNode(Firing):
    """IF neuron with soft reset that starts half-way to its threshold; the equation is in
    `jaxsnn.functional.if_step`.

    For networks that are converted from conventional ones: the number of spikes for a constant
    input is then rounded, not cut off (Bu et al. 2022, "Optimized potential initialization for
    low-latency spiking neural networks").

    Args:
        v_threshold: firing threshold, greater than 0.
        detach_reset: no gradient flows through the spike in the reset (that of the output stays).

    Carry: the potential `v`, `v_threshold / 2` before the first step, in the shape of one step's
    input.

    Examples:
        >>> _, spikes = unroll(HalfThresholdIFNode(), jnp.full((4, 1), 0.375))
        >>> spikes[:, 0]
        Array([0., 1., 0., 1.], dtype=float32)
    """

    _: KW_ONLY
    v_threshold: Positive = 1.0
    detach_reset: bool = False
    step = functional.if_step

    def initial_state(self) -> Any:
        return self.v_threshold / 2

    def settings(self) -> dict[str, Any]:
        return super().settings() | {"v_reset": None}
