"""Which weight joins which two units, and how much its change depends on the weight itself.

A rule pairs what is before a weight with what is behind it. For a layer that is linear in its
weights, `post = synapses(pre, weight)`, the sum of `pre * post` over all pairs that a weight joins
is the transpose of that map, which JAX derives:

    pairs(pre, post) = sum of pre[i] post[o] over the (i, o) that share the weight

For a matrix that is the outer product, for a convolution the sum over all positions, and any
other linear layer is covered in the same way.

A rule's `f_pre` and `f_post` are functions from a weight to a factor of the same shape. A function
of a module or a frozen dataclass compiles once; a new lambda compiles again.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsnn import _checks
from jaxsnn._convolution import conv_general_dilated
from jaxsnn._layout import is_shared_out

Synapses = Callable[[jax.Array, jax.Array], jax.Array]


def dense(pre: Float[Array, "B I"], weight: Float[Array, "I O"]) -> Float[Array, "B O"]:
    """The synapses of `Linear`: `pre` `[B, in]` times `weight` `[in, out]`."""
    return jnp.matmul(pre, weight)


@dataclasses.dataclass(frozen=True)
class Convolution:
    """The synapses of `Conv`: channels last, kernel `[..., in, out]`, e.g. `[kH, kW, in, out]`.

    Args:
        strides: as those of the layer, one number or one an axis.
        padding: as that of the layer: one number for all sides, `"SAME"`, `"VALID"`, or a number
            or a pair for each axis.
    """

    strides: int | Sequence[int] = 1
    padding: int | str | Sequence[int | tuple[int, int]] = "SAME"

    def __post_init__(self) -> None:
        # As tuples, so that two with equal settings are one and the same to jax.jit.
        object.__setattr__(self, "strides", _fixed(self.strides))
        object.__setattr__(self, "padding", _fixed(self.padding))

    def __call__(
        self, pre: Float[Array, "B *space I"], weight: Float[Array, "*kernel I O"]
    ) -> Float[Array, "B *out O"]:
        """`pre` `[B, ..., in]` through the convolution."""
        axes = weight.ndim - 2
        space = "DHW"[-axes:]
        sides: Any = (self.padding,) * axes if isinstance(self.padding, int) else self.padding
        if not isinstance(sides, str):
            sides = [(side, side) if isinstance(side, int) else side for side in sides]
        return conv_general_dilated(
            pre,
            weight,
            (self.strides,) * axes if isinstance(self.strides, int) else self.strides,
            sides,
            dimension_numbers=(f"N{space}C", f"{space}IO", f"N{space}C"),
        )


def _fixed(value: Any) -> Any:
    return value if isinstance(value, int | str) else tuple(map(_fixed, value))


def pairs(
    synapses: Synapses, weight: jax.Array, pre: jax.Array, post: jax.Array, *, each: bool = False
) -> jax.Array:
    """Products of `pre` and `post` for each weight, summed over leading axes.

    Args:
        synapses: the linear map.
        weight: of which the shape is used; a unit has `weight.ndim - 1` axes (features of a dense
            layer, space and channels of a convolution), what is before them is batch.
        pre: `[..., *units before]`.
        post: `[..., *units behind]`, in the dtype of `pre`.
        each: keep the batch axes instead of summing over them.

    Returns:
        `[*weight.shape]`, or `[..., *weight.shape]` if `each`.
    """
    axes = weight.ndim - 1
    batch = pre.shape[: pre.ndim - axes]
    if pre.ndim < axes or post.shape[: post.ndim - axes] != batch:
        raise ValueError(
            f"pre and post must have the same batch axes before {axes} axes of units, for a weight "
            f"{list(weight.shape)}, got {list(pre.shape)} and {list(post.shape)}"
        )
    if len(batch) > 1 and not each and is_shared_out(pre):  # [T, N] keeps a share of N as [N T]
        pre, post = (jnp.moveaxis(spikes, 0, len(batch) - 1) for spikes in (pre, post))
    pre = pre.reshape(-1, *pre.shape[len(batch) :])
    post = post.reshape(-1, *post.shape[len(batch) :])
    like = jax.ShapeDtypeStruct(weight.shape, pre.dtype)
    behind = jax.eval_shape(synapses, pre, like).shape
    if behind != post.shape:
        raise ValueError(
            f"post must have units of shape {list(behind[1:])} for pre {list(pre.shape[1:])} and "
            f"weight {list(weight.shape)}, but post has {list(post.shape[1:])}"
        )

    def transpose(pre: jax.Array, post: jax.Array) -> jax.Array:
        (products,) = jax.linear_transpose(lambda w: synapses(pre, w), like)(post)
        return products

    if not each:
        return transpose(pre, post)
    products = jax.vmap(transpose)(pre[:, None], post[:, None])
    return products.reshape(*batch, *weight.shape)


def proportional(w: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`f(w) = w`, SpikingJelly's default: for weights above 0; it turns around below."""
    return w


def additive(w: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`f(w) = 1`: the change does not depend on the weight."""
    return jnp.ones_like(w)


@dataclasses.dataclass(frozen=True)
class LowerBound:
    """`f(w) = (w - w_min)^mu`, as `f_pre`: depression fades towards the lower bound.

    A weight beyond the bound counts as one that is on it. With `mu = 1` and its counterpart
    `UpperBound` these are soft bounds, with `mu = 0` there are none (Gütig, Aharonov, Rotter &
    Sompolinsky 2003, "Learning input correlations through nonlinear temporally asymmetric Hebbian
    plasticity").

    Args:
        w_min: the lower bound.
        mu: exponent, at least 0.

    Raises:
        TypeError: an argument is not a number.
        ValueError: `mu` is below 0, or a number is not finite.
    """

    w_min: float = 0.0
    mu: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "w_min", _checks.real("w_min", self.w_min))
        object.__setattr__(self, "mu", _checks.non_negative("mu", self.mu))

    def __call__(self, w: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The factor for each weight."""
        return _room(w - self.w_min, self.mu)


@dataclasses.dataclass(frozen=True)
class UpperBound:
    """`f(w) = (w_max - w)^mu`, as `f_post`: potentiation fades towards the upper bound.

    A weight beyond the bound counts as one that is on it; see `LowerBound`.

    Args:
        w_max: the upper bound.
        mu: exponent, at least 0.

    Raises:
        TypeError: an argument is not a number.
        ValueError: `mu` is below 0, or a number is not finite.
    """

    w_max: float = 1.0
    mu: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "w_max", _checks.real("w_max", self.w_max))
        object.__setattr__(self, "mu", _checks.non_negative("mu", self.mu))

    def __call__(self, w: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The factor for each weight."""
        return _room(self.w_max - w, self.mu)


def _room(distance: jax.Array, mu: float) -> jax.Array:
    """`max(distance, 0)^mu`; from the bound on its gradient is 0, not NaN."""
    inside = distance > 0
    return jnp.where(inside, jnp.where(inside, distance, 1) ** mu, 0.0**mu)
