"""Quantisers: SpikingJelly's values and straight-through gradients."""

import jax
import jax.numpy as jnp
import pytest
from golden_arrays import Golden, assert_close, assert_equal

from jaxsnn import quantize

GOLDEN = Golden("losses_functional")
SETTINGS = {"clamp": (-0.5, 1.0), "step_quantize": (0.25,), "k_bit_quantize": (3,)}
CASES = [case for case in GOLDEN.cases if case.startswith("quantize_")]


def test_values_and_gradients(precision):
    """The float64 arrays serve float32 too: the inputs are the same, no float32 run is there."""

    def objective(xs):
        outs = {
            case: getattr(quantize, name)(xs[case], *SETTINGS.get(name, ()))
            for case in CASES
            for name in [case.removeprefix("quantize_")]
        }
        weights = jnp.arange(40, dtype=precision)
        return sum(jnp.sum(out * weights) for out in outs.values()), outs

    xs = {case: GOLDEN.input(f"{case}/x", precision) for case in CASES}
    grads, outs = jax.jit(jax.grad(objective, has_aux=True))(xs)
    assert len(CASES) == 7
    for case in CASES:
        assert_close(outs[case], GOLDEN.arrays[f"{case}/out64"], precision, case)
        assert_close(grads[case], GOLDEN.arrays[f"{case}/g_x64"], precision, case)


def test_clamp_passes_the_gradient_at_both_ends():
    slope = jax.vmap(jax.grad(lambda x: quantize.clamp(x, 0.0, 1.0)))
    assert_equal(slope(jnp.array([-0.1, 0.0, 1.0, 1.1])), [0.0, 1.0, 1.0, 0.0])


def test_errors():
    x = jnp.zeros(3)
    with pytest.raises(ValueError, match="min_value must be at most"):
        quantize.clamp(x, 1.0, 0.0)
    with pytest.raises(ValueError, match="step must be greater than 0"):
        quantize.step_quantize(x, 0.0)
    with pytest.raises(ValueError, match="k must be at least 1"):
        quantize.k_bit_quantize(x, 0)
