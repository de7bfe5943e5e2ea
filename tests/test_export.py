"""Exported networks: equal numbers where there is JAX and nothing else, open sizes, damage."""

import json
import operator
import os
import re
import subprocess
import sys
import zipfile

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
import quick
from flax import nnx

from jaxsnn import export, models, nn, readouts
from jaxsnn.export._programs import sequence, whole


def rngs():
    return nnx.Rngs(0)


def small():
    return nn.Sequential(nn.Linear(3, 4, rngs=rngs()), nn.CUBALIFNode(v_threshold=0.1))


def convolutions():
    return models.Classifier(
        nn.Sequential(
            nn.Conv(1, 2, (3, 3), rngs=rngs()),
            nn.BatchNorm(2),
            nn.LIFNode(v_threshold=0.2),
            nn.MaxPool((2, 2)),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(8, 6, rngs=rngs()),
            nn.CUBALIFNode(v_threshold=0.1),
            nn.VotingLayer(2),
        ),
        readouts.first_spike_time,
    )


def containers():
    return nn.Sequential(
        nnx.GRUCell(4, 4, rngs=rngs()),
        nn.ElementWiseRecurrentContainer(
            nn.LinearRecurrentContainer(nn.IFNode(v_threshold=0.1), 4, 4, rngs=rngs()),
            operator.add,
        ),
        nn.AlphaSynapse(3.0),
    )


# The module, and the shape of one step's input without the batch.
NETWORKS = {
    **{name: (lambda net=net: net(rngs=rngs()), (28,)) for name, net in models.MODELS.items()},
    "small": (small, (3,)),
    "convolutions": (convolutions, (4, 4, 1)),
    "containers": (containers, (4,)),
}
BATCHES = {"a": (5, 3), "b": (7, 2)}  # time steps, sequences

WITHOUT_US = """
import json, sys, zipfile
for name in ("jaxsnn", "flax"):
    sys.modules[name] = None  # what an import finds where it is not installed

import jax, numpy as np
from jax import export

def read(path):
    with zipfile.ZipFile(path) as file:
        names = json.loads(file.read("metadata.json"))["programs"]
        return {name: export.deserialize(bytearray(file.read(f"{name}.bin"))) for name in names}

folder, results = sys.argv[1], {}
inputs = np.load(f"{folder}/inputs.npz", allow_pickle=False)
for case in inputs:
    net = read(f"{folder}/{case.split()[0]}.zip")
    step, xs = jax.jit(net["step"].call), inputs[case]
    carry, ys = net["start"].call(xs[0]), []
    for x in xs:
        carry, y = step(carry, x)
        ys.append(y)
    results[f"{case} steps"], results[f"{case} whole"] = np.stack(ys), net["run"].call(xs)
np.savez(f"{folder}/results.npz", **results)
"""


def cell_of(module):
    return getattr(module, "stack", getattr(module, "fc", module))


@jax.jit
def outputs(module, xs):
    """Step by step, and of the whole sequence."""
    cell = cell_of(module)
    carry = nn.Sequential(cell).initialize_carry(xs.shape[1:])[0]
    whole = nn.unroll(module, xs)[1] if cell is module else module(xs)
    return jax.lax.scan(cell, carry, xs)[1], whole


