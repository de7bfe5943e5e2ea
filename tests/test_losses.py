"""Losses against SpikingJelly's, and against torch's arithmetic done by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from golden_arrays import Golden, assert_close, assert_equal, assert_loss_close

from jaxsnn import losses, models, nn, training

GOLDEN = Golden("losses_functional")
SIMILAR = [case for case in GOLDEN.cases if case.startswith("spike_similar_")]
TET = ["tet_cross_entropy", "tet_cross_entropy_dense"]
KERNELS = [case for case in GOLDEN.cases if case.startswith("kernel_")]


def expected(name, precision):
    """Some cases have one precision only; its arrays serve the other one at its tolerances."""
    names = [name, f"{name}64"] if precision == "float32" else [f"{name}64", name]
    return GOLDEN.arrays[next(n for n in names if GOLDEN.has(n))]


def test_firing_rate_mse():
    rates = jnp.array([[0.5, 0.25], [1.0, 0.0]])
    labels = jnp.array([0, 1])
    per_example = losses.firing_rate_mse(rates, labels)
    np.testing.assert_allclose(per_example, [(0.25 + 0.0625) / 2, 1.0])
    softer = losses.firing_rate_mse(rates, labels, correct_rate=0.75, incorrect_rate=0.25)
    np.testing.assert_allclose(softer, [0.0625 / 2, (0.75**2 + 0.75**2) / 2])


def test_correct_takes_the_first_of_equals():
    outputs = jnp.array([[0.0, 0.0], [0.0, 0.0], [0.1, 0.2]])
    np.testing.assert_array_equal(
        losses.correct(outputs, jnp.array([0, 1, 1])), [True, False, True]
    )


def test_classes_beyond_the_dtype_of_the_labels():
    outputs = jnp.eye(300)[jnp.array([259, 3])]
    np.testing.assert_array_equal(
        losses.correct(outputs, jnp.array([3, 3], jnp.uint8)), [False, True]
    )


def test_losses_are_those_of_spikingjelly(precision):
    """Their mean over the examples is SpikingJelly's one number, and so is its gradient."""

    def objective(inputs):
        each = {}
        for case in TET:
            labels = jnp.asarray(GOLDEN.arrays[f"{case}/target"])
            each[case] = losses.temporal_efficient_training_cross_entropy(inputs[case], labels)
        for case in SIMILAR:
            settings = GOLDEN.cases[case]
            spikes = jnp.moveaxis(inputs[case], 1, 0)  # time first
            labels = jnp.asarray(GOLDEN.arrays[f"{case}/labels"])
            kinds = settings["kernel_type"], settings["loss_type"], *settings["args"]
            each[case] = losses.spike_similar_loss(spikes, labels, *kinds)
        return sum(jnp.mean(loss) for loss in each.values()), each

    names = {case: "x" if case in TET else "spikes" for case in TET + SIMILAR}
    inputs = {case: GOLDEN.input(f"{case}/{name}", precision) for case, name in names.items()}
    grads, each = jax.jit(jax.grad(objective, has_aux=True))(inputs)
    for case, name in names.items():
        # Binary cross-entropy was recorded in float32 only.
        judged = "float32" if case.endswith("_bce") else precision
        assert each[case].shape == (4,)
        assert each[case].dtype == precision
        mean = jnp.mean(each[case])
        assert_loss_close(mean.astype(judged), expected(f"{case}/loss", precision), judged, case)
        g = np.asarray(grads[case]).astype(judged)
        assert_close(g, expected(f"{case}/g_{name}", precision), judged, case)


def test_kernels_are_those_of_spikingjelly(precision):
    for case in KERNELS:
        x, y = (GOLDEN.input(f"{case}/{name}", precision) for name in "xy")
        kernel = case.removeprefix("kernel_")
        out = losses.kernel_dot_product(x, y, kernel, *GOLDEN.cases[case]["args"])
        assert_close(out, GOLDEN.arrays[f"{case}/out64"], precision, case)


def test_redundant_one_hot(precision):
    settings = GOLDEN.cases["redundant_one_hot"]
    labels = jnp.asarray(GOLDEN.arrays["redundant_one_hot/labels"])
    out = losses.redundant_one_hot(labels, settings["num_classes"], settings["n"], dtype=precision)
    assert out.dtype == precision
    assert_equal(out, GOLDEN.arrays["redundant_one_hot/out"])


def test_class_numbers_are_labels_too():
    spikes = jax.random.bernoulli(jax.random.key(0), 0.4, (5, 4, 6)).astype(jnp.float32)
    labels = jnp.array([2, 0, 1, 2])
    loss = jax.jit(losses.spike_similar_loss)
    np.testing.assert_allclose(
        loss(spikes, labels), loss(spikes, jax.nn.one_hot(labels, 3)), rtol=1e-6
    )


