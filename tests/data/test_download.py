"""Downloading from a server on this machine, which can be made to fail in every way."""

import contextlib
import gzip
import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from fake_files import NAMES

from jaxsnn.data import _download
from jaxsnn.data._download import download_official, fetch

CONTENT = bytes(range(256)) * 1000
FILE = gzip.compress(CONTENT)
SHA256 = hashlib.sha256(CONTENT).hexdigest()

SIZES_ON_THE_SERVER = (26421880, 29515, 4422102, 5148)  # bytes, in the order of NAMES

Answer = Callable[[BaseHTTPRequestHandler], None]


def whole(handler: BaseHTTPRequestHandler, body: bytes = FILE) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def unannounced(handler: BaseHTTPRequestHandler) -> None:
    """Answer without saying how long the file is."""
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(FILE)


def cut_midway(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(FILE)))
    handler.end_headers()
    handler.wfile.write(FILE[: len(FILE) // 2])


def cut_unannounced(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(FILE[: len(FILE) // 2])


def cut_at_once(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)


def other_bytes(handler: BaseHTTPRequestHandler) -> None:
    whole(handler, gzip.compress(b"something else"))


def not_found(handler: BaseHTTPRequestHandler) -> None:
    handler.send_error(404)


def overloaded(handler: BaseHTTPRequestHandler) -> None:
    handler.send_error(503)


def endless(handler: BaseHTTPRequestHandler) -> None:
    """Send for long, as if without end."""
    handler.send_response(200)
    handler.end_headers()
    with contextlib.suppress(ConnectionError):
        for _ in range(30):
            handler.wfile.write(bytes(1_000_000))


def too_long(handler: BaseHTTPRequestHandler) -> None:
    """Announce more than there may be."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(10**15))
    handler.end_headers()
    with contextlib.suppress(ConnectionError):
        for _ in range(30):
            handler.wfile.write(bytes(1_000_000))


def bomb(handler: BaseHTTPRequestHandler) -> None:
    """Send a small file that becomes a large one."""
    whole(handler, gzip.compress(bytes(10_000_000)))


def silent(handler: BaseHTTPRequestHandler) -> None:
    """Send half of the file and then nothing for longer than the time-out."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(FILE)))
    handler.end_headers()
    handler.wfile.write(FILE[: len(FILE) // 2])
    handler.wfile.flush()
    time.sleep(1.0)


class Server:
    """A web server that gives its list of answers, one for each request, and notes the paths."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.paths: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.paths.append(self.path)
                outer.answers.pop(0)(self)

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(_download, "_PAUSES", (0.01, 0.02))
    monkeypatch.setattr(_download, "_TIMEOUT", 0.3)
    server = Server()
    yield server
    server.close()


def test_the_settings_fail_fast() -> None:
    assert _download._TIMEOUT <= 10
    assert sum(_download._PAUSES) <= 10
    assert _download.OFFICIAL_URL.startswith("http://fashion-mnist.")


@pytest.mark.parametrize("answer", [whole, unannounced])
def test_success(tmp_path: Path, server: Server, answer: Answer) -> None:
    server.answers = [answer]
    target = tmp_path / "file.gz"
    fetch(f"{server.url}file.gz", target, SHA256)
    assert target.read_bytes() == FILE
    assert target.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.glob(".*")) == []  # no temporary file is left


@pytest.mark.parametrize(
    "failure",
    [cut_midway, cut_unannounced, cut_at_once, other_bytes, overloaded, silent],
)
def test_what_breaks_on_the_way_is_tried_again(
    tmp_path: Path, server: Server, failure: Answer
) -> None:
    server.answers = [failure, failure, whole]
    target = tmp_path / "file.gz"
    fetch(f"{server.url}file.gz", target, SHA256)
    assert target.read_bytes() == FILE
    assert server.paths == ["/file.gz"] * 3


@pytest.mark.parametrize(
    ("failure", "complaint"),
    [
        (cut_midway, r"the connection ended \d+ bytes before the file did"),
        (cut_unannounced, "damaged or cut short"),
        (other_bytes, f"expected SHA-256 {SHA256}"),
        (overloaded, "503"),
        (silent, "timed out"),
    ],
)
def test_three_failures_are_the_end_and_leave_nothing(
    tmp_path: Path, server: Server, failure: Answer, complaint: str
) -> None:
    server.answers = [failure] * 3
    with pytest.raises(OSError, match=f"3 attempts failed, .*{complaint}") as caught:
        fetch(f"{server.url}file.gz", tmp_path / "file.gz", SHA256)
    assert f"{server.url}file.gz" in str(caught.value)
    assert list(tmp_path.iterdir()) == [tmp_path / "home"]


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (endless, "the server sent more than 100000 bytes"),
        (too_long, "the server sent more than 100000 bytes"),
        (bomb, "a gzip file of at most 1000000 bytes of content, found more"),
    ],
)
def test_sizes_have_limits(
    tmp_path: Path,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    answer: Answer,
    complaint: str,
) -> None:
    """What is too long is neither kept nor unpacked any further."""
    assert max(SIZES_ON_THE_SERVER) < _download._MAX_SIZE <= 2**26
    monkeypatch.setattr(_download, "_MAX_SIZE", 100_000)
    monkeypatch.setattr("jaxsnn.data._idx.MAX_CONTENT", 1_000_000)
    server.answers = [answer] * 3
    with pytest.raises(OSError, match=f"3 attempts failed, .*{complaint}"):
        fetch(f"{server.url}file.gz", tmp_path / "file.gz", SHA256)
    assert list(tmp_path.iterdir()) == [tmp_path / "home"]


def test_a_missing_file_is_not_tried_again(tmp_path: Path, server: Server) -> None:
    server.answers = [not_found]
    with pytest.raises(OSError, match="the server answered 404"):
        fetch(f"{server.url}file.gz", tmp_path / "file.gz", SHA256)
    assert list(tmp_path.iterdir()) == [tmp_path / "home"]


def test_a_dead_server_is_not_tried_again(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/file.gz"
    monkeypatch.setattr(_download, "_PAUSES", (60.0,))
    with pytest.raises(OSError, match="the host cannot be reached"):
        fetch(url, tmp_path / "file.gz", SHA256)


def test_an_unknown_host_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_name(*arguments: object, **options: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.delenv("http_proxy", raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", no_name)
    monkeypatch.setattr(_download, "_PAUSES", (60.0,))
    with pytest.raises(OSError, match=r"cannot be reached .*Name or service not known"):
        fetch("http://fashion-mnist.invalid/file.gz", tmp_path / "file.gz", SHA256)


def test_an_interruption_leaves_nothing_and_an_earlier_file_alone(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(path: Path, sha256: str) -> None:
        raise KeyboardInterrupt

    target = tmp_path / "file.gz"
    target.write_bytes(b"earlier")
    monkeypatch.setattr(_download, "check_checksum", interrupted)
    server.answers = [whole]
    with pytest.raises(KeyboardInterrupt):
        fetch(f"{server.url}file.gz", target, SHA256)
    assert target.read_bytes() == b"earlier"
    assert sorted(tmp_path.iterdir()) == [target, tmp_path / "home"]


def test_all_four_files_from_the_official_location(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_download, "OFFICIAL_URL", server.url)
    monkeypatch.setattr(_download, "SHA256", dict.fromkeys(NAMES, SHA256))
    server.answers = [whole] * 4
    download_official(tmp_path)
    assert server.paths == [f"/{name}.gz" for name in NAMES]
    assert all((tmp_path / f"{name}.gz").read_bytes() == FILE for name in NAMES)
