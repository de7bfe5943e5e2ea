"""Attention between tokens whose queries, keys and values are spikes: cells made of layers."""

import abc
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsnn import _checks
from jaxsnn.nn._cell import Carry, Cell, check_call, first_carry, state_dtype
from jaxsnn.nn._layers import Linear
from jaxsnn.nn._mode import Mode, Seen
from jaxsnn.nn._neurons import LIFNode, SurrogateFunction
from jaxsnn.nn._normalization import BatchNorm
from jaxsnn.nn._run import run, step
from jaxsnn.nn._sequential import Sequential
from jaxsnn.surrogate import Sigmoid

Advance = Callable[[Any, Carry, jax.Array, Mode], tuple[Carry, jax.Array, Seen]]


class AttentionState(NamedTuple):
    """The carry of a spiking attention: those of its three parts, by their names."""

    in_proj: Carry
    attn_lif: Carry
    out_proj: Carry


class _SpikingAttention(Cell):
    """Abstract: spikes of queries, keys, ... of all heads, an attention, spikes of its output.

    `in_proj` and `out_proj` are stacks of a `Linear` without bias, a `BatchNorm` and a `LIFNode`.
    """

    printed = ("dim", "num_heads")
    roles: ClassVar[int]  # how many projections: queries, keys, ...

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        *,
        surrogate_function: SurrogateFunction = Sigmoid(),
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs = _checks.REQUIRED,
    ) -> None:
        self.dim = _checks.size("dim", dim)
        self.num_heads = _checks.size("num_heads", num_heads)
        if self.dim % self.num_heads:
            raise ValueError(f"dim must be a multiple of num_heads={num_heads}, got {dim}")

        def neuron(v_threshold: float) -> LIFNode:
            return LIFNode(
                v_threshold=v_threshold,
                surrogate_function=surrogate_function,
                detach_reset=True,
            )

        def projection(features: int) -> Sequential:
            kwargs = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
            linear = Linear(self.dim, features, use_bias=False, **kwargs)
            return Sequential(linear, BatchNorm(features, param_dtype=param_dtype), neuron(1.0))

        self.in_proj = projection(self.roles * self.dim)
        self.attn_lif = neuron(0.5)
        self.out_proj = projection(self.dim)

    def initialize_carry(
        self,
        input_shape: tuple[int, ...],
        rngs: nnx.Rngs | nnx.RngStream | None = None,
        *,
        dtype: Any = jnp.float32,
    ) -> AttentionState:
        """The first carries of the parts; all potentials are 0."""
        self._check_input(input_shape)
        x = jax.ShapeDtypeStruct(tuple(input_shape), dtype)
        heads = (*input_shape[:-1], self.num_heads, self.dim // self.num_heads)
        current = jax.ShapeDtypeStruct(self._current_shape(heads), dtype)
        return AttentionState(
            first_carry(self.in_proj, x, rngs),
            first_carry(self.attn_lif, current, rngs),
            first_carry(self.out_proj, x, rngs),
        )

    def __call__(self, carry: Carry, x: jax.Array = _checks.REQUIRED) -> tuple[Carry, jax.Array]:
        check_call(self, x)
        carry, y, _ = self._one_step(carry, x, Mode())
        return carry, y

    def _one_step(self, carry: Carry, x: jax.Array, mode: Mode) -> tuple[Carry, jax.Array, Seen]:
        self._check_input(x.shape)
        return self._advance(step, carry, x, mode)

    def _over_time(self, carry: Carry, xs: jax.Array, mode: Mode) -> tuple[Carry, jax.Array, Seen]:
        self._check_input(xs.shape[1:])
        fresh = AttentionState(None, None, None)
        return self._advance(run, fresh if carry is None else carry, xs, mode)

    def _advance(
        self, go: Advance, carry: Carry, x: jax.Array, mode: Mode
    ) -> tuple[Carry, jax.Array, Seen]:
        """One step or all of them: the parts are run by `step` or by `run`."""
        name = type(self).__name__
        _checks.floating(f"the input x of {name}", x)
        if not isinstance(carry, tuple | list) or len(carry) != 3:
            raise ValueError(
                f"the carry of {name} must be an AttentionState, got {jax.tree.structure(carry)}; "
                "start from initialize_carry(x.shape) or hand on the last carry"
            )
        before = AttentionState(*carry)
        in_proj, y, seen = go(self.in_proj, before.in_proj, x, mode.at("in_proj"))
        heads = self.roles, self.num_heads, self.dim // self.num_heads
        y = y.astype(x.dtype).reshape(*x.shape[:-1], *heads)
        roles = [y[..., k, :, :] for k in range(self.roles)]
        current = self._current(*roles)
        attn_lif, y, here = go(self.attn_lif, before.attn_lif, current, mode.at("attn_lif"))
        y = self._attended(y.astype(x.dtype), *roles).reshape(x.shape)
        out_proj, y, there = go(self.out_proj, before.out_proj, y, mode.at("out_proj"))
        after = AttentionState(in_proj, attn_lif, out_proj)
        return after, y.astype(x.dtype), seen | here | there

    @abc.abstractmethod
    def _current_shape(self, heads: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of `_current` for queries of shape `heads`, `[..., L, heads, features]`."""

    @abc.abstractmethod
    def _current(self, *roles: jax.Array) -> jax.Array:
        """The input of `attn_lif`, from the spikes of queries, keys, ..."""

    def _attended(self, spikes: jax.Array, *roles: jax.Array) -> jax.Array:
        """The input of `out_proj`, from the spikes of `attn_lif`."""
        return spikes

    def _check_input(self, shape: tuple[int, ...]) -> None:
        if len(shape) != 3 or shape[-1] != self.dim:
            raise ValueError(
                f"{type(self).__name__}(dim={self.dim}) needs tokens with channels last, "
                f"[N, L, {self.dim}] a step, got {list(shape)}"
            )

    def _feature_axes(self) -> int | None:
        return 2


class SpikingSelfAttention(_SpikingAttention):
    """Self-attention without softmax, on spikes `[N, L, dim]` of `L` tokens.

        q, k, v = LIF(BatchNorm(W x))                for each of the heads
        a = LIF'((q k^T) v / 8)                      LIF' has the threshold 0.5
        y = LIF(BatchNorm(W' a))

    All neurons have `tau=2`; no gradient flows through their reset. They are attributes
    (`in_proj[2]`, `attn_lif`, `out_proj[2]`), to be replaced by others where that is wanted.

    Args:
        dim: channels of a token.
        num_heads: heads, which share the channels.
        surrogate_function: spike function of all neurons.
        dtype: dtype of the projections' products, None for that of their operands.
        param_dtype: dtype of the parameters.
        rngs: random streams; `params` is used.

    Carry: `AttentionState(in_proj, attn_lif, out_proj)`, the carries of its three parts.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: a size is below 1, or `dim` is no multiple of `num_heads`; when run, if the
            input does not fit.

    Source: Zhou et al. 2023, "Spikformer: when spiking neural network meets transformer".
    """

    roles = 3

    def _current_shape(self, heads: tuple[int, ...]) -> tuple[int, ...]:
        return heads

    def _current(self, q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        wide = {"preferred_element_type": state_dtype(q.dtype)}
        # Without a softmax the order is free; this one is linear in the number of tokens.
        kv = jnp.einsum("...lhi,...lhj->...hij", k, v, **wide)
        return 0.125 * jnp.einsum("...lhi,...hij->...lhj", q.astype(kv.dtype), kv)


class _QKAttention(_SpikingAttention):
    """Abstract: the query, summed over one axis, opens or shuts the key."""

    roles = 2
    summed: ClassVar[int]

    def _current_shape(self, heads: tuple[int, ...]) -> tuple[int, ...]:
        shape = list(heads)
        shape[self.summed] = 1
        return tuple(shape)

    def _current(self, q: jax.Array, k: jax.Array) -> jax.Array:
        return jnp.sum(q, self.summed, state_dtype(q.dtype), keepdims=True)

    def _attended(self, spikes: jax.Array, q: jax.Array, k: jax.Array) -> jax.Array:
        return spikes * k


class TokenQKAttention(_QKAttention):
    """Attention of a query that opens or shuts each token, on spikes `[N, L, dim]`.

        q, k = LIF(BatchNorm(W x))                   for each of the heads
        g[l] = LIF'(sum_c q[l, c])                   LIF' has the threshold 0.5
        y = LIF(BatchNorm(W' (g * k)))

    Neurons, arguments, carry and errors are those of `SpikingSelfAttention`.

    Source: Zhou et al. 2024, "QKFormer: hierarchical spiking transformer using Q-K attention".
    """

    summed = -1


class ChannelQKAttention(_QKAttention):
    """Attention of a query that opens or shuts each channel, on spikes `[N, L, dim]`.

        q, k = LIF(BatchNorm(W x))                   for each of the heads
        g[c] = LIF'(sum_l q[l, c])                   LIF' has the threshold 0.5
        y = LIF(BatchNorm(W' (g * k)))

    Neurons, arguments, carry and errors are those of `SpikingSelfAttention`.

    Source: Zhou et al. 2024, "QKFormer: hierarchical spiking transformer using Q-K attention".
    """

    summed = -3
