"""Training: schedule, order of the data, compilations, evaluation, any module and arrays."""

import dataclasses
import functools

import golden_arrays
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxsnn import data, losses, models, nn, readouts, surrogate, training

SCHEDULE = golden_arrays.Golden("lr_schedule")


@pytest.fixture(scope="module")
def mini():
    images = data.fashion_mnist_mini()
    return jax.tree.map(jnp.asarray, images[:4])


# To JAX an optimiser built anew is another, which compiles again.
SGD, ADAM = optax.sgd(0.1, momentum=0.9), optax.adam(0.02)


def plain(batch_size=64, optimizer=SGD, seed=0, model=models.PlainNet):
    return training.create(
        model(rngs=nnx.Rngs(0)),
        optimizer,
        to_sequence=data.columns,
        batch_size=batch_size,
        seed=seed,
    )


@pytest.mark.parametrize("case", SCHEDULE.cases)
def test_learning_rate_golden(case):
    meta = SCHEDULE.cases[case]
    expected = SCHEDULE.arrays[f"{case}/lr"]
    rates = training.cosine_learning_rates(meta["lr"], meta["epochs"])
    np.testing.assert_allclose(rates, expected, rtol=1e-12)
    schedule = training.cosine_schedule(meta["lr"], meta["epochs"], steps_per_epoch=7)
    for epoch, lr in enumerate(expected):
        for step in (7 * epoch, 7 * epoch + 6):
            assert schedule(jnp.int32(step)) == np.float32(lr)


def test_optimisers_read_the_schedule_once_per_step():
    schedule = training.cosine_schedule(0.5, epochs=2, steps_per_epoch=3)
    optimizer = optax.sgd(schedule)
    params = jnp.zeros(())
    state, path = optimizer.init(params), []
    for _ in range(6):
        updates, state = optimizer.update(jnp.ones(()), state)
        path.append(float(updates))
    np.testing.assert_allclose(path, [-0.5] * 3 + [-0.25] * 3)


def test_an_epoch_is_the_documented_order_of_steps(mini):
    """`permutation(fold_in(key, epoch))`, in minibatches, the last partial one dropped."""
    inputs, labels = mini[0][:150], mini[1][:150]
    recipe, state = plain(batch_size=64)
    expected = state
    step = jax.jit(training.train_step, static_argnums=0)
    for epoch in range(2):
        order = jax.random.permutation(jax.random.fold_in(jax.random.key(0), epoch), 150)
        seen = []
        for batch in (order[:64], order[64:128]):
            expected, seen_now = step(recipe, expected, inputs[batch], labels[batch])
            seen.append(seen_now)
        state, metrics = training.train_epoch(recipe, jax.tree.map(jnp.copy, state), inputs, labels)
        np.testing.assert_allclose(metrics.loss, np.mean([s.loss for s in seen]), rtol=1e-5)
        np.testing.assert_allclose(metrics.accuracy, sum(s.correct for s in seen) / 128, rtol=1e-6)
        assert metrics.finite
        both = seen[0].add(seen[1])  # the figures of the epoch are those of its minibatches
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), both, metrics)
    assert state.epoch == 2
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6),
        state.params,
        expected.params,
    )


def test_compiles_once(mini):
    recipe, state = plain()
    state, _ = training.train_epoch(recipe, state, *mini[:2])
    training.evaluate(recipe, state, *mini[2:])
    before = training.train_epoch._cache_size(), training.evaluate._cache_size()
    assert min(before) > 0
    for _ in range(2):
        state, _ = training.train_epoch(recipe, state, *mini[:2])
        training.evaluate(recipe, state, *mini[2:])
    host = jax.tree.map(np.asarray, state._replace(key=jax.random.key_data(state.key)))
    restored = jax.tree.map(jnp.asarray, host)
    restored = restored._replace(key=jax.random.wrap_key_data(restored.key))
    training.train_epoch(recipe, restored, *mini[:2])
    assert (training.train_epoch._cache_size(), training.evaluate._cache_size()) == before


def test_the_state_is_donated(mini):
    recipe, state = plain()
    kernel = jax.tree.leaves(state.params)[-1]
    training.train_epoch(recipe, state, *mini[:2])
    assert kernel.is_deleted()


