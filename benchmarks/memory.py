"""How many bytes does the backward pass keep per neuron and time step?

    python benchmarks/memory.py
    python benchmarks/memory.py --quick

For each cell, run by `jaxsnn.nn.unroll` and by `jax.lax.scan` over the same cell's step, which
leaves everything to automatic differentiation:

- `floats`: residuals counted exactly, from the jaxpr of `jax.vjp`: the arrays that the pullback
  holds on to, in units of a float32 (4 bytes) per neuron and step, inputs and outputs of the cell
  left out (they live anyway); `with outputs` counts those that are also the cell's output;
- `bytes`: what XLA sets aside besides arguments and results for forward and backward in one
  compiled call, the slope against T, so that what does not grow with time drops out. It holds the
  residuals and whatever scratch space the compiled code needs.

Where `unroll` can recompute (`checkpoint_every`), the memory of a training step against T with
every = sqrt(T) is shown beside that without, for 128 recurrent neurons at batch 256, and the
log-log slope.

Method. Nothing is timed. Equality first: outputs and gradients of both ways agree to 1e-5 relative
to the largest element. On a GPU the peak of `memory_stats` is recorded too.
"""

import inspect
import math
from collections.abc import Callable
from typing import Any

import _common
import jax
import jax.numpy as jnp
from flax import nnx

from jaxsnn import nn, surrogate

BATCH, FEATURES = 256, 128
STEPS = 13  # prime, so that the arrays that grow with time are told by their size
TOLERANCE = 1e-5
ATAN = {"surrogate_function": surrogate.ATan()}


def cells() -> dict[str, nn.Cell]:
    """What is looked at."""
    return {
        "IFNode": nn.IFNode(**ATAN),
        "IFNode, soft reset": nn.IFNode(v_reset=None, **ATAN),
        "IFNode, detach_reset": nn.IFNode(detach_reset=True, **ATAN),
        "LIFNode": nn.LIFNode(**ATAN),
        "SynapseFilter": nn.SynapseFilter(2.0),
        "SynapseFilter, learnable": nn.SynapseFilter(2.0, learnable=True),
        "LinearRecurrentContainer": nn.LinearRecurrentContainer(
            nn.IFNode(detach_reset=True, **ATAN), FEATURES, FEATURES, rngs=nnx.Rngs(0)
        ),
    }


def main() -> None:
    """Measures, prints, writes."""
    args = _common.arguments(__doc__).parse_args()
    _common.set_precision()
    lengths = (8, 16) if args.quick else (64, 128, 256)
    rows = [
        {"cell": name, "way": way} | residuals(run, cell) | temporary(run, cell, lengths)
        for name, cell in cells().items()
        for way, run in (("unroll", unroll), ("plain scan", plain_scan))
        if way == "unroll" or check_equal(name, cell)
    ]
    print(f"kept per neuron and step, batch {BATCH}, {FEATURES} neurons, T = {lengths}")
    columns = {"cell": "", "way": "", "floats": ".2f", "with outputs": ".2f", "bytes": ".1f"}
    print(_common.table(rows, columns))
    record = {"environment": _common.environment(), "batch": BATCH, "features": FEATURES}
    long = checkpointing((9, 16, 25) if args.quick else (49, 196, 784, 3136))
    _common.write(args, record | {"tolerance": TOLERANCE, "rows": rows, "training_step": long})


# ----------------------------------------------------------------------------- one cell


def unroll(cell: nn.Cell, xs: jax.Array) -> jax.Array:
    """Jaxsnn's way over time."""
    return nn.unroll(cell, xs)[1]


def plain_scan(cell: nn.Cell, xs: jax.Array) -> jax.Array:
    """The cell's step as a scan body."""
    return jax.lax.scan(cell, cell.initialize_carry(xs.shape[1:]), xs)[1]


def forward_and_backward(run: Callable[..., jax.Array]) -> Callable[..., Any]:
    """`(cell, xs, cotangent) -> (ys, gradients of cell and xs)`."""

    def both(cell: nn.Cell, xs: jax.Array, cotangent: jax.Array) -> Any:
        ys, pullback = jax.vjp(run, cell, xs)
        return ys, pullback(cotangent)

    return both


def check_equal(name: str, cell: nn.Cell) -> bool:
    """Both ways give the same outputs and gradients."""
    xs = jax.random.uniform(jax.random.key(0), (20, 16, FEATURES))
    cotangent = jax.random.normal(jax.random.key(1), xs.shape)
    ways = [
        jax.tree.leaves(jax.jit(forward_and_backward(run))(cell, xs, cotangent))
        for run in (unroll, plain_scan)
    ]
    for ours, plain in zip(*ways, strict=True):
        error = jnp.max(jnp.abs(ours - plain)) / jnp.maximum(jnp.max(jnp.abs(plain)), 1e-30)
        if not error <= TOLERANCE:
            raise SystemExit(f"{name}: the two ways differ by {error:.2g}")
    return True


