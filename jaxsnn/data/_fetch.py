"""Getting Fashion-MNIST from the net into a cache: the official files, or else Debian's package.

Debian's and Ubuntu's package is not installed: `apt-get` and `dpkg-deb` run on private directories,
so neither root nor any change to the system is needed. Sources, proxies and keys are the system's
own and are used as they are.
"""

import hashlib
import http.client
import os
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from jaxsnn.data import _tfds
from jaxsnn.data._dataset import ImageDataset
from jaxsnn.data._idx import SHA256, decompress, read_idx_files

PACKAGE = "dataset-fashion-mnist"
INSTALLED_IN = Path("/usr/share/datasets/fashion-mnist")

_OFFICIAL_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_TIMEOUT = 10.0  # seconds without an answer or without a byte
_PAUSES = (1.0, 4.0)  # seconds before the second and the third attempt
_BLOCK = 1 << 16  # bytes
_MAX_SIZE = 1 << 26  # bytes that a file may have: 64 MiB; the largest has 26 MB
_COMMAND_TIMEOUT = 600.0  # seconds for one command of apt


def acquire(root: Path) -> ImageDataset:
    """Download Fashion-MNIST, or fetch the distribution's package, and keep it as TFDS prepares it.

    Everything happens in a private folder inside the cache, and only a finished data set is renamed
    into place. So an interrupted run leaves nothing that could be taken for the data, and of two
    processes that do this at the same time both succeed and the first one's result stays. A killed
    process may leave a folder `.incomplete-...` in the cache, which nothing reads.

    Args:
        root: the cache directory; made when it is not there.

    Returns:
        The data set; its `source` names where it came from and what failed before.

    Raises:
        OSError: no way led to the data; one line of the message for each.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        staging = tempfile.TemporaryDirectory(
            prefix=".incomplete-", dir=root, ignore_cleanup_errors=True
        )
    except OSError as error:
        raise OSError(
            f"cache {root}: cannot be written ({error}); set JAXSNN_DATA_DIR to another directory"
        ) from error
    failures: list[str] = []
    with staging as name:
        for title, fetch in (
            ("official download", _download),
            (f"distribution's package {PACKAGE}", _fetch_package),
        ):
            try:
                files = fetch(Path(name))
            except (OSError, ValueError) as error:
                failures.append(f"{title}: {error}")
                continue
            dataset = _keep(files, Path(name), root)
            origin = title + "".join(f" (before that, {failure})" for failure in failures)
            return dataset._replace(source=f"{dataset.source}; made from: {origin}")
    raise OSError("\n".join(failures))


def _keep(files: list[Path], staging: Path, root: Path) -> ImageDataset:
    """Prepare the files in the staging folder, rename the result into the cache and read it."""
    prepared = _tfds.prepare(read_idx_files(files), staging / "tfds")
    target = root / _tfds.NAME / _tfds.VERSION
    target.parent.mkdir(exist_ok=True)
    try:
        os.rename(prepared, target)
    except OSError:
        if not target.is_dir():  # else another process has been faster
            raise
    return _tfds.read_prepared(target)


def _check(content: bytes, sha256: str) -> None:
    """Refuse content that is not the published one."""
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ValueError(f"expected SHA-256 {sha256} of the content, found {found}")


def _download(folder: Path) -> list[Path]:
    """Download the four files and check them; return their paths."""
    paths = [folder / f"{name}.gz" for name in SHA256]
    for path, sha256 in zip(paths, SHA256.values(), strict=True):
        path.write_bytes(_fetch(_OFFICIAL_URL + path.name, sha256))
    return paths


def _fetch(url: str, sha256: str) -> bytes:
    """Download one file, complete and with that digest of its uncompressed content.

    A host that cannot be reached and an answer such as 404 end it: trying again would not help. A
    failure on the way (a cut connection, a silent server, wrong bytes) is tried again, three
    attempts in all.
    """
    for pause in (0.0, *_PAUSES):
        time.sleep(pause)
        try:
            content = _receive(url)
            _check(decompress(content, url), sha256)
            return content
        except urllib.error.HTTPError as error:
            error.close()
            failure = f"the server answered {error.code} {error.reason}"
            if error.code < 500:
                break
        except urllib.error.URLError as error:
            failure = f"the host cannot be reached ({error.reason})"
            break
        except (OSError, http.client.HTTPException, ValueError) as error:
            failure = str(error) or type(error).__name__
    raise OSError(f"{url}: {failure}")


def _receive(url: str) -> bytes:
    from tqdm import tqdm

    content = bytearray()
    with urllib.request.urlopen(url, timeout=_TIMEOUT) as response:
        size = response.length  # bytes still to come; None when the server does not send it
        name = url.rpartition("/")[2]
        # disable=None shows the bar on a terminal only
        with tqdm(total=size, desc=name, unit="B", unit_scale=True, disable=None) as bar:
            while block := response.read(_BLOCK):
                content += block
                bar.update(len(block))
                if len(content) > _MAX_SIZE:
                    raise OSError(f"the server sent more than {_MAX_SIZE} bytes")
        if response.length:
            raise OSError(f"the connection ended {response.length} bytes before the file did")
    return bytes(content)


def _fetch_package(folder: Path) -> list[Path]:
    """Fetch the distribution's package, unpack and check it; return the paths of its four files."""
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise OSError(f"there is no {tool} on this system, which is not Debian or Ubuntu")
    work = folder.resolve() / "apt"
    options = _private_options(work)
    # An update that fails for one of several sources may still have found the package's list, so
    # its outcome only counts when the download fails.
    update = _run(["apt-get", *options, "update"], work)
    download = _run(["apt-get", *options, "download", PACKAGE], work)
    packages = sorted(work.glob(f"{PACKAGE}_*.deb"))
    if download.returncode != 0 or not packages:
        raise OSError(
            f"the package {PACKAGE} could not be downloaded (apt-get update: {_last_words(update)};"
            f" apt-get download: {_last_words(download)})"
        )
    unpack = _run(["dpkg-deb", "-x", str(packages[-1]), "unpacked"], work)
    if unpack.returncode != 0:
        raise OSError(f"{packages[-1].name} could not be unpacked ({_last_words(unpack)})")
    unpacked = work / "unpacked" / INSTALLED_IN.relative_to("/")
    paths = [unpacked / f"{name}.gz" for name in SHA256]
    for path, sha256 in zip(paths, SHA256.values(), strict=True):
        # A link in its place, or of a folder above it, may lead anywhere.
        if not path.is_file() or path.resolve() != path:
            raise OSError(f"{packages[-1].name} has no file {INSTALLED_IN / path.name}")
        _check(decompress(path.read_bytes(), path), sha256)
    return paths


