"""Checkpoints of a run, and models out of them.

A run keeps two: `latest`, and `max`, that of the best accuracy so far, on the held-out part of the
training set if there is one, else on the test set (`jaxsnn.experiment.best_row`). Orbax writes each
under a temporary name and renames it. Then it is read back and compared, and only after that are
old ones removed, so a kill or a failed write at any moment leaves what was there before. Each
carries checksums of all that is read from it, so that damage is an error and never another number.

    run/config.json           the settings, see `_folder`
    run/checkpoints/<step>/   after so many minibatches:
        params                parameters
        statistics, constants running statistics and fixed arrays of the model, if it has any
        progress              optimiser state, key, counts
        record                history, the step itself, that of the best, checksums

What is there under another name, or is a link, is not a checkpoint and stays untouched.
"""

import contextlib
import errno
import gc
import hashlib
import json
import logging
import os
import pathlib
import re
import shutil
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import nnx

from jaxsnn.experiment import _earlier, _folder
from jaxsnn.experiment._config import Config, build_model
from jaxsnn.experiment._log import Row, best_row
from jaxsnn.training import TrainState

Which = Literal["latest", "max"]

FORM = 2  # of what a checkpoint holds; the record of the first form does not name it


class CheckpointError(ValueError):
    """A checkpoint that is not there, or is damaged, or belongs to something else."""


class CheckpointWriteError(OSError):
    """A checkpoint that could not be written; those of before are still there."""


