"""Four IDX files in a directory: every layout is found, and every mismatch is refused."""

import gzip
import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fake_files import NAMES, idx_bytes

from jaxsnn.data import ImageDataset, fashion_mnist
from jaxsnn.data._files import find_idx_files
from jaxsnn.data._published import SHA256, check_checksum


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("layout", [".", "raw", "FashionMNIST/raw"])
def test_reads_every_layout(
    tmp_path: Path, write_idx, same, fake: ImageDataset, layout: str, compressed: bool
) -> None:
    folder = write_idx(tmp_path / "data" / layout, compressed)
    dataset = fashion_mnist(tmp_path / "data")
    same(dataset, fake)
    assert dataset.source.startswith(f"IDX files in {folder} (unchecked: ")


@pytest.mark.parametrize("compressed", [False, True])
def test_reads_names_with_a_dot(
    tmp_path: Path, write_idx, write_sums, same, fake: ImageDataset, compressed: bool
) -> None:
    """As many archives and unpackers name them; some of the four, or all."""
    for count in (1, 4):
        folder = write_idx(tmp_path / str(count), compressed)
        for path in sorted(folder.iterdir())[:count]:
            path.rename(folder / path.name.replace("-idx", ".idx"))
        same(fashion_mnist(write_sums(folder)), fake)
        assert len(list(folder.glob("*.idx?-ubyte*"))) == count
    write_idx(folder)  # the hyphen wins
    (folder / NAMES[0].replace("-idx", ".idx")).write_bytes(b"not read")
    same(fashion_mnist(write_sums(folder)), fake)


def test_the_error_names_what_is_looked_for_and_what_is_there(tmp_path: Path) -> None:
    for number in range(6):
        (tmp_path / f"TRAIN-IMAGES.{number}").touch()
    with pytest.raises(FileNotFoundError) as caught:
        fashion_mnist(tmp_path, download=False)
    message = str(caught.value)
    assert all(name in message for name in NAMES)
    assert "also with .idx for -idx" in message
    assert "found TRAIN-IMAGES.0, TRAIN-IMAGES.1, TRAIN-IMAGES.2, TRAIN-IMAGES.3, ...;" in message
    with pytest.raises(FileNotFoundError, match="Tried") as caught:
        fashion_mnist(download=False)
    assert all(name in str(caught.value) for name in NAMES)


def test_plain_files_win_over_compressed_ones(tmp_path: Path, write_idx) -> None:
    write_idx(tmp_path, compressed=False)
    for name in NAMES:
        (tmp_path / f"{name}.gz").write_bytes(b"not read")
    fashion_mnist(tmp_path)


def test_a_complete_folder_wins_over_an_incomplete_one(
    tmp_path: Path, write_idx, same, fake: ImageDataset
) -> None:
    write_idx(tmp_path / "raw")
    (tmp_path / NAMES[0]).write_bytes(b"not read")
    same(fashion_mnist(tmp_path), fake)


@pytest.mark.parametrize("name", NAMES)
def test_names_the_missing_file(tmp_path: Path, write_idx: Callable[..., Path], name: str) -> None:
    (write_idx(tmp_path / "data") / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"missing {name}; .*data_dir"):
        fashion_mnist(tmp_path / "data")


@pytest.mark.parametrize(
    ("name", "array", "complaint"),
    [
        (NAMES[0], np.zeros((30, 27, 28)), r"expected images of 28x28 pixels, found .*27"),
        (NAMES[2], np.zeros((20, 28, 29)), r"expected images of 28x28 pixels, found .*29"),
        (NAMES[0], np.zeros((29, 28, 28)), "found 29 images and 30 labels"),
        (NAMES[3], np.zeros(21), "found 20 images and 21 labels"),
        (NAMES[1], np.full(30, 10), "expected labels from 0 to 9, found 10 to 10"),
        (NAMES[3], np.full(20, 255), "expected labels from 0 to 9, found 255 to 255"),
        (NAMES[1], np.zeros((30, 28, 28)), "with 1 axes"),
    ],
)
def test_refuses_arrays_that_do_not_fit(
    tmp_path: Path, write_idx, name: str, array: np.ndarray, complaint: str
) -> None:
    (write_idx(tmp_path / "data") / name).write_bytes(idx_bytes(array))
    with pytest.raises(ValueError, match=complaint) as caught:
        fashion_mnist(tmp_path / "data")
    assert str(tmp_path / "data") in str(caught.value)
    assert name in str(caught.value)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_files_of_the_published_size_must_be_the_published_ones(
    tmp_path: Path, published: None, write_idx, same, fake: ImageDataset, compressed: bool, name
) -> None:
    folder = write_idx(tmp_path / "data", compressed)
    dataset = fashion_mnist(folder)
    same(dataset, fake)
    assert dataset.source == f"IDX files in {folder}"
    content = bytearray(idx_bytes(fake[NAMES.index(name)]))
    content[-1] ^= 1
    path = folder / (f"{name}.gz" if compressed else name)
    path.write_bytes(gzip.compress(content) if compressed else content)
    with pytest.raises(ValueError, match="damaged, or another data set") as caught:
        fashion_mnist(folder)
    for words in (
        f"{path}: ",
        SHA256[name],
        hashlib.sha256(content).hexdigest(),
        "replace the file",
        "data_dir",
        f"run `sha256sum * > SHA256SUMS` in {folder}",
    ):
        assert words in str(caught.value)


def test_files_of_another_size_are_nobodys(
    tmp_path: Path, published: None, write_idx, fake: ImageDataset
) -> None:
    folder = write_idx(tmp_path / "data")
    for name, array in zip(NAMES[2:], fake[2:4], strict=True):
        (folder / name).write_bytes(idx_bytes(array[:10]))
    dataset = fashion_mnist(folder)
    assert len(dataset.test_images) == 10
    assert "(unchecked: not those of Fashion-MNIST, and no SHA256SUMS" in dataset.source


def test_finds_nothing_in_other_directories(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    assert find_idx_files(tmp_path) is None


def test_checksum_is_of_the_uncompressed_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(b"content"))
    check_checksum(path, hashlib.sha256(b"content").hexdigest())
    with pytest.raises(ValueError, match=re.escape(f"{path}: expected SHA-256 {'0' * 64}")):
        check_checksum(path, "0" * 64)
