"""`Leaky`: the leaky integrate-and-fire neuron as snnTorch defines it."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsnn import _checks, quantize
from jaxsnn._phases import SurrogateFunction
from jaxsnn.nn import ElementwiseCell, learnable
from jaxsnn.nn.constants import Real
from jaxsnn.surrogate import ATan

RESETS = ("subtract", "zero", "discard", "none")


def _reset(name: str, value: Any) -> str:
    if value not in RESETS:
        raise ValueError(f"{name} must be one of {RESETS}, got {value!r}")
    return str(value)


def leaky_step(
    v: Float[Array, "*shape"],
    x: Float[Array, "*shape"],
    *,
    beta: float | Float[Array, "*#shape"],
    threshold: float | Float[Array, "*#shape"],
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
        threshold: firing threshold; like `beta` a number, or an array that broadcasts to `v`.
        reset_mechanism: `subtract`, `zero`, `discard` or `none`.
        reset_delay: whether the reset waits for the next step.
        surrogate_function: spike function, 1 from 0 on. It is strict here because the least
            possible number is added to the threshold.

    Returns:
        `(v, s)`: the potential in the dtype of `v`, spikes in that of `x`.
    """
    beta = quantize.clamp(jnp.asarray(beta, v.dtype), 0.0, 1.0)
    threshold = jnp.asarray(threshold, v.dtype)
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


class Leaky(ElementwiseCell):
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
        learn_beta: whether `beta` is learned, as by `jaxsnn.nn.learnable`, like the next two.
        learn_threshold: whether `threshold` is learned.
        learn_graded_spikes_factor: whether `graded_spikes_factor` is learned.
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
    beta: Real
    threshold: Real
    graded_spikes_factor: Real
    reset_mechanism: Annotated[str, _reset]
    reset_delay: bool
    surrogate_function: Annotated[SurrogateFunction, _checks.function]

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
        self.of_features = False  # set where numbers of snnTorch are known not to be for channels
        self.reset_mechanism, self.reset_delay = reset_mechanism, reset_delay
        self.surrogate_function = surrogate_function
        for name, value, learned in (
            ("beta", beta, learn_beta),
            ("threshold", threshold, learn_threshold),
            ("graded_spikes_factor", graded_spikes_factor, learn_graded_spikes_factor),
        ):
            if np.ndim(value) > 1:
                shape = list(np.shape(value))
                raise ValueError(f"{name} must be one number for each neuron, got shape {shape}")
            learned = _checks.boolean(f"learn_{name}", learned)
            setattr(self, name, learnable(value, param_dtype=param_dtype) if learned else value)

    def initialize_carry(
        self, input_shape: tuple[int, ...], rngs: Any = None, *, dtype: Any = jnp.float32
    ) -> jax.Array:
        """The potential before the first step, 0."""
        several = [name for name in self.numbers if np.ndim(getattr(self, name))]
        if self.of_features and several and len(input_shape) > 2:
            raise ValueError(
                f"{several[0]} has one number for each of {np.size(getattr(self, several[0]))} "
                "features, as it came from snnTorch: inputs must be [N, features], got one of "
                f"shape {list(input_shape)}"
            )
        return super().initialize_carry(input_shape, rngs, dtype=dtype)

    @staticmethod
    def step(
        v: jax.Array, x: jax.Array, *, graded_spikes_factor: float | jax.Array, **settings: Any
    ) -> tuple[jax.Array, jax.Array]:
        v, spikes = leaky_step(v, x, **settings)
        return v, spikes * graded_spikes_factor
