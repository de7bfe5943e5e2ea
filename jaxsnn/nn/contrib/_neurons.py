"""Neurons that few networks need, each a declaration."""

from dataclasses import KW_ONLY
from typing import Annotated, Any

from jaxsnn import _checks, functional
from jaxsnn._phases import SurrogateFunction
from jaxsnn.nn._constants import Negative, Positive, Real, TimeConstant, learnable
from jaxsnn.nn._neurons import Firing, Neuron, SpikeFunction
from jaxsnn.surrogate import MultiLevelSpikeCount, Rect


class KLIFNode(Neuron):
    """LIF neuron with a gain before its threshold, by default learned, one for the whole layer."""

    tau: TimeConstant = 2.0
    _: KW_ONLY
    scale_reset: bool = False
    decay_input: bool = True
    k: Real = learnable(1.0)
    step = functional.klif_step


class HalfThresholdIFNode(Firing):
    """IF neuron with soft reset that starts half-way to its threshold.

    For networks that are converted from conventional ones: the number of spikes for a constant
    input is then rounded, not cut off (Bu et al. 2022, "Optimized potential initialization for
    low-latency spiking neural networks").

    Carry: the state, `v_threshold / 2` before the first step, in the shape of one step's input.

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


class ActivationAwareIFNode(Neuron):
    """IF neuron whose threshold is shifted by an offset, each one number or one for each channel.

    Examples:
        >>> neuron = ActivationAwareIFNode(v_threshold=[1.0, 0.5])
        >>> _, spikes = unroll(neuron, jnp.full((4, 1, 2), 0.25))
        >>> spikes[:, 0]
        Array([[0., 0.],
               [0., 1.],
               [0., 0.],
               [1., 1.]], dtype=float32)
    """

    _: KW_ONLY
    v_threshold: Positive = 1.0
    v_offset: Real = 0.0
    v_reset: Real | None = None
    step = functional.activation_aware_if_step


class _NonlinearNeuron(Neuron):
    """Abstract: a neuron that rests above its reset, and speeds up on its way to the threshold."""

    tau: TimeConstant = 2.0
    _: KW_ONLY
    v_rest: Real = 0.0
    v_reset: Real | None = -0.1

    def check_fields(self) -> None:
        _checks.less("v_reset", self.v_reset, "v_threshold", self.v_threshold)


class QIFNode(_NonlinearNeuron):
    """Quadratic integrate-and-fire neuron."""

    _: KW_ONLY
    v_c: Real = 0.8
    a0: Positive = 1.0
    step = functional.qif_step


class EIFNode(_NonlinearNeuron):
    """Exponential integrate-and-fire neuron."""

    _: KW_ONLY
    delta_T: Positive = 1.0
    theta_rh: Real = 0.8
    step = functional.eif_step


class IzhikevichNode(_NonlinearNeuron):
    """Izhikevich neuron: quadratic, with an adaptation current.

    Args:
        w_rest: adaptation current before the first step.
        b: by how much a spike raises the adaptation current. With `a` and `b` at 0, the default,
            nothing adapts: set them.
    """

    printed = ("tau", "v_c", "a0", "v_rest", "w_rest", "tau_w", "a", "b", *Neuron.printed)
    _: KW_ONLY
    v_c: Real = 0.8
    a0: Positive = 1.0
    v_rest: Real = -0.1
    w_rest: Real = 0.0
    tau_w: TimeConstant = 2.0
    a: Real = 0.0
    b: Real = 0.0
    v_reset: Real | None = 0.0
    step = functional.izhikevich_step
    state = functional.IzhikevichState

    def initial_state(self) -> Any:
        return super().initial_state()._replace(w=self.w_rest)


class ComplementaryLIFNode(Firing):
    """Complementary LIF neuron (CLIF): a count of spikes deepens the soft reset."""

    tau: TimeConstant = 2.0
    _: KW_ONLY
    surrogate_function: SpikeFunction = Rect()
    step = functional.complementary_lif_step
    state = functional.ComplementaryLIFState


class RAFNode(Neuron):
    """Resonate-and-fire neuron: a damped oscillator that fires where inputs keep its rhythm."""

    _: KW_ONLY
    b: Negative = -0.2
    omega: Positive = 1.0
    dt: Positive = 1.0
    step = functional.raf_step
    state = functional.RAFState


class _TernaryNeuron(Neuron):
    """Abstract: a neuron with a threshold on either side of its potential."""

    _: KW_ONLY
    v_threshold: Positive = 1.0

    def check_fields(self) -> None:
        _checks.less("v_reset", self.v_reset, "v_threshold", self.v_threshold)
        _checks.less("-v_threshold", -self.v_threshold, "v_reset", self.v_reset)


class TernaryIFNode(_TernaryNeuron):
    """IF neuron with spikes of either sign, -1, 0 or 1.

    Examples:
        >>> xs = jnp.array([[0.5], [0.5], [-0.5], [-0.75]])
        >>> _, spikes = unroll(TernaryIFNode(), xs)
        >>> spikes[:, 0]
        Array([ 0.,  1.,  0., -1.], dtype=float32)
    """

    step = functional.ternary_if_step


class TernaryLIFNode(_TernaryNeuron):
    """LIF neuron with spikes of either sign, -1, 0 or 1."""

    tau: TimeConstant = 2.0
    _: KW_ONLY
    decay_input: bool = True
    step = functional.ternary_lif_step


class ILIFNode(Firing):
    """Integer LIF neuron: up to several spikes in a step, soft reset.

    For training: hardware that knows spikes only is given a count one spike after another.

    Examples:
        >>> xs = jnp.array([[0.25], [1.25], [9.0], [0.0]])
        >>> _, counts = unroll(ILIFNode(), xs)
        >>> counts[:, 0]
        Array([0., 1., 4., 1.], dtype=float32)
    """

    tau: TimeConstant = 4 / 3
    _: KW_ONLY
    v_threshold: Positive = 1.0
    detach_reset: bool = False
    surrogate_function: SpikeFunction = MultiLevelSpikeCount(4)
    step = functional.ilif_step


class LIAFNode(Neuron):
    """LIF neuron that outputs an activation of its potential; its spikes only reset it."""

    act: Annotated[SurrogateFunction, _checks.function]
    threshold_related: bool
    tau: TimeConstant = 2.0
    _: KW_ONLY
    decay_input: bool = True
    step = functional.liaf_step


class SLTTLIFNode(Neuron):
    """LIF neuron of spatial learning through time: a `LIFNode` through which no gradient flows
    from one time step to the one before.

    The gradient of a sequence is therefore the sum of those of its steps. To train in memory for
    one step, call the network step by step, `carry, y = net(carry, x)`, and differentiate each
    step's loss by itself.
    """

    tau: TimeConstant = 2.0
    _: KW_ONLY
    decay_input: bool = True
    detach_reset: bool = True
    step = functional.sltt_lif_step


class OTTTLIFNode(Neuron):
    """LIF neuron of online training through time: an `SLTTLIFNode` (with other defaults) that
    keeps a trace of its spikes.

    The output is the spikes. The trace is in the carry, `carry.trace`, for the layer after the
    neuron: `jaxsnn.functional.with_trace_gradient`.

    Examples:
        >>> node, layer = OTTTLIFNode(), Linear(3, 2, rngs=nnx.Rngs(0))
        >>> x = jnp.ones((1, 3))
        >>> carry, spikes = node(node.initialize_carry(x.shape), x)
        >>> y = jaxsnn.functional.with_trace_gradient(layer, spikes, carry.trace)
    """

    tau: TimeConstant = 2.0
    _: KW_ONLY
    decay_input: bool = False
    v_reset: Real | None = None
    detach_reset: bool = True
    step = functional.ottt_lif_step
    state = functional.OTTTState
