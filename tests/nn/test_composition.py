"""Blocks of a user, in every way in which a network is run, equal the same blocks in plain JAX."""

import operator

import composed
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick
from composed import BLOCKS, CHANNELS, ByHand
from flax import nnx

import jaxsnn
from jaxsnn import export, nn

T, N = 3, 2
LENGTHS = (3, 1)
KEY = 5  # seed of the random key in training


def of_blocks(*fast):
    """Every block; those that are not named here are left to the slow tests."""
    return pytest.mark.parametrize(
        "name", [pytest.param(n, marks=[] if n in fast else pytest.mark.slow) for n in BLOCKS]
    )


KEEP_SHAPE = ("sew", "iand", "attention", "twice")


def inputs(name, *, steps=T, examples=N):
    """Spikes and values in between, in float32."""
    return quick.uniform((steps, examples, *BLOCKS[name][2]), 0, 1.6, seed=1)


def total(ys):
    """A number to differentiate, to which every output adds something else."""
    return jnp.sum(ys * jnp.cos(jnp.arange(ys.size, dtype=ys.dtype)).reshape(ys.shape))


def assert_same(actual, expected, way, rtol=1e-9, atol=1e-9):
    assert jax.tree.structure(actual) == jax.tree.structure(expected), way

    def check(a, b):
        assert (a.shape, a.dtype) == (b.shape, b.dtype), way
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol, err_msg=way)

    jax.tree.map(check, actual, expected)


def values(net):
    """The parameters and running statistics of a network, by path."""
    return nnx.to_pure_dict(nnx.state(net))


# ---------------------------------------------------------------------------------- inference


@of_blocks("stage", "unet", "squeeze_excite", "twice")
def test_inference(name):
    """One compilation, and every way in which a sequence can be run without training."""
    by_hand = BLOCKS[name][1]
    mask = nn.sequence_mask(jnp.array(LENGTHS), T)

    def everything(net, xs, padded):
        hand = ByHand()
        expected = by_hand(net, xs, hand)
        carry, recorded, extras = nn.unroll(net, xs, record="*")
        first = net.initialize_carry(xs.shape[1:], dtype=xs.dtype)
        half, head = nn.unroll(net, xs[:2])
        end, tail = nn.unroll(net, xs[2:], half)
        found = {
            "unroll": nn.unroll(net, xs),
            "record": (carry, recorded),
            "first carry": nn.unroll(net, xs, first),
            "step by step": jax.lax.scan(net, first, xs),
            "stream": (end, jnp.concatenate([head, tail])),
            "flax.nnx.RNN": nnx.RNN(net, time_major=True, return_carry=True)(
                xs, initial_carry=first
            ),
            "checkpoint_every": nn.unroll(net, xs, checkpoint_every=2),
            "vmap": (carry, jax.vmap(lambda x: nn.unroll(net, x[:, None])[1][:, 0], 1, 1)(xs)),
        }
        masked = nn.unroll(net, padded, mask=mask, record="*")
        short = nn.unroll(net, xs[:1], record="*")
        return first, expected, hand.records, found, extras.records, masked, short

    with jax.enable_x64(True):
        net, xs = composed.in_float64(composed.make(name)), inputs(name).astype(jnp.float64)
        padded = jnp.where(mask.reshape(T, N, *(1,) * (xs.ndim - 2)), xs, jnp.nan)
        first, expected, notes, found, records, masked, short = quick.run_once(
            everything, net, xs, padded
        )

    assert 0 < expected.mean() != 1, "the outputs say nothing"
    spikes = [path.removesuffix(".v") for path in notes if path.endswith(".v")]
    assert all(0 < notes[path].mean() < 1 for path in spikes)
    carry = found["record"][0]
    assert jax.tree.map(jnp.shape, first) == jax.tree.map(jnp.shape, carry)
    for way, result in found.items():
        assert_same(result, (carry, expected), way)
    assert set(records) == set(notes)
    assert_same(records, notes, "records")
    potentials = {a.tobytes() for a in jax.tree.leaves(carry)}
    assert potentials == {notes[f"{path}.v"][-1].tobytes() for path in spikes}

    # The second sequence ends after one step, whatever is in the padding.
    ends, ys, extras = masked
    assert_same(ys[:, 0], expected[:, 0], "mask, a whole sequence")
    assert_same(ys[:1, 1], expected[:1, 1], "mask, a short sequence")
    assert not ys[1:, 1].any()
    for a, whole, b in zip(*map(jax.tree.leaves, (ends, carry, short[0])), strict=True):
        assert_same((a[0], a[1]), (whole[0], b[1]), "carry with a mask")
    for path, record in extras.records.items():
        assert_same(record[:1, 1], notes[path][:1, 1], f"record of {path} with a mask")
        assert not record[1:, 1].any(), path
    assert set(extras.records) == set(notes)