def test_the_model_keeps_its_own_parameters(mini):
    model = models.PlainNet(rngs=nnx.Rngs(0))
    recipe, state = training.create(model, SGD, to_sequence=data.columns, batch_size=64, seed=0)
    training.train_epoch(recipe, state, *mini[:2])
    assert jnp.all(jnp.isfinite(model.fc[0].kernel[...]))  # not donated with the state


class Product(nnx.Module):
    """A model that compiles quickly."""

    def __init__(self, *, rngs):
        self.layer = nn.Linear(28, 10, rngs=rngs)

    def __call__(self, xs):
        return self.layer(jnp.mean(xs, axis=0))


@pytest.mark.parametrize(
    ("model", "batch_size"),
    [(models.PlainNet, 64), *((Product, size) for size in (1000, 500, 256, 64, 7))],
)
def test_evaluation_counts_every_example_once(mini, model, batch_size):
    recipe, state = plain(batch_size=batch_size, model=model)
    metrics = training.evaluate(recipe, state, *mini[2:])
    rates = training.merge(recipe, state)(data.columns(mini[2]))
    np.testing.assert_allclose(
        metrics.loss, jnp.mean(losses.firing_rate_mse(rates, mini[3])), rtol=1e-5
    )
    assert metrics.correct == jnp.sum(losses.correct(rates, mini[3]))
    assert metrics.examples == len(mini[3])
    assert metrics.accuracy == np.float32(int(metrics.correct) / len(mini[3]))


def test_seeds_differ_and_repeat(mini):
    def run(seed):
        recipe, state = plain(seed=seed)
        return training.train_epoch(recipe, state, *mini[:2])[1].loss

    assert run(0) == run(0) != run(1)


def test_ruined_parameters_are_noticed(mini):
    """Every membrane potential is NaN, so nothing fires and the loss looks fine."""
    recipe, state = plain(optimizer=optax.adam(3e38))
    state, metrics = training.train_epoch(recipe, state, *mini[:2])
    state, metrics = training.train_epoch(recipe, state, *mini[:2])
    assert not metrics.finite
    assert not training.evaluate(recipe, state, *mini[2:]).finite


def repeat(images):
    """A still image as a constant current: `[N, H, W, C] -> [T=6, N, H, W, C]`."""
    return jnp.broadcast_to(images, (6, *images.shape))


class ConvNet(nnx.Module):
    """Convolution, LIF, mean over space, Linear, LIF; three classes."""

    def __init__(self, *, rngs):
        neuron = functools.partial(nn.LIFNode, v_threshold=0.5, surrogate_function=surrogate.ATan())
        self.stack = nn.Sequential(
            nn.Conv(2, 8, (3, 3), padding=1, rngs=rngs),
            neuron(),
            lambda x: jnp.mean(x, axis=(-3, -2)) * 4,
            nn.Linear(8, 3, rngs=rngs),
            neuron(),
        )

    def __call__(self, xs):
        return jnp.mean(nn.unroll(self.stack, xs)[1], axis=0)


def cross_entropy(rates, labels):
    return optax.softmax_cross_entropy_with_integer_labels(5 * rates, labels)


