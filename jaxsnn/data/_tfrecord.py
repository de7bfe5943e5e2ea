"""Reading the records of one TFRecord file without TensorFlow.

A record is its length (64-bit, little-endian), a checksum of that, the bytes, and a checksum of
those. The checksums are CRC-32C, stored rotated and shifted by a constant.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

_MASK = 0xA282EAD8


def _crc_table() -> list[int]:
    """Return CRC-32C's table: the remainder that each byte leaves."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _crc_table()


def masked_crc(content: bytes) -> int:
    """Return the checksum that TFRecord files store for these bytes."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF


def read_tfrecords(path: Path) -> Iterator[bytes]:
    """Yield each record's bytes, in the file's order.

    Args:
        path: an uncompressed TFRecord file.

    Raises:
        ValueError: a checksum is wrong or the file is cut short.
        OSError: the file cannot be read.
    """
    content = path.read_bytes()
    position = 0
    while position < len(content):
        header = content[position : position + 12]
        if len(header) < 12:
            raise ValueError(f"{path}: the last record is cut short")
        length, length_crc = struct.unpack("<QI", header)
        if length_crc != masked_crc(header[:8]):
            raise ValueError(f"{path}: the record at byte {position} has a damaged length")
        position += 12
        record = content[position : position + length]
        footer = content[position + length : position + length + 4]
        if len(footer) < 4:
            raise ValueError(f"{path}: the last record is cut short")
        if int.from_bytes(footer, "little") != masked_crc(record):
            raise ValueError(f"{path}: the record at byte {position - 12} is damaged")
        yield record
        position += length + 4
