"""What every cell keeps to, checked for one table of cells. A new cell joins by one row."""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick
from flax import nnx

from jaxsnn import nn, surrogate
from jaxsnn.interop import nir, snntorch

T, N, F = 3, 2, 4


def linear(inputs, outputs, dtype=jnp.float32):
    return nn.Linear(inputs, outputs, param_dtype=dtype, dtype=dtype, rngs=nnx.Rngs(0))


CELLS = {
    "IF": lambda dtype: nn.IFNode(),
    "IF soft": lambda dtype: nn.IFNode(v_reset=None, surrogate_function=surrogate.ATan()),
    "IF detached": lambda dtype: nn.IFNode(v_reset=-0.1, detach_reset=True),
    "LIF": lambda dtype: nn.LIFNode(tau=1.5, v_threshold=0.5),
    "LIF undecayed": lambda dtype: nn.LIFNode(decay_input=False, v_reset=None),
    "PLIF": lambda dtype: nn.ParametricLIFNode(v_threshold=0.5, param_dtype=dtype),
    "SynapseFilter": lambda dtype: nn.SynapseFilter(tau=3.0),
    "SynapseFilter learnable": lambda dtype: nn.SynapseFilter(nn.learnable(2.0, param_dtype=dtype)),
    "DoubleExponentialSynapse learnable": lambda dtype: nn.DoubleExponentialSynapse(
        nn.learnable(4.0, param_dtype=dtype), nn.learnable(1.5, param_dtype=dtype)
    ),
    "Leaky of snnTorch": lambda dtype: snntorch.Leaky(
        [0.9, 0.8, 0.7, 0.6], threshold=0.4, learn_threshold=True, param_dtype=dtype
    ),
    "Sequential": lambda dtype: nn.Sequential(
        linear(F, 6, dtype), nn.IFNode(v_threshold=0.2), jax.nn.relu, nn.SynapseFilter(tau=2.0)
    ),
    "Row": lambda dtype: nn.Sequential(
        nn.IFNode(v_threshold=0.2), nn.SynapseFilter(tau=2.0), nn.LIFNode(v_threshold=0.1)
    ),
    "ElementWise": lambda dtype: nn.ElementWiseRecurrentContainer(nn.IFNode(), operator.add),
    "ElementWise around a stack": lambda dtype: nn.ElementWiseRecurrentContainer(
        nn.Sequential(linear(F, F, dtype), nn.LIFNode(v_threshold=0.2)), operator.sub
    ),
    "ElementWise around a layer": lambda dtype: nn.ElementWiseRecurrentContainer(
        linear(F, F, dtype), operator.add
    ),
    "ElementWise around a function": lambda dtype: nn.ElementWiseRecurrentContainer(
        jnp.tanh, operator.add
    ),
    "Linear container": lambda dtype: nn.LinearRecurrentContainer(
        nn.IFNode(v_threshold=0.2), F, F, param_dtype=dtype, dtype=dtype, rngs=nnx.Rngs(1)
    ),
    "Linear container, other size": lambda dtype: nn.LinearRecurrentContainer(
        nn.Sequential(linear(F, 2, dtype), nn.LIFNode(v_threshold=0.2)),
        F,
        2,
        bias=False,
        param_dtype=dtype,
        dtype=dtype,
        rngs=nnx.Rngs(1),
    ),
    "Linear container, feedback only": lambda dtype: nn.LinearRecurrentContainer(
        nn.IFNode(v_threshold=0.2),
        F,
        F,
        feedback_only=True,
        param_dtype=dtype,
        dtype=dtype,
        rngs=nnx.Rngs(1),
    ),
    "Graph": lambda dtype: nn.Graph(
        {
            "a": linear(F, F, dtype),
            "b": nir.Neuron(dt=1.0, r=[2.0, 3.0, 2.0, 4.0], tau=2.0, v_leak=0.1, v_threshold=0.3),
        },
        [("input", "b"), ("b", "a"), ("a", "b"), ("b", "output"), ("input", "output")],
    ),
    "Container in container": lambda dtype: nn.ElementWiseRecurrentContainer(
        nn.LinearRecurrentContainer(
            nn.IFNode(v_threshold=0.2), F, F, param_dtype=dtype, dtype=dtype, rngs=nnx.Rngs(2)
        ),
        operator.add,
    ),
}


def inputs(dtype="float32", seed=0):
    return quick.uniform((T, N, F), 0, 1.5, seed=seed).astype(dtype)


