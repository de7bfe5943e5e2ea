"""Spike counts as binary spikes in several time slots, and back."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxsnn import _checks
from jaxsnn.nn._modal_layer import SequenceLayer
from jaxsnn.nn._mode import NOTHING, Mode, Seen


class _Conversion(SequenceLayer):
    """Abstract: changes the number of steps, in inference or always."""

    printed: ClassVar[tuple[str, ...]] = ("num_slots", "always_convert")
    trains_apart = True

    def __init__(self, num_slots: int, always_convert: bool = False) -> None:
        self.num_slots = _checks.size("num_slots", num_slots)
        self.always_convert = _checks.boolean("always_convert", always_convert)

    def _all_steps(self, xs: jax.Array, mode: Mode) -> tuple[jax.Array, Seen]:
        self._refuse_parts(mode)
        if mode.training and not self.always_convert:
            return xs, NOTHING
        return self(xs), NOTHING


class SpikeCountToBinary(_Conversion):
    """Makes of each step `num_slots` steps, and of a count as many spikes in them.

        y[t num_slots + k] = 1 if k < x[t] else 0,  k = 0 .. num_slots - 1

    A network that is trained on counts can so be run on spikes: with a `Linear` or `Conv` without
    bias behind it and a `TemporalBinSum` behind that, outputs and gradients are those of the
    counts. The gradient takes `y` for `x[t] / num_slots` (straight through).

    Args:
        num_slots: slots a step, the largest count.
        always_convert: whether it converts in training (`unroll(..., key=key)`) too, where
            the counts otherwise pass as they are.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: `num_slots` is below 1.

    Examples:
        >>> _, spikes = unroll(SpikeCountToBinary(3), jnp.array([2.0, 0.0, 3.0]))
        >>> spikes
        Array([1., 1., 0., 0., 0., 0., 1., 1., 1.], dtype=float32)
        >>> unroll(TemporalBinSum(3), spikes)[1]
        Array([2., 0., 3.], dtype=float32)
    """

    def __call__(self, xs: Float[Array, "T *shape"]) -> Float[Array, "T*{self.num_slots} *shape"]:
        _checks.floating("the input of SpikeCountToBinary", xs)
        slots = jnp.arange(self.num_slots, dtype=xs.dtype).reshape(1, -1, *(1,) * (xs.ndim - 1))
        spikes = (slots < xs[:, None]).astype(xs.dtype)
        smooth = xs[:, None] / self.num_slots
        spikes += smooth - jax.lax.stop_gradient(smooth)
        return spikes.reshape(-1, *xs.shape[1:])


class TemporalBinSum(_Conversion):
    """Makes one step of each `num_slots` steps, their sum; see `SpikeCountToBinary`.

    Zeros are added at the end where the number of steps does not divide.

    Args:
        num_slots: steps that become one.
        always_convert: whether it converts in training (`unroll(..., key=key)`) too, where
            the input otherwise passes as it is.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: `num_slots` is below 1.
    """

    def __call__(self, xs: Shaped[Array, "T *shape"]) -> Shaped[Array, "S *shape"]:
        rest = -xs.shape[0] % self.num_slots
        xs = jnp.pad(xs, ((0, rest), *((0, 0),) * (xs.ndim - 1)))
        return jnp.sum(xs.reshape(-1, self.num_slots, *xs.shape[1:]), axis=1)
