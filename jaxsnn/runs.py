"""The directory of a run: its settings, its metrics as a table and as TensorBoard curves.

    run/config.json            everything needed to repeat the run
    run/metrics.csv            one line per epoch
    run/events.out.tfevents.*  the same for TensorBoard: train_loss train_acc test_loss test_acc
    run/checkpoints/           see `jaxsnn.checkpointing`
    run/.lock                  held by the process that trains there

The history in the checkpoint is the truth; the other two are made from it, so that after a kill
and a resume each epoch is there once.
"""

import contextlib
import csv
import datetime
import fcntl
import hashlib
import io
import json
import os
import pathlib
import platform
import re
import shlex
import socket
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any, Literal, Self, TypedDict

from jaxsnn import _replace
from jaxsnn.data import DATASETS, SEQUENCES
from jaxsnn.models import MODELS


class Row(TypedDict):
    """The figures of one epoch."""

    epoch: int
    train_loss: float
    train_acc: float
    test_loss: float
    test_acc: float
    gradient_norm: float
    skipped: int
    train_images_per_s: float
    test_images_per_s: float
    lr: float


class Settings(TypedDict):
    """What a run is; see `train.py --help`."""

    model: str
    epochs: int
    batch_size: int
    opt: str
    lr: float
    momentum: float
    clip_norm: float | None
    skip_nonfinite: bool
    amp: bool
    seed: int
    dataset: str
    sequence: str
    init_from: str | None


_SHA256 = re.compile("[0-9a-f]{64}")

# One question for each setting: is the value one that train.py could have written?
_VALID: dict[str, Callable[[Any], bool]] = {
    "model": lambda v: isinstance(v, str) and v in MODELS,
    "epochs": lambda v: type(v) is int and v >= 1,
    "batch_size": lambda v: type(v) is int and v >= 1,
    "opt": lambda v: v in ("sgd", "adam"),
    "lr": lambda v: type(v) in (int, float) and v >= 0,
    "momentum": lambda v: type(v) in (int, float) and 0 <= v < 1,
    "clip_norm": lambda v: v is None or (type(v) in (int, float) and v > 0),
    "skip_nonfinite": lambda v: type(v) is bool,
    "amp": lambda v: type(v) is bool,
    "seed": lambda v: type(v) is int and 0 <= v < 2**32,
    "dataset": lambda v: isinstance(v, str) and v in DATASETS,
    "sequence": lambda v: isinstance(v, str) and v in SEQUENCES,
    "init_from": lambda v: v is None or bool(isinstance(v, str) and _SHA256.fullmatch(v)),
}

CURVES: tuple[Literal["train_loss", "train_acc", "test_loss", "test_acc"], ...] = (
    "train_loss",
    "train_acc",
    "test_loss",
    "test_acc",
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


def refuse_occupied(path: pathlib.Path) -> None:
    """A new run overwrites nothing; what a run that was killed at once has left does not count.

    Raises:
        FileExistsError: `path` is a run, or something else is there.
    """
    if (path / "config.json").exists():
        raise FileExistsError(
            f"{path} holds a run; go on with it by --resume {path}, or choose another --out-dir"
        )
    if path.is_dir():
        mine = (_LOCK, ".config.json.")
        others = [file.name for file in path.iterdir() if not file.name.startswith(mine)]
        if not others:
            return
        raise FileExistsError(
            f"{path} holds {others[0]}, which is not of a run; choose another --out-dir"
        )
    if path.exists():
        raise FileExistsError(f"{path} is a file; choose another --out-dir")


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
    replace(pathlib.Path(run) / "config.json", json.dumps(signed(config), indent=2) + "\n")


def session(**facts: Any) -> dict[str, Any]:
    """What config.json says of one call of the program: command, time, versions, and `facts`."""
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {
        "command": shlex.join([pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]),
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "cpu_count": os.cpu_count(),
        "python": platform.python_version(),
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
        `settings` (a `Settings`), `data` (fingerprint of the data set), `sessions` (a list).

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
    settings = config["settings"] = {"init_from": None} | config["settings"]  # older runs lack it
    for name, valid in _VALID.items():
        if name not in settings:
            raise ValueError(f"{path} is damaged: the setting {name} is missing")
        if not valid(settings[name]):
            raise ValueError(f"{path} is damaged: {name} = {settings[name]!r} is not a setting")
    if unknown := set(settings) - set(_VALID):
        raise ValueError(f"{path} is of another version: it has settings {sorted(unknown)}")
    return config


class Log:
    """metrics.csv and the TensorBoard curves of one run; in a `with`, or `close` it.

    Args:
        run: the directory.
        history: rows of a run that is resumed; earlier files are made anew from them.
    """

    def __init__(self, run: str | os.PathLike[str], history: list[Row]) -> None:
        from tensorboardX.record_writer import RecordWriter

        # Absolute: tensorboardX would take a path that begins with "gs:" or "s3:" for a cloud's.
        self._path = pathlib.Path(run).absolute()
        for events in self._path.glob("events.out.tfevents.*"):
            events.unlink()
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}"
        # Written as they come: SummaryWriter would do it in a thread, which cannot raise errors.
        self._events = RecordWriter(str(self._path / name))
        with _replace.named(self._path / name):
            self._add_event(file_version="brain.Event:2")
        self._add(history)
        self._write_table(history)

    def write(self, history: list[Row]) -> None:
        """Adds the last row of `history`."""
        self._add(history[-1:])
        self._write_table(history)

    def close(self) -> None:
        """Closes the TensorBoard file."""
        with contextlib.suppress(OSError):  # what has been written has been flushed before
            self._events.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _add(self, rows: list[Row]) -> None:
        from tensorboardX.summary import scalar

        with _replace.named(pathlib.Path(self._events.path)):
            for row in rows:
                for name in CURVES:
                    self._add_event(step=row["epoch"], summary=scalar(name, row[name]))
            self._events.flush()

    def _add_event(self, **what: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._events.write(Event(wall_time=time.time(), **what).SerializeToString())

    def _write_table(self, history: list[Row]) -> None:
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, list(Row.__annotations__), lineterminator="\n")
        table.writeheader()
        table.writerows(history)
        replace(self._path / "metrics.csv", text.getvalue())


def replace(path: pathlib.Path, text: str) -> None:
    """Writes a file under a temporary name and renames it, so that it is never half there."""
    _replace.replace(path, text.encode())