def _private_options(work: Path) -> list[str]:
    """Make apt's private directories and return the options that lead apt-get to them."""
    for name in ("lists", "archives"):
        (work / name / "partial").mkdir(parents=True)
    # Hooks around an update belong to the system's own lists, not to the private ones.
    hooks = ("Pre-Invoke", "Post-Invoke", "Post-Invoke-Success", "Post-Invoke-Stats")
    clear = "".join(f"#clear APT::Update::{hook};\n" for hook in hooks)
    (work / "no-hooks.conf").write_text(clear, encoding="ascii")
    settings = {
        "Dir::State::lists": f"{work}/lists/",
        "Dir::Cache::archives": f"{work}/archives/",
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
        "Acquire::Languages": "none",
    }
    if os.geteuid() == 0:
        # As root, apt downloads under another account, which cannot enter a private directory.
        settings["APT::Sandbox::User"] = "root"
    options = [f"-o{key}={value}" for key, value in settings.items()]
    return ["-q", "-c", f"{work}/no-hooks.conf", *options]


def _run(command: list[str], work: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in the working directory, with its messages in English and no input."""
    try:
        return subprocess.run(
            command,
            cwd=work,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            errors="replace",  # text rather than bytes
            timeout=_COMMAND_TIMEOUT,
        )
    except subprocess.TimeoutExpired as error:
        raise OSError(f"{command[0]} did not end within {_COMMAND_TIMEOUT:.0f} s") from error


def _last_words(process: subprocess.CompletedProcess[str]) -> str:
    """Return the errors that a command printed, or else how it ended, in one line."""
    lines = [line.strip() for line in process.stdout.splitlines()]
    errors = [line for line in lines if line.startswith(("E:", "W:", "dpkg-deb:"))]
    return " ".join(errors[:4]) or f"it ended with status {process.returncode}"
