"""Strictness for all tests: strict dtype and rank promotion, exact matrix products."""

import os

import jax
import pytest

os.environ["MPLBACKEND"] = "Agg"  # figures are drawn in memory; Matplotlib reads it when imported
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_default_matmul_precision", "highest")  # matters on a GPU


@pytest.fixture(params=["float32", "float64"])
def precision(request):
    """Runs a test in both precisions; the value is the name of the dtype."""
    with jax.enable_x64(request.param == "float64"):
        yield request.param
