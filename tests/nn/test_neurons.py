"""Neurons against SpikingJelly: spikes, potentials, gradients; then their arguments."""

import functools

import golden_arrays
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsnn import nn, surrogate

FILES = {
    name: golden_arrays.Golden(name)
    for name in (
        "neuron_if",
        "neuron_if_all_surrogates",
        "neuron_lif",
        "neuron_plif",
        "exact_ties",
    )
}
CASES = [
    (file, case)
    for file, golden in FILES.items()
    for case, meta in golden.cases.items()
    if meta["cls"] != "TernaryIFNode"
]


def make(meta, precision):
    name, settings = meta["surrogate"]
    kwargs = meta["kwargs"] | {"surrogate_function": getattr(surrogate, name)(**settings)}
    if meta["cls"] == "ParametricLIFNode":
        kwargs["param_dtype"] = precision
    return getattr(nn, meta["cls"])(**kwargs)


def everything(node, v0, arrays):
    """Loss, gradients, and the outputs of `unroll` and of stepping by hand."""

    def loss(node, x, v0):
        v, out = nn.unroll(node, x, v0)
        _, v_seq, stepped = golden_arrays.scan_with_states(node, v0, x)
        value = jnp.sum(out * arrays["w_out"]) + jnp.sum(v * arrays["w_state"])
        if "w_vseq" in arrays:
            value += jnp.sum(v_seq * arrays["w_vseq"])
        return value, (out, stepped, v_seq)

    return jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(node, arrays["x"], v0)


def arguments(file, case, precision):
    """The neuron of a case, its first potential and its arrays."""
    golden = FILES[file]
    node = make(golden.cases[case], precision)
    arrays = {name: golden.input(name, precision) for name in ("x", "w_out", "w_state")}
    if golden.has(f"{case}/w_vseq"):
        arrays["w_vseq"] = golden.input(f"{case}/w_vseq", precision)
    if golden.has(f"{case}/v0"):
        v0 = golden.input(f"{case}/v0", precision)
    else:
        v0 = node.initialize_carry(arrays["x"].shape[1:], dtype=arrays["x"].dtype)
    if golden.has(f"{case}/p_w"):  # stored in float32 and used so in the float64 run
        w = golden.input(f"{case}/p_w", precision)
        np.testing.assert_allclose(node.w[...], w, rtol=1e-7)
        node.w[...] = w
    return node, v0, arrays


@functools.cache
def results(file, precision):
    """`everything` by case."""
    cases = [case for in_file, case in CASES if in_file == file]
    return golden_arrays.all_at_once(
        {case: (everything, *arguments(file, case, precision)) for case in cases}
    )


@pytest.mark.parametrize(("file", "case"), CASES)
def test_golden(file, case, precision):
    golden = FILES[file]
    (value, (out, stepped, v_seq)), (g_node, g_x, g_v0) = results(file, precision)[case]
    golden_arrays.assert_equal(out, golden(f"{case}/out", precision))
    golden_arrays.assert_equal(stepped, golden(f"{case}/out", precision))
    golden_arrays.assert_loss_close(value, golden(f"{case}/loss", precision), precision)
    golden_arrays.assert_close(v_seq, golden(f"{case}/v_seq", precision), precision, "v_seq")
    golden_arrays.assert_close(g_x, golden(f"{case}/g_x", precision), precision, "g_x")
    if golden.has(f"{case}/g_v0"):
        golden_arrays.assert_close(g_v0, golden(f"{case}/g_v0", precision), precision, "g_v0")
    if golden.has(f"{case}/g_w"):
        golden_arrays.assert_close(
            g_node.w[...], golden(f"{case}/g_w", precision), precision, "g_w"
        )


def test_ties_are_met():
    """exact_ties would prove nothing if no potential hit the threshold exactly."""
    golden = FILES["exact_ties"]
    assert all(golden.cases[case]["ties"] > 0 for file, case in CASES if file == "exact_ties")


def test_unspiking_surrogate_runs_the_smooth_model():
    """With the primal in place of the step the whole neuron is differentiable as it stands."""
    with jax.enable_x64(True):
        node = nn.IFNode(surrogate_function=surrogate.ATan(spiking=False))
        x = jnp.linspace(0.1, 0.9, 5)[:, None]

        def total(x):
            return jnp.sum(nn.unroll(node, x)[1])

        eps = 1e-6
        numeric = [
            (total(x.at[t, 0].add(eps)) - total(x.at[t, 0].add(-eps))) / (2 * eps)
            for t in range(len(x))
        ]
        np.testing.assert_allclose(jax.grad(total)(x)[:, 0], jnp.stack(numeric), rtol=1e-7)


def test_learnable_time_constant():
    node = nn.ParametricLIFNode(init_tau=3.5)
    assert node.w[...].shape == ()
    np.testing.assert_allclose(node.tau, 3.5, rtol=1e-6)
    np.testing.assert_allclose(1 / node.tau, jax.nn.sigmoid(node.w[...]), rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.IFNode(v_threshold="1"), TypeError, "v_threshold must be a number, got '1'"),
        (lambda: nn.IFNode(v_threshold=float("inf")), ValueError, "v_threshold must be finite"),
        (lambda: nn.IFNode(v_reset="0"), TypeError, "v_reset must be a number"),
        (lambda: nn.IFNode(detach_reset=1), TypeError, "detach_reset must be True or False"),
        (lambda: nn.IFNode(surrogate_function=2.0), TypeError, "surrogate_function must be callab"),
        (lambda: nn.LIFNode(tau=1.0), ValueError, "tau must be greater than 1 .*got 1.0"),
        (lambda: nn.LIFNode(tau=0), ValueError, "tau must be greater than 1 .*got 0"),
        (lambda: nn.LIFNode(tau="2"), TypeError, "tau must be a number"),
        (lambda: nn.LIFNode(decay_input="yes"), TypeError, "decay_input must be True or False"),
        (lambda: nn.ParametricLIFNode(init_tau=1), ValueError, "init_tau must be greater than 1"),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()
