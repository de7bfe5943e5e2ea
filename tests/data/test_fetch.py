"""Downloading from a server on this machine that fails in every way, and the Debian package."""

import contextlib
import gzip
import io
import os
import shutil
import socket
import tarfile
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from fake_files import NAMES

from jaxsnn.data import ImageDataset, _fetch, fashion_mnist

PATH = os.environ["PATH"]
FIRST = f"/{NAMES[0]}.gz"

Answer = Callable[[BaseHTTPRequestHandler, bytes], None]


def announce(handler: BaseHTTPRequestHandler, length: int | None) -> None:
    handler.send_response(200)
    if length is not None:
        handler.send_header("Content-Length", str(length))
    handler.end_headers()


def unannounced(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    """Answer without saying how long the file is."""
    announce(handler, None)
    handler.wfile.write(body)


def cut_midway(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    announce(handler, len(body))
    handler.wfile.write(body[: len(body) // 2])


def cut_unannounced(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    unannounced(handler, body[: len(body) // 2])


def cut_at_once(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)


def different_bytes(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    unannounced(handler, gzip.compress(b"something else"))


def not_found(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    handler.send_error(404)


def overloaded(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    handler.send_error(503)


def endless(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    """Announce more than there may be, and send for long."""
    announce(handler, 10**15)
    with contextlib.suppress(ConnectionError):
        for _ in range(30):
            handler.wfile.write(bytes(1_000_000))


def bomb(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    """Send a small file that becomes a large one."""
    unannounced(handler, gzip.compress(bytes(10_000_000)))


def silent(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    """Send half of the file and then nothing for longer than the time-out."""
    cut_midway(handler, body)
    handler.wfile.flush()
    time.sleep(1.0)


def is_clean(home: Path) -> bool:
    """Tell whether nothing is in the cache."""
    return list((home / ".cache/jaxsnn").iterdir()) == []


class TestDownload:
    """Complete and checked, or not at all."""

    def test_the_settings_fail_fast(self) -> None:
        assert _fetch._TIMEOUT <= 10
        assert sum(_fetch._PAUSES) <= 10
        assert 26_421_880 < _fetch._MAX_SIZE <= 2**26  # bytes of the largest file

    @pytest.mark.parametrize(
        "failure",
        [None, cut_midway, cut_unannounced, cut_at_once, different_bytes, overloaded, silent],
    )
    def test_failures_on_the_way_are_tried_again(
        self, server, home: Path, same, fake: ImageDataset, failure: Answer | None
    ) -> None:
        server.answers = [failure, failure, unannounced] if failure else []
        dataset = fashion_mnist()
        same(dataset, fake)
        assert dataset.source.endswith("made from: official download")
        assert server.paths == 2 * bool(failure) * [FIRST] + [f"/{name}.gz" for name in NAMES]
        assert [path.name for path in (home / ".cache/jaxsnn").iterdir()] == [
            "jaxsnn_fashion_mnist"
        ]

    @pytest.mark.parametrize(
        ("failure", "complaint"),
        [
            (cut_midway, r"the connection ended \d+ bytes before the file did"),
            (cut_unannounced, "a damaged one"),
            (different_bytes, "expected SHA-256"),
            (overloaded, "503"),
            (silent, "timed out"),
            (endless, "the server sent more than 100000 bytes"),
            (bomb, "expected at most 1000000 bytes of content, found more"),
        ],
    )
    def test_three_failures_are_the_end_and_leave_nothing(
        self,
        server,
        home: Path,
        monkeypatch: pytest.MonkeyPatch,
        failure: Answer,
        complaint: str,
    ) -> None:
        monkeypatch.setattr(_fetch, "_MAX_SIZE", 100_000)
        monkeypatch.setattr("jaxsnn.data._idx._MAX_CONTENT", 1_000_000)
        server.answers = [failure] * 3
        with pytest.raises(FileNotFoundError, match=f"{server.url[:-1]}{FIRST}: .*{complaint}"):
            fashion_mnist()
        assert server.paths == [FIRST] * 3
        assert is_clean(home)

    def test_a_missing_file_is_not_tried_again(self, server, home: Path) -> None:
        server.answers = [not_found]
        with pytest.raises(FileNotFoundError, match="the server answered 404"):
            fashion_mnist()
        assert server.paths == [FIRST]
        assert is_clean(home)

    def test_a_dead_server_is_not_tried_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_fetch, "_PAUSES", (60.0,))
        with pytest.raises(FileNotFoundError, match=r"cannot be reached .*[Rr]efused"):
            fashion_mnist()

        def no_name(*arguments: object, **options: object) -> None:
            raise socket.gaierror(-2, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", no_name)
        with pytest.raises(FileNotFoundError, match=r"cannot be reached .*Name or service not"):
            fashion_mnist()

    @pytest.mark.parametrize("moment", ["_fetch._receive", "_tfds.prepare"])
    def test_an_interruption_leaves_the_cache_clean(
        self, server, home: Path, monkeypatch: pytest.MonkeyPatch, moment: str
    ) -> None:
        def stop(*arguments: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(f"jaxsnn.data.{moment}", stop)
        with pytest.raises(KeyboardInterrupt):
            fashion_mnist()
        assert is_clean(home)


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
FOLDER = "./usr/share/datasets/fashion-mnist"


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_idx, published: None):
    """Return a function that installs stand-ins for apt's tools, and returns their log."""

    def install(
        update: str = "true",
        download: str = "touch dataset-fashion-mnist_1_all.deb",
        unpack: str = "",
    ) -> Path:
        log, binaries = tmp_path / "log", tmp_path / "bin"
        payload = write_idx(tmp_path / "payload", compressed=True)
        binaries.mkdir()
        scripts = {
            "apt-get": APT_GET.format(log=log, update=update, download=download),
            "dpkg-deb": DPKG_DEB.format(log=log, payload=payload, unpack=unpack),
        }
        for name, text in scripts.items():
            (binaries / name).write_text(text)
            (binaries / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{binaries}:{PATH}")
        return log

    return install


def deb(path: Path, members: list[tuple[str, bytes, str]]) -> Path:
    """Write a Debian package: an `ar` archive of two `tar` archives.

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
    archive = b"!<arch>\n"
    for name, content in (
        ("debian-binary", b"2.0\n"),
        ("control.tar.gz", tar([("./control", control.encode(), "")])),
        ("data.tar.gz", tar(members)),
    ):
        archive += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
        archive += content + b"\n" * (len(content) % 2)
    path.write_bytes(archive)
    return path


class TestPackage:
    """The distribution's package, where the download fails: stand-ins for apt's tools."""

    @pytest.mark.parametrize("user", [0, 1000])
    @pytest.mark.parametrize("update", ["true", "exit 100"])  # the download may work regardless
    def test_is_fetched_unpacked_and_kept(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        tools,
        same,
        fake: ImageDataset,
        user: int,
        update: str,
    ) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: user)
        cache = tmp_path / "cache with a space"
        monkeypatch.setenv("JAXSNN_DATA_DIR", str(cache))
        log = tools(update=update)
        dataset = fashion_mnist()
        same(dataset, fake)
        assert "made from: distribution's package dataset-fashion-mnist" in dataset.source
        assert "(before that, official download: http://127.0.0.1:9" in dataset.source
        assert [path.name for path in cache.iterdir()] == ["jaxsnn_fashion_mnist"]
        commands = log.read_text().splitlines()
        assert commands[0].endswith(" update")
        assert commands[1].endswith(" download dataset-fashion-mnist")
        assert commands[2].startswith("dpkg-deb -x ")
        for command in commands[:2]:  # private directories, and no host of its own
            assert f"Dir::State::lists={cache}/.incomplete-" in command
            assert f"Dir::Cache::archives={cache}/.incomplete-" in command
            assert "://" not in command
            # root turns off the account for downloads, which cannot enter them
            assert ("APT::Sandbox::User=root" in command) == (user == 0)

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
            (
                {"unpack": 'cd "$3"/usr/share/datasets/f*; echo > train-labels-idx1-ubyte.gz'},
                "expected SHA-256",
            ),
            ({"update": "exec sleep 30"}, "apt-get did not end within"),
        ],
    )
    def test_failures_say_why(
        self,
        home: Path,
        monkeypatch: pytest.MonkeyPatch,
        tools,
        faults: dict[str, str],
        complaint: str,
    ) -> None:
        if "sleep" in str(faults):
            monkeypatch.setattr(_fetch, "_COMMAND_TIMEOUT", 0.2)
        tools(**faults)
        with pytest.raises(FileNotFoundError, match=f"package dataset-fashion.*{complaint}"):
            fashion_mnist()
        assert is_clean(home)

    def test_systems_without_it(self) -> None:
        with pytest.raises(FileNotFoundError, match=r"no apt-get on this system, .* not Debian"):
            fashion_mnist()

    @pytest.mark.parametrize(
        ("linked", "link", "complaint"),
        [
            (None, "", None),
            (f"{FOLDER}/{NAMES[3]}.gz", "{outside}/" + f"{NAMES[3]}.gz", "no file .*t10k-labels"),
            (FOLDER, "{outside}", "has no file .*train-images"),
            ("../../../../escaped", "", "could not be unpacked"),
            (FOLDER, "/dev", "has no file"),
        ],
    )
    def test_members_lead_nowhere_else(
        self,
        tmp_path: Path,
        home: Path,
        tools,
        write_idx,
        linked: str | None,
        link: str,
        complaint: str | None,
    ) -> None:
        dpkg_deb = shutil.which("dpkg-deb", path=PATH)
        if dpkg_deb is None:
            pytest.skip("this system has no dpkg-deb")
        outside = write_idx(tmp_path / "outside", compressed=True)  # right, but not the package's
        members = [
            (f"{FOLDER}/{path.name}", path.read_bytes(), "") for path in sorted(outside.iterdir())
        ]
        if linked is not None:
            members = [member for member in members if not member[0].startswith(linked)]
            members.append((linked, b"", link.format(outside=outside)))
        package = deb(tmp_path / "dataset-fashion-mnist_1_all.deb", members)
        tools(download=f"cp '{package}' .")
        (tmp_path / "bin" / "dpkg-deb").unlink()
        (tmp_path / "bin" / "dpkg-deb").symlink_to(dpkg_deb)
        if complaint is None:
            assert "distribution's package" in fashion_mnist().source
            return
        before = [file.read_bytes() for file in sorted(outside.iterdir())]
        with pytest.raises(FileNotFoundError, match=complaint):
            fashion_mnist()
        assert is_clean(home)
        assert not list(tmp_path.rglob("escaped"))
        assert before == [file.read_bytes() for file in sorted(outside.iterdir())]

    @pytest.mark.slow
    def test_the_real_one_is_the_whole_data_set(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", PATH)
        try:
            dataset = fashion_mnist()
        except FileNotFoundError as error:
            pytest.skip(f"the package cannot be fetched here: {error}")
        assert "distribution's package" in dataset.source
        assert dataset.train_images.shape == (60000, 28, 28)
        assert dataset.test_images.shape == (10000, 28, 28)
        source = fashion_mnist(download=False).source
        assert source == f"TFDS records in {home}/.cache/jaxsnn/jaxsnn_fashion_mnist/1.0.0"
