"""One IDX file: read exactly, and refused when anything about it is wrong."""

import gzip
import re
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from jaxsnn.data._idx import parse_idx, read_content

IMAGES = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
GOOD = bytes((0, 0, 8, 3)) + struct.pack(">3I", 3, 4, 5) + IMAGES.tobytes()


def read_idx(path: Path, axes: int) -> np.ndarray:
    return parse_idx(read_content(path), path, axes)


@pytest.mark.parametrize("name", ["images", "images.gz"])
def test_reads_plain_and_compressed(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(GOOD) if name.endswith(".gz") else GOOD)
    array = read_idx(path, axes=3)
    assert array.dtype == np.uint8
    np.testing.assert_array_equal(array, IMAGES)
    array[0, 0, 0] = 7  # the array is the caller's own


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "begins with 00 00 08 03, found an empty file"),
        (b"<html>", "begins with 00 00 08 03, found 3c 68 74 6d"),
        (bytes((0, 0, 8, 1)) + GOOD[4:], "found 00 00 08 01"),
        (bytes((0, 0, 0x0D, 3)) + GOOD[4:], "found 00 00 0d 03"),
        (GOOD[:10], "expected a header of 16 bytes, found a file of 10"),
        (GOOD[:-1], r"expected 60 bytes of values for shape (3, 4, 5), found 59.*cut short"),
        (GOOD + b"\0", r"expected 60 bytes .* found 61.*trailing bytes"),
        (bytes((0, 0, 8, 3)) + struct.pack(">3I", 0, 4, 5), "at least one value"),
        (
            bytes((0, 0, 8, 3)) + struct.pack(">3I", 4, 4, 5) + IMAGES.tobytes(),
            r"expected 80 bytes .* found 60",
        ),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_refuses_other_content(
    tmp_path: Path, content: bytes, complaint: str, compressed: bool
) -> None:
    path = tmp_path / "images"
    path.write_bytes(gzip.compress(content) if compressed else content)
    complaint = complaint.replace("(3, 4, 5)", r"\(3, 4, 5\)")
    with pytest.raises(ValueError, match=complaint) as caught:
        read_idx(path, axes=3)
    assert str(path) in str(caught.value)
    assert "data_dir" in str(caught.value)  # the way out


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:-9],
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:5],
        lambda whole: whole[:-6] + bytes(6),  # wrong checksum and length
        lambda whole: whole + b"more",
        lambda whole: whole[:12] + b"\xff\xff\xff" + whole[15:],
    ],
)
def test_refuses_a_damaged_gzip(tmp_path: Path, damage) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(damage(gzip.compress(GOOD)))
    with pytest.raises(ValueError, match=re.escape(f"{path}: expected a whole gzip file")):
        read_idx(path, axes=3)


def test_a_gzip_bomb_ends_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaxsnn.data._idx.MAX_CONTENT", 1_000_000)
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(bytes(1_000_000)))
    assert len(read_content(path)) == 1_000_000
    path.write_bytes(gzip.compress(bytes(30_000_000)))
    tracemalloc.start()
    with pytest.raises(ValueError, match=f"{path}: .* at most 1000000 bytes .*data_dir"):
        read_content(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4_000_000  # three times the limit, and not 30 MB


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "nowhere", axes=3)
