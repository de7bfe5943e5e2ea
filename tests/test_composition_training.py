"""Blocks of a user in training: whole epochs, streams, checkpoints; equal to a loop by hand."""

import functools

import composed
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import quick
from flax import nnx

from jaxsnn import data, experiment, export, losses, models, nn, readouts, training

IMAGES, LABELS = composed.examples(composed.EXAMPLES)


def values(net):
    return quick.as_arrays(nnx.to_pure_dict(nnx.state(net)))


def assert_same(actual, expected):
    jax.tree.map(np.testing.assert_array_equal, quick.as_arrays(actual), quick.as_arrays(expected))


def assert_close(actual, expected, atol):
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=0, atol=atol),
        quick.as_arrays(actual),
        quick.as_arrays(expected),
    )


def loop_by_hand(name, epochs):
    """The same training in the words of Optax, one minibatch after another."""
    recipe, state = composed.create(name)
    model, key = training.merge(recipe, state), jax.random.key(4)
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    opt_state = composed.SGD.init(params)

    def loss_of(params, model, images, labels, key):
        graphdef, _, rest = nnx.split(model, nnx.Param, ...)
        model = nnx.merge(graphdef, params, rest)
        xs, *mask = (made,) if hasattr(made := recipe.to_sequence(images), "shape") else made
        _, outputs, extras = nn.unroll(model, xs, mask=mask[0] if mask else None, key=key)
        return losses.firing_rate_mse(outputs, labels).mean(), extras.module

    @jax.jit
    def update(params, model, opt_state, images, labels, key):
        gradients, model = jax.grad(loss_of, has_aux=True)(params, model, images, labels, key)
        updates, opt_state = composed.SGD.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), model, opt_state

    step = 0
    for epoch in range(epochs):
        order = training.epoch_order(key, epoch, len(LABELS))
        for k in range(len(LABELS) // composed.BATCH):
            those = order[k * composed.BATCH : (k + 1) * composed.BATCH]
            of_step = jax.random.fold_in(jax.random.fold_in(key, 2**32 - 1), step)
            params, model, opt_state = update(
                params, model, opt_state, IMAGES[those], LABELS[those], of_step
            )
            step += 1
    graphdef, _, rest = nnx.split(model, nnx.Param, ...)
    return values(nnx.merge(graphdef, params, rest))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == "dense" else pytest.mark.slow)
        for name in composed.TRAINABLE
    ],
)
def test_epochs_equal_a_loop_by_hand(name):
    """On the device and streamed; parameters and running statistics, all of which have moved."""
    placements = (False,) if name == "dense" else (False, True)  # its stream is tested below
    with jax.enable_x64(True):
        recipe, state = composed.create(name)
        first = values(training.merge(recipe, state))
        expected = loop_by_hand(name, 2)
        for streamed in placements:
            assert_close(composed.trained(name, streamed=streamed), expected, 1e-12)
        assert composed.norms(training.merge(recipe, state))
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), first, expected)
    still = [path for path, moves in jax.tree.leaves_with_path(moved) if not moves]
    assert not still


@pytest.fixture(scope="module")
def run():
    """A recipe, its first state, and the states and figures of two epochs."""
    recipe, state = composed.create("dense")
    first, states = jax.tree.map(jnp.copy, state), []
    on_device = jnp.asarray(IMAGES), jnp.asarray(LABELS)
    for _ in range(2):
        state, metrics = training.train_epoch(recipe, state, *on_device)
        states.append((jax.tree.map(jnp.copy, state), metrics))
    return recipe, first, states


def copy(state):
    return jax.tree.map(jnp.copy, state)


def test_a_stream_is_the_same_to_the_last_bit(run, monkeypatch):
    """In chunks, left in the middle of an epoch and continued."""
    recipe, state, states = run
    monkeypatch.setattr(training._stream, "CHUNK_BYTES", composed.BATCH * (36 + 4))
    state, metrics = training.stream_epoch(
        recipe, copy(state), IMAGES, LABELS, between=lambda state: int(state.step) == 1
    )
    assert metrics is None
    assert int(state.step) == 1
    for expected in states:
        state, metrics = training.stream_epoch(recipe, state, IMAGES, LABELS)
        assert_same((state, metrics), expected)


