"""What all neurons share; the integrate-and-fire neuron without and with a leak."""

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsnn import _checks, functional
from jaxsnn._carries import check_step
from jaxsnn._dtypes import state_dtype
from jaxsnn._parameters import tau_of_w, w_of_tau
from jaxsnn._phases import SurrogateFunction
from jaxsnn.nn._elementwise import ElementwiseCell
from jaxsnn.surrogate import Sigmoid


class _Neuron(ElementwiseCell):
    """Abstract: what all integrate-and-fire neurons share. The first potential is `v_reset`."""

    state_name = "v"
    printed: ClassVar[tuple[str, ...]] = (
        "v_threshold",
        "v_reset",
        "detach_reset",
        "surrogate_function",
    )

    def __init__(
        self,
        v_threshold: float,
        v_reset: float | None,
        surrogate_function: SurrogateFunction,
        detach_reset: bool,
    ) -> None:
        self.v_threshold = _checks.real("v_threshold", v_threshold)
        self.v_reset = None if v_reset is None else _checks.real("v_reset", v_reset)
        self.surrogate_function = _checks.function("surrogate_function", surrogate_function)
        self.detach_reset = _checks.boolean("detach_reset", detach_reset)

    def initialize_carry(
        self,
        input_shape: tuple[int, ...],
        rngs: nnx.Rngs | nnx.RngStream | None = None,
        *,
        dtype: Any = jnp.float32,
    ) -> Any:
        """The state before the first step: `v` is `v_reset` (0 for the soft reset)."""
        return self._first(lambda value: jnp.full(input_shape, value, state_dtype(dtype)))

    def _first(self, full: Callable[[float], jax.Array]) -> Any:
        """The first state; `full` fills an array in the shape of the input with a number."""
        return full(0.0 if self.v_reset is None else self.v_reset)

    def _fire_and_reset(self) -> dict[str, Any]:
        return {
            "v_threshold": self.v_threshold,
            "v_reset": self.v_reset,
            "surrogate_function": self.surrogate_function,
            "detach_reset": self.detach_reset,
        }


class IFNode(_Neuron):
    """Integrate-and-fire neuron; the equation is in `jaxsnn.functional.if_step`.

    Args:
        v_threshold: firing threshold.
        v_reset: potential after a spike and before the first step; None is the soft reset,
            which subtracts the threshold and starts from 0.
        surrogate_function: spike function of `v - v_threshold`, e.g. `jaxsnn.surrogate.ATan()`.
        detach_reset: no gradient flows through the reset (that of the output spike stays).

    Carry: the potential `v`, in the shape of one step's input.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: a number is not finite.

    Examples:
        >>> _, spikes = unroll(IFNode(), jnp.full((4, 1), 0.5))
        >>> spikes[:, 0]
        Array([0., 1., 0., 1.], dtype=float32)
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
        return functional.if_step(carry, x, **self._fire_and_reset())


class LIFNode(_Neuron):
    """Leaky integrate-and-fire neuron; the equation is in `jaxsnn.functional.lif_step`.

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
        return functional.lif_step(
            carry, x, tau=self.tau, decay_input=self.decay_input, **self._fire_and_reset()
        )


class ParametricLIFNode(_Neuron):
    """LIF neuron that learns its time constant, one for the whole layer; the equation is in
    `jaxsnn.functional.lif_step`.

    The parameter is `w` with `1/tau = sigmoid(w)` (Fang et al. 2021, "Incorporating learnable
    membrane time constant to enhance learning of spiking neural networks").

    Args:
        init_tau: membrane time constant at the start, in time steps, greater than 1.
        decay_input: whether the input is divided by `tau` too.
        v_threshold: firing threshold.
        v_reset: potential after a spike, at rest and before the first step; None is the soft
            reset, which subtracts the threshold, rests at 0 and starts from 0.
        surrogate_function: spike function of `v - v_threshold`, e.g. `jaxsnn.surrogate.ATan()`.
        detach_reset: no gradient flows through the reset (that of the output spike stays).
        param_dtype: dtype of `w`.

    Carry: the potential `v`, in the shape of one step's input.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: `init_tau` is not greater than 1, or a number is not finite.
    """

    printed = ("tau", "decay_input", *_Neuron.printed)

    def __init__(
        self,
        init_tau: float = 2.0,
        *,
        decay_input: bool = True,
        v_threshold: float = 1.0,
        v_reset: float | None = 0.0,
        surrogate_function: SurrogateFunction = Sigmoid(),
        detach_reset: bool = False,
        param_dtype: Any = jnp.float32,
    ) -> None:
        super().__init__(v_threshold, v_reset, surrogate_function, detach_reset)
        self.w = nnx.Param(w_of_tau("init_tau", init_tau, param_dtype))
        self.decay_input = _checks.boolean("decay_input", decay_input)

    @property
    def tau(self) -> jax.Array:
        """The membrane time constant as it is now, in time steps."""
        return tau_of_w(self.w[...])

    def _scalars(self) -> tuple[jax.Array, ...]:
        return (self.tau,)

    def _step(self, carry: jax.Array, x: jax.Array, tau: jax.Array) -> tuple[jax.Array, jax.Array]:
        check_step(self, carry, x)
        return functional.lif_step(
            carry, x, tau=tau, decay_input=self.decay_input, **self._fire_and_reset()
        )
