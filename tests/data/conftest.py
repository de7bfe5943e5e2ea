"""A small fake Fashion-MNIST, a server that has it, and a machine that hides every real source."""

import gzip
import hashlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from fake_files import NAMES, idx_bytes

from jaxsnn.data import ImageDataset, _idx, fashion_mnist


@pytest.fixture
def fake() -> ImageDataset:
    """Thirty and twenty random images; every label occurs."""
    rng = np.random.default_rng(0)
    return ImageDataset(
        rng.integers(0, 256, (30, 28, 28), dtype=np.uint8),
        rng.permutation(np.arange(30) % 10).astype(np.int32),
        rng.integers(0, 256, (20, 28, 28), dtype=np.uint8),
        rng.permutation(np.arange(20) % 10).astype(np.int32),
        "fake",
    )


@pytest.fixture
def write_idx(fake: ImageDataset) -> Callable[..., Path]:
    """Return a function that writes the fake data set as four IDX files."""

    def write(directory: Path, compressed: bool = False) -> Path:
        directory.mkdir(parents=True, exist_ok=True)
        for name, array in zip(NAMES, fake[:4], strict=True):
            content = idx_bytes(array)
            if compressed:
                (directory / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (directory / name).write_bytes(content)
        return directory

    return write


@pytest.fixture
def published(fake: ImageDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the fake data set the one that was published, for everything that checks it."""
    for name, array in zip(NAMES, fake[:4], strict=True):
        monkeypatch.setitem(_idx.SHA256, name, hashlib.sha256(idx_bytes(array)).hexdigest())
    monkeypatch.setattr(_idx, "LENGTHS", (30, 30, 20, 20))


@pytest.fixture
def write_sums() -> Callable[[Path], Path]:
    """Return a function that writes SHA256SUMS into a directory, as `sha256sum *` does."""

    def write(directory: Path) -> Path:
        (directory / "SHA256SUMS").touch()  # the shell makes it before the command lists the files
        lines = [
            f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
            for path in sorted(directory.iterdir())
        ]
        (directory / "SHA256SUMS").write_text("".join(lines))
        return directory

    return write


@pytest.fixture
def same() -> Callable[[ImageDataset, ImageDataset], None]:
    """Return a function that asserts equal arrays, types included."""

    def check(left: ImageDataset, right: ImageDataset) -> None:
        for field, a, b in zip(ImageDataset._fields[:4], left[:4], right[:4], strict=True):
            assert a.dtype == b.dtype, field
            np.testing.assert_array_equal(a, b, err_msg=field)

    return check


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test an empty home, no installed data set, no apt and no official location."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / ".cache"))
    monkeypatch.delenv("JAXSNN_DATA_DIR", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("jaxsnn.data._fashion_mnist.INSTALLED_IN", tmp_path / "not-installed")
    monkeypatch.setattr("jaxsnn.data._fetch._OFFICIAL_URL", "http://127.0.0.1:9/")  # refused
    return folder


class Server:
    """A web server with four files, which can be made to fail; it notes the paths of requests."""

    def __init__(self, files: Path) -> None:
        self.answers: list[Callable[[BaseHTTPRequestHandler, bytes], None]] = []
        self.paths: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.paths.append(self.path)
                answer = outer.answers.pop(0) if outer.answers else whole
                answer(self, (files / self.path[1:]).read_bytes())

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


def whole(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    """Send a file as it is."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@pytest.fixture
def server(
    tmp_path: Path, write_idx, published: None, home: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Server]:
    """The official location, which has the fake files, compressed."""
    server = Server(write_idx(tmp_path / "on the server", compressed=True))
    monkeypatch.setattr("jaxsnn.data._fetch._OFFICIAL_URL", server.url)
    monkeypatch.setattr("jaxsnn.data._fetch._PAUSES", (0.01, 0.02))
    monkeypatch.setattr("jaxsnn.data._fetch._TIMEOUT", 0.3)
    yield server
    server.close()


@pytest.fixture
def prepared(server: Server, home: Path) -> Path:
    """The folder in which a download is kept."""
    fashion_mnist()
    return home / ".cache/jaxsnn/jaxsnn_fashion_mnist/1.0.0"
