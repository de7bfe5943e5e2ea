"""Where the data set is looked for, in which order, and what is said when it is nowhere."""

import subprocess
import sys
from pathlib import Path

import pytest
from fake_files import NAMES

import jaxsnn
from jaxsnn.data import ImageDataset, _idx, fashion_mnist


def install_package(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    monkeypatch.setattr("jaxsnn.data._fashion_mnist.INSTALLED_IN", directory)


class TestNamedDirectory:
    """`data_dir` is the only place that is looked at."""

    def test_wins_over_everything(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_idx
    ) -> None:
        monkeypatch.setenv("JAXSNN_DATA_DIR", str(write_idx(tmp_path / "variable")))
        named = write_idx(tmp_path / "named")
        assert fashion_mnist(named).source.startswith(f"IDX files in {named} ")
        assert fashion_mnist(str(named)).source.startswith(f"IDX files in {named} ")

    @pytest.mark.parametrize("kind", ["missing", "empty", "other"])
    def test_without_the_data_is_an_error(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_idx, server, kind: str
    ) -> None:
        monkeypatch.setenv("JAXSNN_DATA_DIR", str(write_idx(tmp_path / "variable")))
        named = tmp_path / "named"
        if kind != "missing":
            named.mkdir()
        if kind == "other":
            (named / "notes.txt").write_text("nothing")
        with pytest.raises(FileNotFoundError, match=f"data_dir='{named}'") as caught:
            fashion_mnist(named)
        assert len(caught.value.args) == 1
        assert server.paths == []

    def test_that_is_a_file_is_an_error(self, tmp_path: Path) -> None:
        file = tmp_path / "file"
        file.write_text("nothing")
        with pytest.raises(ValueError, match=f"{file}: expected a directory, found a file"):
            fashion_mnist(file)

    def test_may_begin_with_a_tilde(self, home: Path, write_idx) -> None:
        write_idx(home / "data")
        assert fashion_mnist("~/data").source.startswith(f"IDX files in {home / 'data'} ")

    def test_is_not_written_into(self, prepared: Path, home: Path) -> None:
        named = home / "named"
        (home / ".cache/jaxsnn").rename(named)
        before = sorted(home.rglob("*"))
        fashion_mnist(named)
        assert sorted(home.rglob("*")) == before


class TestVariable:
    """`$JAXSNN_DATA_DIR` is read, or filled when it is missing or empty."""

    @pytest.mark.parametrize("exists", [False, True])
    def test_is_where_a_download_goes(
        self,
        tmp_path: Path,
        home: Path,
        monkeypatch: pytest.MonkeyPatch,
        server,
        same,
        fake: ImageDataset,
        exists: bool,
    ) -> None:
        variable = tmp_path / "some" / "where"
        if exists:
            variable.mkdir(parents=True)
        monkeypatch.setenv("JAXSNN_DATA_DIR", str(variable))
        same(fashion_mnist(), fake)
        again = fashion_mnist(download=False)
        same(again, fake)
        assert again.source == f"TFDS records in {variable}/jaxsnn_fashion_mnist/1.0.0"
        assert [path.name for path in variable.iterdir()] == ["jaxsnn_fashion_mnist"]
        assert list(home.iterdir()) == []

    def test_with_broken_files_is_an_error(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_idx, server
    ) -> None:
        variable = write_idx(tmp_path / "variable")
        monkeypatch.setenv("JAXSNN_DATA_DIR", str(variable))
        (variable / NAMES[0]).write_bytes(b"broken")
        with pytest.raises(ValueError, match=rf"\$JAXSNN_DATA_DIR: {variable}/{NAMES[0]}"):
            fashion_mnist()
        (variable / NAMES[0]).unlink()
        with pytest.raises(OSError, match=rf"\$JAXSNN_DATA_DIR: .*missing {NAMES[0]}"):
            fashion_mnist()
        assert server.paths == []


def test_each_place_in_its_order(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, write_idx, server
) -> None:
    """Add the sources from the last to the first; each one wins over those added before."""
    fashion_mnist()
    assert len(server.paths) == 4
    (home / ".cache").rename(home / "away")

    package = write_idx(tmp_path / "package", compressed=True)
    install_package(monkeypatch, package)
    assert fashion_mnist().source == f"IDX files in {package}"

    (home / "away").rename(home / ".cache")
    assert fashion_mnist().source.startswith(f"TFDS records in {home}/.cache/jaxsnn/")

    monkeypatch.setenv("JAXSNN_DATA_DIR", str(tmp_path / "variable"))  # still empty
    assert fashion_mnist().source.startswith(f"TFDS records in {home}/.cache/jaxsnn/")
    assert not (tmp_path / "variable").exists()

    variable = write_idx(tmp_path / "variable")
    assert fashion_mnist().source == f"IDX files in {variable}"
    assert len(server.paths) == 4


def test_a_damaged_place_nobody_named_is_passed_over_but_mentioned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepared: Path, write_idx
) -> None:
    (file,) = prepared.glob("*-train.*")
    file.write_bytes(b"broken")
    install_package(monkeypatch, write_idx(tmp_path / "package"))
    source = fashion_mnist().source
    assert source.startswith(f"IDX files in {tmp_path / 'package'}; passed over {prepared}: ")
    install_package(monkeypatch, tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=f"  - passed over {prepared}: "):
        fashion_mnist(download=False)


