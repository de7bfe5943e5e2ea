"""Fetching Debian's and Ubuntu's own package of Fashion-MNIST, without installing it.

``apt-get`` and ``dpkg-deb`` run on private directories, so neither root nor any change to the
system is needed. Sources, proxies and keys are the system's own and are used as they are.
"""

import os
import platform
import shutil
import subprocess
from pathlib import Path

from jaxsnn.data._published import SHA256, check_checksum

PACKAGE = "dataset-fashion-mnist"
INSTALLED_IN = Path("/usr/share/datasets/fashion-mnist")

_TIMEOUT = 600.0  # seconds for one command
# Hooks around an update belong to the system's own lists, not to the private ones used here.
_NO_HOOKS = "#clear APT::Update::Pre-Invoke;\n#clear APT::Update::Post-Invoke;\n"
_NO_HOOKS += "#clear APT::Update::Post-Invoke-Success;\n#clear APT::Update::Post-Invoke-Stats;\n"


def fetch_debian_package(directory: Path) -> None:
    """Fetch the distribution's package, unpack it and keep its four checked IDX files.

    Args:
        directory: an existing, private directory; the files and apt's working files go there.

    Raises:
        OSError: not a Debian system, or the package could not be fetched or unpacked.
        ValueError: the package holds other bytes than the published data set.
    """
    _require_debian()
    work = directory / "apt"
    options = _private_options(work)
    # An update that fails for one of several sources may still have found the package's list,
    # so its outcome only counts when the download fails.
    update = _run(["apt-get", *options, "update"], work)
    download = _run(["apt-get", *options, "download", PACKAGE], work)
    packages = sorted(work.glob(f"{PACKAGE}_*.deb"))
    if download.returncode != 0 or not packages:
        raise OSError(
            f"the package {PACKAGE} could not be downloaded (apt-get update: {_last_words(update)};"
            f" apt-get download: {_last_words(download)})"
        )
    unpack = _run(["dpkg-deb", "-x", str(packages[-1]), str(work / "unpacked")], work)
    if unpack.returncode != 0:
        raise OSError(f"{packages[-1].name} could not be unpacked ({_last_words(unpack)})")
    folder = (work / "unpacked").resolve() / INSTALLED_IN.relative_to("/")
    for name, sha256 in SHA256.items():
        file = folder / f"{name}.gz"
        if not file.is_file():
            raise OSError(f"{packages[-1].name} has no file {INSTALLED_IN / file.name}")
        if file.resolve() != file:  # it or a folder above it is a link, which may lead anywhere
            raise OSError(f"{packages[-1].name} has a link for {INSTALLED_IN / file.name}")
        check_checksum(file, sha256)
        os.replace(file, directory / file.name)
    shutil.rmtree(work)


def _require_debian() -> None:
    """Raise OSError unless this is Debian, Ubuntu or a derivative with its package tools."""
    try:
        release = platform.freedesktop_os_release()
    except OSError as error:
        raise OSError("the system is not Debian or Ubuntu") from error
    names = {release["ID"], *release.get("ID_LIKE", "").split()}
    if not names & {"debian", "ubuntu"}:
        raise OSError(f"the system is {release['NAME']}, not Debian or Ubuntu")
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise OSError(f"there is no {tool} on this system")


def _private_options(work: Path) -> list[str]:
    """Make apt's private directories and return the options that lead apt-get to them."""
    lists, archives, hooks = work / "lists", work / "archives", work / "no-hooks.conf"
    for folder in (lists, archives):
        (folder / "partial").mkdir(parents=True)
    hooks.write_text(_NO_HOOKS, encoding="ascii")
    settings = {
        "Dir::State::lists": f"{lists}/",
        "Dir::Cache::archives": f"{archives}/",
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
        "Acquire::Languages": "none",
    }
    if os.geteuid() == 0:
        # As root, apt downloads under another account, which cannot enter a private directory.
        settings["APT::Sandbox::User"] = "root"
    options = ["-q", "-c", str(hooks)]
    for key, value in settings.items():
        options += ["-o", f"{key}={value}"]
    return options


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
            text=True,
            errors="replace",
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise OSError(f"{command[0]} did not end within {_TIMEOUT:.0f} s") from error


def _last_words(process: subprocess.CompletedProcess[str]) -> str:
    """Return the errors that a command printed, or else how it ended, in one line."""
    lines = [line.strip() for line in process.stdout.splitlines()]
    errors = [line for line in lines if line.startswith(("E:", "W:", "dpkg-deb:"))]
    return " ".join(errors[:4]) or f"it ended with status {process.returncode}"