@of_blocks("twice")
def test_gradients(name):
    """In stretches, too, which run a part of the sequence twice."""
    by_hand = BLOCKS[name][1]

    def everything(net, xs):
        return {
            "by hand": jax.grad(lambda *a: total(by_hand(*a, ByHand())), (0, 1))(net, xs),
            "unroll": jax.grad(lambda *a: total(nn.unroll(*a)[1]), (0, 1))(net, xs),
            "checkpoint_every": jax.grad(
                lambda *a: total(nn.unroll(*a, checkpoint_every=2)[1]), (0, 1)
            )(net, xs),
        }

    with jax.enable_x64(True):
        net, xs = composed.in_float64(composed.make(name)), inputs(name).astype(jnp.float64)
        found = quick.run_once(everything, net, xs)
    expected = found.pop("by hand")
    assert all(np.any(leaf) for _, leaf in nnx.to_flat_state(nnx.state(expected[0], nnx.Param)))
    for way, gradients in found.items():
        assert_same(gradients, expected, way)


# ----------------------------------------------------------------------------------- training


@of_blocks("nested", "unet", "attention", "squeeze_excite", "twice")
def test_training(name):
    """Statistics over time and batch, one dropout mask per sequence, new running statistics."""
    by_hand = BLOCKS[name][1]
    mask = nn.sequence_mask(jnp.array(LENGTHS), T)

    def expected_of(net, xs, kept, mask=None):
        hand = ByHand(True, kept, mask)
        ys = by_hand(net, xs, hand)
        return total(ys), (ys, hand.records, hand.running)

    def everything(net, xs, key):
        def trained(net, xs):
            _, ys, extras = nn.unroll(net, xs, key=key, record="*")
            return total(ys), (ys, extras.records, extras.module)

        gradients, (ys, records, module) = jax.grad(trained, (0, 1), has_aux=True)(net, xs)
        kept = composed.kept_by_dropout(net, records)
        expected, noted = jax.grad(expected_of, (0, 1), has_aux=True)(net, xs, kept)
        after = nn.unroll(module, xs)[1]

        _, padded, padded_extras = nn.unroll(net, xs, mask=mask, key=key)
        _, (padded_by_hand, _, running) = expected_of(net, xs, kept, mask)
        half = padded[:1, 1], padded_by_hand[:1, 1]
        masked = (
            (padded[:, 0], half[0], composed.norms(padded_extras.module)),
            (
                padded_by_hand[:, 0],
                half[1],
                running,
            ),
        )
        actual = gradients, ys, records, composed.norms(module), after
        wanted = expected, *noted, by_hand(module, xs, ByHand())
        return actual, wanted, kept, masked, module

    with jax.enable_x64(True):
        net = composed.in_float64(composed.make(name))
        before = values(net)
        xs = inputs(name).astype(jnp.float64)
        (gradients, *actual), (expected, *wanted), kept, masked, module = quick.run_once(
            everything, net, xs, jax.random.key(KEY)
        )
        # A mask of dropout is known from its outputs only where its input was not 0 at each step.
        for path, keeps in kept.items():
            fired = actual[1][path.rpartition(".")[0] + ".2"].any((0, 2, 3))
            assert fired.all(), f"no spikes before the dropout {path}, choose other inputs"
            assert keeps.any()
        for way, a, b in zip(
            ("outputs", "records", "running statistics", "inference afterwards"),
            actual,
            wanted,
            strict=True,
        ):
            assert_same(a, b, way)
        assert_same(gradients, expected, "gradients")
        assert_same(*masked, "with a mask")
        assert_same(values(net), before, "the module that was run", 0, 0)
        params = nnx.Param
        assert_same(nnx.state(module, params), nnx.state(net, params), "parameters", 0, 0)


def test_dropout_of_a_block():
    """Other channels in two blocks, the same ones with the same key and in a stream."""
    sizes = (N, 4, 4, 16)
    net = nn.Sequential(*(Dropping(0.4) for _ in range(2)))
    carry = net.initialize_carry(sizes)
    xs = quick.uniform((T, *sizes), 0.5, 1)

    def everything(xs, key):
        def run(xs, key, carry=None):
            carry, ys, extras = nn.unroll(net, xs, carry, key=key, record="*")
            return carry, ys, extras.records

        half, head, _ = run(xs[:2], key)
        tail = run(xs[2:], key, half)[1]
        other = run(xs, jax.random.key(KEY + 1))[2]
        stretches = nn.unroll(net, xs, key=key, checkpoint_every=2)[1]
        return run(xs, key), run(xs, key)[1], jnp.concatenate([head, tail]), stretches, other

    found = quick.run_once(everything, xs, jax.random.key(KEY))
    (after, ys, records), again, stream, stretches, other = found
    assert after == carry == (((),), ((),))
    for same in (again, stream, stretches):
        np.testing.assert_array_equal(same, ys)
    paths = ("0.drop", "1.drop")
    assert set(records) == {"0", "1", *paths}
    kept = [records["0.drop"] != 0, records["1.drop"] != 0]
    first, second = (k.all((0, 2, 3)) for k in kept)
    for path, before, keeps in zip(paths, (xs, records["0"]), (first, second), strict=True):
        scaled = np.where(keeps[None, :, None, None], before / 0.6, 0)
        np.testing.assert_allclose(records[path], scaled, rtol=1e-6)
        assert 0.4 < keeps.mean() < 0.8
    assert (first != second).any()
    assert (first != (other["0.drop"] != 0).all((0, 2, 3))).any()


