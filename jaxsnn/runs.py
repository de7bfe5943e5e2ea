"""The directory of a run: its settings, its metrics as a table and as TensorBoard curves.

    run/config.json            everything needed to repeat the run
    run/metrics.csv            one line per epoch
    run/events.out.tfevents.*  the same for TensorBoard: train_loss train_acc test_loss test_acc
    run/checkpoints/           see `jaxsnn.checkpointing`

The history in the checkpoint is the truth; the other two are made from it, so that after a kill
and a resume each epoch is there once.
"""

import csv
import io
import json
import os
import pathlib
import tempfile
from typing import Any, Literal, TypedDict


class Row(TypedDict):
    """The figures of one epoch."""

    epoch: int
    train_loss: float
    train_acc: float
    test_loss: float
    test_acc: float
    train_images_per_s: float
    test_images_per_s: float
    lr: float


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
        config: JSON data with at least `settings`.

    Raises:
        FileExistsError: there is something in it already; nothing is touched.
        OSError: it cannot be written.
    """
    path = pathlib.Path(run)
    path.mkdir(parents=True, exist_ok=True)
    if any(path.iterdir()):
        raise FileExistsError(f"{path} is not empty")
    write_config(run, config)


def write_config(run: str | os.PathLike[str], config: dict[str, Any]) -> None:
    """Writes config.json in one go."""
    replace(pathlib.Path(run) / "config.json", json.dumps(config, indent=2) + "\n")


def read_config(run: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads config.json.

    Raises:
        FileNotFoundError: `run` is not the directory of a run.
        ValueError: the file is damaged.
    """
    path = pathlib.Path(run) / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{run} is not the directory of a run: it has no config.json")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(config, dict) or not isinstance(config.get("settings"), dict):
        raise ValueError(f"{path} is damaged: it holds no settings")
    return config


class Log:
    """metrics.csv and the TensorBoard curves of one run.

    Args:
        run: the directory.
        history: rows of a run that is resumed; earlier files are made anew from them.
    """

    def __init__(self, run: str | os.PathLike[str], history: list[Row]) -> None:
        from tensorboardX import SummaryWriter

        self._path = pathlib.Path(run)
        for events in self._path.glob("events.out.tfevents.*"):
            events.unlink()
        self._writer = SummaryWriter(str(self._path))
        for row in history:
            self._add_curves(row)
        self._writer.flush()
        self._write_table(history)

    def write(self, history: list[Row]) -> None:
        """Adds the last row of `history`."""
        self._add_curves(history[-1])
        self._writer.flush()
        self._write_table(history)

    def close(self) -> None:
        """Closes the TensorBoard file."""
        self._writer.close()

    def _add_curves(self, row: Row) -> None:
        for name in CURVES:
            self._writer.add_scalar(name, row[name], row["epoch"])

    def _write_table(self, history: list[Row]) -> None:
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, list(Row.__annotations__), lineterminator="\n")
        table.writeheader()
        table.writerows(history)
        replace(self._path / "metrics.csv", text.getvalue())


def replace(path: pathlib.Path, text: str) -> None:
    """Writes a file under a temporary name and renames it, so that it is never half there."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
