"""Spiking recurrent cells: an RNN, a GRU and an LSTM whose gates are spikes."""

import abc
from dataclasses import KW_ONLY, InitVar
from typing import Any, ClassVar, final

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsnn import _checks, functional
from jaxsnn._carries import check_call, check_step
from jaxsnn._dtypes import state_dtype
from jaxsnn.nn._fields import Fields, Size
from jaxsnn.nn._layers import Linear, along_last, operands, uniform
from jaxsnn.nn._linear_recurrence import linear_recurrence, product
from jaxsnn.nn._module import Cell
from jaxsnn.nn._neurons import SpikeFunction
from jaxsnn.nn._run import Carry, Run, Streams
from jaxsnn.surrogate import Erf


class _SpikingRNNCell(Fields, Cell):
    """Abstract: two linear layers, of the input and of the last spikes `h`, drive the gates.

    A subclass says how many gates there are and what they do to its inner state, which is all of
    the carry but `h`.

    Args:
        input_size: features of the input.
        hidden_size: number of hidden units `H`, features of the output.
        bias: whether both linear layers have a bias.
        surrogate_function: spike function, e.g. `jaxsnn.surrogate.ATan()`.
        dtype: dtype of the matrix products, None for that of their operands.
        param_dtype: dtype of the weights and biases, which all start in
            `U(-1/sqrt(hidden_size), 1/sqrt(hidden_size))`.
        rngs: random streams; `params` is used.

    Carry: the spikes `h` of the last step, `[..., hidden_size]`, 0 before the first.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: a size is below 1; when run, if a shape does not fit.
    """

    state_name = "h"
    gates: ClassVar[int]

    input_size: Size
    hidden_size: Size
    bias: bool = True
    _: KW_ONLY
    surrogate_function: SpikeFunction = Erf()
    dtype: InitVar[Any] = None
    param_dtype: InitVar[Any] = jnp.float32
    rngs: InitVar[nnx.Rngs] = _checks.REQUIRED

    def __post_init__(self, dtype: Any, param_dtype: Any, rngs: nnx.Rngs) -> None:
        start, drives = uniform(self.hidden_size), self.gates * self.hidden_size
        settings: dict[str, Any] = {"use_bias": self.bias, "kernel_init": start, "bias_init": start}
        settings |= {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.linear_ih = Linear(self.input_size, drives, **settings)
        self.linear_hh = Linear(self.hidden_size, drives, **settings)

    def initialize_carry(
        self, input_shape: tuple[int, ...], rngs: Streams = None, *, dtype: Any = jnp.float32
    ) -> Carry:
        """The state before the first step, 0."""
        self._check_features(input_shape)
        zeros = jnp.zeros((*input_shape[:-1], self.hidden_size), state_dtype(dtype))
        return self._join(self._inner_zeros(zeros), zeros)

    @final
    def __call__(self, carry: Carry, x: jax.Array = _checks.REQUIRED) -> tuple[Carry, jax.Array]:
        check_call(self, x)
        inner, h = self._split(carry, x)
        w = self._recurrent(x.dtype)
        inner, h = self._step(inner, self._feed(x) + product(h.astype(w.dtype), w), h)
        return self._join(inner, h), h.astype(x.dtype)

    def _run(self, carry: Carry, x: jax.Array, run: Run) -> tuple[Carry, jax.Array]:
        """Over a sequence the input's share of the drives is one product, then comes the loop."""
        if not run.steps:
            carry, y = self(carry, x)
            run._see_states(self, carry)
            return carry, y
        carry = self._split(carry, jax.ShapeDtypeStruct(x.shape[1:], x.dtype))

        def step(cell: Any, inner: Carry, a: jax.Array, h: jax.Array, run: Run) -> Any:
            inner, h = cell._step(inner, a, h)
            run._see_states(cell, cell._join(inner, h))
            return (inner, h), h

        w = self._recurrent(x.dtype)
        (inner, h), ys = linear_recurrence(step, self, w, carry, self._feed(x), run)
        return self._join(inner, h), ys.astype(x.dtype)

    @abc.abstractmethod
    def _step(self, inner: Carry, a: jax.Array, h: jax.Array) -> tuple[Carry, jax.Array]:
        """The new inner state and spikes for the drives `a`."""

    def _feed(self, x: jax.Array) -> jax.Array:
        """The share of the input and of both biases in the drives, of one step or many."""
        w, b = operands(self.linear_ih, x.dtype)
        a, b_h = product(x.astype(w.dtype), w), operands(self.linear_hh, x.dtype)[1]
        return a if b is None or b_h is None else a + along_last(b + b_h, a)

    def _recurrent(self, dtype: Any) -> jax.Array:
        """The weights of the last spikes, in the dtype of the product."""
        return operands(self.linear_hh, dtype)[0]

    def _split(self, carry: Carry, x: Any) -> tuple[Carry, jax.Array]:
        """`(inner state, h)`, checked."""
        self._check_features(x.shape)
        check_step(self, carry, x, shape=(*x.shape[:-1], self.hidden_size))
        return (), carry

    def _join(self, inner: Carry, h: jax.Array) -> Carry:
        return h

    def _inner_zeros(self, zeros: jax.Array) -> Carry:
        return ()

    def _check_features(self, shape: tuple[int, ...]) -> None:
        if not shape or shape[-1] != self.input_size:
            raise ValueError(
                f"{type(self).__name__}(input_size={self.input_size}) needs inputs of shape "
                f"[..., {self.input_size}], got {list(shape)}"
            )


class SpikingVanillaRNNCell(_SpikingRNNCell):
    """Vanilla RNN with spikes for its activation, SpikingJelly's `SpikingVanillaRNNCell`; the
    equation is in `jaxsnn.functional.spiking_rnn_step`.

    Several layers are a `Sequential` of cells, both directions of time `Bidirectional`.
    """

    gates = 1

    def _step(self, inner: Carry, a: jax.Array, h: jax.Array) -> tuple[Carry, jax.Array]:
        spikes = functional.spiking_rnn_step(a, surrogate_function=self.surrogate_function)
        return (), spikes.astype(h.dtype)


class SpikingGRUCell(_SpikingRNNCell):
    """Gated recurrent unit whose gates are spikes; the equation is in
    `jaxsnn.functional.spiking_gru_step`.

    The columns of the weights are those of the gates `r, z, n`, `H` each, as in torch.
    """

    gates = 3

    def _feed(self, x: jax.Array) -> jax.Array:
        """The drives of r and z, the bias of what the spikes give n, what the input gives n."""
        w, b = operands(self.linear_ih, x.dtype)
        a, b_h = product(x.astype(w.dtype), w), operands(self.linear_hh, x.dtype)[1]
        a_h = jnp.zeros_like(a[..., : self.hidden_size])
        if b is not None and b_h is not None:
            b_rz, b_n = jnp.split(b_h, [2 * self.hidden_size])
            a += along_last(b + jnp.pad(b_rz, (0, b_n.size)), a)
            a_h += along_last(b_n, a)
        a_rz, a_i = jnp.split(a, [2 * self.hidden_size], axis=-1)
        return jnp.concatenate([a_rz, a_h, a_i], axis=-1)

    def _recurrent(self, dtype: Any) -> jax.Array:
        # The input's share of n stands alone: r scales only what comes from the spikes.
        return jnp.pad(super()._recurrent(dtype), ((0, 0), (0, self.hidden_size)))

    def _step(self, inner: Carry, a: jax.Array, h: jax.Array) -> tuple[Carry, jax.Array]:
        return (), functional.spiking_gru_step(h, a, surrogate_function=self.surrogate_function)


class SpikingLSTMCell(_SpikingRNNCell):
    """Long short-term memory whose gates are spikes; the equation is in
    `jaxsnn.functional.spiking_lstm_step`.

    The columns of the weights are those of the gates `i, f, g, o`, `H` each, as in torch.

    Carry: `jaxsnn.functional.LSTMState(h, c)`, each `[..., hidden_size]`, 0 before the first step.
    """

    gates = 4

    def _step(self, inner: Carry, a: jax.Array, h: jax.Array) -> tuple[Carry, jax.Array]:
        state = functional.spiking_lstm_step(inner, a, surrogate_function=self.surrogate_function)
        return state.c, state.h

    def _split(self, carry: Carry, x: Any) -> tuple[Carry, jax.Array]:
        self._check_features(x.shape)
        shape = (*x.shape[:-1], self.hidden_size)
        check_step(self, carry, x, functional.LSTMState, shape)
        h, c = carry
        return c, h

    def _join(self, inner: Carry, h: jax.Array) -> Carry:
        return functional.LSTMState(h, inner)

    def _inner_zeros(self, zeros: jax.Array) -> Carry:
        return zeros
