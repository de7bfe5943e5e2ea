"""The study: same training as everywhere, resumable, and a report that says what was found."""

import dataclasses
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest
from flax import nnx

import experiments as study
from experiments import __main__ as command
from experiments import _files, collapse
from experiments._report import table
from jaxsnn import data, models, training

matplotlib.use("Agg")

ARM = dataclasses.replace(study.ARMS["plain"], epochs=2)
FEEDBACK = dataclasses.replace(study.ARMS["fb"], epochs=2)


@pytest.fixture(scope="module")
def images():
    return data.load("fashion_mnist_mini")


def rows(*test_accuracies):
    return [
        {"epoch": k, "train_loss": 0.1, "train_acc": 0.5, "test_loss": 0.1, "test_acc": a}
        for k, a in enumerate(test_accuracies)
    ]


def call(*args, out):
    """Runs the command in this process."""
    small = ["--dataset", "fashion_mnist_mini", "--epochs", "2", "--out-dir", str(out)]
    command.main([*args, *small])


# ----------------------------------------------------------------------------- training


@pytest.mark.slow
def test_all_seeds_at_once_is_one_after_another(images):
    together = study.train(FEEDBACK, [0, 3], images)
    for seed in (0, 3):
        alone = study.train(FEEDBACK, [seed], images)[seed]
        # A spike that rounding flips in the first epoch makes the second another one.
        np.testing.assert_allclose(
            together[seed][0]["train_loss"], alone[0]["train_loss"], rtol=1e-4
        )
        assert abs(together[seed][0]["test_acc"] - alone[0]["test_acc"]) <= 0.01
    assert together[0] != together[3]


def test_arms_differ_as_they_say():
    def kernel(name, seed=1):
        return study.build(study.ARMS[name], seed).fc[1].rc.kernel[...]

    np.testing.assert_array_equal(kernel("fb-zero")[:32], kernel("fb")[:32])
    assert not jnp.any(kernel("fb-zero")[32:])
    np.testing.assert_array_equal(
        kernel("fb"), models.FeedBackNet(rngs=nnx.Rngs(1)).fc[1].rc.kernel
    )

    def detached(name):
        net = study.build(study.ARMS[name], 0)
        return [m.detach_reset for _, m in nnx.iter_graph(net) if hasattr(m, "detach_reset")]

    assert sorted(detached("fb")) == [False, True]
    for name in ("fb-detach", "old-plain", "old-ss", "old-fb"):
        assert detached(name) == [True, True]


def test_standardized_pixels(images):
    from experiments._arms import standardized_columns

    xs = standardized_columns(jnp.asarray(images.train_images))
    assert xs.shape == (28, len(images.train_images), 28)
    assert abs(float(jnp.mean(xs))) < 0.02  # the mini set is a sample
    assert abs(float(jnp.std(xs)) - 1) < 0.02


def test_a_ruined_network_ends_the_study(images, monkeypatch):
    ruined = training.Metrics(*map(jnp.float32, (8, 80, 8.0, 40, 1.0, 1, 0, 7, 2.0)))
    monkeypatch.setattr(training, "train_epoch", lambda recipe, state, *data: (state, ruined))
    monkeypatch.setattr(training, "evaluate", lambda recipe, state, *data: ruined)
    with pytest.raises(ValueError, match=r"seed 0, epoch 0: .*not finite"):
        study.train(ARM, [0], images)


# ----------------------------------------------------------------------------- the command


@pytest.mark.slow
def test_what_is_written_and_what_is_trained_again(tmp_path, monkeypatch, capsys):
    call("--arms", "plain", "--seeds", "2", out=tmp_path)
    printed = capsys.readouterr().out
    assert (tmp_path / "plain.md").read_text() in printed
    lines = (tmp_path / "plain.csv").read_text().splitlines()
    assert len(lines) == 1 + 2 * 2
    assert lines[0] == "arm,seed,epoch,train_loss,train_acc,test_loss,test_acc"
    for figure in ("train.png", "test.png", "seeds.png", "train.svg", "test.svg"):
        assert (tmp_path / f"plain_{figure}").stat().st_size > 1000

    trained = []
    original = command.train

    def watched(arm, seeds, *rest):
        trained.append((arm.model, list(seeds)))
        return original(arm, seeds, *rest)

    monkeypatch.setattr(command, "train", watched)
    (tmp_path / "runs" / "plain_seed1.csv").unlink()  # as if stopped before its end
    before = (tmp_path / "plain.csv").read_text()
    call("--arms", "plain", "--seeds", "2", out=tmp_path)
    assert trained == [("plain", [1])]
    assert (tmp_path / "plain.csv").read_text() == before


