"""Attention between tokens whose queries, keys and values are spikes: cells made of layers."""

import abc
from dataclasses import KW_ONLY, InitVar
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsnn import _checks
from jaxsnn._dtypes import state_dtype
from jaxsnn._phases import SurrogateFunction
from jaxsnn.nn._fields import Fields, Size
from jaxsnn.nn._layers import Linear
from jaxsnn.nn._module import Module
from jaxsnn.nn._neurons import LIFNode
from jaxsnn.nn._normalization import BatchNorm
from jaxsnn.nn._run import Run
from jaxsnn.nn._sequential import Sequential
from jaxsnn.surrogate import Sigmoid


class _SpikingAttention(Fields, Module):
    """Abstract: spikes of queries, keys, ... of all heads, an attention, spikes of its output.

    `in_proj` and `out_proj` are stacks of a `Linear` without bias, a `BatchNorm` and a `LIFNode`.
    """

    _feature_axes = 2
    roles: ClassVar[int]  # how many projections: queries, keys, ...

    dim: Size
    num_heads: Size = 8
    _: KW_ONLY
    surrogate_function: InitVar[SurrogateFunction] = Sigmoid()
    dtype: InitVar[Any] = None
    param_dtype: InitVar[Any] = jnp.float32
    rngs: InitVar[nnx.Rngs] = _checks.REQUIRED

    def __post_init__(
        self, surrogate_function: SurrogateFunction, dtype: Any, param_dtype: Any, rngs: nnx.Rngs
    ) -> None:
        settings: dict[str, Any] = {"surrogate_function": surrogate_function, "detach_reset": True}
        linear = {"use_bias": False, "dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}

        def projection(features: int) -> Sequential:
            norm = BatchNorm(features, param_dtype=param_dtype)
            return Sequential(Linear(self.dim, features, **linear), norm, LIFNode(**settings))

        self.in_proj = projection(self.roles * self.dim)
        self.attn_lif = LIFNode(v_threshold=0.5, **settings)
        self.out_proj = projection(self.dim)

    def check_fields(self) -> None:
        if self.dim % self.num_heads:
            raise ValueError(
                f"dim must be a multiple of num_heads={self.num_heads}, got {self.dim}"
            )

    def forward(self, x: jax.Array, run: Run) -> jax.Array:
        name = type(self).__name__
        _checks.floating(f"the input x of {name}", x)
        shape = x.shape[1:] if run.steps else x.shape
        if len(shape) != 3 or shape[-1] != self.dim:
            raise ValueError(
                f"{name}(dim={self.dim}) needs tokens with channels last, [N, L, {self.dim}] per "
                f"step, got {list(shape)}"
            )
        y = run._part("in_proj", self.in_proj, x)
        heads = self.roles, self.num_heads, self.dim // self.num_heads
        y = y.astype(x.dtype).reshape(*x.shape[:-1], *heads)
        roles = [y[..., k, :, :] for k in range(self.roles)]
        y = run._part("attn_lif", self.attn_lif, self._current(*roles))
        y = self._attended(y.astype(x.dtype), *roles).reshape(x.shape)
        return run._part("out_proj", self.out_proj, y).astype(x.dtype)

    @abc.abstractmethod
    def _current(self, *roles: jax.Array) -> jax.Array:
        """The input of `attn_lif`, from the spikes of queries, keys, ..."""

    def _attended(self, spikes: jax.Array, *roles: jax.Array) -> jax.Array:
        """The input of `out_proj`, from the spikes of `attn_lif`."""
        return spikes


class SpikingSelfAttention(_SpikingAttention):
    """Self-attention without softmax, on spikes `[N, L, dim]` of `L` tokens.

        q, k, v = LIF(BatchNorm(W x))                for each of the heads
        a = LIF'((q k^T) v / 8)                      LIF' has the threshold 0.5
        y = LIF(BatchNorm(W' a))

    All neurons have `tau=2`; no gradient flows through their reset. They are attributes
    (`in_proj[2]`, `attn_lif`, `out_proj[2]`), which may be replaced by others.

    Args:
        dim: channels of a token.
        num_heads: heads, which share the channels.
        surrogate_function: spike function of all neurons.
        dtype: dtype of the projections' products, None for that of their operands.
        param_dtype: dtype of the parameters.
        rngs: random streams; `params` is used.

    Carry: `(in_proj, attn_lif, out_proj)`, the carries of its three parts.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: a size is below 1, or `dim` is no multiple of `num_heads`; when run, if the
            input does not fit.

    Source: Zhou et al. 2023, "Spikformer: when spiking neural network meets transformer".
    """

    roles = 3

    def _current(self, q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        wide = {"preferred_element_type": state_dtype(q.dtype)}
        # Without a softmax the order is free; this one is linear in the number of tokens.
        kv = jnp.einsum("...lhi,...lhj->...hij", k, v, **wide)
        return 0.125 * jnp.einsum("...lhi,...hij->...lhj", q.astype(kv.dtype), kv)


class _QKAttention(_SpikingAttention):
    """Abstract: the query, summed over one axis, opens or shuts the key."""

    roles = 2
    summed: ClassVar[int]

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
