"""The PNG decoder against an encoder written from the format's definition, pixel by pixel."""

import struct
import zlib

import numpy as np
import pytest
from data.fake_files import encode_png

from jaxsnn.data._png import decode_grey_pngs


@pytest.mark.parametrize("kind", [0, 1, 2, 3, 4, "mixed"])
def test_undoes_every_filter(kind: int | str) -> None:
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (40, 7, 9), dtype=np.uint8)
    images[:10] //= 64  # small values, so that predictions tie
    filters = rng.integers(0, 5, (40, 7)) if kind == "mixed" else np.full((40, 7), kind)
    files = [encode_png(image, used) for image, used in zip(images, filters, strict=True)]
    decoded = decode_grey_pngs(files, 7, 9)
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, images)


def test_joins_split_data_and_skips_other_chunks() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    file = encode_png(image, np.array([1, 2, 4]), pieces=3, extra=True)
    np.testing.assert_array_equal(decode_grey_pngs([file], 3, 4)[0], image)


GOOD = encode_png(np.arange(12, dtype=np.uint8).reshape(3, 4), np.zeros(3, int))


def _chunk(kind: bytes, data: bytes) -> bytes:
    crc = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def _replace(kind: bytes, data: bytes) -> bytes:
    """Return the good file with one chunk's data replaced and its checksum right."""
    start = GOOD.index(kind) - 4
    (length,) = struct.unpack_from(">I", GOOD, start)
    return GOOD[:start] + _chunk(kind, data) + GOOD[start + 12 + length :]


@pytest.mark.parametrize(
    ("file", "complaint"),
    [
        (b"GIF89a", "expected a PNG image"),
        (GOOD[:-12], "cut short"),
        (GOOD[:-20], "damaged or cut short"),
        (GOOD[:45] + bytes([GOOD[45] ^ 1]) + GOOD[46:], "damaged"),
        (_replace(b"IHDR", struct.pack(">II", 4, 4) + bytes((8, 0, 0, 0, 0))), "3x4 pixels"),
        (_replace(b"IHDR", struct.pack(">II", 4, 3) + bytes((8, 2, 0, 0, 0))), "8-bit grey"),
        (_replace(b"IHDR", struct.pack(">II", 4, 3) + bytes((8, 0, 0, 0, 1))), "8-bit grey"),
        (_replace(b"IDAT", b"\0\0\0"), "damaged"),
        (_replace(b"IDAT", zlib.compress(bytes(14))), "expected 15 bytes in a PNG, found 14"),
        (_replace(b"IDAT", zlib.compress(b"\5" + bytes(14))), "filters 0 to 4, found 5"),
    ],
)
def test_refuses_other_files(file: bytes, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        decode_grey_pngs([GOOD, file], 3, 4)
