"""`lax.conv_general_dilated` with a derivative that a CPU computes fast inside loops.

XLA has fast convolutions for a CPU, but takes them only where the axes are in one order: input and
output `[N, *space, C]`, kernel `[*space, in, out]`. It sorts the axes of other convolutions at the
top level of a program alone, and not in the body of a loop, where the derivatives that JAX makes of
a convolution, whose axes are in other orders, run 20 to 100 times slower. Here the tangent is
written such that its transpose, which is the backward pass, has the axes in that order.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from jaxsnn._by_platform import faster_on_cpu


def conv_general_dilated(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: Any = None,
) -> jax.Array:
    """`lax.conv_general_dilated`, the same numbers; the arguments are the same, too.

    Its first derivatives with channels last are fast in loops on a CPU. In a program that is
    lowered for another platform, and on a mesh with explicit axes, they are those of
    `lax.conv_general_dilated`.
    """
    axes = lhs.ndim
    numbers = jax.lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    settings = {
        "window_strides": tuple(window_strides),
        "padding": padding if isinstance(padding, str) else tuple(map(tuple, padding)),
        "lhs_dilation": None if lhs_dilation is None else tuple(lhs_dilation),
        "rhs_dilation": None if rhs_dilation is None else tuple(rhs_dilation),
        "precision": tuple(precision) if isinstance(precision, list) else precision,
        "preferred_element_type": preferred_element_type,
    }
    in_types = out_sharding is not None or any(jax.typeof(lhs).sharding.spec)
    if numbers != _channels_last(axes) or batch_group_count != 1 or in_types:
        return jax.lax.conv_general_dilated(
            lhs,
            rhs,
            **settings,
            dimension_numbers=numbers,
            feature_group_count=feature_group_count,
            batch_group_count=batch_group_count,
            out_sharding=out_sharding,
        )
    return _channels_last_convolution(axes, feature_group_count, **settings)(lhs, rhs)


def _channels_last(axes: int) -> jax.lax.ConvDimensionNumbers:
    space = tuple(range(axes - 2))
    image = (0, axes - 1, *(axis + 1 for axis in space))
    return jax.lax.ConvDimensionNumbers(image, (axes - 1, axes - 2, *space), image)


@functools.cache  # one function per setting, so that what is made of it is traced once
def _channels_last_convolution(axes: int, groups: int, **settings: Any) -> Callable[..., jax.Array]:
    image, kernel_spec, _ = numbers = _channels_last(axes)
    space = image[2:]

    def plain(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(
            x, kernel, **settings, dimension_numbers=numbers, feature_group_count=groups
        )

    def of_input(kernel: jax.Array, dx: jax.Array) -> jax.Array:
        out, inner, *sides = kernel_spec
        return jax.lax.conv_general_dilated(
            dx,
            jnp.swapaxes(kernel, -1, -2),  # [*space, out, in]
            **settings,
            dimension_numbers=jax.lax.ConvDimensionNumbers(image, (inner, out, *sides), image),
            feature_group_count=groups,
        )

    def of_kernel(x: jax.Array, dkernel: jax.Array) -> jax.Array:
        # Groups of channels are moved to the batch, as JAX's transpose moves them back.
        x = x.reshape(*x.shape[:-1], groups, -1)
        x = jnp.transpose(x, (axes, *space, axes - 1, 0))  # [in, *space, groups, N]
        y = jax.lax.conv_general_dilated(
            x.reshape(*x.shape[:-2], -1),
            jnp.moveaxis(dkernel, -2, 0),  # [in, *space, out]
            **settings,
            dimension_numbers=jax.lax.ConvDimensionNumbers(
                (axes - 1, 0, *space),
                (axes - 1, 0, *space),
                (axes - 2, axes - 1, *range(axes - 2)),
            ),
            batch_group_count=groups,
        )
        return jnp.moveaxis(y, -2, 0)  # [*space, N, out]

    def by_input(kernel: jax.Array, dx: jax.Array) -> jax.Array:
        return plain(dx, kernel)

    # With groups the order of the axes does not help the gradient of the input.
    along_input = by_input if groups > 1 else faster_on_cpu(of_input, by_input)
    along_kernel = faster_on_cpu(of_kernel, plain)

    convolution = jax.custom_jvp(plain)

    def jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
        x, kernel = primals
        y, dy = convolution(x, kernel), None
        if not isinstance(tangents[0], SymbolicZero):
            dy = along_input(kernel, tangents[0])
        if not isinstance(tangents[1], SymbolicZero):
            by_kernel = along_kernel(x, tangents[1])
            dy = by_kernel if dy is None else dy + by_kernel
        return y, jnp.zeros_like(y) if dy is None else dy

    convolution.defjvp(jvp, symbolic_zeros=True)
    return convolution
