"""Reads what a run has written, without the code that wrote it."""

import csv
import struct

from tensorboardX.proto import event_pb2


def table(run):
    """The rows of metrics.csv, as numbers."""
    with open(run / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        {k: int(v) if k in ("epoch", "skipped") else float(v) for k, v in row.items()}
        for row in rows
    ]


def curves(run):
    """All TensorBoard scalars in the folder: (step, value) by tag, in the order written."""
    found = {}
    for path in sorted(run.glob("events.out.tfevents.*")):
        content, position = path.read_bytes(), 0
        while position < len(content):
            (length,) = struct.unpack_from("<Q", content, position)
            event = event_pb2.Event.FromString(content[position + 12 : position + 12 + length])
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
            position += 12 + length + 4
    return found


SETTINGS = {
    "model": "ss",
    "epochs": 4,
    "batch_size": 64,
    "opt": "sgd",
    "lr": 0.1,
    "momentum": 0.9,
    "clip_norm": None,
    "skip_nonfinite": False,
    "amp": False,
    "seed": 0,
    "dataset": "fashion_mnist_mini",
    "sequence": "columns",
    "init_from": None,
    "validation": None,
}


def config(**settings):
    """What config.json holds, with some settings changed."""
    return {"settings": SETTINGS | settings, "data": "0" * 64, "sessions": []}
