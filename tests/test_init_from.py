"""train.py --init-from: a run that starts from the parameters in a file."""

import contextlib
import hashlib
import importlib.util
import io
import pathlib

import jax
import numpy as np
import pytest
import run_files
from flax import nnx

from jaxsnn import experiment, models
from jaxsnn.interop import spikingjelly

ARGS = ["--model", "ss", "--epochs", "1", "-b", "500", "--dataset", "fashion_mnist_mini"]


@pytest.fixture
def train():
    """train.py as a module; what it sets for its process does not last."""
    path = pathlib.Path(__file__).parent.parent / "train.py"
    spec = importlib.util.spec_from_file_location("train", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    names = ("jax_default_device", "jax_default_matmul_precision", "jax_platforms")
    before = {name: getattr(jax.config, name) for name in names}
    yield module
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture
def start(tmp_path):
    """A file of parameters."""
    file = tmp_path / "start.npz"
    spikingjelly.save(models.StatefulSynapseNet(rngs=nnx.Rngs(7)), file)
    return file


def ends(train, *args):
    """Runs the command line, which must end early; returns the status and what is on stderr."""
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), pytest.raises(SystemExit) as end:
        experiment.main(train.train, train.LOSS, [str(arg) for arg in args])
    return end.value.code, errors.getvalue()


def stop(*args):
    """In place of what comes next."""
    raise KeyboardInterrupt


def test_a_run_from_a_file(train, start, tmp_path, monkeypatch):
    """It keeps the parameters and the file's hash: stopped, it goes on without the file.

    At a learning rate of 0 the parameters are at the end still those of the file.
    """
    arrays, content = dict(np.load(start)), start.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(train, "programs", stop)
        args = [*ARGS, "--lr", 0, "--init-from", start, "--out-dir", tmp_path / "runs"]
        assert ends(train, *args)[0] == experiment._endings.INTERRUPTED
    (run,) = (tmp_path / "runs").iterdir()
    digest = hashlib.sha256(content).hexdigest()
    assert run.name == f"ss_b500_sgd_lr0_fashion_mnist_mini_init{digest[:8]}"
    assert experiment.read_config(run)["settings"]["init_from"] == digest
    assert experiment.Checkpoints(run).step() == 0

    spikingjelly.save(models.StatefulSynapseNet(rngs=nnx.Rngs(8)), start)
    status, error = ends(train, "--resume", run, "--init-from", start)
    assert status == experiment._endings.WRONG
    assert f"differs from the {digest} with which" in error
    start.unlink()
    experiment.main(train.train, train.LOSS, ["--resume", str(run)])
    assert [row["epoch"] for row in run_files.table(run)] == [0]
    trained = spikingjelly.state_dict(experiment.load_model(run, "latest"))
    jax.tree.map(np.testing.assert_array_equal, trained, arrays)


def test_stopped_before_it_had_kept_them(train, start, tmp_path, monkeypatch):
    """Then the file is needed once more."""
    with monkeypatch.context() as patch:
        patch.setattr(experiment.Checkpoints, "save", stop)
        args = [*ARGS, "--init-from", start, "--out-dir", tmp_path / "runs"]
        assert ends(train, *args)[0] == experiment._endings.INTERRUPTED
    (run,) = (tmp_path / "runs").iterdir()
    status, error = ends(train, "--resume", run)
    assert status == experiment._endings.WRONG
    assert "give --init-from once more" in error
    monkeypatch.setattr(train, "programs", stop)
    assert ends(train, "--resume", run, "--init-from", start)[0] == experiment._endings.INTERRUPTED
    assert experiment.Checkpoints(run).step() == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.npz", "No such file or directory"),
        (".", "Is a directory"),
        ("damaged.npz", "damaged.npz is damaged, or not an .npz of plain arrays"),
        ("other.npz", "not those of this StatefulSynapseNet: fc.0.bias: missing"),
        ("start.txt", "must end in .npz, .safetensors, .pth or .pt"),
    ],
)
def test_what_cannot_be_started_from(train, start, tmp_path, name, message):
    """One line, status 2, and nothing on the disk."""
    (tmp_path / "damaged.npz").write_bytes(start.read_bytes()[:300])
    (tmp_path / "start.txt").write_bytes(start.read_bytes())
    np.savez(tmp_path / "other.npz", **{"fc.0.weight": np.zeros((32, 28))})
    args = [*ARGS, "--init-from", tmp_path / name, "--out-dir", tmp_path / "runs"]
    status, error = ends(train, *args)
    assert status == experiment._endings.WRONG
    (line,) = error.splitlines()
    assert message in line
    assert not (tmp_path / "runs").exists()


def test_it_is_for_training(train, start, tmp_path):
    status, error = ends(train, "--evaluate", tmp_path, "--init-from", start)
    assert status == experiment._endings.WRONG
    assert "--init-from is for a new network" in error
