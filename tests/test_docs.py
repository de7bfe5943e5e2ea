"""The code in README.md, in docs/ and in docstrings runs."""

import doctest
import importlib
import operator
import pathlib
import re

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import jaxsnn
from jaxsnn import nn

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [
    pytest.param(block, id=f"{page.name}-{k}")
    for page in PAGES
    for k, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
    if "logs/" not in block  # needs a run
]
MODULES = [
    "surrogate._surrogate",
    "surrogate._smooth_steps",
    "surrogate._windows",
    "surrogate._heavy_tailed",
    "surrogate._rectifiers",
    "nn._neurons",
    "nn._synapses",
    "nn._sequential",
    "nn._containers",
    "nn._unroll",
]
MEMBERS = [jaxsnn.surrogate, jaxsnn.nn, jaxsnn.functional, jaxsnn.models, jaxsnn.data]
MEMBERS += [jaxsnn.training]


@pytest.mark.parametrize("block", BLOCKS)
def test_python_blocks_run(block, capsys):
    """Strictness is for our code; a reader's runs at JAX's defaults."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        exec(compile(block, "block", "exec"), {"__name__": "block"})
    printed = capsys.readouterr().out
    for line in re.findall(r"print\(.*\)  # (.*)", block):
        assert line in printed


def test_every_public_name_is_in_the_reference():
    page = (ROOT / "docs" / "reference.md").read_text()
    for module in MEMBERS:
        for name, value in vars(module).items():
            defined_here = getattr(value, "__module__", "").startswith(module.__name__)
            if callable(value) and not name.startswith("_") and defined_here:
                assert f"::: {module.__name__}.{name}\n" in page


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    module = importlib.import_module(f"jaxsnn.{name}")
    names = vars(module) | vars(nn) | {"jax": jax, "jnp": jnp, "nnx": nnx, "operator": operator}
    result = doctest.testmod(module, extraglobs=names | {"jaxsnn": jaxsnn})
    assert result.attempted > 0
    assert result.failed == 0
