"""Training of any task: targets, optimisers, constants, several runs at once, and mistakes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxsnn import experiment, losses, models, nn, training

RNG = np.random.default_rng(0)
XS = RNG.normal(size=(24, 5, 3)).astype(np.float32)
SGD = optax.sgd(0.1, momentum=0.9)


class Product(nnx.Module):
    """The mean over time of a matrix product, or the products of all steps; compiles quickly."""

    def __init__(self, features=2, *, over_time=False):
        self.layer = nn.Linear(3, features, rngs=nnx.Rngs(0))
        self.over_time = over_time

    def __call__(self, xs):
        ys = self.layer(xs)
        return ys if self.over_time else ys.mean(axis=0)


def steps_first(xs):
    return jnp.swapaxes(xs, 0, 1)


def mean_squares(outputs, targets):
    return jnp.mean(jnp.square(outputs - targets), axis=range(1, outputs.ndim))


def create(model, optimizer=SGD, loss=mean_squares, **kwargs):
    return training.create(
        model, optimizer, loss=loss, to_sequence=steps_first, batch_size=8, seed=0, **kwargs
    )


def copy(tree):
    return jax.tree.map(jnp.copy, tree)


def arrays(tree):
    """Leaves that NumPy can compare."""

    def convert(leaf):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf)

    return jax.tree.map(convert, tree)


def assert_same(actual, expected):
    jax.tree.map(np.testing.assert_array_equal, arrays(actual), arrays(expected))


# ------------------------------------------------------------------ targets


def per_step(outputs, targets):
    return mean_squares(steps_first(outputs), targets)


def two_heads(outputs, targets):
    wanted, weights = targets["wanted"], targets["weights"]
    return jnp.sum(jnp.square(steps_first(outputs) - wanted).mean(-1) * weights, axis=1)


def counts(outputs, targets):
    """Poisson regression of integers."""
    rate = steps_first(outputs)[..., 0]
    return 0.01 * jnp.sum(jnp.exp(rate) - rate * targets.astype(rate.dtype), axis=1)


WANTED = RNG.normal(size=(24, 5, 2)).astype(np.float32)
TASKS = {
    "a number": (Product(1), lambda y, t: jnp.square(y[:, 0] - t), WANTED[:, 0, 0]),
    "several": (Product(), mean_squares, WANTED[:, 0]),
    "per step": (Product(over_time=True), per_step, WANTED),
    "integers per step": (Product(over_time=True), counts, RNG.integers(0, 9, (24, 5))),
    "a tree": (
        Product(over_time=True),
        two_heads,
        {"wanted": WANTED, "weights": RNG.uniform(size=(24, 5)).astype(np.float32)},
    ),
}


@pytest.mark.parametrize(
    "task",
    [task if task == "a tree" else pytest.param(task, marks=pytest.mark.slow) for task in TASKS],
)
def test_targets_of_any_shape(task, monkeypatch):
    """On the device, streamed, step by step and in a test, with the loss computed here."""
    monkeypatch.setattr(training._stream, "CHUNK_BYTES", 1000)
    model, loss, targets = TASKS[task]
    recipe, start = create(model, loss=loss)
    state, first = training.train_epoch(recipe, copy(start), XS, targets)
    state, second = training.train_epoch(recipe, state, XS, targets)
    assert first.accuracy is second.accuracy is None
    assert second.loss < first.loss
    assert second.finite
    tested = training.evaluate(recipe, state, XS[:9], jax.tree.map(lambda t: t[:9], targets))
    outputs = training.merge(recipe, state)(steps_first(XS))
    np.testing.assert_allclose(tested.loss, loss(outputs, targets)[:9].mean(), rtol=1e-5)
    assert tested.accuracy is None
    streamed, metrics = training.stream_epoch(recipe, copy(start), XS, targets)
    streamed, again = training.stream_epoch(recipe, streamed, XS, targets)
    assert_same((streamed, metrics, again), (state, first, second))
    assert_same(training.stream_evaluate(recipe, state, XS, targets, workers=0).accuracy, None)
    picked = jax.tree.map(lambda t: t[:8], targets)
    _, seen = jax.jit(training.train_step, static_argnums=0)(recipe, start, XS[:8], picked)
    assert seen.correct is None
    expected = loss(model(steps_first(XS[:8])), picked).mean()
    np.testing.assert_allclose(seen.loss, expected, rtol=1e-5)


@pytest.mark.slow
def test_class_numbers_of_any_integer_type():
    labels = np.arange(24) % 2
    recipe, state = create(Product(), loss=losses.firing_rate_mse)
    seen = [
        training.evaluate(recipe, state, XS, labels.astype(dtype)) for dtype in (np.int64, np.uint8)
    ]
    assert 0 < seen[0].accuracy < 1
    assert_same(seen[0], seen[1])
    with pytest.raises(TypeError, match=r"labels must be integers .* got dtype float32"):
        training.evaluate(recipe, state, XS, labels.astype(np.float32))
    recipe, state = create(Product(1), loss=lambda y, t: jnp.square(y[:, 0]))
    with pytest.raises(ValueError, match=r"got \[8, 1\]; .* give floating targets"):
        training.evaluate(recipe, state, XS, labels)


def test_a_label_that_is_no_class_is_noticed():
    """Inside a compiled epoch it cannot be an error, so the loss is NaN."""
    labels = np.arange(24) % 2
    labels[5], labels[7], labels[8] = -1, 2, 255
    recipe, state = create(Product(), loss=losses.firing_rate_mse)
    outputs = training.merge(recipe, state)(steps_first(XS))
    for loss in (losses.firing_rate_mse, losses.firing_rate_cross_entropy):
        for wrong in (-1, 2, 255):
            labels[5] = wrong
            for dtype in (np.int32, np.uint8 if wrong > 0 else np.int8):
                found = loss(outputs[4:6], jnp.asarray(labels[4:6], dtype))
                np.testing.assert_array_equal(np.isnan(found), [False, True])
    wide = losses.firing_rate_mse(jnp.zeros((2, 300)), jnp.array([0, 255], jnp.uint8))
    assert jnp.all(jnp.isfinite(wide))  # 300 is no number of 8 bits
    _, metrics = training.train_epoch(recipe, state, XS, labels)
    assert not metrics.finite
    assert metrics.first_nonfinite >= 0


def test_labels_and_inputs_that_are_no_arrays():
    labels = np.arange(24) % 2
    recipe, state = create(Product(), loss=losses.firing_rate_mse)
    runs = (training.train_epoch, training.evaluate, training.train_step)
    for run in (*runs, training.stream_epoch, training.stream_evaluate):
        with pytest.raises(TypeError, match=r"^labels must be .* got 0 \(int\) in it; .*asarray"):
            run(recipe, state, XS, labels.tolist())
        with pytest.raises(TypeError, match=r"^inputs must be an array \[n, \.\.\.\]"):
            run(recipe, state, XS.tolist(), labels)
        with pytest.raises(ValueError, match=r"\[24, 5, 3\] and none"):
            run(recipe, state, XS, None)
        with pytest.raises(
            ValueError, match=r"make one array of a list of examples, e\.g\. by np\.stack"
        ):
            run(recipe, state, list(XS), labels)
    assert not jax.tree.leaves(state.params)[0].is_deleted()


# ------------------------------------------------------------------ optimisers


def lower_on_plateau():
    return optax.chain(SGD, optax.contrib.reduce_on_plateau(0.5, patience=0, accumulation_size=1))


def sam(**kwargs):
    inner = optax.chain(optax.contrib.normalize(), optax.sgd(0.1))
    return optax.contrib.sam(optax.sgd(0.1), inner, **kwargs)


def asks_by_name():
    """An optimiser of a user, which takes one of the arguments and no others."""

    def update(updates, state, params, value):
        return jax.tree.map(lambda g: -0.1 * value * g, updates), value

    return optax.GradientTransformation(lambda params: jnp.zeros(()), update)


# What each asks for: the loss, the gradient, the loss of other parameters, nothing that is known.
OPTIMIZERS = {
    "plateau": lower_on_plateau,
    "named": asks_by_name,
    "prodigy": lambda: optax.contrib.prodigy(1.0),
}
MORE = {
    "clipped sam": lambda: optax.chain(optax.clip(1.0), sam()),
    "polyak": optax.polyak_sgd,
    "momo": lambda: optax.contrib.momo(0.1),
    "lbfgs": lambda: optax.lbfgs(memory_size=2),
    "backtracking": lambda: optax.chain(
        optax.sgd(1.0), optax.scale_by_backtracking_linesearch(5, store_grad=True)
    ),
    "sophia": lambda: optax.contrib.sophia(0.01),
    "sam": sam,
    "opaque sam": lambda: sam(opaque_mode=True),
    "cocob": optax.contrib.cocob,
    "schedule_free": lambda: optax.contrib.schedule_free_sgd(0.1),
    "mechanize": lambda: optax.contrib.mechanize(optax.sgd(0.1)),
    "dadapt": lambda: optax.contrib.dadapt_adamw(1.0),
    "momo_adam": lambda: optax.contrib.momo_adam(0.1),
    "dog": lambda: optax.contrib.dog(1.0),
    "dowg": lambda: optax.contrib.dowg(1.0),
    "multi_steps": lambda: optax.MultiSteps(SGD, 2),
    "finite": lambda: optax.apply_if_finite(SGD, 2),
    "injected": lambda: optax.inject_hyperparams(optax.adam)(learning_rate=0.1),
    **{
        name: functools.partial(getattr(module, name), 0.01)
        for module, names in (
            (optax, "adabelief adadelta adafactor adagrad adam adamax adamaxw adamw adan amsgrad"),
            (optax, "fromage lamb lars lion nadam nadamw novograd optimistic_adam_v2"),
            (optax, "optimistic_gradient_descent radam rmsprop rprop sgd sign_sgd sm3 yogi"),
            (optax.contrib, "acprop ademamix adopt galore madgrad muon simplified_ademamix"),
        )
        for name in names.split()
        if hasattr(module, name)
    },
}


@pytest.mark.parametrize(
    "name", [*OPTIMIZERS, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)]
)
def test_optimisers(name):
    """Each gets what it asks for, none shares memory in its first state; compiled once."""
    recipe, state = create(Product(), (OPTIMIZERS | MORE)[name]())
    compiled = training.train_epoch._cache_size()
    state, first = training.train_epoch(recipe, state, XS, WANTED[:, 0])
    state, second = training.train_epoch(recipe, state, XS, WANTED[:, 0])
    assert training.train_epoch._cache_size() == compiled + 1
    assert first.finite
    assert second.finite
    assert state.step == 6
    assert second.loss < 1.1 * first.loss  # those that adapt have hardly begun


def test_what_optimisers_are_given():
    """The loss of the minibatch, its gradient, and the loss as a function of the parameters."""
    given = {}

    def update(updates, state, params, **extra_args):
        given.update(extra_args, updates=updates)
        given["elsewhere"] = extra_args["value_fn"](jax.tree.map(jnp.zeros_like, params))
        return updates, state

    optimizer = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)
    recipe, state = create(Product(), optimizer)
    _, seen = training.train_step(recipe, state, XS[:8], WANTED[:8, 0])
    assert given["value"] == seen.loss == given["value_fn"](state.params)
    assert_same(given["grad"], given["updates"])
    assert_same(given["grad_fn"](state.params, 0), given["updates"])
    np.testing.assert_allclose(given["elsewhere"], np.mean(WANTED[:8, 0] ** 2), rtol=1e-5)
    broken = optax.GradientTransformation(SGD.init, lambda updates, state, params, closure: 0)
    with pytest.raises(TypeError, match="closure"):
        training.train_step(create(Product(), broken)[0], state, XS[:8], WANTED[:8, 0])


# ------------------------------------------------------------------ gradients that are too large


def test_clipping_as_optax_does():
    gradients = {"a": jnp.asarray(WANTED[0]), "b": [jnp.float32(0.5)]}
    for limit in (0.1, 1.0, 50.0):
        expected, _ = optax.clip_by_global_norm(limit).update(gradients, optax.EmptyState())
        clip = training.clip_by_global_norm(limit)
        assert clip.init(gradients) == optax.EmptyState()
        clipped, _ = clip.update(gradients, clip.init(gradients))
        close = functools.partial(np.testing.assert_allclose, rtol=1e-6)
        close(clipped["a"], expected["a"])
        close(clipped["b"][0], expected["b"][0])
    half, _ = clip.update(jnp.full(16, 30.0, jnp.float16), optax.EmptyState())
    assert half.dtype == jnp.float16
    close(half, np.full(16, 12.5))
    for size in (1e20, 1e25, 3.3e38):
        huge = jnp.array([size, -size], jnp.float32)
        clipped, _ = training.clip_by_global_norm(1.0).update(huge, optax.EmptyState())
        np.testing.assert_allclose(clipped, [0.5**0.5, -(0.5**0.5)], rtol=1e-6)
    with pytest.raises(ValueError, match="max_norm must be"):
        training.clip_by_global_norm(0.0)


def test_a_gradient_whose_square_overflows_is_no_standstill():
    """Clipped, it is a step of full length; in Adam's state it is reported, or left out."""

    def steep(outputs, targets):
        return 1e25 * mean_squares(outputs, targets)

    clipped = optax.chain(training.clip_by_global_norm(1.0), optax.sgd(0.125))
    recipe, state = create(Product(), clipped, steep)
    before = arrays(state.params)
    state, seen = training.train_step(recipe, state, XS[:8], WANTED[:8, 0])
    step = jax.tree.map(lambda new, old: new - old, state.params, before)
    np.testing.assert_allclose(training.global_norm(step), 0.125, rtol=1e-5)
    assert seen.finite
    assert 1e24 < seen.gradient_norm < 1e26
    _, metrics = training.train_epoch(recipe, state, XS, WANTED[:, 0])
    assert metrics.finite
    assert 1e24 < metrics.gradient_norm < 1e26

    recipe, start = create(Product(), optax.adam(0.1), steep)
    _, metrics = training.train_epoch(recipe, copy(start), XS, WANTED[:, 0])
    assert not metrics.finite  # loss and parameters are, but no update moves anything any more
    assert metrics.first_nonfinite == 0
    assert 1e24 < metrics.nonfinite_norm <= metrics.gradient_norm < 1e26
    recipe, _ = create(Product(), recipe.optimizer, steep, skip_nonfinite=True)
    state, metrics = training.train_epoch(recipe, copy(start), XS, WANTED[:, 0])
    assert metrics.skipped == 3
    assert 1e24 < metrics.gradient_norm < 1e26
    assert_same(state.params, start.params)


