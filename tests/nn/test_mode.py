"""How a sequence is run beside its data: masks, records, training."""

import functools
import operator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxsnn import nn

T, N, F = 4, 4, 3
LENGTHS = (4, 2, 2, 4)


def inputs(key=0):
    return jax.random.uniform(jax.random.key(key), (T, N, F), jnp.float32, 0, 1.5)


def every_kind():
    """Layers of all kinds, beside and inside containers."""
    rngs = nnx.Rngs(0)
    inner = nn.Sequential(
        nn.Linear(5, F, rngs=rngs), nn.BatchNorm(F), nn.IFNode(v_threshold=0.3), nn.Dropout(0.3)
    )
    return nn.Sequential(
        nn.Linear(F, 5, rngs=rngs),
        nn.BatchNorm(5),
        nn.LIFNode(v_threshold=0.3),
        nn.Dropout(0.5),
        nn.LinearRecurrentContainer(inner, 5, F, rngs=rngs),
        nnx.GRUCell(F, F, rngs=rngs),
        nn.ElementWiseRecurrentContainer(nn.IFNode(v_threshold=0.5), operator.add),
        nn.SynapseFilter(tau=2.0),
    )


@pytest.fixture(scope="module")
def net():
    return every_kind()


@pytest.fixture(scope="module")
def trained(net):
    """One run in training that records everything: `(carry, ys, extras)`."""
    return nn.unroll(net, inputs(), key=jax.random.key(1), record="*")


def assert_same(actual, expected, **tolerance):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6, **tolerance),
        actual,
        expected,
    )


def statistics(module):
    """The running statistics in a module, a nested dict."""
    return nnx.to_pure_dict(nnx.state(module, nnx.BatchStat))


# ------------------------------------------------------------------------------------- masks


def alike():
    """`(length, which sequences have it)`."""
    return [(length, np.flatnonzero(np.array(LENGTHS) == length)) for length in set(LENGTHS)]


def test_a_padded_batch_equals_each_sequence_alone(net):
    mask = nn.sequence_mask(jnp.array(LENGTHS), T)
    xs = jnp.where(mask[..., None], inputs(), jnp.nan)  # what is in the padding must not matter
    carry, ys, extras = nn.unroll(net, xs, mask=mask, record="2.v")
    for length, those in alike():
        alone, expected, seen = nn.unroll(net, xs[:length, those], record="2.v")
        assert_same(ys[:length, those], expected)
        assert not jnp.any(ys[length:, those])
        assert_same(jax.tree.map(lambda state, those=those: state[those], carry), alone)
        assert_same(extras.records["2.v"][:length, those], seen.records["2.v"])


def test_gradients_of_a_padded_batch():
    mask = nn.sequence_mask(jnp.array(LENGTHS), T)
    xs = jnp.where(mask[..., None], inputs(), jnp.nan)
    weights = jnp.cos(jnp.arange(F, dtype=jnp.float32))

    @jax.jit
    def padded(net):
        return jnp.sum(jnp.sum(nn.unroll(net, xs, mask=mask)[1], (0, 1)) * weights)

    @jax.jit
    def alone(net):
        return sum(
            jnp.sum(jnp.sum(nn.unroll(net, xs[:length, those])[1], (0, 1)) * weights)
            for length, those in alike()
        )

    net = nn.LinearRecurrentContainer(nn.LIFNode(v_threshold=0.2), F, F, rngs=nnx.Rngs(3))
    assert_same(jax.grad(padded)(net), jax.grad(alone)(net))


def test_steps_left_out_in_the_middle():
    """A masked step does not happen, wherever it is; the recurrent weights learn from none."""
    net = nn.LinearRecurrentContainer(nn.LIFNode(v_threshold=0.2), F, F, rngs=nnx.Rngs(3))
    xs = inputs()
    mask = jnp.array([True, False, True, True])
    weights = jnp.cos(jnp.arange(T, dtype=jnp.float32))[:, None, None]

    def total(net, xs, weights, **kwargs):
        carry, ys = nn.unroll(net, xs, **kwargs)
        return jnp.sum(ys * weights), (carry, ys)

    run = jax.value_and_grad(total, has_aux=True)
    (_, (carry, ys)), grads = run(net, xs, weights, mask=mask)
    kept = np.flatnonzero(mask)
    (_, (expected, few)), few_grads = run(net, xs[kept], weights[kept])
    assert_same((carry, ys[kept], grads), (expected, few, few_grads))


