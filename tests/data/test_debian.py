"""The distribution's package: stand-ins for apt's tools, and the real ones where they are."""

import gzip
import hashlib
import io
import os
import platform
import shutil
import tarfile
from pathlib import Path

import pytest
from fake_files import NAMES

from jaxsnn.data import _debian, fashion_mnist
from jaxsnn.data._debian import fetch_debian_package
from jaxsnn.data._published import SHA256

CONTENT = {name: f"content of {name}".encode() for name in NAMES}

APT_GET = """#!/bin/sh
echo "apt-get $@" >> "{log}"
for word; do last=$word; done
case "$last" in
  update) {update} ;;
  *) {download} ;;
esac
"""
DPKG_DEB = """#!/bin/sh
echo "dpkg-deb $@" >> "{log}"
mkdir -p "$3/usr/share/datasets" && cp -r "{payload}" "$3/usr/share/datasets/fashion-mnist"
{unpack}
"""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that installs the stand-ins and returns the log of their commands."""
    monkeypatch.setattr(
        platform, "freedesktop_os_release", lambda: {"ID": "debian", "NAME": "Debian"}
    )
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENT.items()}
    monkeypatch.setattr(_debian, "SHA256", digests)

    def install(
        update: str = "true",
        download: str = "touch dataset-fashion-mnist_1_all.deb",
        unpack: str = "",
    ) -> Path:
        log, payload, binaries = tmp_path / "log", tmp_path / "payload", tmp_path / "bin"
        payload.mkdir()
        binaries.mkdir()
        for name, content in CONTENT.items():
            (payload / f"{name}.gz").write_bytes(gzip.compress(content))
        scripts = {
            "apt-get": APT_GET.format(log=log, update=update, download=download),
            "dpkg-deb": DPKG_DEB.format(log=log, payload=payload, unpack=unpack),
        }
        for name, text in scripts.items():
            (binaries / name).write_text(text)
            (binaries / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{binaries}:{os.environ['PATH']}")
        return log

    return install


def _target(tmp_path: Path) -> Path:
    target = tmp_path / "cache with a space"
    target.mkdir()
    return target


def test_keeps_the_four_files_and_nothing_else(tmp_path: Path, tools) -> None:
    log = tools()
    target = _target(tmp_path)
    fetch_debian_package(target)
    assert sorted(path.name for path in target.iterdir()) == sorted(f"{n}.gz" for n in NAMES)
    for name, content in CONTENT.items():
        assert gzip.decompress((target / f"{name}.gz").read_bytes()) == content
    update, download, unpack = log.read_text().splitlines()
    assert update.endswith(" update")
    assert download.endswith(" download dataset-fashion-mnist")
    assert unpack.startswith("dpkg-deb -x ")
    for command in (update, download):  # private directories, and no host of its own
        assert f"Dir::State::lists={target}/" in command
        assert f"Dir::Cache::archives={target}/" in command
        assert "://" not in command


@pytest.mark.parametrize(("user", "unsandboxed"), [(0, True), (1000, False)])
def test_only_root_turns_the_download_account_off(
    tmp_path: Path, tools, monkeypatch: pytest.MonkeyPatch, user: int, unsandboxed: bool
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    log = tools()
    fetch_debian_package(_target(tmp_path))
    assert ("APT::Sandbox::User=root" in log.read_text()) == unsandboxed


def test_a_failed_update_does_not_matter_when_the_download_works(tmp_path: Path, tools) -> None:
    tools(update="exit 100")
    fetch_debian_package(_target(tmp_path))


@pytest.mark.parametrize(
    ("faults", "complaint"),
    [
        (
            {"update": "echo W: no mirror", "download": "echo E: no such package; exit 100"},
            r"apt-get update: W: no mirror; apt-get download: E: no such package",
        ),
        ({"download": "exit 3"}, "apt-get download: it ended with status 3"),
        ({"download": "true"}, "could not be downloaded"),
        ({"unpack": "echo dpkg-deb: error: no archive; exit 2"}, "unpacked .dpkg-deb: error"),
        (
            {"unpack": 'rm "$3"/usr/share/datasets/fashion-mnist/t10k-labels*'},
            "has no file .*t10k-",
        ),
    ],
)
def test_failures_say_why(tmp_path: Path, tools, faults: dict[str, str], complaint: str) -> None:
    tools(**faults)
    with pytest.raises(OSError, match=complaint):
        fetch_debian_package(_target(tmp_path))


def _deb(path: Path, members: list[tuple[str, bytes, str]]) -> Path:
    """Write a Debian package: an ``ar`` archive of two ``tar`` archives.

    Args:
        path: where it goes.
        members: of each its name, content and, when it is a symbolic link, where that leads.
    """

    def tar(members: list[tuple[str, bytes, str]]) -> bytes:
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w:gz") as archive:
            for name, content, link in members:
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                if link:
                    entry.type, entry.linkname = tarfile.SYMTYPE, link
                archive.addfile(entry, io.BytesIO(content))
        return file.getvalue()

    control = "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x <x@x>\nDescription: x\n"
    whole = b"!<arch>\n"
    for name, content in (
        ("debian-binary", b"2.0\n"),
        ("control.tar.gz", tar([("./control", control.encode(), "")])),
        ("data.tar.gz", tar(members)),
    ):
        whole += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
        whole += content + b"\n" * (len(content) % 2)
    path.write_bytes(whole)
    return path


FOLDER = "./usr/share/datasets/fashion-mnist"
FILES = [(f"{FOLDER}/{name}.gz", gzip.compress(content), "") for name, content in CONTENT.items()]


@pytest.mark.parametrize(
    ("members", "complaint"),
    [
        (FILES, None),
        ([*FILES[:3], (FILES[3][0], b"", "{outside}/file.gz")], "has a link for .*t10k-labels"),
        ([(FOLDER, b"", "{outside}")], "has a link for .*train-images"),
        ([(FOLDER, b"", "{outside}"), *FILES], "has a link|could not be unpacked"),
        ([*FILES, ("../../../../escaped", b"content", "")], "could not be unpacked"),
        ([(FOLDER, b"", "/dev")], "has no file"),
    ],
)
def test_members_of_the_package_lead_nowhere_else(
    tmp_path: Path, tools, members: list[tuple[str, bytes, str]], complaint: str | None
) -> None:
    if shutil.which("dpkg-deb") is None:
        pytest.skip("this system has no dpkg-deb")
    outside = tmp_path / "outside"
    outside.mkdir()
    for name, content in CONTENT.items():  # which are right, but are not the package's
        (outside / f"{name}.gz").write_bytes(gzip.compress(content))
    shutil.copy(outside / f"{NAMES[3]}.gz", outside / "file.gz")
    members = [(name, content, link.format(outside=outside)) for name, content, link in members]
    package = _deb(tmp_path / "dataset-fashion-mnist_1_all.deb", members)
    before = sorted(tmp_path.rglob("*")), [file.read_bytes() for file in outside.iterdir()]

    tools(download=f"cp {package} .")
    (tmp_path / "bin" / "dpkg-deb").unlink()  # the real one
    target = _target(tmp_path)
    if complaint is None:
        fetch_debian_package(target)
        assert sorted(path.name for path in target.iterdir()) == sorted(f"{n}.gz" for n in NAMES)
        return
    with pytest.raises(OSError, match=complaint):
        fetch_debian_package(target)
    for place in ("bin", "payload", "log", target.name):
        path = tmp_path / place
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert before == (
        sorted(tmp_path.rglob("*")),
        [file.read_bytes() for file in outside.iterdir()],
    )


def test_other_bytes_are_refused(tmp_path: Path, tools, monkeypatch: pytest.MonkeyPatch) -> None:
    tools()
    monkeypatch.setattr(_debian, "SHA256", SHA256)
    target = _target(tmp_path)
    with pytest.raises(ValueError, match="expected SHA-256"):
        fetch_debian_package(target)
    assert not list(target.glob("*.gz"))


def test_a_command_that_hangs_is_ended(
    tmp_path: Path, tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools(update="exec sleep 30")
    monkeypatch.setattr(_debian, "_TIMEOUT", 0.2)
    with pytest.raises(OSError, match="apt-get did not end within"):
        fetch_debian_package(_target(tmp_path))


def test_other_systems_are_told_so(tmp_path: Path, tools, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tools()
    release = {"ID": "fedora", "ID_LIKE": "rhel", "NAME": "Fedora Linux"}
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: release)
    with pytest.raises(OSError, match="the system is Fedora Linux, not Debian or Ubuntu"):
        fetch_debian_package(tmp_path)

    def unknown() -> None:
        raise FileNotFoundError("no os-release")

    monkeypatch.setattr(platform, "freedesktop_os_release", unknown)
    with pytest.raises(OSError, match="the system is not Debian or Ubuntu"):
        fetch_debian_package(tmp_path)
    assert not log.exists()


def test_derivatives_count_and_missing_tools_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = {"ID": "linuxmint", "ID_LIKE": "ubuntu debian", "NAME": "Linux Mint"}
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: release)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OSError, match="there is no apt-get on this system"):
        fetch_debian_package(tmp_path)


@pytest.mark.slow
def test_the_real_package_ends_as_the_whole_data_set(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an empty machine, the package becomes TFDS records and then the published arrays."""
    if shutil.which("apt-get") is None:
        pytest.skip("this system has no apt-get")
    probe = tmp_path / "probe"
    probe.mkdir()
    try:
        fetch_debian_package(probe)
    except OSError as error:
        pytest.skip(f"the package cannot be fetched here: {error}")

    def copy(directory: Path) -> None:
        for file in probe.iterdir():
            shutil.copy(file, directory)

    monkeypatch.setattr("jaxsnn.data._acquire.fetch_debian_package", copy)
    dataset = fashion_mnist()
    assert "distribution's package" in dataset.source
    for array, name in zip(
        (dataset.train_images, dataset.train_labels, dataset.test_images, dataset.test_labels),
        NAMES,
        strict=True,
    ):
        header = 4 + 4 * array.ndim
        content = gzip.decompress((probe / f"{name}.gz").read_bytes())
        assert array.astype("uint8").tobytes() == content[header:]
    assert dataset.train_images.shape == (60000, 28, 28)
    assert dataset.test_images.shape == (10000, 28, 28)
    again = fashion_mnist()
    assert again.source == f"TFDS records in {home}/.cache/jaxsnn/jaxsnn_fashion_mnist/1.0.0"