def test_an_epoch_with_one_bad_update_is_not_finite():
    """Though its last parameters are: an optimiser of a user mends them."""
    mends = optax.chain(optax.zero_nans(), SGD)
    inputs = XS.copy()
    inputs[training.epoch_order(jax.random.key(0), 0, 24)[9], 0, 0] = np.nan

    def ignores(outputs, targets):
        return jnp.nan_to_num(mean_squares(outputs, targets))

    recipe, state = create(Product(), mends, ignores)
    state, metrics = training.train_epoch(recipe, state, inputs, WANTED[:, 0])
    assert np.isfinite(training.global_norm(state.params))
    assert not metrics.finite
    assert metrics.first_nonfinite == 1
    assert np.isnan(metrics.nonfinite_norm)
    assert 0 < metrics.gradient_norm < 100


# ------------------------------------------------------------------ what is not learned


class Constant(nnx.Variable):
    """A kind of variable of a user."""


class Centred(nnx.Module):
    """Takes a mean off, by a matrix that is fixed; holds constants in every way there is."""

    def __init__(self, mean, *, changes=False):
        self.mean = jnp.asarray(mean)
        self.scale = np.full(3, 2.0, np.float32)
        self.matrix = nnx.Variable(jnp.eye(3))
        self.order = Constant(jnp.array([2, 0, 1]))
        self.product = Product()
        self.changes = changes

    def __call__(self, xs):
        if self.changes:
            self.matrix[...] = 2 * self.matrix[...]
        xs = (xs - self.mean[None, None]) * self.scale[None, None]
        return self.product(jnp.matmul(xs, self.matrix[...])[..., self.order[...]])