def test_statistics_do_not_see_the_padding():
    mask = nn.sequence_mask(jnp.array(LENGTHS), T)
    xs = jnp.where(mask[..., None], inputs(), jnp.inf)
    _, ys, extras = nn.unroll(nn.BatchNorm(F), xs, mask=mask, key=jax.random.key(0))
    seen = xs[mask]
    np.testing.assert_allclose(extras.module.mean[...], 0.1 * seen.mean(0), rtol=1e-5)
    np.testing.assert_allclose(extras.module.var[...], 0.9 + 0.1 * seen.var(0, ddof=1), rtol=1e-5)
    np.testing.assert_allclose(ys[mask].mean(0), 0, atol=1e-5)


def test_a_single_number_teaches_no_variance():
    xs, layer = inputs(), nn.BatchNorm(F)
    mask = jnp.zeros((T, N), bool).at[0, 0].set(True)
    _, _, extras = nn.unroll(layer, xs, mask=mask, key=jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, statistics(extras.module), statistics(layer))


def test_mask_with_stretches():
    net = nn.LinearRecurrentContainer(nn.LIFNode(v_threshold=0.2), F, F, rngs=nnx.Rngs(3))
    xs, mask = inputs(), nn.sequence_mask(jnp.array(LENGTHS), T)
    assert_same(nn.unroll(net, xs, mask=mask, checkpoint_every=3), nn.unroll(net, xs, mask=mask))


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (jnp.ones((T, N)), TypeError, "mask must be bool .*float32"),
        (jnp.ones((N, F), bool), ValueError, r"axes of the sequence \[4, 4, 3\].* got \[4, 3\]"),
        (jnp.array(True), ValueError, r"usually \[T, N\], got \[\]"),
    ],
)
def test_bad_masks(mask, error, message):
    with pytest.raises(error, match=message):
        nn.unroll(nn.IFNode(), inputs(), mask=mask)


class Clock(nn.Cell):
    """Counts the steps, of all sequences together."""

    def initialize_carry(self, input_shape, rngs=None, *, dtype=jnp.float32):
        return jnp.zeros((), jnp.int32)

    def __call__(self, carry, x):
        return carry + 1, x


class Ticks(NamedTuple):
    """A potential, and a count of the steps."""

    v: jax.Array
    ticks: jax.Array


class Ticking(Clock):
    """Has a state for each sequence, and one for all of them."""

    def initialize_carry(self, input_shape, rngs=None, *, dtype=jnp.float32):
        return Ticks(jnp.zeros(input_shape, dtype), jnp.zeros((), jnp.int32))

    def __call__(self, carry, x):
        return Ticks(carry.v + x, carry.ticks + 1), x


@pytest.mark.parametrize(
    ("module", "name", "remedy"),
    [
        (Clock(), r"the state carry of shape \[\]", r"jnp.zeros\(input_shape\[:1\]\)"),
        (
            nn.Sequential(nn.IFNode(), Ticking()),
            r"the state carry.ticks of layer 1 of shape \[\]",
            r"jnp.zeros\(input_shape\[:1\]\)",
        ),
        (lambda x: x.mean(0), r"an output of shape \[4, 3\]", "from the first layer to the last;"),
    ],
    ids=["state", "state of a layer", "output"],
)
def test_what_is_masked_apart_must_be_apart(module, name, remedy):
    message = rf"mask, here of shape .*, does not fit {name}: .*{remedy}"
    with pytest.raises(ValueError, match=message):
        nn.unroll(module, inputs(), mask=jnp.ones((T, N), bool))


def test_masked_outputs_keep_their_dtype():
    mask = nn.sequence_mask(jnp.array(LENGTHS), T)
    _, ys = nn.unroll(lambda x: x >= 0, inputs(), mask=mask)
    np.testing.assert_array_equal(ys, jnp.broadcast_to(mask[..., None], ys.shape))


def test_lengths_in_a_short_integer():
    lengths = jnp.array([4, 200], jnp.uint8)
    np.testing.assert_array_equal(nn.sequence_mask(lengths, 300).sum(0), lengths)


def test_bad_lengths():
    with pytest.raises(TypeError, match="lengths must be integers"):
        nn.sequence_mask(jnp.array([1.0]), 3)
    with pytest.raises(ValueError, match="T must be at least 1, got 0"):
        nn.sequence_mask(jnp.array([1]), T=0)