def by_hand(cell, xs, carry=None):
    if carry is None:
        carry = cell.initialize_carry(xs.shape[1:], dtype=xs.dtype)
    ys = []
    for x in xs:
        carry, y = cell(carry, x)
        ys.append(y)
    return carry, jnp.stack(ys)


def kinds(tree):
    return jax.tree.map(lambda a: (a.shape, a.dtype.name, a.weak_type), tree)


def assert_same(actual, expected, **tolerance):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), actual, expected)


def in_many_ways(cell, low_cell, xs):
    """State and outputs by each way there is, and gradients, in one compilation."""
    carry, head = nn.unroll(cell, xs[:2])
    carry, tail = nn.unroll(cell, xs[2:], carry)
    batch_carry, batch_ys = nnx.RNN(cell, return_carry=True)(xs.swapaxes(0, 1))
    graphdef, params = nnx.split(cell)
    weights = jnp.cos(jnp.arange(T, dtype=xs.dtype))[:, None, None]

    def total(run):
        return lambda cell, xs: jnp.sum(run(cell, xs)[1] * weights)

    return {
        "unroll": nn.unroll(cell, xs),
        "chunks": (carry, jnp.concatenate([head, tail])),
        "lax.scan": jax.lax.scan(cell, cell.initialize_carry((N, F)), xs),
        "RNN, time-major": nnx.RNN(cell, time_major=True, return_carry=True)(xs),
        "RNN, batch-major": (batch_carry, batch_ys.swapaxes(0, 1)),
        "vmap": jax.vmap(lambda xs: nn.unroll(cell, xs)[1], 1, 1)(xs),
        "vmap over parameters": jax.vmap(
            lambda params: nn.unroll(nnx.merge(graphdef, params), xs)[1], axis_size=2
        )(jax.tree.map(lambda p: jnp.stack([p, 0.5 * p]), params)),
        "bfloat16": nn.unroll(low_cell, xs.astype(jnp.bfloat16)),
        "gradients": jax.grad(total(nn.unroll), (0, 1))(cell, xs),
        "gradients by hand": jax.grad(total(by_hand), (0, 1))(cell, xs),
    }


@functools.cache
def results(name):
    cells = CELLS[name](jnp.float32), CELLS[name](jnp.bfloat16)
    return quick.run_once(in_many_ways, *cells, inputs())


@pytest.fixture(params=CELLS)
def name(request):
    return request.param


@pytest.fixture
def cell(name):
    return CELLS[name](jnp.float32)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_dtypes_are_kept(name, dtype):
    """Outputs have the dtype of the input; potentials and currents at least float32."""
    with jax.enable_x64(dtype == "float64"):
        cell = CELLS[name](jnp.dtype(dtype))
        xs = inputs(dtype)
        first = cell.initialize_carry((N, F), dtype=xs.dtype)
        carry, ys = jax.eval_shape(nn.unroll, cell, xs)
    assert ys.dtype == dtype
    assert kinds(carry) == kinds(first)
    for leaf in jax.tree.leaves(first):
        assert leaf.dtype in (dtype, "float64" if dtype == "float64" else "float32")
    if isinstance(cell, nn.IFNode | nn.LIFNode | nn.SynapseFilter):
        assert first.dtype == ("float64" if dtype == "float64" else "float32")
    if dtype == "bfloat16":
        shapes = jax.tree.map(lambda a: (a.shape, a.dtype.name), results(name)["bfloat16"])
        assert shapes == jax.tree.map(lambda a: (a.shape, a.dtype.name), (carry, ys))


