"""Linear synapses: cells that answer every spike with the same curve, and add the curves up."""

import abc
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsnn import _checks, functional
from jaxsnn._carries import check_step
from jaxsnn._dtypes import state_dtype
from jaxsnn._parameters import tau_of_w, w_of_tau
from jaxsnn.nn._elementwise import ElementwiseCell


class _LinearSynapse(ElementwiseCell):
    """Abstract: time constants, fixed or learned, and the factors of a step made of them.

    The parameter of the time constant `tau_rise` is called `w_rise`, and so on.
    """

    time_constants: ClassVar[tuple[str, ...]] = ("tau",)
    printed: ClassVar[tuple[str, ...]] = ("tau", "learnable")

    def __init__(self, taus: tuple[float, ...], learnable: bool, param_dtype: Any) -> None:
        named = list(zip(self.time_constants, taus, strict=True))
        self.learnable = _checks.boolean("learnable", learnable)
        self._fixed = tuple(_checks.positive(name, tau) for name, tau in named)
        if learnable:
            for name, tau in named:
                setattr(self, name.replace("tau", "w"), nnx.Param(w_of_tau(name, tau, param_dtype)))

    def _taus(self) -> tuple[Any, ...]:
        """The time constants as they are now, in time steps: floats, or arrays if learned."""
        if not self.learnable:
            return self._fixed
        names = (name.replace("tau", "w") for name in self.time_constants)
        return tuple(tau_of_w(getattr(self, name)[...]) for name in names)

    @abc.abstractmethod
    def _factors(self) -> tuple[Any, ...]:
        """What a step multiplies with, made of `_taus()`."""

    def _scalars(self) -> tuple[jax.Array, ...]:
        return self._factors() if self.learnable else ()


