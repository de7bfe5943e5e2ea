"""Does a run that is killed again and again end with the numbers of one that was not?

    python benchmarks/kills.py                                # 50 kills
    python benchmarks/kills.py --processes 2 --kills 10       # one of two processes is killed
    python benchmarks/kills.py -- --data-placement host       # options of train.py after --

A run is trained undisturbed. The same run is trained a second time, and its process killed
(SIGKILL) at random moments: while it starts and compiles, while it trains, while a checkpoint is
written. After each kill it is resumed. In the end every array of the last checkpoint and every row
of the history must be equal, to the last bit. Of several processes one is killed; the others must
end by themselves, and how long that takes is measured.
"""

import contextlib
import pathlib
import random
import shutil
import subprocess
import tempfile
import threading
import time
from collections import Counter
from typing import Any

import _common
import _runs

PHASES = ("starting", "training", "writing")


def main() -> None:
    """Disturbs, compares, prints, writes."""
    parser = _common.arguments(__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=400)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--dataset", default="fashion_mnist")
    parser.add_argument("--model", default="ss")
    parser.add_argument("--save-every", type=float, default=1.0, help="as of train.py")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("options", nargs="*", help="more options of train.py")
    args = parser.parse_args()
    if args.quick:
        args.kills, args.epochs, args.dataset, args.save_every = 3, 40, "fashion_mnist_mini", 0.0
    settings = ["--model", args.model, "--epochs", args.epochs, "--dataset", args.dataset]
    scratch = pathlib.Path(tempfile.mkdtemp())
    try:
        began = time.monotonic()
        for process in _runs.start(
            *settings, *args.options, "--out-dir", scratch / "straight", processes=args.processes
        ):
            _, errors = process.communicate()
            assert process.returncode == 0, errors
        straight = time.monotonic() - began
        kills = disturb(args, settings, scratch / "killed")
        expected = _runs.last_state(_runs.only_run(scratch / "straight"))
        found = _runs.last_state(_runs.only_run(scratch / "killed"))
    finally:
        shutil.rmtree(scratch)
    arrays, rows = expected
    different = [name for name in arrays if found[0].get(name) != arrays[name]]
    assert not different, f"arrays that differ: {different}"
    assert found[1] == rows, "the histories differ"
    phases = Counter(kill["phase"] for kill in kills)
    print(f"{len(kills)} kills: {dict(phases)}; {len(rows)} epochs; all {len(arrays)} arrays equal")
    ends = [end for kill in kills for end in kill["others_ended_after_s"]]
    if ends:
        print(f"the other processes ended within {max(ends):.2f} s")
    _common.write(
        args,
        {
            "environment": _common.environment(),
            "settings": [*map(str, settings), *args.options],
            "processes": args.processes,
            "save_every_s": args.save_every,
            "straight_s": straight,
            "kills": kills,
            "phases": phases,
            "epochs": len(rows),
            "arrays": len(arrays),
            "equal": True,
        },
    )


def disturb(args: Any, settings: list[Any], out: pathlib.Path) -> list[dict[str, Any]]:
    """Kills so many times, then lets the run come to its end."""
    rng = random.Random(args.seed)
    kills: list[dict[str, Any]] = []
    while True:
        begun = out.exists() and (_runs.only_run(out) / "config.json").exists()
        more = ["--resume", _runs.only_run(out)] if begun else [*settings, "--out-dir", out]
        processes = _runs.start(
            *more, "--save-every", args.save_every, *args.options, processes=args.processes
        )
        watched = Watch(processes[0])
        if len(kills) < args.kills:
            kill = wait_and_kill(rng, PHASES[len(kills) % 3], processes, watched, out)
            if kill is not None:
                kills.append(kill)
                print(f"kill {len(kills)}: {kill}", flush=True)
                continue
        ends = [end_of(process) for process in processes]
        if all(status == 0 for status, _ in ends):
            return kills
        assert all("has already finished" in errors for _, errors in ends), ends
        return kills  # killed between its last checkpoint and its end


class Watch:
    """Reads what a process prints, so that it never has to wait, and notes when it trains."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.trains = threading.Event()
        self._process = process
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("epoch = "):
                self.trains.set()


def wait_and_kill(
    rng: random.Random,
    phase: str,
    processes: list[subprocess.Popen[str]],
    watched: Watch,
    out: pathlib.Path,
) -> dict[str, Any] | None:
    """Waits for a random moment of that phase, and kills one; None if it has ended before."""
    began = time.time()
    victim = rng.randrange(len(processes))
    process = processes[victim]
    if phase == "starting":
        # Of several, one that is killed before it has joined is waited for for five minutes.
        pause(process, rng.uniform(0.1, 6) if len(processes) == 1 else rng.uniform(4, 8))
    else:
        while not watched.trains.wait(0.1):
            if process.poll() is not None:
                return None
        pause(process, rng.uniform(0, 5))
        deadline = time.monotonic() + 30
        while phase == "writing" and not writing(out, began) and time.monotonic() < deadline:
            if process.poll() is not None:
                return None
            time.sleep(0.0002)
    if process.poll() is not None:
        return None
    process.kill()
    killed = time.monotonic()
    process.wait()
    found = (
        "writing" if writing(out, began) else "training" if watched.trains.is_set() else "starting"
    )
    kill: dict[str, Any] = {"phase": found, "victim": victim, "others_ended_after_s": []}
    for other in processes:
        if other is not process:
            status, errors = end_of(other)
            assert status != 0, errors
            kill["others_ended_after_s"].append(round(time.monotonic() - killed, 3))
            kill["status"] = status
    return kill


def pause(process: subprocess.Popen[str], seconds: float) -> None:
    """Waits, or until it has ended."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def writing(out: pathlib.Path, since: float) -> bool:
    """Whether a checkpoint is being written, or was when the process was killed."""
    with contextlib.suppress(FileNotFoundError):  # written in between
        return any(path.stat().st_mtime > since for path in out.glob("*/checkpoints/*tmp*"))
    return False


def end_of(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Waits for the end; returns status and what stands on stderr."""
    assert process.stderr is not None
    errors = process.stderr.read()
    return process.wait(), errors


if __name__ == "__main__":
    main()
