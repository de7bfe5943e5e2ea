"""Checkpoints of a run, and models out of them.

A run keeps two: `latest`, and `max`, that of the best test accuracy so far. Orbax writes each
under a temporary name and renames it, and removes an old one only afterwards, so a kill at any
moment leaves what was there before.

    run/config.json            the settings, see `jaxsnn.runs`
    run/checkpoints/<epoch>/   params, progress (optimiser state, running statistics, key, ...),
                               history
"""

import contextlib
import gc
import logging
import os
import pathlib
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import jax
import orbax.checkpoint as ocp
from flax import nnx
from orbax.checkpoint.checkpoint_managers import preservation_policy

from jaxsnn import runs
from jaxsnn.models import MODELS
from jaxsnn.training import TrainState

Which = Literal["latest", "max"]


class CheckpointError(ValueError):
    """A checkpoint that is not there or cannot be read or written."""


class Checkpoints:
    """The checkpoints of one run directory.

    Args:
        run: directory of the run.

    Examples:
        >>> checkpoints = Checkpoints("logs/ss_b256_sgd_lr0.1")
        >>> state, history = checkpoints.restore(state)
    """

    def __init__(self, run: str | os.PathLike[str]) -> None:
        self._run = pathlib.Path(run).absolute()
        self._manager: Any = ocp.CheckpointManager(
            self._run / "checkpoints",
            options=ocp.CheckpointManagerOptions(
                create=False,
                enable_async_checkpointing=False,
                best_fn=_rank,
                preservation_policy=preservation_policy.AnyPreservationPolicy(
                    [
                        preservation_policy.LatestN(n=1),
                        preservation_policy.BestN(get_metric_fn=_rank, n=1),
                    ]
                ),
            ),
        )

    def save(self, state: TrainState, history: list[runs.Row]) -> None:
        """Writes the checkpoint of the epoch that has just ended.

        Args:
            state: after the epoch.
            history: one row per epoch so far, the last that of this epoch.

        Raises:
            CheckpointError: it could not be written, e.g. because the disk is full.
        """
        epoch, accuracy = history[-1]["epoch"], history[-1]["test_acc"]
        try:
            with _quiet_threads():
                self._manager.save(
                    epoch,
                    args=ocp.args.Composite(
                        params=ocp.args.StandardSave(state.params),
                        progress=ocp.args.StandardSave(_progress(state)),
                        history=ocp.args.JsonSave({"rows": history}),
                    ),
                    metrics={"epoch": epoch, "test_acc": accuracy},
                )
        except Exception as error:  # Orbax and tensorstore raise many kinds
            raise CheckpointError(
                f"cannot write the checkpoint of epoch {epoch} in {self._manager.directory}: "
                f"{_first_line(error)}"
            ) from error

    def epoch(self, which: Which = "latest") -> int | None:
        """The epoch of a checkpoint, None if there is none yet."""
        if which not in ("latest", "max"):
            raise ValueError(f"which must be 'latest' or 'max', got {which!r}")
        return self._manager.latest_step() if which == "latest" else self._manager.best_step()

    def restore(
        self, like: TrainState, which: Which = "latest"
    ) -> tuple[TrainState, list[runs.Row]]:
        """Reads a checkpoint.

        Args:
            like: a state of the same model and optimiser; its numbers do not matter.
            which: `latest`, or `max` for the best test accuracy.

        Returns:
            The state, and one row per epoch up to it.

        Raises:
            CheckpointError: there is none, it is damaged, or it belongs to another model.
        """
        read = self._read(
            which,
            params=ocp.args.StandardRestore(_shapes(like.params)),
            progress=ocp.args.StandardRestore(_shapes(_progress(like))),
            history=ocp.args.JsonRestore(),
        )
        progress = dict(read.progress)
        progress["key"] = jax.random.wrap_key_data(progress["key"])
        return TrainState(params=read.params, **progress), list(read.history["rows"])

    def restore_params(self, like: Any, which: Which = "max") -> Any:
        """Reads the parameters alone; `like` is a nested dict of arrays of the same shapes."""
        return self._read(which, params=ocp.args.StandardRestore(_shapes(like))).params

    def _read(self, which: Which, **items: Any) -> Any:
        epoch = self.epoch(which)
        if epoch is None:
            raise CheckpointError(
                f"no checkpoint in {self._manager.directory}: the run has not ended an epoch yet"
            )
        try:
            with _quiet_threads():
                return self._manager.restore(epoch, args=ocp.args.Composite(**items))
        except Exception as error:  # Orbax and tensorstore raise many kinds
            raise CheckpointError(
                f"cannot read the checkpoint {self._manager.directory / str(epoch)}: it is damaged "
                f"or belongs to another model or optimiser ({_first_line(error)}). If another "
                "epoch lies beside it, that one takes its place when this is removed"
            ) from error


def load_model(run: str | os.PathLike[str], which: Which = "max") -> Any:
    """A trained network, ready to use.

    Args:
        run: directory of a run of train.py.
        which: `max` for the best test accuracy, or `latest`.

    Returns:
        The module, with `net(xs) -> firing rates`.

    Raises:
        FileNotFoundError: `run` is not the directory of a run.
        CheckpointError: it has no checkpoint, or a damaged one.

    Examples:
        >>> net = load_model("logs/ss_b256_sgd_lr0.1")
        >>> rates = net(jaxsnn.data.columns(images))
    """
    settings = runs.read_config(run)["settings"]
    graphdef, params = nnx.split(build_model(settings, seed=0))
    arrays = Checkpoints(run).restore_params(nnx.to_pure_dict(params), which)
    return nnx.merge(graphdef, arrays)


def build_model(settings: Mapping[str, Any], seed: int) -> Any:
    """The untrained network that a run's settings name (`model`, `amp`)."""
    dtype = jax.numpy.bfloat16 if settings["amp"] else None
    return MODELS[settings["model"]](dtype=dtype, rngs=nnx.Rngs(seed))


def _rank(metrics: Mapping[str, Any]) -> tuple[float, int]:
    """The best test accuracy is best; of equal ones the earliest."""
    return metrics["test_acc"], -metrics["epoch"]


def _progress(state: TrainState) -> dict[str, Any]:
    rest = state._asdict()
    del rest["params"]
    rest["key"] = jax.random.key_data(state.key)
    return rest


def _shapes(tree: Any) -> Any:
    return jax.tree.map(ocp.utils.to_shape_dtype_struct, tree)


def _first_line(error: Exception) -> str:
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line if len(line) < 300 else line[:300] + " ..."


@contextlib.contextmanager
def _quiet_threads() -> Iterator[None]:
    """One error is enough: on damage, or a full disk, the reader or writer of each array reports
    for itself, from threads, through these loggers and Python's hook for the uncaught.
    """
    hook = sys.unraisablehook
    levels = {logger: logger.level for logger in map(logging.getLogger, ("absl", "asyncio"))}
    sys.unraisablehook = lambda _: None
    for logger in levels:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            try:
                yield
            except Exception:
                time.sleep(0.2)  # for the stragglers
                gc.collect()
                raise
    finally:
        sys.unraisablehook = hook
        for logger, level in levels.items():
            logger.setLevel(level)
