"""`calibrate` scales a network's weights until every spiking layer fires as often as wanted."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Key

from jaxsnn import _checks
from jaxsnn._captured import no_captured_variables
from jaxsnn.diagnosis import _watch
from jaxsnn.diagnosis._drives import LARGEST, Drive, drives_of, in_loops, scale, unseen
from jaxsnn.diagnosis._measure import spikes_of
from jaxsnn.diagnosis._report import table

ROUNDS = 60  # of a search: 30 doublings, then halvings down to the precision of float32
SWEEPS = 5


class CalibratedLayer(NamedTuple):
    """Changes by `calibrate` to one spiking layer, or to one of those inside a container or cell.

    Attributes:
        path: of the spiking layer.
        kind: name of its class.
        scaled: paths of the layers whose weights were scaled; empty if there are none before it.
        factor: what they were multiplied by; 1 if there are none.
        before: spikes per neuron and time step before, when all layers in front were done.
        rate: the same after.
        recurrent: paths of the recurrent layers before it. Their weights stay as they are, unless
            there is a `limit`; an `rc` is also in `scaled` if the weights of its input were scaled.
        limit: the largest factor, if recurrent weights are scaled; else None.
    """

    path: str
    kind: str
    scaled: tuple[str, ...]
    factor: float
    before: float
    rate: float
    recurrent: tuple[str, ...] = ()
    limit: float | None = None


class Calibration(NamedTuple):
    """The result of `calibrate`. `print` shows the layers as a table.

    Attributes:
        model: the network with scaled weights.
        layers: what was done, one entry per spiking layer, in the order in which they are run.
    """

    model: Any
    layers: tuple[CalibratedLayer, ...]

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        rows = [("layer", "rate before", "rate", "factor", "of the weights of")]
        kept, bound = [], []
        for layer in self.layers:
            name = layer.path or layer.kind
            done = (f"{layer.before:.3f}", f"{layer.rate:.3f}", f"{layer.factor:.3g}")
            rows.append((name, *done, ", ".join(layer.scaled) or "none"))
            if layer.limit is None:
                scaled = layer.scaled
                kept += [f"{p} (its feedback)" if p in scaled else p for p in layer.recurrent]
                continue
            reached = "not reached, at" if layer.factor == layer.limit else "bound by"
            bound.append(
                f"{name}: all its weights are recurrent; {reached} a factor of {layer.limit:.3g}, "
                "which leaves their largest singular value at most 1, or as it was"
            )
        left = [f"recurrent weights left as they are: {', '.join(kept)}"] if kept else []
        return "\n".join([table(rows), *left, *bound])


def calibrate(
    model: Any,
    xs: Float[Array | np.ndarray, "T N *space C"],
    rate: float = 0.1,
    *,
    tolerance: float = 0.1,
    key: Key[Array, ""] | None = None,
) -> Calibration:
    """A copy of a network whose spiking layers fire at about `rate` on a batch.

    A network starts to learn more easily if its neurons are neither silent nor fire all the
    time. Layer by layer, front to back, kernel and bias of the last `Linear` or `Conv` before a
    neuron are multiplied by one factor, found by bisection; where a normalisation stands
    between, its scale and bias. In a module or cell of your own, a `Residual` or a `Graph` it is
    all such layers that it calls before the neuron and after the neuron before, in the order of
    the calls.

    Recurrent weights stay as they are, because larger ones make gradients explode through time. In
    a `LinearRecurrentContainer` the weights of the input in `rc` are scaled, and its bias. With
    `feedback_only`, in other containers, and in cells and graphs with a loop, the layers outside
    the loop are scaled. Only if there are none, the layers inside are scaled, by a factor that
    leaves their largest singular value, and so their spectral radius, at most 1, or as it was. The
    rate may then stay below `rate`, and the result shows so.

    Also left as they are: neurons with no such layer before them, the spiking RNN cells, which
    fire at 0 or more, at any scale of their weights, and `DSRIFNode` and `DSRLIFNode`, whose
    threshold is trained.

    The network is run as in training. A batch normalisation takes the statistics of this batch;
    its running ones stay as they are, so that in inference the rates are others until those have
    been learned in training.

    Args:
        model: as for `doctor`.
        xs: a batch of sequences as in training, `[T, N, ...]`, floating.
        rate: spikes per neuron and time step, the mean over a spiking layer, greater than 0.
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
    xs, key = _watch.check_input(xs, key)
    _checks.floating("xs", xs)
    rate, tolerance = _checks.positive("rate", rate), _checks.positive("tolerance", tolerance)
    if not jnp.all(jnp.isfinite(xs)) or not jnp.any(xs):
        raise ValueError(
            "xs must be finite and not 0 everywhere: no weights make it drive a neuron"
        )
    watch = _watch.look("calibrate", model, xs, key)
    model = nnx.clone(model)
    parts = watch.parts(model)
    drives = drives_of(watch, parts, in_loops(watch, parts, key))
    chosen = [path for drive in drives for path, _ in drive.chosen]
    if not chosen:
        _refuse(parts)
    for path in chosen:
        if sum(parts[other] is parts[path] for other in chosen) > 1:
            name = _watch.name_of(path, parts[path])
            raise ValueError(f"layer {name} is used in two places; give each a layer of its own")
    places = tuple(
        (k, _watch.place(p), rows) for k, drive in enumerate(drives) for p, rows in drive.chosen
    )
    spiking = tuple(drive.path for drive in drives)
    names = [_watch.name_of(path, parts[path]) for path in spiking]

    def fire(factors: list[float]) -> list[float]:
        return [float(reached) for reached in _rates(places, spiking, model, xs, key, factors)]

    factors, before, rates = _balance(drives, names, fire, rate, tolerance)
    done = []
    for drive, factor, was, now in zip(drives, factors, before, rates, strict=True):
        for path, rows in drive.chosen:
            scale(parts[path], rows, factor)
        paths, kind = tuple(path for path, _ in drive.chosen), type(parts[drive.path]).__name__
        limit = None if drive.limit == LARGEST else drive.limit
        done.append(
            CalibratedLayer(drive.path, kind, paths, factor, was, now, drive.recurrent, limit)
        )
    return Calibration(model, tuple(done))


