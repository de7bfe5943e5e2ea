"""Runs of train.py in processes of their own, for the scripts that disturb them."""

import importlib.util
import os
import pathlib
import socket
import subprocess
import sys
from types import ModuleType
from typing import Any

TRAIN = pathlib.Path(__file__).parent.parent / "train.py"


def start(*args: Any, processes: int = 1, **env: str) -> list[subprocess.Popen[str]]:
    """Starts train.py, in one process or in several that train together on the loopback."""
    together = [()] if processes == 1 else _together(processes)
    return [
        subprocess.Popen(
            [sys.executable, str(TRAIN), *map(str, args), *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | env,
        )
        for more in together
    ]


def _together(processes: int) -> list[tuple[str, ...]]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{server.getsockname()[1]}"
    common = ("--coordinator", address, "--num-processes", str(processes), "--process-id")
    return [(*common, str(k)) for k in range(processes)]


def only_run(out: pathlib.Path) -> pathlib.Path:
    """The folder of the run in `out`."""
    (folder,) = out.iterdir()
    return folder


def train_py() -> ModuleType:
    """train.py as a module."""
    spec = importlib.util.spec_from_file_location("train", TRAIN)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def last_state(run: pathlib.Path) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    """The latest checkpoint: the bytes of each array, and of each epoch what is not a time."""
    import jax
    import numpy as np

    from jaxsnn import data, experiment, training

    config = experiment.Config(**experiment.read_config(run)["settings"])
    steps = len(data.load(config.dataset).train_labels) // config.batch_size
    schedule = training.cosine_schedule(config.lr, config.epochs, steps)
    _, like = training.create(
        experiment.build_model(config),
        train_py().build_optimizer(config, schedule),
        to_sequence=data.SEQUENCES[config.sequence],
        batch_size=config.batch_size,
        seed=0,
    )
    state, history = experiment.Checkpoints(run).restore(like)
    state = state._replace(key=jax.random.key_data(state.key))
    arrays = {
        jax.tree_util.keystr(path): np.asarray(leaf).tobytes()
        for path, leaf in jax.tree.leaves_with_path(state)
    }
    rows = [{k: v for k, v in row.items() if not k.endswith("_per_s")} for row in history]
    return arrays, rows
