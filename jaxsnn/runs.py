"""The directory of a run: its settings, its metrics as a table and as TensorBoard curves.

    run/config.json            everything needed to repeat the run
    run/metrics.csv            one line per epoch
    run/events.out.tfevents.*  the same for TensorBoard
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
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from typing import Any, NotRequired, Self, TypedDict

from jaxsnn import _provenance, _replace
from jaxsnn.data import DATASETS, SEQUENCES
from jaxsnn.models import MODELS


class Row(TypedDict):
    """The figures of one epoch.

    `val_loss` and `val_acc` are there if a part of the training set is held out. `firing_rates` are
    spikes per neuron and time step of each spiking layer, on a fixed minibatch of the test set.
    """

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
    val_loss: NotRequired[float]
    val_acc: NotRequired[float]
    firing_rates: NotRequired[dict[str, float]]


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
    validation: float | None


# Settings that older runs lack, with the value that they had.
_LATER: dict[str, Any] = {"init_from": None, "validation": None}

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
    "validation": lambda v: v is None or (type(v) in (int, float) and 0 < v < 1),
}


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
    """A new run overwrites nothing; what a run that was killed at once has left does not count.

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
    replace(pathlib.Path(run) / "config.json", json.dumps(signed(config), indent=2) + "\n")


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
    settings = config["settings"] = _LATER | config["settings"]
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
                for name, value in _figures(row).items():
                    if name != "epoch":
                        self._add_event(step=row["epoch"], summary=scalar(name, value))
            self._events.flush()

    def _add_event(self, **what: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._events.write(Event(wall_time=time.time(), **what).SerializeToString())

    def _write_table(self, history: list[Row]) -> None:
        text = io.StringIO(newline="")
        rows = [_figures(row) for row in history]
        names = dict.fromkeys(name for row in rows for name in row)
        table = csv.DictWriter(text, [*(names or _ALWAYS)], lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        replace(self._path / "metrics.csv", text.getvalue())


# The columns of each run, in this order.
_ALWAYS = tuple(name for name in Row.__annotations__ if name in Row.__required_keys__)


def _figures(row: Row) -> dict[str, float]:
    """The numbers of an epoch by the name of their column and of their curve."""
    figures: dict[str, Any] = {**row}
    rates = figures.pop("firing_rates", {})
    return figures | {f"firing_rate/{layer}": rate for layer, rate in rates.items()}


def best_row(history: Sequence[Row]) -> int:
    """The epoch of the best accuracy; of equal ones the earliest.

    Args:
        history: one row per epoch, at least one, each with `val_acc` (accuracy on what was held out
            of the training set, by which the epoch is then chosen) or else `test_acc`.
    """
    accuracies = [row.get("val_acc", row["test_acc"]) for row in history]
    return accuracies.index(max(accuracies))


def epoch_line(history: Sequence[Row], seconds_left: float) -> str:
    """One line for the epoch that has just ended."""
    row, best = history[-1], history[best_row(history)]
    held_out = "val_acc" in row
    top = (
        f"max_val_acc = {best['val_acc']:.4f}"
        if held_out
        else f"max_test_acc = {best['test_acc']:.4f}"
    )
    return (
        f"epoch = {row['epoch']}, train_loss = {row['train_loss']:.4f}, "
        f"train_acc = {row['train_acc']:.4f}, "
        + (
            f"val_loss = {row['val_loss']:.4f}, val_acc = {row['val_acc']:.4f}, "
            if held_out
            else ""
        )
        + f"test_loss = {row['test_loss']:.4f}, test_acc = {row['test_acc']:.4f}, {top}, "
        + (f"skipped = {row['skipped']}, " if row["skipped"] else "")
        + f"train {row['train_images_per_s']:,.0f} images/s, "
        f"test {row['test_images_per_s']:,.0f} images/s, "
        f"left = {datetime.timedelta(seconds=round(seconds_left))}"
    )


def last_line(history: Sequence[Row]) -> str:
    """One line for a run that has ended."""
    last, best = history[-1], history[best_row(history)]
    skipped = sum(row["skipped"] for row in history)
    if "val_acc" in best:
        top = (
            f"best by validation: epoch {best['epoch']}, val_acc = {best['val_acc']:.4f}, "
            f"test_acc = {best['test_acc']:.4f}"
        )
    else:
        top = f"max_test_acc = {best['test_acc']:.4f} in epoch {best['epoch']}"
    return f"done: test_acc = {last['test_acc']:.4f} after {len(history)} epochs, {top}" + (
        f", {skipped} updates were not finite and left out" if skipped else ""
    )


def replace(path: pathlib.Path, text: str) -> None:
    """Writes a file under a temporary name and renames it, so that it is never half there."""
    _replace.replace(path, text.encode())