class Dropping(nn.Module):
    """A dropout of channels and nothing else."""

    def __init__(self, rate):
        self.drop = nn.Dropout2d(rate)

    def forward(self, x, run):
        return run(self.drop, x)


# ------------------------------------------------------------------------------ one SEW block


def small(channels=CHANNELS):
    """The block of the documentation, and inputs in float32."""
    return composed.make("sew"), inputs("sew")


def test_the_carry_is_a_plain_tuple():
    """One entry per call of `run`, in order, `()` where there is no state."""
    block, xs = small()
    state = jax.ShapeDtypeStruct(xs.shape[1:], xs.dtype)
    expected = (((), (), state, (), (), (), state),)
    first = block.initialize_carry(xs[0].shape)
    assert jax.tree.structure(first) == jax.tree.structure(expected)
    assert not any(leaf.any() for leaf in jax.tree.leaves(first))
    shapes = [
        jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), carry)
        for carry in (first, jax.eval_shape(block, first, xs[0])[0], nn.unroll(block, xs)[0])
    ]
    assert shapes == [expected] * 3


def test_a_loop_in_python():
    block, xs = small()
    step = jax.jit(lambda carry, x: block(carry, x))
    carry, ys = block.initialize_carry(xs[0].shape), []
    for x in xs:
        carry, y = step(carry, x)
        ys.append(y)
    assert_same((carry, jnp.stack(ys)), nn.unroll(block, xs), "loop", 1e-5, 1e-6)


@pytest.mark.parametrize("name", ["sew", "attention"])
def test_flax_rnn_with_the_batch_first(name):
    """Flax looks for the axis of time before those of the features."""
    block, xs = composed.make(name), inputs(name, steps=4)
    if name == "attention":  # whose tokens are an axis of batch, as they are for a `Linear`
        xs = xs[:, 0]
    carry, ys = nnx.RNN(block, return_carry=True)(xs.swapaxes(0, 1))
    assert_same((carry, ys.swapaxes(0, 1)), nn.unroll(block, xs), "RNN", 1e-5, 1e-6)


def test_new_parameters_are_used():
    """Nothing of an earlier run is kept, in a jitted function neither."""
    block, xs = small()
    run = jax.jit(lambda block, xs: nn.unroll(block, xs)[1])
    before = nn.unroll(block, xs)[1], run(block, xs)
    other = jax.tree.map(lambda a: 1.5 * a, block)
    after = nn.unroll(other, xs)[1], run(other, xs)
    for first, second in zip(before, after, strict=True):
        assert (first != second).any()
    assert_same(*after, "jit", 1e-5, 1e-6)
    ensemble = jax.tree.map(lambda *a: jnp.stack(a), block, other)
    both = jax.vmap(run, (0, None))(ensemble, xs)
    assert_same(both, jnp.stack([before[1], after[1]]), "vmap over networks", 1e-5, 1e-6)


def test_records_by_pattern():
    block, xs = small()
    _, _, extras = nn.unroll(block, xs, record=("branch.2.v", "*.6"))
    assert set(extras.records) == {"branch.2.v", "branch.6"}
    with pytest.raises(ValueError, match=r"record='branch\.3\.v' finds nothing .*branch\.2\.v"):
        nn.unroll(block, xs, record="branch.3.v")
    net = nn.Sequential(block, nn.Flatten())
    _, _, extras = nn.unroll(net, xs, record="*.v")
    assert set(extras.records) == {"0.branch.2.v", "0.branch.6.v"}


def rounded(name):
    """The block, whose input and output have one shape, in float64."""
    return composed.in_float64(composed.make(name)), inputs(name).astype(jnp.float64)


def fed_back(net, xs, hand, feed):
    """A recurrent container around a block, one step after another."""
    y, ys = jnp.zeros_like(xs[:1]), []
    for k in range(len(xs)):
        i = hand.note("i", feed(y, xs[k : k + 1]))
        y = hand.note("sub_module", net(i, hand))
        ys.append(y)
    return jnp.concatenate(ys)


