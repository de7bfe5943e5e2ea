"""What the benchmarks share: timing, medians, the device's measured peak, tables and JSON."""

import argparse
import json
import math
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from importlib import metadata
from typing import Any

RESULTS = pathlib.Path(__file__).parent / "results"
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")
MATMUL_PRECISION = "float32"  # as train.py: a GPU would otherwise round operands to 10 bits


# ----------------------------------------------------------------------------- timing


def seconds(function: Callable[..., Any], *args: Any) -> float:
    """Wall-clock time of one call of a JAX function, until its results are there."""
    import jax

    start = time.perf_counter()
    jax.block_until_ready(function(*args))
    return time.perf_counter() - start


def interleaved(
    sides: dict[str, Callable[[], float]], repeats: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """Measures every side once, then every side again, and so on: A B C A B C ...

    Args:
        sides: for each name a function that measures once and returns the figure.
        repeats: rounds that count.
        warm_up: rounds before them that do not.
    """
    figures: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(warm_up + repeats):
        for name, measure in sides.items():
            figures[name].append(measure())
    return {name: values[warm_up:] for name, values in figures.items()}


def summary(values: Iterable[float]) -> dict[str, Any]:
    """Median, range and the values themselves."""
    values = list(values)
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "repeats": len(values),
        "values": values,
    }


def slope(sizes: Iterable[float], values: Iterable[float]) -> float:
    """Exponent p of the fit `value ~ size^p`: the slope in the log-log plot."""
    return statistics.linear_regression([*map(math.log, sizes)], [*map(math.log, values)]).slope


# ----------------------------------------------------------------------------- the device


def set_precision() -> None:
    """Sets the precision of float32 matrix products to that of train.py."""
    import jax

    jax.config.update("jax_default_matmul_precision", MATMUL_PRECISION)


def versions(*packages: str) -> dict[str, str]:
    """Versions of those packages that are installed."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def environment() -> dict[str, Any]:
    """Device, threads and versions: what a figure means nothing without."""
    import jax

    device = jax.devices()[0]
    return {
        "device": cpu_name() if device.platform == "cpu" else device.device_kind,
        "platform": device.platform,
        "cpu": cpu_name(),
        "cpu_count": os.cpu_count(),
        "usable_cpus": usable_cpus(),  # XLA starts as many threads
        "load_before": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "versions": versions("jaxsnn-nnx", *PACKAGES),
        "system": platform.platform(),
        "revision": revision(),
        "flags": {
            name: os.environ[name]
            for name in ("XLA_FLAGS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "JAX_PLATFORMS")
            if name in os.environ
        },
        "matmul_precision": jax.config.jax_default_matmul_precision,
        "started": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "command": " ".join([pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    found = re.search(r"model name\s*: (.*)", text)
    return found.group(1).strip() if found else platform.machine()


def usable_cpus() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def revision() -> str | None:
    """The commit that is measured, with "+" if files differ from it; None outside git."""
    git = ["git", "-C", str(pathlib.Path(__file__).parent)]
    try:
        commit = subprocess.run(
            [*git, "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            [*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if changed else "")


def gemm_rates(sizes: Iterable[int] = ()) -> dict[int, Callable[[], float]]:
    """For each size n a function that measures one float32 product of n x n matrices, in FLOP/s."""
    import jax
    import jax.numpy as jnp

    if not sizes:
        sizes = (1024, 2048) if jax.devices()[0].platform == "cpu" else (4096, 8192)
    product = jax.jit(jnp.dot)

    def rate(n: int) -> Callable[[], float]:
        a = jax.random.normal(jax.random.key(n), (n, n), jnp.float32)
        seconds(product, a, a)
        calls = max(1, round(1e10 / n**3))  # long enough for the clock
        return lambda: calls * 2 * n**3 / seconds(lambda: [product(a, a) for _ in range(calls)])

    return {n: rate(n) for n in sizes}


def peak(repeats: int = 7) -> dict[str, Any]:
    """The device's measured peak: the best rate of a large float32 matrix product, in FLOP/s."""
    rates = interleaved({str(n): f for n, f in gemm_rates().items()}, repeats)
    best = max(rates, key=lambda n: statistics.median(rates[n]))
    return {"size": int(best), **summary(rates[best])}


def check_possible(
    name: str, flops: float, time: float, peak_rate: float, *, quick: bool = False
) -> None:
    """Refuses a figure that the device cannot reach: then the measurement is wrong.

    Args:
        name: what was measured.
        flops: FLOPs of the matrix products alone, a lower bound of the work.
        time: seconds that it is said to have taken.
        peak_rate: best rate of a large matrix product that was measured, FLOP/s.
        quick: whether it was measured only a few times, which on a busy machine does not find it;
            then only what is twice as fast is refused.
    """
    if flops / time > (2 if quick else 1) * peak_rate:
        raise AssertionError(
            f"{name}: {flops:.3g} FLOPs in {time:.3g} s are {flops / time / 1e9:.0f} GFLOP/s, but "
            f"a large matrix product reached {peak_rate / 1e9:.0f} GFLOP/s: wrongly measured"
        )


# ----------------------------------------------------------------------------- output


def arguments(doc: str, repeats: int = 9) -> argparse.ArgumentParser:
    """The options that all scripts take."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--repeats", type=int, default=repeats, help="rounds that count, odd")
    parser.add_argument("--json", type=pathlib.Path, help="where to write the results")
    return parser


def table(rows: list[dict[str, Any]], columns: dict[str, str]) -> str:
    """Rows as text, aligned.

    Args:
        rows: dictionaries; a missing entry or None is left blank.
        columns: for each key its format, e.g. `{"time": ".3f"}`.
    """
    cells = [list(columns)] + [
        ["" if row.get(key) is None else format(row[key], spec) for key, spec in columns.items()]
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    text = [
        "  ".join(
            cell.rjust(width) if spec else cell.ljust(width)
            for cell, width, spec in zip(line, widths, columns.values(), strict=True)
        ).rstrip()
        for line in cells
    ]
    return "\n".join([text[0], "  ".join("-" * width for width in widths), *text[1:]])


def write(args: argparse.Namespace, record: dict[str, Any]) -> pathlib.Path:
    """Writes the results where asked, or to `results/<script>_<device>.json`."""
    script = pathlib.Path(sys.argv[0]).stem
    device = re.sub(r"[^a-z0-9]+", "-", record["environment"]["device"].lower()).strip("-")
    name = f"{script}_{device}{'_quick' if args.quick else ''}.json"
    path = args.json or RESULTS / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"script": script, "quick": args.quick, **record}, indent=1) + "\n")
    print(f"\nwritten: {path}")
    return path
