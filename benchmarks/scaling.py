"""How do time and memory of a training step grow with time steps, width, batch and depth?

    python benchmarks/scaling.py
    python benchmarks/scaling.py --axes steps hidden

Two networks, fed forward (Linear, IF, ..., Linear, IF) and recurrent (each hidden layer a
LinearRecurrentContainer). One size grows at a time, the others stay at T = 28, 32 neurons, batch
256, one hidden layer. The time is that of loss and gradient of the firing rates on random inputs of
28 features, one compiled call; the memory is what XLA sets aside for it: temporary space, and
arguments and results (`memory_analysis`), on a GPU also the peak that the allocator saw. The slope
is the exponent p of `time ~ size^p`, fitted over all sizes, and between the last two.

Method. Compiled apart; `block_until_ready`; both networks and all sizes interleaved, A B C A B C;
median and range of the repeats; nothing may exceed the measured rate of a large matrix product.
Equality is not at stake: there is one side.
"""

import time
from collections.abc import Callable
from typing import Any

import _common
import jax
import jax.numpy as jnp
from flax import nnx

from jaxsnn import nn, surrogate

FEATURES, CLASSES = 28, 10
BASE = {"steps": 28, "hidden": 32, "batch": 256, "depth": 1}
AXES = {
    "steps": (28, 112, 784, 2048),
    "hidden": (32, 64, 128, 256, 512, 1024),
    "batch": (64, 256, 1024, 4096),
    "depth": (1, 2, 4, 8),
}
QUICK = {"steps": (4, 8), "hidden": (8, 16), "batch": (4, 8), "depth": (1, 2)}
NETWORKS = ("feed-forward", "recurrent")


def main() -> None:
    """Measures, prints, writes."""
    parser = _common.arguments(__doc__, repeats=7)
    parser.add_argument("--axes", nargs="+", choices=tuple(AXES), default=list(AXES))
    args = parser.parse_args()
    _common.set_precision()
    environment, peak = _common.environment(), _common.peak(3 if args.quick else args.repeats)
    rows, slopes = [], []
    for axis in args.axes:
        found = sweep(axis, (QUICK if args.quick else AXES)[axis], args)
        for one in found:
            name = f"{one['network']}, {axis} = {one['size']}"
            _common.check_possible(name, one["flops"], one["min"], peak["max"], quick=args.quick)
        rows += found
        slopes += fits(axis, found)
    columns = {
        "axis": "",
        "network": "",
        "size": "d",
        "median": ".4f",
        "min": ".4f",
        "max": ".4f",
        "compile": ".1f",
        "GFLOP/s": ".1f",
        "temp MiB": ".1f",
        "arguments MiB": ".1f",
    }
    print(_common.table(rows, columns))
    print(
        f"\nlog-log slopes (1: proportional); a large product: {peak['median'] / 1e9:.0f} GFLOP/s"
    )
    columns = {"axis": "", "network": "", "time": ".2f", "time, last two": ".2f", "memory": ".2f"}
    print(_common.table(slopes, columns))
    record = {"environment": environment, "peak": peak, "base": BASE}
    _common.write(args, record | {"rows": rows, "slopes": slopes})


def sweep(axis: str, sizes: tuple[int, ...], args: Any) -> list[dict[str, Any]]:
    """The rows of one axis."""
    rows, calls = [], {}
    for network in NETWORKS:
        for size in sizes:
            call, facts = build(network, **(BASE | {axis: size}))
            calls[f"{network} {size}"] = call
            rows.append({"axis": axis, "network": network, "size": size} | facts)
    times = _common.interleaved(calls, 3 if args.quick else args.repeats)
    for one, values in zip(rows, times.values(), strict=True):
        one |= _common.summary(values)
        one["GFLOP/s"] = one["flops"] / one["median"] / 1e9
    return rows


def build(
    network: str, steps: int, hidden: int, batch: int, depth: int
) -> tuple[Callable[[], float], dict[str, Any]]:
    """A compiled training step, as something to time, and what is known of it."""
    rngs, layers, width = nnx.Rngs(0), [], FEATURES
    neuron = {"surrogate_function": surrogate.ATan()}
    for _ in range(depth):
        layers.append(nn.Linear(width, hidden, rngs=rngs))
        width, cell = hidden, nn.IFNode(**neuron)
        if network == "recurrent":
            cell = nn.LinearRecurrentContainer(cell, hidden, hidden, rngs=rngs)
        layers.append(cell)
    layers += [nn.Linear(width, CLASSES, rngs=rngs), nn.IFNode(**neuron)]
    net = nn.Sequential(*layers)

    def loss(net: nn.Sequential, xs: jax.Array, target: jax.Array) -> jax.Array:
        _, spikes = nn.unroll(net, xs)
        return jnp.mean((jnp.mean(spikes, axis=0) - target) ** 2)

    xs = jax.random.uniform(jax.random.key(0), (steps, batch, FEATURES))
    target = jax.nn.one_hot(jnp.arange(batch) % CLASSES, CLASSES)
    start = time.perf_counter()
    compiled = jax.jit(jax.value_and_grad(loss)).lower(net, xs, target).compile()
    compile_s = time.perf_counter() - start
    analysis = compiled.memory_analysis()
    facts = {
        "flops": flops(network, steps, hidden, batch, depth),
        "compile": compile_s,
        "temp MiB": analysis.temp_size_in_bytes / 2**20,
        "arguments MiB": (analysis.argument_size_in_bytes + analysis.output_size_in_bytes) / 2**20,
    }
    stats = jax.devices()[0].memory_stats()
    if stats:
        facts["device_peak_bytes"] = stats.get("peak_bytes_in_use")
    return lambda: _common.seconds(compiled, net, xs, target), facts


def flops(network: str, steps: int, hidden: int, batch: int, depth: int) -> int:
    """FLOPs of the matrix products: forward, weight gradient, input gradient but for the first."""
    first, last = FEATURES * hidden, hidden * CLASSES
    recurrent = 2 * hidden * hidden * depth if network == "recurrent" else 0
    return 2 * steps * batch * (2 * first + 3 * ((depth - 1) * hidden**2 + last + recurrent))


def fits(axis: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Slopes of time and memory, for each network."""
    found = []
    for network in NETWORKS:
        mine = [one for one in rows if one["network"] == network]
        sizes, times = [one["size"] for one in mine], [one["median"] for one in mine]
        found.append(
            {
                "axis": axis,
                "network": network,
                "time": _common.slope(sizes, times),
                "time, last two": _common.slope(sizes[-2:], times[-2:]),
                "memory": _common.slope(sizes, [one["temp MiB"] for one in mine]),
            }
        )
    return found


if __name__ == "__main__":
    main()
