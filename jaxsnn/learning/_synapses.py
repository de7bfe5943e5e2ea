"""Which weight joins which two units: read off from how the layer uses its weights.

A rule pairs what is before a weight with what is behind it. For a layer that is linear in its
weights, `post = synapses(pre, weight)`, the sum of `pre * post` over all pairs that a weight joins
is the transpose of that map, which JAX derives:

    pairs(pre, post) = sum of pre[i] post[o] over the (i, o) that share the weight

For a matrix that is the outer product, for a convolution the sum over all positions, and any
other linear layer is covered in the same way.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

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
        if not isinstance(self.strides, int):
            object.__setattr__(self, "strides", tuple(self.strides))
        if not isinstance(self.padding, int | str):
            sides = (side if isinstance(side, int) else tuple(side) for side in self.padding)
            object.__setattr__(self, "padding", tuple(sides))

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
            f"pre and post must have the same batch axes before {axes} axes of units (one less "
            f"than the weight {list(weight.shape)} has), got {list(pre.shape)} and "
            f"{list(post.shape)}"
        )
    if len(batch) > 1 and not each and is_shared_out(pre):  # [T, N] keeps a share of N as [N T]
        pre, post = (jnp.moveaxis(spikes, 0, len(batch) - 1) for spikes in (pre, post))
    pre = pre.reshape(-1, *pre.shape[len(batch) :])
    post = post.reshape(-1, *post.shape[len(batch) :])
    like = jax.ShapeDtypeStruct(weight.shape, pre.dtype)
    behind = jax.eval_shape(synapses, pre, like).shape
    if behind != post.shape:
        raise ValueError(
            f"with a weight of shape {list(weight.shape)} units before it of shape "
            f"{list(pre.shape[1:])} lead to units of shape {list(behind[1:])}, but post has "
            f"{list(post.shape[1:])}"
        )

    def transpose(pre: jax.Array, post: jax.Array) -> jax.Array:
        (products,) = jax.linear_transpose(lambda w: synapses(pre, w), like)(post)
        return products

    if not each:
        return transpose(pre, post)
    products = jax.vmap(transpose)(pre[:, None], post[:, None])
    return products.reshape(*batch, *weight.shape)