def constants(model):
    return [np.asarray(x) for x in (model.mean, model.scale, model.matrix[...], model.order[...])]


def test_constants_stay(tmp_path):
    model = Centred(XS.mean((0, 1)))
    recipe, state = create(model)
    expected = constants(model)
    assert len(jax.tree.leaves(state.params)) == 2
    assert len(jax.tree.leaves(state.constants)) == 4
    for run in (training.train_epoch, training.train_epoch, training.stream_epoch):
        state, metrics = run(recipe, state, XS, WANTED[:, 0])
    assert metrics.finite
    assert_same(constants(model), expected)  # not donated with the state
    after = training.merge(recipe, state)
    assert_same(constants(after), expected)
    outputs = after.product(((steps_first(XS) - expected[0][None, None]) * 2)[..., expected[3]])
    tested = training.evaluate(recipe, state, XS, WANTED[:, 0])
    np.testing.assert_allclose(tested.loss, mean_squares(outputs, WANTED[:, 0]).mean(), rtol=1e-5)
    # A checkpoint holds them: a model with other ones gets those of its parameters.
    experiment.Checkpoints(tmp_path).save(state, [])
    _, like = create(Centred(np.ones(3, np.float32)))
    restored, _ = experiment.Checkpoints(tmp_path).restore(like)
    assert_same(restored, state)
    assert_same(constants(training.merge(recipe, restored)), expected)