def _refuse(parts: dict[str, Any]) -> NoReturn:
    """Raise, as there are no weights to scale."""
    apart = [
        f"{_watch.name_of(path, part)} ({type(part).__name__})"
        for path, part in parts.items()
        if isinstance(part, _watch.WITHOUT_SURROGATE)
    ]
    raise ValueError(
        "model has no spiking layer with a Linear, Conv or normalisation before it whose weights "
        "could be scaled"
        + (f"; for {', '.join(apart)}, choose another v_threshold instead" if apart else "")
    )


def _balance(
    drives: list[Drive],
    names: list[str],
    fire: Callable[[list[float]], list[float]],
    rate: float,
    tolerance: float,
) -> tuple[list[float], list[float], list[float]]:
    """The factor for each drive, and its rates before and after; `fire` runs the network."""
    factors = [1.0] * len(drives)
    rates = fire(factors)
    before = list(rates)

    def settled(k: int) -> bool:
        at_limit = LARGEST > drives[k].limit <= factors[k] and rates[k] < rate
        return not drives[k].chosen or at_limit or abs(rates[k] - rate) <= tolerance * rate

    def search(k: int) -> None:
        """Change one factor until the rate is close, or too low at the drive's limit."""
        start, too_low, limit = factors[k], rates[k] < rate, drives[k].limit
        inner, outer = start, 0.0  # the rate is between the rates at these two; 0 is not found yet
        seen = [rates[k]]
        for _ in range(ROUNDS):
            step = inner * (2.0 if too_low else 0.5)
            if not outer and not 1 / LARGEST <= step <= LARGEST:
                break
            factors[k] = (inner * outer) ** 0.5 if outer else min(step, limit)
            rates[:] = fire(factors)
            seen.append(rates[k])
            if settled(k):
                return
            if (rates[k] < rate) == too_low:
                inner = factors[k]
            else:
                outer = factors[k]
        if not outer:
            recurrent = ", ".join(drives[k].recurrent)
            raise ValueError(
                f"layer {names[k]} cannot be brought to rate={rate:g}: with weights from "
                f"{start:.2g} to {inner:.2g} times as large its rate is between {min(seen):.3g} "
                f"and {max(seen):.3g}; ask for another rate. Neurons whose current is negative, or "
                "which a silent layer feeds, are silent at any scale: a bias, or more neurons in "
                "the layer before, may help"
                + (f"; recurrent weights are not scaled: {recurrent}" if recurrent else "")
            )
        raise ValueError(
            f"layer {names[k]} cannot be brought to rate={rate:g} within tolerance={tolerance:g}: "
            f"at a factor of {factors[k]:.4g} of its weights the rate jumps, here to "
            f"{rates[k]:.3g}; use more examples, or a larger tolerance"
        )

    for sweep in range(SWEEPS):
        for k in range(len(drives)):
            if sweep == 0:
                before[k] = rates[k]
            if not settled(k):
                search(k)
        # Feedback may have changed the rates of those that were done before.
        off = [f"{name} ({rates[k]:.3g})" for k, name in enumerate(names) if not settled(k)]
        if not off:
            return factors, before, rates
    raise ValueError(
        f"the neurons of this model change the rates of one another: after {SWEEPS} sweeps some "
        f"are not at rate={rate:g} within tolerance={tolerance:g}: {', '.join(off)}; use a larger "
        "tolerance, or scale their layers yourself"
    )


@functools.partial(jax.jit, static_argnums=(0, 1))
@no_captured_variables(static=2)
def _rates(
    places: tuple[tuple[int, str, int | None], ...],
    spiking: tuple[str, ...],
    model: Any,
    xs: jax.Array,
    key: jax.Array,
    factors: list[Any],
) -> list[jax.Array]:
    """The rates of spiking parts after weights are scaled: `(number of the factor, path, rows)`."""
    copy = jax.tree.map(lambda leaf: leaf, model)
    layers = dict(_watch.inside(copy))
    for k, path, rows in places:
        scale(layers[path], rows, factors[k])
    _, sight = _watch.Watch(key).run(copy, xs)
    rates = []
    for path in spiking:
        spikes = spikes_of(path, sight)
        if spikes is None:
            raise unseen(path, layers[_watch.place(path)])
        rates.append(jnp.mean(jnp.abs(spikes), dtype=jnp.float32))
    return rates