def test_layers_that_mix_steps_refuse_a_mask():
    layer = nn.contrib.TemporalEffectiveBatchNorm(T, F)
    with pytest.raises(ValueError, match="cannot leave some out by mask"):
        nn.unroll(layer, inputs(), mask=jnp.ones((T, N), bool))
    with pytest.raises(ValueError, match="checkpoint_every"):
        nn.unroll(layer, inputs(), checkpoint_every=2)
    with pytest.raises(ValueError, match="needs all time steps together"):
        nn.unroll(nn.ElementWiseRecurrentContainer(layer, operator.add), inputs())


# ----------------------------------------------------------------------------------- records


def test_records_hold_what_is_inside(net):
    """By path, and with the values that running the parts one after another gives."""
    xs = inputs()
    carry, ys, extras = nn.unroll(net, xs, record="*")
    records = extras.records
    jax.tree.map(np.testing.assert_array_equal, nnx.state(extras.module), nnx.state(net))
    assert_same((carry, ys), nn.unroll(net, xs))
    assert_same(records["7"], ys)
    assert_same(records["2.v"][-1], carry[2])
    assert_same(records["7.i"], records["7"])  # the output of a SynapseFilter is its current
    x = xs
    for k, layer in enumerate(net.layers):
        _, x = nn.unroll(layer, x)
        np.testing.assert_allclose(records[str(k)], x, rtol=1e-5, atol=1e-6, err_msg=str(k))
    # inside the container: the current that it feeds, and each layer
    container = net[4]
    feedback = jnp.concatenate([jnp.zeros((1, N, F)), records["4"][:-1]])
    fed = container.rc(jnp.concatenate([records["3"], feedback], -1))
    np.testing.assert_allclose(records["4.i"], fed, rtol=1e-5, atol=1e-5)
    inside = container.sub_module
    np.testing.assert_allclose(
        records["4.sub_module.1"], inside[1](inside[0](fed)), rtol=1e-4, atol=1e-4
    )
    for spikes in ("2", "4.sub_module.2", "6.sub_module"):
        assert set(np.unique(records[spikes])) == {0, 1}
    assert records["4.sub_module.2.v"].shape == (T, N, F)


def test_potentials_of_every_step():
    node, xs = nn.LIFNode(), inputs()
    _, _, extras = nn.unroll(node, xs, record="v")
    v = node.initialize_carry(xs.shape[1:])
    for t, x in enumerate(xs):
        v, _ = node(v, x)
        np.testing.assert_allclose(extras.records["v"][t], v, rtol=1e-6)


def test_records_can_be_regularised(net):
    """A record is an output like any other: gradients flow from it."""
    xs = inputs()

    def rate(net):
        return jnp.mean(nn.unroll(net, xs, record="4.sub_module.2")[2].records["4.sub_module.2"])

    kernel = jax.grad(rate)(net).layers[4].rc.kernel[...]
    assert jnp.any(kernel != 0)


def test_records_in_stretches_and_under_jit_and_vmap(net):
    xs = inputs()
    names = ("2.v", "4.sub_module.*")
    net = nn.Sequential(*net.layers[:5])
    expected = nn.unroll(net, xs, record=names)[2].records
    assert_same(nn.unroll(net, xs, record=names, checkpoint_every=3)[2].records, expected)
    run = jax.jit(lambda net, xs: nn.unroll(net, xs, record=names)[2].records)
    assert_same(run(net, xs), expected)
    one_by_one = jax.vmap(lambda xs: run(net, xs), 1, 1)(xs)
    assert_same(one_by_one, expected)


def test_a_record_of_nothing_lists_what_there_is(net):
    with pytest.raises(ValueError, match=r"record='4\.v' finds nothing .*4\.sub_module\.2\.v"):
        nn.unroll(net, inputs(), record=["2.v", "4.v"])
    with pytest.raises(ValueError, match="there are v"):
        nn.unroll(nn.IFNode(), inputs(), record="u")


@pytest.mark.parametrize("record", [5, None, True, [1]])
def test_bad_records(record):
    with pytest.raises(TypeError, match="record must be a path or several"):
        nn.unroll(nn.IFNode(), inputs(), record=record)


def test_a_function_has_nothing_to_record():
    with pytest.raises(ValueError, match="there are no layers inside it"):
        nn.unroll(jnp.sin, inputs(), record="v")