class Checkpoints:
    """The checkpoints of one run directory.

    With several processes each makes one of these, and all call the same methods.

    Args:
        run: directory of the run.

    Attributes:
        directory: where they lie.

    Examples:
        >>> checkpoints = Checkpoints("logs/ss_b256_sgd_lr0.1")
        >>> state, history = checkpoints.restore(state)
    """

    def __init__(self, run: str | os.PathLike[str]) -> None:
        self.directory = pathlib.Path(run).absolute() / "checkpoints"
        self._orbax: Any = ocp.Checkpointer(ocp.CompositeCheckpointHandler())
        self._bests: dict[int, int | None] = {}  # what the records seen here say is the best
        self._held: tuple[TrainState, list[Row]] | None = None

    def save(self, state: TrainState, history: Sequence[Row]) -> None:
        """Writes a checkpoint, usually of the epoch that has just ended, and what `hold` kept.

        Every checkpoint is read back and compared with what was to be written; only then are older
        ones removed.

        A state of the middle of an epoch can be kept too; it is the `latest` until the next one.
        The state that is the latest already is not written again.

        Args:
            state: what to keep.
            history: one row per epoch that has ended.

        Raises:
            CheckpointWriteError: it could not be written, e.g. because the disk is full, or what
                was read back differs.
            CheckpointError: the checkpoint before it cannot be read, or is not before it.
            ValueError: Orbax cannot write into a folder of this name, see `check_path`.
        """
        held, self._held = self._held, None
        if held is not None and int(held[0].step) < int(state.step):
            self._write(*held)
        self._write(state, history)

    def hold(self, state: TrainState, history: Sequence[Row]) -> None:
        """Keeps the state of an epoch that has just ended if it is the best so far.

        Saving costs time, so one may save less often than every epoch. This keeps a copy in the
        memory of the device, which the next `save` writes before the state that it is given.

        Args:
            state: the state; it may be donated afterwards.
            history: one row per epoch that has ended.
        """
        if history and best_row(history) == len(history) - 1:
            self._held = jax.tree.map(jax.numpy.copy, state), list(history)

    def save_held(self) -> None:
        """Writes what `hold` keeps, if anything. Raises what `save` does."""
        if self._held is not None:
            self.save(*self._held)

    def _write(self, state: TrainState, history: Sequence[Row]) -> None:
        check_path(self.directory.parent)
        step, latest = int(state.step), self.step()
        parts = _parts(state)
        digests = {name: _digest(part) for name, part in parts.items()}
        path = self.directory / str(step)
        if latest is not None and step <= latest:
            if step == latest and self._record(latest)["sha256"] == digests:
                return
            raise CheckpointError(
                f"cannot write the checkpoint {path}: {self.directory / str(latest)} is there, of "
                "another state; remove all that are not before the state to go on from"
            )
        best = None if latest is None else self._best(latest)
        if history and best_row(history) == len(history) - 1 and int(state.tally.minibatches) == 0:
            best = step
        record = {"step": step, "rows": list(history), "best": best, "sha256": digests}
        record["form"] = FORM
        try:
            with _quiet_threads():
                self._orbax.save(
                    path,
                    args=ocp.args.Composite(
                        record=ocp.args.JsonSave(_folder.signed(record)),
                        **{name: ocp.args.StandardSave(part) for name, part in parts.items()},
                    ),
                )
        except Exception as error:  # Orbax and tensorstore raise many kinds
            raise CheckpointWriteError(
                f"cannot write the checkpoint {path}: {_first_line(error)}"
            ) from error
        self._verify(step, parts)
        if jax.process_index() == 0:
            self._remove_all_but(step, best)

    def _verify(self, step: int, written: dict[str, Any]) -> None:
        """Reads a new checkpoint back into host memory; one that is not right is removed."""
        on_host = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), written)
        try:
            self._arrays(step, self._record(step), on_host)
        except CheckpointError as error:
            self._bests.pop(step, None)
            if jax.process_index() == 0:
                self._remove(self.directory / str(step))
            raise CheckpointWriteError(
                f"the checkpoint {self.directory / str(step)} was written, but cannot be read back "
                f"({_first_line(error.__cause__ or error)}); it was removed"
            ) from error

    def step(self, which: Which = "latest") -> int | None:
        """After how many minibatches a checkpoint was made, None if there is none yet.

        Args:
            which: `latest`, or `max` for the best accuracy, see `jaxsnn.experiment.best_row`.

        Raises:
            CheckpointError: the record of the latest checkpoint, which knows the best, is damaged.
        """
        if which not in ("latest", "max"):
            raise ValueError(f"which must be 'latest' or 'max', got {which!r}")
        latest = max(self._steps(), default=None)
        if latest is None:
            return None
        best = self._best(latest)
        return latest if which == "latest" else best

    def restore(self, like: TrainState, which: Which = "latest") -> tuple[TrainState, list[Row]]:
        """Reads a checkpoint.

        Args:
            like: a state of the same model and optimiser; its numbers do not matter. The arrays
                that are read lie on the same devices as its arrays.
            which: `latest`, or `max` for the best accuracy, see `jaxsnn.experiment.best_row`.

        Returns:
            The state, and one row per epoch up to it.

        Raises:
            CheckpointError: there is none, it is damaged, or it belongs to another model.
        """
        step = self._existing(which)
        record = self._record(step)
        earlier = "form" not in record
        parts = _earlier.parts(_parts(like)) if earlier else _parts(like)
        read = self._arrays(step, record, parts)
        if earlier:
            with self._reading(self.directory / str(step), self._way_out(step)):
                read = _earlier.convert(read, self._batch_size())
        progress = dict(read.pop("progress"))
        key = jax.random.wrap_key_data(progress.pop("key"), impl=jax.random.key_impl(like.key))
        state = {"statistics": {}, "constants": {}, **read, **progress, "key": key}
        return TrainState(**state), record["rows"]

    def _batch_size(self) -> int | None:
        """That of the run, None where there is no run of train.py."""
        run = self.directory.parent
        there = (run / "config.json").is_file()
        return _folder.read_config(run)["settings"]["batch_size"] if there else None

    def restore_params(self, like: Any, which: Which = "max") -> Any:
        """Reads the parameters alone; `like` is a nested dict of arrays of the same shapes."""
        return self._restore_parts({"params": like}, which)["params"]

    def _restore_parts(self, like: dict[str, Any], which: Which) -> dict[str, Any]:
        step = self._existing(which)
        return self._arrays(step, self._record(step), like)

    def history(self, which: Which = "latest") -> list[Row]:
        """Reads one row per epoch up to a checkpoint."""
        return self._record(self._existing(which))["rows"]

    def _existing(self, which: Which) -> int:
        check_path(self.directory.parent, write=False)
        step = self.step(which)
        if step is None:
            raise CheckpointError(
                f"no checkpoint {which!r} in {self.directory}: the run has not ended an epoch yet, "
                "or its best one is not there"
            )
        return step

    def _steps(self) -> list[int]:
        """The checkpoints that are there."""
        if self.directory.is_symlink():
            raise CheckpointError(
                f"{self.directory} is a link, and what it leads to may belong to another run; put "
                "the folder itself there"
            )
        with self._reading(self.directory, "Put the folder of the checkpoints there"):
            return [
                int(path.name)
                for path in (self.directory.iterdir() if self.directory.exists() else ())
                if _STEP.fullmatch(path.name) and path.is_dir() and not path.is_symlink()
            ]

    def _best(self, step: int) -> int | None:
        """Which is the best as of a checkpoint, which is read if need be."""
        return self._bests[step] if step in self._bests else self._record(step)["best"]

    def _remove_all_but(self, *kept: int | None) -> None:
        """Removes older checkpoints, but nothing whose record does not say that it is one; and
        what kills have left of some that were being written.
        """
        for path in self.directory.iterdir():
            if _UNFINISHED.fullmatch(path.name) and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
        for step in self._steps():
            if step not in kept:
                with contextlib.suppress(CheckpointError):
                    self._best(step)
                    self._remove(self.directory / str(step))

    def _remove(self, path: pathlib.Path) -> None:
        removed = self.directory / "removed"  # what is half removed must not look like a checkpoint
        try:
            if removed.is_dir() and not removed.is_symlink():  # left by a kill
                shutil.rmtree(removed)
            removed.unlink(missing_ok=True)
            path.rename(removed)
            shutil.rmtree(removed)
        except OSError as error:
            raise CheckpointWriteError(
                f"cannot remove the checkpoint {path}: {_first_line(error)}"
            ) from error

    def _record(self, step: int) -> dict[str, Any]:
        """The part of a checkpoint that is not arrays, checked."""
        path = self.directory / str(step)
        with self._reading(path, self._way_out(step)):
            # Not by Orbax, in which all processes wait for each other: one alone may ask for it.
            text = (path / "record" / "metadata").read_text(encoding="utf-8")
            record = _folder.verified(json.loads(text))
            if record["step"] != step:
                raise ValueError(f"it was written as {record['step']}, not as {step}")
            if record.get("form", 1) > FORM:
                raise ValueError("it is of a later version of jaxsnn")
            self._bests[step] = record["best"]
            return record

    def _arrays(self, step: int, record: dict[str, Any], like: dict[str, Any]) -> dict[str, Any]:
        """The parts of a checkpoint that are arrays, checked; `like` has those wanted."""
        path = self.directory / str(step)
        with self._reading(path, self._way_out(step)):
            items = {name: ocp.args.StandardRestore(_shapes(part)) for name, part in like.items()}
            read = self._orbax.restore(path, args=ocp.args.Composite(**items))
            for name in like:
                if _digest(read[name]) != record["sha256"][name]:
                    raise ValueError(f"the checksum of its {name} is not that of its record")
            return {name: read[name] for name in like}

    def _way_out(self, step: int) -> str:
        """What can be done if a checkpoint is damaged."""
        if step == max(self._steps(), default=step):
            return "If it is damaged, remove it: another one that lies beside it takes its place"
        return "The latest one is another: which='latest' reads that"

    @contextlib.contextmanager
    def _reading(self, path: pathlib.Path, way_out: str) -> Iterator[None]:
        try:
            with _quiet_threads():
                yield
        except Exception as error:  # Orbax and tensorstore raise many kinds
            lost = isinstance(error, jax.errors.JaxRuntimeError) and jax.process_count() > 1
            if lost or (isinstance(error, OSError) and error.errno in (errno.EIO, errno.ESTALE)):
                raise  # nothing is wrong with the checkpoint
            raise CheckpointError(
                f"cannot read the checkpoint {path}: it is damaged or belongs to another model or "
                f"optimiser ({_first_line(error)}). {way_out}"
            ) from error


