"""The code in README.md, in docs/ and in docstrings runs."""

import doctest
import importlib
import importlib.util
import operator
import pathlib
import re
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import optax
import pytest
from flax import nnx

import jaxsnn
import jaxsnn.interop.nir
import jaxsnn.interop.norse
import jaxsnn.interop.snntorch
import jaxsnn.interop.spikingjelly
import jaxsnn.plotting
from jaxsnn import data, models, nn, training

ROOT = pathlib.Path(__file__).parent.parent
DOCS = ROOT / "docs"
PACKAGE = pathlib.Path(jaxsnn.__file__).parent
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
TUTORIALS = [DOCS / "tutorial.md", DOCS / "tutorial.zh.md"]
RECIPES = DOCS / "how-to/training-recipes.md"  # each of its blocks follows on the first one
OTHERS = {"norse", "snntorch", "spikingjelly", "tensorboard", "torch"}  # of the extra `bench`
TAKES_LONG = ["train_epoch(", "doctor(", "logs/", "install_import_hook("]


def python_blocks(page):
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def programs(page):
    """What a reader runs in one go."""
    first, *others = python_blocks(page) or [""]
    return [first + other for other in others] if page == RECIPES else python_blocks(page)


def libraries(block):
    """Those that a block imports."""
    return re.findall(r"^(?:import|from) (\w+)", block, re.MULTILINE)


def takes_long(page, block):
    """The how-tos are many: those who change no documentation need the front pages alone."""
    return page.parent.name == "how-to" or any(sign in block for sign in TAKES_LONG)


def blocks(*, with_others):
    """Those of all pages that do, or do not, need a library that ours is compared with."""
    return [
        pytest.param(
            block,
            id=f"{page.relative_to(ROOT)}-{k}",
            marks=[pytest.mark.slow] if takes_long(page, block) else [],
        )
        for page in PAGES
        if page not in TUTORIALS
        for k, block in enumerate(programs(page))
        if bool(OTHERS.intersection(libraries(block))) == with_others
    ]


BLOCKS = blocks(with_others=False)
# A tutorial is read from top to bottom: its blocks are one program.
BLOCKS.append(
    pytest.param(
        "".join(python_blocks(TUTORIALS[0])), id="docs/tutorial.md", marks=pytest.mark.slow
    )
)
MODULES = [
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in sorted(PACKAGE.rglob("*.py"))
    if re.search(r">>> (?!.*\+SKIP)", path.read_text(encoding="utf-8"))
]
MEMBERS = [jaxsnn.surrogate, jaxsnn.nn, jaxsnn.functional, jaxsnn.models, jaxsnn.data]
MEMBERS += [jaxsnn.training, jaxsnn.plotting, jaxsnn.readouts, jaxsnn.encoding, jaxsnn.losses]
MEMBERS += [jaxsnn.quantize, jaxsnn.learning, jaxsnn.export, jaxsnn.diagnosis]
MEMBERS += [jaxsnn.interop.spikingjelly, jaxsnn.interop.snntorch, jaxsnn.interop.norse]
MEMBERS += [jaxsnn.interop.nir, jaxsnn.nn.contrib]


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A folder with `logs/`, as after README's command for two of the networks, only shorter."""
    folder = tmp_path_factory.mktemp("trained")
    for model in ("ss", "fb"):
        command = ["train.py", "--model", model, "--dataset", "fashion_mnist_mini", "--epochs", "2"]
        command += ["--device", "cpu", "--out-dir", folder / "logs"]
        subprocess.run([sys.executable, *command], cwd=ROOT, check=True, timeout=300)
        run = folder / f"logs/{model}_b256_sgd_lr0.1_fashion_mnist_mini"
        run.rename(folder / f"logs/{model}_b256_sgd_lr0.1")
    return folder


@pytest.fixture
def folder(request, monkeypatch, tmp_path):
    """Where a block is run: beside the files that it names."""
    block = request.node.callspec.params["block"]
    if "logs/" in block:
        monkeypatch.chdir(request.getfixturevalue("trained"))
    else:
        monkeypatch.chdir(tmp_path)
        shutil.copy(ROOT / "tests/golden/nir/spyx_lif.nir", "spyx.nir")


