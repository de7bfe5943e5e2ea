"""Close relatives of IF and LIF: one that starts half-way to its threshold, one with a gain."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsnn import _checks, functional
from jaxsnn._carries import check_step
from jaxsnn._phases import SurrogateFunction
from jaxsnn.nn._neurons import _Neuron
from jaxsnn.surrogate import Sigmoid


class HalfThresholdIFNode(_Neuron):
    """IF neuron with soft reset that starts half-way to its threshold; the equation is in
    `jaxsnn.functional.if_step`.

    For networks that are converted from conventional ones: the number of spikes for a constant
    input is then rounded, not cut off (Bu et al. 2022, "Optimized potential initialization for
    low-latency spiking neural networks").

    Args:
        v_threshold: firing threshold, greater than 0.
        surrogate_function: spike function of `v - v_threshold`, e.g. `jaxsnn.surrogate.ATan()`.
        detach_reset: no gradient flows through the reset (that of the output spike stays).

    Carry: the potential `v`, `v_threshold / 2` before the first step, in the shape of one step's
    input.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: `v_threshold` is not greater than 0 or not finite.

    Examples:
        >>> _, spikes = unroll(HalfThresholdIFNode(), jnp.full((4, 1), 0.375))
        >>> spikes[:, 0]
        Array([0., 1., 0., 1.], dtype=float32)
    """

    printed = ("v_threshold", "detach_reset", "surrogate_function")

    def __init__(
        self,
        *,
        v_threshold: float = 1.0,
        surrogate_function: SurrogateFunction = Sigmoid(),
        detach_reset: bool = False,
    ) -> None:
        v_threshold = _checks.positive("v_threshold", v_threshold)
        super().__init__(v_threshold, None, surrogate_function, detach_reset)

    def _first(self, full: Callable[[float], jax.Array]) -> jax.Array:
        return full(self.v_threshold / 2)

    def _step(self, carry: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        check_step(self, carry, x)
        return functional.if_step(carry, x, **self._fire_and_reset())


class KLIFNode(_Neuron):
    """LIF neuron that learns a gain before its threshold, one for the whole layer: parameter
    `k`; the equation is in `jaxsnn.functional.klif_step`.

    Args:
        tau: membrane time constant in time steps, greater than 1.
        scale_reset: whether the gain is taken back in the reset. Then `k` must stay clear of 0.
        decay_input: whether the input is divided by `tau` too.
        v_threshold: firing threshold.
        v_reset: potential after a spike, at rest and before the first step; None is the soft
            reset, which subtracts the threshold, rests at 0 and starts from 0.
        surrogate_function: spike function of `h - v_threshold`, e.g. `jaxsnn.surrogate.ATan()`.
        detach_reset: no gradient flows through the reset (that of the output spike stays).
        param_dtype: dtype of `k`, which starts from 1.

    Carry: the potential `v`, in the shape of one step's input.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: `tau` is not greater than 1, or a number is not finite.
    """

    printed = ("k", "tau", "scale_reset", "decay_input", *_Neuron.printed)

    def __init__(
        self,
        tau: float = 2.0,
        *,
        scale_reset: bool = False,
        decay_input: bool = True,
        v_threshold: float = 1.0,
        v_reset: float | None = 0.0,
        surrogate_function: SurrogateFunction = Sigmoid(),
        detach_reset: bool = False,
        param_dtype: Any = jnp.float32,
    ) -> None:
        super().__init__(v_threshold, v_reset, surrogate_function, detach_reset)
        self.k = nnx.Param(jnp.ones((), param_dtype))
        self.tau = _checks.time_constant("tau", tau)
        self.scale_reset = _checks.boolean("scale_reset", scale_reset)
        self.decay_input = _checks.boolean("decay_input", decay_input)

    def _scalars(self) -> tuple[jax.Array, ...]:
        return (self.k[...],)

    def _step(self, carry: jax.Array, x: jax.Array, k: jax.Array) -> tuple[jax.Array, jax.Array]:
        check_step(self, carry, x)
        return functional.klif_step(
            carry,
            x,
            k=k,
            scale_reset=self.scale_reset,
            tau=self.tau,
            decay_input=self.decay_input,
            **self._fire_and_reset(),
        )
