"""How long until training runs: import, compile, first epoch, each apart?

    python benchmarks/start_up.py
    python benchmarks/start_up.py --networks ss

- import: `import jaxsnn` in a fresh interpreter against `import jax, flax.nnx, optax`, which it
  needs, and against an empty program.
- compile: trace and compile a whole epoch of Fashion-MNIST (`training.train_epoch`), in a fresh
  process, with an empty cache (cold) and from JAX's persistent compilation cache that the process
  before has filled (warm); then the first and the second epoch. `compilations` counts what XLA
  compiled for `train_epoch` in two epochs: one, or something compiles anew.

Method. Every figure comes from a process of its own; the sides are interleaved; cold and warm
train to the same loss, exactly; `block_until_ready`; median and range of the repeats. The files are
in the system's cache after the first round, which is not counted.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

import _common

IMPORTS = {
    "nothing": "pass",
    "jax, flax.nnx, optax": "import jax, flax.nnx, optax",
    "jaxsnn": "import jaxsnn",
}
PHASES = ("import", "data", "create", "trace", "compile", "first epoch", "second epoch")


def main() -> None:
    """Measures, prints, writes."""
    parser = _common.arguments(__doc__, repeats=7)
    networks = ("plain", "ss", "fb")
    parser.add_argument("--networks", nargs="+", choices=networks, default=list(networks))
    parser.add_argument("--worker", choices=networks, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(train(args.worker, args.quick)))
        return
    repeats = 1 if args.quick else args.repeats
    imports = _common.interleaved({k: importing(code) for k, code in IMPORTS.items()}, repeats)
    rows = [{"import": name} | _common.summary(values) for name, values in imports.items()]
    above = sorted(
        ours - theirs
        for ours, theirs in zip(imports["jaxsnn"], imports["jax, flax.nnx, optax"], strict=True)
    )
    columns = {"import": "", "median": ".3f", "min": ".3f", "max": ".3f", "repeats": "d"}
    print(_common.table(rows, columns))
    print(f"jaxsnn above jax, flax.nnx, optax: median {above[len(above) // 2]:.3f} s, in pairs\n")

    runs = compiling(args.networks, repeats, args.quick)
    columns = {"network": "", "cache": ""} | dict.fromkeys(PHASES, ".3f") | {"compilations": "d"}
    print(_common.table(runs, columns))
    _common.set_precision()
    record = {"environment": _common.environment(), "imports": rows}
    _common.write(args, record | {"import_above": _common.summary(above), "runs": runs})


def importing(code: str) -> Any:
    """Measures an interpreter that runs `code`, from start to end."""

    def measure() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - start

    return measure


def compiling(networks: list[str], repeats: int, quick: bool) -> list[dict[str, Any]]:
    """The rows of cold and warm starts."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for r in range(-1, repeats):  # round -1 is not counted
        for network in networks:
            with tempfile.TemporaryDirectory() as cache:
                pair = [process(network, cache, quick) for _ in range(2)]
            if pair[0]["losses"] != pair[1]["losses"]:
                raise SystemExit(f"{network}: with the cache the losses are others: {pair}")
            for kind, one in zip(("cold", "warm"), pair, strict=True):
                found.setdefault((network, kind), [])
                if r >= 0:
                    found[network, kind].append(one)
    rows = []
    for (network, kind), many in found.items():
        details = {phase: _common.summary(one[phase] for one in many) for phase in PHASES}
        medians = {phase: details[phase]["median"] for phase in PHASES}
        compilations = max(one["compilations"] for one in many)
        rows.append({"network": network, "cache": kind, **medians, "compilations": compilations})
        rows[-1] |= {"details": details, "losses": many[0]["losses"]}
    return rows


def process(network: str, cache: str, quick: bool) -> dict[str, Any]:
    """One fresh start, with its cache in the folder `cache`."""
    command = [sys.executable, __file__, "--worker", network, *(["--quick"] if quick else [])]
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def train(network: str, quick: bool) -> dict[str, Any]:
    """The phases of a start, timed one after the other."""
    clock = [time.perf_counter()]
    import jax
    import jax.numpy as jnp
    import optax
    from flax import nnx

    from jaxsnn import data, models, training

    _common.set_precision()
    clock.append(time.perf_counter())
    images = data.load("fashion_mnist_mini" if quick else "fashion_mnist")
    clock.append(time.perf_counter())
    train_set = jnp.asarray(images.train_images), jnp.asarray(images.train_labels)
    rate = training.cosine_schedule(0.1, 64, len(images.train_labels) // 256)
    recipe, state = training.create(
        models.MODELS[network](rngs=nnx.Rngs(0)),
        optax.sgd(rate, momentum=0.9),
        to_sequence=data.columns,
        batch_size=256,
        seed=0,
    )
    jax.block_until_ready((state, train_set))
    clock.append(time.perf_counter())
    compilations: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, _, **what: (
            compilations.append(str(what.get("fun_name")))
            if event.endswith("backend_compile_duration")
            else None
        )
    )
    lowered = training.train_epoch.lower(recipe, state, *train_set)
    clock.append(time.perf_counter())
    train_epoch = lowered.compile()
    clock.append(time.perf_counter())
    losses = []
    for _ in range(2):
        state, metrics = jax.block_until_ready(train_epoch(state, *train_set))
        clock.append(time.perf_counter())
        losses.append(float(metrics.loss))
    spans = [end - start for start, end in itertools.pairwise(clock)]
    compiled = [name for name in compilations if "train_epoch" in name]
    return {
        **dict(zip(PHASES, spans, strict=True)),
        "losses": losses,
        "compilations": len(compiled),
        "compiled": compilations,
    }


if __name__ == "__main__":
    main()
