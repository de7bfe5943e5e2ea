"""The notebooks: both forms of each hold the same, outputs are those of one clean run, all run."""

import os
import pathlib
import re
import subprocess
import sys

import jupytext
import pytest

FOLDER = pathlib.Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
STEMS = [path.stem for path in NOTEBOOKS]
IMAGES = re.compile(r"data:image/[a-z+]+;base64,[A-Za-z0-9+/=\\\n]*")
OF_THIS_MACHINE = re.compile(r"(?<![\w.])/(home|root|tmp|usr|var|work|Users)/|site-packages")


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def texts(output):
    """What an output says, without its images."""
    bundle = output.get("data", {})
    parts = [output.get("text", ""), bundle.get("text/plain", ""), bundle.get("text/html", "")]
    return IMAGES.sub("", "\n".join(parts))


def check_outputs(notebook):
    """Run once, from top to bottom, with no error, no warning and no path of the machine."""
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        for output in cell.outputs:
            assert output.output_type != "error", cell.source
            assert output.get("name") != "stderr", output.text
            assert not OF_THIS_MACHINE.search(texts(output)), texts(output)


def test_every_notebook_is_a_pair():
    assert len(STEMS) == 5
    assert [path.stem for path in sorted(FOLDER.glob("*.py"))] == STEMS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=STEMS)
def test_both_forms_hold_the_same_source(path):
    def source(notebook):
        return [(cell.cell_type, cell.source) for cell in notebook.cells]

    assert source(jupytext.read(path)) == source(jupytext.read(path.with_suffix(".py")))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=STEMS)
def test_stored_outputs_are_those_of_one_clean_run(path):
    notebook = jupytext.read(path)
    check_outputs(notebook)
    assert any("image/png" in o.get("data", {}) for c in code_cells(notebook) for o in c.outputs)


def test_they_are_small_enough_for_git():
    assert sum(path.stat().st_size for path in NOTEBOOKS) < 3_000_000


@pytest.mark.parametrize("path", [*NOTEBOOKS, FOLDER / "README.md"], ids=[*STEMS, "README"])
def test_links_lead_somewhere(path):
    links = re.findall(
        r"\]\(\s*([^)\s]+?)\s*\)",
        "".join(cell.source for cell in jupytext.read(path).cells if cell.cell_type == "markdown"),
    )
    assert links
    for link in links:
        if not link.startswith("http"):
            assert (FOLDER / link.partition("#")[0]).exists(), link


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=STEMS)
def test_it_runs_in_the_small_form(path, tmp_path):
    """In a kernel of its own, which keeps its files to itself."""
    own = {name: str(tmp_path) for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR")}
    options = ["--to", "notebook", "--output-dir", str(tmp_path), "--output", "run.ipynb"]
    done = subprocess.run(
        [sys.executable, "-m", "nbconvert", "--execute", *options, str(path)],
        capture_output=True,
        text=True,
        timeout=900,
        env=os.environ | own | {"JAXSNN_NOTEBOOK_SMALL": "1", "JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 0, done.stderr[-5000:]
    check_outputs(jupytext.read(tmp_path / "run.ipynb"))
