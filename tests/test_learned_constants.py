"""Constants that are arrays or learned, one for each neuron: trained, kept, exported, looked at."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import quick
from flax import nnx
from jax.flatten_util import ravel_pytree
from learned_constants import IMAGES, TRAIN, classifier, create, groups

import jaxsnn
from jaxsnn import data, experiment, nn, training
from jaxsnn.surrogate import Sigmoid

PLANTED = np.array([2.0, 4.0, 8.0, 16.0])
SMOOTH = Sigmoid(spiking=False)  # its derivative is the true one


def time_first(x):
    return jnp.swapaxes(x, 0, 1)


def every_step(ys, targets):
    """Squared error of each example, over all steps and neurons."""
    return jnp.mean(jnp.square(time_first(ys) - targets), (1, 2))


def layer(tau):
    return nn.Sequential(nn.LIFNode(tau, surrogate_function=SMOOTH))


def test_planted_time_constants_are_found():
    """Four neurons with the inputs and outputs of others: each goes to the constant of its own."""
    inputs = quick.uniform((64, 24, 4), 0.0, 3.0)
    targets = time_first(quick.run_once(nn.unroll, layer(PLANTED), time_first(inputs))[1])
    student = layer(nn.learnable(np.full(4, 5.0)))
    recipe, state = training.create(
        student,
        optax.adam(0.05),
        loss=every_step,
        to_sequence=time_first,
        batch_size=32,
        seed=0,
    )
    first = None
    for _ in range(100):
        state, metrics = training.train_epoch(recipe, state, inputs, targets)
        first = metrics.loss if first is None else first
    found = training.merge(recipe, state)[0].tau
    np.testing.assert_allclose(found, PLANTED, rtol=0.01)
    assert metrics.loss < 1e-4 * first
    np.testing.assert_allclose(student[0].tau, 5.0, rtol=1e-6)  # a copy was trained


def each(low, high):
    return nn.learnable(np.linspace(low, high, 3))


def every_constant():
    """Cells of which all constants are learned, each for three neurons."""
    fire = {"v_threshold": each(0.4, 0.8), "v_reset": each(-0.3, 0.2), "surrogate_function": SMOOTH}
    soft = {"v_threshold": each(0.4, 0.8), "v_reset": None, "surrogate_function": SMOOTH}
    return {
        "lif": nn.LIFNode(each(1.5, 6.0), **fire),
        "lif_soft": nn.LIFNode(nn.learnable(np.array([2.0, 4.0, 9.0]), (0, 10)), **soft),
        "if": nn.IFNode(**fire),
        "cuba": nn.CUBALIFNode(c_decay=each(0.2, 0.9), v_decay=each(0.1, 0.8), **fire),
        "filter": nn.SynapseFilter(each(1.2, 9.0)),
        "exponential": nn.ExponentialSynapse(each(0.5, 9.0)),
        "alpha": nn.AlphaSynapse(each(0.5, 9.0)),
        "double": nn.DoubleExponentialSynapse(each(2.0, 9.0), each(0.5, 1.5)),
        "li": nn.NonSpikingLIFNode(each(1.5, 6.0), decay_input=False),
    }


def test_gradients_are_finite_differences():
    """In float64, of every constant of every neuron, by its parameter."""
    with jax.enable_x64(True):
        graphdef, state, rest = nnx.split(every_constant(), nn.Constant, ...)
        flat, as_state = ravel_pytree(state)
        xs = jnp.asarray(np.random.default_rng(0).uniform(0, 1, (6, 2, 3)))

        def loss(flat):
            cells = nnx.merge(graphdef, as_state(flat), rest)
            ys = [nn.unroll(cell, xs)[1] for cell in cells.values()]
            return sum(jnp.sum(jnp.sin(k + y)) for k, y in enumerate(ys))

        def both(flat):
            steps = 1e-5 * jnp.eye(flat.size)
            around = jnp.concatenate([flat[None] + steps, flat[None] - steps])
            ahead, behind = jax.vmap(loss)(around).reshape(2, -1)
            return jax.grad(loss)(flat), (ahead - behind) / 2e-5

        exact, differences = quick.run_once(both, flat)
        assert flat.size == 3 * 17
        np.testing.assert_allclose(exact, differences, rtol=1e-6, atol=1e-8)
        assert np.all(np.abs(exact) > 1e-6)
        assert flat.dtype == jnp.float64


def test_bounds_hold():
    """However far the parameter goes, the constant does not leave its bounds."""
    for kind, make, low, high in (
        ("tau", lambda: nn.LIFNode(nn.learnable([2.0, 3.0])), 1.0, np.inf),
        ("tau", lambda: nn.LIFNode(nn.learnable([2.0, 3.0], (1.5, 9.0))), 1.5, 9.0),
        ("v_threshold", lambda: nn.IFNode(v_threshold=nn.learnable([2.0, 3.0])), 0.0, np.inf),
        ("v_decay", lambda: nn.CUBALIFNode(v_decay=nn.learnable([0.2, 0.5])), 0.0, 1.0),
    ):
        cell = make()
        (constant,) = cell.learned.values()
        assert constant.bounds == (low, high)
        for w in (-80.0, -3.0, 3.0, 80.0):
            constant.parameter[...] = jnp.full(2, w)
            value = getattr(cell, kind)
            assert np.all(np.isfinite(value) & (low <= value) & (value <= high)), (kind, w)
    for start in (1.5, 9.0, [3.0, 10.0]):
        with pytest.raises(ValueError, match=r"tau must start inside of its bounds \(1.5, 9.0\)"):
            nn.LIFNode(nn.learnable(start, (1.5, 9.0)))


@functools.cache
def trained():
    """A recipe, and the state and the metrics after an epoch."""
    net = classifier()
    recipe, state = create(net, groups(net))
    return recipe, *training.train_epoch(recipe, state, *map(jnp.asarray, TRAIN))


def constants_of(recipe, state):
    neuron, synapse = training.merge(recipe, state).stack[1:3]
    return {"tau": neuron.tau, "v_threshold": neuron.v_threshold, "of synapse": synapse.tau}


@pytest.mark.slow
def test_a_streamed_epoch_is_the_same(monkeypatch):
    """In chunks of three minibatches; what is fixed is a constant of the state."""
    monkeypatch.setattr(training._stream, "CHUNK_BYTES", 3 * 32 * (28 * 28 + 4))
    recipe, expected, metrics = trained()
    state = create(classifier(), recipe.optimizer)[1]
    state, streamed = training.stream_epoch(recipe, state, *TRAIN)
    for actual, wanted in ((state, expected), (streamed, metrics)):
        jax.tree.map(
            np.testing.assert_array_equal, quick.as_arrays(actual), quick.as_arrays(wanted)
        )
    first = create(classifier(), recipe.optimizer)[1]
    jax.tree.map(np.testing.assert_array_equal, expected.constants, first.constants)
    assert expected.constants["stack"]["layers"][1]["v_reset"].shape == (16,)
    before = constants_of(recipe, first)
    for name, value in constants_of(recipe, expected).items():
        moved = np.abs(value - before[name])
        # Each neuron for itself; synapses after neurons that never fire have no gradient.
        assert np.unique(moved[moved > 0]).size >= (10 if name == "of synapse" else 16), name


def test_checkpoint_and_resume(tmp_path):
    """A run that is interrupted ends where the other ends; the best model has its constants."""
    recipe, state, _ = trained()
    checkpoints = experiment.Checkpoints(tmp_path)
    row = dict.fromkeys(experiment.Row.__required_keys__, 0.0) | {"epoch": 0, "test_acc": 0.5}
    checkpoints.save(state, [row])
    fresh = create(classifier(), recipe.optimizer)[1]
    restored, _ = experiment.Checkpoints(tmp_path).restore(fresh)
    jax.tree.map(np.testing.assert_array_equal, quick.as_arrays(restored), quick.as_arrays(state))
    arrays = tuple(map(jnp.asarray, TRAIN))
    copies = [jax.tree.map(jnp.copy, one) for one in (state, restored)]
    ends = [training.train_epoch(recipe, one, *arrays)[0] for one in copies]
    jax.tree.map(np.testing.assert_array_equal, *map(quick.as_arrays, ends))
    params = checkpoints.restore_params(fresh.params)
    jax.tree.map(np.testing.assert_array_equal, params, state.params)


def test_exported_and_calibrated(tmp_path):
    recipe, state, _ = trained()
    net = training.merge(recipe, state)
    xs = data.columns(IMAGES.test_images[:32])
    jaxsnn.export.save(tmp_path / "net.zip", net, ("b", 28), stream=False)
    exported = jaxsnn.export.load(tmp_path / "net.zip")
    expected = quick.run_once(lambda net, xs: net(xs), net, xs)
    np.testing.assert_allclose(exported.run(xs), expected, atol=1e-6)
    calibrated, _ = jaxsnn.diagnosis.calibrate(net, xs, rate=0.2)
    for k in (1, 2):
        np.testing.assert_array_equal(calibrated.stack[k].tau, net.stack[k].tau)


def test_the_doctor():
    """It shows what the constants are, and finds neurons whose thresholds none of them reaches."""
    recipe, state, _ = trained()
    net = training.merge(recipe, state)
    net.stack[1].v_threshold = np.full(16, 1e9)
    xs = data.columns(IMAGES.test_images[:32])
    report = jaxsnn.diagnosis.doctor(net, xs, IMAGES.test_labels[:32])
    tau = np.asarray(net.stack[1].tau)
    values = tau.min(), np.median(tau), tau.max()
    assert report.layers[1].learned == {"tau": values}
    assert report.layers[2].learned.keys() == {"tau"}
    assert report.layers[4].learned == {}
    rows = [line.split() for line in str(report).splitlines()]
    assert ["stack.1", "LIFNode", "tau", *map("{:.4g}".format, values)] in rows
    assert report.layers[1].dead == 1.0
    assert ("dead", "stack.1") in {(found.what, found.path) for found in report.warnings}


def spares_constants(params):
    """By their names, which begin with `w`."""
    return jax.tree.map_with_path(lambda path, _: not path[-1].key.startswith("w"), params)


DECAY = optax.chain(optax.add_decayed_weights(1.0, spares_constants), optax.scale(-1.0))


@pytest.mark.parametrize("group", ["by type", "by path"])
def test_parameter_groups(group):
    """By type a learning rate of 0 keeps constants; by path a mask spares them the decay."""
    net = classifier()
    optimizer = groups(net, 0.0) if group == "by type" else optax.chain(optax.set_to_zero(), DECAY)
    recipe, state = create(net, optimizer)
    state, _ = training.train_epoch(recipe, state, *(jnp.asarray(a[:32]) for a in TRAIN))
    after = training.merge(recipe, state)
    for k in (1, 2):
        before, now = (nnx.state(some.stack[k], nn.Constant) for some in (net, after))
        assert jax.tree.leaves(before)
        jax.tree.map(np.testing.assert_array_equal, before, now)
    kernel = after.stack[0].kernel[...]
    if group == "by type":
        assert np.all(kernel != net.stack[0].kernel[...])
    else:
        np.testing.assert_array_equal(kernel, 0)  # less all of it
