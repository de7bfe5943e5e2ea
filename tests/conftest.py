"""Strictness for all tests: strict dtype and rank promotion, exact matrix products.

Tests leave the checkout and the user's files alone, and do not depend on them: the home and the
caches of this process and of those that it starts are in a folder of its own, and each test runs in
a folder of its own.
"""

import atexit
import gc
import os
import shutil
import tempfile

# Before anything is imported, as some packages look for their folders then.
if "PYTEST_XDIST_WORKER" not in os.environ:  # a worker has that of the process that started it
    os.environ["HOME"] = tempfile.mkdtemp(prefix="jaxsnn-tests-")
    atexit.register(shutil.rmtree, os.environ["HOME"], ignore_errors=True)
HOME = os.environ["HOME"]
for name in ("JAXSNN_DATA_DIR", "TFDS_DATA_DIR", "JAX_COMPILATION_CACHE_DIR"):
    os.environ.pop(name, None)
for name in [*os.environ]:
    if name.startswith("XDG_"):
        del os.environ[name]
os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = f"{HOME}/hypothesis"
os.environ["MPLCONFIGDIR"] = f"{HOME}/matplotlib"
os.environ["MPLBACKEND"] = "Agg"  # figures are drawn in memory; Matplotlib reads it when imported

import jax
import pytest

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


@pytest.fixture(scope="session", autouse=True)
def somewhere_else(tmp_path_factory):
    """Where fixtures run that several tests share."""
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("cwd"))
    yield
    os.chdir(before)


@pytest.fixture(autouse=True)
def folder_of_its_own(tmp_path, monkeypatch):
    """Where a test runs: what it writes without saying where is in `tmp_path`."""
    monkeypatch.chdir(tmp_path)


# In float64 no error of an equation is small enough to pass; float32 has the same ones compiled
# again, and is left to CI.
@pytest.fixture(params=[pytest.param("float32", marks=pytest.mark.slow), "float64"])
def precision(request):
    """Runs a test in both precisions; the value is the name of the dtype."""
    with jax.enable_x64(request.param == "float64"):
        yield request.param
