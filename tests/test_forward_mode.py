"""Forward mode: `jvp` gives the dot product of the reverse-mode gradient with the direction.

Second derivatives are asserted too, in both orders: a rule that is lost in a loop shows there.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cells import CELLS, F, Row, rngs
from flax import nnx

from jaxsnn import nn, surrogate

T, N = 4, 2
LAYERS = {
    "stack": Row(
        lambda: nn.Sequential(
            nn.Linear(F, 5, rngs=rngs()),
            nn.LinearRecurrentContainer(
                nn.LIFNode(v_threshold=0.5, surrogate_function=surrogate.ATan()), 5, 5, rngs=rngs()
            ),
            nn.SynapseFilter(learnable=True),
            nn.Linear(5, 2, rngs=rngs()),
        )
    ),
    "Conv": Row(lambda: nn.Conv(F, 2, (3,), rngs=rngs()), shape=(3,)),
    "DSRIFNode": Row(lambda: nn.contrib.DSRIFNode()),
    "DSRLIFNode": Row(lambda: nn.contrib.DSRLIFNode()),
}
ALL = CELLS | LAYERS
FAST = {"stack"}
EVERY = [pytest.param(n, marks=[] if n in FAST else [pytest.mark.slow], id=n) for n in ALL]


def dot(a, b):
    return sum(jnp.vdot(x, y) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))


@pytest.mark.parametrize("name", EVERY)
def test_both_directions_agree(name):
    graph, params, rest = nnx.split(ALL[name].make(), nnx.Param, ...)
    rng = np.random.default_rng(0)
    shape = T, N, *ALL[name].shape, F
    arguments = params, 1.5 * jnp.asarray(rng.uniform(0, 1, shape), jnp.float32)
    direction = jax.tree.map(
        lambda a: jnp.asarray(rng.normal(size=a.shape), jnp.float32), arguments
    )

    def total(params, xs):
        ys = nn.unroll(nnx.merge(graph, params, rest), xs)[1]
        return jnp.sum(ys * jnp.cos(jnp.arange(ys.size, dtype=ys.dtype)).reshape(ys.shape))

    gradient = jax.grad(total, (0, 1))

    @jax.jit
    def everything(arguments, direction):
        _, forward = jax.jvp(total, arguments, direction)
        first = gradient(*arguments)
        _, over_reverse = jax.jvp(gradient, arguments, direction)
        twice = jax.grad(lambda arguments: dot(gradient(*arguments), direction))(arguments)
        return first, forward, over_reverse, twice

    first, forward, over_reverse, twice = everything(arguments, direction)
    assert float(dot(first, first)) > 0
    np.testing.assert_allclose(forward, dot(first, direction), rtol=2e-4, atol=1e-4)
    for a, b in zip(*map(jax.tree.leaves, (over_reverse, twice)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)