def run(block, capsys):
    """Strictness is for our code; a reader's runs at JAX's defaults."""
    if "install_import_hook(" in block:  # which comes before anything has imported the package
        command = [sys.executable, "-c", block]
        shown = subprocess.run(command, check=True, timeout=300, capture_output=True, text=True)
        printed = shown.stdout
    else:
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            exec(compile(block, "block", "exec"), {"__name__": "block"})
        printed = capsys.readouterr().out
        plt.close("all")
    lines = iter(printed.splitlines())
    for comment in re.findall(r"print\(.*\)  # (.*)", block):
        assert any(comment in line for line in lines), f"{comment!r} is not printed, or not then"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("block", BLOCKS)
def test_python_blocks_run(block, capsys):
    run(block, capsys)


@pytest.mark.usefixtures("folder")
@pytest.mark.filterwarnings("ignore")  # what they warn of is their affair
@pytest.mark.parametrize("block", blocks(with_others=True))
def test_blocks_with_other_libraries_run(block, capsys):
    """CI installs them for this."""
    for name in OTHERS.intersection(libraries(block)):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    run(block, capsys)


def test_what_is_not_run():
    """Code in a `py` block: the measurement on the whole of Fashion-MNIST."""
    pages = [p for p in PAGES for _ in re.findall("```py$", p.read_text("utf-8"), re.MULTILINE)]
    assert pages == [DOCS / "how-to/doctor.md"]


def test_the_translation_has_the_same_code():
    tutorial, translation = map(python_blocks, TUTORIALS)
    assert translation == tutorial


def test_every_public_name_is_on_one_page_of_the_reference():
    pages = [page.read_text(encoding="utf-8") for page in (DOCS / "reference").rglob("*.md")]
    entries = [name for page in pages for name in re.findall(r"^::: (\S+)$", page, re.MULTILINE)]
    assert sorted(entries) == sorted(set(entries))
    for module in MEMBERS:
        for name, value in vars(module).items():
            defined_here = getattr(value, "__module__", "").startswith(module.__name__)
            if callable(value) and not name.startswith("_") and defined_here:
                assert f"{module.__name__}.{name}" in entries


def test_every_neuron_is_in_the_table_from_which_one_chooses():
    page = (DOCS / "how-to/choose-a-neuron.md").read_text(encoding="utf-8")
    for module in (nn, nn.contrib):
        for name in vars(module):
            if re.search("Node|PSN", name):
                assert re.search(rf"^\| .*\[`(contrib\.)?{name}`\]", page, re.MULTILINE), name


def test_every_neuron_and_synapse_points_to_its_equation():
    """The site shows the equation of the function that the first paragraph mentions."""
    every = vars(nn) | vars(nn.contrib)
    cells = {name: cell for name, cell in every.items() if re.search("Node|PSN|Synapse", name)}
    assert len(cells) > 25
    for name, cell in cells.items():
        mentioned = re.findall(r"`jaxsnn\.functional\.(\w+)`", cell.__doc__.split("\n\n")[0])
        assert mentioned, name
        assert all(hasattr(jaxsnn.functional, function) for function in mentioned), name


def test_the_site_fetches_nothing_from_elsewhere():
    """The build refuses external assets in its pages; these are the files they are made from."""
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert "font: false" in settings
    assert not re.search(r"^ *- .*//", settings, re.MULTILINE)  # a style sheet or a script
    for file in [*(DOCS / "assets").glob("*.css"), *(DOCS / "theme").rglob("*.html")]:
        assert "//" not in file.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "name", [name for name in MODULES if name != "jaxsnn.experiment._checkpoints"]
)
def test_examples_in_docstrings(name):
    run_examples(name)


@pytest.mark.slow
def test_examples_in_docstrings_of_checkpointing(trained, monkeypatch):
    monkeypatch.chdir(trained)
    optimizer = optax.sgd(training.cosine_schedule(0.1, 2, 7), momentum=0.9)
    net = models.StatefulSynapseNet(rngs=nnx.Rngs(0))
    _, state = training.create(net, optimizer, to_sequence=data.columns, batch_size=256, seed=0)
    images = data.fashion_mnist_mini().test_images
    run_examples("jaxsnn.experiment._checkpoints", state=state, images=images)


def run_examples(name, **arrays):
    module = importlib.import_module(name)
    names = (
        vars(nn)
        | vars(module)
        | vars(jaxsnn.learning)
        | {"jax": jax, "jnp": jnp, "nn": nn, "nnx": nnx, "operator": operator}
        | {"jaxsnn": jaxsnn}
        | arrays
    )
    result = doctest.testmod(module, extraglobs=names)
    plt.close("all")
    assert result.attempted > 0
    assert result.failed == 0
