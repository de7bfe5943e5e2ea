"""Strictness for all tests: strict dtype and rank promotion, exact matrix products."""

import gc
import os

import jax
import pytest

os.environ["MPLBACKEND"] = "Agg"  # figures are drawn in memory; Matplotlib reads it when imported
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_default_matmul_precision", "highest")  # matters on a GPU

# Most of the time goes into compiling what runs once. CI runs the tests of the numbers a second
# time as users run them, with JAX_DISABLE_MOST_OPTIMIZATIONS=0.
if "JAX_DISABLE_MOST_OPTIMIZATIONS" not in os.environ:
    jax.config.update("jax_disable_most_optimizations", True)

# Traces are many small objects; looking through all of them for cycles took a tenth of the time.
gc.freeze()
gc.set_threshold(100_000, 20, 50)


# In float64 no error of an equation is small enough to pass; float32 has the same ones compiled
# again, and is left to CI.
@pytest.fixture(params=[pytest.param("float32", marks=pytest.mark.slow), "float64"])
def precision(request):
    """Runs a test in both precisions; the value is the name of the dtype."""
    with jax.enable_x64(request.param == "float64"):
        yield request.param
