"""The directory of a run, what it may hold, and its settings.

    run/config.json            everything needed to repeat the run
    run/metrics.csv            one line per epoch
    run/events.out.tfevents.*  the same for TensorBoard
    run/checkpoints/           see `_checkpoints`
    run/.lock                  held by the process that trains there

The history in the checkpoint is the truth; the other two are made from it, so that after a kill
and a resume each epoch is there once.
"""

import contextlib
import dataclasses
import datetime
import fcntl
import hashlib
import json
import os
import pathlib
import platform
import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any

from jaxsnn import _replace
from jaxsnn.experiment import _provenance
from jaxsnn.experiment._config import Config, spelled

LONGER = (
    "a longer run has another learning rate in every epoch, so it is a new run: start it with "
    "--epochs and --overwrite, a --seed or --out-dir of its own, or go on from the trained "
    "parameters with --init-from (docs/how-to/resume.md)"
)


def create(run: str | os.PathLike[str], config: dict[str, Any]) -> None:
    """Makes the directory of a new run and writes its config.json.

    Args:
        run: the directory; parents are made too.
        config: JSON data: `settings`, `data`, `sessions`.

    Raises:
        FileExistsError: there is something in it already; nothing is touched.
        OSError: it cannot be written.
    """
    path = pathlib.Path(run)
    refuse_occupied(path)
    path.mkdir(parents=True, exist_ok=True)
    write_config(run, config)


def refuse_occupied(path: pathlib.Path, overwrite: bool = False) -> None:
    """Refuse a folder that is not empty, but for what a run leaves that is killed at once.

    Args:
        path: the directory of the new run.
        overwrite: whether a run that is there, and nothing else, may be removed for it.

    Raises:
        FileExistsError: `path` is a run, or something else is there.
        ValueError: `overwrite`, and the config.json that is there is damaged.
    """
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"{path} is a file; choose another --out-dir")
    names = [file.name for file in path.iterdir()] if path.exists() else []
    if "config.json" in names and not overwrite:
        raise FileExistsError(
            f"{path} holds a run; go on with it by --resume {path}, replace it by --overwrite, or "
            "choose another --out-dir"
        )
    if "config.json" in names:
        _check_removable(path)
    for name in names:
        if "config.json" not in names and not _BEFORE_A_RUN.fullmatch(name):
            raise FileExistsError(
                f"{path} holds {name}, which is not of a run; choose another --out-dir"
            )


def _check_removable(path: pathlib.Path) -> None:
    """Refuse to overwrite what is not surely a run and nothing else."""
    try:
        read_config(path)
    except ValueError as error:
        raise ValueError(
            f"--overwrite removes sound runs only: {error}, or remove it yourself"
        ) from error
    checkpoints = path / "checkpoints"
    there = [(file, _OF_A_RUN) for file in path.iterdir()]
    if checkpoints.is_dir() and not checkpoints.is_symlink():
        there += [(file, _OF_CHECKPOINTS) for file in checkpoints.iterdir()]
    for file, names in there:
        if not names.fullmatch(file.name) or file.is_symlink():
            raise FileExistsError(
                f"{path} holds {file.relative_to(path)}, which is not of a run, and --overwrite "
                "would remove it; move it elsewhere, or choose another --out-dir"
            )


_BEFORE_A_RUN = re.compile(r"\.lock|\.config\.json\..*")
_OF_A_RUN = re.compile(
    r"config\.json|metrics\.csv|checkpoints|events\.out\.tfevents\..*|"
    r"\.lock|\.(config\.json|metrics\.csv)\..*"
)
_OF_CHECKPOINTS = re.compile(r"[0-9]+(\.orbax-checkpoint-tmp.*)?|removed")


def clear(path: pathlib.Path) -> None:
    """Removes the run in a directory, its config.json at last; hold its `lock`.

    Raises:
        FileExistsError: there is more than a run in it; nothing is touched.
        ValueError: its config.json is damaged; nothing is touched.
        OSError: a file cannot be removed.
    """
    refuse_occupied(path, overwrite=True)
    for file in path.iterdir():
        if file.is_dir():
            shutil.rmtree(file)
        elif file.name not in (_LOCK, "config.json"):
            file.unlink()
    (path / "config.json").unlink(missing_ok=True)


