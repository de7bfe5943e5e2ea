"""Writers of the file formats that the data sets are read from, for tests."""

import struct
import zlib

import numpy as np

from jaxsnn.data._tfrecord import masked_crc

NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def idx_bytes(array: np.ndarray) -> bytes:
    """Return an array of bytes as an IDX file."""
    header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def _filtered(image: np.ndarray, row: int, column: int, kind: int) -> int:
    """Return one pixel's difference from its prediction, as PNG's definition has it."""
    a = int(image[row, column - 1]) if column else 0
    b = int(image[row - 1, column]) if row else 0
    c = int(image[row - 1, column - 1]) if row and column else 0
    if kind == 4:
        p = a + b - c
        prediction = min((a, b, c), key=lambda value: abs(p - value))  # the first of equals
    else:
        prediction = (0, a, b, (a + b) // 2)[kind]
    return (int(image[row, column]) - prediction) % 256


def encode_png(
    image: np.ndarray, filters: np.ndarray, pieces: int = 1, extra: bool = False
) -> bytes:
    """Return a grey image as a PNG file with one given filter per row."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    height, width = image.shape
    lines = b"".join(
        bytes([int(kind), *(_filtered(image, row, column, int(kind)) for column in range(width))])
        for row, kind in enumerate(filters)
    )
    data = zlib.compress(lines)
    step = -(-len(data) // pieces)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">II", width, height) + bytes((8, 0, 0, 0, 0)))
        + (chunk(b"tEXt", b"Comment\0made by a test") if extra else b"")
        + b"".join(chunk(b"IDAT", data[at : at + step]) for at in range(0, len(data), step))
        + chunk(b"IEND", b"")
    )


def tfrecord_bytes(records: list[bytes]) -> bytes:
    """Return records as the content of a TFRecord file."""
    content = b""
    for record in records:
        length = struct.pack("<Q", len(record))
        content += length + masked_crc(length).to_bytes(4, "little")
        content += record + masked_crc(record).to_bytes(4, "little")
    return content