@pytest.mark.parametrize(
    ("kind", "training"),
    [
        ("element-wise", True),
        ("linear", False),
        pytest.param("element-wise", False, marks=pytest.mark.slow),
        pytest.param("linear", True, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n == "twice" else pytest.mark.slow) for n in KEEP_SHAPE]
)
def test_inside_a_recurrent_container(name, kind, training):
    """Step by step; in training the statistics are those of each step, one after another."""
    by_hand = BLOCKS[name][1]
    key = jax.random.key(KEY) if training else None

    def feed(net, y, x):
        if kind == "element-wise":
            return y + x
        joined = jnp.concatenate([x, y], -1)
        return joined @ net.rc.kernel[...] + composed.channels_last(net.rc.bias, x)

    def everything(net, xs):
        def container(net, xs):
            carry, ys, extras = nn.unroll(net, xs, key=key, record="*")
            return total(ys), (carry, ys, extras)

        gradients, (carry, ys, extras) = jax.grad(container, has_aux=True)(net, xs)
        inside = {
            path.removeprefix("sub_module."): a
            for path, a in extras.records.items()
            if path.startswith("sub_module.")
        }
        kept = composed.kept_by_dropout(net.sub_module, inside) if training else None

        def expected(net, xs):
            hand = ByHand(training, kept)
            ys = fed_back(
                lambda i, hand: by_hand(net.sub_module, i, hand),
                xs,
                hand,
                lambda y, x: feed(net, y, x),
            )
            return total(ys), (ys, hand.records, hand.running)

        wanted, (wanted_ys, notes, running) = jax.grad(expected, has_aux=True)(net, xs)
        outer = {path: notes.pop(path) for path in ("i", "sub_module")}
        actual = [ys, inside, {path: extras.records[path] for path in outer}]
        want = [wanted_ys, notes, outer]
        assert len(extras.records) == len(notes) + len(outer)
        if training:
            actual += [composed.norms(extras.module.sub_module), carry[1]]
            want += [running, wanted_ys[-1]]
        return (gradients, *actual), (wanted, *want), kept

    with jax.enable_x64(True):
        block, xs = rounded(name)
        if kind == "element-wise":
            net = nn.ElementWiseRecurrentContainer(block, operator.add)
        else:
            rc = nnx.Rngs(1)
            net = nn.LinearRecurrentContainer(
                block, CHANNELS, CHANNELS, param_dtype=jnp.float64, rngs=rc
            )
        actual, wanted, kept = quick.run_once(everything, net, xs)
        assert all(0 < a.mean() != 1 for a in jax.tree.leaves(wanted[1]))
        for way, a, b in zip(
            ("gradients", "outputs", "records", "container", "running statistics", "feedback"),
            actual,
            wanted,
            strict=False,
        ):
            assert_same(a, b, way)
        assert len(actual) == len(wanted) == (6 if training else 4)
        if training:
            assert all(k.any() for k in kept.values())


# ------------------------------------------------------------------------------- ready-made


class ByResidual(nn.Module):
    """A shell, so that the parts have the paths of `composed.Block`."""

    def __init__(self, block):
        shortcut = () if block.shortcut is None else (block.shortcut,)
        self.block = nn.Residual(block.branch, *shortcut, combine=block.combine)

    def forward(self, x, run):
        return run(self.block, x)


class Branches(nn.Module):
    """Two convolutions, one of them with a neuron, joined to channels."""

    def __init__(self, *, rngs):
        self.left = nn.Conv(CHANNELS, 2, (3, 3), padding=1, rngs=rngs)
        self.right = nn.Sequential(
            nn.Conv(CHANNELS, 3, (1, 1), rngs=rngs), nn.BatchNorm(3), nn.LIFNode(v_threshold=0.2)
        )

    def forward(self, x, run):
        return jnp.concatenate([run(self.left, x), run(self.right, x)], -1)


def test_residual_and_concatenate():
    """The same as written out, in inference, in training, step by step; the shortcut is first."""
    branches = composed.unlike_the_start(Branches(rngs=nnx.Rngs(0)))
    pairs = {
        "shortcut": (composed.make("shortcut"), ByResidual),
        "concatenate": (branches, lambda net: nn.Concatenate(net.left, net.right)),
    }
    assert nn.Residual(nn.IFNode()).combine is operator.add

    def run(net, xs):
        first = net.initialize_carry(xs.shape[1:], dtype=xs.dtype)
        ys, stepped = nn.unroll(net, xs)[1], jax.lax.scan(net, first, xs)[1]
        _, in_training, extras = nn.unroll(net, xs, key=jax.random.key(KEY))
        return ys, stepped, in_training, list(composed.norms(extras.module).values())

    with jax.enable_x64(True):
        xs = inputs("iand").astype(jnp.float64)
        for name, (net, ready_made) in pairs.items():
            net = composed.in_float64(net)
            other = ready_made(net)
            expected, actual = quick.run_once(
                lambda net, other, xs: (run(net, xs), run(other, xs)), net, other, xs
            )
            assert_same(actual[:2], expected[:2], name)
            assert_same(actual[0], actual[1], name)
            if name == "concatenate":  # the others draw their dropout by other paths
                assert expected[0].shape[-1] == 5
                assert_same(actual, expected, name)
            else:
                assert_same(actual[3][:1], expected[3][:1], name)


# ---------------------------------------------------------------------- a part that runs twice


