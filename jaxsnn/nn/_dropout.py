"""Dropout that drops the same elements at every step of a sequence."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Shaped

from jaxsnn import _checks
from jaxsnn._layout import follow
from jaxsnn.nn._modal_layer import ModalLayer
from jaxsnn.nn._mode import NOTHING, Mode, Seen


class Dropout(ModalLayer):
    """Dropout with one mask per sequence, as spiking networks need it.

        y[t] = x[t] m / (1 - rate),  m = 0 with probability rate, else 1

    It drops when training (`unroll(..., key=key)`), the same elements at every step and with
    the same key, so that a sequence in stretches drops what the whole one drops. Otherwise it
    changes nothing.

    Args:
        rate: probability with which an element is dropped, in `[0, 1)`.

    Raises:
        TypeError: `rate` is not a number.
        ValueError: `rate` is out of range.

    Source: Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from
    overfitting"; one mask per sequence: Lee et al. 2020, "Enabling spike-based backpropagation
    for training deep neural network architectures".
    """

    printed = ("rate",)

    def __init__(self, rate: float = 0.5) -> None:
        self.rate = _checks.probability("rate", rate, below_one=True)

    def __call__(self, x: Shaped[Array | np.ndarray, "*shape"]) -> Shaped[Array, "*shape"]:
        """`x` as it is: outside training nothing is dropped."""
        return jnp.asarray(x)

    def _mask_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape

    def _kept(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Which elements of an input of one step stay."""
        return jax.random.bernoulli(key, 1 - self.rate, self._mask_shape(shape))

    def _one_step(self, x: jax.Array, mode: Mode) -> tuple[jax.Array, Seen]:
        y, seen = self._all_steps(x[None], mode)
        return y[0], seen

    def _all_steps(self, xs: jax.Array, mode: Mode) -> tuple[jax.Array, Seen]:
        if not mode.training:
            return xs, NOTHING
        _checks.floating(f"the input of {type(self).__name__}", xs)
        kept = follow(self._kept(mode.layer_key(), xs.shape[1:])[None], xs)
        return jnp.where(kept, xs / (1 - self.rate), jnp.zeros((), xs.dtype)), NOTHING


class Dropout2d(Dropout):
    """Dropout of whole channels of images `[N, H, W, C]`; see `Dropout`.

    Args:
        rate: probability with which a channel is dropped, in `[0, 1)`.

    Raises:
        TypeError: `rate` is not a number.
        ValueError: `rate` is out of range; when run, if the input of a step has not four axes.
    """

    def __init__(self, rate: float = 0.2) -> None:
        super().__init__(rate)

    def _mask_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) != 4:
            raise ValueError(
                f"Dropout2d needs images [N, H, W, C] at each step, got {list(shape)}; use Dropout"
            )
        return (shape[0], 1, 1, shape[3])
