"""What the package never does: run what it finds in a file, or depend on releases to come."""

import ast
import pathlib
import re
import tomllib

import pytest

REPOSITORY = pathlib.Path(__file__).parent.parent
SOURCES = [REPOSITORY / "train.py", *sorted((REPOSITORY / "jaxsnn").rglob("*.py"))]

# Reading with these can run what the file says.
MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
CALLS = r"eval|exec|os\.system|os\.popen|yaml\.(\w+_)?load(_all)?|.*\.extract(all)?"
# These are safe with one argument, which must be written.
WITH = {
    "np.load": ("allow_pickle", False),
    "jnp.load": ("allow_pickle", False),
    "np.lib.format.read_array": ("allow_pickle", False),
    "torch.load": ("weights_only", True),
}


def faults(source: str) -> list[str]:
    """What of that a program does, with the line."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Call):
            found += [f"{node.lineno}: {fault}" for fault in call_faults(node)]
        found += [f"{node.lineno}: import {n}" for n in names if n.partition(".")[0] in MODULES]
    return found


def call_faults(node: ast.Call) -> list[str]:
    """What is wrong with one call."""
    name = ast.unparse(node.func)
    arguments = {
        keyword.arg: keyword.value.value if isinstance(keyword.value, ast.Constant) else None
        for keyword in node.keywords
    }
    found = []
    if re.fullmatch(CALLS, name):
        found.append(name)
    argument, value = WITH.get(re.sub("^numpy", "np", name), (None, None))
    if argument is not None and arguments.get(argument) is not value:
        found.append(f"{name} without {argument}={value}")
    if arguments.get("allow_pickle", False) is not False:
        found.append(f"{name} with allow_pickle")
    if arguments.get("shell", False) is not False:
        found.append(f"{name} with shell")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_no_code_is_read_from_files(path):
    assert faults(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads",
        "import os, dill",
        "import cloudpickle.compat",
        "np.load(file)",
        "numpy.load(file, allow_pickle=True)",
        "np.load(file, allow_pickle=flag)",
        "np.lib.format.read_array(file)",
        "np.savez(file, allow_pickle=True)",
        "torch.load(file)",
        "torch.load(file, weights_only=False)",
        "eval(text)",
        "exec(text)",
        "yaml.load(text)",
        "yaml.full_load(text)",
        "tarfile.open(name).extractall(path)",
        "archive.extract(member)",
        "os.system(line)",
        "subprocess.run(line, shell=True)",
        "subprocess.run(line, shell=flag)",
    ],
)
def test_the_test_sees(line):
    assert faults(line) != []


def test_the_test_lets_pass():
    good = "np.load(file, allow_pickle=False)\nsubprocess.run([program], shell=False)\nimport json"
    assert faults(good) == []


def test_dependencies_have_bounds():
    """A later release of another package must not change what this one does, unseen."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for dependency in project["dependencies"]:
        assert re.fullmatch(r"[\w-]+>=[\d.]+,<[\d.]+", dependency), dependency