def test_one_part_two_calls():
    """Each call has a state of its own; the running statistics are updated one after the other."""
    net, xs = composed.make("twice"), inputs("twice")
    carry, _, extras = nn.unroll(net, xs, record="*.v")
    assert set(extras.records) == {"part.2.v", "part#2.2.v"}
    assert jax.tree.structure(carry) == jax.tree.structure((((), (), 0),) * 2)
    for (_, _, v), path in zip(carry, ("part.2.v", "part#2.2.v"), strict=True):
        np.testing.assert_array_equal(v, extras.records[path][-1])
    _, _, extras = nn.unroll(net, xs, key=jax.random.key(0), record=("part.0", "part#2.0"))
    ((_, (mean, var)),) = composed.norms(extras.module).items()
    expected = net.part[1].mean[...], net.part[1].var[...]
    for path in ("part.0", "part#2.0"):
        x = np.asarray(extras.records[path]).reshape(-1, CHANNELS)
        batch = x.mean(0), x.var(0, ddof=1)
        expected = tuple(0.9 * old + 0.1 * new for old, new in zip(expected, batch, strict=True))
    assert_same((mean, var), tuple(map(jnp.asarray, expected)), "statistics", 1e-5, 1e-6)


class InTwoPlaces(nn.Module):
    """Two attributes that are one module."""

    def __init__(self):
        self.first = nn.BatchNorm(CHANNELS)
        self.second = self.first

    def forward(self, x, run):
        return run(self.second, run(self.first, x) + 1)


def test_one_module_in_two_places():
    """Its statistics are updated by the first place, then by the second."""
    xs = inputs("twice")
    net = InTwoPlaces()
    _, _, extras = nn.unroll(net, xs, key=jax.random.key(0))
    one = 0.1 * xs.mean((0, 1))  # what the first call makes of it; the second has a mean of 1
    np.testing.assert_allclose(extras.module.first.mean[...], 0.9 * one + 0.1, rtol=1e-4)
    np.testing.assert_array_equal(extras.module.second.mean[...], extras.module.first.mean[...])


# ------------------------------------------------------------------------------------ tools


def test_fold_batch_norm():
    """Folding goes into the parts of a block, and leaves the block as it is."""
    with jax.enable_x64(True):
        nets = {name: composed.in_float64(composed.make(name)) for name in ("stage", "twice")}
        nets["residual"] = nn.Sequential(
            nn.Residual(rounded("iand")[0].branch, combine=operator.mul)
        )
        xs = {"twice": rounded("twice")[1]}
        folded = {name: nn.fold_batch_norm(net) for name, net in nets.items()}

        def outputs(nets, xs, images):
            return {name: nn.unroll(net, xs.get(name, images))[1] for name, net in nets.items()}

        expected, actual = quick.run_once(
            lambda before, after, *xs: (outputs(before, *xs), outputs(after, *xs)),
            nets,
            folded,
            xs,
            rounded("stage")[1],
        )
    for name, net in nets.items():
        assert composed.norms(net), name
        assert not composed.norms(folded[name]), name
        assert 0 < expected[name].mean() != 1, name
    assert_same(actual, expected, "folded")


def test_what_cannot_be_folded_is_named():
    """Nothing is known of what a `forward` does between two of its parts."""
    with pytest.raises(ValueError, match="norm"):
        nn.fold_batch_norm(composed.make("unet"))


INSIDE = {
    "sew": [f"branch.{k}" for k in range(7)],
    "attention": [*(f"{name}.{k}" for name in "qkv" for k in range(3)), "node"],
}


@pytest.mark.parametrize("name", ["sew", pytest.param("attention", marks=pytest.mark.slow)])
def test_doctor_looks_inside(name):
    """Layers in the order in which they run, under the paths of `record`, and with its numbers."""
    net, xs = composed.make(name), inputs(name)
    key = jax.random.key(KEY)
    report = jaxsnn.doctor(net, xs, key=key)
    rows = {row.path: row for row in report.layers}
    assert [path for path in rows if path in INSIDE[name]] == INSIDE[name]
    _, _, extras = nn.unroll(net, xs, key=key, record=INSIDE[name])
    neurons = [path for path, row in rows.items() if row.window is not None]
    assert neurons == [path for path in INSIDE[name] if rows[path].kind.endswith("Node")]
    for path in neurons:
        rate = extras.records[path].mean()
        np.testing.assert_allclose(rows[path].rate, rate, rtol=1e-5, err_msg=path)
    weights = [path for path in INSIDE[name] if rows[path].kind in ("Conv", "Linear")]
    assert len(weights) >= 2
    assert all(rows[path].gradient > 0 for path in weights)


@pytest.mark.slow
def test_doctor_looks_inside_nested_blocks():
    net, xs = composed.make("stage"), inputs("stage")
    rows = [row.path for row in jaxsnn.doctor(net, xs).layers]
    expected = []
    for k in range(3):
        expected += [f"blocks.{k}.branch.{layer}" for layer in range(7)]
        if k == 0:
            expected += [f"blocks.0.shortcut.{layer}" for layer in range(3)]
    assert [path for path in rows if path in expected] == expected


