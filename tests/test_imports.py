"""The layers of the package, and what importing it does not do."""

import ast
import pathlib
import subprocess
import sys

import jaxsnn

PACKAGE = pathlib.Path(jaxsnn.__file__).parent
PACKAGES = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}

# Each module may import those that stand before it.
LAYERS = [
    {
        "_by_platform",
        "_captured",
        "_checks",
        "_dot_general",
        "_dtypes",
        "_graphs",
        "_layout",
        "_norm",
        "_parts",
        "_phases",
        "_ranks",
        "_replace",
        "_ties",
    },
    {"_carries", "_convolution", "_masks", "_parameters", "_repr"},
    {"quantize"},
    {"surrogate"},
    {"functional"},
    {"nn"},
    {"readouts"},
    {"models"},
    {"data", "encoding", "export", "learning", "losses", "plotting"},
    {"diagnosis", "interop"},
    {"training"},
    {"firing"},
    {"experiment"},
]


def layer_of(module):
    (level,) = [k for k, names in enumerate(LAYERS) if module in names]
    return level


def imported(path):
    """The dotted names of ours that a file imports, also `nn._run` as an attribute of `nn`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            if ast.unparse(node.value) not in PACKAGES:
                continue
            names = [f"jaxsnn.{ast.unparse(node)}"]
        else:
            continue
        for name in names:
            if name.startswith("jaxsnn."):
                yield name


def test_imports_point_down():
    for path in PACKAGE.rglob("*.py"):
        module = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if module == "__init__":
            continue
        for name in imported(path):
            other = name.split(".")[1]
            if other != module:
                assert layer_of(other) < layer_of(module), f"{path} imports {name}"


def private_to(name):
    """The package that owns the first private part of a name; None if all of ours may import it."""
    package, *parts = name.split(".")
    if parts[0].startswith("_"):  # an internal module of the root, for all
        package, *parts = f"{package}.{parts[0]}", *parts[1:]
    for part in parts:
        if part.startswith("_"):
            return package
        package = f"{package}.{part}"
    return None


def test_whose_a_name_is():
    assert private_to("jaxsnn.nn._run.Run") == "jaxsnn.nn"
    assert private_to("jaxsnn.interop.nir._file.read") == "jaxsnn.interop.nir"
    assert private_to("jaxsnn._checks._names") == "jaxsnn._checks"
    assert private_to("jaxsnn._checks.size") is None
    assert private_to("jaxsnn.nn.Cell") is None


def test_no_package_imports_what_is_private_to_another():
    """`jaxsnn.nn._run` is for modules in `jaxsnn.nn` and below; `jaxsnn._checks` is for all."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(("jaxsnn", *path.relative_to(PACKAGE).with_suffix("").parts))
        for name in imported(path):
            owner = private_to(name)
            if owner is not None and not f"{module}.".startswith(f"{owner}."):
                found.append(f"{module} imports {name}")
    assert not found, "\n".join(found)


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
import sys, jaxsnn, jaxsnn.experiment
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