def test_nothing_is_computed_for_records_that_are_not_asked_for():
    net = nn.Sequential(nn.Linear(F, F, rngs=nnx.Rngs(0)), nn.LIFNode())
    plain = str(jax.make_jaxpr(lambda xs: nn.unroll(net, xs))(inputs()))
    recorded = str(jax.make_jaxpr(lambda xs: nn.unroll(net, xs, record="1.v"))(inputs()))
    assert plain.count("f32[4,12]") < recorded.count("f32[4,12]")
    assert "select_n" not in plain.split("scan[")[0]  # no masks either


# ---------------------------------------------------------------------------------- training


def test_training_returns_the_statistics_and_changes_nothing(net, trained):
    _, _, extras = trained
    before = statistics(net)
    for leaf in jax.tree.leaves(before):
        assert len(np.unique(leaf)) == 1  # still all 0, or all 1
    after = statistics(extras.module)
    assert jax.tree.structure(after) == jax.tree.structure(before)
    jax.tree.map(
        np.testing.assert_array_equal,
        nnx.state(extras.module, nnx.Param),
        nnx.state(net, nnx.Param),
    )
    x = extras.records["0"]
    outside = after["layers"][1]
    np.testing.assert_allclose(outside["mean"], 0.1 * x.mean((0, 1)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        outside["var"], 0.9 + 0.1 * x.reshape(-1, 5).var(0, ddof=1), rtol=1e-5
    )
    # inside a container, one update a step
    inside = after["layers"][4]["sub_module"]["layers"][1]
    mean, var = jnp.zeros(F), jnp.ones(F)
    for x in extras.records["4.sub_module.0"]:
        mean, var = 0.9 * mean + 0.1 * x.mean(0), 0.9 * var + 0.1 * x.var(0, ddof=1)
    np.testing.assert_allclose(inside["mean"], mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(inside["var"], var, rtol=1e-5)


def test_statistics_are_used_in_inference(trained):
    updated = trained[2].module
    seen = nn.unroll(updated, inputs(), record=["0", "1"])[2].records
    running = updated[1]
    expected = (seen["0"] - running.mean[None, None]) / jnp.sqrt(running.var[None, None] + 1e-5)
    np.testing.assert_allclose(seen["1"], expected, rtol=1e-4, atol=1e-5)


def test_the_same_elements_are_dropped_at_every_step(trained):
    _, _, extras = trained
    for before, after, p in (("2", "3", 0.5), ("4.sub_module.2", "4.sub_module.3", 0.3)):
        spikes, kept = np.array(extras.records[before]), np.array(extras.records[after])
        np.testing.assert_allclose(kept[kept != 0], 1 / (1 - p), rtol=1e-6)
        fired_and_dropped = ((spikes == 1) & (kept == 0)).any(0)
        fired_and_kept = ((spikes == 1) & (kept != 0)).any(0)
        assert not (fired_and_dropped & fired_and_kept).any()


def test_training_in_stretches_with_the_same_key():
    """Dropout of a sequence in two parts is that of the whole."""
    net = nn.Sequential(nn.LIFNode(v_threshold=0.2), nn.Dropout(0.5))
    key, xs = jax.random.key(3), inputs()
    _, whole, _ = nn.unroll(net, xs, key=key)
    carry, head, _ = nn.unroll(net, xs[:2], key=key)
    _, tail, _ = nn.unroll(net, xs[2:], carry, key=key)
    np.testing.assert_array_equal(jnp.concatenate([head, tail]), whole)
    np.testing.assert_array_equal(nn.unroll(net, xs, key=key, checkpoint_every=2)[1], whole)
    assert jnp.any(nn.unroll(net, xs, key=jax.random.key(4))[1] != whole)


def test_layers_draw_apart():
    net = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5))
    ones = jnp.ones((1, 400, 4))
    _, _, extras = nn.unroll(net, ones, key=jax.random.key(0), record="*")
    kept = extras.records["1"] != 0
    assert 0.2 < jnp.mean(kept) < 0.3  # a quarter, not a half


def test_training_refuses_what_it_cannot_do(net):
    with pytest.raises(TypeError, match="key must be a random key"):
        nn.unroll(net, inputs(), key=True)
    with pytest.raises(ValueError, match=r"BatchNorm takes its statistics .*checkpoint_every"):
        nn.unroll(net, inputs(), key=jax.random.key(0), checkpoint_every=2)
    with pytest.raises(ValueError, match="more than one number per channel"):
        nn.unroll(nn.BatchNorm(F), inputs()[:1, :1], key=jax.random.key(0))


