"""The layers of the package, and what importing it does not do."""

import ast
import pathlib
import subprocess
import sys

import jaxsnn

PACKAGE = pathlib.Path(jaxsnn.__file__).parent

# Each module may import those that stand before it.
LAYERS = [
    {
        "_by_platform",
        "_captured",
        "_checks",
        "_layout",
        "_norm",
        "_provenance",
        "_replace",
        "_ties",
        "command_line",
    },
    {"_convolution"},
    {"devices"},
    {"quantize"},
    {"surrogate"},
    {"functional"},
    {"nn"},
    {"readouts"},
    {"models"},
    {"data", "encoding", "export", "learning", "losses", "plotting"},
    {"diagnosis", "interop"},
    {"training"},
    {"firing", "runs"},
    {"checkpointing"},
    {"endings"},
    {"study"},
]


def layer_of(module):
    (level,) = [k for k, names in enumerate(LAYERS) if module in names]
    return level


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.startswith("jaxsnn."):
                yield name.split(".")[1]


def test_imports_point_down():
    for path in PACKAGE.rglob("*.py"):
        module = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if module == "__init__":
            continue
        for other in imported(path):
            if other != module:
                assert layer_of(other) < layer_of(module), f"{path} imports {other}"


def test_functional_knows_nothing_of_flax():
    for path in (PACKAGE / "functional").glob("*.py"):
        assert "flax" not in {
            name.split(".")[0]
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in [getattr(node, "module", None) or node.names[0].name]
        }


def test_import_is_light_and_starts_no_backend():
    code = """
import sys, jaxsnn, jaxsnn.checkpointing
heavy = {"tensorflow", "tensorflow_datasets", "torch", "matplotlib", "tensorboardX"}
heavy |= {"beartype", "nir", "h5py", "safetensors"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
from jax._src import xla_bridge
assert not xla_bridge._backends, "a backend was started"
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_plotting_says_how_to_get_matplotlib():
    code = """
import sys
sys.modules["matplotlib"] = None  # what an import finds where it is not installed
import jaxsnn
try:
    import jaxsnn.plotting
except ImportError as error:
    print(error)
"""
    run = subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=120, capture_output=True, text=True
    )
    (line,) = run.stdout.splitlines()
    assert 'pip install "jaxsnn-nnx[plot]"' in line
    assert 'pip install -e ".[plot]"' in line
