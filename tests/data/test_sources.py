"""Where the data set is looked for, in which order, and what is said when it is nowhere."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fake_files import NAMES

import jaxsnn.data._acquire as acquire_module
import jaxsnn.data._fashion_mnist as fashion_mnist_module
from jaxsnn.data import ImageDataset, fashion_mnist
from jaxsnn.data._builder import prepare


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch, write_idx) -> list[Path]:
    """Make the official download deliver the fake files; return where it put them."""
    calls: list[Path] = []

    def deliver(directory: Path) -> None:
        calls.append(directory)
        write_idx(directory, compressed=True)

    monkeypatch.setattr(acquire_module, "download_official", deliver)
    return calls


def _install_package(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    monkeypatch.setattr(fashion_mnist_module, "_DEBIAN_DIRECTORY", directory)


class TestNamedDirectory:
    """``data_dir`` is the only place that is looked at."""

    def test_wins_over_everything(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_idx
    ) -> None:
        monkeypatch.setenv("JAXSNN_DATA_DIR", str(write_idx(tmp_path / "variable")))
        named = write_idx(tmp_path / "named")
        assert fashion_mnist(named).source.startswith(f"IDX files in {named} (unchecked: ")
        assert fashion_mnist(str(named)).source.startswith(f"IDX files in {named} (unchecked: ")

    @pytest.mark.parametrize("kind", ["missing", "empty", "other"])
    def test_without_the_data_is_an_error(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_idx, downloads, kind: str
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
        assert downloads == []

    def test_that_is_a_file_is_an_error(self, tmp_path: Path) -> None:
        file = tmp_path / "file"
        file.write_text("nothing")
        with pytest.raises(ValueError, match=f"{file}: expected a directory, found a file"):
            fashion_mnist(file)

    def test_may_begin_with_a_tilde(self, home: Path, write_idx) -> None:
        write_idx(home / "data")
        assert fashion_mnist("~/data").source.startswith(
            f"IDX files in {home / 'data'} (unchecked: "
        )


class TestVariable:
    """``$JAXSNN_DATA_DIR`` is read, or filled when it is missing or empty."""

    def test_wins_over_the_rest(
        self, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, write_idx
    ) -> None:
        write_idx(home / ".cache/jaxsnn")
        variable = write_idx(tmp_path / "variable")
        monkeypatch.setenv("JAXSNN_DATA_DIR", str(variable))
        assert fashion_mnist().source.startswith(f"IDX files in {variable} (unchecked: ")

    @pytest.mark.parametrize("exists", [False, True])
    def test_is_where_a_download_goes(
        self,
        tmp_path: Path,
        home: Path,
        monkeypatch: pytest.MonkeyPatch,
        downloads: list[Path],
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
        assert sorted(path.name for path in variable.iterdir()) == [
            "arrays",
            "jaxsnn_fashion_mnist",
        ]
        assert list(home.iterdir()) == []  # the decoded arrays are there as well

    def test_with_a_prepared_data_set_of_the_user_is_not_written_to(
        self, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, write_idx
    ) -> None:
        version = prepare(write_idx(tmp_path / "idx"), tmp_path / "prepared")
        monkeypatch.setenv("JAXSNN_DATA_DIR", str(version))
        before = sorted(version.rglob("*"))
        fashion_mnist()
        assert sorted(version.rglob("*")) == before
        assert (home / ".cache/jaxsnn/arrays").is_dir()

    def test_that_is_empty_leaves_the_other_sources(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_idx, downloads
    ) -> None:
        monkeypatch.setenv("JAXSNN_DATA_DIR", str(tmp_path / "nowhere"))
        package = write_idx(tmp_path / "package")
        _install_package(monkeypatch, package)
        assert fashion_mnist().source.startswith(f"IDX files in {package} (unchecked: ")
        assert downloads == []
        assert not (tmp_path / "nowhere").exists()

    def test_with_broken_files_is_an_error(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_idx, downloads
    ) -> None:
        variable = write_idx(tmp_path / "variable")
        monkeypatch.setenv("JAXSNN_DATA_DIR", str(variable))
        (variable / NAMES[0]).write_bytes(b"broken")
        with pytest.raises(ValueError, match=rf"\$JAXSNN_DATA_DIR: {variable}/{NAMES[0]}"):
            fashion_mnist()
        (variable / NAMES[0]).unlink()
        with pytest.raises(FileNotFoundError, match=rf"\$JAXSNN_DATA_DIR: .*missing {NAMES[0]}"):
            fashion_mnist()
        assert downloads == []


def test_each_place_in_its_order(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, write_idx, downloads
) -> None:
    """Add the sources from the last to the first; each one wins over those added before."""
    fashion_mnist()
    assert len(downloads) == 1
    (home / ".cache").rename(home / "away")

    package = write_idx(tmp_path / "package", compressed=True)
    _install_package(monkeypatch, package)
    assert fashion_mnist().source.startswith(f"IDX files in {package} (unchecked: ")

    default = prepare(package, home / "tensorflow_datasets")
    assert fashion_mnist().source == f"TFDS records in {default}"

    elsewhere = prepare(package, tmp_path / "elsewhere")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "elsewhere"))
    assert fashion_mnist().source == f"TFDS records in {elsewhere}"

    cache = write_idx(home / ".cache/jaxsnn")
    assert fashion_mnist().source.startswith(f"IDX files in {cache} (unchecked: ")

    variable = write_idx(tmp_path / "variable")
    monkeypatch.setenv("JAXSNN_DATA_DIR", str(variable))
    assert fashion_mnist().source.startswith(f"IDX files in {variable} (unchecked: ")
    assert len(downloads) == 1


def test_a_damaged_place_nobody_named_is_passed_over_but_mentioned(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, write_idx
) -> None:
    broken = home / "tensorflow_datasets/fashion_mnist/3.0.1"
    broken.mkdir(parents=True)
    (broken / "dataset_info.json").write_text("{")
    _install_package(monkeypatch, write_idx(tmp_path / "package"))
    source = fashion_mnist().source
    assert source.startswith(f"IDX files in {tmp_path / 'package'} (unchecked: ")
    assert "; passed over " in source
    assert str(broken) in source


class TestDownload:
    """A download becomes a prepared data set in the cache, whole or not at all."""

    def test_is_cached(self, home: Path, downloads: list[Path], same, fake: ImageDataset) -> None:
        first = fashion_mnist()
        same(first, fake)
        assert first.source.endswith("made from: official download")
        second = fashion_mnist()
        same(second, fake)
        assert len(downloads) == 1
        assert not downloads[0].exists()
        cache = home / ".cache/jaxsnn"
        assert sorted(path.name for path in cache.iterdir()) == ["arrays", "jaxsnn_fashion_mnist"]

    def test_falls_back_to_the_package_and_says_so(
        self, monkeypatch: pytest.MonkeyPatch, write_idx, same, fake: ImageDataset
    ) -> None:
        monkeypatch.setattr(
            acquire_module,
            "fetch_debian_package",
            lambda directory: write_idx(directory, compressed=True),
        )
        dataset = fashion_mnist()
        same(dataset, fake)
        assert "distribution's package dataset-fashion-mnist" in dataset.source
        assert "official download: no network in this test" in dataset.source

    def test_not_allowed(self, downloads: list[Path]) -> None:
        with pytest.raises(FileNotFoundError, match="not allowed"):
            fashion_mnist(download=False)
        assert downloads == []

    def test_one_error_lists_what_was_tried_and_the_ways_out(
        self, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("JAXSNN_DATA_DIR", str(tmp_path / "nowhere"))
        with pytest.raises(FileNotFoundError) as caught:
            fashion_mnist()
        (message,) = caught.value.args
        for words in (
            f"$JAXSNN_DATA_DIR {tmp_path}/nowhere: nothing there",
            f"{home}/.cache/jaxsnn: nothing there",
            f"{home}/tensorflow_datasets/fashion_mnist: nothing there",
            f"{tmp_path}/not-installed: nothing there",
            "official download: no network in this test",
            "package dataset-fashion-mnist: no package in this test",
            "data_dir",
            "apt-get install dataset-fashion-mnist",
            "download=True",
        ):
            assert words in message
        assert list((tmp_path / "nowhere").iterdir()) == []

    def test_into_a_place_that_cannot_be_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, downloads: list[Path]
    ) -> None:
        (tmp_path / "file").write_text("in the way")
        monkeypatch.setenv("JAXSNN_DATA_DIR", str(tmp_path / "file" / "cache"))
        with pytest.raises(FileNotFoundError, match=r"cannot be written .*set JAXSNN_DATA_DIR"):
            fashion_mnist()
        assert downloads == []

    @pytest.mark.parametrize("moment", ["download", "prepare"])
    def test_an_interruption_leaves_the_cache_clean(
        self, home: Path, monkeypatch: pytest.MonkeyPatch, write_idx, moment: str
    ) -> None:
        def stop(*arguments: object) -> None:
            raise KeyboardInterrupt

        def interrupted(directory: Path) -> None:
            write_idx(directory, compressed=True)
            if moment == "download":
                stop()

        monkeypatch.setattr(acquire_module, "download_official", interrupted)
        monkeypatch.setattr("jaxsnn.data._builder.prepare", stop)
        with pytest.raises(KeyboardInterrupt):
            fashion_mnist()
        assert list((home / ".cache/jaxsnn").iterdir()) == []

    def test_remains_of_a_killed_process_do_no_harm(
        self, home: Path, downloads: list[Path], write_idx, same, fake: ImageDataset
    ) -> None:
        remains = write_idx(home / ".cache/jaxsnn/.incomplete-killed/0")
        (remains / NAMES[0]).write_bytes(b"half")
        same(fashion_mnist(), fake)
        assert len(downloads) == 1


def test_two_processes_download_at_the_same_time(
    tmp_path: Path, home: Path, write_idx, same, fake: ImageDataset
) -> None:
    idx, barrier = write_idx(tmp_path / "idx"), tmp_path / "barrier"
    barrier.mkdir()
    program = f"""
import os, shutil, time
from pathlib import Path
import jaxsnn.data._acquire as acquire_module, jaxsnn.data._fashion_mnist as module
import jaxsnn.data._builder

def deliver(directory):
    shutil.copytree({str(idx)!r}, directory, dirs_exist_ok=True)
    Path({str(barrier)!r}, str(os.getpid())).touch()
    while len(list(Path({str(barrier)!r}).iterdir())) < 2:
        time.sleep(0.01)

acquire_module.download_official = deliver
module._DEBIAN_DIRECTORY = Path("/nonexistent")
dataset = module.fashion_mnist()
print(dataset.train_labels.tolist())
"""
    root = str(Path(fashion_mnist_module.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment
        )
        for _ in range(2)
    ]
    for process in processes:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        assert output.strip() == str(fake.train_labels.tolist())
    cache = home / ".cache/jaxsnn"
    assert sorted(path.name for path in cache.iterdir()) == ["arrays", "jaxsnn_fashion_mnist"]
    same(fashion_mnist(download=False), fake)
