"""TFRecord framing: known checksums, whole files, and every kind of damage."""

import struct
from pathlib import Path

import pytest
from fake_files import tfrecord_bytes

from jaxsnn.data._tfrecord import masked_crc, read_tfrecords


@pytest.mark.parametrize(
    ("content", "crc"),
    # CRC-32C of the usual check string, and the vectors of RFC 3720, B.4
    [(b"123456789", 0xE3069283), (bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43)],
)
def test_checksum_of_known_content(content: bytes, crc: int) -> None:
    rotated = (crc >> 15) | (crc << 17) & 0xFFFFFFFF
    assert masked_crc(content) == (rotated + 0xA282EAD8) % 2**32


def test_yields_the_records_in_order(tmp_path: Path) -> None:
    path = tmp_path / "records"
    records = [b"one", b"", b"three" * 100]
    path.write_bytes(tfrecord_bytes(records))
    assert list(read_tfrecords(path)) == records


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda whole: whole[:-1], "cut short"),
        (lambda whole: whole[:-5], "cut short"),
        (lambda whole: whole[:25], "cut short"),
        (lambda whole: struct.pack("<Q", 4) + whole[8:], "at byte 0 has a damaged length"),
        (lambda whole: whole[:12] + b"O" + whole[13:], "at byte 0 is damaged"),
        (lambda whole: whole[:-1] + b"?", "at byte 19 is damaged"),
    ],
)
def test_refuses_damage(tmp_path: Path, damage, complaint: str) -> None:
    path = tmp_path / "records"
    path.write_bytes(damage(tfrecord_bytes([b"one", b"two"])))
    with pytest.raises(ValueError, match=complaint) as caught:
        list(read_tfrecords(path))
    assert str(path) in str(caught.value)
