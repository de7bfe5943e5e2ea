"""What does it cost to share a minibatch out among devices, or among processes?

    python benchmarks/devices.py

Strong scaling: a minibatch of 256 is shared out among 1, 2, 4, 8 devices. Weak scaling: every
device has 256 examples of its own. Both for the tutorial's FeedBackNet and for the same with 512
hidden neurons, in one process whose devices are forced (`--xla_force_host_platform_device_count`),
and in several processes of one device each on the loopback. What a step communicates is read from
the compiled program: the number of all-reduces in it and the bytes of their results.

The devices share the cores of this machine, so no speed-up beyond the cores can be seen; what can
be seen is what sharing costs. Each case is a process (or several) of its own, the cases in rounds,
A B C A B C; the figure is the median of the rounds, of each round the median over its epochs.
"""

import json
import math
import os
import re
import socket
import statistics
import subprocess
import sys
import time
from typing import Any

import _common

CASES = [("devices", n) for n in (1, 2, 4, 8)] + [("processes", n) for n in (2, 4)]
SIZE = {"f32": 4, "s32": 4, "pred": 1, "u32": 4, "f64": 8}


def main() -> None:
    """Measures, prints, writes."""
    parser = _common.arguments(__doc__, repeats=3)
    parser.add_argument("--worker", help="what one process measures, JSON")
    args = parser.parse_args()
    if args.worker:
        work(**json.loads(args.worker))
        return
    cases = CASES[:2] + CASES[4:5] if args.quick else CASES
    widths = (32,) if args.quick else (32, 512)
    keys = [
        (kind, number, scaling, width)
        for width in widths
        for scaling in ("strong", "weak")
        for kind, number in cases
    ]
    found: dict[Any, list[dict[str, Any]]] = {key: [] for key in keys}
    for _ in range(1 if args.quick else args.repeats):
        for key in keys:
            found[key].append(run(*key, quick=args.quick))
    rows = []
    for key, figures in found.items():
        kind, number, scaling, width = key
        times = _common.summary(figure["ms"] for figure in figures)
        alone = found["devices", 1, scaling, width]
        rows.append(
            {
                "hidden": width,
                "scaling": scaling,
                kind: number,
                "batch": figures[0]["batch"],
                "ms a step": times["median"],
                "of one": times["median"] / statistics.median(f["ms"] for f in alone),
                "all-reduces": figures[0]["all_reduces"],
                "bytes": figures[0]["bytes"],
                "parameters": figures[0]["parameters"],
                "times": times,
            }
        )
    columns = {"hidden": "d", "scaling": "", "devices": "d", "processes": "d", "batch": "d"}
    columns |= {"ms a step": ".2f", "of one": ".2f", "all-reduces": "d", "bytes": "d"}
    print(_common.table(rows, columns))
    _common.write(args, {"environment": _common.environment(), "rows": rows})


def run(kind: str, number: int, scaling: str, width: int, quick: bool) -> dict[str, Any]:
    """Measures one case in processes of its own."""
    processes = number if kind == "processes" else 1
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{server.getsockname()[1]}"
    env = os.environ | {"JAX_PLATFORMS": "cpu"}
    if kind == "devices":
        env["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={number}"
    started = []
    for k in range(processes):
        order = {
            "batch": 256 * (number if scaling == "weak" else 1),
            "width": width,
            "together": [address, processes, k] if kind == "processes" else None,
            "quick": quick,
        }
        command = [sys.executable, __file__, "--worker", json.dumps(order)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env))
    outputs = [process.communicate()[0] for process in started]
    assert all(process.returncode == 0 for process in started)
    return json.loads(outputs[0].splitlines()[-1])


def work(batch: int, width: int, together: list[Any] | None, quick: bool) -> None:
    """In a process of its own: trains epochs of a few minibatches, and prints the figures."""
    import jax
    import numpy as np
    import optax
    from flax import nnx

    from jaxsnn import models, nn, surrogate, training
    from jaxsnn.experiment import devices

    if together:
        devices.join(*together)
    _common.set_precision()
    rngs, atan = nnx.Rngs(0), surrogate.ATan()
    neuron = nn.IFNode(surrogate_function=atan, detach_reset=True)
    net = models.Classifier(
        nn.Sequential(
            nn.Linear(28, width, rngs=rngs),
            nn.LinearRecurrentContainer(neuron, width, width, rngs=rngs),
            nn.Linear(width, 10, rngs=rngs),
            nn.IFNode(surrogate_function=atan),
        )
    )
    recipe, state = training.create(
        net,
        optax.sgd(0.01, momentum=0.9),
        to_sequence=lambda inputs: inputs.transpose(1, 0, 2),
        batch_size=batch,
        seed=0,
        devices=None if jax.device_count() == 1 else jax.devices(),
    )
    steps = 3 if quick else 20 if width == 32 else 4
    rng = np.random.default_rng(0)
    n = steps * batch
    inputs = rng.uniform(0, 1, (n, 28, 28)).astype(np.float32)
    train_set = training.put(recipe, (inputs, rng.integers(0, 10, n).astype(np.int32)))
    program = training.train_epoch.lower(recipe, state, *train_set).compile()
    times = []
    for _ in range(6):
        start = time.perf_counter()
        state, _ = jax.block_until_ready(program(state, *train_set))
        times.append((time.perf_counter() - start) / steps)
    sums = re.findall(r"= (.*) all-reduce(?:-start)?\(", program.as_text())
    print(
        json.dumps(
            {
                "ms": 1000 * statistics.median(times[1:]),
                "batch": batch,
                "all_reduces": len(sums),
                "bytes": sum(map(size, sums)),
                "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
            }
        )
    )


def size(result: str) -> int:
    """Bytes of the result of an operation, as XLA writes its type."""
    return sum(
        SIZE[kind] * math.prod(int(number) for number in shape.split(",") if number)
        for kind, shape in re.findall(r"(\w+)\[([\d,]*)\]", result)
    )


if __name__ == "__main__":
    main()
