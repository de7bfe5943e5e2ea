"""Dropout that drops the same elements at every step of a sequence."""

import functools
from typing import Annotated

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped

from jaxsnn import _checks
from jaxsnn._layout import follow
from jaxsnn.nn._fields import Fields
from jaxsnn.nn._layer import TrainsApart
from jaxsnn.nn._run import Run

Rate = Annotated[float, functools.partial(_checks.probability, below_one=True)]


class Dropout(Fields, TrainsApart):
    """Dropout with one mask per sequence, as spiking networks need it.

        y[t] = x[t] m / (1 - rate),  m = 0 with probability rate, else 1

    It drops in training (`unroll(..., key=key)`), the same elements at every step and with the
    same key, so that a sequence in stretches drops the same elements as the whole one. In
    inference it changes nothing.

    Args:
        rate: probability with which an element is dropped, in `[0, 1)`.

    Raises:
        TypeError: `rate` is not a number.
        ValueError: `rate` is out of range.

    Source: Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from
    overfitting"; one mask per sequence: Lee et al. 2020, "Enabling spike-based backpropagation
    for training deep neural network architectures".
    """

    rate: Rate = 0.5

    def forward(self, x: Shaped[Array, "*shape"], run: Run) -> Shaped[Array, "*shape"]:
        if not run.training:
            return x
        _checks.floating(f"the input of {type(self).__name__}", x)
        xs = x if run.steps else x[None]
        kept = run.draw(self._kept, self._mask_shape(xs.shape[1:]))
        ys = jnp.where(follow(kept[None], xs), xs / (1 - self.rate), jnp.zeros((), xs.dtype))
        return ys if run.steps else ys[0]

    def _mask_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape

    def _kept(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """The elements of an input of one step that stay."""
        return jax.random.bernoulli(key, 1 - self.rate, shape)


class Dropout2d(Dropout):
    """Dropout of whole channels of images `[N, H, W, C]`; see `Dropout`.

    Args:
        rate: probability with which a channel is dropped, in `[0, 1)`.

    Raises:
        TypeError: `rate` is not a number.
        ValueError: `rate` is out of range; when run, if the input of a step has not four axes.
    """

    rate: Rate = 0.2

    def _mask_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) != 4:
            raise ValueError(
                f"Dropout2d needs images [N, H, W, C] at each step, got {list(shape)}; use Dropout"
            )
        return (shape[0], 1, 1, shape[3])