@pytest.mark.slow
def test_trains_another_network_on_other_data():
    """A convolutional net, T = 6, images of 8 x 6 x 2, three classes, another loss."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    inputs = rng.normal(0, 0.3, (300, 8, 6, 2))
    inputs[labels == 1, ::2, :, 0] += 1.5  # stripes one way
    inputs[labels == 2, :, ::2, 1] += 1.5  # and the other
    inputs, labels = jnp.asarray(inputs, jnp.float32), jnp.asarray(labels, jnp.int32)
    recipe, state = training.create(
        ConvNet(rngs=nnx.Rngs(0)),
        optax.adam(0.01),
        loss=cross_entropy,
        to_sequence=repeat,
        batch_size=25,
        seed=0,
    )
    before = training.evaluate(recipe, state, inputs, labels)
    for _ in range(10):
        state, _ = training.train_epoch(recipe, state, inputs, labels)
    after = training.evaluate(recipe, state, inputs, labels)
    assert before.accuracy < 0.6
    assert after.accuracy > 0.95
    assert after.loss < before.loss


def test_bad_arguments(mini):
    recipe, state = plain(batch_size=3000)
    with pytest.raises(ValueError, match="batch_size=3000 is larger than the training set of 2000"):
        training.train_epoch(recipe, state, *mini[:2])
    recipe, state = plain()
    with pytest.raises(ValueError, match=r"same number .* \[2000, 28, 28\] and \[500\]"):
        training.train_epoch(recipe, state, mini[0], mini[3])
    with pytest.raises(ValueError, match="at least one"):
        training.evaluate(recipe, state, mini[0][:0], mini[1][:0])
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        plain(batch_size=0)
    with pytest.raises(TypeError, match=r"IFNode is a cell; give it a readout: .*Classifier"):
        training.create(nn.IFNode(), SGD, to_sequence=data.columns, batch_size=10, seed=0)


def test_a_stack_without_a_readout(mini):
    """Its outputs are those of all steps, for losses that look at each."""
    recipe, state = training.create(
        models.PlainNet(rngs=nnx.Rngs(0)).fc, SGD, to_sequence=data.columns, batch_size=10, seed=0
    )
    with pytest.raises(ValueError, match=r"rates \[N, classes\] .* for \[28, 10, 10\]"):
        jax.eval_shape(
            functools.partial(training.train_step, recipe), state, mini[0][:10], mini[1][:10]
        )
    recipe = dataclasses.replace(
        recipe, loss=lambda ys, labels: cross_entropy(ys, labels[None].repeat(len(ys), 0)).mean(0)
    )
    jax.eval_shape(
        functools.partial(training.train_step, recipe), state, mini[0][:10], mini[1][:10]
    )


def test_a_loss_must_not_average_over_the_batch(mini):
    recipe, state = plain()
    recipe = dataclasses.replace(recipe, loss=lambda rates, labels: jnp.mean(rates))
    for run, args in ((training.train_epoch, state), (training.evaluate, state)):
        with pytest.raises(
            ValueError, match=r"one number per example, shape \[64\], got shape \[\]"
        ):
            run(recipe, args, *mini[:2])


@pytest.mark.parametrize(
    ("seed", "error"), [(-1, ValueError), (2**32, ValueError), ("0", TypeError)]
)
def test_bad_seeds(seed, error):
    with pytest.raises(error, match="seed must be"):
        plain(seed=seed)


class Holds(nnx.Module):
    """A model around one layer."""

    def __init__(self, layer):
        self.layer = layer

    def __call__(self, xs):
        return self.layer(xs).mean(0)


def holding(layer):
    return training.create(Holds(layer), SGD, to_sequence=steps_first, batch_size=64, seed=0)


def test_variables_that_are_not_parameters_are_refused():
    for layer, message in (
        (nnx.Dropout(0.5, rngs=nnx.Rngs(0)), "random state .* jaxsnn.nn.Dropout instead"),
        (nn.BatchNorm(28), r"holds a BatchNorm.* Holds is no nn\.Module"),
        (nn.Dropout(0.5), r"holds a Dropout.* jaxsnn\.models\.Classifier"),
    ):
        with pytest.raises(ValueError, match=message):
            holding(layer)


def test_layers_of_flax_that_change_themselves_are_refused():
    """In training and in a test; with running statistics that stay as they are they join in."""
    inputs, labels = jnp.ones((64, 28, 28)), jnp.arange(64) % 10
    recipe, state = holding(nnx.BatchNorm(28, rngs=nnx.Rngs(0)))
    for run in (training.train_epoch, training.evaluate):
        with pytest.raises(ValueError, match=r"Holds changes its variable .*mean.* the BatchNorm"):
            run(recipe, state, inputs, labels)
    frozen = holding(nnx.BatchNorm(28, use_running_average=True, rngs=nnx.Rngs(0)))
    state, _ = jax.eval_shape(
        functools.partial(training.train_step, frozen[0]), frozen[1], inputs, labels
    )
    assert jax.tree.structure(state) == jax.tree.structure(frozen[1])


def ragged(n=120, steps=5):
    """Noise around a mean of either sign, in sequences of 2 to 5 steps, and rubbish behind."""
    rng = np.random.default_rng(0)
    labels, lengths = rng.integers(0, 2, n), rng.integers(2, steps + 1, n)
    xs = rng.normal(2.0 * labels[:, None, None] - 1, 1.5, (n, steps, 4))
    xs[np.arange(steps) >= lengths[:, None]] = 1e3
    arrays = jnp.asarray(xs, jnp.float32), jnp.asarray(lengths, jnp.int32)
    return arrays, jnp.asarray(labels, jnp.int32)


def padded(inputs):
    """`to_sequence` of sequences `[N, T, F]` and their lengths: two arguments for the model."""
    xs, lengths = inputs
    return xs.swapaxes(0, 1), nn.sequence_mask(lengths, xs.shape[1])


def normalised(model=models.Classifier, **kwargs):
    rngs = nnx.Rngs(0)
    stack = nn.Sequential(
        nn.Linear(4, 16, rngs=rngs),
        nn.BatchNorm(16),
        nn.LIFNode(v_threshold=0.5),
        nn.Dropout(0.5),
        nn.Linear(16, 2, rngs=rngs),
        nn.IFNode(),
    )
    return training.create(
        model(stack, **kwargs),
        ADAM,
        to_sequence=padded,
        batch_size=25,
        seed=1,
    )


def test_trains_with_normalisation_dropout_and_padding():
    inputs, labels = ragged()
    recipe, state = normalised()
    first = jax.tree.map(np.array, state.statistics)
    assert jax.tree.leaves(first)
    state, _ = training.train_epoch(recipe, state, inputs, labels)
    compiled = training.train_epoch._cache_size()
    for _ in range(5):
        state, trained = training.train_epoch(recipe, state, inputs, labels)
    assert training.train_epoch._cache_size() == compiled
    tested = training.evaluate(recipe, state, inputs, labels)
    assert tested.accuracy > 0.9
    assert trained.accuracy < 1  # with a fifth of the spikes missing
    jax.tree.map(
        lambda a, b: np.testing.assert_array_less(1e-4, abs(a - b)), first, state.statistics
    )
    # inference uses the running statistics and drops nothing, whatever the padding
    net = training.merge(recipe, state)
    rates = net(*padded(inputs))
    (xs, lengths), n = inputs, 3
    alone = net(xs[n : n + 1, : int(lengths[n])].swapaxes(0, 1))
    np.testing.assert_allclose(rates[n : n + 1], alone, rtol=1e-5)
    assert tested.correct == jnp.sum(jnp.argmax(rates, -1) == labels)
    ruined = state._replace(statistics=jax.tree.map(lambda s: s * jnp.nan, state.statistics))
    assert not training.evaluate(recipe, ruined, inputs, labels).finite  # though the loss is


class Own(nn.Module):
    """A model of one's own; `how` says how it runs its stack."""

    def __init__(self, stack, how):
        self.stack, self.how = stack, nnx.static(how)

    def forward(self, xs, run):
        run.require_whole_sequence(self, masks=True)
        return readouts.firing_rate(self.how(self.stack, xs, run), run.mask)


