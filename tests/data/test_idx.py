"""Four IDX files in a directory: every layout is found, and every damage is refused."""

import gzip
import hashlib
import os
import re
import shutil
import struct
import subprocess
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fake_files import NAMES, idx_bytes

from jaxsnn.data import ImageDataset, fashion_mnist

PATH = os.environ["PATH"]
UNCHECKED = "(unchecked: not those of Fashion-MNIST, and no SHA256SUMS next to them)"


@pytest.fixture(params=[False, True], ids=["plain", "compressed"])
def compressed(request: pytest.FixtureRequest) -> bool:
    return request.param


class TestFiles:
    """Which files of a directory are read."""

    @pytest.mark.parametrize("layout", [".", "raw", "FashionMNIST/raw"])
    def test_every_layout(
        self, tmp_path: Path, write_idx, same, fake: ImageDataset, layout: str, compressed: bool
    ) -> None:
        folder = write_idx(tmp_path / "data" / layout, compressed)
        dataset = fashion_mnist(tmp_path / "data")
        same(dataset, fake)
        assert dataset.source == f"IDX files in {folder} {UNCHECKED}"
        dataset.train_images[0, 0, 0] = 7  # the arrays are the caller's own

    def test_names_with_a_dot(
        self, tmp_path: Path, write_idx, write_sums, same, fake: ImageDataset, compressed: bool
    ) -> None:
        """As many archives and unpackers name them; some of the four, or all."""
        for count in (1, 4):
            folder = write_idx(tmp_path / str(count), compressed)
            for path in sorted(folder.iterdir())[:count]:
                path.rename(folder / path.name.replace("-idx", ".idx"))
            same(fashion_mnist(write_sums(folder)), fake)
            assert len(list(folder.glob("*.idx?-ubyte*"))) == count
        write_idx(folder)  # the hyphen wins
        (folder / NAMES[0].replace("-idx", ".idx")).write_bytes(b"not read")
        same(fashion_mnist(write_sums(folder)), fake)

    def test_plain_files_win_over_compressed_ones(self, tmp_path: Path, write_idx) -> None:
        write_idx(tmp_path)
        for name in NAMES:
            (tmp_path / f"{name}.gz").write_bytes(b"not read")
        fashion_mnist(tmp_path)

    def test_a_complete_folder_wins_over_an_incomplete_one(
        self, tmp_path: Path, write_idx, same, fake: ImageDataset
    ) -> None:
        write_idx(tmp_path / "raw")
        (tmp_path / NAMES[0]).write_bytes(b"not read")
        same(fashion_mnist(tmp_path), fake)

    @pytest.mark.parametrize("name", NAMES)
    def test_a_missing_file_is_named(self, tmp_path: Path, write_idx, name: str) -> None:
        (write_idx(tmp_path / "data") / name).unlink()
        with pytest.raises(FileNotFoundError, match=f"missing {name}; .*data_dir"):
            fashion_mnist(tmp_path / "data")

    def test_what_is_looked_for_and_what_is_there(self, tmp_path: Path) -> None:
        for number in range(6):
            (tmp_path / f"TRAIN-IMAGES.{number}").touch()
        with pytest.raises(FileNotFoundError) as caught:
            fashion_mnist(tmp_path)
        message = str(caught.value)
        assert all(name in message for name in NAMES)
        assert "also with .idx for -idx" in message
        assert (
            "found TRAIN-IMAGES.0, TRAIN-IMAGES.1, TRAIN-IMAGES.2, TRAIN-IMAGES.3, ...;" in message
        )


GOOD = idx_bytes(np.arange(30 * 28 * 28, dtype=np.uint64).reshape(30, 28, 28))


