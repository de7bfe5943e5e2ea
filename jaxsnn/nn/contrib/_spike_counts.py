"""Spike counts as binary spikes in several time slots, and back."""

import abc

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxsnn import _checks
from jaxsnn.nn._fields import Fields, Size
from jaxsnn.nn._layer import TrainsApart
from jaxsnn.nn._run import Run


class _Conversion(Fields, TrainsApart):
    """Abstract: changes the number of steps, in inference or always."""

    num_slots: Size
    always_convert: bool = False

    def forward(self, xs: Shaped[Array, "T *shape"], run: Run) -> Shaped[Array, "S *shape"]:
        run.require_whole_sequence(self)
        return xs if run.training and not self.always_convert else self._converted(xs)

    @abc.abstractmethod
    def _converted(self, xs: jax.Array) -> jax.Array:
        """The sequence with another number of steps."""


class SpikeCountToBinary(_Conversion):
    """Makes of each step `num_slots` steps, and of a count as many spikes in them.

        y[t num_slots + k] = 1 if k < x[t] else 0,  k = 0 .. num_slots - 1

    A network that is trained on counts can so be run on spikes: followed by a `Linear` or `Conv`
    without bias and a `TemporalBinSum`, it gives the same outputs and gradients as the counts.
    The gradient takes `y` for `x[t] / num_slots` (straight through).

    Args:
        num_slots: slots per step, the largest count.
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

    def _converted(self, xs: Float[Array, "T *shape"]) -> Float[Array, "T*{self.num_slots} *shape"]:
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

    def _converted(self, xs: Shaped[Array, "T *shape"]) -> Shaped[Array, "S *shape"]:
        rest = -xs.shape[0] % self.num_slots
        xs = jnp.pad(xs, ((0, rest), *((0, 0),) * (xs.ndim - 1)))
        return jnp.sum(xs.reshape(-1, self.num_slots, *xs.shape[1:]), axis=1)