def check_path(run: str | os.PathLike[str], *, write: bool = True) -> None:
    r"""Check that Orbax takes the path of a run for the path that it is.

    Orbax and tensorstore are given text. They read `\` and `x:/` in it as parts of a URL or of a
    Windows path, and when they write, `*`, `?` and `[` as patterns of file names, of which they
    write half a checkpoint without an error. Names that are not UTF-8 they cannot take at all. A
    symbolic link with another name leads around this.

    Args:
        run: the folder of a run; its absolute path is looked at, links are not followed.
        write: whether checkpoints are to be written there, or only read.

    Raises:
        ValueError: the path holds such a character.

    Examples:
        >>> check_path("logs/ss_b256_sgd_lr0.1")
    """
    path = str(pathlib.Path(run).absolute())
    if found := (_NOT_WRITTEN if write else _NOT_READ).search(path):
        reads = "a pattern of file names" if found[0] in "*?[" else "part of an address or no text"
        verb = "saved into" if write else "read from"
        raise ValueError(
            f"the path {ascii(path)[1:-1]} holds {found[0]!r}, which Orbax takes for {reads}, so "
            f"that no checkpoint can be {verb} it; rename the folder, choose another, or go there "
            "by a symbolic link of another name"
        )


_NOT_READ = re.compile(r"\\|:(?=/|$)|[\ud800-\udfff]")
_NOT_WRITTEN = re.compile(rf"[*?\[]|{_NOT_READ.pattern}")

