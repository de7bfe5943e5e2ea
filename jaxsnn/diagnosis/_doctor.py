"""`doctor` looks at a network on one batch and says what keeps it from learning."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Key, Shaped

from jaxsnn import _checks, losses, nn
from jaxsnn.diagnosis import _watch
from jaxsnn.diagnosis._findings import Seen, findings
from jaxsnn.diagnosis._measure import measure, own
from jaxsnn.diagnosis._report import LayerReport, Report


def doctor(
    model: Any,
    xs: Shaped[Array | np.ndarray, "T N *space C"],
    labels: Shaped[Array | np.ndarray, "N *label"] | None = None,
    *,
    loss: Callable[..., jax.Array] | None = None,
    key: Key[Array, ""] | None = None,
) -> Report:
    """Looks at a network on one batch: who fires, where potentials are, what gradients arrive.

    The network is run once forward and back, as in training: dropout drops, and batch
    normalisation uses this batch. Nothing is changed.

    Args:
        model: any `jaxsnn.nn.Module` or cell: a `Sequential`, a `Classifier`, a module of your
            own. All parts that are run by `run(part, x)` are seen, and inside cells the layers
            with weights and the surrogates.
        xs: one batch of sequences as in training, `[T, N, ...]`.
        labels: class numbers, `[N]`, or what `loss` takes, one for each example.
        loss: of the model's outputs and the labels (of the outputs alone without labels), one
            number per example or one for all; outputs `[T, N, ...]` are averaged over time first,
            unless the model is a `Classifier`. None takes `jaxsnn.losses.firing_rate_mse`;
            without labels the mean of the outputs, whose gradient shows whether the outputs can
            change at all.
        key: random key of dropout; None for `jax.random.key(0)`.

    Returns:
        `Report`: `print` shows it; `layers` and `warnings` are data. A warning has one of these
        words as `what`: `input_integer`, `input_large`, `input_zero`, `input_same`, `one_class`,
        `label_range`, `not_finite`, `no_neurons`, `not_spiking`, `dead`, `silent_output`,
        `saturated`, `same_spikes`, `same_neurons`, `same_output`, `no_surrogate`, `window`,
        `zero_gradient`, `vanishing_layers`, `exploding_layers`, `vanishing_time`,
        `exploding_time`, `low_precision`.

    Raises:
        TypeError: `model` is neither a `jaxsnn.nn.Module` nor a cell.
        ValueError: `xs` or `labels` do not fit, or the model cannot be trained on `xs`.

    Examples:
        >>> net = nn.Sequential(nn.Linear(28, 10, rngs=nnx.Rngs(0)), nn.LIFNode())
        >>> xs = 0.1 * jax.random.uniform(jax.random.key(0), (28, 16, 28))
        >>> report = doctor(net, xs, jnp.arange(16) % 10)
        >>> [(found.what, found.path) for found in report.warnings]
        [('silent_output', '1')]
    """
    given, key = _watch.check_input(xs, key)
    xs = given if jnp.issubdtype(given.dtype, jnp.floating) else given.astype(jnp.float32)
    arguments = [] if labels is None else [_check_labels(labels, xs, numbers=loss is None)]
    loss, loss_name = _loss(loss, labels)
    watch = _watch.look("doctor", model, xs, key)
    inputs = {path: watch.whole[path] for path in watch.chain}
    shifts = {
        path: jnp.zeros(x.shape, x.dtype)
        for path, x in inputs.items()
        if jnp.issubdtype(getattr(x, "dtype", bool), jnp.floating)
    }
    whole, numbers = jax.device_get(measure(loss, model, xs, shifts, *arguments, key))
    parts, outside = _shown(model, watch)
    rows = tuple(_row(path, part, numbers[path]) for path, part in parts.items())
    whole["examples"] = xs.shape[1]
    seen = Seen(
        whole=whole,
        parts={path: numbers[path] for path in parts},
        layers=rows,
        chain=watch.chain,
        modules=parts,
        outside=outside,
        input_dtype=str(given.dtype),
        labels=np.asarray(arguments[0]) if arguments else None,
    )
    warnings = findings(seen)
    for found in warnings:
        if found.what == "label_range" and loss is _firing_rate_mse:  # which is NaN for them
            raise ValueError(f"{found.message}; {found.advice}, or pass another loss=")
    counted = {row.path for row in rows if row.dense is not None}
    return Report(
        layers=rows,
        warnings=warnings,
        loss=float(whole["loss"]),
        loss_name=loss_name,
        steps=xs.shape[0],
        examples=xs.shape[1],
        parameters=sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))),
        uncounted=tuple(
            path
            for path in parts
            if path not in counted and any(array.ndim > 2 for array in numbers[path]["parameters"])
        ),
        outside=outside,
    )


def _shown(model: Any, watch: _watch.Watch) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The parts with a row, and those with parameters that are neither run nor in a cell.

    A module that only runs its parts, e.g. a `Sequential`, has no row of its own.
    """
    parts, parameters = watch.parts(model), own(model)

    def is_shown(path: str) -> bool:
        if path in watch.chain or parameters.get(path) or _watch.fires(parts[path]):
            return True
        runs = any(other != path and _watch.within(other, path) for other in parts)
        return path in watch.calls and not (runs and isinstance(parts[path], nn.Module))

    shown = {path: part for path, part in parts.items() if is_shown(path)}
    outside = tuple(
        path
        for path in shown
        if parameters.get(path)
        and path not in watch.calls
        and not any(_watch.within(path, layer) for layer in watch.chain)
    )
    return shown, outside


