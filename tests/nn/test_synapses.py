"""SynapseFilter against SpikingJelly, alone and behind a convolution; then its arguments."""

import golden_arrays
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxsnn import nn

GOLDEN = golden_arrays.Golden("synapse_filter")
CONV = golden_arrays.Golden("stateful_conv")


def synapse_filter(meta, precision):
    tau = nn.learnable(meta["tau"], param_dtype=precision) if meta["learnable"] else meta["tau"]
    return nn.SynapseFilter(tau)


@jax.jit
def everything(net, x, i0, w_out, w_state):
    def loss(net, x, i0):
        i, out = nn.unroll(net, x, i0)
        value = jnp.sum(out * w_out)
        return value if w_state is None else value + jnp.sum(i * w_state), out

    return jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(net, x, i0)


@pytest.mark.parametrize("case", GOLDEN.cases)
def test_golden(case, precision):
    meta = GOLDEN.cases[case]
    synapse = synapse_filter(meta, precision)
    if meta["learnable"]:  # stored in float32 and used so in the float64 run
        w = GOLDEN.input(f"{case}/p_w", precision)
        np.testing.assert_allclose(synapse.w[...], w, rtol=1e-7)
        synapse.w[...] = w
    x = GOLDEN.input(meta["x"], precision)
    w_out, w_state = (GOLDEN.input(name, precision) for name in ("w_out", "w_state"))
    given = GOLDEN.has(f"{case}/out_i0")
    i0 = GOLDEN.input(f"{case}/out_i0", precision) if given else None

    (value, out), (g_synapse, g_x, g_i0) = everything(synapse, x, i0, w_out, w_state)
    golden_arrays.assert_close(out, GOLDEN(f"{case}/out", precision), precision, "out")
    golden_arrays.assert_loss_close(value, GOLDEN(f"{case}/loss", precision), precision)
    golden_arrays.assert_close(g_x, GOLDEN(f"{case}/g_x", precision), precision, "g_x")
    if given:
        expected = GOLDEN(f"{case}/g_out_i0", precision)
        golden_arrays.assert_close(g_i0, expected, precision, "g_out_i0")
    if meta["learnable"]:
        g_w = GOLDEN(f"{case}/g_w", precision)
        golden_arrays.assert_close(g_synapse.w[...], g_w, precision, "g_w")


@pytest.mark.parametrize("case", CONV.cases)
def test_stateful_convolution_golden(case, precision):
    meta = CONV.cases[case]
    conv = nn.Conv(3, 16, (3, 3), padding=1, param_dtype=precision, rngs=nnx.Rngs(0))
    synapse = synapse_filter(meta, precision)
    conv.kernel[...] = CONV.input(f"{case}/p_0.weight", precision).transpose(2, 3, 1, 0)
    conv.bias[...] = CONV.input(f"{case}/p_0.bias", precision)
    if meta["learnable"]:
        synapse.w[...] = CONV.input(f"{case}/p_1.w", precision)
    channels_last = (0, 1, 3, 4, 2)
    x = CONV.input(f"{case}/x", precision).transpose(channels_last)
    w_out = CONV.input(f"{case}/w_out", precision).transpose(channels_last)

    (value, out), (g_net, g_x, _) = everything(nn.Sequential(conv, synapse), x, None, w_out, None)
    expected_out = CONV(f"{case}/out", "float32").transpose(channels_last)  # not kept in float64
    golden_arrays.assert_close(out.astype("float32"), expected_out, "float32", "out")
    golden_arrays.assert_loss_close(value, CONV(f"{case}/loss", precision), precision)
    expected = CONV(f"{case}/g_x", precision).transpose(channels_last)
    golden_arrays.assert_close(g_x, expected, precision, "g_x")
    gradients = {
        "0.weight": g_net[0].kernel[...].transpose(3, 2, 0, 1),
        "0.bias": g_net[0].bias[...],
    }
    if meta["learnable"]:
        gradients["1.w"] = g_net[1].w[...]
    for name, g in gradients.items():
        golden_arrays.assert_close(g, CONV(f"{case}/g_p_{name}", precision), precision, name)


def test_learnable_time_constant():
    synapse = nn.SynapseFilter(tau=2.0, learnable=True)
    assert synapse.w[...] == 0  # -log(2 - 1)
    synapse.w[...] = jnp.float32(-1.0)
    np.testing.assert_allclose(synapse.tau, 1 + np.e, rtol=1e-6)


def test_fixed_has_no_parameters():
    assert not jax.tree.leaves(nnx.split(nn.SynapseFilter(tau=3.0))[1])


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"tau": 1.0}, ValueError, "tau must be greater than 1 .*got 1.0"),
        ({"tau": 0.5, "learnable": True}, ValueError, "tau must be greater than 1"),
        ({"tau": "2"}, TypeError, "tau must be a number"),
        ({"learnable": "yes"}, TypeError, "learnable must be True or False"),
    ],
)
def test_bad_arguments(kwargs, error, message):
    with pytest.raises(error, match=message):
        nn.SynapseFilter(**kwargs)
