"""Does a long run grow: in memory, open files, threads, or compilations?

    python benchmarks/soak.py
    python benchmarks/soak.py --epochs 2000 -- --model fb --data-placement host

One run of train.py. Whenever an epoch has ended, the process is looked at from outside: resident
memory, open files, threads, and how often XLA has compiled, from JAX's log. The growth of memory is
the median difference between epochs a hundred (or a quarter of the run) apart; open files and
compilations must not grow at all after the first fifth.
"""

import pathlib
import shutil
import statistics
import tempfile
import threading
from typing import Any

import _common
import _runs

SHOWN = (0.02, 0.2, 0.4, 0.6, 0.8, 1.0)


def main() -> None:
    """Trains, watches, prints, writes."""
    parser = _common.arguments(__doc__)
    parser.add_argument("--epochs", type=int, default=500)
    parser.add_argument("options", nargs="*", help="more options of train.py")
    args = parser.parse_args()
    options = args.options or ["--model", "ss"]
    if args.quick:
        args.epochs, options = 20, [*options, "--dataset", "fashion_mnist_mini"]
    scratch = pathlib.Path(tempfile.mkdtemp())
    try:
        rows = watch(*options, "--epochs", args.epochs, "--out-dir", scratch)
    finally:
        shutil.rmtree(scratch)
    assert len(rows) == args.epochs, f"{len(rows)} of {args.epochs} epochs were seen"
    later = rows[len(rows) // 5 :]
    apart = min(100, len(rows) // 4)
    growth = statistics.median(
        (b["memory MiB"] - a["memory MiB"]) / apart
        for a, b in zip(later, later[apart:], strict=False)
    )
    shown = [rows[max(0, round(part * len(rows)) - 1)] for part in SHOWN]
    columns = {"epoch": "d", "memory MiB": ".1f", "files": "d", "threads": "d", "compiled": "d"}
    print(_common.table(shown, columns))
    print(f"memory grows by {1024 * growth:.2f} KiB an epoch")
    # The least of a few epochs: a checkpoint may be written at the moment of the look.
    first, last = (
        {what: min(row[what] for row in some) for what in rows[0]}
        for some in (later[:5], later[-5:])
    )
    for what, more in (("files", 0), ("compiled", 0), ("threads", 4)):  # pools fill up slowly
        assert last[what] <= first[what] + more, f"{what} grow: {first} {last}"
    _common.write(
        args,
        {
            "environment": _common.environment(),
            "options": options,
            "epochs": len(rows),
            "memory_growth_KiB_per_epoch": 1024 * growth,
            "rows": shown,
        },
    )


def watch(*args: Any) -> list[dict[str, Any]]:
    """Runs train.py; for each epoch what the process holds when it has ended."""
    (process,) = _runs.start(*args, JAX_LOG_COMPILES="1")
    assert process.stdout is not None
    compiled, errors = [0], []

    def count() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            if "Finished XLA compilation" in line:
                compiled[0] += 1
            errors.append(line)
            del errors[:-20]

    threading.Thread(target=count, daemon=True).start()
    rows, system = [], pathlib.Path(f"/proc/{process.pid}")
    for line in process.stdout:
        if line.startswith("epoch = "):
            status = dict(
                entry.split(":", 1) for entry in (system / "status").read_text().splitlines()
            )
            rows.append(
                {
                    "epoch": len(rows),
                    "memory MiB": int(status["VmRSS"].split()[0]) / 1024,
                    "files": len(list((system / "fd").iterdir())),
                    "threads": int(status["Threads"]),
                    "compiled": compiled[0],
                }
            )
    assert process.wait() == 0, "".join(errors)
    return rows


if __name__ == "__main__":
    main()
