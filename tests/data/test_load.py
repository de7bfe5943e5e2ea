"""Data sets by name, the mini set, a part held out, and what importing the package brings along."""

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxsnn import data

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
MINI = Path(inspect.getfile(data)).with_name("fashion_mnist_mini.npz")


def test_mini_is_small_balanced_and_real() -> None:
    dataset = data.fashion_mnist_mini()
    assert dataset.train_images.shape == (2000, 28, 28)
    assert dataset.test_images.shape == (500, 28, 28)
    assert dataset.train_images.dtype == dataset.test_images.dtype == np.uint8
    assert dataset.train_labels.dtype == dataset.test_labels.dtype == np.int32
    assert np.bincount(dataset.train_labels).tolist() == [200] * 10
    assert np.bincount(dataset.test_labels).tolist() == [50] * 10
    assert len({image.tobytes() for image in dataset.train_images}) > 1990
    # the published mean brightness is 0.286
    assert abs(dataset.train_images.mean() / 255 - 0.286) < 0.01
    assert MINI.stat().st_size < 1_200_000
    assert str(MINI) in dataset.source


def test_the_whole_set() -> None:
    """It passes for the published one, and the mini set is its beginning."""
    if not DEBIAN.is_dir():
        pytest.skip("the package dataset-fashion-mnist is not installed")
    mini, whole = data.fashion_mnist_mini(), data.fashion_mnist(DEBIAN)
    assert whole.source == f"IDX files in {DEBIAN}"  # nothing about unchecked
    assert data.fingerprint(whole).startswith("e9140c88a8d91dc3d61bd924d3e184fc")  # as in old runs
    assert whole.train_images.shape == (60000, 28, 28)
    assert whole.test_images.shape == (10000, 28, 28)
    for number in range(10):
        first = whole.train_images[whole.train_labels == number][:200]
        np.testing.assert_array_equal(mini.train_images[mini.train_labels == number], first)
        first = whole.test_images[whole.test_labels == number][:50]
        np.testing.assert_array_equal(mini.test_images[mini.test_labels == number], first)


def test_a_damaged_or_missing_mini_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jaxsnn.data._mini._FILE", tmp_path / "mini.npz")
    for state in ("missing or empty", "damaged"):
        with pytest.raises(ValueError, match=f"{tmp_path}/mini.npz: {state} .* install jaxsnn"):
            data.load("fashion_mnist_mini")
        (tmp_path / "mini.npz").write_bytes(b"no archive")


def test_load_by_name(tmp_path: Path, write_idx) -> None:
    assert set(data.DATASETS) == {"fashion_mnist", "fashion_mnist_mini"}
    assert data.load("fashion_mnist_mini", download=False).train_images.shape == (2000, 28, 28)
    folder = write_idx(tmp_path / "idx")
    assert data.load("fashion_mnist", folder).train_images.shape == (30, 28, 28)
    with pytest.raises(FileNotFoundError, match="not allowed"):
        data.load("fashion_mnist", download=False)
    with pytest.raises(ValueError, match=r"'mnist': expected .*fashion_mnist, fashion_mnist_mini"):
        data.load("mnist")
    with pytest.raises(ValueError, match=f"data_dir='{folder}': .*takes no directory"):
        data.load("fashion_mnist_mini", folder)


def test_importing_is_light_and_starts_no_backend() -> None:
    program = """
import sys
import jaxsnn.data
heavy = {"tensorflow", "tensorflow_datasets", "torch", "matplotlib"} & set(sys.modules)
assert not heavy, heavy
bridge = sys.modules.get("jax._src.xla_bridge")
assert bridge is None or not bridge._backends
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=MINI.parents[2])


class TestHoldOut:
    """A random part of the training set, for validation."""

    def test_the_same_share_of_each_class(self) -> None:
        images = data.fashion_mnist_mini()
        numbered = images._replace(  # images that can be told from each other, of unequal classes
            train_images=np.arange(1500).reshape(-1, 1, 1),
            train_labels=np.repeat(np.arange(10, dtype=np.int32), 150)[::-1].copy(),
        )
        numbered.train_labels[:100] = 0
        rest, (held_out, labels) = data.hold_out(numbered, 0.1)
        counts = np.bincount(numbered.train_labels)
        np.testing.assert_array_equal(np.bincount(labels), np.round(0.1 * counts))
        for part, names in ((rest.train_images, rest.train_labels), (held_out, labels)):
            assert (np.diff(part.ravel()) > 0).all()  # in the order of the data set
            np.testing.assert_array_equal(numbered.train_labels[part.ravel()], names)
        together = np.concatenate([rest.train_images, held_out]).ravel()
        np.testing.assert_array_equal(np.sort(together), np.arange(1500))
        assert (rest.test_images is images.test_images, rest.source) == (True, images.source)
        assert labels.dtype == np.int32

    def test_it_is_the_same_for_ever(self) -> None:
        """Else a resumed run would be refused, or validated on images that it was trained on."""
        images = data.fashion_mnist_mini()
        rest, (held_out, _) = data.hold_out(images, 0.1)
        assert data.fingerprint(rest).startswith("d4bb94f1c5ee4f01d41423ff1682382f")
        other, _ = data.hold_out(images, 0.1, seed=1)
        assert data.fingerprint(other) != data.fingerprint(rest)
        assert len(held_out) == 200

    @pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan"), 1e-6, 1 - 1e-6])
    def test_shares_that_are_none(self, fraction: float) -> None:
        with pytest.raises(ValueError, match="fraction"):
            data.hold_out(data.fashion_mnist_mini(), fraction)
