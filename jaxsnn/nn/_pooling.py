"""Fewer numbers a step: pooling over windows, voting of groups; and `Flatten`."""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, final

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Shaped

from jaxsnn import _checks
from jaxsnn._by_platform import faster_on_cpu
from jaxsnn._repr import Printable
from jaxsnn.nn._fields import Fields, Size


class Pool(Printable, nnx.Module):
    """Abstract: what both poolings share."""

    printed: ClassVar[tuple[str, ...]] = ("window_shape", "strides", "padding")

    def __init__(
        self,
        window_shape: Sequence[int],
        strides: int | Sequence[int] | None = None,
        *,
        padding: int | str | Sequence[tuple[int, int]] = 0,
    ) -> None:
        if not isinstance(window_shape, Sequence):
            raise TypeError(
                f"window_shape must have one size for each axis of the window, e.g. (2, 2) for "
                f"images, got {window_shape!r}"
            )
        self.window_shape = tuple(_checks.size("window_shape", side) for side in window_shape)
        axes = len(self.window_shape)
        if strides is None:
            strides = self.window_shape
        each = strides if isinstance(strides, Sequence) else (strides,) * axes
        self.strides = tuple(_checks.size("strides", stride) for stride in each)
        if len(self.strides) != axes:
            raise ValueError(
                f"strides must be as many as the sizes of the window {self.window_shape}, got "
                f"{self.strides}"
            )
        if not isinstance(padding, str | Sequence):
            padding = ((_checks.count("padding", padding),) * 2,) * axes
        self.padding = padding if isinstance(padding, str) else tuple(map(tuple, padding))

    def _pool(self, x: Array | np.ndarray, pool: Callable[..., Array]) -> Array:
        """Reduce each window of `x` `[..., *positions, channels]` by `pool`."""
        name = type(self).__name__
        x = jnp.asarray(x)
        _checks.floating(f"the input of {name}", x)
        axes = self._feature_axes
        if x.ndim < axes:
            raise ValueError(
                f"{name}(window_shape={self.window_shape}) needs inputs of at least {axes} axes "
                f"with channels last, got {list(x.shape)}"
            )
        rows = x.reshape(-1, *x.shape[x.ndim - axes :])  # Flax pads only where one axis is batch
        y = pool(rows, self.window_shape, self.strides, self.padding)
        return y.reshape(*x.shape[: x.ndim - axes], *y.shape[1:])

    @property
    def _feature_axes(self) -> int:
        return len(self.window_shape) + 1


class MaxPool(Pool):
    """The largest of each window, channels last `[N, H, W, C]`.

    Where several are the largest, as among spikes, the first of them gets the gradient.

    Args:
        window_shape: sizes of the window, one for each axis, e.g. `(2, 2)` for images.
        strides: from one window to the next, e.g. `2` or `(2, 1)`; None is the shape of the
            window, as in torch (Flax's default is 1).
        padding: on every side, e.g. `1`, or `"SAME"`, `"VALID"`, or a pair for each axis. What
            is padded is never the largest.

    Raises:
        TypeError: a size is not an integer, or `window_shape` is no tuple.
        ValueError: a size is out of range; when called on an input that does not fit.
    """

    @final
    def __call__(self, x: Float[Array | np.ndarray, "*N C"]) -> Float[Array, "*M C"]:
        return self._pool(x, lambda rows, *settings: _max_pool(*settings)(rows))


class AvgPool(Pool):
    """The mean of each window, channels last `[N, H, W, C]`.

    Args:
        window_shape: sizes of the window, one for each axis, e.g. `(2, 2)` for images.
        strides: from one window to the next, e.g. `2` or `(2, 1)`; None is the shape of the
            window, as in torch (Flax's default is 1).
        padding: on every side, e.g. `1`, or `"SAME"`, `"VALID"`, or a pair for each axis. What
            is padded counts as 0.

    Raises:
        TypeError: a size is not an integer, or `window_shape` is no tuple.
        ValueError: a size is out of range; when called on an input that does not fit.
    """

    @final
    def __call__(self, x: Float[Array | np.ndarray, "*N C"]) -> Float[Array, "*M C"]:
        return self._sums(x) / math.prod(self.window_shape)

    def _sums(self, x: Array | np.ndarray) -> Array:
        """The sum of each window."""
        return self._pool(x, lambda rows, *settings: nnx.pool(rows, 0.0, jax.lax.add, *settings))


