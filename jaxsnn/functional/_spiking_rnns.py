"""Spiking recurrent cells: the gates of an RNN, a GRU, an LSTM as spikes, without a membrane."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsnn._phases import keep

SpikeFunction = Callable[[jax.Array], jax.Array]


class LSTMState(NamedTuple):
    """State of the spiking LSTM.

    Attributes:
        h: hidden state, spikes.
        c: cell state, 0 or 1.
    """

    h: Float[Array, "*shape"]
    c: Float[Array, "*shape"]


def spiking_rnn_step(
    a: Float[Array, "*shape"], *, surrogate_function: SpikeFunction
) -> Float[Array, "*shape"]:
    """One time step of the spiking vanilla RNN.

        h = H(a),    a = W_ih x + b_ih + W_hh h + b_hh

    with the Heaviside step `H` instead of the usual tanh. The step before enters through `a`.

    Args:
        a: drive of each hidden unit, any shape.
        surrogate_function: spike function, e.g. `jaxsnn.surrogate.Erf()`.

    Returns:
        `h`, spikes, in the shape and dtype of `a`.
    """
    return surrogate_function(keep(a))


def spiking_gru_step(
    h: Float[Array, "*N H"], a: Float[Array, "*N 4*H"], *, surrogate_function: SpikeFunction
) -> Float[Array, "*N H"]:
    """One time step of the spiking GRU.

        r = H(a_r),    a_r = W_ir x + b_ir + W_hr h + b_hr
        z = H(a_z),    a_z = W_iz x + b_iz + W_hz h + b_hz
        n = H(a_i + r a_h),    a_h = W_hn h + b_hn,    a_i = W_in x + b_in
        h = (1 - z) n + z h

    Args:
        h: hidden state after the last step (spikes), `[..., H]`.
        a: the four drives `a_r, a_z, a_h, a_i` one after the other, `[..., 4 H]`.
        surrogate_function: spike function, e.g. `jaxsnn.surrogate.Erf()`.

    Returns:
        The new `h`, in the dtype of the old one.
    """
    reset, update, hidden, fed = jnp.split(keep(a), 4, axis=-1)
    r, z = surrogate_function(reset), surrogate_function(update)
    n = surrogate_function(fed + r * hidden)
    return (1 - z).astype(h.dtype) * n.astype(h.dtype) + z.astype(h.dtype) * h


def spiking_lstm_step(
    c: Float[Array, "*N H"], a: Float[Array, "*N 4*H"], *, surrogate_function: SpikeFunction
) -> LSTMState:
    """One time step of the spiking LSTM.

        i, f, g, o = H(a_i), H(a_f), H(a_g), H(a_o),    a_k = W_ik x + b_ik + W_hk h + b_hk
        c = min(f c + i g, 1)
        h = o c

    The limit of 1, which keeps the cell state to spikes, acts on the value alone: its derivative
    is taken as 1 everywhere. After Lotfi Rezaabad & Vishwanath 2020, "Long short-term memory
    spiking networks and their applications".

    Args:
        c: cell state after the last step, `[..., H]`.
        a: the four drives `a_i, a_f, a_g, a_o` one after the other, `[..., 4 H]`.
        surrogate_function: spike function, e.g. `jaxsnn.surrogate.Erf()`.

    Returns:
        `(h, c)` in the dtype of the old `c`.
    """
    drives = jnp.split(keep(a), 4, axis=-1)
    i, f, g, o = (surrogate_function(drive).astype(c.dtype) for drive in drives)
    c = f * c + i * g
    c += jax.lax.stop_gradient(jnp.minimum(c, 1) - c)
    return LSTMState(o * c, c)
