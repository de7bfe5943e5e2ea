"""Reading one IDX file, the plain binary array format of the MNIST family.

An IDX file is two zero bytes, a type code (8 means ``uint8``), the number of axes, each axis'
length as a big-endian 32-bit integer, and then the values in row-major order. Nothing else may
follow, so the length of the file is known from its header and is checked against it.
"""

import gzip
import io
import struct
import zlib
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_GZIP_MAGIC = b"\x1f\x8b"
_UINT8 = 0x08
MAX_CONTENT = 1 << 29  # bytes that a gzip file may become: it could be a thousand times its size
WAY_OUT = "replace the file by an intact copy, or name another directory with data_dir"


def read_content(path: Path) -> bytes:
    """Return the bytes of a file, decompressed when they are gzip (told by content, not name).

    Args:
        path: a plain or gzip-compressed file.

    Returns:
        The uncompressed bytes.

    Raises:
        ValueError: the gzip stream is damaged or cut short, or there are more than 512 MiB.
        OSError: the file cannot be read.
    """
    return decompress(path.read_bytes(), path)


def decompress(content: bytes, path: Path) -> bytes:
    """Return bytes, decompressed when they are gzip.

    Args:
        content: what a file holds.
        path: the file, for the message.

    Raises:
        ValueError: the gzip stream is damaged or cut short, or ends in more than 512 MiB.
    """
    if not content.startswith(_GZIP_MAGIC):
        return content
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            content = stream.read(MAX_CONTENT + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error, struct.error) as error:
        raise ValueError(
            f"{path}: expected a whole gzip file, found one that is damaged or cut short "
            f"({error}); {WAY_OUT}"
        ) from error
    if len(content) > MAX_CONTENT:
        raise ValueError(
            f"{path}: expected a gzip file of at most {MAX_CONTENT} bytes of content, found more; "
            f"{WAY_OUT}"
        )
    return content


def idx_header(shape: tuple[int, ...]) -> bytes:
    """Return the bytes before the values of an IDX file of bytes."""
    return bytes((0, 0, _UINT8, len(shape))) + struct.pack(f">{len(shape)}I", *shape)


def parse_idx(content: bytes, path: Path, axes: int) -> NDArray[np.uint8]:
    """Return the array in an IDX file of bytes.

    Args:
        content: the file's uncompressed bytes.
        path: the file, for the message.
        axes: how many axes the array must have, 3 for images and 1 for labels.

    Returns:
        ``uint8`` array with that many axes, none of them empty.

    Raises:
        ValueError: the content is not such an IDX file, from its first byte to its last.

    Examples:
        >>> path = Path("train-labels-idx1-ubyte.gz")
        >>> parse_idx(read_content(path), path, axes=1).shape  # doctest: +SKIP
        (60000,)
    """
    magic = bytes((0, 0, _UINT8, axes))
    if content[:4] != magic:
        raise ValueError(
            f"{path}: expected an IDX file of bytes with {axes} axes, which begins with "
            f"{magic.hex(' ')}, found {content[:4].hex(' ') or 'an empty file'}; {WAY_OUT}"
        )
    header = 4 + 4 * axes
    if len(content) < header:
        raise ValueError(
            f"{path}: expected a header of {header} bytes, found a file of {len(content)}; "
            f"{WAY_OUT}"
        )
    shape = struct.unpack(f">{axes}I", content[4:header])
    if 0 in shape:
        raise ValueError(f"{path}: expected at least one value, found shape {shape}; {WAY_OUT}")
    expected, found = prod(shape), len(content) - header
    if found != expected:
        fault = "cut short" if found < expected else "followed by trailing bytes"
        raise ValueError(
            f"{path}: expected {expected} bytes of values for shape {shape}, found {found}, so "
            f"the file is {fault}; {WAY_OUT}"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy()
