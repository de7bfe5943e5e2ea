"""Neurons with the membrane of `LIFNode`, but with another output or another gradient."""

from dataclasses import KW_ONLY
from typing import Annotated

from jaxsnn import _checks, functional
from jaxsnn._phases import SurrogateFunction
from jaxsnn.nn._constants import Real, TimeConstant
from jaxsnn.nn._neurons import Neuron


class LIAFNode(Neuron):
    """LIF neuron that outputs an activation of its potential; its spikes only reset it. The
    equation is in `jaxsnn.functional.liaf_step`.

    Args:
        act: activation of the output, e.g. `jax.nn.relu`.
        threshold_related: whether the threshold is subtracted before the activation.
        tau: membrane time constant in time steps, greater than 1.
        decay_input: whether the input is divided by `tau` too.
        detach_reset: no gradient flows through the reset.
    """

    act: Annotated[SurrogateFunction, _checks.function]
    threshold_related: bool
    tau: TimeConstant = 2.0
    _: KW_ONLY
    decay_input: bool = True
    step = functional.liaf_step


class SLTTLIFNode(Neuron):
    """LIF neuron of spatial learning through time: a `LIFNode` through which no gradient flows
    from one time step to the one before; see `jaxsnn.functional.sltt_lif_step`.

    The gradient of a sequence is therefore the sum of those of its steps. To train in memory for
    one step, call the network step by step, `carry, y = net(carry, x)`, and differentiate each
    step's loss by itself.

    Args:
        tau: membrane time constant in time steps, greater than 1.
        decay_input: whether the input is divided by `tau` too.
    """

    tau: TimeConstant = 2.0
    _: KW_ONLY
    decay_input: bool = True
    detach_reset: bool = True
    step = functional.sltt_lif_step


class OTTTLIFNode(Neuron):
    """LIF neuron of online training through time: an `SLTTLIFNode` (with other defaults) that
    keeps a trace of its spikes; the equation is in `jaxsnn.functional.ottt_lif_step`.

    The output is the spikes. The trace is in the carry, `carry.trace`, for the layer after the
    neuron: `jaxsnn.functional.with_trace_gradient`.

    Args:
        tau: time constant of membrane and trace in time steps, greater than 1.
        decay_input: whether the input is divided by `tau` too.

    Carry: `jaxsnn.functional.OTTTState`, potential `v` and `trace` (0 before the first step),
    each in the shape of one step's input.

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