def test_checkpoints_without_constants_stay_readable(tmp_path):
    """A state without them has no part for them."""
    _, state = create(Product())
    assert state.constants == {}
    checkpoints = experiment.Checkpoints(tmp_path)
    checkpoints.save(state, [])
    assert not list(tmp_path.glob("checkpoints/*/constants"))
    assert_same(checkpoints.restore(state)[0], state)


def test_a_model_that_changes_its_variables_is_refused():
    recipe, state = create(Centred(np.zeros(3, np.float32), changes=True))
    with pytest.raises(ValueError, match=r"Centred changes its variable \S*matrix\S* when it is"):
        training.train_epoch(recipe, state, XS, WANTED[:, 0])


# ------------------------------------------------------------------ states


def test_a_donated_state_is_named():
    recipe, state = create(Product())
    training.train_epoch(recipe, state, XS, WANTED[:, 0])
    message = (
        r"state was donated to an earlier call.*continue with the state that the call returned"
    )
    with pytest.raises(ValueError, match=message):
        training.merge(recipe, state)
    with pytest.raises(ValueError, match=message):
        training.train_step(recipe, state, XS[:2], WANTED[:2, 0])
    with pytest.raises(ValueError, match=message):
        training.put(recipe, state)
    for run in (training.train_epoch, training.stream_epoch):
        with pytest.raises(ValueError, match=message):
            run(recipe, state, XS, WANTED[:, 0])
    for test in (training.evaluate, training.stream_evaluate):
        with pytest.raises(ValueError, match=message):
            test(recipe, state, XS, WANTED[:, 0])