@pytest.mark.parametrize(
    "names",
    [
        ("fb",),
        pytest.param(
            ("plain", "ss", "small", "convolutions", "containers"), marks=pytest.mark.slow
        ),
    ],
)
def test_the_same_numbers_with_jax_alone(tmp_path, names):
    """To the last bit, for two lengths and two sizes of batch."""
    inputs, expected = {}, {}
    for name in names:
        make, shape = NETWORKS[name]
        module = make()
        export.save(tmp_path / f"{name}.zip", module, ("b", *shape))
        for case, sizes in BATCHES.items():
            xs = quick.uniform((*sizes, *shape), 0, 2)
            inputs[f"{name} {case}"] = xs
            steps, all_at_once = outputs(module, xs)
            expected[f"{name} {case} steps"], expected[f"{name} {case} whole"] = steps, all_at_once
            assert jnp.unique(steps).size > 1, f"the outputs of {name} say nothing"
    np.savez(tmp_path / "inputs.npz", **inputs)
    command = [sys.executable, "-c", WITHOUT_US, str(tmp_path)]
    compiler = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}  # as here, see conftest.py
    subprocess.run(command, check=True, timeout=300, cwd=tmp_path, env=compiler | os.environ)
    with np.load(tmp_path / "results.npz", allow_pickle=False) as file:
        results = dict(file)
    assert set(results) == set(expected)
    for case in results:
        np.testing.assert_array_equal(results[case], expected[case], err_msg=case)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With the file `net.zip` of `small()`."""
    folder = tmp_path_factory.mktemp("export")
    export.save(folder / "net.zip", small(), ("b", 3), platforms=("cpu", "cuda"))
    return folder


def test_a_network_that_was_loaded(folder):
    """One by one and at once, and an error where shapes or dtypes do not fit."""
    net, xs = export.load(folder / "net.zip"), quick.uniform((4, 5, 3), 0, 2)
    carry, ys = net.start(xs[0]), []
    for x in xs:
        carry, y = net.step(carry, x)
        ys.append(y)
    expected = nn.unroll(small(), xs)[1]
    np.testing.assert_array_equal(ys, expected)
    np.testing.assert_array_equal(net.run(xs), expected)
    with pytest.raises(ValueError, match=r"args\[1\].shape\[0\] \(= 2\) and the specification 'b'"):
        net.step(carry, xs[0, :2])
    net.metadata["jax"] = "0.99.0"
    with pytest.raises(ValueError, match="Dtype mismatch") as error:
        net.run(xs.astype(jnp.bfloat16))
    assert "was written by jax 0.99.0, and this is jax" in error.value.__notes__[-1]


def test_what_a_file_says(folder):
    net = export.load(folder / "net.zip")
    described = {name: net.metadata[name] for name in ("format", "version", "jax", "platforms")}
    assert described == {
        "format": "jaxsnn.export",
        "version": 1,
        "jax": jax.__version__,
        "platforms": ["cpu", "cuda"],
    }
    step = net.metadata["programs"]["step"]
    assert [(a["name"], a["shape"], a["dtype"]) for a in step["inputs"]] == [
        ("carry[1].v", ["b", 4], "float32"),
        ("carry[1].c", ["b", 4], "float32"),
        ("x", ["b", 3], "float32"),
    ]
    assert net.metadata["programs"]["run"]["outputs"][0]["shape"] == ["t", "b", 4]


def test_equal_networks_are_equal_files_which_do_not_say_where_they_come_from(folder):
    export.save(folder / "again.zip", small(), ("b", 3), platforms=("cpu", "cuda"))
    content = (folder / "again.zip").read_bytes()
    assert content == (folder / "net.zip").read_bytes()
    assert b".py" not in content


def test_programs_call_nothing_but_the_check_of_shapes(folder):
    for program in export.load(folder / "net.zip").programs.values():
        called = re.findall(r"custom_call @?\"?([\w.]+)", program.mlir_module())
        assert set(called) <= {"shape_assertion"}


WHOLE = {
    "PSN": (lambda: nn.PSN(5, rngs=rngs()), 5),
    "Bidirectional": (
        lambda: nn.Bidirectional(
            nn.contrib.SpikingGRUCell(4, 4, rngs=rngs()),
            nn.contrib.SpikingGRUCell(4, 4, rngs=rngs()),
        ),
        "t",
    ),
    "DSRLIFNode": (lambda: nn.contrib.DSRLIFNode(), "t"),
    "SpikeCountToBinary": (lambda: nn.contrib.SpikeCountToBinary(2), "t"),
    "TemporalBinSum": (lambda: nn.contrib.TemporalBinSum(2), 5),
    "TemporalWiseAttention": (lambda: nn.contrib.TemporalWiseAttention(5, 2, rngs=rngs()), 5),
}


@pytest.mark.parametrize("name", WHOLE)
def test_layers_of_whole_sequences(name):
    make, steps = WHOLE[name]
    layers = nn.Sequential(make(), nn.Flatten(), nn.IFNode())
    program = whole(layers, sequence(("b", 2, 4), steps, jnp.float32))
    assert str(jax.eval_shape(program.function, *program.inputs).shape[1]) == "b"


class Block(nn.Module):
    """`y = x * branch(x)`, which runs its branch twice."""

    def __init__(self, *, rngs):
        layers = nn.Linear(3, 3, rngs=rngs), nn.BatchNorm(3), nn.LIFNode(v_threshold=0.3)
        self.branch = nn.Sequential(*layers, nn.Dropout(0.5))
        self.last = nn.CUBALIFNode(v_threshold=0.1)

    def forward(self, x, run):
        return run(self.last, x * run(self.branch, x) + run(self.branch, x[..., ::-1]))


class Latest(nn.Module):
    """The output of the last step."""

    def __init__(self, *, rngs):
        self.block = Block(rngs=rngs)

    def forward(self, x, run):
        run.require_whole_sequence(self)
        return run(self.block, x)[-1]


class OfFlax(nnx.Module):
    """A model from sequences to outputs that is no `nn.Module`."""

    def __init__(self, *, rngs):
        self.block = Block(rngs=rngs)

    def __call__(self, xs):
        return nn.unroll(self.block, xs)[1].sum(0)


def test_a_module_of_ones_own_runs_step_by_step(tmp_path):
    """Alone and in a `Classifier`, whose step is that of the module."""
    block, xs = Block(rngs=rngs()), quick.uniform((4, 2, 3), 0, 2)
    export.save(tmp_path / "block.zip", block, ("b", 3))
    export.save(tmp_path / "net.zip", models.Classifier(block), ("b", 3))
    expected = nn.unroll(block, xs)[1]
    assert jnp.unique(expected).size > 1
    for name, ending in (("block", expected), ("net", readouts.firing_rate(expected))):
        net = export.load(tmp_path / f"{name}.zip")
        carry, ys = net.start(xs[0]), []
        for x in xs:
            carry, y = net.step(carry, x)
            ys.append(y)
        np.testing.assert_array_equal(ys, expected)
        np.testing.assert_array_equal(net.run(xs), ending)
        names = [array["name"] for array in net.metadata["programs"]["step"]["inputs"]]
        assert names == ["carry[0][2]", "carry[1][2]", "carry[2].v", "carry[2].c", "x"]


def firing_psn():
    layer = nn.PSN(4, rngs=rngs())
    layer.bias[...] = jnp.zeros((4, 1))  # at first it is -1, with which nothing fires here
    return layer


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (firing_psn, "PSN needs all time steps"),
        (lambda: Latest(rngs=rngs()), "Latest needs all time steps"),
        (lambda: OfFlax(rngs=rngs()), "OfFlax has no state"),
    ],
    ids=["PSN", "Latest", "OfFlax"],
)
def test_what_needs_whole_sequences_has_no_step(tmp_path, make, message):
    path, module = tmp_path / "net.zip", make()
    with pytest.raises(ValueError, match=f"(?s){message}.*stream=False"):
        export.save(path, module, ("b", 3), steps=4)
    export.save(path, module, ("b", 3), steps=4, stream=False)
    net, xs = export.load(path), quick.uniform((4, 2, 3), 0, 4)
    is_module = isinstance(module, nn.Module)
    expected = nn.unroll(module, xs)[1] if is_module else module(xs)
    assert jnp.unique(expected).size > 1
    np.testing.assert_array_equal(net.run(xs), expected)
    with pytest.raises(ValueError, match=r"net\.zip has no step: it was saved with stream=False"):
        net.step((), xs[0])


class Growing(nn.Cell):
    """Its carry gets a step longer at each step."""

    def initialize_carry(self, input_shape, rngs=None, *, dtype=jnp.float32):
        return jnp.zeros((0, *input_shape), dtype)

    def __call__(self, carry, x):
        return jnp.concatenate([carry, x[None]]), x


def test_arguments_that_do_not_fit(tmp_path):
    def save(module=None, input_shape=("b", 3), **options):
        export.save(
            tmp_path / "net.zip", small() if module is None else module, input_shape, **options
        )

    with pytest.raises(TypeError, match=r'input_shape must be a tuple, e\.g\. \("b", 28\), got 3'):
        save(input_shape=3)
    with pytest.raises(ValueError, match="input_shape must be at least 1, got 0"):
        save(input_shape=("b", 0))
    with pytest.raises(ValueError, match="the name of an open size must be a word, got '2b'"):
        save(input_shape=("2b", 3))
    with pytest.raises(ValueError, match="steps='b' is the name of a size in input_shape"):
        save(steps="b")
    with pytest.raises(ValueError, match=r"platforms must be some of .*, got \('gpu',\)"):
        save(platforms=("gpu",))
    with pytest.raises(TypeError, match="dtype must be floating"):
        save(dtype=jnp.int32)
    with pytest.raises(ValueError, match="jax_enable_x64"):
        save(dtype=jnp.float64)
    with pytest.raises(
        ValueError, match=r"needs inputs of shape \[\.\.\., 3\], got \[.*b, 4\]"
    ) as error:
        save(input_shape=("b", 4))
    assert "In the export of Sequential with input_shape=('b', 4)" in error.value.__notes__[-1]
    with pytest.raises(ValueError, match=r"PSN\(T=5\) needs sequences of 5 time steps"):
        save(nn.PSN(5, rngs=rngs()), stream=False)
    with pytest.raises(ValueError, match="carry of Growing must keep its structure"):
        save(Growing())
    assert list(tmp_path.iterdir()) == []


def rewritten(folder, path, **changed):
    """A copy of `net.zip` with other metadata."""
    with zipfile.ZipFile(folder / "net.zip") as file, zipfile.ZipFile(path, "w") as copy:
        for name in file.namelist():
            content = file.read(name)
            if name == "metadata.json":
                content = json.dumps(json.loads(content) | changed)
            copy.writestr(name, content)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"version": 2},
            "a newer jaxsnn wrote it, in version 2 .* reads version 1; upgrade, pip",
        ),
        ({"version": "2"}, "it is damaged, .*: format 'jaxsnn.export', version '2'"),
        ({"format": "other"}, "it is damaged, .*: format 'other'"),
        ({"calling_convention": 3}, "an older jax wrote it, .* convention 3, .*; install it, or"),
        ({"calling_convention": 99}, "a newer jax wrote it, .* convention 99, .*; upgrade jax, or"),
        ({"programs": ["run", "walk"]}, "it is damaged, .*KeyError"),
    ],
)
def test_files_of_another_making(folder, tmp_path, changed, message):
    path = tmp_path / "other.zip"
    rewritten(folder, path, **changed)
    with pytest.raises(ValueError, match=rf"cannot read .*other\.zip: {message}"):
        export.load(path)


def test_a_file_cut_short(folder, tmp_path):
    content = (folder / "net.zip").read_bytes()
    for length in (0, 100, len(content) // 2, len(content) - 1):
        (tmp_path / "net.zip").write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"cannot read .*net\.zip: it is damaged"):
            export.load(tmp_path / "net.zip")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "net.zip"
    path.write_bytes(b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        export.save(path, nn.IFNode(), ("b", 3))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_it_says_how_to_get_flatbuffers(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    for call in (
        lambda: export.load(folder / "net.zip"),
        lambda: export.save(folder / "other.zip", nn.IFNode(), ("b", 3)),
    ):
        with pytest.raises(ImportError, match=r'pip install "jaxsnn-nnx\[export\]"'):
            call()
