"""How fast is inference: one streaming step for one input, and whole sequences in batches?

    python benchmarks/inference.py

For the networks plain, ss and fb:

- latency: one call of `carry, y = net.fc(carry, x)`, batch 1, compiled, the carry handed on; from
  the call until the spikes are there, as an online user sees it. `empty call` is the same for a
  compiled function that does nothing: what JAX takes for any call.
- throughput: `net(xs)` on sequences of 28 steps, batch 1024, images per second.

Method. Equality first: firing rates from 28 streamed steps equal those of the whole sequence.
Compiled apart; `block_until_ready` after every call; the sides interleaved; each figure of the
latency is the median over 1000 steps, and of these the median and range over the repeats are
given; no figure may exceed the measured rate of a large matrix product. Inputs are random.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import _common
import jax
import jax.numpy as jnp
from flax import nnx
from sides.task import CLASSES, FEATURES, HIDDEN, STEPS

from jaxsnn import models

TOLERANCE = 1e-6  # rates are counts of spikes over 28
PARAMETERS = {
    "plain": FEATURES * HIDDEN + HIDDEN * CLASSES,
    "ss": FEATURES * HIDDEN + HIDDEN * CLASSES,
    "fb": FEATURES * HIDDEN + 2 * HIDDEN * HIDDEN + HIDDEN * CLASSES,
}


def main() -> None:
    """Measures, prints, writes."""
    args = _common.arguments(__doc__).parse_args()
    _common.set_precision()
    repeats, steps, batch = (3, 50, 32) if args.quick else (args.repeats, 1000, 1024)
    environment, peak = _common.environment(), _common.peak(repeats)
    nets = {name: model(rngs=nnx.Rngs(0)) for name, model in models.MODELS.items()}
    for name, net in nets.items():
        check_equal(name, net)

    latency = {"empty call": stream(empty, nets["plain"], steps)}
    latency |= {name: stream(step, net, steps) for name, net in nets.items()}
    throughput = {name: whole(net, batch) for name, net in nets.items()}
    latencies = _common.interleaved(latency, repeats)
    times = _common.interleaved(throughput, repeats)

    rows = []
    for name, values in latencies.items():
        found = _common.summary(values)
        shown = {"µs a step": found["median"] * 1e6, "min": found["min"] * 1e6}
        rows.append({"network": name, **shown, "max": found["max"] * 1e6, "latency_s": found})
        if name in nets:
            _common.check_possible(
                name, 2 * PARAMETERS[name], found["min"], peak["max"], quick=args.quick
            )
            found = rows[-1]["throughput_s"] = _common.summary(times[name])
            rows[-1]["images/s"] = batch / found["median"]
            rows[-1]["from"], rows[-1]["to"] = batch / found["max"], batch / found["min"]
            work = 2 * PARAMETERS[name] * STEPS * batch
            _common.check_possible(name, work, found["min"], peak["max"], quick=args.quick)
    columns = {"network": "", "µs a step": ".1f", "min": ".1f", "max": ".1f"}
    print(_common.table(rows, columns | dict.fromkeys(("images/s", "from", "to"), ".0f")))
    record = {"environment": environment, "peak": peak, "batch": batch, "tolerance": TOLERANCE}
    _common.write(args, record | {"rows": rows})


@jax.jit
def step(net: Any, carry: Any, x: jax.Array) -> Any:
    """One time step of a network."""
    return net.fc(carry, x)


@jax.jit
def empty(net: Any, carry: Any, x: jax.Array) -> Any:
    """Nothing, with the same arguments and results."""
    return carry, x


@jax.jit
def rates(net: Any, xs: jax.Array) -> jax.Array:
    """Firing rates of whole sequences."""
    return net(xs)


def check_equal(name: str, net: Any) -> None:
    """Streaming and whole sequences give the same rates."""
    xs = jax.random.uniform(jax.random.key(0), (STEPS, 64, FEATURES))
    carry, spikes = net.fc.initialize_carry(xs.shape[1:]), []
    for x in xs:
        carry, s = step(net, carry, x)
        spikes.append(s)
    difference = jnp.abs(jnp.mean(jnp.stack(spikes), axis=0) - rates(net, xs))
    # A potential within rounding of the threshold may fire on one side only.
    if jnp.mean(difference > TOLERANCE) > 0.001:
        raise SystemExit(f"{name}: streaming differs from the whole sequence")


def stream(function: Any, net: Any, steps: int) -> Callable[[], float]:
    """Measures the median time of a step, the carry handed on."""
    x = jax.random.uniform(jax.random.key(0), (1, FEATURES))
    compiled = function.lower(net, net.fc.initialize_carry(x.shape), x).compile()

    def measure() -> float:
        carry, found = net.fc.initialize_carry(x.shape), []
        for _ in range(steps):
            start = time.perf_counter()
            carry, _ = jax.block_until_ready(compiled(net, carry, x))
            found.append(time.perf_counter() - start)
        return statistics.median(found)

    return measure


def whole(net: Any, batch: int) -> Callable[[], float]:
    """Measures the time of a batch of sequences."""
    xs = jax.random.uniform(jax.random.key(0), (STEPS, batch, FEATURES))
    compiled = rates.lower(net, xs).compile()
    return lambda: _common.seconds(compiled, net, xs)


if __name__ == "__main__":
    main()
