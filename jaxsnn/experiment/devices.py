"""Which devices a program runs on: one, several of a machine, or those of several processes."""

import ipaddress
import os
from typing import Literal

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxsnn import _checks


class LostProcessError(RuntimeError):
    """Another process does not answer."""


_VARIABLES = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"


def select(name: str = "auto", count: int | Literal["all"] = 1) -> list[jax.Device]:
    """Chooses devices before any backend starts, and makes the first one JAX's default.

    Args:
        name: as train.py's `--device`: `auto` is what jax prefers, `cpu`, `gpu`, or one GPU,
            `cuda:0`, `cuda:1`, ...
        count: how many of that kind, or `all`. Of several processes all devices are taken.

    Returns:
        The devices, those of all processes.

    Raises:
        ValueError: there are no such devices, or not as many.
    """
    kind, _, index = name.partition(":")
    if kind not in ("auto", "cpu", "gpu", "cuda") or (index and kind != "cuda"):
        raise ValueError(f"--device must be auto, cpu, gpu or cuda:0, cuda:1, ..., got {name!r}")
    if index and not index.isdigit():
        raise ValueError(f"--device {name}: {index!r} is not the number of a GPU")
    if index and jax.distributed.is_initialized():
        raise ValueError(
            f"--device {name} is for one process; of several give each its own GPU with "
            "CUDA_VISIBLE_DEVICES or JAX_LOCAL_DEVICE_IDS"
        )
    if index and count != 1:
        raise ValueError(f"--device {name} is one GPU; for {count} of them say --device gpu")
    if kind == "cpu":
        jax.config.update("jax_platforms", "cpu")
    try:
        there = jax.devices("cuda" if kind in ("gpu", "cuda") else None)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"--device {name}: jax finds no such device ({reason}); use --device cpu, or install "
            "jax with CUDA: pip install -e '.[cuda12]'"
        ) from error
    if index:
        if int(index) >= len(there):
            raise ValueError(f"--device {name}: there are only {len(there)} GPUs, from cuda:0 on")
        chosen = [there[int(index)]]
    elif count == "all" or jax.process_count() > 1:
        chosen = there
    else:
        chosen = there[: _checks.size("--devices", count)]
        if len(chosen) < count:
            more = "; XLA_FLAGS=--xla_force_host_platform_device_count=N makes N of one CPU"
            raise ValueError(
                f"--devices {count}: there are only {len(there)} of the kind {there[0].platform}"
                + (more if there[0].platform == "cpu" else "")
            )
    mine = [device for device in chosen if device.process_index == jax.process_index()]
    jax.config.update("jax_default_device", mine[0])
    return chosen


def describe(chosen: list[jax.Device]) -> str:
    """Devices in words, for a log."""
    first, *more = chosen
    words = f"{first.device_kind} ({first.platform}:{first.id})"
    if more:
        words += f" and {len(more)} more"
    processes = jax.process_count()
    return words + (f", in {processes} processes" if processes > 1 else "")


def join(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Joins this process with others to one program, before any backend starts.

    What is not given is taken from the environment (`JAX_COORDINATOR_ADDRESS`,
    `JAX_NUM_PROCESSES`, `JAX_PROCESS_ID`) or, under SLURM, Open MPI or Kubernetes, found by JAX.
    See `jax.distributed.initialize`. The processes talk to each other without encryption or
    passwords: use a network in which everyone may be trusted.

    Args:
        coordinator: `host:port` of process 0, the same for all.
        num_processes: how many there are.
        process_id: number of this one, from 0.

    Raises:
        ValueError: something is missing or does not fit, or the others could not be reached.
    """
    address, number, own = (os.environ.get(name) for name in _VARIABLES)
    coordinator = coordinator or address
    num_processes = _number(num_processes, number, _VARIABLES[1])
    process_id = _number(process_id, own, _VARIABLES[2])
    if coordinator is not None:
        _check_address(coordinator)
    # JAX would have a service that takes SIGTERM to itself; train.py has its own way with it.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            coordinator_bind_address=coordinator if _is_loopback(coordinator) else None,
        )
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"cannot join the other processes ({str(error).splitlines()[0]}): say which they are "
            "with --coordinator HOST:PORT --num-processes N --process-id K, or with "
            f"{', '.join(_VARIABLES)}, or start them with srun or mpirun"
        ) from error


def in_any_process(*flags: bool) -> tuple[bool, ...]:
    """Whether each flag is set in at least one process; all have to ask at the same time.

    Raises:
        LostProcessError: one of them has been lost.
    """
    everyone = _gather(np.array(flags))
    return tuple(bool(everyone[:, k].any()) for k in range(len(flags)))


def refuse_difference(digest: str) -> None:
    """All processes must have come to the same SHA-256, of what they are about to do.

    Raises:
        ValueError: one of them has another than process 0.
        LostProcessError: one of them has been lost.
    """
    everyone = _gather(np.frombuffer(bytes.fromhex(digest), np.uint8))
    others = [k for k, theirs in enumerate(everyone) if (theirs != everyone[0]).any()]
    if others:
        raise ValueError(
            f"the processes {others} have other settings, data or checkpoints than process 0: "
            "start all with the same options, the same data and one folder for the run"
        )


def wait_for_all() -> None:
    """Waits until every process has come to this place.

    Raises:
        LostProcessError: one of them has been lost.
    """
    _gather(np.zeros(1, np.uint8))


def _gather(mine: np.ndarray) -> np.ndarray:
    """What each process has, `[processes, ...]`."""
    if jax.process_count() == 1:
        return mine[None]
    try:
        return np.asarray(multihost_utils.process_allgather(mine))
    except (RuntimeError, ValueError) as error:  # which of the two depends on when it is noticed
        raise LostProcessError(str(error)) from error


def _number(given: int | None, variable: str | None, name: str) -> int | None:
    if given is not None or variable is None:
        return given
    if not variable.isdigit():
        raise ValueError(f"{name} must be a number, got {variable!r}")
    return int(variable)


def _check_address(coordinator: str) -> None:
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise ValueError(
            f"the coordinator must be the host and a free port of process 0, HOST:PORT, got "
            f"{coordinator!r}"
        )


def _is_loopback(coordinator: str | None) -> bool:
    host = (coordinator or "").rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
