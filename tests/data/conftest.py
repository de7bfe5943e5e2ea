"""Small fake Fashion-MNIST in every format, and a machine on which every real source is hidden."""

import gzip
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from fake_files import NAMES, idx_bytes, png_bytes, tfrecord_bytes

import jaxsnn.data._acquire as acquire_module
import jaxsnn.data._fashion_mnist as fashion_mnist_module
import jaxsnn.data._published as published_module
from jaxsnn.data import ImageDataset
from jaxsnn.data._builder import prepare


class FashionMnist(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """What TFDS's own builder stores: PNG images and labels, without an index."""

    VERSION = tfds.core.Version("3.0.1")
    code_path = None
    dataset: ImageDataset

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(28, 28, 1)),
            "label": tfds.features.ClassLabel(num_classes=10),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {
            "train": self._generate_examples(*self.dataset[:2]),
            "test": self._generate_examples(*self.dataset[2:4]),
        }

    def _generate_examples(self, images, labels):
        for key, (image, label) in enumerate(zip(images, labels, strict=True)):
            yield key, {"image": io.BytesIO(png_bytes(image)), "label": int(label)}


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
def ours(tmp_path: Path, write_idx) -> Path:
    """Our data set, prepared from the fake files in ``tmp_path / "tfds"``."""
    return prepare(write_idx(tmp_path / "idx"), tmp_path / "tfds")


@pytest.fixture
def stock(tmp_path: Path, fake: ImageDataset) -> Path:
    """The fake data as TFDS's own data set in ArrayRecord, in ``tmp_path / "tfds"``."""
    builder = FashionMnist(data_dir=tmp_path / "tfds", file_format="array_record")
    builder.dataset = fake
    builder.download_and_prepare()
    return Path(builder.data_dir)


@pytest.fixture
def stock_tfrecord(stock: Path) -> Path:
    """The same in TFRecord, which is what TFDS writes unless told otherwise."""
    builder = tfds.builder_from_directory(stock)
    raw = tfds.decode.DeserializeMethod.RAW_BYTES
    for split in ("train", "test"):
        records = list(builder.as_data_source(split, deserialize_method=raw))
        (path,) = builder.info.splits[split].filepaths
        Path(path).unlink()
        new = path.name.replace(".array_record-", ".tfrecord-")
        (stock / new).write_bytes(tfrecord_bytes(records))
    info = json.loads((stock / "dataset_info.json").read_text())
    info["fileFormat"] = "tfrecord"
    (stock / "dataset_info.json").write_text(json.dumps(info))
    return stock


@pytest.fixture
def published(fake: ImageDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the fake data set the one that was published, for everything that checks it."""
    for name, array in zip(NAMES, fake[:4], strict=True):
        content = idx_bytes(array)
        monkeypatch.setitem(published_module.SIZE, name, len(content))
        monkeypatch.setitem(published_module.SHA256, name, hashlib.sha256(content).hexdigest())
    for split, pair in (("train", fake[:2]), ("test", fake[2:4])):
        digest = published_module.examples_digest(*pair)
        monkeypatch.setitem(published_module.EXAMPLES_SHA256, split, digest)


@pytest.fixture
def write_sums() -> Callable[[Path], Path]:
    """Return a function that writes SHA256SUMS into a directory, as ``sha256sum *`` does."""

    def write(directory: Path) -> Path:
        (directory / "SHA256SUMS").touch()  # the shell makes it before the command lists the files
        lines = [
            f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
            for path in sorted(directory.iterdir())
        ]
        (directory / "SHA256SUMS").write_text("".join(lines))
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
