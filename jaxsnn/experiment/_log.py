"""The figures of a run: a row per epoch, as a table, as TensorBoard curves and in words."""

import contextlib
import csv
import datetime
import io
import os
import pathlib
import socket
import time
from collections.abc import Sequence
from typing import Any, NotRequired, Self, TypedDict

from jaxsnn import _replace


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
        _replace.replace(self._path / "metrics.csv", text.getvalue().encode())


# The columns of each run, in this order.
_ALWAYS = tuple(name for name in Row.__annotations__ if name in Row.__required_keys__)


def _figures(row: Row) -> dict[str, float]:
    """The numbers of an epoch by the name of their column and of their curve."""
    figures: dict[str, Any] = {name: None for name in Row.__annotations__ if name in row} | row
    rates = figures.pop("firing_rates", {})
    return figures | {f"firing_rate/{layer}": rate for layer, rate in rates.items()}


def best_row(history: Sequence[Row]) -> int:
    """The epoch of the best accuracy; of equal ones the earliest.

    Args:
        history: one row per epoch, at least one, each with `val_acc` (accuracy on what was held out
            of the training set, by which the epoch is then chosen) or else `test_acc`.
    """
    # Rounded: versions differ in the last bit of an accuracy, and equal ones must stay equal.
    accuracies = [round(row.get("val_acc", row["test_acc"]), 6) for row in history]
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