_LOCK = ".lock"


@contextlib.contextmanager
def lock(run: str | os.PathLike[str]) -> Iterator[None]:
    """Keeps a run to one process; the system lets go of the lock when that one ends.

    Raises:
        ValueError: another process trains there.
        OSError: the directory cannot be made or written.
    """
    path = pathlib.Path(run)
    path.mkdir(parents=True, exist_ok=True)
    with open(path / _LOCK, "a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"another process is training in {path}; wait for it, or choose another --out-dir "
                "(--resume goes on with a run that has stopped)"
            ) from None
        yield


def write_config(run: str | os.PathLike[str], config: dict[str, Any]) -> None:
    """Writes config.json in one go, with a checksum."""
    write_text(pathlib.Path(run) / "config.json", json.dumps(signed(config), indent=2) + "\n")


def write_text(path: pathlib.Path, text: str) -> None:
    """Write a file under a temporary name and rename it, so that it is never half there."""
    _replace.replace(path, text.encode())


def session(**facts: Any) -> dict[str, Any]:
    """What config.json says of one call of the program: command, time, versions, and `facts`."""
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {
        "command": shlex.join([pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]),
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "cpu_count": os.cpu_count(),
        "python": platform.python_version(),
        "jaxsnn": _provenance.source(),
        "versions": {package: metadata.version(package) for package in packages},
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        **facts,
    }


def signed(content: dict[str, Any]) -> dict[str, Any]:
    """JSON data with a checksum of the rest under `checksum`."""
    return content | {"checksum": _checksum(content)}


def verified(content: Any) -> dict[str, Any]:
    """What `signed` was given.

    Raises:
        ValueError: it is not that any more.
    """
    if not isinstance(content, dict) or "checksum" not in content:
        raise ValueError("it has no checksum")
    rest = {name: value for name, value in content.items() if name != "checksum"}
    if content["checksum"] != _checksum(rest):
        raise ValueError("its content does not have the checksum that stands in it")
    return rest


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_config(run: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads config.json and checks it.

    Returns:
        `settings` (those of a `Config`), `data` (fingerprint of the data set), `sessions` (a list).

    Raises:
        FileNotFoundError: `run` is not the directory of a run.
        ValueError: the file is damaged or was changed, or is of another version.
    """
    path = pathlib.Path(run) / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{run} is not the directory of a run: it has no config.json")
    try:
        config = verified(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is damaged, or was changed by hand ({error}); the settings of a run cannot be "
            "changed: start a new one"
        ) from error
    if not isinstance(config.get("settings"), dict):
        raise ValueError(f"{path} is damaged: it holds no settings")
    if not isinstance(config.get("data"), str) or not isinstance(config.get("sessions"), list):
        raise ValueError(f"{path} is damaged: data or sessions are missing")
    known = {field.name for field in dataclasses.fields(Config)}
    if unknown := config["settings"].keys() - known:
        raise ValueError(f"{path} is of another version: it has settings {sorted(unknown)}")
    try:
        settings = Config(**config["settings"])
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    return config | {"settings": dataclasses.asdict(settings)}


def settled(given: Mapping[str, Any], run: str | os.PathLike[str] | None = None) -> Config:
    """Return the settings of a run: those given, else those of the run so far, else the defaults.

    Args:
        given: the settings that the command line names.
        run: the directory of a run that there is already; None for a new one.

    Raises:
        ValueError: a run keeps its settings, and one that is given differs.
    """
    if run is None:
        return Config(**given)
    settings = read_config(run)["settings"]
    for name, value in given.items():
        if value != settings[name]:
            way_out = "leave it out to resume, or start a new run"
            raise ValueError(
                f"{spelled(name)} {value} differs from the {settings[name]} with which {run} was "
                f"started; {LONGER if name == 'epochs' else way_out}"
            )
    return Config(**settings)
