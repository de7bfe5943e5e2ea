"""Sequences that are shared out over devices: what a trace shows, for every cell there is.

The layout of an array is a part of its type, so a mesh that exists on paper shows what is refused.
Numbers and collectives are in tests/helpers/eight_devices.py.
"""

import jax
import jax.numpy as jnp
import pytest
from cells import CELLS, F, Row, rngs
from flax import nnx
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxsnn import learning, nn

T, N = 4, 4
SHARED = P(None, "batch")


def many_layers():
    return nn.Sequential(
        nn.Linear(F, 8, rngs=rngs()),
        nn.Dropout(0.5),
        nn.LinearRecurrentContainer(nn.LIFNode(), 8, 8, rngs=rngs()),
        nn.Delay(1),
        nn.Linear(8, 3, rngs=rngs()),
        nn.BatchNorm(3),
        nn.LIFNode(),
        nn.SynapseFilter(learnable=True),
        nnx.SimpleCell(3, 4, rngs=rngs()),
        nnx.Linear(4, 4, rngs=rngs()),
        nn.VotingLayer(2),
    )


def images():
    return nn.Sequential(
        nn.Conv(F, 3, (3, 3), rngs=rngs()),
        nn.BatchNorm(3),
        nn.LIFNode(),
        nn.MaxPool((2, 2)),
        nn.AvgPool((2, 2)),
        nn.Flatten(),
        nn.Linear(3, 2, rngs=rngs()),
    )


IN_STRETCHES = {
    "images": Row(images, shape=(4, 4)),
    "many layers": Row(many_layers),
    "DropConnectLinear": Row(lambda: nn.contrib.DropConnectLinear(F, 3, rngs=rngs())),
}
WHOLE = {
    "Bidirectional": Row(
        lambda: nn.Bidirectional(
            nn.contrib.SpikingGRUCell(F, 3, rngs=rngs()),
            nn.contrib.SpikingLSTMCell(F, 3, rngs=rngs()),
        )
    ),
    "DSRIFNode": Row(lambda: nn.contrib.DSRIFNode()),
    "DSRLIFNode": Row(lambda: nn.contrib.DSRLIFNode()),
    "GatedLIFNode": Row(lambda: nn.contrib.GatedLIFNode(T, rngs=rngs())),
    "PSN": Row(lambda: nn.PSN(T, rngs=rngs())),
    "TemporalBinSum": Row(lambda: nn.contrib.TemporalBinSum(3, always_convert=True)),
}
ALL = CELLS | IN_STRETCHES | WHOLE
FAST = {"images", "many layers"}
EVERY = [
    pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow], id=name) for name in ALL
]


def case(name):
    row = ALL[name]

    def run(module, xs, lengths):
        """Outputs in several ways, and the gradients of one."""

        def total(module, xs):
            ys = nn.unroll(module, xs)[1]
            return jnp.sum(ys), ys

        gradients, ys = jax.grad(total, (0, 1), allow_int=True, has_aux=True)(module, xs)
        others = []
        if name not in WHOLE:
            others += [nn.unroll(module, xs, checkpoint_every=2)[1]]
            others += [nn.unroll(module, xs, mask=nn.sequence_mask(lengths, T))[1]]
        return (ys, others, gradients[1]), gradients[0]

    # Not made inside the trace: a carry that varies from the start would hide the fault.
    return run, row.make(), jax.ShapeDtypeStruct((T, N, *row.shape, F), jnp.float32)


@pytest.mark.parametrize("name", EVERY)
def test_shard_map(name):
    """With its default settings, which compare how the carry of a scan varies before and after."""
    run, module, xs = case(name)
    mesh = AbstractMesh((2,), ("batch",), axis_types=(AxisType.Auto,))
    shared = jax.shard_map(
        run, mesh=mesh, in_specs=(P(), SHARED, P("batch")), out_specs=(SHARED, P())
    )
    (ys, _, to_xs), to_module = jax.eval_shape(shared, module, xs, jnp.ones(N, int))
    assert to_xs.shape == xs.shape
    assert ys.shape[1] == N
    assert [*map(jnp.shape, jax.tree.leaves(to_module))] == [
        *map(jnp.shape, jax.tree.leaves(module))
    ]


def explicit(mesh, array, spec):
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=NamedSharding(mesh, spec))


@pytest.mark.parametrize("name", EVERY)
def test_explicit_axes(name):
    """`jax.make_mesh` makes them unless it is told otherwise."""
    run, module, xs = case(name)
    mesh = AbstractMesh((2,), ("batch",), axis_types=(AxisType.Explicit,))
    with jax.sharding.use_abstract_mesh(mesh):
        whole = jax.tree.map(lambda a: explicit(mesh, a, P()), module)
        shared, to_module = jax.eval_shape(
            jax.jit(run),
            whole,
            explicit(mesh, xs, SHARED),
            explicit(mesh, jax.ShapeDtypeStruct((N,), jnp.int32), P()),
        )
    for array in jax.tree.leaves(shared):
        assert array.sharding.spec[:2] == (None, "batch")
    for array in jax.tree.leaves(to_module):
        assert not any(array.sharding.spec)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_learning_rules(kind):
    """A rule over time makes its first traces, and sums over the batch."""
    mesh = AbstractMesh((2,), ("batch",), axis_types=(kind,))
    pre, post = jnp.ones((T, N, 3)), jnp.ones((T, N, 2))

    def change(weight, pre, post):
        return learning.over_time(learning.STDP(2.0, 2.0), weight, pre, post)

    if kind == AxisType.Auto:
        run = jax.shard_map(
            lambda *spikes: jax.lax.psum(change(jnp.ones((3, 2)), *spikes)[1], "batch"),
            mesh=mesh,
            in_specs=(SHARED, SHARED),
            out_specs=P(),
        )
        assert jax.eval_shape(run, pre, post).shape == (3, 2)
    else:
        spikes = [explicit(mesh, a, SHARED) for a in (pre, post)]
        weight = explicit(mesh, jnp.ones((3, 2)), P())
        with jax.sharding.use_abstract_mesh(mesh):
            (traces, _) = jax.eval_shape(change, weight, *spikes)
        assert traces.pre.sharding.spec[0] == "batch"
