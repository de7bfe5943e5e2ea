"""A run of train.py under way: its folder, checkpoints and log, and what ends it."""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from jaxsnn import data, training
from jaxsnn.experiment import _folder, _log, devices
from jaxsnn.experiment._checkpoints import Checkpoints, check_path
from jaxsnn.experiment._config import Config, Runtime, build_model
from jaxsnn.experiment._endings import Stopped, told_to_stop
from jaxsnn.interop import spikingjelly
from jaxsnn.training import Metrics, TrainState

# GPUs would otherwise round the operands of float32 matrix products to 10 bits (TF32).
MATMUL_PRECISION = "float32"

HeldOut = tuple[np.ndarray, np.ndarray]


class Run:
    """One run: its data, its folder, and what is written there.

        run = Run(config, runtime)           # chooses the devices
        images = run.load_data()             # nothing is on the disk yet
        with run.begin(state) as state:      # makes the folder, or goes on in it
            for epoch in run.epochs():
                run.save_or_stop(state)      # a checkpoint, if it is time for one
                ...
                run.record(state, ...)       # metrics.csv, TensorBoard, a line on the terminal
            run.end(state)                   # the last checkpoint

    Args:
        config: the hyperparameters.
        runtime: the options.

    Attributes:
        path: the folder of the run.
        devices: the devices that share a minibatch; None for one alone.
        images: the data, after `load_data`.
        held_out: images and labels for validation; None without `validation`.
        history: one row per epoch that has ended.

    Raises:
        ImportError: the data are to stay on the host, and Grain is not installed.
        ValueError: checkpoints cannot be saved into such a folder, or there is no such device.
    """

    def __init__(self, config: Config, runtime: Runtime) -> None:
        if runtime.data_placement == "host":
            training.import_grain()  # missed now, before there is anything on the disk
        self.config, self.runtime = config, runtime
        self.path = _path(config, runtime)
        check_path(self.path)
        self._chosen = select_devices(runtime)
        self._leads = jax.process_index() == 0  # of several processes one writes
        self.devices = self._chosen if len(self._chosen) > 1 else None
        self.history: list[_log.Row] = []

    def load_data(self) -> data.ImageDataset:
        """Load the images, and see that the run can begin.

        Raises:
            FileExistsError: there is a run or something else in the folder.
            ValueError: the data are damaged, or fewer than one minibatch.
        """
        self.images, self.held_out = load_data(self.config, self.runtime)
        self._digest = data.fingerprint(self.images)
        if self.runtime.resume is None:
            _folder.refuse_occupied(self.path, self.runtime.overwrite)
        place = str(self.path.absolute()), self.runtime.data_placement
        _all_agree(dataclasses.asdict(self.config), self._digest, *place)
        return self.images

    @contextlib.contextmanager
    def begin(self, state: TrainState) -> Iterator[TrainState]:
        """Make the folder, or go on in it; until the end it belongs to this process alone.

        Args:
            state: the first state.

        Yields:
            The state to go on from.

        Raises:
            FileExistsError: there is a run or something else in the folder.
            ValueError: another process trains there, the run has ended, or its data were others.
            CheckpointError: the checkpoint to go on from is damaged.
        """
        runtime, settings, digest = self.runtime, dataclasses.asdict(self.config), self._digest
        config = None if runtime.resume is None else _folder.read_config(runtime.resume)
        with contextlib.ExitStack() as stack:
            if self._leads:
                stack.enter_context(_folder.lock(self.path))
            self._told = stack.enter_context(told_to_stop())
            if config is None:
                config = {"settings": settings, "data": digest, "sessions": []}
                if self._leads:
                    if runtime.overwrite and (self.path / "config.json").exists():
                        _folder.clear(self.path)
                    _folder.create(self.path, config)
            elif config["data"] != digest:
                raise ValueError(
                    f"the data of {self.path} had the fingerprint {config['data']}, this has "
                    f"{digest} (from {self.images.source}): other images, or the same in another "
                    "order"
                )
            devices.wait_for_all()  # until the run's directory is there
            state = self._restore(state)
            config["sessions"].append(
                _folder.session(
                    first_epoch=len(self.history),
                    device=devices.describe(self._chosen),
                    matmul_precision=MATMUL_PRECISION,
                    data_source=self.images.source,
                )
            )
            if self._leads:
                _folder.write_config(self.path, config)
            print(f"run: {self.path}, {settings}")
            self._log = _log.Log(self.path, self.history) if self._leads else None
            stack.enter_context(self._log or contextlib.nullcontext())
            yield state

    @property
    def _steps(self) -> int:
        return len(self.images.train_images) // self.config.batch_size

    def _restore(self, state: TrainState) -> TrainState:
        """Return the state to go on from, and fill the history."""
        runtime, self._checkpoints = self.runtime, Checkpoints(self.path)
        step = self._checkpoints.step()
        _all_agree(step)
        if self.config.init_from is not None and step is None:
            if runtime.init_from is None:
                raise ValueError(
                    f"{self.path} was stopped before it had kept the parameters that it starts "
                    "from; give --init-from once more"
                )
            self._checkpoints.save(state, self.history)  # from here on the file is not needed
        if runtime.resume is not None and step is not None:
            state, self.history = self._checkpoints.restore(state)
            if len(self.history) >= self.config.epochs:
                raise ValueError(
                    f"{self.path} has already finished its {self.config.epochs} epochs; "
                    + _folder.LONGER
                )
        return state

    def epochs(self) -> Iterator[int]:
        """Count the epochs that are left, with a progress bar on a terminal."""
        total, first = self.config.epochs, len(self.history)
        self._saved, self._began = time.monotonic(), time.perf_counter()
        self._first = first
        no_bar = self._log is None or not sys.stderr.isatty()
        with tqdm(total=total, initial=first, unit="epoch", disable=no_bar) as self._bar:
            yield from range(first, total)

    def save_or_stop(self, state: TrainState) -> None:
        """Save the state if it is time to.

        Args:
            state: between two epochs, or in the middle of one.

        Raises:
            Stopped: this process, or another one, was told to stop; the state is saved.
        """
        due = time.monotonic() - self._saved >= self.runtime.save_every
        stop, due = devices.in_any_process(bool(self._told), due)
        if (stop or due) and int(state.step):
            self._checkpoints.save(state, self.history)
            self._saved = time.monotonic()
        if stop:
            epoch, done = len(self.history), int(state.tally.minibatches)
            saved = f"saved after epoch {epoch - 1}" if epoch else "no epoch has ended"
            raise Stopped(
                self._told, f"saved in epoch {epoch}, after minibatch {done}" if done else saved
            )

    def save_in_epoch(self, state: TrainState) -> bool:
        """Call `save_or_stop` in the middle of an epoch, for `training.stream_epoch`.

        Raises:
            ValueError: a number is not finite; what was right before is kept.
        """
        if not self.config.skip_nonfinite:
            self._refuse_nonfinite(state.tally, True)
        self.save_or_stop(state)
        return False

    def record(
        self,
        state: TrainState,
        trained: Metrics,
        tested: Metrics,
        validated: Metrics | None,
        **figures: Any,
    ) -> None:
        """Write down an epoch that has ended, and keep its state if it is the best so far.

        Args:
            state: after the epoch.
            trained: the figures of its training.
            tested: those on the test set.
            validated: those on the images that were held out; None if none were.
            figures: the other columns of `Row`.

        Raises:
            ValueError: a number is not finite; what was right before is kept.
        """
        epoch, config = len(self.history), self.config
        measured = [trained, tested] if validated is None else [trained, tested, validated]
        self._refuse_nonfinite(trained, all(bool(metrics.finite) for metrics in measured))
        row: Any = {"epoch": epoch}
        names = ("train", "test", "val")
        for name, metrics in zip(names, measured, strict=False):
            row[f"{name}_loss"] = float(metrics.loss)
            row[f"{name}_acc"] = float(metrics.accuracy)  # type: ignore[arg-type]  # of classes
        row |= {"gradient_norm": float(trained.gradient_norm), "skipped": int(trained.skipped)}
        self.history.append(row | figures)
        if self._log is not None:
            self._log.write(self.history)  # first: a run that has ended has a complete log
        self._checkpoints.hold(state, self.history)
        self._bar.update()
        per_epoch = (time.perf_counter() - self._began) / (epoch + 1 - self._first)
        line = _log.epoch_line(self.history, per_epoch * (config.epochs - epoch - 1))
        tqdm.write(line, file=sys.stdout)
        sys.stdout.flush()

    def end(self, state: TrainState) -> None:
        """Save the state after the last epoch."""
        self._checkpoints.save(state, self.history)
        print(f"{_log.last_line(self.history)}; {self.path}")

    def _refuse_nonfinite(self, seen: Metrics, finite: bool) -> None:
        """End a run whose numbers are not finite; what was right before is kept."""
        where, steps = int(seen.first_nonfinite), self._steps
        if finite and (where < 0 or seen.skipped):
            return
        message = "the loss, a parameter or the optimiser's state is not finite"
        if seen.skipped:
            message += f" though {seen.skipped} updates of {steps} were left out"
        if where >= 0:
            message += (
                f" since minibatch {where} of {steps} (its gradient has the norm "
                f"{seen.nonfinite_norm:.3g}, the largest finite one {seen.gradient_norm:.3g})"
            )
        self._checkpoints.save_held()
        raise ValueError(
            f"epoch {len(self.history)}: {message}, so training stops; the checkpoints in "
            f"{self._checkpoints.directory} are those of the epochs before. Try a smaller --lr, "
            "--clip-norm 1 or --skip-nonfinite"
        )


