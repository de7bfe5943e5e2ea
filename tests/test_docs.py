"""The code in README.md, in docs/ and in docstrings runs."""

import doctest
import importlib
import operator
import pathlib
import re

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import pytest
from flax import nnx

import jaxsnn
import jaxsnn.interop.nir
import jaxsnn.interop.norse
import jaxsnn.interop.snntorch
import jaxsnn.interop.spikingjelly
import jaxsnn.plotting
from jaxsnn import nn

ROOT = pathlib.Path(__file__).parent.parent
DOCS = ROOT / "docs"
PACKAGE = pathlib.Path(jaxsnn.__file__).parent
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
TUTORIALS = [DOCS / "tutorial.md", DOCS / "tutorial.zh.md"]


def python_blocks(page):
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def takes_long(block):
    return "train_epoch(" in block or "doctor(" in block


BLOCKS = [
    pytest.param(
        block,
        id=f"{page.relative_to(ROOT)}-{k}",
        marks=[pytest.mark.slow] if takes_long(block) else [],
    )
    for page in PAGES
    if page not in TUTORIALS
    for k, block in enumerate(python_blocks(page))
    if "logs/" not in block  # needs a run
]
# A tutorial is read from top to bottom: its blocks are one program.
BLOCKS.append(pytest.param("".join(python_blocks(TUTORIALS[0])), id="docs/tutorial.md"))
MODULES = [
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in (text := path.read_text(encoding="utf-8"))
    if "logs/" not in text and "data" not in path.parts  # need a run, or files
]
MEMBERS = [jaxsnn.surrogate, jaxsnn.nn, jaxsnn.functional, jaxsnn.models, jaxsnn.data]
MEMBERS += [jaxsnn.training, jaxsnn.plotting, jaxsnn.readouts, jaxsnn.encoding, jaxsnn.losses]
MEMBERS += [jaxsnn.quantize, jaxsnn.learning, jaxsnn.export, jaxsnn.diagnosis]
MEMBERS += [jaxsnn.interop.spikingjelly, jaxsnn.interop.snntorch, jaxsnn.interop.norse]
MEMBERS += [jaxsnn.interop.nir]


@pytest.mark.parametrize("block", BLOCKS)
def test_python_blocks_run(block, capsys):
    """Strictness is for our code; a reader's runs at JAX's defaults."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        exec(compile(block, "block", "exec"), {"__name__": "block"})
    printed = capsys.readouterr().out
    for line in re.findall(r"print\(.*\)  # (.*)", block):
        assert line in printed


def test_the_translation_has_the_same_code():
    tutorial, translation = map(python_blocks, TUTORIALS)
    assert translation == tutorial


def test_every_public_name_is_in_the_reference():
    page = (DOCS / "reference.md").read_text(encoding="utf-8")
    for module in MEMBERS:
        for name, value in vars(module).items():
            defined_here = getattr(value, "__module__", "").startswith(module.__name__)
            if callable(value) and not name.startswith("_") and defined_here:
                assert f"::: {module.__name__}.{name}\n" in page


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    module = importlib.import_module(name)
    names = (
        vars(nn)
        | vars(module)
        | vars(jaxsnn.learning)
        | {"jax": jax, "jnp": jnp, "nn": nn, "nnx": nnx, "operator": operator}
    )
    result = doctest.testmod(module, extraglobs=names | {"jaxsnn": jaxsnn})
    plt.close("all")
    assert result.attempted > 0
    assert result.failed == 0
