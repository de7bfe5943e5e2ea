"""Linear synapses against the closed forms of their responses; then their arguments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsnn import functional, nn

T = 12


def double_exponential(t, tau_decay, tau_rise):
    """The difference of two exponentials, over its maximum."""

    def curve(t):
        return np.exp(-t / tau_decay) - np.exp(-t / tau_rise)

    peak = np.log(tau_decay / tau_rise) * tau_decay * tau_rise / (tau_decay - tau_rise)
    return curve(t) / curve(peak)


def alpha(t, tau):
    return t / tau * np.exp(1 - t / tau)


RESPONSES = [
    (nn.ExponentialSynapse(0.5), lambda t: np.exp(-t / 0.5)),
    (nn.ExponentialSynapse(20.0), lambda t: np.exp(-t / 20.0)),
    (nn.AlphaSynapse(1.0), lambda t: alpha(t, 1.0)),
    (nn.AlphaSynapse(3.0), lambda t: alpha(t, 3.0)),
    (nn.DoubleExponentialSynapse(8.0, 2.0), lambda t: double_exponential(t, 8.0, 2.0)),
    (nn.DoubleExponentialSynapse(3.0, 0.2), lambda t: double_exponential(t, 3.0, 0.2)),
    (nn.DoubleExponentialSynapse(3.0, 3.0), lambda t: alpha(t, 3.0)),
    (nn.DoubleExponentialSynapse(3.0, 3.0 - 1e-12), lambda t: alpha(t, 3.0)),
]


@jax.jit
def currents(xs):
    return [nn.unroll(synapse, xs)[1] for synapse, _ in RESPONSES]


def test_responses_and_their_sums():
    """To one spike the closed form, to any input the sum of such responses."""
    t = np.arange(T, dtype="float64")
    rng = np.random.default_rng(0)
    xs = np.stack([t == 0, rng.normal(size=T)], axis=1)
    with jax.enable_x64(True):
        actual = jax.device_get(currents(jnp.asarray(xs)))
    for (synapse, response), ys in zip(RESPONSES, actual, strict=True):
        assert ys.dtype == "float64"
        sums = np.convolve(xs[:, 1], response(t))[:T]
        expected = np.stack([response(t), sums], axis=1)
        np.testing.assert_allclose(ys, expected, rtol=0, atol=1e-11, err_msg=str(synapse))


def test_the_peak_is_one():
    """Where it falls on a time step: that of an alpha function at tau."""
    _, ys = nn.unroll(nn.AlphaSynapse(4.0), jnp.eye(1, T).T)
    assert np.argmax(ys) == 4
    np.testing.assert_allclose(ys[4], 1, rtol=1e-6)


def test_learned_time_constants():
    """The factors, and their derivatives also where the time constants are equal or near it."""
    rise = np.array([3.0, 2.999, 2.98, 2.9, 1.5, 3.1])
    with jax.enable_x64(True):
        factors = jax.jit(jax.vmap(functional.double_exponential_factors, (None, 0)))
        slopes = jax.jit(jax.vmap(jax.jacfwd(functional.double_exponential_factors, 1), (None, 0)))
        three = jnp.asarray(3.0)
        values, slopes = factors(three, rise), slopes(three, rise)
        eps = 1e-6
        above, below = factors(three, rise + eps), factors(three, rise - eps)
    floats = [functional.double_exponential_factors(3.0, float(tau)) for tau in rise]
    np.testing.assert_allclose(np.stack(values, 1), floats, rtol=1e-12)
    numeric = (np.stack(above) - np.stack(below)) / (2 * eps)
    np.testing.assert_allclose(np.stack(slopes), numeric, rtol=1e-7, atol=1e-9)


def test_learnable():
    synapse = nn.DoubleExponentialSynapse(nn.learnable(5.0), nn.learnable(0.5))
    np.testing.assert_allclose(synapse.tau_decay, jnp.exp(-synapse.w_tau_decay[...]), 1e-6)
    np.testing.assert_allclose(synapse.tau_rise, jnp.exp(-synapse.w_tau_rise[...]), 1e-6)
    for kind in (nn.ExponentialSynapse, nn.AlphaSynapse):
        synapse = kind(nn.learnable(3.5))
        assert synapse.w[...].shape == ()
        np.testing.assert_allclose(synapse.tau, 3.5, rtol=1e-6)
        g = jax.grad(lambda synapse: jnp.sum(nn.unroll(synapse, jnp.eye(1, T).T)[1]))(synapse)
        assert g.w[...] < 0  # the smaller w, the longer the current flows


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.ExponentialSynapse(0.0), ValueError, "tau must be greater than 0, got 0.0"),
        (lambda: nn.ExponentialSynapse(nn.learnable(0.0)), ValueError, "tau must be greater than"),
        (lambda: nn.AlphaSynapse("2"), TypeError, "tau must be a number"),
        (lambda: nn.AlphaSynapse(), TypeError, "AlphaSynapse.* missing 1 .* argument: 'tau'"),
        (lambda: nn.DoubleExponentialSynapse(2.0, -1.0), ValueError, "tau_rise must be greater"),
        (lambda: nn.DoubleExponentialSynapse(2.0, 3.0), ValueError, "at most tau_decay, got"),
        (
            lambda: nn.unroll(nn.AlphaSynapse(2.0), jnp.ones((3, 2)), jnp.zeros(2)),
            TypeError,
            r"must be RisingCurrent\(i, rise\)",
        ),
        (
            lambda: nn.unroll(
                nn.AlphaSynapse(2.0),
                jnp.ones((3, 2)),
                functional.RisingCurrent(jnp.zeros(2), jnp.zeros(3)),
            ),
            ValueError,
            r"rise in the carry of AlphaSynapse has shape \(3,\)",
        ),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
