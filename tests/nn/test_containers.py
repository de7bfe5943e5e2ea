"""Recurrent containers against SpikingJelly, the tutorial's example, and what they refuse."""

import functools
import operator

import cells
import golden_arrays
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick
from flax import nnx

from jaxsnn import nn, surrogate

ELEMENTWISE = golden_arrays.Golden("containers_elementwise")
LINEAR = golden_arrays.Golden("containers_linear")
TUTORIAL = [case for case in ELEMENTWISE.cases if case.startswith("tutorial")]


def half_y_minus_x(y, x):
    return 0.5 * y - x


def x_times_one_minus_y(y, x):
    return x * (1 - y)


FUNCTIONS = {
    "lambda y, x: x + y": operator.add,
    "lambda y, x: 0.5 * y - x": half_y_minus_x,
    "lambda y, x: x * (1.0 - y)": x_times_one_minus_y,
}


def node(meta):
    name, settings = meta["surrogate"]
    kwargs = {k: v for k, v in meta.items() if k not in ("cls", "surrogate")}
    kwargs["surrogate_function"] = getattr(surrogate, name)(**settings)
    return getattr(cells.nn, meta["cls"])(**kwargs)


def everything(net, x, w_out, w_v, w_y):
    """Loss, gradients, and the outputs of `unroll` and of stepping by hand.

    `sub_carry` is `v` for a bare neuron, `((), v)` for Sequential(Linear, neuron).
    """

    def loss(net, x):
        (sub_carry, y), out = nn.unroll(net, x)
        start = net.initialize_carry(x.shape[1:], dtype=x.dtype)
        _, (sub_carries, _), stepped = golden_arrays.scan_with_states(net, start, x)
        v, v_seq = (jax.tree.leaves(c)[0] for c in (sub_carry, sub_carries))
        value = jnp.sum(out * w_out) + jnp.sum(v * w_v) + (0 if w_y is None else jnp.sum(y * w_y))
        return value, (out, stepped, v_seq)

    return jax.value_and_grad(loss, (0, 1), has_aux=True)(net, x)


def check(golden, case, result, precision):
    (value, (out, stepped, v_seq)), (g_net, g_x) = result
    golden_arrays.assert_equal(out, golden(f"{case}/out", precision))
    golden_arrays.assert_equal(stepped, golden(f"{case}/out", precision))
    golden_arrays.assert_loss_close(value, golden(f"{case}/loss", precision), precision)
    golden_arrays.assert_close(v_seq, golden(f"{case}/v_seq", precision), precision, "v_seq")
    golden_arrays.assert_close(g_x, golden(f"{case}/g_x", precision), precision, "g_x")
    return g_net


@functools.cache
def elementwise_results(precision):
    """`everything` by case."""
    x, w_out, w_state = (ELEMENTWISE.input(name, precision) for name in ("x", "w_out", "w_state"))
    cases = {}
    for case, meta in ELEMENTWISE.cases.items():
        if case not in TUTORIAL:
            net = nn.ElementWiseRecurrentContainer(
                node(meta["sub_module"]), FUNCTIONS[meta["function"]]
            )
            cases[case] = (everything, net, x, w_out, w_state, w_state)
    return golden_arrays.all_at_once(cases)


@pytest.mark.parametrize("case", [c for c in ELEMENTWISE.cases if c not in TUTORIAL])
def test_elementwise_golden(case, precision):
    check(ELEMENTWISE, case, elementwise_results(precision)[case], precision)


def linear_container(case, precision):
    meta = LINEAR.cases[case]
    kinds = {"param_dtype": precision, "rngs": nnx.Rngs(0)}
    if meta["sub_module"].startswith("Sequential"):
        sub_module = nn.Sequential(
            nn.Linear(6, 4, **kinds), nn.LIFNode(tau=2.0, surrogate_function=surrogate.ATan())
        )
        if "ATan" not in meta["sub_module"]:
            sub_module = nn.Sequential(sub_module[0], nn.LIFNode(tau=2.0))
    else:
        soft = "v_reset=None" in meta["sub_module"]
        sub_module = nn.IFNode(
            v_reset=None if soft else 0.0,
            detach_reset="detach_reset=True" in meta["sub_module"],
            surrogate_function=surrogate.ATan(),
        )
    net = nn.LinearRecurrentContainer(
        sub_module, meta["in_features"], meta["out_features"], meta["bias"], **kinds
    )
    for name, linear in linears(net).items():
        linear.kernel[...] = LINEAR.input(f"{case}/p_{name}.weight", precision).T
        if LINEAR.has(f"{case}/p_{name}.bias"):
            linear.bias[...] = LINEAR.input(f"{case}/p_{name}.bias", precision)
        else:
            assert linear.bias is None
    return net


def linears(net):
    """The linear layers of a container under SpikingJelly's names."""
    found = {"rc": net.rc}
    if isinstance(net.sub_module, nn.Sequential):
        found["sub_module.0"] = net.sub_module[0]
    return found


@functools.cache
def linear_results(precision):
    """`everything` by case."""
    cases = {}
    for case in LINEAR.cases:
        x, w_out, w_state = (
            LINEAR.input(f"{case}/{name}", precision) for name in ("x", "w_out", "w_state")
        )
        net = linear_container(case, precision)
        cases[case] = (everything, net, x, w_out, w_state, None)
    return golden_arrays.all_at_once(cases)


