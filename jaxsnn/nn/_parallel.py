"""Parallel spiking neurons: without a reset, all time steps are one product of matrices."""

from dataclasses import KW_ONLY, InitVar
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from jaxsnn import _checks, functional
from jaxsnn._dtypes import state_dtype
from jaxsnn.nn._delay import Window
from jaxsnn.nn._fields import Fields, Size
from jaxsnn.nn._layer import Layer
from jaxsnn.nn._layers import uniform
from jaxsnn.nn._neurons import SpikeFunction
from jaxsnn.nn._run import Run
from jaxsnn.surrogate import ATan


class Drawn(Fields):
    """Mixin: a neuron whose parameters are drawn at random.

    Args:
        T: number of time steps of every sequence.
        surrogate_function: spike function of the potential.
        param_dtype: dtype of the parameters.
        rngs: random streams; `params` is used.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument is out of range; when run, if a sequence has another length.
    """

    _: KW_ONLY
    surrogate_function: SpikeFunction = ATan()
    param_dtype: InitVar[Any] = jnp.float32
    rngs: InitVar[nnx.Rngs] = _checks.REQUIRED


class ParallelNeuron(Drawn, Layer):
    """Abstract: a neuron with a weight from each time step to each."""

    if TYPE_CHECKING:
        T: int

    def __post_init__(self, param_dtype: Any, rngs: nnx.Rngs) -> None:
        key = _checks.streams(rngs).params()
        self.weight = nnx.Param(uniform(self.T)(key, (self.T, self.T), param_dtype))
        self.bias = nnx.Param(jnp.asarray(np.full((self.T, 1), -1), param_dtype))

    def _weight(self, weight: jax.Array) -> jax.Array:
        """What is used of the parameter."""
        return weight

    def forward(
        self, xs: Float[Array, "{self.T} *shape"], run: Run
    ) -> Float[Array, "{self.T} *shape"]:
        check_sequence(self, self.T, xs, run)
        dtype = state_dtype(xs.dtype)
        weight, bias = self._weight(self.weight[...].astype(dtype)), self.bias[...].astype(dtype)
        return functional.psn(xs, weight, bias, surrogate_function=self.surrogate_function)


class PSN(ParallelNeuron):
    """Parallel spiking neuron; the equation is in `jaxsnn.functional.psn`.

    It has no reset and learns how much each time step takes of every other one, those to come
    included: `weight` `[T, T]`, at first `U(-1/sqrt(T), 1/sqrt(T))`, and `bias` `[T, 1]`, at
    first -1. All neurons of the layer share them.

    Examples:
        >>> neuron = PSN(T=8, rngs=nnx.Rngs(0))
        >>> _, spikes = unroll(neuron, jnp.ones((8, 2, 3)))
        >>> spikes.shape
        (8, 2, 3)
    """

    T: Size


class SlidingPSN(Drawn, Window):
    """Parallel spiking neuron with one weight for each of the last `k` steps; the equation is in
    `jaxsnn.functional.sliding_psn_step`.

    Parameters are `weight` `[k]`, the last one that of the present step, and `bias`, at first -1.
    All neurons of the layer share them. It takes sequences of any length, runs on a stream, and
    over a sequence computes all steps in one product.

    Args:
        k: how many steps it sees: the present one and the `k - 1` before it.
        exp_init: whether the weights begin as `..., 1/4, 1/2, 1`; otherwise they are drawn from
            `U(-1/sqrt(k), 1/sqrt(k))`.
        rngs: random streams; `params` is used. Not needed with `exp_init`.

    Carry: `past`, the last `k - 1` inputs, along the last axis, the oldest first, `[..., k - 1]`;
    0 before the first step.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument is out of range.

    Examples:
        >>> _, spikes = unroll(SlidingPSN(k=2), jnp.array([[0.5], [0.6], [0.8], [0.0]]))
        >>> spikes[:, 0]
        Array([0., 0., 1., 0.], dtype=float32)
    """

    k: Size
    exp_init: bool = True
    _: KW_ONLY
    rngs: InitVar[nnx.Rngs | None] = None
    _length = property(lambda self: self.k - 1)

    def __post_init__(self, param_dtype: Any, rngs: nnx.Rngs | None) -> None:
        if self.exp_init:
            weight = jnp.asarray(0.5 ** np.arange(self.k - 1, -1, -1), param_dtype)
        else:
            weight = uniform(self.k)(_checks.streams(rngs).params(), (self.k,), param_dtype)
        self.weight = nnx.Param(weight)
        self.bias = nnx.Param(jnp.asarray(-1, param_dtype))

    def _step(self, past: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self._spikes(functional.sliding_psn_step, past, x)

    def _steps(self, past: jax.Array, xs: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self._spikes(functional.sliding_psn, past, xs)

    def _spikes(self, function: Any, past: jax.Array, x: jax.Array) -> Any:
        settings = {"surrogate_function": self.surrogate_function}
        return function(past, x, self.weight[...], self.bias[...], **settings)


def check_sequence(layer: Layer, T: int, xs: jax.Array, run: Run) -> None:
    """`xs` must be whole sequences, floating, with the `T` time steps that `layer` is made for."""
    run.require_whole_sequence(layer)
    name = type(layer).__name__
    _checks.floating(f"the input of {name}", xs)
    if xs.ndim == 0 or xs.shape[0] != T:
        raise ValueError(
            f"{name}(T={T}) needs sequences of {T} time steps, [{T}, ...], got {list(xs.shape)}"
        )