def load_data(config: Config, runtime: Runtime) -> tuple[data.ImageDataset, HeldOut | None]:
    """Load the images, and hold out those for validation.

    Raises:
        ValueError: the data are damaged, or fewer than one minibatch.
    """
    images, held_out = data.load(config.dataset, runtime.data_dir), None
    if config.validation is not None:
        images, held_out = data.hold_out(images, config.validation)
    size = len(images.train_images)
    if config.batch_size > size and runtime.evaluate is None:
        raise ValueError(
            f"--batch-size {config.batch_size} is larger than the training set of {size} images"
        )
    print(
        f"data: {config.dataset}, {size} training"
        + (f", {len(held_out[1])} validation" if held_out else "")
        + f" and {len(images.test_images)} test images, from {images.source}"
    )
    return images, held_out


def new_model(config: Config, runtime: Runtime) -> Any:
    """Build the network as training begins with it."""
    model = build_model(config)
    return model if runtime.init_from is None else spikingjelly.load(model, runtime.init_from)


def _path(config: Config, runtime: Runtime) -> pathlib.Path:
    """Return the folder of the run."""
    planned = pathlib.Path(runtime.out_dir) / config.folder
    if runtime.resume is None:
        return planned
    run = pathlib.Path(runtime.resume)
    if "out_dir" in runtime.given and run.resolve() != planned.resolve():
        raise ValueError(
            f"--out-dir {runtime.out_dir} would put the run into {planned}, but --resume goes on "
            f"in {run}: leave out --out-dir"
        )
    return run