def test_silence_has_a_finite_gradient():
    """No spike at all, the same spikes twice, and none in common."""
    spikes = jnp.array([[[0.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]])
    labels = jnp.array([0, 0, 1, 1])

    @jax.jit
    def all_of(spikes):
        return {
            kind: jax.value_and_grad(
                lambda s, k=kind: jnp.sum(losses.spike_similar_loss(s, labels, "linear", k))
            )(spikes)
            for kind in ("mse", "l1", "bce")
        }

    for kind, (value, g) in all_of(spikes).items():
        assert np.isfinite(value), kind
        assert np.all(np.isfinite(g)), kind


def test_cross_entropies():
    """Each by its definition; a mask leaves what running the sequence alone leaves."""
    rng = np.random.default_rng(0)
    ys = jnp.asarray(rng.poisson(0.5, (6, 3, 4)) + rng.uniform(size=(6, 3, 4)), jnp.float32)
    labels, lengths = jnp.array([3, 0, 1]), (6, 2, 4)
    mask = jnp.arange(6)[:, None] < jnp.array([lengths])
    ce = optax.softmax_cross_entropy_with_integer_labels

    def results():
        for loss, by_hand in {
            losses.spike_count_cross_entropy: lambda y: ce(y.sum(axis=0), labels),
            losses.max_membrane_cross_entropy: lambda y: ce(y.max(axis=0), labels),
            losses.temporal_efficient_training_cross_entropy: lambda y: jnp.mean(
                ce(y, jnp.stack([labels] * 6)), axis=0
            ),
        }.items():
            masked = loss(jnp.where(mask[..., None], ys, jnp.nan), labels, mask=mask)
            alone = [loss(ys[:t, n : n + 1], labels[n : n + 1]) for n, t in enumerate(lengths)]
            yield loss(ys, labels), by_hand(ys)
            yield masked, jnp.concatenate(alone)
        rates = losses.firing_rate_cross_entropy(ys.mean(axis=0), labels, scale=6.0)
        yield rates, losses.spike_count_cross_entropy(ys, labels)

    for actual, expected in jax.jit(lambda: list(results()))():
        np.testing.assert_allclose(actual, expected, rtol=1e-5)
    half = losses.firing_rate_cross_entropy(jnp.zeros((1, 4), jnp.bfloat16), labels[:1])
    assert half.dtype == jnp.float32


def test_a_loss_of_all_steps_fits_training():
    """A model without a readout, `[T, N, C]`: the loss is a number per example all the same."""
    net = models.Classifier(nn.Linear(3, 2, rngs=nnx.Rngs(0)), None)
    recipe, state = training.create(
        net,
        optax.sgd(0.1),
        loss=losses.temporal_efficient_training_cross_entropy,
        to_sequence=lambda x: jnp.moveaxis(x, 1, 0),
        batch_size=2,
        seed=0,
    )
    step = functools.partial(training.train_step, recipe, key=jax.random.key(0))
    _, seen = jax.eval_shape(step, state, jnp.ones((2, 4, 3)), jnp.array([0, 1]))
    assert seen.loss_sum.shape == ()


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (
            lambda: losses.firing_rate_mse(jnp.ones((4, 10)), jnp.zeros((4, 1), int)),
            ValueError,
            r"same examples, got labels of shape \[4, 1\] for \[4, 10\]",
        ),
        (
            lambda: losses.firing_rate_mse(jnp.ones((4, 10)), jnp.zeros(4)),
            TypeError,
            "must be integers .* got dtype float32",
        ),
        (
            lambda: losses.correct(jnp.ones((28, 10)), jnp.zeros(256, int)),
            ValueError,
            "same examples",
        ),
        (
            lambda: losses.firing_rate_cross_entropy(jnp.zeros((5, 3, 2)), jnp.zeros(3, int)),
            ValueError,
            "same examples",
        ),
        (
            lambda: losses.firing_rate_cross_entropy(jnp.zeros((3, 2)), jnp.zeros(3)),
            TypeError,
            "labels must be integers",
        ),
        (
            lambda: losses.temporal_efficient_training_cross_entropy(
                jnp.zeros((3, 2)), jnp.zeros(3, int)
            ),
            ValueError,
            r"\[T, N, classes",
        ),
        (
            lambda: losses.spike_similar_loss(jnp.zeros((3, 2, 4)), jnp.zeros(3, int)),
            ValueError,
            "same examples",
        ),
        (
            lambda: losses.spike_similar_loss(
                jnp.zeros((3, 2, 4)), jnp.zeros(2, int), "polynomial", "bce", 2
            ),
            ValueError,
            "not with a polynomial kernel",
        ),
        (
            lambda: losses.spike_similar_loss(
                jnp.zeros((3, 2, 4)), jnp.zeros(2, int), "linear", "kl"
            ),
            ValueError,
            "loss_type must be",
        ),
        (
            lambda: losses.kernel_dot_product(jnp.zeros((2, 2)), jnp.zeros((2, 2)), "cosine"),
            ValueError,
            "kernel must be one of",
        ),
        (
            lambda: losses.kernel_dot_product(jnp.zeros((2, 2)), jnp.zeros((2, 2)), "gaussian"),
            TypeError,
            "gaussian kernel takes the width sigma, got",
        ),
        (
            lambda: losses.kernel_dot_product(jnp.zeros((2, 2)), jnp.zeros((2, 2)), "linear", 1.0),
            TypeError,
            "takes no parameter",
        ),
    ],
)
def test_errors(call, error, match):
    with pytest.raises(error, match=match):
        call()
