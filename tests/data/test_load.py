"""Data sets by name, the mini set, and what importing the package brings along."""

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import jaxsnn.data
from jaxsnn.data import DATASETS, fashion_mnist, fashion_mnist_mini, load
from jaxsnn.data._published import check_examples

DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def test_mini_is_small_balanced_and_real() -> None:
    dataset = fashion_mnist_mini()
    assert dataset.train_images.shape == (2000, 28, 28)
    assert dataset.test_images.shape == (500, 28, 28)
    assert dataset.train_images.dtype == dataset.test_images.dtype == np.uint8
    assert dataset.train_labels.dtype == dataset.test_labels.dtype == np.int32
    assert np.bincount(dataset.train_labels).tolist() == [200] * 10
    assert np.bincount(dataset.test_labels).tolist() == [50] * 10
    assert len({image.tobytes() for image in dataset.train_images}) > 1990
    # the published mean brightness is 0.286
    assert abs(dataset.train_images.mean() / 255 - 0.286) < 0.01
    file = Path(inspect.getfile(jaxsnn.data)).with_name("fashion_mnist_mini.npz")
    assert file.stat().st_size < 1_200_000
    assert str(file) in dataset.source


def test_mini_is_the_beginning_of_the_whole_set() -> None:
    if not DEBIAN.is_dir():
        pytest.skip("the package dataset-fashion-mnist is not installed")
    mini, whole = fashion_mnist_mini(), fashion_mnist(DEBIAN)
    assert whole.train_images.shape == (60000, 28, 28)
    assert whole.test_images.shape == (10000, 28, 28)
    for number in range(10):
        first = whole.train_images[whole.train_labels == number][:200]
        np.testing.assert_array_equal(mini.train_images[mini.train_labels == number], first)
        first = whole.test_images[whole.test_labels == number][:50]
        np.testing.assert_array_equal(mini.test_images[mini.test_labels == number], first)


def test_what_is_taken_for_published_is_the_installed_package() -> None:
    if not DEBIAN.is_dir():
        pytest.skip("the package dataset-fashion-mnist is not installed")
    whole = fashion_mnist(DEBIAN)
    assert whole.source == f"IDX files in {DEBIAN}"  # nothing about unchecked
    pairs = {"train": whole[:2], "test": whole[2:4]}
    for split, (images, labels) in pairs.items():
        other = labels.copy()
        other[-1] = (other[-1] + 1) % 10
        for ordered in (False, True):
            check_examples(split, images, labels, ordered=ordered)
            with pytest.raises(ValueError, match=f"the split '{split}' has as many examples"):
                check_examples(split, images, other, ordered=ordered)
        check_examples(split, images[::-1], labels[::-1], ordered=False)
        with pytest.raises(ValueError, match=f"the split '{split}' has as many examples"):
            check_examples(split, images[::-1], labels[::-1], ordered=True)


def test_a_damaged_or_missing_mini_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jaxsnn.data._mini._FILE", tmp_path / "mini.npz")
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}/mini.npz: missing"):
        fashion_mnist_mini()
    (tmp_path / "mini.npz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=f"{tmp_path}/mini.npz: .* install jaxsnn again"):
        fashion_mnist_mini()


def test_load_by_name(tmp_path: Path, write_idx) -> None:
    assert set(DATASETS) == {"fashion_mnist", "fashion_mnist_mini"}
    assert load("fashion_mnist_mini").train_images.shape == (2000, 28, 28)
    assert load("fashion_mnist_mini", download=False).train_images.shape == (2000, 28, 28)
    assert load("fashion_mnist", write_idx(tmp_path / "idx")).train_images.shape == (30, 28, 28)
    with pytest.raises(FileNotFoundError, match="not allowed"):
        load("fashion_mnist", download=False)


def test_load_refuses_what_makes_no_sense(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'mnist': expected .*fashion_mnist, fashion_mnist_mini"):
        load("mnist")
    with pytest.raises(ValueError, match=f"data_dir='{tmp_path}': .*takes no directory"):
        load("fashion_mnist_mini", tmp_path)


def test_importing_is_light_and_starts_no_backend() -> None:
    program = """
import sys
import jaxsnn.data
heavy = {"tensorflow", "tensorflow_datasets", "torch", "matplotlib"} & set(sys.modules)
assert not heavy, heavy
bridge = sys.modules.get("jax._src.xla_bridge")
assert bridge is None or not bridge._backends
"""
    root = str(Path(inspect.getfile(jaxsnn.data)).parents[2])
    subprocess.run([sys.executable, "-c", program], check=True, cwd=root)
