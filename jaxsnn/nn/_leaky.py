"""Neurons with the membrane of `LIFNode`, but with another output or another gradient."""

from collections.abc import Callable
from typing import Any

import jax

from jaxsnn import _checks, functional
from jaxsnn._carries import check_step
from jaxsnn._phases import SurrogateFunction
from jaxsnn.functional import OTTTState
from jaxsnn.nn._neurons import _Neuron
from jaxsnn.surrogate import Sigmoid


class _LeakyNeuron(_Neuron):
    """Abstract: what neurons with the membrane of a LIF neuron share."""

    printed = ("tau", "decay_input", *_Neuron.printed)

    def __init__(self, *, tau: float, decay_input: bool, **fire_and_reset: Any) -> None:
        super().__init__(**fire_and_reset)
        self.tau = _checks.time_constant("tau", tau)
        self.decay_input = _checks.boolean("decay_input", decay_input)

    def _settings(self) -> dict[str, Any]:
        return self._fire_and_reset() | {"tau": self.tau, "decay_input": self.decay_input}


class LIAFNode(_LeakyNeuron):
    """LIF neuron that puts out an activation of its potential; its spikes only reset it. The
    equation is in `jaxsnn.functional.liaf_step`.

    Args:
        act: activation of the output, e.g. `jax.nn.relu`.
        threshold_related: whether the threshold is subtracted before the activation.
        tau: membrane time constant in time steps, greater than 1.
        decay_input: whether the input is divided by `tau` too.
        v_threshold: firing threshold.
        v_reset: potential after a spike, at rest and before the first step; None is the soft
            reset, which subtracts the threshold, rests at 0 and starts from 0.
        surrogate_function: spike function of `v - v_threshold`, e.g. `jaxsnn.surrogate.ATan()`.
        detach_reset: no gradient flows through the reset.

    Carry: the potential `v`, in the shape of one step's input.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: `tau` is not greater than 1, or a number is not finite.
    """

    printed = ("act", "threshold_related", *_LeakyNeuron.printed)

    def __init__(
        self,
        act: Callable[[jax.Array], jax.Array],
        threshold_related: bool,
        tau: float = 2.0,
        *,
        decay_input: bool = True,
        v_threshold: float = 1.0,
        v_reset: float | None = 0.0,
        surrogate_function: SurrogateFunction = Sigmoid(),
        detach_reset: bool = False,
    ) -> None:
        super().__init__(
            tau=tau,
            decay_input=decay_input,
            v_threshold=v_threshold,
            v_reset=v_reset,
            surrogate_function=surrogate_function,
            detach_reset=detach_reset,
        )
        self.act = _checks.function("act", act)
        self.threshold_related = _checks.boolean("threshold_related", threshold_related)

    def _step(self, carry: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        check_step(self, carry, x)
        return functional.liaf_step(
            carry,
            x,
            act=self.act,
            threshold_related=self.threshold_related,
            **self._settings(),
        )


class SLTTLIFNode(_LeakyNeuron):
    """LIF neuron of spatial learning through time: a `LIFNode` through which no gradient flows
    from one time step to the one before; see `jaxsnn.functional.sltt_lif_step`.

    The gradient of a sequence is therefore the sum of those of its steps. To train in memory for
    one step, call the network step by step, `carry, y = net(carry, x)`, and differentiate each
    step's loss by itself.

    Args:
        tau: membrane time constant in time steps, greater than 1.
        decay_input: whether the input is divided by `tau` too.
        v_threshold: firing threshold.
        v_reset: potential after a spike, at rest and before the first step; None is the soft
            reset, which subtracts the threshold, rests at 0 and starts from 0.
        surrogate_function: spike function of `v - v_threshold`, e.g. `jaxsnn.surrogate.ATan()`.
        detach_reset: no gradient flows through the reset (that of the output spike stays).

    Carry: the potential `v`, in the shape of one step's input.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: `tau` is not greater than 1, or a number is not finite.
    """

    def __init__(
        self,
        tau: float = 2.0,
        *,
        decay_input: bool = True,
        v_threshold: float = 1.0,
        v_reset: float | None = 0.0,
        surrogate_function: SurrogateFunction = Sigmoid(),
        detach_reset: bool = True,
    ) -> None:
        super().__init__(
            tau=tau,
            decay_input=decay_input,
            v_threshold=v_threshold,
            v_reset=v_reset,
            surrogate_function=surrogate_function,
            detach_reset=detach_reset,
        )

    def _step(self, carry: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        check_step(self, carry, x)
        return functional.sltt_lif_step(carry, x, **self._settings())


class OTTTLIFNode(_LeakyNeuron):
    """LIF neuron of online training through time: an `SLTTLIFNode` (with other defaults) that
    keeps a trace of its spikes; the equation is in `jaxsnn.functional.ottt_lif_step`.

    The output is the spikes. The trace is in the carry, `carry.trace`, for the layer behind the
    neuron: `jaxsnn.functional.with_trace_gradient`.

    Args:
        tau: time constant of membrane and trace in time steps, greater than 1.
        decay_input: whether the input is divided by `tau` too.
        v_threshold: firing threshold.
        v_reset: potential after a spike, at rest and before the first step; None is the soft
            reset, which subtracts the threshold, rests at 0 and starts from 0.
        surrogate_function: spike function of `v - v_threshold`, e.g. `jaxsnn.surrogate.ATan()`.
        detach_reset: no gradient flows through the reset (that of the output spike stays).

    Carry: `jaxsnn.functional.OTTTState`, potential `v` and `trace` (0 before the first step),
    each in the shape of one step's input.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: `tau` is not greater than 1, or a number is not finite.

    Examples:
        >>> node, layer = OTTTLIFNode(), Linear(3, 2, rngs=nnx.Rngs(0))
        >>> x = jnp.ones((1, 3))
        >>> carry, spikes = node(node.initialize_carry(x.shape), x)
        >>> y = jaxsnn.functional.with_trace_gradient(layer, spikes, carry.trace)
    """

    def __init__(
        self,
        tau: float = 2.0,
        *,
        decay_input: bool = False,
        v_threshold: float = 1.0,
        v_reset: float | None = None,
        surrogate_function: SurrogateFunction = Sigmoid(),
        detach_reset: bool = True,
    ) -> None:
        super().__init__(
            tau=tau,
            decay_input=decay_input,
            v_threshold=v_threshold,
            v_reset=v_reset,
            surrogate_function=surrogate_function,
            detach_reset=detach_reset,
        )

    def _first(self, full: Callable[[float], jax.Array]) -> OTTTState:
        return OTTTState(v=super()._first(full), trace=full(0.0))

    def _step(self, carry: OTTTState, x: jax.Array) -> tuple[OTTTState, jax.Array]:
        check_step(self, carry, x, OTTTState)
        return functional.ottt_lif_step(carry, x, **self._settings())
