"""Convolution and max-pooling: JAX's numbers, by operations that a CPU runs fast in a loop."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick
from flax import nnx

from jaxsnn import nn
from jaxsnn._convolution import conv_general_dilated

SPACE = "DHW"
# shape of the input, of the kernel, then the arguments of lax.conv_general_dilated
SETTINGS = {
    "2-D, same": ((2, 5, 4, 2), (3, 2, 2, 3), (1, 1), "SAME", {}),
    "strides, kernel dilation, groups": (
        *((2, 7, 5, 4), (3, 2, 2, 6), (2, 1), "VALID"),
        {"rhs_dilation": (1, 2), "feature_group_count": 2},
    ),
    "input dilation, uneven padding, depthwise": (
        *((2, 7, 5, 4), (3, 3, 1, 8), (2, 3), ((1, 2), (0, 3))),
        {"lhs_dilation": (2, 1), "rhs_dilation": (1, 2), "feature_group_count": 4},
    ),
    "1-D": ((2, 7, 2), (3, 2, 3), (2,), "SAME", {"rhs_dilation": (2,)}),
    "3-D, groups": (
        (1, 4, 3, 2, 4),
        (2, 2, 1, 2, 2),
        (2, 1, 1),
        "SAME",
        {"feature_group_count": 2},
    ),
    "negative padding": ((2, 4, 4, 1), (2, 2, 1, 2), (1, 1), ((-1, 0), (0, 1)), {}),
}


def convolution(function, axes, strides, padding, settings):
    space = SPACE[-axes:]
    numbers = f"N{space}C", f"{space}IO", f"N{space}C"
    return lambda x, kernel: function(
        x, kernel, strides, padding, dimension_numbers=numbers, **settings
    )


def derivatives(f, x, kernel, g):
    """Output, both gradients, a tangent, and gradients of a function of the gradients."""

    def gradients(x, kernel):
        return jax.vjp(f, x, kernel)[1](g)

    def squares(x, kernel):
        return sum(jnp.sum(jnp.square(part)) for part in gradients(x, kernel))

    tangent = jax.jvp(f, (x, kernel), (x / 2, kernel / 3))[1]
    return f(x, kernel), gradients(x, kernel), tangent, jax.grad(squares, (0, 1))(x, kernel)


def test_numbers_of_lax_in_every_setting():
    """In float64, forward, both gradients, forward mode, gradients of gradients."""
    random = np.random.default_rng(0)
    cases = []
    for x, kernel, *arguments in SETTINGS.values():
        arrays = random.normal(size=x), random.normal(size=kernel)
        plain = convolution(jax.lax.conv_general_dilated, len(x) - 2, *arguments)
        ours = convolution(conv_general_dilated, len(x) - 2, *arguments)
        with jax.enable_x64(True):
            out = jax.eval_shape(plain, *arrays).shape
        cases.append(((ours, plain), (*arrays, random.normal(size=out))))

    def run(operands):
        return [
            [derivatives(f, *arrays) for f in pair]
            for (pair, _), arrays in zip(cases, operands, strict=True)
        ]

    with jax.enable_x64(True):
        found = quick.run_once(run, [arrays for _, arrays in cases])
    for name, (ours, plain) in zip(SETTINGS, found, strict=True):
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
            assert a.dtype == b.dtype == np.float64
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9, err_msg=name)


def test_half_precision_and_a_map_over_kernels():
    """bfloat16 and float16; `vmap` over both operands, as for several seeds together."""
    f, plain = (
        convolution(function, 2, (1, 1), "SAME", {})
        for function in (conv_general_dilated, jax.lax.conv_general_dilated)
    )
    x, kernel = quick.uniform((3, 2, 4, 4, 2), -1), quick.uniform((3, 3, 3, 2, 3), -1)

    def grads(f, x, kernel):
        return jax.grad(lambda x, kernel: jnp.sum(jnp.square(f(x, kernel))), (0, 1))(x, kernel)

    def run(x, kernel):
        found = []
        for function in (f, plain):
            halves = [
                grads(function, x[0].astype(dtype), kernel[0].astype(dtype))
                for dtype in (jnp.bfloat16, jnp.float16)
            ]
            found.append((jax.vmap(functools.partial(grads, function))(x, kernel), halves))
        return found

    ours, theirs = quick.run_once(run, x, kernel)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.dtype == b.dtype
        tolerance = 1e-4 if a.dtype == np.float32 else 0.1
        a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def convolutions(text):
    return re.findall(r"dim_numbers = (\S+ \S+ \S+ \S+\]x\S.*?->\[.*?\])", text)


def lowered(layer, xs, platform):
    def loss(layer, xs):
        return jnp.sum(jnp.square(nn.unroll(layer, xs)[1]))

    traced = jax.jit(jax.grad(loss, (0, 1), allow_int=True)).trace(layer, xs)
    return traced.lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize("kind", [nn.Conv, nn.contrib.WSConv])
def test_order_of_axes_by_platform(kind):
    """On a CPU all three have the order of XLA's fast ones; elsewhere they are those of JAX."""
    xs = jnp.ones((2, 1, 5, 5, 2))
    layer = kind(2, 3, (3, 3), rngs=nnx.Rngs(0))
    fast = "[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]"
    assert convolutions(lowered(layer, xs, "cpu")) == [fast] * 3
    found = convolutions(lowered(layer, xs, "cuda"))
    layer.conv_general_dilated = jax.lax.conv_general_dilated
    assert found == convolutions(lowered(layer, xs, "cuda"))
    assert found != [fast] * 3


def test_backward_pass_keeps_the_operands_alone():
    f = convolution(conv_general_dilated, 2, (1, 1), "SAME", {})
    x, kernel = jnp.ones((2, 5, 5, 3)), jnp.ones((3, 3, 3, 4))
    kept = jax.tree.leaves(jax.eval_shape(lambda *args: jax.vjp(f, *args)[1], x, kernel))
    assert sorted(a.shape for a in kept) == sorted([x.shape, kernel.shape])


def test_max_pooling():
    """Gradients of XLA's, also where several are the largest; tangents are their transposes."""
    cases = [
        (nn.MaxPool((2, 2)), (2, 5, 4, 2)),
        (nn.MaxPool((3, 2), (2, 1), padding=1), (2, 6, 4, 2)),
        (nn.MaxPool((3,), padding="SAME"), (2, 7, 2)),
    ]
    random = np.random.default_rng(0)
    xs = [random.integers(-2, 3, shape).astype("float32") for _, shape in cases]

    def plain(pool, x):
        return nnx.pool(x, -jnp.inf, jax.lax.max, pool.window_shape, pool.strides, pool.padding)

    def run(xs):
        found = []
        for (pool, _), x in zip(cases, xs, strict=True):
            y, back = jax.vjp(pool, x)
            expected, plain_back = jax.vjp(functools.partial(plain, pool), x)
            g = jnp.arange(float(y.size)).reshape(y.shape)
            dx = jnp.sin(jnp.arange(float(x.size))).reshape(x.shape)
            tangent = jax.jvp(pool, (x,), (dx,))[1]
            sums = jnp.sum(tangent * g), jnp.sum(dx * back(g)[0])
            found.append(((y, expected), (back(g), plain_back(g)), sums))
        return found

    for pairs in quick.run_once(run, xs):
        for ours, theirs in pairs:
            np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    text = lowered(nn.MaxPool((2, 2)), jnp.ones((2, 1, 4, 4, 1)), "cpu")
    assert "select_and_scatter" not in text
    assert "select_and_scatter" in lowered(nn.MaxPool((2, 2)), jnp.ones((2, 1, 4, 4, 1)), "cuda")