def test_models_of_ones_own_train_as_a_classifier():
    inputs, labels = ragged(25)
    states = []
    for model in (
        models.Classifier,
        lambda stack: Own(stack, lambda stack, xs, run: run(stack, xs)),
    ):
        recipe, state = normalised(model=model)
        states.append(training.train_step(recipe, state, inputs, labels)[0])
    assert any(
        jnp.any(a != b) for a, b in zip(*map(jax.tree.leaves, (state, states[0])), strict=True)
    )
    one, other = (jax.tree.map(np.asarray, (s.params, s.statistics)) for s in states)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), one, other)


@pytest.mark.parametrize(
    "how",
    [
        lambda stack, xs, run: nn.unroll(stack, xs, mask=run.mask)[1],
        lambda stack, xs, run: nn.unroll(stack, xs, mask=run.mask, key=run.key)[1],
        lambda stack, xs, run: run(stack[2:], stack[1](stack[0](xs))),
    ],
    ids=["unroll", "unroll with the key", "the layer"],
)
def test_models_that_run_their_layers_by_themselves(how):
    """Their running statistics would be lost: an error, in training alone."""
    inputs, labels = ragged(25)
    recipe, state = normalised(model=lambda stack: Own(stack, how))
    step = functools.partial(training.train_step, recipe)
    with pytest.raises(ValueError, match=r"BatchNorm at 'stack\.1' of Own was not run by a Run"):
        jax.eval_shape(step, state, inputs, labels, jax.random.key(0))
    jax.eval_shape(functools.partial(training.evaluate, recipe), state, inputs, labels)


