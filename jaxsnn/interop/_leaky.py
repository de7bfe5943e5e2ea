"""`Leaky`: the leaky integrate-and-fire neuron as snnTorch defines it."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from jaxsnn import _checks, quantize
from jaxsnn._carries import check_call, check_step
from jaxsnn._dtypes import state_dtype
from jaxsnn._phases import SurrogateFunction
from jaxsnn.nn import Cell, Constant
from jaxsnn.surrogate import ATan

Numbers = float | tuple[float, ...] | nnx.Param[jax.Array]
RESETS = ("subtract", "zero", "discard", "none")


def leaky_step(
    v: Float[Array, "*shape"],
    x: Float[Array, "*shape"],
    *,
    beta: Float[Array, "*#shape"],
    threshold: Float[Array, "*#shape"],
    reset_mechanism: str,
    reset_delay: bool,
    surrogate_function: Callable[[jax.Array], jax.Array],
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """One time step of snnTorch's leaky integrate-and-fire neuron.

        r = H(v - threshold),  H(0) = 0
        h = beta v + x - r threshold        subtract
        h = beta (1 - r) v + x              zero
        h = (1 - r) (beta v + x)            discard
        h = beta v + x                      none
        s = H(h - threshold)
        v = h                               reset_delay
        v = h - (s - r) threshold           otherwise, subtract
        v = (1 - s + r) h                   otherwise, zero and discard

    With `reset_delay` the reset comes one step after the spike. No gradient flows through `r`.

    Args:
        v: membrane potential, any shape.
        x: input current of this step, the shape of `v`.
        beta: what is left of the potential after a step; clipped to between 0 and 1.
        threshold: firing threshold; like `beta` an array that broadcasts to `v`.
        reset_mechanism: `subtract`, `zero`, `discard` or `none`.
        reset_delay: whether the reset waits for the next step.
        surrogate_function: spike function, 1 from 0 on. It is strict here because the least
            possible number is added to the threshold.

    Returns:
        `(v, s)`: the potential in the dtype of `v`, spikes in that of `x`.
    """
    beta = quantize.clamp(beta, 0.0, 1.0)
    fixed = jax.lax.stop_gradient(threshold)
    above = jnp.nextafter(fixed, jnp.full_like(fixed, jnp.inf))
    above = jnp.where(fixed == 0, np.finfo(fixed.dtype).tiny, above)  # less would count as 0
    strict = threshold + (above - fixed)
    r = jax.lax.stop_gradient(surrogate_function(v - strict))
    if reset_mechanism == "zero":
        v = (1 - r) * v
    h = beta * v + x.astype(v.dtype)
    if reset_mechanism == "subtract":
        h -= r * threshold
    elif reset_mechanism == "discard":
        h -= r * h
    s = surrogate_function(h - strict)
    v = h
    if not reset_delay and reset_mechanism != "none":
        v = h - (s - r) * (threshold if reset_mechanism == "subtract" else h)
    return v, s.astype(x.dtype)


class Leaky(Cell):
    """snnTorch's `Leaky`, and with other layers beside it `RLeaky`, `Synaptic` and `RSynaptic`; the
    equation is in `leaky_step`.

    It differs from `jaxsnn.nn.LIFNode` in that it fires above the threshold and not at it, and in
    the reset, which comes a step later and takes off the whole threshold, when `LIFNode` would take
    off what the leak has left of it.

    Args:
        beta: what is left of the potential after a step: a number, or one for each neuron.
        threshold: firing threshold: a number, or one for each neuron.
        reset_mechanism: `subtract` takes off the threshold; `zero` is what snnTorch's `Leaky`
            calls so; `discard` what `RLeaky`, `Synaptic` and `RSynaptic` call "zero", which drops
            the input of that step too; `none`.
        reset_delay: whether the reset waits for the next step.
        graded_spikes_factor: output for a spike.
        learn_beta: whether `beta` is a parameter, of type `jaxsnn.nn.Constant` as the next two.
        learn_threshold: whether `threshold` is a parameter.
        learn_graded_spikes_factor: whether `graded_spikes_factor` is a parameter.
        surrogate_function: spike function of `v - threshold`.
        param_dtype: dtype of the parameters.

    Carry: the potential `v`, 0 before the first step, in the shape of one step's input.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: a number is not finite, or there is no such reset.

    Examples:
        >>> _, spikes = unroll(Leaky(0.5), jnp.array([[1.0], [0.75], [0.0], [1.5]]))
        >>> spikes[:, 0]
        Array([0., 1., 0., 1.], dtype=float32)
    """

    numbers = ("beta", "threshold", "graded_spikes_factor")
    printed = (*numbers, "reset_mechanism", "reset_delay", "surrogate_function")
    state_name = "v"
    beta: Numbers
    threshold: Numbers
    graded_spikes_factor: Numbers

    def __init__(
        self,
        beta: float | Sequence[float],
        *,
        threshold: float | Sequence[float] = 1.0,
        reset_mechanism: str = "subtract",
        reset_delay: bool = True,
        graded_spikes_factor: float = 1.0,
        learn_beta: bool = False,
        learn_threshold: bool = False,
        learn_graded_spikes_factor: bool = False,
        surrogate_function: SurrogateFunction = ATan(),
        param_dtype: Any = jnp.float32,
    ) -> None:
        if reset_mechanism not in RESETS:
            raise ValueError(f"reset_mechanism must be one of {RESETS}, got {reset_mechanism!r}")
        self.reset_mechanism = reset_mechanism
        self.reset_delay = _checks.boolean("reset_delay", reset_delay)
        self.surrogate_function = _checks.function("surrogate_function", surrogate_function)
        self.of_features = False  # set where numbers of snnTorch are known not to be for channels
        for name, value, learned in (
            ("beta", beta, learn_beta),
            ("threshold", threshold, learn_threshold),
            ("graded_spikes_factor", graded_spikes_factor, learn_graded_spikes_factor),
        ):
            numbers = _numbers(name, value)
            learned = _checks.boolean(f"learn_{name}", learned)
            parameter = Constant(jnp.asarray(numbers, param_dtype)) if learned else numbers
            setattr(self, name, parameter)

    def initialize_carry(
        self,
        input_shape: tuple[int, ...],
        rngs: nnx.Rngs | nnx.RngStream | None = None,
        *,
        dtype: Any = jnp.float32,
    ) -> jax.Array:
        """The potential before the first step, 0."""
        return jnp.zeros(input_shape, state_dtype(dtype))

    def __call__(
        self, carry: Float[Array, "*shape"], x: Float[Array, "*shape"] = _checks.REQUIRED
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        check_call(self, x)
        check_step(self, carry, x)
        v, spikes = leaky_step(
            carry,
            x,
            beta=self._beside("beta", carry),
            threshold=self._beside("threshold", carry),
            reset_mechanism=self.reset_mechanism,
            reset_delay=self.reset_delay,
            surrogate_function=self.surrogate_function,
        )
        return v, spikes * self._beside("graded_spikes_factor", carry).astype(x.dtype)

    def _beside(self, name: str, v: jax.Array) -> jax.Array:
        """The setting or parameter `name` as an array that broadcasts to `v`."""
        value = getattr(self, name)
        numbers = jnp.asarray(value[...] if isinstance(value, nnx.Param) else value, v.dtype)
        if numbers.ndim == 0:
            return numbers
        if self.of_features and v.ndim > 2:
            raise ValueError(
                f"{name}, as it came from snnTorch, has one number for each of {len(numbers)} "
                f"features, inputs are [N, {len(numbers)}] (of an image they would be those of the "
                f"columns there); got one of shape {list(v.shape)}"
            )
        if v.ndim == 0 or v.shape[-1] != len(numbers):
            raise ValueError(
                f"{name} has one number for each of {len(numbers)} neurons, the last axis of an "
                f"input; got one of shape {list(v.shape)}"
            )
        return numbers.reshape((1,) * (v.ndim - 1) + (-1,))


def _numbers(name: str, value: Any) -> float | tuple[float, ...]:
    """`value` as a number, or as a tuple of numbers, one for each neuron."""
    if np.size(value) == 1:
        return _checks.real(name, np.asarray(value).reshape(()))
    if np.ndim(value) > 1:
        raise ValueError(
            f"{name} must be a number or one for each neuron, got shape {np.shape(value)}"
        )
    return tuple(_checks.real(name, number) for number in np.asarray(value))