@pytest.mark.parametrize(
    ("name", "scaled"),
    [
        ("sew", {"branch.2": "branch.1", "branch.6": "branch.5"}),
        pytest.param(
            "attention", {"q.2": "q.1", "k.2": "k.1", "v.2": "v.1"}, marks=pytest.mark.slow
        ),
    ],
)
def test_calibrate_reaches_its_rate(name, scaled):
    net, xs = composed.make(name), inputs(name, examples=4)
    before, key = values(net), jax.random.key(KEY)
    rate = 0.25
    calibrated, layers = jaxsnn.calibrate(net, xs, rate, tolerance=0.2, key=key)
    assert_same(values(net), before, "the network that was given", 0, 0)
    done = {layer.path: layer for layer in layers}
    assert set(scaled) <= set(done)
    _, _, extras = nn.unroll(calibrated, xs, key=key, record=tuple(scaled))
    for path, factor_of in scaled.items():
        assert done[path].scaled == (factor_of,)
        assert done[path].factor != 1
        found = float(extras.records[path].mean())
        assert abs(found - rate) <= 0.2 * rate, path
        np.testing.assert_allclose(done[path].rate, found, rtol=1e-4)


@pytest.mark.parametrize(
    "name", ["sew", *(pytest.param(n, marks=pytest.mark.slow) for n in ("unet", "attention"))]
)
def test_export(tmp_path, name):
    """Step by step and of the whole sequence, for any length and any number of sequences."""
    net, path = composed.make(name), tmp_path / "net.zip"
    export.save(path, net, ("b", *BLOCKS[name][2]))
    loaded = export.load(path)
    for steps, examples in ((2, 1), (T, N)):
        xs = inputs(name, steps=steps, examples=examples)
        expected = nn.unroll(net, xs)[1]
        carry, ys = loaded.start(xs[0]), []
        for x in xs:
            carry, y = loaded.step(carry, x)
            ys.append(y)
        assert_same(jnp.asarray(loaded.run(xs)), expected, "run", 1e-5, 1e-6)
        assert_same(jnp.stack(ys), expected, "step", 1e-5, 1e-6)


# ----------------------------------------------------------------------------- what `run` says


class Asking(nn.Module):
    """Notes what it is told, and runs a part of its own."""

    def __init__(self, heard):
        self.heard, self.node = nnx.static(heard), nn.IFNode()

    def forward(self, x, run):
        assert isinstance(run, nn.Run)
        mask = None if run.mask is None else run.mask.shape
        self.heard.append((run.steps, x.ndim, run.training, run.key is not None, mask))
        return run(self.node, x)


def test_what_run_tells():
    """Whether it is a sequence, whether it is trained, and which steps count."""
    heard = []
    net, xs, key = Asking(heard), inputs("twice"), jax.random.key(0)
    mask = nn.sequence_mask(jnp.array(LENGTHS), T)

    def told(function, *args):
        heard.clear()
        jax.eval_shape(function, *args)
        return set(heard)

    carry = net.initialize_carry(xs[0].shape)
    assert told(lambda: nn.unroll(net, xs)) == {(True, 3, False, False, None)}
    assert told(lambda: nn.unroll(net, xs, key=key)) == {(True, 3, True, True, None)}
    assert told(lambda: nn.unroll(net, xs, mask=mask)) == {(True, 3, False, False, (T, N))}
    assert told(lambda: net(carry, xs[0])) == {(False, 2, False, False, None)}
    inside = nn.ElementWiseRecurrentContainer(net, operator.add)
    found = told(lambda: nn.unroll(inside, xs, mask=mask, key=key))
    assert (False, 2, True, True, (N,)) in found
    assert {each[0] for each in found} == {False}


def half(x):
    return x / 2


class OfFunctions(nn.Module):
    """Functions, Flax's layers and Flax's cells are parts like any other."""

    def __init__(self):
        self.norm = nnx.LayerNorm(CHANNELS, rngs=nnx.Rngs(0))
        self.cell = nnx.SimpleCell(CHANNELS, CHANNELS, rngs=nnx.Rngs(0))

    def forward(self, x, run):
        return run(self.cell, run(half, run(self.norm, x)))


def test_functions_and_layers_of_flax():
    net, xs = OfFunctions(), inputs("twice")
    carry, ys = nn.unroll(net, xs)
    state, expected = jnp.zeros((N, CHANNELS)), []
    for x in xs:
        state, y = net.cell(state, net.norm(x) / 2)
        expected.append(y)
    assert_same((carry, ys), (((), (), state), jnp.stack(expected)), "unroll", 1e-5, 1e-6)
    first = net.initialize_carry(xs[0].shape)
    assert_same(jax.lax.scan(lambda c, x: net(c, x), first, xs), (carry, ys), "step", 1e-5, 1e-6)
    assert set(nn.unroll(net, xs, record=("norm", "cell"))[2].records) == {"norm", "cell"}


class Rate(nn.Module):
    """The mean over time, of whole sequences."""

    def __init__(self):
        self.node = nn.IFNode()

    def forward(self, x, run):
        run.require_whole_sequence(self)
        return run(self.node, x).mean(0)


