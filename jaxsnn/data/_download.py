"""Downloading the four files from the data set's official location, whole or not at all."""

import http.client
import os
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from jaxsnn.data._published import SHA256, check_checksum

OFFICIAL_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"

_TIMEOUT = 10.0  # seconds without an answer or without a byte
_PAUSES = (1.0, 4.0)  # seconds before the second and the third attempt
_BLOCK = 1 << 16  # bytes
_MAX_SIZE = 1 << 26  # bytes that a file may have: 64 MiB; the largest has 26 MB


def download_official(directory: Path) -> None:
    """Download the four compressed files into a directory and check them.

    Args:
        directory: an existing directory.

    Raises:
        OSError: a file could not be had; the message says which and why.
    """
    for name, sha256 in SHA256.items():
        fetch(f"{OFFICIAL_URL}{name}.gz", directory / f"{name}.gz", sha256)


def fetch(url: str, target: Path, sha256: str) -> None:
    """Download one file, checked and complete, or leave nothing behind.

    A host that cannot be reached and an answer such as 404 end it at once: trying again would
    not help. What breaks on the way (a cut connection, a silent server, wrong bytes) is tried
    again, three attempts in all.

    Args:
        url: where the file is.
        target: where it goes; written under another name first, then renamed.
        sha256: digest of the file's uncompressed bytes.

    Raises:
        OSError: the file could not be had.
    """
    for pause in (*_PAUSES, None):
        try:
            return _fetch_once(url, target, sha256)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code < 500:
                raise OSError(f"{url}: the server answered {error.code} {error.reason}") from error
            failure = f"the server answered {error.code} {error.reason}"
        except urllib.error.URLError as error:
            raise OSError(f"{url}: the host cannot be reached ({error.reason})") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            failure = str(error) or type(error).__name__
        if pause is not None:
            time.sleep(pause)
    raise OSError(f"{url}: {len(_PAUSES) + 1} attempts failed, the last one with: {failure}")


def _fetch_once(url: str, target: Path, sha256: str) -> None:
    """Download one file into a temporary name beside the target, check it and rename it."""
    from tqdm import tqdm

    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    part = Path(name)
    try:
        with (
            os.fdopen(handle, "wb") as file,
            urllib.request.urlopen(url, timeout=_TIMEOUT) as response,
        ):
            size = response.length  # bytes still to come; None when the server does not say
            received = 0
            # disable=None shows the bar on a terminal only
            with tqdm(total=size, desc=target.name, unit="B", unit_scale=True, disable=None) as bar:
                while block := response.read(_BLOCK):
                    received += len(block)
                    if received > _MAX_SIZE:
                        raise OSError(f"the server sent more than {_MAX_SIZE} bytes")
                    file.write(block)
                    bar.update(len(block))
            if response.length:
                raise OSError(f"the connection ended {response.length} bytes before the file did")
        check_checksum(part, sha256)
        part.chmod(0o644)  # mkstemp makes files that only their owner may read
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
