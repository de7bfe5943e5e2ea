"""The TFDS data set in which a download is kept: written and read without TensorFlow."""

import importlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from jaxsnn.data import ImageDataset, fashion_mnist
from jaxsnn.data._tfds import prepare


class WithoutTensorFlow:
    """A finder of modules that finds all that another one does, but not TensorFlow."""

    def __init__(self, finder: Any) -> None:
        self._finder = finder

    def find_spec(self, name: str, *arguments: Any) -> Any:
        if name.partition(".")[0] == "tensorflow":
            return None
        return self._finder.find_spec(name, *arguments)


def test_no_tensorflow(
    server, home: Path, monkeypatch: pytest.MonkeyPatch, same, fake: ImageDataset
) -> None:
    """Neither to write, nor for us or TFDS to read."""
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    monkeypatch.setattr(sys, "meta_path", [WithoutTensorFlow(f) for f in sys.meta_path])
    same(fashion_mnist(), fake)
    folder = home / ".cache/jaxsnn"
    same(fashion_mnist(folder, download=False), fake)
    builder = tfds.builder("jaxsnn_fashion_mnist", data_dir=folder)
    for split, images, labels in (("train", *fake[:2]), ("test", *fake[2:4])):
        examples = list(builder.as_data_source(split))
        index = [example["index"] for example in examples]
        assert sorted(index) == list(range(len(labels)))
        assert index != sorted(index)  # else the order would not have to be restored
        for example in examples:
            np.testing.assert_array_equal(example["image"][..., 0], images[example["index"]])
            assert example["label"] == labels[example["index"]]
    with pytest.raises(ModuleNotFoundError):  # else this would prove nothing
        importlib.import_module("tensorflow")


@pytest.mark.parametrize("level", ["", "..", "../.."])
def test_the_folders_that_may_be_named(
    prepared: Path, level: str, same, fake: ImageDataset
) -> None:
    dataset = fashion_mnist((prepared / level).resolve())
    same(dataset, fake)
    assert dataset.source == f"TFDS records in {prepared}"


def test_nothing_is_printed(server, capfd: pytest.CaptureFixture[str]) -> None:
    fashion_mnist()
    assert capfd.readouterr() == ("", "")


def test_only_the_records_are_read(prepared: Path, same, fake: ImageDataset) -> None:
    """Of its descriptions TFDS would import the modules that features.json names."""
    for path in prepared.glob("*.json"):
        path.unlink()
    same(fashion_mnist(prepared), fake)


@pytest.mark.parametrize("level", ["", "..", "../.."])
@pytest.mark.parametrize("variable", [False, True])
def test_tfds_own_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: str, variable: bool
) -> None:
    folder = tmp_path / "tfds/fashion_mnist/3.0.1"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text(json.dumps({"name": "fashion_mnist"}))
    (folder / "fashion_mnist-train.tfrecord-00000-of-00001").touch()
    named = (folder / level).resolve()
    if variable:
        monkeypatch.setenv("JAXSNN_DATA_DIR", str(named))
    remedy = "needs TensorFlow.* four IDX files with data_dir, or leave it out"
    start = r"\$JAXSNN_DATA_DIR: " if variable else ""
    with pytest.raises(ValueError, match=f"^{start}{folder}: expected TFDS's .*{remedy}"):
        fashion_mnist(None if variable else named)


class TestDamage:
    """Damaged or different content ends in an error that names the folder."""

    @pytest.mark.parametrize("split", ["train", "test"])
    @pytest.mark.parametrize("damage", ["empty", "cut", "missing", "repeated"])
    def test_records(self, prepared: Path, split: str, damage: str) -> None:
        (file,) = prepared.glob(f"*-{split}.*")
        if damage == "missing":
            file.unlink()
        elif damage == "repeated":
            shutil.copy(file, prepared / file.name.replace("-00000-", "-00001-"))
        else:
            content = file.read_bytes()
            file.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
        remedy = "delete it to have it made again, or name another directory with data_dir"
        with pytest.raises(ValueError, match=f"{prepared}: .* damaged or different .*{remedy}"):
            fashion_mnist(prepared)

    def test_an_unreadable_file(self, prepared: Path) -> None:
        (file,) = prepared.glob("*-test.*")
        file.unlink()
        file.mkdir()
        with pytest.raises(OSError, match=f"{prepared}: a file cannot be read .*{file.name}"):
            fashion_mnist(prepared)

    @pytest.mark.parametrize("change", ["a pixel", "a label", "the order"])
    def test_other_examples(
        self, server, home: Path, monkeypatch: pytest.MonkeyPatch, fake: ImageDataset, change: str
    ) -> None:
        """Intact records of a data set that is not the published one."""
        fashion_mnist()
        if change == "a pixel":
            fake.test_images[3, 4, 5] ^= 1
        elif change == "a label":
            fake.train_labels[3] ^= 1
        else:
            for array in fake[:2]:
                array[[3, 4]] = array[[4, 3]]
        folder = prepare(fake, home)
        with pytest.raises(ValueError, match=f"{folder}: .*the SHA-256 of the examples"):
            fashion_mnist(folder)