@pytest.mark.parametrize("case", LINEAR.cases)
def test_linear_golden(case, precision):
    g_net = check(LINEAR, case, linear_results(precision)[case], precision)
    for name, g in linears(g_net).items():
        weight = LINEAR(f"{case}/g_p_{name}.weight", precision)
        golden_arrays.assert_close(g.kernel[...].T, weight, precision, name)
        if LINEAR.has(f"{case}/g_p_{name}.bias"):
            bias = LINEAR(f"{case}/g_p_{name}.bias", precision)
            golden_arrays.assert_close(g.bias[...], bias, precision, name)


@pytest.mark.parametrize("case", TUTORIAL)
def test_tutorial_example_fires_at_every_step(case):
    """One pulse of 1.5, then nothing: the fed-back spike keeps the neuron firing."""
    v_reset = ELEMENTWISE.cases[case]["sub_module"]["v_reset"]
    net = nn.ElementWiseRecurrentContainer(nn.IFNode(v_reset=v_reset), operator.add)
    x = jnp.zeros((8, 1)).at[0].set(1.5)
    golden_arrays.assert_equal(x, ELEMENTWISE.arrays[f"{case}/x"])
    carry = net.initialize_carry(x[0].shape)
    for t in range(8):
        carry, s = net(carry, x[t])
        assert s == 1
        np.testing.assert_allclose(carry[0], ELEMENTWISE.arrays[f"{case}/v_seq"][t])
    golden_arrays.assert_equal(nn.unroll(net, x)[1], np.ones((8, 1)))


def test_feedback_is_the_first_argument():
    net = nn.ElementWiseRecurrentContainer(nn.IFNode(v_threshold=0.1), half_y_minus_x)
    (_, y), out = nn.unroll(net, jnp.full((2, 1), -0.2))
    golden_arrays.assert_equal(out, [[1], [1]])
    golden_arrays.assert_equal(y, out[-1])


def test_feedback_only_is_the_feedback_half_alone():
    """`x + W y + b` is `[I, W] [x; y] + b`: values, states and gradients."""
    sizes = {"in_features": 3, "out_features": 3, "rngs": nnx.Rngs(0)}
    only = nn.LinearRecurrentContainer(nn.IFNode(v_threshold=0.5), feedback_only=True, **sizes)
    both = nn.LinearRecurrentContainer(nn.IFNode(v_threshold=0.5), **sizes)
    assert only.rc.kernel.shape == (3, 3)
    both.rc.kernel[...] = jnp.concatenate([jnp.eye(3), only.rc.kernel[...]])
    both.rc.bias[...] = only.rc.bias[...]
    xs = quick.uniform((9, 4, 3))

    def loss(net, xs):
        (v, y), ys = nn.unroll(net, xs)
        return jnp.sum(jnp.sin(ys)) + jnp.sum(v), (v, y, ys)

    (net_only, xs_only), found = jax.grad(loss, (0, 1), has_aux=True)(only, xs)
    (net_both, xs_both), expected = jax.grad(loss, (0, 1), has_aux=True)(both, xs)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(xs_only, xs_both, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(net_only.rc.bias[...], net_both.rc.bias[...], rtol=1e-4)
    np.testing.assert_allclose(
        net_only.rc.kernel[...], net_both.rc.kernel[...][3:], rtol=1e-4, atol=1e-5
    )
    _, s = only(only.initialize_carry(xs[0].shape), xs[0])
    np.testing.assert_array_equal(s, found[2][0])


def test_input_reaches_the_linear_container_first():
    net = nn.LinearRecurrentContainer(nn.IFNode(), 2, 2, bias=False, rngs=nnx.Rngs(0))
    net.rc.kernel[...] = jnp.array([[2.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 2.0]])
    _, out = nn.unroll(net, jnp.array([[1.0, 0.0]]))
    golden_arrays.assert_equal(out, [[1, 0]])  # kernel[0] belongs to x[0]; y is 0


def test_misfits_are_refused():
    rngs = nnx.Rngs(0)
    shrink = nn.Sequential(nn.Linear(4, 3, rngs=rngs), nn.IFNode())
    cases = [
        (nn.ElementWiseRecurrentContainer(shrink, operator.add), "shape that is fed back"),
        (nn.LinearRecurrentContainer(shrink, 4, 4, rngs=rngs), r"fed back, \(2, 4\), got \(2, 3\)"),
        (nn.LinearRecurrentContainer(nn.IFNode(), 5, 5, rngs=rngs), r"\[\.\.\., 5\], got \[2, 4\]"),
    ]
    for net, message in cases:
        with pytest.raises(ValueError, match=message):
            nn.unroll(net, jnp.zeros((3, 2, 4)))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: nn.ElementWiseRecurrentContainer(3, operator.add),
            TypeError,
            "sub_module must be callable, got 3",
        ),
        (
            lambda: nn.ElementWiseRecurrentContainer(nn.IFNode(), "add"),
            TypeError,
            "element_wise_function must be callable, got 'add'",
        ),
        (
            lambda: nn.LinearRecurrentContainer(nn.IFNode(), 0, 3, rngs=nnx.Rngs(0)),
            ValueError,
            "in_features must be at least 1, got 0",
        ),
        (
            lambda: nn.LinearRecurrentContainer(nn.IFNode(), 3, 2.5, rngs=nnx.Rngs(0)),
            TypeError,
            "out_features must be an integer, got 2.5",
        ),
        (
            lambda: nn.LinearRecurrentContainer(nn.IFNode(), 3, 3, bias=None, rngs=nnx.Rngs(0)),
            TypeError,
            "bias must be True or False",
        ),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()
