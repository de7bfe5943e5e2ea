"""The version of jaxsnn, and in a git checkout the commit, for the record of a run."""

import pathlib
import subprocess
from importlib import metadata
from typing import Any

PACKAGE = pathlib.Path(__file__).parent.parent


def source(package: pathlib.Path = PACKAGE) -> dict[str, Any]:
    """Find out which source is running.

    Args:
        package: folder of the package.

    Returns:
        `version`, None if the package was not installed; in a git checkout of it also `commit`, and
        `clean`: whether all files that git tracks are as committed.
    """
    try:
        version = metadata.version("jaxsnn-nnx")
    except metadata.PackageNotFoundError:
        version = None
    # An installed package may lie inside the checkout of another project.
    top = _git(package, "rev-parse", "--show-toplevel")
    commit = _git(package, "rev-parse", "HEAD")
    if top is None or commit is None or pathlib.Path(top) != package.resolve().parent:
        return {"version": version}
    changes = _git(package, "status", "--porcelain", "--untracked-files=no")
    return {"version": version, "commit": commit, "clean": changes == ""}


def _git(folder: pathlib.Path, *command: str) -> str | None:
    """Return the output of a git command, None if there is no git or it fails."""
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(folder), *command],
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