def test_other_settings_are_refused(tmp_path, capsys, images):
    _files.agree(tmp_path, {"plain": ARM}, data.fingerprint(images))
    args = ["--arms", "plain", "--epochs", "3", "--dataset", "fashion_mnist_mini"]
    with pytest.raises(SystemExit, match="2"):
        command.main([*args, "--out-dir", str(tmp_path)])
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    for said in ("plain", "epochs = 2", "3", "--out-dir"):
        assert said in error


@pytest.mark.parametrize("text", ["", "epoch,nonsense\n1,2\n", None])
def test_a_damaged_run_is_refused(tmp_path, text):
    _files.agree(tmp_path, {"plain": ARM}, "x")
    _files.save(tmp_path, "plain", 0, rows(0.5, 0.6))
    path = tmp_path / "runs" / "plain_seed0.csv"
    path.write_text(path.read_text().rsplit("1,", 1)[0] if text is None else text)
    with pytest.raises(ValueError, match=r"plain_seed0\.csv.*delete it"):
        _files.load(tmp_path, "plain", 0, 2)


def test_other_data_are_refused(tmp_path):
    _files.agree(tmp_path, {"plain": ARM}, "one")
    with pytest.raises(ValueError, match="fingerprint one, this has two"):
        _files.agree(tmp_path, {"plain": ARM}, "two")
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        _files.agree(tmp_path, {"plain": ARM}, "one")


@pytest.mark.parametrize("args", [["--seeds", "0"], ["--epochs", "x"], ["--arms", "b"], ["other"]])
def test_bad_arguments(args, capsys):
    with pytest.raises(SystemExit, match="2"):
        command.main(args)
    assert capsys.readouterr().err.count("\n") == 1


def test_without_matplotlib_nothing_is_trained(tmp_path):
    code = f"""
import sys
sys.modules["matplotlib"] = None
from experiments.__main__ import main
main(["--dataset", "fashion_mnist_mini", "--out-dir", {str(tmp_path / "new")!r}])
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=pathlib.Path(__file__).parent.parent,
    )
    assert done.returncode == 2
    assert "plot" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "new").exists()


# ----------------------------------------------------------------------------- the table


def test_the_table():
    arms = {"plain": ARM, "fb": study.ARMS["fb"]}
    found = {"plain": {0: rows(0.5, 0.7), 1: rows(0.8, 0.6)}, "fb": {0: rows(0.2, 0.1)}}
    text = table(arms, found)
    assert "| plain | feed-forward | 0-1 | 65.0 ± 7.1 | 75.0 ± 7.1 | 70.45 / 70.45 |" in text
    assert "| fb | linear feedback | 0 | 10.0 | 20.0 | 76.88 / 77.19 |" in text
    assert "| 0 | 70.0 (70.0) | 10.0 (20.0) |" in text
    assert "| 1 | 60.0 (80.0) |  |" in text


# ----------------------------------------------------------------------------- the collapse


@pytest.mark.slow
def test_looking_changes_nothing(images):
    found = collapse.trace(FEEDBACK, 0, images)
    steps = len(images.train_labels) // FEEDBACK.batch_size
    assert found["norms"].shape == (2, steps)
    assert found["rates"].shape == (2, 32)
    assert found["gradient"].shape == (2, 28)
    trained = study.train(FEEDBACK, [0], images)[0]
    np.testing.assert_allclose(found["accuracy"], [row["test_acc"] for row in trained], atol=0.005)
    assert np.all(found["norms"] > 0)
    assert np.all((found["rates"] >= 0) & (found["rates"] <= 1))


def test_recorded_norms():
    record = collapse.recorded_norms(2)
    state = record.init({})
    for k in range(3):
        grads = {"a": jnp.full((4,), float(k))}
        out, state = record.update(grads, state)
        assert jax.tree.all(jax.tree.map(lambda a, b: bool(jnp.all(a == b)), out, grads))
    np.testing.assert_allclose(state.norms, [4.0, 2.0])  # steps 2 and 1


def test_the_largest_fall():
    accuracy = np.array([0.1, 0.6, 0.5, 0.7, 0.3, 0.8, 0.75])
    assert collapse.before_and_after(accuracy) == (3, 4)