@functools.cache  # one function per setting, so that what is made of it is traced once
def _max_pool(
    window: tuple[int, ...], strides: tuple[int, ...], padding: Any
) -> Callable[[Array], Array]:
    """The largest of each window of `[N, *positions, channels]`.

    On a CPU its derivative compares each place in the window with the largest: XLA's
    `select-and-scatter` is 1.3 to 2 times slower in loops there, and 2 to 10 times outside.
    """

    def plain(x: Array) -> Array:
        return nnx.pool(x, -jnp.inf, jax.lax.max, window, strides, padding)

    def plain_tangent(x: Array, dx: Array) -> Array:
        return jax.jvp(plain, (x,), (dx,))[1]

    def at_first_largest(x: Array, dx: Array) -> Array:
        y, sides = plain(x), padding
        if isinstance(sides, str):
            sides = jax.lax.padtype_to_pads(x.shape[1:-1], window, strides, sides)
        padded = [(0, 0), *((int(low), int(high)) for low, high in sides), (0, 0)]
        inside = jnp.pad(jnp.ones((1, *x.shape[1:-1], 1), bool), padded)
        x, dx = jnp.pad(x, padded), jnp.pad(dx, padded)
        found, dy = jnp.zeros(y.shape, bool), jnp.zeros(y.shape, dx.dtype)
        for place in itertools.product(*map(range, window)):
            here = tuple(
                slice(start, start + stride * (size - 1) + 1, stride)
                for start, stride, size in zip(place, strides, y.shape[1:-1], strict=True)
            )
            here = (slice(None), *here, slice(None))
            largest = ~found & ~(x[here] < y) & inside[here]
            dy += jnp.where(largest, dx[here], 0)
            found |= largest
        return dy

    tangent = faster_on_cpu(at_first_largest, plain_tangent)
    pool = jax.custom_jvp(plain)
    pool.defjvps(lambda dx, y, x: tangent(x, dx))
    return pool


class Flatten(Printable, nnx.Module):
    """Makes one axis of all but the batch: `[N, ...]` to `[N, features]` at each step.

    With channels last the order is (row, column, channel), torch's is (channel, row, column): the
    weights of a `Linear` after it that come from torch have to be sorted accordingly.
    """

    def __call__(self, x: Shaped[Array | np.ndarray, "N *shape"]) -> Shaped[Array, "N features"]:
        x = jnp.asarray(x)
        if x.ndim < 2:
            raise ValueError(
                f"Flatten needs inputs with a batch axis, [N, ...] a step, got {list(x.shape)}"
            )
        return x.reshape(x.shape[0], -1)


class VotingLayer(Printable, Fields):
    """The mean of each group of neighbours on the last axis, so that several neurons vote for a
    class: `[..., features]` to `[..., features // voting_size]`. A rest is left out.

    Args:
        voting_size: how many vote for the same.

    Raises:
        TypeError: `voting_size` is not an integer.
        ValueError: `voting_size` is below 1; when called, if there are fewer features.

    Source: Fang et al. 2021, "Incorporating learnable membrane time constant to enhance learning
    of spiking neural networks".
    """

    voting_size: Size = 10

    def __call__(
        self, x: Float[Array | np.ndarray, "*N features"]
    ) -> Float[Array, "*N features//{self.voting_size}"]:
        x = jnp.asarray(x)
        groups = x.shape[-1] // self.voting_size if x.ndim else 0
        if groups == 0:
            raise ValueError(
                f"VotingLayer(voting_size={self.voting_size}) needs at least as many features on "
                f"the last axis, got an input of shape {list(x.shape)}"
            )
        x = x[..., : groups * self.voting_size]
        return x.reshape(*x.shape[:-1], groups, self.voting_size).mean(-1)