def test_a_module_of_whole_sequences():
    net, xs = Rate(), inputs("twice")
    ys = nn.unroll(net, xs)[1]
    np.testing.assert_allclose(ys, nn.unroll(nn.IFNode(), xs)[1].mean(0), rtol=1e-6)
    mask = nn.sequence_mask(jnp.array(LENGTHS), T)
    carry = nn.unroll(nn.Sequential(nn.IFNode()), xs)[0]
    for refused in (
        lambda: nn.unroll(net, xs, mask=mask),
        lambda: nn.unroll(net, xs, checkpoint_every=2),
        lambda: nn.unroll(net, xs, carry),
        lambda: net(carry, xs[0]),
        lambda: nn.unroll(nn.ElementWiseRecurrentContainer(net, operator.add), xs),
    ):
        with pytest.raises(ValueError, match="Rate"):
            refused()


# ------------------------------------------------------------------------------------ errors


class Careless(nn.Module):
    """Runs its parts in ways of its own."""

    def __init__(self, how):
        self.how = nnx.static(how)
        self.branch = nn.Sequential(
            nn.Linear(CHANNELS, CHANNELS, rngs=nnx.Rngs(0)), nn.IFNode(v_threshold=0.1)
        )
        self.norm, self.drop = nn.BatchNorm(CHANNELS), nn.Dropout(0.5)
        self.node = nn.IFNode()

    def forward(self, x, run):
        return self.how(self, x, run)


def careful(net, x, run):
    return run(net.node, run(net.drop, run(net.norm, run(net.branch, x))))


def test_nothing_is_wrong_with_the_careful_one():
    net, xs = Careless(careful), inputs("twice")
    _, _, extras = nn.unroll(net, xs, key=jax.random.key(0))
    assert (extras.module.norm.mean[...] != net.norm.mean[...]).any()


@pytest.mark.parametrize(
    "how",
    [
        lambda net, x, run: net.branch(x),
        lambda net, x, run: net.node(x),
        lambda net, x, run: x + net.branch(x),
    ],
)
def test_a_cell_without_run(how):
    for call in (nn.unroll, lambda net, xs: net.initialize_carry(xs[0].shape)):
        with pytest.raises((TypeError, ValueError), match=r"\brun\b"):
            call(Careless(how), inputs("twice"))


FORGOTTEN = {
    "norm": lambda net, x, run: run(net.node, run(net.drop, net.norm(run(net.branch, x)))),
    "drop": lambda net, x, run: run(net.node, net.drop(run(net.norm, run(net.branch, x)))),
}


@pytest.mark.parametrize("name", FORGOTTEN)
def test_normalisation_and_dropout_without_run(name):
    """Never inference in silence: an error of training names the part, also deep inside."""
    net, xs, key = Careless(FORGOTTEN[name]), inputs("twice"), jax.random.key(0)
    right = Careless(careful)
    assert_same(nn.unroll(net, xs)[1], nn.unroll(right, xs)[1], "inference", 1e-6, 1e-6)
    inside = nn.Sequential(nn.IFNode(), nn.Residual(net))
    fed_back = nn.ElementWiseRecurrentContainer(net, operator.add)
    for module, path in (
        (net, name),
        (inside, rf"1\.branch\.{name}"),
        (fed_back, rf"sub_module\.{name}"),
    ):
        with pytest.raises(ValueError, match=rf"\b{path}\b"):
            nn.unroll(module, xs, key=key)


TRANSFORMED = {
    "scan": lambda net, x, run: jax.lax.scan(lambda c, x: (c, run(net.node, x)), 0, x)[1],
    "scan of a stateless part": lambda net, x, run: jax.lax.scan(
        lambda c, x: (c, run(net.norm, x)), 0, x
    )[1],
    "vmap": lambda net, x, run: jax.vmap(lambda x: run(net.branch, x))(x),
    "jit": lambda net, x, run: jax.jit(lambda x: run(net.node, x))(x),
}


@pytest.mark.parametrize("how", TRANSFORMED)
@pytest.mark.parametrize("key", [None, 0])
def test_run_in_a_transformation_of_ones_own(how, key):
    key = key if key is None else jax.random.key(key)
    with pytest.raises(ValueError, match=r"\brun\b"):
        nn.unroll(Careless(TRANSFORMED[how]), inputs("twice"), key=key)


def more_over_time(net, x, run):
    y = run(net.node, x)
    return run(net.branch, y) if run.steps else y


def more_in_training(net, x, run):
    y = run(net.drop, run(net.norm, run(net.node, x)))
    return run(net.branch, y) if run.training else y


def test_a_number_of_calls_that_changes():
    xs = inputs("twice")
    net = Careless(more_over_time)
    over_time, one_step = nn.unroll(net, xs)[0], net.initialize_carry(xs[0].shape)
    for carry, call in (
        (over_time, lambda carry: net(carry, xs[0])),
        (one_step, lambda carry: nn.unroll(net, xs, carry)),
    ):
        with pytest.raises(ValueError, match=r"(?i)carry|entr|call"):
            call(carry)
    net, key = Careless(more_in_training), jax.random.key(0)
    inference, training = nn.unroll(net, xs)[0], nn.unroll(net, xs, key=key)[0]
    with pytest.raises(ValueError, match=r"(?i)carry|entr|call"):
        nn.unroll(net, xs, inference, key=key)
    with pytest.raises(ValueError, match=r"(?i)carry|entr|call"):
        nn.unroll(net, xs, training)