def test_checkpoints_hold_the_running_statistics(run, tmp_path):
    recipe, first, ((state, _), after) = run
    row = dict.fromkeys(experiment.Row.__required_keys__, 0.0) | {"epoch": 0, "test_acc": 0.5}
    experiment.Checkpoints(tmp_path).save(state, [row])
    restored, rows = experiment.Checkpoints(tmp_path).restore(first)
    assert_same(restored, state)
    assert rows == [row]
    assert_same(values(training.merge(recipe, restored)), values(training.merge(recipe, state)))
    resumed = training.train_epoch(recipe, restored, jnp.asarray(IMAGES), jnp.asarray(LABELS))
    assert_same(resumed, after)


@pytest.mark.slow
def test_a_test_uses_the_running_statistics(run):
    recipe, first, states = run
    state = states[-1][0]
    model = training.merge(recipe, state)
    outputs = nn.unroll(model, recipe.to_sequence(jnp.asarray(IMAGES)))[1]
    assert outputs.shape == (len(LABELS), composed.CLASSES)
    accuracy = (outputs.argmax(-1) == LABELS).mean()
    loss = losses.firing_rate_mse(outputs, jnp.asarray(LABELS)).mean()
    for evaluate, convert in (
        (training.evaluate, jnp.asarray),
        (training.stream_evaluate, np.asarray),
    ):
        found = evaluate(recipe, state, convert(IMAGES), convert(LABELS))
        np.testing.assert_allclose(found.accuracy, accuracy, rtol=1e-6)
        np.testing.assert_allclose(found.loss, loss, rtol=1e-5)
    (before,), (after,) = (
        composed.norms(net).values() for net in (training.merge(recipe, first), model)
    )
    for a, b in zip(before, after, strict=True):
        assert (a != b).all()


