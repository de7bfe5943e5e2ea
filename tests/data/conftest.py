"""Small fake Fashion-MNIST files, and a machine on which every real source is hidden."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data.fake_files import NAMES, idx_bytes

import jaxsnn.data._acquire as acquire_module
import jaxsnn.data._fashion_mnist as fashion_mnist_module
from jaxsnn.data import ImageDataset


@pytest.fixture
def fake() -> ImageDataset:
    """Thirty and twenty random images; every label occurs."""
    rng = np.random.default_rng(0)
    return ImageDataset(
        rng.integers(0, 256, (30, 28, 28), dtype=np.uint8),
        rng.permutation(np.arange(30) % 10).astype(np.int32),
        rng.integers(0, 256, (20, 28, 28), dtype=np.uint8),
        rng.permutation(np.arange(20) % 10).astype(np.int32),
        "fake",
    )


@pytest.fixture
def write_idx(fake: ImageDataset) -> Callable[..., Path]:
    """Return a function that writes the fake data set as four IDX files."""

    def write(directory: Path, compressed: bool = False) -> Path:
        directory.mkdir(parents=True, exist_ok=True)
        for name, array in zip(NAMES, fake[:4], strict=True):
            content = idx_bytes(array)
            if compressed:
                (directory / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (directory / name).write_bytes(content)
        return directory

    return write


@pytest.fixture
def same() -> Callable[[ImageDataset, ImageDataset], None]:
    """Return a function that asserts equal arrays, types included."""

    def check(left: ImageDataset, right: ImageDataset) -> None:
        for field, a, b in zip(ImageDataset._fields[:4], left[:4], right[:4], strict=True):
            assert a.dtype == b.dtype, field
            np.testing.assert_array_equal(a, b, err_msg=field)

    return check


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test an empty home, no installed data set and no way to the network."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / ".cache"))
    monkeypatch.delenv("JAXSNN_DATA_DIR", raising=False)
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setattr(fashion_mnist_module, "_DEBIAN_DIRECTORY", tmp_path / "not-installed")

    def no_network(directory: Path) -> None:
        raise OSError("no network in this test")

    def no_package(directory: Path) -> None:
        raise OSError("no package in this test")

    monkeypatch.setattr(acquire_module, "download_official", no_network)
    monkeypatch.setattr(acquire_module, "fetch_debian_package", no_package)
    return folder
