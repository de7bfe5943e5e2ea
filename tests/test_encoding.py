"""Encoders: SpikingJelly's codes, value ranges, and what each code means."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from golden_arrays import Golden, assert_close, assert_equal, assert_loss_close

import jaxsnn
from jaxsnn import encoding, nn
from jaxsnn.surrogate import DeterministicPass

GOLDEN = Golden("encoding")
POPULATION = Golden("encoding_population")
ENCODERS = {
    "poisson": functools.partial(encoding.poisson, T=4, key=jax.random.key(0)),
    "regular": functools.partial(encoding.regular, T=4),
    "latency": functools.partial(encoding.latency, T=4),
    "latency_log": functools.partial(encoding.latency, T=4, function="log"),
    "weighted_phase": functools.partial(encoding.weighted_phase, K=4),
}


def code(case, settings, precision):
    """One period of the code of a case, and the number of steps that SpikingJelly ran."""
    steps = len(GOLDEN.arrays[f"{case}/out"])
    if settings["cls"] == "PeriodicEncoder":
        return GOLDEN.input(f"{case}/spike", precision), steps
    x = GOLDEN.input(f"{case}/x", precision)
    if settings["cls"] == "WeightedPhaseEncoder":
        return encoding.weighted_phase(x, settings["K"]), steps
    return encoding.latency(x, settings["T"], function=settings["enc_function"]), steps


def test_codes_are_those_of_spikingjelly(precision):
    """What its encoders give beyond one period is the period again."""
    sequences = jax.jit(
        lambda: {
            case: encoding.periodic(*code(case, settings, precision))
            for case, settings in GOLDEN.cases.items()
        }
    )()
    for case, spikes in sequences.items():
        assert spikes.dtype == precision
        assert_equal(spikes, GOLDEN(f"{case}/out", precision), case)


@pytest.mark.parametrize("case", POPULATION.cases)
def test_population_is_that_of_spikingjelly(case, precision):
    """Graded activity, and spikes of it with the gradient straight through them."""
    settings = POPULATION.cases[case]
    assert settings["cls"] in ("PopEncoder", "PopSpikeEncoderDeterministic")
    encoder = encoding.PopulationEncoder(
        settings["obs_dim"],
        settings["pop_dim"],
        mean_range=settings["mean_range"],
        std=settings["std"],
        param_dtype=precision,
    )
    for name in ("mean", "std"):
        assert_close(
            getattr(encoder, name)[...], POPULATION.arrays[f"{case}/p_{name}"][0], precision
        )
    to_sequence = encoding.repeat if settings["cls"] == "PopEncoder" else encoding.regular
    weights = POPULATION.input(f"{case}/w_out", precision)

    def objective(encoder, obs):
        out = to_sequence(encoder(obs), settings["spike_ts"])
        return jnp.sum(out * weights), out

    run = jax.jit(jax.value_and_grad(objective, (0, 1), has_aux=True))
    (loss, out), (g, g_obs) = run(encoder, POPULATION.input(f"{case}/obs", precision))
    assert_loss_close(loss, POPULATION(f"{case}/loss", precision), precision)
    assert_close(out, POPULATION(f"{case}/out", precision), precision, "out")
    assert_close(g_obs, POPULATION(f"{case}/g_obs", precision), precision, "g_obs")
    assert_close(g.mean[...], POPULATION(f"{case}/g_p_mean", precision)[0], precision, "g_mean")
    assert_close(g.std[...], POPULATION(f"{case}/g_p_std", precision)[0], precision, "g_std")


@pytest.mark.parametrize("name", ENCODERS)
def test_values_out_of_range(name):
    """An error that names the range; inside jit, where it cannot be known, they are clipped."""
    encode = ENCODERS[name]
    largest = 1 - 2**-4 if name == "weighted_phase" else 1.0
    x = jnp.array([0.0, 0.3, largest, largest, 0.0], jnp.float32)
    wrong = x + jnp.array([0.0, 0.0, 0.0, 0.5, -0.5])
    assert_equal(jax.jit(encode)(wrong), encode(x))
    for bad in (wrong[:4], wrong[4:], jnp.array([jnp.nan])):
        with pytest.raises(ValueError, match=r"x must lie in \[0, (1|0.9375)\]"):
            encode(bad)
    with pytest.raises(TypeError, match="floating"):
        encode(jnp.array([0, 255], jnp.uint8))
    half = encode(x.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    assert half.shape == (4, 5)


def test_poisson():
    x = jnp.array([0.0, 0.25, 1.0])
    spikes = encoding.poisson(x, 4000, key=jax.random.key(1))
    np.testing.assert_allclose(spikes.mean(axis=0), x, atol=0.02)
    assert_equal(spikes[:, [0, 2]].mean(axis=0), [0.0, 1.0])  # never, always
    assert_equal(jnp.unique(spikes), [0.0, 1.0])
    assert_equal(encoding.poisson(x, 4000, key=jax.random.key(1)), spikes)
    assert not jnp.array_equal(encoding.poisson(x, 4000, key=jax.random.key(2)), spikes)
    slope = jax.grad(lambda x: encoding.poisson(x, 5, key=jax.random.key(1)).sum())(x)
    assert_equal(slope, [5.0, 5.0, 5.0])  # straight through


def test_regular_goes_on_as_a_neuron():
    """The neuron of its docstring; with a state that lasts it is SpikingJelly between resets."""
    x = jnp.array([0.15, 0.5, 0.9])
    neuron = nn.IFNode(
        v_threshold=0.999,
        v_reset=None,
        surrogate_function=DeterministicPass(),
        detach_reset=True,
    )
    carry, first = nn.unroll(neuron, encoding.repeat(x, 5))
    _, second = nn.unroll(neuron, encoding.repeat(x, 5), carry)
    assert_equal(jnp.concatenate([first, second]), encoding.regular(x, 10))


def test_digits_add_up():
    x = jnp.arange(16) / 16
    weights = jnp.array([1 / 2, 1 / 4, 1 / 8, 1 / 16])
    assert_equal(jnp.tensordot(weights, encoding.weighted_phase(x, 4), 1), x)


def test_latency_of_many_steps_is_finite():
    """Its alpha, e^(T-1) - 1, is beyond float32 here."""
    times = encoding.latency(jnp.array([0.0, 1.0]), 500, function="log").argmax(axis=0)
    assert_equal(times, [499, 0])
    assert_equal(encoding.latency(jnp.array([0.0, 1.0]), 1, function="log"), [[1.0, 1.0]])


def test_population_is_a_layer_of_unroll():
    encoder = encoding.PopulationEncoder(2, 3, mean_range=(-1.0, 1.0), std=0.5)
    xs = jnp.linspace(-1.0, 1.0, 16).reshape(4, 2, 2)
    _, ys = nn.unroll(nn.Sequential(encoder, nn.IFNode()), xs)
    assert ys.shape == (4, 2, 6)
    assert set(nnx.to_pure_dict(nnx.state(encoder, nnx.Param))) == {"mean", "std"}
    assert encoder(xs.astype(jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: encoding.poisson(jnp.zeros(2), 3, key=0), TypeError, "key must be a random key"),
        (lambda: encoding.latency(jnp.zeros(2), 0), ValueError, "T must be at least 1"),
        (lambda: encoding.latency(jnp.zeros(2), 3, function="exp"), ValueError, "function must"),
        (lambda: encoding.periodic(jnp.zeros((0, 2)), 3), ValueError, "at least one step"),
        (lambda: encoding.repeat(jnp.zeros(2), 2.5), TypeError, "T must be an integer"),
        (lambda: encoding.delta(jnp.zeros(()), 1.0), ValueError, "time first"),
        (lambda: encoding.delta(jnp.zeros(3), 0.0), ValueError, "threshold must be greater"),
        (
            lambda: encoding.PopulationEncoder(2, 3, mean_range=(1.0, 1.0), std=1.0),
            ValueError,
            "smaller number first",
        ),
        (
            lambda: encoding.PopulationEncoder(2, 3, mean_range=1.0, std=1.0),
            ValueError,
            "two numbers",
        ),
        (
            lambda: encoding.PopulationEncoder(2, 3, mean_range=(0, 1), std=1.0)(jnp.zeros(3)),
            ValueError,
            r"\[..., 2\]",
        ),
    ],
)
def test_errors(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_package_is_reexported():
    assert jaxsnn.encoding is encoding
