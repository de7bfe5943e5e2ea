"""Decoding many small grey PNG images of one size at once, with NumPy alone.

TFDS's own Fashion-MNIST stores each image as an 8-bit grey PNG. Decoding all images together
makes the number of Python steps depend on the image's size and not on how many there are.
"""

import struct
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY_8_BIT = bytes((8, 0, 0, 0, 0))  # bit depth, colour type, compression, filter, interlace


def decode_grey_pngs(files: Sequence[bytes], height: int, width: int) -> NDArray[np.uint8]:
    """Decode 8-bit grey PNG files of equal size.

    Args:
        files: ``n`` whole PNG files.
        height: their height in pixels.
        width: their width in pixels.

    Returns:
        ``uint8 [n, height, width]``.

    Raises:
        ValueError: a file is damaged, or is not a plain grey PNG of that size.
    """
    scanlines = b"".join(_scanlines(file, height, width) for file in files)
    lines = np.frombuffer(scanlines, np.uint8).reshape(len(files), height, 1 + width)
    filters = lines[:, :, 0]
    if filters.size and filters.max() > 4:
        raise ValueError(f"expected PNG filters 0 to 4, found {filters.max()}")
    return _unfilter(filters, lines[:, :, 1:])


def _scanlines(file: bytes, height: int, width: int) -> bytes:
    """Return one PNG file's decompressed lines, each with its filter's number in front."""
    if not file.startswith(_SIGNATURE):
        raise ValueError(f"expected a PNG image, found a file that begins with {file[:8]!r}")
    position, compressed, ended = len(_SIGNATURE), b"", False
    while not ended:
        if position + 12 > len(file):
            raise ValueError("the PNG image is cut short")
        (length,) = struct.unpack_from(">I", file, position)
        kind_and_data = file[position + 4 : position + 8 + length]
        kind, data = kind_and_data[:4], kind_and_data[4:]
        checksum = file[position + 8 + length : position + 12 + length]
        if checksum != zlib.crc32(kind_and_data).to_bytes(4, "big"):
            raise ValueError("the PNG image is damaged or cut short")
        if kind == b"IHDR" and data != struct.pack(">II", width, height) + _GREY_8_BIT:
            raise ValueError(f"expected an 8-bit grey PNG image of {height}x{width} pixels")
        if kind == b"IDAT":
            compressed += data
        ended = kind == b"IEND"
        position += 12 + length
    try:
        lines = zlib.decompress(compressed)
    except zlib.error as error:
        raise ValueError(f"the PNG image is damaged ({error})") from error
    if len(lines) != height * (1 + width):
        raise ValueError(f"expected {height * (1 + width)} bytes in a PNG, found {len(lines)}")
    return lines


def _unfilter(filters: NDArray[np.uint8], lines: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Undo the PNG filters: each pixel was stored as its difference from a prediction.

    The prediction is, for filters 0 to 4: nothing, the left pixel, the upper one, their mean
    rounded down, or whichever of left, upper and upper-left is nearest to left + up - upper-left.

    Args:
        filters: ``uint8 [n, height]``, the filter of each line.
        lines: ``uint8 [n, height, width]``, the stored differences.

    Returns:
        The pixels, like ``lines``.
    """
    count, height, width = lines.shape
    # one row and one column of zeros stand for what lies outside of the image
    pixels = np.zeros((height + 1, width + 1, count), np.int16)
    for row in range(height):
        used = [(kind, filters[:, row] == kind) for kind in range(1, 5)]
        used = [(kind, chosen) for kind, chosen in used if chosen.any()]
        for column in range(width):
            corner, up = pixels[row, column], pixels[row, column + 1]
            left = pixels[row + 1, column]
            value = lines[:, row, column].astype(np.int16)
            for kind, chosen in used:
                value += np.where(chosen, _prediction(kind, left, up, corner), 0)
            pixels[row + 1, column + 1] = value & 0xFF
    return np.ascontiguousarray(pixels[1:, 1:].transpose(2, 0, 1).astype(np.uint8))


def _prediction(
    kind: int, left: NDArray[np.int16], up: NDArray[np.int16], corner: NDArray[np.int16]
) -> NDArray[np.int16]:
    """Return what PNG's filter ``kind`` (1 to 4) predicts for a pixel, ``int16 [n]``."""
    if kind == 1:
        return left
    if kind == 2:
        return up
    if kind == 3:
        return (left + up) >> 1
    to_left, to_up = np.abs(up - corner), np.abs(left - corner)
    to_corner = np.abs(left + up - 2 * corner)
    upper = np.where(to_up <= to_corner, up, corner)
    return np.where((to_left <= to_up) & (to_left <= to_corner), left, upper)