def _loss(loss: Any, labels: Any) -> tuple[Callable[..., jax.Array], str]:
    if loss is not None:
        function = getattr(_checks.function("loss", loss), "func", loss)  # of a partial
        return loss, getattr(function, "__name__", type(function).__name__)
    if labels is None:
        return jnp.mean, "mean output, as there are no labels"
    return _firing_rate_mse, "firing_rate_mse"


def _firing_rate_mse(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    if outputs.ndim != 2:
        raise ValueError(
            "the model must have outputs [N, classes] for firing_rate_mse, got "
            f"{list(outputs.shape)}; pass the loss that you train with, loss=..."
        )
    return losses.firing_rate_mse(outputs, labels)


def _check_labels(labels: Any, xs: jax.Array, *, numbers: bool) -> jax.Array:
    """Labels as an array, `[N]` integers if they must be class `numbers`."""
    labels = jnp.asarray(labels)
    steps, examples = xs.shape[:2]
    if labels.shape[:1] != (examples,):
        batch_first = "; is the batch the first axis of xs? jnp.swapaxes(xs, 0, 1) puts time first"
        raise ValueError(
            f"labels must be those of the N = {examples} examples in xs [T, N, ...] "
            f"{list(xs.shape)}, got shape {list(labels.shape)}"
            + (batch_first if labels.shape[:1] == (steps,) else "")
        )
    if numbers and (labels.ndim > 1 or not jnp.issubdtype(labels.dtype, jnp.integer)):
        raise ValueError(
            f"labels must be class numbers, {examples} integers (of one-hot labels, "
            f"labels.argmax(-1)), got {labels.dtype} of shape {list(labels.shape)}; or pass the "
            "loss that you train with, loss=..."
        )
    return labels


_NUMBERS = "rate", "dead", "saturated", "window", "gradient", "additions", "multiply_adds", "dense"


def _row(path: str, part: Any, numbers: dict[str, Any]) -> LayerReport:
    by_step = tuple(map(float, numbers["by_step"])) if "by_step" in numbers else None
    return LayerReport(
        path=path,
        kind=getattr(part, "__name__", type(part).__name__),
        shape=numbers["shape"].shape[2:] if "shape" in numbers else None,
        parameters=sum(math.prod(array.shape[1:]) for array in numbers["parameters"]),
        gradient_by_step=by_step,
        early_late=None if by_step is None else _early_late(by_step),
        param_dtype=_narrowest(numbers["parameters"]),
        state_dtype=_narrowest(numbers["states"]),
        learned=_learned(part) if isinstance(part, nn.ElementwiseCell) else {},
        **{name: float(numbers[name]) if name in numbers else None for name in _NUMBERS},
    )


def _learned(part: nn.ElementwiseCell) -> dict[str, tuple[float, float, float]]:
    """The least, the median and the largest value of each constant that a part learns."""
    found = {name: np.asarray(getattr(part, name), np.float64) for name in part.learned}
    ranges = {name: np.quantile(values, (0, 0.5, 1)).tolist() for name, values in found.items()}
    return {name: tuple(values) for name, values in ranges.items()}


def _early_late(by_step: Sequence[float]) -> float | None:
    """The gradient of the first fifth of the steps over that of the last; None for 0 / 0."""
    some = math.ceil(len(by_step) / 5)
    early, late = math.hypot(*by_step[:some]), math.hypot(*by_step[-some:])  # whose squares fit
    return early / late if 0 < late < math.inf else None


def _narrowest(arrays: list[np.ndarray]) -> str | None:
    floating = [a.dtype for a in arrays if jnp.issubdtype(a.dtype, jnp.floating)]
    return str(min(floating, key=lambda dtype: dtype.itemsize)) if floating else None