class TestNowhere:
    """One error lists what was tried and the remedies."""

    def test_the_error(self, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("JAXSNN_DATA_DIR", str(tmp_path / "nowhere"))
        with pytest.raises(FileNotFoundError) as caught:
            fashion_mnist()
        (message,) = caught.value.args
        for words in (
            f"  - {tmp_path}/nowhere: nothing there",
            f"  - {home}/.cache/jaxsnn: nothing there",
            f"  - {tmp_path}/not-installed: nothing there",
            "  - official download: http://127.0.0.1:9/",
            "  - distribution's package dataset-fashion-mnist: there is no apt-get",
            "data_dir",
            "JAXSNN_DATA_DIR",
            "apt-get install dataset-fashion-mnist",
            "download=True",
            *NAMES,
        ):
            assert words in message
        assert list((tmp_path / "nowhere").iterdir()) == []

    def test_where_a_download_is_not_allowed(self, home: Path, server) -> None:
        with pytest.raises(FileNotFoundError, match="not allowed"):
            fashion_mnist(download=False)
        assert server.paths == []
        assert list(home.iterdir()) == []

    def test_where_nothing_can_be_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server
    ) -> None:
        (tmp_path / "file").write_text("in the way")
        monkeypatch.setenv("JAXSNN_DATA_DIR", str(tmp_path / "file" / "cache"))
        with pytest.raises(FileNotFoundError, match=r"cannot be written .*set JAXSNN_DATA_DIR"):
            fashion_mnist()
        assert server.paths == []


def test_remains_of_a_killed_process_do_no_harm(
    home: Path, server, write_idx, same, fake: ImageDataset
) -> None:
    remains = write_idx(home / ".cache/jaxsnn/.incomplete-killed")
    (remains / NAMES[0]).write_bytes(b"half")
    same(fashion_mnist(), fake)
    assert len(server.paths) == 4


def test_two_processes_download_at_the_same_time(
    tmp_path: Path, home: Path, server, same, fake: ImageDataset
) -> None:
    """Both have downloaded before one of them renames its result."""
    barrier = tmp_path / "barrier"
    barrier.mkdir()
    program = f"""
import os, time
from pathlib import Path
from jaxsnn.data import _fashion_mnist, _fetch, _idx, _tfds, fashion_mnist

_fetch._OFFICIAL_URL = {server.url!r}
_idx.SHA256.update({dict(_idx.SHA256)!r})
_idx.LENGTHS = (30, 30, 20, 20)
_fashion_mnist.INSTALLED_IN = Path("/nonexistent")
prepare = _tfds.prepare

def prepare_and_wait(*arguments):
    prepared = prepare(*arguments)
    Path({str(barrier)!r}, str(os.getpid())).touch()
    while len(list(Path({str(barrier)!r}).iterdir())) < 2:
        time.sleep(0.01)
    return prepared

_tfds.prepare = prepare_and_wait
print(fashion_mnist().train_labels.tolist())
"""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(jaxsnn.__file__).parents[1],
        )
        for _ in range(2)
    ]
    for process in processes:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        assert output.strip() == str(fake.train_labels.tolist())
    assert [path.name for path in (home / ".cache/jaxsnn").iterdir()] == ["jaxsnn_fashion_mnist"]
    same(fashion_mnist(download=False), fake)
