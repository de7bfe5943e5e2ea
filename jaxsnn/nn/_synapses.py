"""Stateful synapses: cells whose carry is the synaptic current `i`."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsnn import _checks, functional
from jaxsnn._carries import check_step
from jaxsnn._dtypes import state_dtype
from jaxsnn._parameters import tau_of_w, w_of_tau
from jaxsnn.nn._elementwise import ElementwiseCell


class SynapseFilter(ElementwiseCell):
    """Turns spikes into a decaying current; the equation is in
    `jaxsnn.functional.synapse_filter_step`.

    Args:
        tau: time constant in time steps, greater than 1.
        learnable: whether the time constant is learned, one for the whole layer, through the
            parameter `w` with `1/tau = sigmoid(w)`.
        param_dtype: dtype of `w`.

    Carry: the current `i`, 0 before the first step, in the shape of one step's input.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: `tau` is not greater than 1, or not finite.

    Examples:
        >>> _, current = unroll(SynapseFilter(tau=2.0), jnp.array([[1.0], [0.0], [0.0]]))
        >>> current[:, 0]
        Array([1.  , 0.5 , 0.25], dtype=float32)
    """

    printed = ("tau", "learnable")
    state_name = "i"

    def __init__(
        self, tau: float = 100.0, learnable: bool = False, *, param_dtype: Any = jnp.float32
    ) -> None:
        self.learnable = _checks.boolean("learnable", learnable)
        self._tau = _checks.time_constant("tau", tau)
        if learnable:
            self.w = nnx.Param(w_of_tau("tau", tau, param_dtype))

    @property
    def tau(self) -> float | jax.Array:
        """The time constant as it is now, in time steps."""
        return tau_of_w(self.w[...]) if self.learnable else self._tau

    def initialize_carry(
        self,
        input_shape: tuple[int, ...],
        rngs: nnx.Rngs | nnx.RngStream | None = None,
        *,
        dtype: Any = jnp.float32,
    ) -> jax.Array:
        """The current before the first step, 0."""
        return jnp.zeros(input_shape, state_dtype(dtype))

    def _scalars(self) -> tuple[jax.Array, ...]:
        return (tau_of_w(self.w[...]),) if self.learnable else ()

    def _step(self, carry: jax.Array, x: jax.Array, *tau: jax.Array) -> tuple[jax.Array, jax.Array]:
        check_step(self, carry, x)
        return functional.synapse_filter_step(carry, x, tau=tau[0] if tau else self._tau)
