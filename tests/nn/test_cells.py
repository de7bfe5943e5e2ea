"""Every cell keeps the contract of `contract.py`; all of them are in the table of `cells.py`."""

import functools

import cells
import contract
import jax
import jax.numpy as jnp
import pytest
from cells import CELLS, ROWS, F, nn

from jaxsnn import functional
from jaxsnn.interop import snntorch

every_row = pytest.mark.parametrize("name", ROWS)
N = 2

# Left to CI: attention, which takes longest and is made of layers that have rows; neurons with
# other constants than in another row; containers whose parts are in another row.
LEFT_TO_CI = {
    "ChannelQKAttention",
    "SpikingSelfAttention",
    "TokenQKAttention",
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
        lambda **dtype: nn.LIFNode(nn.learnable((2.0, 3.0), **dtype)),
        lambda **dtype: nn.ExponentialSynapse(nn.learnable(4.0, **dtype)),
        lambda **dtype: nn.Linear(F, F, **dtype, rngs=cells.rngs()),
        lambda **dtype: nn.LinearRecurrentContainer(nn.IFNode(), F, F, **dtype, rngs=cells.rngs()),
        lambda **dtype: snntorch.Leaky([0.9, 0.8], learn_beta=True, learn_threshold=True, **dtype),
    ):
        made = jax.eval_shape(functools.partial(make, param_dtype=jnp.bfloat16))
        parameters = jax.tree.leaves(made)
        assert parameters
        assert all(p.dtype == jnp.bfloat16 for p in parameters), make


class DecayingIF(nn.Neuron):
    """A neuron as a user writes it: `h = decay v + x`, then fire and reset."""

    decay: nn.constants.Fraction = 0.5

    @staticmethod
    def step(v, x, *, decay, **fire_and_reset):
        return functional.if_step(decay * v, x, **fire_and_reset)


def test_a_neuron_of_ones_own_keeps_the_contract():
    decay = nn.learnable((0.2, 0.4, 0.6, 0.8))  # one per neuron
    contract.check_contract(lambda: DecayingIF(decay, v_threshold=0.7))


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