def test_a_stale_carry():
    """Of other parts, or of another batch."""
    block, xs = small()
    carry, _ = nn.unroll(block, xs)
    (branch,) = carry
    wrong = {
        "none": (),
        "too many": (branch, branch),
        "of the branch": branch,
        "short inside": (branch[:-1],),
        "one array": xs[0],
        "another batch": jax.tree.map(lambda a: a[:1], carry),
    }
    for stale in wrong.values():
        for call in (lambda stale: nn.unroll(block, xs, stale), lambda stale: block(stale, xs[0])):
            with pytest.raises((TypeError, ValueError), match="carry"):
                call(stale)


def test_statistics_need_every_step_at_once():
    block, xs = small()
    with pytest.raises(ValueError, match="checkpoint_every"):
        nn.unroll(block, xs, key=jax.random.key(0), checkpoint_every=2)


def test_train_and_eval_are_not_ignored():
    """Flax's switches do nothing here, so they raise where a user would wait for something."""
    for net in (
        composed.make("sew"),
        composed.make("stage"),
        nn.BatchNorm(3),
        nn.Dropout(0.5),
        nn.Sequential(nn.Dropout(0.5)),
        nn.ElementWiseRecurrentContainer(nn.BatchNorm(3), operator.add),
        jaxsnn.models.Classifier(nn.Sequential(nn.BatchNorm(3))),
    ):
        for switch in (net.train, net.eval):
            with pytest.raises((TypeError, ValueError), match="key"):
                switch()


def test_a_module_is_no_function_of_one_argument():
    with pytest.raises(TypeError, match=r"carry, y = |unroll"):
        composed.make("sew")(inputs("sew"))


class Halves(nn.Module):
    """Runs a stack in two halves, which are made in `forward` in one of several ways."""

    def __init__(self, halves):
        rngs = nnx.Rngs(0)
        self.stack = nn.Sequential(
            nn.Linear(3, 3, rngs=rngs), nn.BatchNorm(3), nn.IFNode(), nn.Linear(3, 3, rngs=rngs)
        )
        self.halves = halves

    def forward(self, x, run):
        for half in self.halves(self.stack):
            x = run(half, x)
        return x


HALVES = {
    "slices": lambda stack: (stack[:3], stack[3:]),
    "layers": lambda stack: tuple(stack),
    "a stack made anew": lambda stack: (nn.Sequential(*stack),),
}


@pytest.mark.parametrize("halves", HALVES.values(), ids=HALVES)
def test_parts_made_of_the_parts_of_a_module(halves):
    """They run as the parts do, also once folded, when the layers keep their places."""
    net, xs = Halves(halves), jnp.linspace(-1, 3, 24).reshape(4, 2, 3)
    whole = nn.unroll(net.stack, xs)[1]
    np.testing.assert_array_equal(nn.unroll(net, xs)[1], whole)
    folded = nn.fold_batch_norm(net)
    np.testing.assert_allclose(nn.unroll(folded, xs)[1], whole, rtol=1e-5)


def test_variables_that_are_not_those_of_the_module():
    net = Halves(lambda stack: (nn.Linear(3, 3, rngs=nnx.Rngs(1)),))
    with pytest.raises(ValueError, match="variables that are in none of its attributes"):
        nn.unroll(net, jnp.ones((4, 2, 3)))


def test_unroll_inside_a_forward_needs_the_whole_sequence():
    class Inner(Halves):
        def forward(self, x, run):
            return nn.unroll(self.stack, x)[1]

    net, xs = Inner(None), jnp.ones((4, 2, 3))
    np.testing.assert_array_equal(nn.unroll(net, xs)[1], nn.unroll(net.stack, xs)[1])
    with pytest.raises(ValueError, match="Inner calls unroll"):
        nn.unroll(nn.ElementWiseRecurrentContainer(net, operator.add), xs)


def test_a_derived_layer_may_mix_the_batch():
    """`Linear` gets all steps in one call; a class that replaces its call gets one step."""

    class Centred(nn.Linear):
        def __call__(self, inputs, out_sharding=None):
            y = super().__call__(inputs, out_sharding)
            return y - y.mean(0, keepdims=True)

    layer, xs = Centred(3, 3, rngs=nnx.Rngs(0)), jnp.linspace(-1, 3, 24).reshape(4, 2, 3)
    expected = jnp.stack([layer(x) for x in xs])
    np.testing.assert_allclose(nn.unroll(layer, xs)[1], expected, rtol=1e-5, atol=1e-6)


def test_a_residual_of_two_shapes():
    wider = nn.Linear(3, 5, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"\[4, 2, 3\] with .* \[4, 2, 5\]; give it a shortcut"):
        nn.unroll(nn.Residual(wider), jnp.ones((4, 2, 3)))
