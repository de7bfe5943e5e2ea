"""SHA256SUMS beside IDX files: what sha256sum writes is understood, anything else is refused."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_files import NAMES, idx_bytes

from jaxsnn.data import ImageDataset, fashion_mnist
from jaxsnn.data._sums import read_sums

DIGEST = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    "line",
    [
        f"{DIGEST}  file",
        f"{DIGEST} *file",
        f"{DIGEST.upper()}  file",
        f"{DIGEST}  file\r\n",
        f"\n# made by hand\n{DIGEST}  file\n\n",
        f"{DIGEST}  file\n{DIGEST}  file",
    ],
)
def test_lines_of_sha256sum(tmp_path: Path, line: str) -> None:
    (tmp_path / "SHA256SUMS").write_bytes(line.encode())
    assert read_sums(tmp_path) == {"file": DIGEST}


def test_other_names_do_no_harm(tmp_path: Path) -> None:
    line = DIGEST.encode() + b"  "
    (tmp_path / "SHA256SUMS").write_bytes(
        line + b"two words\n\\" + line + b"a\\nb\n" + line + b"\xff\x85\n" + line + b"file\n"
    )
    sums = read_sums(tmp_path)
    assert sums is not None
    assert {"two words", "file"} < set(sums)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("nonsense", "in line 1 a SHA-256 .* found 'nonsense'"),
        (f"{DIGEST}  file\n{DIGEST[:-1]}  other\n", "in line 2 a SHA-256"),
        (f"{DIGEST} file", "in line 1 a SHA-256"),
        (f"{DIGEST}  ", "in line 1 a SHA-256"),
        (f"{DIGEST}  file\n{'0' * 64}  file\n", "two lines disagree about file"),
    ],
)
def test_damaged_lines(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "SHA256SUMS").write_text(text)
    with pytest.raises(ValueError, match=f"{tmp_path}/SHA256SUMS: .*{complaint}.*; make it again"):
        read_sums(tmp_path)


@pytest.mark.parametrize("compressed", [False, True])
def test_guard_the_files(
    tmp_path: Path, write_idx, write_sums, same, fake: ImageDataset, compressed: bool
) -> None:
    folder = write_sums(write_idx(tmp_path / "data", compressed))
    dataset = fashion_mnist(folder)
    same(dataset, fake)
    assert dataset.source == f"IDX files in {folder} (checked with their SHA256SUMS)"
    file = next(folder.glob(f"{NAMES[0]}*"))
    content = bytearray(file.read_bytes())
    content[9 if compressed else -1] ^= 1  # gzip's note of the system, or a pixel
    file.write_bytes(content)
    complaint = rf"{file}: expected the SHA-256 \w+ that SHA256SUMS has, found \w+; .*data_dir"
    with pytest.raises(ValueError, match=complaint):
        fashion_mnist(folder)


@pytest.mark.parametrize("name", NAMES)
def test_every_file_needs_a_line(tmp_path: Path, write_idx, write_sums, name: str) -> None:
    sums = write_sums(write_idx(tmp_path / "data")) / "SHA256SUMS"
    sums.write_text("".join(x for x in sums.read_text().splitlines(True) if name not in x))
    with pytest.raises(ValueError, match=f"{sums}: has no line for {name}; make it again"):
        fashion_mnist(tmp_path / "data")


def test_are_made_by_the_command_that_the_messages_name(tmp_path: Path, write_idx) -> None:
    if shutil.which("sha256sum") is None:
        pytest.skip("this system has no sha256sum")
    folder = write_idx(tmp_path / "data", compressed=True)
    for _ in range(2):
        subprocess.run("sha256sum * > SHA256SUMS", shell=True, check=True, cwd=folder)
        assert fashion_mnist(folder).source.endswith("(checked with their SHA256SUMS)")
    subprocess.run("sha256sum -b * > SHA256SUMS", shell=True, check=True, cwd=folder)
    assert fashion_mnist(folder).source.endswith("(checked with their SHA256SUMS)")


def test_admit_another_data_set_of_the_published_size(
    tmp_path: Path,
    published: None,
    write_idx: Callable[..., Path],
    write_sums,
    same,
    fake: ImageDataset,
) -> None:
    folder = write_idx(tmp_path / "data")
    assert fashion_mnist(folder).source == f"IDX files in {folder}"
    other = fake._replace(train_images=255 - fake.train_images)
    (folder / NAMES[0]).write_bytes(idx_bytes(other.train_images))
    with pytest.raises(ValueError, match="damaged, or another data set"):
        fashion_mnist(folder)
    same(fashion_mnist(write_sums(folder)), other)
