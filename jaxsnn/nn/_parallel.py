"""Parallel spiking neurons: without a reset, all time steps are one product of matrices."""

from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from jaxsnn import _checks, functional
from jaxsnn._carries import check_call, check_past
from jaxsnn._dtypes import state_dtype
from jaxsnn._parts import join
from jaxsnn._phases import SurrogateFunction
from jaxsnn.nn._layer import Layer
from jaxsnn.nn._layers import uniform
from jaxsnn.nn._module import Cell
from jaxsnn.nn._run import Run, run_cell
from jaxsnn.surrogate import ATan


class _ParallelNeuron(Layer):
    """Abstract: a neuron with a weight from each time step to each."""

    def __init__(
        self,
        T: int,
        *,
        surrogate_function: SurrogateFunction,
        param_dtype: Any,
        rngs: nnx.Rngs = _checks.REQUIRED,
    ) -> None:
        self.T = _checks.size("T", T)
        self.surrogate_function = _checks.function("surrogate_function", surrogate_function)
        key = _checks.streams(rngs).params()
        self.weight = nnx.Param(uniform(self.T)(key, (self.T, self.T), param_dtype))
        self.bias = nnx.Param(jnp.asarray(np.full((self.T, 1), -1), param_dtype))

    def _weight(self, weight: jax.Array) -> jax.Array:
        """What is used of the parameter."""
        return weight

    def forward(
        self, xs: Float[Array, "{self.T} *shape"], run: Run
    ) -> Float[Array, "{self.T} *shape"]:
        run.require_whole_sequence(self)
        name = type(self).__name__
        _checks.floating(f"the input of {name}", xs)
        check_length(self, self.T, xs)
        dtype = state_dtype(xs.dtype)
        weight = self._weight(self.weight[...].astype(dtype))
        bias = self.bias[...].astype(dtype)
        return functional.psn(xs, weight, bias, surrogate_function=self.surrogate_function)


class PSN(_ParallelNeuron):
    """Parallel spiking neuron; the equation is in `jaxsnn.functional.psn`.

    It has no reset and learns how much each time step takes of every other one, those to come
    included: `weight` `[T, T]`, at first `U(-1/sqrt(T), 1/sqrt(T))`, and `bias` `[T, 1]`, at
    first -1. All neurons of the layer share them.

    Args:
        T: number of time steps of every sequence.
        surrogate_function: spike function of the potential.
        param_dtype: dtype of the parameters.
        rngs: random streams; `params` is used.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: `T` is below 1; when run, if a sequence has another length.

    Examples:
        >>> neuron = PSN(T=8, rngs=nnx.Rngs(0))
        >>> _, spikes = unroll(neuron, jnp.ones((8, 2, 3)))
        >>> spikes.shape
        (8, 2, 3)
    """

    printed = ("T", "surrogate_function")

    def __init__(
        self,
        T: int,
        *,
        surrogate_function: SurrogateFunction = ATan(),
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs = _checks.REQUIRED,
    ) -> None:
        super().__init__(
            T, surrogate_function=surrogate_function, param_dtype=param_dtype, rngs=rngs
        )


class SlidingPSN(Cell):
    """Parallel spiking neuron with one weight for each of the last `k` steps; the equation is in
    `jaxsnn.functional.sliding_psn_step`.

    Parameters are `weight` `[k]`, the last one that of the present step, and `bias`, at first -1.
    All neurons of the layer share them. It takes sequences of any length, runs on a stream, and
    over a sequence computes all steps in one product.

    Args:
        k: how many steps it sees: the present one and the `k - 1` before it.
        exp_init: whether the weights begin as `..., 1/4, 1/2, 1`; otherwise they are drawn from
            `U(-1/sqrt(k), 1/sqrt(k))`.
        surrogate_function: spike function of the potential.
        param_dtype: dtype of the parameters.
        rngs: random streams; `params` is used. Not needed with `exp_init`.

    Carry: `past`, the last `k - 1` inputs, along the last axis, the oldest first, `[..., k - 1]`;
    0 before the first step.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: `k` is below 1.

    Examples:
        >>> _, spikes = unroll(SlidingPSN(k=2), jnp.array([[0.5], [0.6], [0.8], [0.0]]))
        >>> spikes[:, 0]
        Array([0., 0., 1., 0.], dtype=float32)
    """

    printed = ("k", "exp_init", "surrogate_function")
    state_name = "past"

    def __init__(
        self,
        k: int,
        exp_init: bool = True,
        *,
        surrogate_function: SurrogateFunction = ATan(),
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        self.k = _checks.size("k", k)
        self.exp_init = _checks.boolean("exp_init", exp_init)
        self.surrogate_function = _checks.function("surrogate_function", surrogate_function)
        if exp_init:
            weight = jnp.asarray(0.5 ** np.arange(self.k - 1, -1, -1), param_dtype)
        else:
            weight = uniform(self.k)(_checks.streams(rngs).params(), (self.k,), param_dtype)
        self.weight = nnx.Param(weight)
        self.bias = nnx.Param(jnp.asarray(-1, param_dtype))

    def initialize_carry(
        self,
        input_shape: tuple[int, ...],
        rngs: nnx.Rngs | nnx.RngStream | None = None,
        *,
        dtype: Any = jnp.float32,
    ) -> jax.Array:
        """The inputs before the first step, 0."""
        return jnp.zeros((*input_shape, self.k - 1), state_dtype(dtype))

    @final
    def __call__(
        self, carry: Float[Array, "*shape {self.k-1}"], x: Float[Array, "*shape"] = _checks.REQUIRED
    ) -> tuple[Float[Array, "*shape {self.k-1}"], Float[Array, "*shape"]]:
        check_call(self, x)
        check_past(self, carry, x, self.k - 1)
        return functional.sliding_psn_step(
            carry, x, self.weight[...], self.bias[...], surrogate_function=self.surrogate_function
        )

    def _run(self, carry: Any, x: jax.Array, run: Run) -> tuple[Any, jax.Array]:
        if not run.steps or run.mask is not None or run._wants(join(run._path, self.state_name)):
            return run_cell(self, carry, x, run)  # what is asked for lies between the steps
        check_past(self, carry, jax.ShapeDtypeStruct(x.shape[1:], x.dtype), self.k - 1)
        return functional.sliding_psn(
            carry, x, self.weight[...], self.bias[...], surrogate_function=self.surrogate_function
        )


def check_length(layer: Layer, T: int, xs: jax.Array) -> None:
    """`xs` must have the `T` time steps that `layer` was made for."""
    if xs.ndim == 0 or xs.shape[0] != T:
        raise ValueError(
            f"{type(layer).__name__}(T={T}) needs sequences of {T} time steps, [{T}, ...], got "
            f"{list(xs.shape)}"
        )
