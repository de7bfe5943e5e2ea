"""Neurons that most networks use: those that fire and are reset, and two that never fire."""

from dataclasses import KW_ONLY, InitVar, field
from typing import Annotated, Any, ClassVar

import jax.numpy as jnp

from jaxsnn import _checks, functional
from jaxsnn._phases import SurrogateFunction
from jaxsnn.nn._constants import Fraction, NonNegative, Real, Threshold, TimeConstant, learnable
from jaxsnn.nn._elementwise import ElementwiseCell
from jaxsnn.surrogate import Rect, Sigmoid

SpikeFunction = Annotated[SurrogateFunction, _checks.function]


class Firing(ElementwiseCell):
    """Abstract base of neurons with a threshold.

    Args:
        tau: membrane time constant in time steps, greater than 1.
        decay_input: whether the input is divided by `tau` too.
        v_threshold: firing threshold.
        detach_reset: no gradient flows through the spike in the reset (that of the output stays).
        surrogate_function: spike function of the potential less the threshold, e.g.
            `jaxsnn.surrogate.ATan()`.
    """

    state_name = "v"

    _: KW_ONLY
    v_threshold: Threshold = 1.0
    surrogate_function: SpikeFunction = Sigmoid()


class Neuron(Firing):
    """Abstract base of neurons that fire and are reset: their step and their constants.

    The arguments below are those of all such neurons.

    Args:
        v_reset: potential after a spike and before the first step; None is the soft reset, which
            subtracts the threshold and starts from 0. A leaky neuron rests where its equation says.

    Carry: the state, each array in the shape of one step's input. Before the first step `v` is
    `v_reset` (0 for the soft reset), another state 0 unless an argument gives it.

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

    printed: ClassVar[tuple[str, ...]] = (
        "v_threshold",
        "v_reset",
        "detach_reset",
        "surrogate_function",
    )

    _: KW_ONLY
    v_reset: Real | None = 0.0
    detach_reset: bool = False

    def initial_state(self) -> Any:
        """The state before the first step: `v` is `v_reset`, 0 for the soft reset."""
        v = 0.0 if self.v_reset is None else self.v_reset
        return v if self.state is None else super().initial_state()._replace(v=v)


class IFNode(Neuron):
    """Integrate-and-fire neuron.

    Examples:
        >>> _, spikes = unroll(IFNode(), jnp.full((4, 1), 0.5))
        >>> spikes[:, 0]
        Array([0., 1., 0., 1.], dtype=float32)
    """

    step = functional.if_step


class LIFNode(Neuron):
    """Leaky integrate-and-fire neuron."""

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
        param_dtype: dtype of `w`.
    """

    tau: TimeConstant = field(init=False)
    init_tau: InitVar[float] = 2.0
    _: KW_ONLY
    param_dtype: InitVar[Any] = jnp.float32

    def __post_init__(self, init_tau: float, param_dtype: Any) -> None:
        tau = _checks.time_constant("init_tau", init_tau)
        self.tau = learnable(tau, param_dtype=param_dtype)


class AdaptiveLIFNode(Neuron):
    """LIF neuron whose threshold rises with each of its spikes and sinks back (ALIF).

    Args:
        tau_a: time constant of the threshold in time steps, greater than 1: how far back the
            neuron remembers its spikes, so usually about the length of the task.
        beta: how far the threshold rises if the neuron fires at every step, not negative; one
            spike raises it by `beta / tau_a`. The default is the 1.8 of Bellec et al. (2018),
            who use a threshold of 0.01, for a threshold of 1.

    Examples:
        >>> neuron = AdaptiveLIFNode(tau=2.0, tau_a=20.0, beta=10.0)
        >>> _, spikes = unroll(neuron, jnp.full((60, 1), 3.0))
        >>> spikes.reshape(3, 20).sum(axis=1)
        Array([7., 4., 4.], dtype=float32)
    """

    tau: TimeConstant = 2.0
    _: KW_ONLY
    tau_a: TimeConstant = 200.0
    beta: NonNegative = 180.0
    decay_input: bool = True
    v_reset: Real | None = None
    step = functional.adaptive_lif_step
    state = functional.AdaptiveLIFState


class CUBALIFNode(Neuron):
    """Current-based LIF neuron: spikes feed a current that decays, the current the potential."""

    _: KW_ONLY
    c_decay: Fraction = 0.5
    v_decay: Fraction = 0.75
    v_threshold: Threshold = 0.5
    surrogate_function: SpikeFunction = Rect()
    step = functional.cubalif_step
    state = functional.CUBALIFState


class NonSpikingIFNode(ElementwiseCell):
    """Integrator that never fires.

    It outputs its potential at each step. As the last layer of a network it is followed by a
    readout over time, e.g. `jaxsnn.readouts.last_membrane`.
    """

    state_name = "v"
    step = functional.nonspiking_if_step


class NonSpikingLIFNode(ElementwiseCell):
    """Leaky integrator (LI) that never fires.

    It outputs its potential at each step, like `NonSpikingIFNode`.

    Examples:
        >>> _, v_seq = unroll(NonSpikingLIFNode(tau=2.0), jnp.array([[1.0], [1.0], [0.0]]))
        >>> jaxsnn.readouts.max_membrane(v_seq)
        Array([0.75], dtype=float32)
    """

    state_name = "v"
    tau: TimeConstant = 2.0
    _: KW_ONLY
    decay_input: bool = True
    step = functional.nonspiking_lif_step