def _all_agree(*things: Any) -> None:
    """Several processes must be about to do the same, or they would wait for each other."""
    same = json.dumps(things, sort_keys=True)
    devices.refuse_difference(hashlib.sha256(same.encode()).hexdigest())


def select_devices(runtime: Runtime) -> list[jax.Device]:
    """Choose the devices that the options ask for, and print which they are.

    Notes on options without effect are printed too. From here on the first process alone prints.
    """
    chosen = devices.select(runtime.device, runtime.devices)
    if jax.process_index() != 0:
        # Open as long as the process: it is silent from here on.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    jax.config.update("jax_default_matmul_precision", MATMUL_PRECISION)
    print(f"device: {devices.describe(chosen)}, jax {jax.__version__}")
    if runtime.cupy:
        print("note: --cupy has nothing to switch: XLA compiles the neurons on every device")
    if "workers" in runtime.given and runtime.data_placement == "device":
        print(
            "note: --workers has nothing to switch: the whole data set lives on the device "
            "(--data-placement host)"
        )
    if runtime.distributed and "devices" in runtime.given and runtime.devices != "all":
        print("note: --devices has nothing to switch: all devices of all processes are used")
    nvidia = any(map(os.path.exists, ("/proc/driver/nvidia/gpus", "/dev/nvidia0")))
    if runtime.device == "auto" and chosen[0].platform == "cpu" and nvidia:
        print(
            "warning: this machine has an NVIDIA GPU, but jax was installed without CUDA; "
            "pip install -e '.[cuda12]' makes it usable",
            file=sys.stderr,
        )
    return chosen
