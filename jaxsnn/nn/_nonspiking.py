"""Neurons that integrate and never fire: their output is the membrane potential."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsnn import _checks, functional
from jaxsnn._carries import check_step
from jaxsnn._dtypes import state_dtype
from jaxsnn.nn._elementwise import ElementwiseCell


class _NonSpikingNode(ElementwiseCell):
    """Abstract: an integrator whose potential begins at 0."""

    state_name = "v"

    def initialize_carry(
        self,
        input_shape: tuple[int, ...],
        rngs: nnx.Rngs | nnx.RngStream | None = None,
        *,
        dtype: Any = jnp.float32,
    ) -> jax.Array:
        """The potential before the first step, 0."""
        return jnp.zeros(input_shape, state_dtype(dtype))


class NonSpikingIFNode(_NonSpikingNode):
    """Integrator that never fires; the equation is in `jaxsnn.functional.nonspiking_if_step`.

    It puts out its potential at each step. As the last layer of a network it is followed by a
    readout over time, e.g. `jaxsnn.readouts.last_membrane`.

    Carry: the potential `v`, 0 before the first step, in the shape of one step's input.
    """

    def _step(self, carry: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        check_step(self, carry, x)
        return functional.nonspiking_if_step(carry, x)


class NonSpikingLIFNode(_NonSpikingNode):
    """Leaky integrator (LI) that never fires; the equation is in
    `jaxsnn.functional.nonspiking_lif_step`.

    It puts out its potential at each step. As the last layer of a network it is followed by a
    readout over time, e.g. `jaxsnn.readouts.max_membrane`.

    Args:
        tau: membrane time constant in time steps, greater than 1.
        decay_input: whether the input is divided by `tau` too.

    Carry: the potential `v`, 0 before the first step, in the shape of one step's input.

    Raises:
        TypeError: `tau` is not a number, or `decay_input` not a bool.
        ValueError: `tau` is not greater than 1, or not finite.

    Examples:
        >>> _, v_seq = unroll(NonSpikingLIFNode(tau=2.0), jnp.array([[1.0], [1.0], [0.0]]))
        >>> jaxsnn.readouts.max_membrane(v_seq)
        Array([0.75], dtype=float32)
    """

    printed = ("tau", "decay_input")

    def __init__(self, tau: float = 2.0, *, decay_input: bool = True) -> None:
        self.tau = _checks.time_constant("tau", tau)
        self.decay_input = _checks.boolean("decay_input", decay_input)

    def _step(self, carry: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        check_step(self, carry, x)
        return functional.nonspiking_lif_step(carry, x, tau=self.tau, decay_input=self.decay_input)