@pytest.mark.slow
def test_one_step_at_a_time(run):
    """`train_step` gives what `train_epoch` does with the same minibatches."""
    recipe, state, ((expected, _), _) = run
    state = copy(state)
    order = training.epoch_order(state.key, 0, len(LABELS))
    for k in range(len(LABELS) // composed.BATCH):
        those = order[k * composed.BATCH : (k + 1) * composed.BATCH]
        state, metrics = training.train_step(recipe, state, IMAGES[those], LABELS[those])
        assert metrics.finite
    assert_close(
        values(training.merge(recipe, state)), values(training.merge(recipe, expected)), 1e-5
    )


# ------------------------------------------------------------------------ what can be trained


class Rates(nn.Module):
    """A model without a Classifier: it makes its own outputs of the whole sequence."""

    def __init__(self, *, rngs):
        self.net = composed.Dense(rngs=rngs)

    def forward(self, x, run):
        run.require_whole_sequence(self)
        return run(self.net, x).mean(0)


class Plain(nnx.Module):
    """A model of Flax: `model(xs) -> outputs`."""

    def __init__(self, *layers, rngs):
        self.net = nn.Sequential(
            nn.Linear(6, composed.CLASSES, rngs=rngs), *layers, nn.LIFNode(v_threshold=0.1)
        )

    def __call__(self, xs):
        return nn.unroll(self.net, xs)[1].mean(0)


def one_step(model):
    recipe, state = training.create(
        model, composed.SGD, to_sequence=composed.columns, batch_size=16, seed=4
    )
    state, metrics = training.train_step(recipe, state, IMAGES[:16], LABELS[:16])
    assert np.isfinite(metrics.loss)
    return training.merge(recipe, state)


@pytest.mark.slow
def test_a_module_of_ones_own_trains_as_a_classifier_does():
    own = one_step(Rates(rngs=nnx.Rngs(0)))
    classifier = one_step(models.Classifier(composed.Dense(rngs=nnx.Rngs(0))))
    norms = composed.norms(own)
    assert all((mean != 0).all() for mean, _ in norms.values())
    # Dropout is drawn by the path of the layer, which differs; before it all is the same.
    same = norms["net.block.branch.1"], composed.norms(classifier)["stack.block.branch.1"]
    assert_close(*same, 1e-6)


def test_a_module_of_flax():
    first = Plain(rngs=nnx.Rngs(0))
    after = one_step(first)
    assert (after.net[0].kernel[...] != first.net[0].kernel[...]).any()


@pytest.mark.parametrize(
    ("layer", "named"), [(nn.BatchNorm(composed.CLASSES), "norm"), (nn.Dropout(0.5), "dropout")]
)
def test_a_module_of_flax_cannot_be_told_that_it_is_trained(layer, named):
    """It would run its normalisations and dropout as in inference."""
    with pytest.raises(ValueError, match=f"(?i){named}"):
        one_step(Plain(layer, rngs=nnx.Rngs(0)))


class Told(nn.Module):
    """Runs its dropout in inference whatever it is told."""

    def __init__(self, *, rngs):
        self.net, self.drop = composed.Dense(rngs=rngs), nn.Dropout(0.5)

    def forward(self, x, run):
        return self.drop(run(self.net, x))


def test_a_forgotten_dropout_in_training():
    with pytest.raises(ValueError, match=r"\bstack\.drop\b"):
        one_step(models.Classifier(Told(rngs=nnx.Rngs(0))))


def test_a_readout_sees_the_mask():
    """Of padded sequences the rate counts the steps that are there."""
    model = models.Classifier(composed.Columns(rngs=nnx.Rngs(0)))
    xs, mask = composed.padded_columns(jnp.asarray(IMAGES))
    outputs = nn.unroll(model, xs, mask=mask)[1]
    ys = nn.unroll(model.stack, xs, mask=mask)[1]
    np.testing.assert_allclose(outputs, readouts.firing_rate(ys, mask), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        outputs, ys.sum(0) / mask.sum(0, dtype=ys.dtype)[:, None], rtol=1e-5, atol=1e-6
    )


# --------------------------------------------------------------------------- Fashion-MNIST


def four_times(images):
    return jnp.repeat(images[None, ..., None].astype(jnp.float32) / 255, 4, axis=0)


@pytest.mark.slow
def test_a_sew_network_learns_fashion_mnist(tmp_path):
    """The block as it is pasted from the documentation: trains, records, folds, exports."""
    rngs, images = nnx.Rngs(0), data.fashion_mnist_mini()
    stack = nn.Sequential(
        nn.Conv(1, 8, (3, 3), 4, padding=1, rngs=rngs),
        nn.BatchNorm(8),
        nn.IFNode(),
        composed.SEWBlock(8, rngs=rngs),
        nn.Flatten(),
        nn.Linear(8 * 49, 10, rngs=rngs),
    )
    recipe, state = training.create(
        models.Classifier(stack),
        optax.adam(3e-3),
        loss=losses.firing_rate_cross_entropy,
        to_sequence=four_times,
        batch_size=50,
        seed=0,
    )
    train = jnp.asarray(images.train_images), jnp.asarray(images.train_labels)
    test = jnp.asarray(images.test_images), jnp.asarray(images.test_labels)
    for _ in range(4):
        state, metrics = training.train_epoch(recipe, state, *train)
    assert training.evaluate(recipe, state, *test).accuracy > 0.6
    assert metrics.accuracy > 0.6
    model = training.merge(recipe, state)
    xs = four_times(test[0][:20])
    _, outputs, extras = nn.unroll(model, xs, record="stack.3.branch.2")
    assert 0 < extras.records["stack.3.branch.2"].mean() < 1
    folded = nn.fold_batch_norm(model)
    assert not composed.norms(folded)
    after = nn.unroll(folded, xs)[1]
    # Rounding decides about a spike now and then.
    assert (after.argmax(-1) == outputs.argmax(-1)).mean() >= 0.9
    export.save(tmp_path / "net.zip", folded, ("b", 28, 28, 1))
    run = export.load(tmp_path / "net.zip").run(xs)
    np.testing.assert_allclose(run, after, rtol=1e-4, atol=1e-4)