def residuals(run: Callable[..., jax.Array], cell: nn.Cell) -> dict[str, float]:
    """What the pullback holds, per neuron and step: of its own, and with the outputs."""
    graph, params = nnx.split(cell)

    def pullback(params: Any, xs: jax.Array) -> Any:
        ys, pull = jax.vjp(lambda p, xs: run(nnx.merge(graph, p), xs), params, xs)
        return ys, jax.tree.leaves(pull)

    closed = jax.make_jaxpr(pullback)(params, jnp.ones((STEPS, BATCH, FEATURES)))
    known = dict.fromkeys(closed.jaxpr.invars)
    output, *kept = (resolve(closed.jaxpr, v) for v in closed.jaxpr.outvars)
    kept = {v: size(v) for v in kept if not hasattr(v, "val") and v not in known}
    neurons = STEPS * BATCH * FEATURES
    own = sum(floats for v, floats in kept.items() if v is not output)
    return {"floats": own / neurons, "with outputs": sum(kept.values()) / neurons}


def size(variable: Any) -> float:
    """The size of an array that grows with time, in float32; of others (parameters) 0."""
    aval = variable.aval
    return aval.size * aval.dtype.itemsize / 4 if aval.size % (STEPS * BATCH) == 0 else 0


def resolve(jaxpr: Any, variable: Any) -> Any:
    """The variable that holds the same array: looks through calls and changes of shape."""
    for equation in jaxpr.eqns:
        if variable in equation.outvars and equation.primitive.name == "reshape":
            return resolve(jaxpr, equation.invars[0])
        inner = equation.params.get("jaxpr")
        if variable not in equation.outvars or equation.primitive.name not in ("jit", "pjit"):
            continue
        position = equation.outvars.index(variable)
        source = resolve(inner.jaxpr, inner.jaxpr.outvars[position])
        if source in inner.jaxpr.invars:
            return resolve(jaxpr, equation.invars[inner.jaxpr.invars.index(source)])
        for other, result in zip(equation.outvars, inner.jaxpr.outvars, strict=True):
            if resolve(inner.jaxpr, result) is source:
                return other
    return variable


def temporary(
    run: Callable[..., jax.Array], cell: nn.Cell, lengths: tuple[int, ...]
) -> dict[str, Any]:
    """Bytes besides arguments and results that grow with time, per neuron and step."""
    compiled = jax.jit(forward_and_backward(run))
    found = []
    for steps in lengths:
        xs = jax.ShapeDtypeStruct((steps, BATCH, FEATURES), jnp.float32)
        analysis = compiled.lower(cell, xs, xs).compile().memory_analysis()
        found.append(analysis.temp_size_in_bytes)
    growth = (found[-1] - found[0]) / (lengths[-1] - lengths[0])
    return {"bytes": growth / (BATCH * FEATURES), "lengths": lengths, "temp_bytes": found}


# ----------------------------------------------------------------------------- long sequences


def checkpointing(lengths: tuple[int, ...]) -> list[dict[str, Any]]:
    """Memory of a training step of a recurrent net against T, with and without recomputing."""
    rngs = nnx.Rngs(0)
    net = nn.Sequential(
        nn.Linear(1, FEATURES, rngs=rngs),
        nn.LinearRecurrentContainer(
            nn.IFNode(detach_reset=True, **ATAN), FEATURES, FEATURES, rngs=rngs
        ),
        nn.Linear(FEATURES, 10, rngs=rngs),
        nn.IFNode(**ATAN),
    )
    can = "checkpoint_every" in inspect.signature(nn.unroll).parameters
    rows = []
    for steps in lengths:
        ways = {"all kept": {}}
        if can:
            ways["recomputed"] = {"checkpoint_every": round(math.sqrt(steps))}
        for way, options in ways.items():
            rows.append({"T": steps, "way": way, **options} | train_step(net, steps, options))
    print(f"\ntraining step, 1 x {FEATURES} recurrent x 10, batch {BATCH}: memory beside the data")
    if not can:
        print("(unroll has no checkpoint_every)")
    columns = {"T": "d", "way": "", "checkpoint_every": "d", "temp MiB": ".1f", "data MiB": ".1f"}
    print(_common.table(rows, columns))
    for way in dict.fromkeys(one["way"] for one in rows):
        points = [(one["T"], one["temp_bytes"]) for one in rows if one["way"] == way]
        print(f"{way}: memory ~ T^{_common.slope(*zip(*points, strict=True)):.2f}")
    return rows


def train_step(net: nn.Sequential, steps: int, options: dict[str, int]) -> dict[str, Any]:
    """Memory of loss and gradient; on a GPU also run, for the peak that its allocator saw."""

    def loss(net: nn.Sequential, xs: jax.Array) -> jax.Array:
        _, spikes = nn.unroll(net, xs, **options)
        return jnp.mean((jnp.mean(spikes, axis=0) - 0.5) ** 2)

    xs = jax.ShapeDtypeStruct((steps, BATCH, 1), jnp.float32)
    compiled = jax.jit(jax.value_and_grad(loss)).lower(net, xs).compile()
    analysis = compiled.memory_analysis()
    temp, data = analysis.temp_size_in_bytes, analysis.argument_size_in_bytes
    found = {"temp_bytes": temp, "data_bytes": data}
    stats = jax.devices()[0].memory_stats()
    if stats:
        jax.block_until_ready(compiled(net, jnp.ones(xs.shape)))
        found["device_peak_bytes"] = jax.devices()[0].memory_stats().get("peak_bytes_in_use")
    return found | {"temp MiB": temp / 2**20, "data MiB": data / 2**20}


if __name__ == "__main__":
    main()