@pytest.mark.parametrize(
    "layer",
    [nnx.BatchNorm(F, rngs=nnx.Rngs(0)), nnx.Dropout(0.5, rngs=nnx.Rngs(0))],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_of_flax_that_change_themselves_are_refused(layer):
    name = type(layer).__name__
    for module in (layer, nn.ElementWiseRecurrentContainer(layer, operator.add)):
        with pytest.raises(ValueError, match=f"use jaxsnn.nn.{name}"):
            nn.unroll(module, inputs())


class Holds(nnx.Module):
    """A layer of a user's own around another one."""

    def __init__(self, layer):
        self.layer = layer

    def __call__(self, x):
        return x + self.layer(x)


class HoldsAll(nn.Module):
    """The same for all steps at once."""

    def __init__(self, layer):
        self.layer = layer

    def forward(self, x, run):
        run.require_whole_sequence(self)
        return self.layer(x)


class Skip(nn.Cell):
    """The same for a cell."""

    def __init__(self, sub_module):
        self.sub_module = sub_module

    def initialize_carry(self, input_shape, rngs=None, *, dtype=jnp.float32):
        return self.sub_module.initialize_carry(input_shape, rngs, dtype=dtype)

    def __call__(self, carry, x):
        carry, y = self.sub_module(carry, x)
        return carry, x + y


@pytest.mark.parametrize(
    ("module", "path"),
    [
        (Skip(nn.Sequential(nn.IFNode(), nn.Dropout())), r"sub_module\.1"),
        (Holds(nn.BatchNorm(F)), "layer"),
        (HoldsAll(nn.BatchNorm(F)), "layer"),
        (nnx.Sequential(nn.Dropout()), "layers.0"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_modules_that_call_their_layers_by_themselves(module, path):
    """Their dropout would do nothing in training, and their statistics would stand still."""
    whole = [(module, path), (nn.Sequential(nn.IFNode(), module), rf"1\.{path}")]
    if not isinstance(module, HoldsAll):
        container = nn.ElementWiseRecurrentContainer(module, operator.add)
        whole.append((container, rf"sub_module\.{path}"))
    for net, where in whole:
        with pytest.raises(ValueError, match=rf"(Dropout|BatchNorm) at '{where}' of .* not run"):
            nn.unroll(net, inputs(), key=jax.random.key(0))
    nn.unroll(module, inputs())  # in inference there is nothing to tell


@pytest.mark.parametrize("layer", [nn.BatchNorm(F), nn.Dropout()])
def test_a_call_of_ones_own(layer):
    """It is used in inference, and refused in training, of which it knows nothing."""
    base = type(layer)
    mine = type("Mine", (base,), {"__call__": lambda self, x: 2 * x})
    layer = mine(F) if base is nn.BatchNorm else mine()
    for net in (layer, nn.Sequential(nn.IFNode(), layer)):
        _, ys = nn.unroll(net, inputs())
        spikes = inputs() if net is layer else nn.unroll(nn.IFNode(), inputs())[1]
        np.testing.assert_array_equal(ys, 2 * spikes)
        with pytest.raises(ValueError, match="Mine"):
            nn.unroll(net, inputs(), key=jax.random.key(0))


@pytest.mark.parametrize("hold", [Holds, HoldsAll])
def test_layers_of_flax_that_change_themselves_inside_another(hold):
    for layer in (nnx.BatchNorm(F, rngs=nnx.Rngs(0)), nnx.Dropout(0.5, rngs=nnx.Rngs(0))):
        with pytest.raises(ValueError, match="a layer of this module changes its own variables"):
            nn.unroll(hold(layer), inputs())


def test_a_normalisation_in_two_places():
    """Its statistics are updated in the order of the calls, as Flax updates them."""
    norm = nn.BatchNorm(F)
    net = nn.Sequential(norm, nn.IFNode(v_threshold=0.5), norm)
    _, _, extras = nn.unroll(net, inputs(), key=jax.random.key(0), record="1")
    mean, var = jnp.zeros(F), jnp.ones(F)
    for x in (inputs(), extras.records["1"]):
        mean = 0.9 * mean + 0.1 * x.mean((0, 1))
        var = 0.9 * var + 0.1 * x.reshape(-1, F).var(0, ddof=1)
    for layer in (extras.module[0], extras.module[2]):
        np.testing.assert_allclose(layer.mean[...], mean, rtol=1e-5)
        np.testing.assert_allclose(layer.var[...], var, rtol=1e-5)


def test_names_and_meaning_of_arguments_are_those_of_flax():
    """Parameters, variables and settings of Flax's layer, taken over by name, give its numbers."""
    settings = {"momentum": 0.7, "epsilon": 0.1}
    ours, theirs = nn.BatchNorm(F, **settings), nnx.BatchNorm(F, **settings, rngs=nnx.Rngs(0))
    theirs.scale[...], theirs.bias[...] = jnp.linspace(0.5, 2.0, F), jnp.linspace(-1.0, 1.0, F)
    theirs.mean[...], theirs.var[...] = jnp.linspace(-2.0, 2.0, F), jnp.linspace(0.5, 3.0, F)
    assert all(getattr(ours, name) == getattr(theirs, name) for name in settings)
    nnx.update(ours, nnx.state(theirs))
    before, xs = np.asarray(ours.var[...]), inputs()
    _, ys, extras = nn.unroll(ours, xs, key=jax.random.key(0))
    np.testing.assert_allclose(ys, theirs(xs), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(extras.module.mean[...], theirs.mean[...], rtol=1e-5)
    # Flax takes the biased variance, and we the unbiased one, as torch does.
    biased = np.asarray(theirs.var[...]) - 0.7 * before
    n = T * N
    expected = 0.7 * before + biased * n / (n - 1)
    np.testing.assert_allclose(extras.module.var[...], expected, rtol=1e-4)


def test_running_statistics_are_not_learned():
    """Not even by an optimiser that is given the gradient of a whole module in inference."""
    total = jax.grad(lambda layer: jnp.sum(jnp.square(layer(inputs()))))
    gradients = statistics(total(nn.BatchNorm(F)))
    assert not any(jnp.any(g) for g in jax.tree.leaves(gradients))


def test_running_statistics_are_float32_or_wider():
    layer = nn.BatchNorm(F, param_dtype=jnp.bfloat16)
    assert layer.scale.dtype == jnp.bfloat16
    assert {s.dtype for s in jax.tree.leaves(statistics(layer))} == {jnp.dtype("float32")}


def test_layers_that_need_the_whole_sequence_refuse_a_stream():
    net = nn.Sequential(nn.Bidirectional(nn.IFNode(), nn.IFNode()), nn.IFNode())
    carry, _ = nn.unroll(net, inputs())
    with pytest.raises(ValueError, match=r"cannot continue from the carry .*None for this"):
        nn.unroll(net, inputs(1), carry)
    nn.unroll(net, inputs(1), (None, carry[1]))


def test_functions_must_not_hide_layers():
    for hidden in (functools.partial(nn.BatchNorm(F)), jax.jit(nn.BatchNorm(F))):
        with pytest.raises(TypeError, match="holds the module BatchNorm"):
            nn.Sequential(hidden)


def test_layers_of_flax_in_inference_join_in():
    layer = nnx.BatchNorm(F, use_running_average=True, rngs=nnx.Rngs(0))
    xs = inputs()
    np.testing.assert_allclose(nn.unroll(layer, xs)[1], xs / jnp.sqrt(1 + 1e-5), rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.Dropout(1.0), ValueError, "rate must be at least 0 and below 1, got 1.0"),
        (lambda: nn.Dropout(rate="a"), TypeError, "rate must be a number"),
        (lambda: nn.BatchNorm(0), ValueError, "num_features must be at least 1"),
        (lambda: nn.BatchNorm(3, epsilon=0), ValueError, "epsilon must be greater than 0"),
        (lambda: nn.BatchNorm(3, momentum=2), ValueError, "momentum must be between 0 and 1"),
        (lambda: nn.BatchNorm(2)(jnp.ones((5, 3))), ValueError, r"\[N, ..., 2\], got \[5, 3\]"),
        (
            lambda: nn.unroll(nn.contrib.BatchNormThroughTime(2, F), inputs()),
            ValueError,
            r"needs sequences of 2 time steps, \[2, ...\], got \[4, 4, 3\]",
        ),
        (
            lambda: nn.unroll(nn.Dropout2d(), inputs(), key=jax.random.key(0)),
            ValueError,
            "needs images",
        ),
        (
            lambda: nn.unroll(nn.Dropout(), inputs() > 0, key=jax.random.key(0)),
            TypeError,
            "the input of Dropout must be floating, got dtype bool",
        ),
        (
            lambda: nn.unroll(
                nn.contrib.TemporalEffectiveBatchNorm(T, F), jnp.ones((T, N, F), jnp.int32)
            ),
            TypeError,
            "the input of TemporalEffectiveBatchNorm must be floating",
        ),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()