def test_readouts_that_train_apart_are_refused():
    readout = nnx.Sequential(nn.Dropout(), lambda ys: ys.mean(0))
    net = models.Classifier(nn.IFNode(), readout)
    with pytest.raises(ValueError, match=r"Dropout at 'readout\.layers\.0' of Classifier was not"):
        jax.eval_shape(lambda xs: nn.unroll(net, xs, key=jax.random.key(0)), jnp.ones((3, 2, 4)))


def test_dropout_repeats_with_the_seed():
    inputs, labels = ragged()
    states = []
    for _ in range(2):
        recipe, state = normalised()
        states.append(training.train_epoch(recipe, state, inputs, labels)[0])
    jax.tree.map(np.testing.assert_array_equal, states[0].params, states[1].params)


def test_every_minibatch_drops_others():
    """Step s draws from `fold_in(fold_in(key, 2^32 - 1), s)`, whatever the epoch."""
    net = models.Classifier(nn.Dropout(0.5))
    recipe, state = training.create(
        net,
        optax.sgd(0.0),
        loss=lambda outputs, labels: jnp.sum(outputs, axis=1),
        to_sequence=lambda inputs: inputs[None],
        batch_size=10,
        seed=4,
    )
    inputs = jnp.tile(jnp.sqrt(jnp.arange(16, dtype=jnp.float32)), (20, 1))
    labels = jnp.zeros(20, jnp.int32)
    step = jax.jit(training.train_step, static_argnums=0)
    for epoch in range(2):
        seen = [
            step(
                *(recipe, state, inputs[:10], labels[:10]),
                jax.random.fold_in(jax.random.fold_in(jax.random.key(4), 2**32 - 1), s),
            )[1].loss
            for s in (2 * epoch, 2 * epoch + 1)
        ]
        assert seen[0] != seen[1]
        state, metrics = training.train_epoch(recipe, state, inputs, labels)
        np.testing.assert_allclose(metrics.loss, np.mean(seen), rtol=1e-6)


def test_steps_of_ones_own_draw_the_keys_of_an_epoch():
    """A loop over `train_step` in the order of the epoch is `train_epoch`, with dropout too."""
    inputs, labels = ragged()
    recipe, state = normalised()
    own, step = state, jax.jit(training.train_step, static_argnums=0)
    for _ in range(2):
        order = training.epoch_order(own.key, own.epoch, 120)[:100].reshape(4, 25)
        for batch in order:
            picked = jax.tree.map(lambda array, batch=batch: array[batch], (inputs, labels))
            own, _ = step(recipe, own, *picked)
        own = own._replace(epoch=own.epoch + 1)
        state, _ = training.train_epoch(recipe, jax.tree.map(jnp.copy, state), inputs, labels)
    assert (int(own.epoch), int(own.step)) == (int(state.epoch), int(state.step)) == (2, 8)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    jax.tree.map(close, own.params, state.params)
    jax.tree.map(close, own.statistics, state.statistics)


def test_losses_that_look_at_every_step():
    """A model may give the outputs of all steps; for the accuracy they are averaged."""
    inputs, labels = ragged()
    recipe, state = normalised(readout=None)
    recipe = dataclasses.replace(
        recipe, loss=lambda ys, labels: cross_entropy(ys, labels[None].repeat(len(ys), 0)).mean(0)
    )
    metrics = training.evaluate(recipe, state, inputs, labels)
    ys = training.merge(recipe, state)(*padded(inputs))
    assert ys.shape == (5, 120, 2)
    assert metrics.correct == jnp.sum(jnp.argmax(ys.mean(0), -1) == labels)
    assert metrics.examples == 120


def test_inputs_of_different_lengths_are_refused():
    (xs, lengths), labels = ragged()
    recipe, state = normalised()
    with pytest.raises(ValueError, match=r"got shapes \[120, 5, 4\], \[100\] and \[120\]"):
        training.evaluate(recipe, state, (xs, lengths[:100]), labels)


# ------------------------------------------------------------------ updates that are not finite


def poisoned(n=192):
    """Three minibatches of 64 examples, in the order they are drawn in; the second holds NaN."""
    inputs = np.random.default_rng(0).uniform(0, 1, (n, 28, 28)).astype(np.float32)
    labels = np.arange(n, dtype=np.int32) % 10
    order = jax.random.permutation(jax.random.fold_in(jax.random.key(0), 0), n)
    inputs[order[70]] = np.nan
    return jnp.asarray(inputs), jnp.asarray(labels)