class TestContent:
    """One file must be right from its first byte to its last, and fit its companion."""

    @pytest.mark.parametrize(
        ("content", "complaint"),
        [
            (b"", "begins with 00 00 08 03, found an empty file"),
            (b"<html>", "begins with 00 00 08 03, found 3c 68 74 6d"),
            (bytes((0, 0, 8, 1)) + GOOD[4:], "found 00 00 08 01"),
            (bytes((0, 0, 0x0D, 3)) + GOOD[4:], "found 00 00 0d 03"),
            (GOOD[:10], "header has 16 bytes .* found 00 00 08 03 00 00 00 1e 00 00;"),
            (GOOD[:-1], r"23520 bytes of values for shape \(30, 28, 28\), found 23519"),
            (GOOD + b"\0", r"23520 bytes of values for shape .* found 23521"),
            (GOOD[:4] + bytes(4) + GOOD[8:16], r"shape \(0, 28, 28\), found 0"),
            (GOOD[:4] + struct.pack(">I", 31) + GOOD[8:], "24304 bytes .* found 23520"),
        ],
    )
    def test_of_another_kind(
        self, tmp_path: Path, write_idx, content: bytes, complaint: str, compressed: bool
    ) -> None:
        path = write_idx(tmp_path / "data") / NAMES[0]  # told by its content, not by its name
        path.write_bytes(gzip.compress(content) if compressed else content)
        with pytest.raises(ValueError, match=f"{path}: expected .*{complaint}.*data_dir"):
            fashion_mnist(tmp_path / "data")

    @pytest.mark.parametrize(
        "damage",
        [
            lambda content: content[:-9],
            lambda content: content[: len(content) // 2],
            lambda content: content[:5],
            lambda content: content[:-6] + bytes(6),  # wrong checksum and length
            lambda content: content + b"more",
            lambda content: content[:12] + b"\xff\xff\xff" + content[15:],
        ],
    )
    def test_a_damaged_gzip(self, tmp_path: Path, write_idx, damage) -> None:
        path = write_idx(tmp_path / "data", compressed=True) / f"{NAMES[0]}.gz"
        path.write_bytes(damage(path.read_bytes()))
        with pytest.raises(ValueError, match=re.escape(f"{path}: expected a whole gzip file")):
            fashion_mnist(tmp_path / "data")

    def test_a_gzip_bomb_ends_early(
        self, tmp_path: Path, write_idx, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("jaxsnn.data._idx._MAX_CONTENT", 1_000_000)
        path = write_idx(tmp_path / "data", compressed=True) / f"{NAMES[0]}.gz"
        path.write_bytes(gzip.compress(bytes(30_000_000)))
        tracemalloc.start()
        with pytest.raises(ValueError, match=f"{path}: .* at most 1000000 bytes .*data_dir"):
            fashion_mnist(tmp_path / "data")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 4_000_000  # three times the limit, and not 30 MB

    @pytest.mark.parametrize(
        ("name", "array", "complaint"),
        [
            (NAMES[0], np.zeros((30, 27, 28)), r"expected images of 28x28 pixels, found .*27"),
            (NAMES[2], np.zeros((20, 28, 29)), r"expected images of 28x28 pixels, found .*29"),
            (NAMES[0], np.zeros((29, 28, 28)), "expected 29 labels .* found 30"),
            (NAMES[3], np.zeros(21), "expected 20 labels .* found 21"),
            (NAMES[1], np.full(30, 10), "expected labels from 0 to 9, found 10"),
            (NAMES[3], np.full(20, 255), "expected labels from 0 to 9, found 255"),
            (NAMES[1], np.zeros((30, 28, 28)), "begins with 00 00 08 01"),
        ],
    )
    def test_arrays_that_do_not_fit(
        self, tmp_path: Path, write_idx, name: str, array: np.ndarray, complaint: str
    ) -> None:
        (write_idx(tmp_path / "data") / name).write_bytes(idx_bytes(array))
        with pytest.raises(ValueError, match=complaint) as caught:
            fashion_mnist(tmp_path / "data")
        assert str(tmp_path / "data") in str(caught.value)
        assert name in str(caught.value)


class TestPublished:
    """Files with as many examples as were published must be the published ones."""

    @pytest.mark.parametrize("name", NAMES)
    def test_with_a_changed_value(
        self,
        tmp_path: Path,
        published: None,
        write_idx,
        same,
        fake: ImageDataset,
        compressed: bool,
        name: str,
    ) -> None:
        folder = write_idx(tmp_path / "data", compressed)
        dataset = fashion_mnist(folder)
        same(dataset, fake)
        assert dataset.source == f"IDX files in {folder}"
        content = bytearray(idx_bytes(fake[NAMES.index(name)]))
        right, path = bytes(content), folder / (f"{name}.gz" if compressed else name)
        content[-1] ^= 1
        path.write_bytes(gzip.compress(content) if compressed else content)
        with pytest.raises(ValueError, match="damaged, or another data set") as caught:
            fashion_mnist(folder)
        for words in (
            f"{path}: ",
            hashlib.sha256(right).hexdigest(),
            hashlib.sha256(content).hexdigest(),
            "replace the file",
            "data_dir",
            f"run `sha256sum * > SHA256SUMS` in {folder}",
        ):
            assert words in str(caught.value)

    def test_fewer_examples_are_unchecked(
        self, tmp_path: Path, published: None, write_idx, fake: ImageDataset
    ) -> None:
        folder = write_idx(tmp_path / "data")
        for name, array in zip(NAMES[2:], fake[2:4], strict=True):
            (folder / name).write_bytes(idx_bytes(array[:10]))
        dataset = fashion_mnist(folder)
        assert len(dataset.test_images) == 10
        assert dataset.source.endswith(UNCHECKED)


DIGEST = "0123456789abcdef" * 4


class TestSums:
    """SHA256SUMS next to the files, in the format of the command sha256sum."""

    def test_guard_the_files(
        self, tmp_path: Path, write_idx, write_sums, same, fake: ImageDataset, compressed: bool
    ) -> None:
        folder = write_sums(write_idx(tmp_path / "data", compressed))
        dataset = fashion_mnist(folder)
        same(dataset, fake)
        assert dataset.source == f"IDX files in {folder} (checked with their SHA256SUMS)"
        file = next(folder.glob(f"{NAMES[0]}*"))
        content = bytearray(file.read_bytes())
        content[9 if compressed else -1] ^= 1  # gzip's note of the system, or a pixel
        file.write_bytes(content)
        complaint = rf"{file}: SHA256SUMS has \w+, but the file has SHA-256 \w+; .*data_dir"
        with pytest.raises(ValueError, match=complaint):
            fashion_mnist(folder)

    @pytest.mark.parametrize(
        "change",
        [
            lambda text: text.replace("  ", " *"),
            str.upper,
            lambda text: text.replace("\n", "\r\n"),
            lambda text: f"\n# made by hand\n{text}\n",
            lambda text: 2 * text,
            lambda text: f"{DIGEST}  two words\n\\{DIGEST}  a\\nb\n{DIGEST}  \udcff\x85\n" + text,
        ],
    )
    def test_spellings(self, tmp_path: Path, write_idx, write_sums, change) -> None:
        folder = write_sums(write_idx(tmp_path / "data"))
        digests = re.compile(r"\w{64}(?=  )") if change is str.upper else re.compile("(?s).*")
        text = digests.sub(lambda match: change(match[0]), (folder / "SHA256SUMS").read_text(), 4)
        (folder / "SHA256SUMS").write_bytes(text.encode(errors="surrogateescape"))
        assert fashion_mnist(folder).source.endswith("(checked with their SHA256SUMS)")

    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("nonsense", "'nonsense' in line 1"),
            (f"{DIGEST}  file\n{DIGEST[:-1]}  other\n", "in line 2"),
            (f"{DIGEST} file", "in line 1"),
            (f"{DIGEST}  ", "in line 1"),
            (f"{DIGEST}  file\n{'0' * 64}  file\n", "in line 2"),
        ],
    )
    def test_damaged_lines(self, tmp_path: Path, write_idx, text: str, found: str) -> None:
        sums = write_idx(tmp_path / "data") / "SHA256SUMS"
        sums.write_text(text)
        with pytest.raises(ValueError, match=f"{sums}: expected .*{found}; make .* again"):
            fashion_mnist(tmp_path / "data")

    @pytest.mark.parametrize("name", NAMES)
    def test_every_file_needs_a_line(
        self, tmp_path: Path, write_idx, write_sums, name: str
    ) -> None:
        sums = write_sums(write_idx(tmp_path / "data")) / "SHA256SUMS"
        sums.write_text("".join(x for x in sums.read_text().splitlines(True) if name not in x))
        with pytest.raises(ValueError, match=f"{name}: SHA256SUMS has no line for it.* again with"):
            fashion_mnist(tmp_path / "data")

    def test_are_made_by_the_command_that_the_messages_name(
        self, tmp_path: Path, write_idx, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", PATH)
        if shutil.which("sha256sum") is None:
            pytest.skip("this system has no sha256sum")
        folder = write_idx(tmp_path / "data", compressed=True)
        for command in ("sha256sum * > SHA256SUMS", "sha256sum -b * > SHA256SUMS"):
            for _ in range(2):  # the second time there is one
                subprocess.run(command, shell=True, check=True, cwd=folder)
                assert fashion_mnist(folder).source.endswith("(checked with their SHA256SUMS)")

    def test_admit_another_data_set_of_the_published_size(
        self,
        tmp_path: Path,
        published: None,
        write_idx: Callable[..., Path],
        write_sums,
        same,
        fake: ImageDataset,
    ) -> None:
        folder = write_idx(tmp_path / "data")
        other = fake._replace(train_images=255 - fake.train_images)
        (folder / NAMES[0]).write_bytes(idx_bytes(other.train_images))
        with pytest.raises(ValueError, match="damaged, or another data set"):
            fashion_mnist(folder)
        same(fashion_mnist(write_sums(folder)), other)
