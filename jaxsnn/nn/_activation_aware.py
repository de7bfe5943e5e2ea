"""The integrate-and-fire neuron with a threshold and an offset for each channel."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsnn import _checks, functional
from jaxsnn._carries import check_step
from jaxsnn._phases import SurrogateFunction
from jaxsnn.nn._neurons import _Neuron
from jaxsnn.surrogate import Sigmoid


class ActivationAwareIFNode(_Neuron):
    """IF neuron whose threshold is shifted by an offset, each one number or one for each channel;
    the equation is in `jaxsnn.functional.activation_aware_if_step`.

    Args:
        v_threshold: firing threshold, greater than 0: a number, or one for each channel. Not
            learned.
        v_offset: what is added to the potential when it is compared with the threshold: a
            number, or one for each channel. Not learned.
        channel_dim: axis of the channels in the input of one time step.
        v_reset: potential after a spike and before the first step; None is the soft reset,
            which subtracts the threshold and starts from 0.
        surrogate_function: spike function of `v + v_offset - v_threshold`.
        detach_reset: no gradient flows through the reset (that of the output spike stays).

    Carry: the potential `v`, in the shape of one step's input.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: a number is not finite, or a threshold not greater than 0; when run, if the
            input has another number of channels, or no such axis.

    Examples:
        >>> _, spikes = unroll(ActivationAwareIFNode([1.0, 0.5]), jnp.full((4, 1, 2), 0.25))
        >>> spikes[:, 0]
        Array([[0., 0.],
               [0., 1.],
               [0., 0.],
               [1., 1.]], dtype=float32)
    """

    printed = ("v_offset", "channel_dim", *_Neuron.printed)
    elementwise = False  # over time the axes must stay apart

    def __init__(
        self,
        v_threshold: float | Sequence[float] | jax.Array = 1.0,
        v_offset: float | Sequence[float] | jax.Array = 0.0,
        *,
        channel_dim: int = -1,
        v_reset: float | None = None,
        surrogate_function: SurrogateFunction = Sigmoid(),
        detach_reset: bool = False,
    ) -> None:
        super().__init__(
            v_threshold=1.0,  # replaced below: it may be more than one number
            v_reset=v_reset,
            surrogate_function=surrogate_function,
            detach_reset=detach_reset,
        )
        self.v_threshold: Any = _numbers("v_threshold", v_threshold, _checks.positive)
        self.v_offset = _numbers("v_offset", v_offset, _checks.real)
        self.channel_dim = _checks.integer("channel_dim", channel_dim)

    def _step(
        self, carry: Float[Array, "*shape"], x: Float[Array, "*shape"]
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        check_step(self, carry, x)
        settings = self._fire_and_reset() | {
            name: self._beside(name, carry) for name in ("v_threshold", "v_offset")
        }
        return functional.activation_aware_if_step(carry, x, **settings)

    def _beside(self, name: str, v: jax.Array) -> jax.Array:
        """The setting `name` as an array that broadcasts to `v`."""
        numbers = jnp.asarray(getattr(self, name), v.dtype)
        if numbers.ndim == 0:
            return numbers
        axes = range(v.ndim)
        if not -v.ndim <= self.channel_dim < v.ndim or v.shape[self.channel_dim] != len(numbers):
            raise ValueError(
                f"{name} has one number for each of {len(numbers)} channels, which are axis "
                f"{self.channel_dim} of an input; got one of shape {list(v.shape)}"
            )
        channels = axes[self.channel_dim]
        return jnp.expand_dims(numbers, [axis for axis in axes if axis != channels])


def _numbers(
    name: str, value: Any, check: Callable[[str, Any], float]
) -> float | tuple[float, ...]:
    """`value` as a number, or as a tuple of numbers, one for each channel."""
    if np.ndim(value) == 0:
        return check(name, value)
    if np.ndim(value) > 1:
        raise ValueError(
            f"{name} must be a number or one for each channel, got shape {np.shape(value)}"
        )
    return tuple(check(name, number) for number in value)