def steps_first(inputs):
    return jnp.transpose(inputs, (1, 0, 2))


def product(**kwargs):
    return training.create(
        Product(rngs=nnx.Rngs(0)), SGD, to_sequence=steps_first, batch_size=64, seed=0, **kwargs
    )


def test_the_first_update_that_is_not_finite_is_named():
    recipe, state = product()
    state, metrics = training.train_epoch(recipe, state, *poisoned())
    assert not metrics.finite
    assert metrics.nonfinite == 2  # the parameters are NaN from then on
    assert metrics.first_nonfinite == 1
    assert jnp.isnan(metrics.nonfinite_norm)
    assert metrics.skipped == 0
    assert 0 < metrics.gradient_norm < 10  # of the first minibatch


def test_updates_that_are_not_finite_can_be_left_out():
    """Parameters, optimiser and figures are those of the other two minibatches."""
    recipe, state = product(skip_nonfinite=True)
    inputs, labels = poisoned()
    order = jax.random.permutation(jax.random.fold_in(jax.random.key(0), 0), 192)
    expected, seen = state, []
    step = jax.jit(training.train_step, static_argnums=0)
    for batch in (order[:64], order[128:]):
        expected, metrics = step(recipe, expected, inputs[batch], labels[batch])
        seen.append(metrics)
    state, metrics = training.train_epoch(recipe, jax.tree.map(jnp.copy, state), inputs, labels)
    assert metrics.finite
    assert (int(metrics.skipped), int(metrics.first_nonfinite)) == (1, 1)
    assert (int(metrics.minibatches), int(metrics.nonfinite), int(metrics.examples)) == (3, 1, 128)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5)
    close(metrics.loss, np.mean([s.loss for s in seen]))
    close(metrics.accuracy, sum(s.correct for s in seen) / 128)
    close(metrics.gradient_norm, max(s.gradient_norm for s in seen))
    jax.tree.map(close, state.params, expected.params)
    jax.tree.map(close, state.opt_state, expected.opt_state)
    assert (int(state.step), int(state.tally.minibatches)) == (3, 0)


def test_running_statistics_are_kept_clean():
    """The loss and the parameters may be finite where the statistics are not."""
    inputs, labels = ragged()
    inputs = inputs[0].at[:, 0].set(jnp.where(labels[:, None] >= 0, 3e38, 0)), inputs[1]
    recipe, state = normalised()
    recipe = dataclasses.replace(recipe, skip_nonfinite=True)
    before = jax.tree.map(np.array, state.statistics)
    state, metrics = training.train_epoch(recipe, state, inputs, labels)
    assert metrics.skipped == 4
    jax.tree.map(np.testing.assert_array_equal, state.statistics, before)


def test_an_epoch_of_nothing_but_skipped_updates_is_not_finite(mini):
    recipe, state = product(skip_nonfinite=True)
    inputs, labels = poisoned()
    _, metrics = training.train_epoch(recipe, state, inputs * jnp.nan, labels)
    assert metrics.skipped == 3
    assert not metrics.finite


def test_the_norm_of_the_gradient(mini):
    recipe, state = product()
    inputs, labels = jnp.asarray(mini[0][:64], jnp.float32), mini[1][:64]

    def objective(params):
        outputs = training.merge(recipe, state._replace(params=params))(steps_first(inputs))
        return jnp.mean(losses.firing_rate_mse(outputs, labels))

    grads = jax.tree.leaves(jax.grad(objective)(state.params))
    expected = np.sqrt(sum(np.sum(np.asarray(g, np.float64) ** 2) for g in grads))
    _, metrics = training.train_step(recipe, state, inputs, labels)
    np.testing.assert_allclose(metrics.gradient_norm, expected, rtol=1e-5)


def test_figures_may_be_numbers_of_python():
    """As `jax.tree.map(float, metrics)` makes them; the means are there all the same."""
    metrics = training.Metrics(
        minibatches=2,
        examples=4,
        loss_sum=1.0,
        correct=3,
        gradient_norm=0.5,
        nonfinite=0,
        skipped=0,
        first_nonfinite=-1,
        nonfinite_norm=0.0,
    )
    for figures in (metrics, jax.tree.map(float, metrics), jax.tree.map(np.asarray, metrics)):
        assert (float(figures.loss), float(figures.accuracy)) == (0.25, 0.75)
        assert bool(figures.finite)