@pytest.mark.slow
def test_seeds_and_learning_rates_side_by_side():
    """`vmap` over states: the same as one after the other."""
    optimizer = optax.inject_hyperparams(optax.adam)(learning_rate=1.0)
    states = []
    for seed, rate in ((0, 0.1), (1, 0.1), (0, 0.01)):
        recipe, state = create(Product(), optimizer)
        state = state._replace(key=jax.random.key(seed))
        states.append(optax.tree.set(state, learning_rate=jnp.float32(rate)))
    many = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)

    def over_runs(run):
        return jax.vmap(functools.partial(run, recipe), in_axes=(0, None, None))

    many, seen = jax.jit(over_runs(training.train_epoch))(many, XS, WANTED[:, 0])
    tested = jax.jit(over_runs(training.evaluate))(many, XS, WANTED[:, 0])
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    for k, state in enumerate(states):
        alone, metrics = training.train_epoch(recipe, state, XS, WANTED[:, 0])
        jax.tree.map(close, seen.loss[k], metrics.loss)
        close(tested.loss[k], training.evaluate(recipe, alone, XS, WANTED[:, 0]).loss)
        jax.tree.map(lambda a, b, k=k: close(a[k], b), many.params, alone.params)


@pytest.mark.slow
def test_frozen_parameters_stay():
    _, state = create(Product())
    frozen = jax.tree_util.tree_map_with_path(
        lambda path, _: jax.tree_util.keystr(path).endswith("['bias']"), state.params
    )
    names = jax.tree.map(lambda stays: "frozen" if stays else "learned", frozen)
    for optimizer in (
        optax.chain(optax.adamw(0.1), optax.masked(optax.set_to_zero(), frozen)),
        optax.multi_transform({"learned": optax.adam(0.1), "frozen": optax.set_to_zero()}, names),
    ):
        recipe, after = create(Product(), optimizer)
        after, _ = training.train_epoch(recipe, after, XS, WANTED[:, 0])
        changed = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), after.params, state.params)
        assert changed == jax.tree.map(lambda stays: not stays, frozen)