class ExponentialSynapse(_LinearSynapse):
    """A current that jumps by 1 with each spike and decays by `exp(-1/tau)` in a step; the
    equation is in `jaxsnn.functional.exponential_synapse_step`.

    Args:
        tau: time constant in time steps, greater than 0; greater than 1 if learnable.
        learnable: whether the time constant is learned, one for the whole layer, through the
            parameter `w` with `1/tau = sigmoid(w)`.
        param_dtype: dtype of `w`.

    Carry: the current `i`, 0 before the first step, in the shape of one step's input.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: `tau` is too small, or not finite.

    Examples:
        >>> _, current = unroll(ExponentialSynapse(tau=1.0), jnp.array([[1.0], [0.0], [0.0]]))
        >>> [f"{i:.3f}" for i in current[:, 0]]  # 1, 1/e, 1/e^2
        ['1.000', '0.368', '0.135']
    """

    state_name = "i"

    def __init__(
        self, tau: float, learnable: bool = False, *, param_dtype: Any = jnp.float32
    ) -> None:
        super().__init__((tau,), learnable, param_dtype)

    @property
    def tau(self) -> float | jax.Array:
        """The time constant as it is now, in time steps."""
        return self._taus()[0]

    def initialize_carry(
        self,
        input_shape: tuple[int, ...],
        rngs: nnx.Rngs | nnx.RngStream | None = None,
        *,
        dtype: Any = jnp.float32,
    ) -> jax.Array:
        """The current before the first step, 0."""
        return jnp.zeros(input_shape, state_dtype(dtype))

    def _factors(self) -> tuple[Any, ...]:
        return (functional.exponential_decay(self.tau),)

    def _step(
        self, carry: jax.Array, x: jax.Array, *factors: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        check_step(self, carry, x)
        (decay,) = factors or self._factors()
        return functional.exponential_synapse_step(carry, x, decay=decay)


class _RisingSynapse(_LinearSynapse):
    """Abstract: a current that rises before it decays."""

    def initialize_carry(
        self,
        input_shape: tuple[int, ...],
        rngs: nnx.Rngs | nnx.RngStream | None = None,
        *,
        dtype: Any = jnp.float32,
    ) -> functional.RisingCurrent:
        """The state before the first step, 0."""
        zeros = jnp.zeros(input_shape, state_dtype(dtype))
        return functional.RisingCurrent(zeros, zeros)

    def _step(
        self, carry: functional.RisingCurrent, x: jax.Array, *factors: jax.Array
    ) -> tuple[functional.RisingCurrent, jax.Array]:
        check_step(self, carry, x, functional.RisingCurrent)
        decay, rise, gain = factors or self._factors()
        return functional.double_exponential_synapse_step(
            carry, x, decay=decay, rise=rise, gain=gain
        )


class AlphaSynapse(_RisingSynapse):
    """A current that rises to 1 in `tau` steps after a spike and decays as slowly; the equation
    is in `jaxsnn.functional.double_exponential_synapse_step`.

    Args:
        tau: time constant of both, in time steps, greater than 0; greater than 1 if learnable.
        learnable: whether the time constant is learned, one for the whole layer, through the
            parameter `w` with `1/tau = sigmoid(w)`.
        param_dtype: dtype of `w`.

    Carry: `jaxsnn.functional.RisingCurrent(i, rise)`, 0 before the first step, each in the shape
    of one step's input.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: `tau` is too small, or not finite.

    Examples:
        >>> _, current = unroll(AlphaSynapse(tau=2.0), jnp.eye(1, 5).T)
        >>> print(*(f"{i:.3f}" for i in current[:, 0]))
        0.000 0.824 1.000 0.910 0.736
    """

    def __init__(
        self, tau: float, learnable: bool = False, *, param_dtype: Any = jnp.float32
    ) -> None:
        super().__init__((tau,), learnable, param_dtype)

    @property
    def tau(self) -> float | jax.Array:
        """The time constant as it is now, in time steps."""
        return self._taus()[0]

    def _factors(self) -> tuple[Any, ...]:
        return functional.double_exponential_factors(self.tau, self.tau)


class DoubleExponentialSynapse(_RisingSynapse):
    """A current that rises with one time constant after a spike, to 1, and decays with another;
    the equation is in `jaxsnn.functional.double_exponential_synapse_step`.

    Args:
        tau_decay: time constant of the decay in time steps, greater than 0; greater than 1 if
            learnable.
        tau_rise: time constant of the rise, likewise; at most `tau_decay`, at which this is
            `AlphaSynapse`.
        learnable: whether the time constants are learned, one pair for the whole layer, through
            the parameters `w_decay` and `w_rise`, each with `1/tau = sigmoid(w)`. The response
            is the same with the two exchanged, so they may cross.
        param_dtype: dtype of the parameters.

    Carry: `jaxsnn.functional.RisingCurrent(i, rise)`, 0 before the first step, each in the shape
    of one step's input.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: a time constant is too small or not finite, or `tau_rise > tau_decay`.

    Examples:
        >>> synapse = DoubleExponentialSynapse(tau_decay=4.0, tau_rise=1.0)
        >>> _, current = unroll(synapse, jnp.eye(1, 5).T)
        >>> print(*(f"{i:.3f}" for i in current[:, 0]))
        0.000 0.870 0.997 0.894 0.740
    """

    time_constants = ("tau_decay", "tau_rise")
    printed = (*time_constants, "learnable")

    def __init__(
        self,
        tau_decay: float,
        tau_rise: float,
        learnable: bool = False,
        *,
        param_dtype: Any = jnp.float32,
    ) -> None:
        super().__init__((tau_decay, tau_rise), learnable, param_dtype)
        if tau_rise > tau_decay:
            raise ValueError(
                f"tau_rise must be at most tau_decay, got tau_rise={tau_rise!r} and "
                f"tau_decay={tau_decay!r}; exchange the two, the response is the same"
            )

    @property
    def tau_decay(self) -> float | jax.Array:
        """The time constant of the decay as it is now, in time steps."""
        return self._taus()[0]

    @property
    def tau_rise(self) -> float | jax.Array:
        """The time constant of the rise as it is now, in time steps."""
        return self._taus()[1]

    def _factors(self) -> tuple[Any, ...]:
        return functional.double_exponential_factors(self.tau_decay, self.tau_rise)
