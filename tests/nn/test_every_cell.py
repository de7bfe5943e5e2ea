"""The contract in short for every cell there is; tests/nn/test_cells.py has it at length for a few.

One compilation a cell: stepping by hand, `unroll`, `jax.lax.scan`, stretches, masks, records,
`vmap` and gradients agree, and dtypes are kept.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick
from every_cell import CELLS, SHAPES, F

from jaxsnn import nn

T, N = 4, 3


def test_every_cell_is_here():
    cells = {
        name
        for name, value in vars(nn).items()
        if isinstance(value, type)
        and issubclass(value, nn.Cell)
        and value not in (nn.Cell, nn.Module, nn.ElementwiseCell, nn.Neuron)
        and getattr(value, "carries_state", True)
    }
    assert cells == set(CELLS)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_neurons_keep_their_dtypes(dtype):
    """Of the output that of the input, of the states at least float32; nothing is compiled."""
    with jax.enable_x64(dtype == "float64"):
        for name in (name for name in CELLS if name.endswith("Node")):
            cell = CELLS[name]()
            first = cell.initialize_carry((N, F), dtype=jnp.dtype(dtype))
            carry, y = jax.eval_shape(cell, first, jax.ShapeDtypeStruct((N, F), dtype))
            assert (y.shape, y.dtype) == ((N, F), dtype), name
            assert jax.tree.structure(carry) == jax.tree.structure(first), name
            for leaf in jax.tree.leaves((first, carry)):
                assert leaf.dtype == ("float64" if dtype == "float64" else "float32"), name


def by_hand(cell, xs):
    carry = cell.initialize_carry(xs.shape[1:], dtype=xs.dtype)
    ys = []
    for x in xs:
        carry, y = cell(carry, x)
        ys.append(y)
    return carry, jnp.stack(ys)


@pytest.mark.parametrize("name", CELLS)
def test_contract(name):
    cell = CELLS[name]()
    shape = (T, N, *SHAPES.get(name, ()), F)
    xs = jax.random.uniform(jax.random.key(0), shape, jnp.float32, 0, 1.5)
    mask = nn.sequence_mask(jnp.array([T, 2, T]), T)

    def total(run, cell, xs):
        _, ys = run(cell, xs)[:2]
        return jnp.sum(ys * jnp.cos(jnp.arange(ys.size, dtype=ys.dtype)).reshape(ys.shape))

    def everything(cell, xs):
        first = cell.initialize_carry(xs.shape[1:], dtype=xs.dtype)
        half, head = nn.unroll(cell, xs[:2])
        carry, tail = nn.unroll(cell, xs[2:], half)
        found = {
            "by hand": by_hand(cell, xs),
            "unroll": nn.unroll(cell, xs),
            "scan": jax.lax.scan(cell, first, xs),
            "parts": (carry, jnp.concatenate([head, tail])),
            "stretches": nn.unroll(cell, xs, checkpoint_every=3),
            "recorded": nn.unroll(cell, xs, record="*")[:2],
            "vmap": (carry, jax.vmap(lambda x: nn.unroll(cell, x[:, None])[1][:, 0], 1, 1)(xs)),
        }
        masked = nn.unroll(cell, xs, mask=mask)
        short = nn.unroll(cell, xs[:2])
        gradients = [
            jax.grad(lambda *a, r=r: total(r, *a), (0, 1))(cell, xs) for r in (by_hand, nn.unroll)
        ]
        return first, found, masked, short, gradients

    first, found, masked, short, gradients = quick.run_once(everything, cell, xs)

    expected = found.pop("by hand")
    assert jax.tree.map(lambda a: (a.shape, a.dtype), first) == jax.tree.map(
        lambda a: (a.shape, a.dtype), expected[0]
    )
    assert expected[1].dtype == np.float32
    for way, actual in found.items():
        assert jax.tree.structure(actual) == jax.tree.structure(expected), way
        jax.tree.map(
            lambda a, b, way=way: np.testing.assert_allclose(
                a, b, rtol=1e-5, atol=1e-5, err_msg=way
            ),
            actual,
            expected,
        )
    # of the masked batch, the example of two steps ends as it does after two steps
    for a, b in zip(jax.tree.leaves(masked[0]), jax.tree.leaves(short[0]), strict=True):
        np.testing.assert_allclose(a[1], b[1], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(masked[1][:, 0], expected[1][:, 0], rtol=1e-5, atol=1e-5)
    assert not masked[1][2:, 1].any()
    for a, b in zip(*map(jax.tree.leaves, gradients), strict=True):
        assert np.isfinite(a).all()
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