# Other spellings of a number are not ours, e.g. 007, +7, 7 in other digits.
_STEP = re.compile("0|[1-9][0-9]{0,9}")
_UNFINISHED = re.compile(r"[0-9]+\.orbax-checkpoint-tmp.*")  # as Orbax names it


def load_model(run: str | os.PathLike[str], which: Which = "max") -> Any:
    """A trained network, ready to use.

    Args:
        run: directory of a run of train.py.
        which: `max` for the best accuracy, see `jaxsnn.experiment.best_row`, or `latest`.

    Returns:
        The module, with `net(xs) -> firing rates`.

    Raises:
        FileNotFoundError: `run` is not the directory of a run.
        CheckpointError: it has no checkpoint, or a damaged one.

    Examples:
        >>> net = load_model("logs/ss_b256_sgd_lr0.1")
        >>> rates = net(jaxsnn.data.columns(images))
    """
    config = Config(**_folder.read_config(run)["settings"])
    split: Any = nnx.split(build_model(config), nnx.Param, nnx.BatchStat, ...)
    graphdef, *states = split
    like = dict(zip(_MODEL, map(nnx.to_pure_dict, states), strict=True))
    there = {name: part for name, part in like.items() if part}
    read = Checkpoints(run)._restore_parts(there, which)
    return nnx.merge(graphdef, *(like | read).values())


_MODEL = "params", "statistics", "constants"


def _parts(state: TrainState) -> dict[str, Any]:
    """What is saved of a state, in parts that can be read alone; empty ones are left out."""
    rest = state._asdict()
    rest["key"] = jax.random.key_data(state.key)
    model = {name: rest.pop(name) for name in _MODEL}
    return {name: part for name, part in model.items() if part} | {"progress": rest}


def _shapes(tree: Any) -> Any:
    """The form in which Orbax is told what to read: into host memory where that is given."""
    return jax.tree.map(
        lambda leaf: leaf if type(leaf) is np.ndarray else ocp.utils.to_shape_dtype_struct(leaf),
        tree,
    )


def _digest(tree: Any) -> str:
    """SHA-256 over names, shapes, dtypes and bytes of all arrays."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(tree):
        array = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.shape} {array.dtype} ".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _first_line(error: BaseException) -> str:
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
