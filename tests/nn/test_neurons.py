"""Neurons against SpikingJelly: spikes, potentials, gradients; then their arguments."""

import cells
import golden_arrays
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from quick import run_once

from jaxsnn import nn, surrogate

FILES = {
    name: golden_arrays.Golden(name)
    for name in (
        "neuron_if",
        "neuron_if_all_surrogates",
        "neuron_lif",
        "neuron_plif",
        "neuron_simple",
        "neuron_lif_variants",
        "neuron_nonlinear_and_ternary",
        "exact_ties",
    )
}
GROUPS = {
    (file, meta["cls"]): [case for case in golden.cases if golden.cases[case]["cls"] == meta["cls"]]
    for file, golden in FILES.items()
    for meta in golden.cases.values()
}
# The equations of IF and LIF from a potential of 0, whatever v_reset is: a first carry, no class.
FROM_ZERO = {"SimpleIFNode": "IFNode", "SimpleLIFNode": "LIFNode"}


def make(golden, case, precision):
    """The neuron of a case and its first carry."""
    meta = golden.cases[case]
    kwargs = dict(meta["kwargs"])
    if meta["surrogate"] != "class default":
        name, settings = meta["surrogate"]
        kwargs["surrogate_function"] = getattr(surrogate, name)(**settings)
    w, k = (f"{case}/p_{name}" for name in ("w", "k"))
    if golden.has(k):
        kwargs["k"] = nn.learnable(golden.input(k, precision), param_dtype=precision)
    cls = meta["cls"]
    node = getattr(cells.nn, FROM_ZERO.get(cls, cls))(**kwargs)
    if golden.has(w):  # stored in float32 and used so in the float64 run
        node.w = nn.Constant(golden.input(w, precision))
    shape = golden.arrays["x"].shape[1:]
    carry = node.initialize_carry(shape, dtype=jnp.dtype(precision))
    if cls in FROM_ZERO:
        carry = jnp.zeros_like(carry)
    given = {field: f"{case}/{field}0" for field in states(carry) if golden.has(f"{case}/{field}0")}
    if given:
        arrays = [golden.input(name, precision) for name in given.values()]
        carry = arrays[0] if isinstance(carry, jax.Array) else type(carry)(*arrays)
    return node, carry


def states(carry):
    """The arrays of a carry by name."""
    return carry._asdict() if hasattr(carry, "_asdict") else {"v": carry}


def everything(nodes, carries, arrays, w_vseq):
    """Of each case its loss and gradients with `unroll`, and its states stepping by hand."""

    def loss(node, x, carry, w_vseq):
        last, out = nn.unroll(node, x, carry)
        value = jnp.sum(out * arrays["w_out"])
        value += sum(jnp.sum(state * arrays["w_state"]) for state in jax.tree.leaves(last))
        if w_vseq is not None:
            _, v_seq, _ = golden_arrays.scan_with_states(node, carry, x)
            value += jnp.sum(v_seq * w_vseq)
        return value, out

    def step(carries, x):
        after = [node(carry, x) for node, carry in zip(nodes, carries, strict=True)]
        return [carry for carry, _ in after], after

    gradient = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)
    gradients = [
        gradient(node, arrays["x"], carry, w)
        for node, carry, w in zip(nodes, carries, w_vseq, strict=True)
    ]
    return gradients, jax.lax.scan(step, list(carries), arrays["x"])[1]


@pytest.mark.parametrize(("file", "cls"), GROUPS)
def test_golden(file, cls, precision):
    """All cases of a class in one compiled function: one by one they take twice the time."""
    golden, cases = FILES[file], GROUPS[file, cls]
    nodes, carries = zip(*(make(golden, case, precision) for case in cases), strict=True)
    arrays = {name: golden.input(name, precision) for name in ("x", "w_out", "w_state")}
    names = [f"{case}/w_vseq" for case in cases]
    w_vseq = [golden.input(name, precision) if golden.has(name) else None for name in names]
    results = zip(cases, *run_once(everything, nodes, carries, arrays, w_vseq), strict=True)
    for case, ((value, out), (g_node, g_x, g_carry)), (seq, stepped) in results:
        golden_arrays.assert_equal(out, golden(f"{case}/out", precision), case)
        golden_arrays.assert_equal(stepped, golden(f"{case}/out", precision), case)
        golden_arrays.assert_loss_close(value, golden(f"{case}/loss", precision), precision, case)
        found = {"g_x": g_x}
        found |= {f"{name}_seq": array for name, array in states(seq).items()}
        found |= {f"g_{name}0": array for name, array in states(g_carry).items()}
        found |= {
            f"g_{name.removeprefix('w_')}": p
            for name, p in nnx.to_pure_dict(nnx.state(g_node)).items()
        }
        given = {"out", "loss", "w_vseq", "p_w", "p_k", *(f"{name}0" for name in states(seq))}
        for name in golden.names(case) - given:
            expected = golden(f"{case}/{name}", precision)
            golden_arrays.assert_close(found[name], expected, precision, f"{case}/{name}")


def test_ties_are_met():
    """exact_ties would prove nothing if no potential hit the threshold exactly."""
    golden = FILES["exact_ties"]
    assert all(meta["ties"] > 0 for meta in golden.cases.values())


