"""`calibrate` scales a network's weights until every spiking layer fires as often as wanted."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsnn import _checks
from jaxsnn.diagnosis._follow import Sight, surrogates, watch
from jaxsnn.diagnosis._measure import spikes_of
from jaxsnn.diagnosis._report import table
from jaxsnn.diagnosis._stack import Part, check_input, find_stack, layers, parts
from jaxsnn.nn import WSConv, WSLinear
from jaxsnn.nn._containers import LinearRecurrentContainer
from jaxsnn.nn._mode import Mode
from jaxsnn.nn._normalization import _Normalization
from jaxsnn.nn._spiking_rnns import _SpikingRNNCell

LARGEST = 2.0**30  # factor, or one over it
HALVINGS = 40


class CalibratedLayer(NamedTuple):
    """What `calibrate` did for one spiking layer.

    Attributes:
        path: of the spiking layer.
        scaled: paths of the layers whose weights were scaled; empty if there are none before it.
        factor: what they were multiplied by; 1 if there are none.
        before: spikes per neuron and time step before, when all layers in front were done.
        rate: the same after.
    """

    path: str
    scaled: tuple[str, ...]
    factor: float
    before: float
    rate: float


class Calibration(NamedTuple):
    """What `calibrate` returns. `print` shows the layers as a table.

    Attributes:
        model: the network with scaled weights.
        layers: what was done, one entry a spiking layer.
    """

    model: Any
    layers: tuple[CalibratedLayer, ...]

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        rows = [("layer", "rate before", "rate", "factor", "of the weights of")]
        for layer in self.layers:
            done = (f"{layer.before:.3f}", f"{layer.rate:.3f}", f"{layer.factor:.3g}")
            rows.append((layer.path, *done, ", ".join(layer.scaled) or "none"))
        return table(rows)


def calibrate(
    model: Any,
    xs: jax.Array,
    rate: float = 0.1,
    *,
    tolerance: float = 0.1,
    key: jax.Array | None = None,
) -> Calibration:
    """A copy of a network whose spiking layers fire at about `rate` on a batch.

    A network starts to learn more easily if its neurons neither keep silent nor fire all the
    time. Layer by layer, front to back, kernel and bias of the last `Linear` or `Conv` before a
    neuron are multiplied by one factor, found by bisection; where a normalisation stands
    between, its scale and bias. In a `LinearRecurrentContainer` it is `rc`, and with
    `feedback_only` the layer before it, too. A layer that holds several neurons gets one factor,
    for the mean of their rates. Left as they are: neurons with no such layer before them, and
    the spiking RNN cells, which fire at 0 or more, at any scale of their weights.

    Args:
        model: as for `doctor`.
        xs: a batch of sequences as in training, `[T, N, ...]`, floating.
        rate: spikes per neuron and time step, the mean over the layer, greater than 0.
        tolerance: how far off a rate may be, as a share of `rate`.
        key: random key of dropout; None for `jax.random.key(0)`.

    Returns:
        `Calibration`: the new model, and what was done. `model` itself is not changed.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: a layer cannot be brought to the rate, nothing can be scaled, `xs` is 0 or not
            finite, or as for `doctor`.

    Examples:
        >>> net = nn.Sequential(nn.Linear(28, 32, rngs=nnx.Rngs(0)), nn.LIFNode())
        >>> xs = jax.random.uniform(jax.random.key(0), (28, 16, 28))
        >>> net, done = calibrate(net, xs, rate=0.2)
        >>> print(f"{done[0].before:.2f} -> {done[0].rate:.2f}")
        0.01 -> 0.21
    """
    name = find_stack("calibrate", model)
    xs = check_input(xs)
    _checks.floating("xs", xs)
    rate, tolerance = _checks.positive("rate", rate), _checks.positive("tolerance", tolerance)
    key = jax.random.key(0) if key is None else key
    _checks.random_key("key", key)
    if not jnp.all(jnp.isfinite(xs)) or not jnp.any(xs):
        raise ValueError(
            "xs must be finite and not 0 everywhere: no weights make it drive a neuron"
        )
    model = nnx.clone(model)
    stack = model if name is None else getattr(model, name)
    done: list[CalibratedLayer] = []
    segment: list[Part] = []
    scaled: list[Any] = []
    for layer in layers(stack):
        segment.append(layer)
        if not any(surrogates(part.module) for part in parts(layer)):
            continue
        chosen = _to_scale(segment)
        for part in chosen:
            if any(part.module is other for other in scaled):
                raise ValueError(
                    f"layer {part.path} stands in two places, which cannot be scaled one by one; "
                    "give each place a layer of its own"
                )
            scaled.append(part.module)
        modules = [part.module for part in segment]
        run = functools.partial(_fire, _places(segment, chosen), modules, xs, key)
        factor, before, reached, xs = _search(run, rate, tolerance, layer.path, bool(chosen))
        for part in chosen:
            scale(part.module, factor)
        paths = tuple(part.path for part in chosen)
        done.append(CalibratedLayer(layer.path, paths, factor, before, reached))
        segment = []
    if not scaled:
        raise ValueError(
            "model has no spiking layer with a Linear, Conv or normalisation before it whose "
            "weights could be scaled"
        )
    return Calibration(model, tuple(done))


def _search(
    run: Any, rate: float, tolerance: float, path: str, scalable: bool
) -> tuple[float, float, float, jax.Array]:
    """The factor, the rate before and after, and the outputs after."""

    def close(reached: float) -> bool:
        return abs(reached - rate) <= tolerance * rate

    outcome, ys = run(1.0)
    before = reached = float(outcome)
    if not scalable or close(before):
        return 1.0, before, before, ys
    step = 2.0 if before < rate else 0.5
    inner, outer = 1.0, 1.0  # the rate is between those at these two
    seen = [before]
    while (reached < rate) == (before < rate) and not close(reached):
        inner, outer = outer, outer * step
        if not 1 / LARGEST <= outer <= LARGEST:
            raise ValueError(
                f"layer {path} cannot be brought to rate={rate:g}: with weights from 1 to "
                f"{outer / step:.2g} times as large its rate is between {min(seen):.3g} and "
                f"{max(seen):.3g}; ask for another rate. Neurons whose current is negative are "
                "silent at any scale: a bias, or more neurons in the layer before, may help"
            )
        outcome, ys = run(outer)
        reached = float(outcome)
        seen.append(reached)
    factor = outer
    for _ in range(HALVINGS):
        if close(reached):
            return factor, before, reached, ys
        factor = (inner * outer) ** 0.5
        outcome, ys = run(factor)
        reached = float(outcome)
        if (reached < rate) == (before < rate):
            inner = factor
        else:
            outer = factor
    raise ValueError(
        f"layer {path} cannot be brought to rate={rate:g} within tolerance={tolerance:g}: at a "
        f"factor of {factor:.4g} of its weights the rate jumps, here to {reached:.3g}; use more "
        "examples, or a larger tolerance"
    )


def _to_scale(segment: Sequence[Part]) -> list[Part]:
    """The layers whose weights set how strongly the neurons of the last layer are driven."""
    chosen: list[Part] = []
    before: list[Part] = []  # what stands before the next neuron
    for layer in segment:
        inside = parts(layer)
        for part in inside:
            if surrogates(part.module):
                if isinstance(part.module, _SpikingRNNCell):  # fires at 0 or more, at any scale
                    return []
                own = [p for p in inside if p.path.startswith(f"{part.path}.") and _scalable(p)]
                chosen += own or before
                before = []
            elif _scalable(part) and part not in chosen:
                before = [*before, part] if _adds(part, inside) else [part]
    return chosen


def _adds(part: Part, inside: Sequence[Part]) -> bool:
    """Whether the input of a container is added to what this part, its `rc`, gives."""
    return any(
        isinstance(p.module, LinearRecurrentContainer)
        and p.module.feedback_only
        and p.module.rc is part.module
        for p in inside
    )


def _scalable(part: Part) -> bool:
    return bool(_weights(part.module))


# What the output of a layer is proportional to; of several kinds that fit, the first counts.
_WEIGHTS: tuple[tuple[tuple[type, ...], str], ...] = (
    ((WSLinear, WSConv), "gain"),
    ((nnx.Linear, nnx.Conv), "kernel"),
    ((_Normalization,), "weight"),
    ((nnx.BatchNorm, nnx.LayerNorm, nnx.GroupNorm, nnx.RMSNorm), "scale"),
)


def _weights(layer: Any) -> list[str]:
    """The parameters of a layer that its output is proportional to."""
    first = next((name for kinds, name in _WEIGHTS if isinstance(layer, kinds)), None)
    if first is None or getattr(layer, first, None) is None:
        return []
    return [first] if getattr(layer, "bias", None) is None else [first, "bias"]


def scale(layer: Any, factor: Any) -> None:
    """Multiplies the weights of a layer, in place."""
    for name in _weights(layer):
        weights = getattr(layer, name)
        weights[...] = weights[...] * jnp.asarray(factor).astype(weights.dtype)


# Of each layer that is run the keys of the parts in it that are scaled.
Places = tuple[tuple[tuple[str | int, ...], ...], ...]


def _places(segment: Sequence[Part], chosen: Sequence[Part]) -> Places:
    return tuple(
        tuple(part.keys for part in parts(layer) if any(part.path == c.path for c in chosen))
        for layer in segment
    )


@functools.partial(jax.jit, static_argnums=0)
def _fire(
    places: Places, modules: list[Any], xs: jax.Array, key: jax.Array, factor: Any
) -> tuple[jax.Array, jax.Array]:
    """The rate of the last of some layers if weights are `factor` times as large; its outputs."""
    # Numbered anew, so that layers of the same kind are compiled once.
    segment = [Part(str(k), jax.tree.map(lambda a: a, m)) for k, m in enumerate(modules)]
    for layer, inside in zip(segment, places, strict=True):
        for keys in inside:
            scale(_at(layer.module, keys), factor)
    sight = Sight({}, {}, {}, {}, {})
    for layer in segment:
        xs, sight = watch(layer, xs, Mode(record=("*",), key=key))
    rates = [
        jnp.mean(jnp.abs(fired), dtype=jnp.float32)
        for part in parts(segment[-1])
        if surrogates(part.module) and (fired := spikes_of(part, sight)) is not None
    ]
    if not rates:
        name = type(segment[-1].module).__name__
        raise ValueError(f"the spikes inside of {name} cannot be seen, so it cannot be calibrated")
    return jnp.mean(jnp.stack(rates)), xs


def _at(module: Any, keys: Sequence[str | int]) -> Any:
    for key in keys:
        module = module[key] if isinstance(key, int) else getattr(module, key)
    return module
