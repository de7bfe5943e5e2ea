"""All cases of golden/neuron_psn_glif_misc against SpikingJelly: outputs, states, gradients.

What SpikingJelly does by a setting of the neuron (`decode`) is a readout here, and its single-step
mode is stepping by hand. MaskedPSN does not run on a stream: its single-step case gives the
numbers of the parallel form, and is walked with that.
"""

import cells
import golden_arrays
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxsnn import functional, nn, readouts

GOLDEN = golden_arrays.Golden("neuron_psn_glif_misc")
CLASSES = sorted({meta["cls"] for meta in GOLDEN.cases.values()})
DSR = ("DSRIFNode", "DSRLIFNode")  # SpikingJelly runs them in float32 only
SEQUENCE_LAYERS = (nn.PSN, nn.contrib.MaskedPSN, nn.contrib.DSRIFNode, nn.contrib.DSRLIFNode)
READOUTS = {
    None: lambda v_seq: v_seq,
    "max-mem": readouts.max_membrane,
    "max-abs-mem": readouts.max_abs_membrane,
    "mean-mem": readouts.mean_membrane,
    "last_mem": readouts.last_membrane,
}


def names(case, *beginnings):
    """The arrays of a case that are called so, without its name and without the float64 ones."""
    own = (name.removeprefix(f"{case}/") for name in GOLDEN.arrays if name.startswith(f"{case}/"))
    return [name for name in own if name.startswith(beginnings) and not name.endswith("64")]


def make(case, precision):
    meta = GOLDEN.cases[case]
    cls = meta["cls"]
    kwargs = {name: v for name, v in meta.get("kwargs", {}).items() if name != "step_mode"}
    kwargs.pop("channel_dim", None)  # the last axis
    if cls == "MaskedPSN":
        kwargs |= {"k": 3 if "k3" in case else 2, "T": 6}
        # kept in float32, and used so in the float64 run
        kwargs["lambda_init"] = float(GOLDEN.arrays[f"{case}/p__lambda_"])
    if cls == "LIAFNode":
        kwargs |= {"act": getattr(jax.nn, meta["act"])}
        kwargs |= {"threshold_related": meta["threshold_related"]}
    if cls == "NonSpikingLIFNode":
        kwargs["tau"] = meta["tau"]
    if cls in DSR:
        del kwargs["T"]  # any length will do
    if cls in ("PSN", "MaskedPSN", "SlidingPSN", "GatedLIFNode"):
        kwargs["rngs"] = nnx.Rngs(0)
    if cls in ("PSN", "MaskedPSN", "SlidingPSN", "GatedLIFNode", *DSR):
        kwargs["param_dtype"] = precision
    node = getattr(cells.nn, cls)(**kwargs)
    for name, param in nnx.to_flat_state(nnx.state(node, nnx.Param)):
        value = GOLDEN.input(f"{case}/p_{name[0]}", precision)
        assert param[...].shape == value.shape
        assert param[...].dtype == value.dtype
        getattr(node, name[0])[...] = value
    return node


def gated_lif_potential(node, xs):
    """The last potential, which the node keeps to itself."""
    shares = {name[0]: jax.nn.sigmoid(w[...]) for name, w in nnx.to_flat_state(nnx.state(node))}

    def step(state, now):
        x, conduct = now
        numbers = shares | {"conduct": conduct}
        numbers = {
            name: a.reshape((1,) * (x.ndim - a.ndim) + a.shape) for name, a in numbers.items()
        }
        return functional.gated_lif_step(
            state, x, surrogate_function=node.surrogate_function, **numbers
        )

    start = jnp.zeros(xs.shape[1:], xs.dtype)
    return jax.lax.scan(step, (start, start), (xs, shares["conduct"]))[0][0]


def outputs(case, node, x):
    """What SpikingJelly's neuron gives, by the name of the array."""
    meta = GOLDEN.cases[case]
    if isinstance(node, nn.contrib.GatedLIFNode):
        xs = jnp.moveaxis(x, 2, -1)  # channels last
        out, v = nn.unroll(node, xs)[1], gated_lif_potential(node, xs)
        return {"out": jnp.moveaxis(out, -1, 2), "state_v": jnp.moveaxis(v, -1, 1)}
    if isinstance(node, SEQUENCE_LAYERS):
        return {"out": nn.unroll(node, x)[1]}
    start = node.initialize_carry(x.shape[1:], dtype=x.dtype)
    if meta.get("step_mode") == "s":
        return {"out": golden_arrays.scan_with_states(node, start, x)[2]}
    carry, out = nn.unroll(node, x)
    if isinstance(node, nn.SlidingPSN):
        return {"out": out}
    if isinstance(node, nn.contrib.OTTTLIFNode):
        _, states, _ = golden_arrays.scan_with_states(node, start, x)
        return {"out": out, "state_v": carry.v, "trace": states.trace}
    return {"out": READOUTS[meta.get("decode")](out), "state_v": carry}


@pytest.mark.parametrize("cls", CLASSES)
def test_golden(cls, precision):
    cases = [case for case, meta in GOLDEN.cases.items() if meta["cls"] == cls]
    nodes = {case: make(case, precision) for case in cases}
    arrays = {
        name: {case: GOLDEN.input(f"{case}/{name}", precision) for case in cases}
        for name in ("x", "w_out")
    }

    @jax.jit
    def everything(nodes, arrays):
        def total(nodes, xs):  # of cases that share nothing: each gets its own gradient
            found = {case: outputs(case, nodes[case], xs[case]) for case in cases}
            for case in cases:
                found[case]["loss"] = jnp.sum(found[case]["out"] * arrays["w_out"][case])
            return sum(found[case]["loss"] for case in cases), found

        return jax.grad(total, (0, 1), has_aux=True)(nodes, arrays["x"])

    (to_nodes, to_xs), found = everything(nodes, arrays)
    compared = "float32" if cls in DSR else precision
    for case in cases:
        actual = {**found[case], "g_x": to_xs[case]}
        for name, param in nnx.to_flat_state(nnx.state(to_nodes[case], nnx.Param)):
            actual[f"g_p_{name[0]}"] = param[...]
        for name in names(case, "loss", "out", "state", "trace", "g_"):
            expected = GOLDEN(f"{case}/{name}", compared)
            value = np.asarray(actual[name])
            assert value.dtype == precision
            value, label = value.astype(compared), f"{case}/{name}"
            if np.issubdtype(expected.dtype, np.integer):
                golden_arrays.assert_equal(value, expected, label)
            elif name == "loss":
                golden_arrays.assert_loss_close(value, expected, compared, label)
            else:
                golden_arrays.assert_close(value, expected, compared, label)