@pytest.mark.slow
def test_networks_in_bfloat16():
    """Parameters in bfloat16 too: the norm, the loss and the optimiser keep their dtypes."""

    class Half(nnx.Module):
        def __init__(self):
            linear = functools.partial(
                nn.Linear, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0)
            )
            self.layers = nn.Sequential(linear(3, 8), nn.LIFNode(v_threshold=0.2), linear(8, 2))

        def __call__(self, xs):
            return nn.unroll(self.layers, xs.astype(jnp.bfloat16))[1].mean(0, dtype=jnp.float32)

    recipe, state = create(Half(), optax.chain(training.clip_by_global_norm(1.0), optax.adam(0.01)))
    start = state.params
    dtypes = jax.tree.map(lambda leaf: leaf.dtype, state)
    state, first = training.train_epoch(recipe, state, XS, WANTED[:, 0])
    for _ in range(4):
        state, last = training.train_epoch(recipe, state, XS, WANTED[:, 0])
    assert jax.tree.map(lambda leaf: leaf.dtype, state) == dtypes
    assert jax.tree.leaves(start)[0].dtype == jnp.bfloat16
    assert last.finite
    assert last.loss < first.loss


@pytest.mark.slow
def test_readouts_of_a_spiking_regression():
    """A network with spikes and a readout over time learns means of its inputs."""
    rngs = nnx.Rngs(0)
    net = nn.Sequential(
        nn.Linear(3, 16, rngs=rngs),
        nn.LIFNode(v_threshold=0.2),
        nn.Linear(16, 1, rngs=rngs),
        nn.NonSpikingLIFNode(),
    )
    recipe, state = create(models.Classifier(net, readout=None), optax.adam(0.03), per_step)
    targets = np.cumsum(XS[..., :1], axis=1) / 5
    state, first = training.train_epoch(recipe, state, XS, targets)
    for _ in range(15):
        state, last = training.train_epoch(recipe, state, XS, targets)
    assert last.loss < 0.5 * first.loss