def test_unroll_equals_stepping_by_hand(name, cell):
    """Layer by layer, step by step, eagerly and compiled: the same numbers."""
    xs = inputs()
    expected = by_hand(cell, xs)
    assert_same(nn.unroll(cell, xs), expected, rtol=1e-6, atol=1e-6)
    assert_same(results(name)["unroll"], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("way", ["chunks", "lax.scan", "RNN, time-major", "RNN, batch-major"])
def test_ways_to_run(name, way):
    assert_same(results(name)[way], results(name)["unroll"], rtol=1e-6, atol=1e-6)


def test_vmap_equals_a_batch(name):
    _, expected = results(name)["unroll"]
    np.testing.assert_allclose(results(name)["vmap"], expected, rtol=1e-6, atol=1e-6)


def test_vmap_over_parameters(name):
    """Many networks at once, e.g. one for each seed."""
    ys = results(name)["vmap over parameters"]
    np.testing.assert_allclose(ys[0], results(name)["unroll"][1], rtol=1e-6, atol=1e-6)


def test_gradients_are_finite_and_those_of_the_step_wise_loop(name):
    leaves = jax.tree.leaves(results(name)["gradients"])
    assert all(np.all(np.isfinite(leaf)) for leaf in leaves)
    assert any(np.any(leaf != 0) for leaf in leaves)
    expected = jax.tree.leaves(results(name)["gradients by hand"])
    for a, b in zip(leaves, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@jax.jit
def gradients_of_all(cell, carry, xs):
    """Of outputs and last state, with respect to parameters, first state and inputs."""

    def gradient(run):
        def total(cell, carry, xs):
            carry, ys = run(cell, carry, xs)
            weights = jnp.cos(jnp.arange(ys.size, dtype=ys.dtype)).reshape(ys.shape)
            return jnp.sum(ys * weights) + sum(jnp.sum(c**2) for c in jax.tree.leaves(carry))

        return jax.value_and_grad(total, (0, 1, 2))(cell, carry, xs)

    return gradient(lambda cell, carry, xs: nn.unroll(cell, xs, carry)), gradient(jax.lax.scan)


def test_gradients_are_those_of_a_plain_scan(name):
    with jax.enable_x64(True):
        cell, xs = CELLS[name](jnp.float64), inputs("float64")
        start = jax.tree.map(
            lambda state: state + quick.uniform(state.shape).astype(state.dtype),
            cell.initialize_carry((N, F), dtype=xs.dtype),
        )
        actual, plain = gradients_of_all(cell, start, xs)
        assert_same(actual, plain, rtol=1e-11, atol=1e-11)


def test_parameters_are_never_stale(cell):
    """After an update in place an eager `unroll` uses the new numbers."""
    params = nnx.split(cell)[1]
    if not jax.tree.leaves(params):
        pytest.skip("has no parameters")
    xs = inputs()
    nn.unroll(cell, xs)
    updated = jax.tree.map(lambda p: p + 0.3, params)
    nnx.update(cell, updated)
    _, ys = nn.unroll(cell, xs)
    np.testing.assert_allclose(ys, by_hand(cell, xs)[1], rtol=1e-6, atol=1e-6)
    assert_same(nnx.split(cell)[1], updated)


def test_compiles_once(name):
    """A second eager `unroll`, an equal cell built anew and new parameters compile nothing."""
    cell = CELLS[name](jnp.float32)
    nn.unroll(cell, inputs())
    traces = []

    def watch(event, duration, **kwargs):
        if "trace" in event or "compile" in event:
            traces.append(event)

    jax.monitoring.register_event_duration_secs_listener(watch)
    try:
        xs = inputs(seed=1)
        again = CELLS[name](jnp.float32)
        traces.clear()
        nn.unroll(cell, xs)
        nn.unroll(again, xs)
    finally:
        jax.monitoring.unregister_event_duration_listener(watch)
    assert traces == []


def test_a_carry_of_another_batch_is_refused(cell):
    carry, _ = nn.unroll(cell, inputs())
    with pytest.raises(ValueError, match=r"fresh state|carry of"):
        nn.unroll(cell, inputs()[:, :1], carry)


def test_a_carry_of_another_kind_is_refused(cell):
    for carry in ("v", jnp.zeros((N, F), jnp.int32), (1, 2, 3, 4, 5, 6, 7)):
        with pytest.raises((ValueError, TypeError), match="carry"):
            nn.unroll(cell, inputs(), carry)


def test_integer_inputs_are_refused(cell):
    if isinstance(cell, nn.Sequential):
        pytest.skip("begins with a Linear, which takes integers as Flax's does")
    with pytest.raises(TypeError, match=r"floating|dtype"):
        nn.unroll(cell, jnp.ones((T, N, F), jnp.int32))


def test_states_are_checked_one_by_one():
    """A carry of several states is a NamedTuple, and each fits the input."""
    cell, x = nn.CUBALIFNode(), jnp.zeros((N, F))
    carry = cell.initialize_carry((N, F))
    with pytest.raises(
        TypeError, match=r"carry of CUBALIFNode must be CUBALIFState\(v, c\), got tuple"
    ):
        cell(tuple(carry), x)
    with pytest.raises(TypeError, match=r"c in the carry of CUBALIFNode must be an array, got flo"):
        cell(carry._replace(c=0.0), x)
    with pytest.raises(ValueError, match=r"v in the carry of CUBALIFNode has shape \(4,\)"):
        cell(carry._replace(v=carry.v[0]), x)
    with pytest.raises(TypeError, match=r"c in the carry of CUBALIFNode has dtype int32"):
        cell(carry._replace(c=carry.c.astype(jnp.int32)), x)
