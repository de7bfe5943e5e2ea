"""Surrogates: golden arrays, the derivative of the primal, arguments."""

import golden_arrays
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxsnn import surrogate

GOLDEN = golden_arrays.Golden("surrogates")
CASES = [c for c, meta in GOLDEN.cases.items() if meta["surrogate"] in ("Sigmoid", "ATan")]
CLASSES = [surrogate.Sigmoid, surrogate.ATan]


def make(case, **kwargs):
    meta = GOLDEN.cases[case]
    return getattr(surrogate, meta["surrogate"])(**meta["params"], **kwargs)


def slope(f, x):
    return jax.grad(lambda x: jnp.sum(f(x)))(x)


@pytest.mark.parametrize("points", ["", "_special"])
@pytest.mark.parametrize("case", CASES)
def test_golden(case, points, precision):
    if points:
        x = GOLDEN.input(f"{case}/x_special", precision)
    else:
        x = jnp.asarray(GOLDEN("x", precision))  # float64 has a grid of its own
    spike, smooth = make(case), make(case, spiking=False)
    golden_arrays.assert_equal(spike(x), GOLDEN(f"{case}/fwd{points}", precision))
    for name, actual in {
        "grad": slope(spike, x),
        "prim": smooth(x),
        "prim_grad": slope(smooth, x),
    }.items():
        golden_arrays.assert_close(
            actual, GOLDEN(f"{case}/{name}{points}", precision), precision, name
        )


@pytest.mark.parametrize("cls", CLASSES)
def test_derivative_is_that_of_the_primal(cls):
    with jax.enable_x64(True):
        x = jnp.linspace(-3, 3, 61)
        smooth = cls(alpha=1.7, spiking=False)
        check_grads(smooth, (x,), order=2, modes=["rev"])
        np.testing.assert_allclose(smooth.derivative(x), slope(smooth.primal, x), rtol=1e-12)
        np.testing.assert_allclose(slope(cls(alpha=1.7), x), smooth.derivative(x), rtol=1e-12)


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_threshold_fires_and_nan_does_not(cls, dtype):
    spikes = cls()(jnp.array([-0.0, 0.0, -1e-3, jnp.inf, -jnp.inf, jnp.nan], dtype))
    assert spikes.dtype == dtype
    golden_arrays.assert_equal(spikes.astype("float32"), [1, 1, 0, 1, 0, 0])


@pytest.mark.parametrize("cls", CLASSES)
def test_equal_settings_are_one_to_jit(cls):
    run = jax.jit(lambda f, x: f(x), static_argnums=0)
    x = jnp.ones(3)
    run(cls(alpha=3), x)
    run(cls(alpha=3.0), x)
    assert run._cache_size() == 1
    assert cls(alpha=3) == cls(alpha=3.0)
    assert repr(cls(alpha=3)) == f"{cls.__name__}(alpha=3.0, spiking=True)"


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"alpha": 0}, ValueError, "alpha must be greater than 0, got 0"),
        ({"alpha": -1.0}, ValueError, "alpha"),
        ({"alpha": float("nan")}, ValueError, "alpha must be finite"),
        ({"alpha": "2"}, TypeError, "alpha must be a number, got '2'"),
        ({"alpha": True}, TypeError, "alpha"),
        ({"spiking": 1}, TypeError, "spiking"),
    ],
)
def test_bad_arguments(cls, kwargs, error, message):
    with pytest.raises(error, match=message):
        cls(**kwargs)


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("spiking", [True, False])
def test_integers_are_refused(cls, spiking):
    with pytest.raises(TypeError, match=r"u must be floating, got dtype int32"):
        cls(spiking=spiking)(jnp.arange(3))