def test_adaptive_threshold_by_hand():
    """The equations of Bellec et al. in NumPy; SpikingJelly has no such neuron."""
    xs = np.linspace(0.2, 3.0, 30)
    for v_reset, decay_input in ((None, True), (-0.1, True), (None, False)):
        v, a, expected = 0.0 if v_reset is None else v_reset, 0.0, []
        for x in xs:
            rest = v_reset or 0.0
            h = v + (x - (v - rest)) / 3.0 if decay_input else v - (v - rest) / 3.0 + x
            threshold = 0.5 + 2.0 * a
            s = float(h >= threshold)
            v = h - s * threshold if v_reset is None else (v_reset if s else h)
            a = (1 - 1 / 8.0) * a + 1 / 8.0 * s
            expected.append((v, a, s))
        with jax.enable_x64(True):
            node = nn.AdaptiveLIFNode(
                tau=3.0,
                tau_a=8.0,
                beta=2.0,
                decay_input=decay_input,
                v_threshold=0.5,
                v_reset=v_reset,
            )
            _, states, ys = golden_arrays.scan_with_states(
                node, node.initialize_carry((), dtype=jnp.float64), jnp.asarray(xs)
            )
        found = np.stack([np.asarray(array) for array in (states.v, states.a, ys)], axis=1)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)
        assert 5 < found[:, 2].sum() < 25


@pytest.mark.parametrize("decay_input", [True, False])
def test_leaky_integrator_is_an_exponential_filter(decay_input):
    with jax.enable_x64(True):
        xs = jnp.cos(jnp.arange(9.0))[:, None]
        node = nn.NonSpikingLIFNode(tau=4.0, decay_input=decay_input)
        (v, ys), pull = jax.vjp(lambda xs: nn.unroll(node, xs), xs)
        (g,) = pull((jnp.ones_like(v), jnp.zeros_like(ys)))
        kernel = 0.75 ** np.arange(8, -1, -1) * (0.25 if decay_input else 1)
        np.testing.assert_allclose(v, kernel @ np.asarray(xs), rtol=1e-14)
        np.testing.assert_allclose(g[:, 0], kernel, rtol=1e-14)
        np.testing.assert_array_equal(ys[-1], v)


def test_unspiking_surrogate_runs_the_smooth_model():
    """With the primal in place of the step the whole neuron is differentiable as it stands."""
    with jax.enable_x64(True):
        smooth = surrogate.ATan(spiking=False)
        x, eps = jnp.linspace(0.1, 0.9, 5), 1e-6
        for node in (
            nn.IFNode(surrogate_function=smooth),
            nn.AdaptiveLIFNode(tau_a=3.0, beta=2.0, surrogate_function=smooth),
        ):

            def total(x, node=node):
                return jnp.sum(nn.unroll(node, x)[1])

            around = [x[None] + d * jnp.eye(len(x)) for d in (eps, -eps)]
            ahead, behind = map(jax.vmap(total), around)
            np.testing.assert_allclose(jax.grad(total)(x), (ahead - behind) / (2 * eps), rtol=1e-7)


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
        (
            lambda: nn.contrib.KLIFNode(scale_reset=1),
            TypeError,
            "scale_reset must be True or False",
        ),
        (lambda: nn.NonSpikingLIFNode(tau=1), ValueError, "tau must be greater than 1"),
        (
            lambda: nn.contrib.QIFNode(v_reset=1),
            ValueError,
            "v_reset must be less than v_threshold, got 1",
        ),
        (lambda: nn.contrib.QIFNode(a0=0), ValueError, "a0 must be greater than 0, got 0"),
        (
            lambda: nn.contrib.EIFNode(delta_T=0),
            ValueError,
            "delta_T must be greater than 0, got 0",
        ),
        (lambda: nn.contrib.IzhikevichNode(tau_w=1), ValueError, "tau_w must be greater than 1"),
        (lambda: nn.CUBALIFNode(c_decay=1.5), ValueError, "c_decay must be between 0 and 1, got 1"),
        (lambda: nn.contrib.RAFNode(b=0), ValueError, "b must be less than 0, got 0"),
        (lambda: nn.AdLIFNode(tau_u=1), ValueError, "tau_u must be greater than 1"),
        (lambda: nn.SEAdLIFNode(a=-1), ValueError, "a must be at least 0, got -1"),
        (lambda: nn.BRFNode(omega=101), ValueError, "omega must be less than 1/dt, got 101"),
        (lambda: nn.BRFNode(omega=[1, 99], dt=[0.1, 0.1]), ValueError, "omega must be less than"),
        (
            lambda: nn.BRFNode(omega=nn.learnable(9.0)),
            ValueError,
            r"got inf for omega .*nn.learnable",
        ),
        (lambda: nn.TCLIFNode(beta1=1.5), ValueError, "beta1 must be between 0 and 1, got 1.5"),
        (lambda: nn.AdaptiveLIFNode(beta=-1), ValueError, "beta must be at least 0, got -1"),
        (
            lambda: nn.contrib.TernaryIFNode(v_threshold=0),
            ValueError,
            "v_threshold must be greater than 0",
        ),
        (
            lambda: nn.contrib.TernaryLIFNode(v_reset=-1),
            ValueError,
            "-v_threshold must be less than v_res",
        ),
        (
            lambda: nn.contrib.ILIFNode(v_threshold=0),
            ValueError,
            "v_threshold must be greater than 0",
        ),
        (
            lambda: nn.contrib.HalfThresholdIFNode(v_threshold=0),
            ValueError,
            "v_threshold must be greater",
        ),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()
