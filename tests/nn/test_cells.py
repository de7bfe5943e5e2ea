"""Every cell keeps the contract of `contract.py`; all of them are in the table of `cells.py`."""

import functools
import inspect

import cells
import contract
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cells import CELLS, ROWS, F
from flax import nnx

from jaxsnn import nn, surrogate
from jaxsnn.interop import snntorch
from jaxsnn.nn import constants

every_row = pytest.mark.parametrize("name", ROWS)
N = 2

# Left to CI, as another row compiles the like: attention, which takes longest; neurons with other
# constants; containers around what stands in another one.
LEFT_TO_CI = {
    "ChannelQKAttention",
    "SpikingSelfAttention",
    "IFNode, other reset",
    "LIAFNode, spikes",
    "LIFNode, other reset",
    "LIFNode, tau 3",
    "TernaryIFNode, soft",
    "ElementWiseRecurrentContainer, around another container",
    "Graph, of neurons of NIR",
}


def test_every_cell_is_here():
    classes = {kind.__name__ for kind in cells.public_cells()}
    assert classes <= set(CELLS)
    for name, row in ROWS.items():
        assert name.split(",")[0] == type(jax.eval_shape(row.make)).__name__


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if n in LEFT_TO_CI else []) for n in ROWS],
)
def test_numbers(name):
    contract.check_numbers(ROWS[name].make, ROWS[name].shape)


@every_row
def test_dtypes(name):
    contract.check_dtypes(ROWS[name].make, ROWS[name].shape)


@every_row
def test_errors(name):
    contract.check_errors(ROWS[name].make, ROWS[name].shape)


@every_row
def test_export(name):
    contract.check_export(ROWS[name].make, ROWS[name].shape)


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
def test_diagnosis(name):
    contract.check_diagnosis(CELLS[name].make, CELLS[name].shape, fires=name != "LIAFNode")


def test_parameters_have_the_dtype_that_is_asked_for():
    for make in (
        lambda **dtype: nn.ParametricLIFNode(**dtype),
        lambda **dtype: nn.LIFNode(nn.learnable(2.0, **dtype)),
        lambda **dtype: nn.Linear(F, F, **dtype, rngs=cells.rngs()),
        lambda **dtype: nn.LinearRecurrentContainer(nn.IFNode(), F, F, **dtype, rngs=cells.rngs()),
        lambda **dtype: snntorch.Leaky([0.9, 0.8], learn_threshold=True, **dtype),
    ):
        made = jax.eval_shape(functools.partial(make, param_dtype=jnp.bfloat16))
        parameters = jax.tree.leaves(made)
        assert parameters
        assert all(p.dtype == jnp.bfloat16 for p in parameters), make


class Resting(nn.Neuron):
    """A neuron as a user declares it, in 10 lines."""

    tau: constants.TimeConstant = 2.0
    v_rest: constants.Real = 0.25

    @staticmethod
    def step(v, x, *, tau, v_rest, v_threshold, v_reset, surrogate_function, detach_reset):
        h = v + (x + v_rest - v) / tau
        s = surrogate_function(h - v_threshold)
        z = jax.lax.stop_gradient(s) if detach_reset else s
        return (1 - z) * h + z * v_reset, s.astype(x.dtype)


class Leaking(nn.Cell):
    """A neuron as a user writes it in full, with a learned leak."""

    def __init__(self):
        self.leak = nnx.Param(jnp.full((), 0.5))
        self.surrogate_function = surrogate.ATan()

    def initialize_carry(self, input_shape, rngs=None, *, dtype=jnp.float32):
        return jnp.zeros(input_shape, dtype)

    def __call__(self, carry, x):
        h = self.leak[...] * carry + x
        s = self.surrogate_function(h - 1.0)
        return (1 - s) * h, s.astype(x.dtype)


def test_a_declared_neuron_keeps_the_contract():
    tau = nn.learnable(np.array([2.0, 3.0, 4.0, 5.0]))
    contract.check_contract(lambda: Resting(tau, v_threshold=0.5))
    assert inspect.getsource(Resting).count("\n") <= 13  # blank lines and docstring included
    assert list(inspect.signature(Resting).parameters)[:2] == ["tau", "v_rest"]


def test_a_neuron_of_ones_own_keeps_the_contract():
    contract.check_numbers(Leaking)
    contract.check_dtypes(Leaking)
    contract.check_export(Leaking)
    contract.check_diagnosis(Leaking)


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
