"""Damaged files: every seeded mutation ends in the right arrays or in an error with the path.

`JAXSNN_MUTATIONS=1000 python -m pytest -rP tests/data/test_damage.py` tries more of them and prints
how many ended how.
"""

import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import jaxsnn.data._mini as mini_module
from jaxsnn import export, nn
from jaxsnn.data import ImageDataset, fashion_mnist, fashion_mnist_mini

MUTATIONS = int(os.environ.get("JAXSNN_MUTATIONS", "8"))  # of each kind of directory

KINDS = ("flip", "overwrite", "digit", "truncate", "extend", "zero", "empty", "delete", "swap")


def damage(rng: np.random.Generator, files: list[Path]) -> str:
    """Damage one of the files, or swap the content of two, and return in words what was done."""
    path, kind = files[rng.integers(len(files))], str(rng.choice(KINDS))
    content = bytearray(path.read_bytes())
    # half of the places lie near an end, where formats have their headers and tables
    near = min(len(content), 400)
    place = int(rng.choice([rng.integers(len(content)), rng.integers(near), -rng.integers(near)]))
    place %= len(content)
    if kind == "flip":
        content[place] ^= 1 << int(rng.integers(8))
    elif kind == "overwrite":
        content[place] = int(rng.integers(256))
    elif kind == "digit":  # texts give numbers in digits
        digits = [place for place, byte in enumerate(content) if chr(byte).isdigit()] or [place]
        place = digits[rng.integers(len(digits))]
        content[place] = rng.choice(list(b"0123456789"))
    elif kind == "truncate":
        del content[place:]
    elif kind == "extend":
        content += rng.bytes(int(rng.integers(1, 100)))
    elif kind == "zero":
        content[place : place + 64] = bytes(len(content[place : place + 64]))
    elif kind == "empty":
        content.clear()
    elif kind == "swap":
        other = files[rng.integers(len(files))]
        path.write_bytes(other.read_bytes())
        other.write_bytes(content)
        return f"{path.name} and {other.name} swapped"
    if kind == "delete":
        path.unlink()
    else:
        path.write_bytes(content)
    return f"{kind} {path.name} at byte {place}"


class Trial:
    """Damages files again and again, reads each time, and puts everything back."""

    def __init__(self, same: Callable[[ImageDataset, ImageDataset], None]) -> None:
        self.same = same

    def __call__(
        self,
        files: list[Path],
        read: Callable[[], ImageDataset],
        path: Path,
    ) -> Counter[str]:
        """Return how many ended how.

        Args:
            files: what is damaged.
            read: what reads it.
            path: what the message of an error must contain.
        """
        expected, originals = read(), {file: file.read_bytes() for file in files}
        ends: Counter[str] = Counter()
        faults: list[str] = []
        for number in range(MUTATIONS):
            rng = np.random.default_rng([0, number])
            what = f"mutation {number}, {damage(rng, files)}"
            try:
                self.same(read(), expected)
                ends["right arrays"] += 1
            except AssertionError:
                faults.append(f"{what}: wrong arrays")
            except (ValueError, OSError) as error:
                ends[type(error).__name__] += 1
                if str(path) not in str(error):
                    faults.append(f"{what}: {error!r}")
            except Exception as error:
                faults.append(f"{what}: {error!r}")
            for file, content in originals.items():
                file.write_bytes(content)
        print(dict(ends))
        assert not faults, f"{len(faults)} of {MUTATIONS}:\n" + "\n".join(faults)
        return ends


@pytest.fixture
def trial(same) -> Trial:
    return Trial(same)


@pytest.mark.parametrize("compressed", [False, True])
def test_idx_of_the_published_size(
    tmp_path: Path, write_idx, published: None, trial: Trial, compressed: bool
) -> None:
    directory = write_idx(tmp_path / "data", compressed)
    trial(sorted(directory.iterdir()), lambda: fashion_mnist(directory), directory)


@pytest.mark.parametrize("compressed", [False, True])
def test_idx_with_sums(
    tmp_path: Path, write_idx, write_sums, trial: Trial, compressed: bool
) -> None:
    directory = write_sums(write_idx(tmp_path / "data", compressed))
    trial(sorted(directory.iterdir()), lambda: fashion_mnist(directory), directory)


def test_prepared(prepared: Path, trial: Trial) -> None:
    trial(sorted(prepared.iterdir()), lambda: fashion_mnist(prepared), prepared)


def test_mini(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trial: Trial) -> None:
    file = shutil.copy(mini_module._FILE, tmp_path / "mini.npz")
    monkeypatch.setattr(mini_module, "_FILE", file)
    trial([file], fashion_mnist_mini, file)


def test_exported_network(tmp_path: Path) -> None:
    def same(network: export.Network, expected: export.Network) -> None:
        assert network.metadata == expected.metadata
        programs, others = network.programs, expected.programs
        assert programs.keys() == others.keys()
        for name in programs:
            program, other = programs[name], others[name]
            assert program.mlir_module_serialized == other.mlir_module_serialized
            assert str(program.in_avals) == str(other.in_avals)
            assert str(program.out_avals) == str(other.out_avals)

    path = tmp_path / "net.zip"
    export.save(path, nn.IFNode(), ("b", 3))
    Trial(same)([path], lambda: export.load(path), path)
