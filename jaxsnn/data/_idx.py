"""The four IDX files of Fashion-MNIST, or of a set like it: finding, reading and checking them.

An IDX file is two zero bytes, a type code (8 means `uint8`), the number of axes, each axis' length
as a big-endian 32-bit integer, and then the values in row-major order. Nothing else may follow, so
the length of the file is known from its header and is checked against it.
"""

import gzip
import hashlib
import io
import re
import struct
import zlib
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jaxsnn.data._dataset import ImageDataset

SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""Names of the published files, in the order of `ImageDataset`, and SHA-256 of their uncompressed
bytes (compression differs from one copy to another)."""

LENGTHS = (60_000, 60_000, 10_000, 10_000)
"""The number of images or labels in each published file."""

NAMES = f"{', '.join(SHA256)}; also with .idx for -idx, and each plain or .gz"
"""The names of the four files, for messages."""

_SUMS = "SHA256SUMS"  # the file with checksums, as the command sha256sum writes it
# The digest, a space, a space for text or an asterisk for binary, the name. A backslash at the
# start means that the name has escaped characters, which the names of IDX files never have.
_SUMS_LINE = re.compile(r"\\?([0-9a-fA-F]{64}) [ *](.+)")
_MAX_CONTENT = 1 << 29  # bytes that a gzip file may become: it could be a thousand times its size


def find_idx_files(directory: Path) -> list[Path] | None:
    """Return the paths of the four files, in the order of `SHA256`, or None where there is none.

    The files may be plain or `.gz` (plain wins), be named with `-idx` or, as some archives have
    them, `.idx` (the hyphen wins), and be in the directory itself, in its `raw` or in its
    `FashionMNIST/raw` folder, as torchvision leaves them.

    Raises:
        FileNotFoundError: only some of the four files are there.
    """
    incomplete = None
    for folder in (directory, directory / "raw", directory / "FashionMNIST" / "raw"):
        found = {}
        for name in SHA256:
            dotted = name.replace("-idx", ".idx")
            for spelling in (f"{dotted}.gz", dotted, f"{name}.gz", name):  # the last one wins
                if (folder / spelling).is_file():
                    found[name] = folder / spelling
        if len(found) == len(SHA256):
            return list(found.values())
        if found and incomplete is None:
            missing = ", ".join(name for name in SHA256 if name not in found)
            incomplete = f"{folder}: expected four IDX files ({NAMES}), missing {missing}"
    if incomplete is not None:
        raise FileNotFoundError(f"{incomplete}; add them, or name another directory with data_dir")
    return None


def read_idx_files(paths: list[Path]) -> ImageDataset:
    """Return the data set in four IDX files, however many images they hold.

    With a `SHA256SUMS` next to them, all four must match it. Otherwise a file with as many images
    or labels as the published one must be the published one.

    Args:
        paths: of the four files in one folder, in the order of `SHA256`.

    Returns:
        The data set; its `source` says when nothing has checked the files.

    Raises:
        ValueError: a file is damaged, or is not 28x28 images or labels 0 to 9.
        OSError: a file cannot be read.
    """
    sums = _read_sums(paths[0].parent)
    arrays: list[NDArray[np.uint8]] = []
    for path, axes, length, sha256 in zip(
        paths, (3, 1, 3, 1), LENGTHS, SHA256.values(), strict=True
    ):
        content = path.read_bytes()
        if sums is not None:
            _check_sum(path, content, sums)
        array = parse_idx(decompress(content, path), path, axes)
        if sums is None and len(array) == length and digest(array) != sha256:
            raise ValueError(
                f"{path}: damaged, or another data set of the size of Fashion-MNIST (expected "
                f"SHA-256 {sha256} of the content, found {digest(array)}); {_REMEDY}; if it is "
                f"the data set you mean, run `sha256sum * > {_SUMS}` in {path.parent}"
            )
        arrays.append(array)
    for k in (0, 2):
        _check_pair(arrays[k], arrays[k + 1], f"{paths[k]} with {paths[k + 1].name}")
    source = f"IDX files in {paths[0].parent}"
    if sums is not None:
        source += f" (checked with their {_SUMS})"
    elif tuple(map(len, arrays)) != LENGTHS:
        source += f" (unchecked: not those of Fashion-MNIST, and no {_SUMS} next to them)"
    images, labels, test_images, test_labels = arrays
    return ImageDataset(
        images, labels.astype(np.int32), test_images, test_labels.astype(np.int32), source
    )


def decompress(content: bytes, path: Path | str) -> bytes:
    """Return bytes, decompressed when they are gzip (by their content, whatever the name).

    Args:
        content: the content of a file.
        path: the file, for the message.

    Raises:
        ValueError: the gzip stream is damaged or cut short, or becomes more than 512 MiB.
    """
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            content = stream.read(_MAX_CONTENT + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error, struct.error) as error:
        raise _damaged(path, "a whole gzip file", f"a damaged one ({error})") from error
    if len(content) > _MAX_CONTENT:
        raise _damaged(path, f"at most {_MAX_CONTENT} bytes of content", "more")
    return content


def parse_idx(content: bytes, path: Path, axes: int) -> NDArray[np.uint8]:
    """Return the array in an IDX file of bytes.

    Args:
        content: the file's uncompressed bytes.
        path: the file, for the message.
        axes: how many axes the array must have, 3 for images and 1 for labels.

    Returns:
        `uint8` array with that many axes, none of them empty.

    Raises:
        ValueError: the content is not such an IDX file, from its first byte to its last.
    """
    magic, start = bytes((0, 0, 8, axes)), 4 + 4 * axes
    if not content.startswith(magic) or len(content) < start:
        raise _damaged(
            path,
            f"an IDX file, whose header has {start} bytes and begins with {magic.hex(' ')}",
            content[:start].hex(" ") or "an empty file",
        )
    shape = struct.unpack(f">{axes}I", content[4:start])
    values = len(content) - start
    if not 0 < values == prod(shape):
        raise _damaged(path, f"{prod(shape)} bytes of values for shape {shape}", f"{values}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()


def digest(array: NDArray[np.integer]) -> str:
    """Return the SHA-256 of the IDX file that holds an array of bytes."""
    header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    return hashlib.sha256(header + array.astype(np.uint8).tobytes()).hexdigest()


def _read_sums(folder: Path) -> dict[str, str] | None:
    """Return the digest of each file that `SHA256SUMS` names, or None where there is none."""
    path = folder / _SUMS
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return None
    sums: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _SUMS_LINE.fullmatch(line)
        if match is None or sums.setdefault(match[2], match[1].lower()) != match[1].lower():
            raise ValueError(
                f"{path}: expected one SHA-256 and name per file, found {line[:100]!r} in line "
                f"{number}; {_remedy_of_sums(folder)}"
            )
    return sums


def _check_sum(path: Path, content: bytes, sums: dict[str, str]) -> None:
    """Refuse a file without a line in `SHA256SUMS`, or with another digest there."""
    expected = sums.get(path.name, "no line for it")
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise ValueError(
            f"{path}: {_SUMS} has {expected}, but the file has SHA-256 {found}; {_REMEDY}; if the "
            f"file is right, {_remedy_of_sums(path.parent)}"
        )


def _remedy_of_sums(folder: Path) -> str:
    return f"make {_SUMS} again with `sha256sum * > {_SUMS}` in {folder}, or delete it"


def _check_pair(images: NDArray[np.uint8], labels: NDArray[np.uint8], where: str) -> None:
    """Refuse arrays that are not 28x28 images with as many labels from 0 to 9."""
    if images.shape[1:] != (28, 28):
        raise _damaged(where, "images of 28x28 pixels", f"shape {images.shape}")
    if len(images) != len(labels):
        raise _damaged(where, f"{len(images)} labels for as many images", f"{len(labels)}")
    if labels.max() > 9:
        raise _damaged(where, "labels from 0 to 9", f"{labels.max()}")


_REMEDY = "replace the file by an intact copy, or name another directory with data_dir"


def _damaged(where: Path | str, expected: str, found: str) -> ValueError:
    return ValueError(f"{where}: expected {expected}, found {found}; {_REMEDY}")
