"""Writers of the file formats that the data sets are read from, for tests."""

import io
import struct

import numpy as np
import pytest

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


def png_bytes(image: np.ndarray, file_format: str = "PNG") -> bytes:
    """Return an image as a PNG file, or as one of another format; skip where Pillow is missing."""
    file = io.BytesIO()
    pytest.importorskip("PIL.Image").fromarray(image).save(file, file_format)
    return file.getvalue()


def tfrecord_bytes(records: list[bytes]) -> bytes:
    """Return records as the content of a TFRecord file."""
    content = b""
    for record in records:
        length = struct.pack("<Q", len(record))
        content += length + masked_crc(length).to_bytes(4, "little")
        content += record + masked_crc(record).to_bytes(4, "little")
    return content
