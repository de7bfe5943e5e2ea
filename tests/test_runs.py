"""Run directories: settings, the table, the TensorBoard curves."""

import json

import pytest
import run_files

from jaxsnn import runs


def row(epoch):
    return {
        "epoch": epoch,
        "train_loss": 0.1 / (epoch + 1),
        "train_acc": 0.5,
        "test_loss": 0.2,
        "test_acc": 0.25 * epoch,
        "train_images_per_s": 1e5,
        "test_images_per_s": 2e5,
        "lr": 0.1,
    }


def test_settings_are_kept(tmp_path):
    config = {"settings": {"model": "ss", "clip_norm": None}, "data": "abc"}
    runs.create(tmp_path / "a" / "b", config)
    assert runs.read_config(tmp_path / "a" / "b") == config


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="is not empty"):
        runs.create(tmp_path, {"settings": {}})
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"settings": 3}', "\x00"])
def test_damaged_settings(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json is damaged"):
        runs.read_config(tmp_path)


def test_missing_settings(tmp_path):
    with pytest.raises(FileNotFoundError, match="not the directory of a run"):
        runs.read_config(tmp_path)


def test_each_epoch_is_there_once(tmp_path):
    """A run that was cut off after epoch 2 goes on from the checkpoint of epoch 1."""
    log = runs.Log(tmp_path, [])
    for last in range(3):
        log.write([row(epoch) for epoch in range(last + 1)])
    log.close()
    log = runs.Log(tmp_path, [row(0), row(1)])
    assert [r["epoch"] for r in run_files.table(tmp_path)] == [0, 1]
    for last in range(2, 4):
        log.write([row(epoch) for epoch in range(last + 1)])
    log.close()
    assert run_files.table(tmp_path) == [row(epoch) for epoch in range(4)]
    assert run_files.curves(tmp_path) == {
        name: [(epoch, pytest.approx(row(epoch)[name])) for epoch in range(4)]
        for name in ("train_loss", "train_acc", "test_loss", "test_acc")
    }


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    runs.replace(path, json.dumps({"settings": {"a": 1}}))

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        runs.replace(path, "half")
    assert runs.read_config(tmp_path) == {"settings": {"a": 1}}
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]
