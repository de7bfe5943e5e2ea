"""Neurons that say more than yes or no: spikes with a sign, several spikes in a step."""

import jax

from jaxsnn import _checks, functional
from jaxsnn._carries import check_step
from jaxsnn._phases import SurrogateFunction
from jaxsnn.nn._neurons import _Neuron
from jaxsnn.surrogate import MultiLevelSpikeCount, Sigmoid


class _TernaryNeuron(_Neuron):
    """Abstract: a neuron with a threshold on either side of its potential."""

    def __init__(
        self,
        v_threshold: float,
        v_reset: float | None,
        surrogate_function: SurrogateFunction,
        detach_reset: bool,
    ) -> None:
        v_threshold = _checks.positive("v_threshold", v_threshold)
        super().__init__(v_threshold, v_reset, surrogate_function, detach_reset)
        _checks.less("v_reset", self.v_reset, "v_threshold", v_threshold)
        _checks.less("-v_threshold", -v_threshold, "v_reset", self.v_reset)


class TernaryIFNode(_TernaryNeuron):
    """IF neuron with spikes of either sign, -1, 0 or 1; the equation is in
    `jaxsnn.functional.ternary_if_step`.

    Args:
        v_threshold: firing threshold on either side, greater than 0.
        v_reset: potential after a spike of either sign and before the first step, between
            `-v_threshold` and `v_threshold`; None is the soft reset, which subtracts or adds the
            threshold and starts from 0.
        surrogate_function: spike function of `v - v_threshold` and of `-v - v_threshold`, e.g.
            `jaxsnn.surrogate.ATan()`.
        detach_reset: no gradient flows through the reset (that of the output spike stays).

    Carry: the potential `v`, in the shape of one step's input.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: `v_threshold` is not greater than 0, `v_reset` not between the thresholds, or
            a number is not finite.

    Examples:
        >>> xs = jnp.array([[0.5], [0.5], [-0.5], [-0.75]])
        >>> _, spikes = unroll(TernaryIFNode(), xs)
        >>> spikes[:, 0]
        Array([ 0.,  1.,  0., -1.], dtype=float32)
    """

    def __init__(
        self,
        *,
        v_threshold: float = 1.0,
        v_reset: float | None = 0.0,
        surrogate_function: SurrogateFunction = Sigmoid(),
        detach_reset: bool = False,
    ) -> None:
        super().__init__(v_threshold, v_reset, surrogate_function, detach_reset)

    def _step(self, carry: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        check_step(self, carry, x)
        return functional.ternary_if_step(carry, x, **self._fire_and_reset())


class TernaryLIFNode(_TernaryNeuron):
    """LIF neuron with spikes of either sign, -1, 0 or 1; the equation is in
    `jaxsnn.functional.ternary_lif_step`.

    Args:
        tau: membrane time constant in time steps, greater than 1.
        decay_input: whether the input is divided by `tau` too.
        v_threshold: firing threshold on either side, greater than 0.
        v_reset: potential after a spike of either sign, at rest and before the first step,
            between `-v_threshold` and `v_threshold`; None is the soft reset, which subtracts or
            adds the threshold, rests at 0 and starts from 0.
        surrogate_function: spike function of `v - v_threshold` and of `-v - v_threshold`, e.g.
            `jaxsnn.surrogate.ATan()`.
        detach_reset: no gradient flows through the reset (that of the output spike stays).

    Carry: the potential `v`, in the shape of one step's input.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: `tau` is not greater than 1, `v_threshold` not greater than 0, `v_reset` not
            between the thresholds, or a number is not finite.
    """

    printed = ("tau", "decay_input", *_Neuron.printed)

    def __init__(
        self,
        tau: float = 2.0,
        *,
        decay_input: bool = True,
        v_threshold: float = 1.0,
        v_reset: float | None = 0.0,
        surrogate_function: SurrogateFunction = Sigmoid(),
        detach_reset: bool = False,
    ) -> None:
        super().__init__(v_threshold, v_reset, surrogate_function, detach_reset)
        self.tau = _checks.time_constant("tau", tau)
        self.decay_input = _checks.boolean("decay_input", decay_input)

    def _step(self, carry: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        check_step(self, carry, x)
        return functional.ternary_lif_step(
            carry, x, tau=self.tau, decay_input=self.decay_input, **self._fire_and_reset()
        )


class ILIFNode(_Neuron):
    """Integer LIF neuron: up to several spikes in a step, soft reset; the equation is in
    `jaxsnn.functional.ilif_step`.

    For training: hardware that knows spikes only is given a count one spike after another.

    Args:
        tau: membrane time constant in time steps, greater than 1. The input is not divided by it.
        v_threshold: potential that one spike takes away, greater than 0.
        surrogate_function: count of spikes as a function of `v / v_threshold`: a
            `jaxsnn.surrogate.MultiLevelSpikeCount`, or a function like it.
        detach_reset: no gradient flows through the reset (that of the output stays).

    Carry: the potential `v`, 0 before the first step, in the shape of one step's input.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: `tau` is not greater than 1, `v_threshold` not greater than 0, or a number is
            not finite.

    Examples:
        >>> xs = jnp.array([[0.25], [1.25], [9.0], [0.0]])
        >>> _, counts = unroll(ILIFNode(), xs)
        >>> counts[:, 0]
        Array([0., 1., 4., 1.], dtype=float32)
    """

    printed = ("tau", "v_threshold", "detach_reset", "surrogate_function")

    def __init__(
        self,
        tau: float = 4 / 3,
        *,
        v_threshold: float = 1.0,
        surrogate_function: SurrogateFunction = MultiLevelSpikeCount(4),
        detach_reset: bool = False,
    ) -> None:
        v_threshold = _checks.positive("v_threshold", v_threshold)
        super().__init__(v_threshold, None, surrogate_function, detach_reset)
        self.tau = _checks.time_constant("tau", tau)

    def _step(self, carry: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        check_step(self, carry, x)
        return functional.ilif_step(
            carry,
            x,
            tau=self.tau,
            v_threshold=self.v_threshold,
            surrogate_function=self.surrogate_function,
            detach_reset=self.detach_reset,
        )
