"""`doctor` looks at a network on one batch and says what keeps it from learning."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Key, Shaped

from jaxsnn import _checks, losses
from jaxsnn.diagnosis._drives import NORMS
from jaxsnn.diagnosis._findings import Seen, findings
from jaxsnn.diagnosis._follow import fires, surrogates
from jaxsnn.diagnosis._measure import measure
from jaxsnn.diagnosis._report import LayerReport, Report
from jaxsnn.diagnosis._stack import Part, check_input, find_stack, layers, parts
from jaxsnn.nn._cell import is_cell


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
        model: a cell such as a `Sequential`, or a module with one such stack among its
            attributes to which its `__call__` hands `xs`: the networks of `jaxsnn.models`, and
            those like them. The layers of the stack are followed, with the parts of containers.
            A cell of your own that calls others is one layer, whose surrogates are seen.
        xs: one batch of sequences as in training, `[T, N, ...]`.
        labels: class numbers, `[N]`, or what `loss` takes, one for each example.
        loss: of the model's outputs and the labels (of the outputs alone without labels), one
            number per example or one for all; the outputs of a bare stack are its means over time.
            None takes `jaxsnn.losses.firing_rate_mse`; without labels the mean of the outputs,
            whose gradient says how what the network puts out can be changed at all.
        key: random key of dropout; None for `jax.random.key(0)`.

    Returns:
        `Report`: `print` shows it; `layers` and `warnings` are data. A warning has one of these
        words as `what`: `input_integer`, `input_large`, `input_zero`, `input_same`, `one_class`,
        `label_range`, `not_finite`, `no_neurons`, `not_spiking`, `dead`, `silent_output`,
        `saturated`, `same_spikes`, `same_neurons`, `same_output`, `no_surrogate`, `window`,
        `zero_gradient`, `vanishing_layers`, `exploding_layers`, `vanishing_time`,
        `exploding_time`, `low_precision`.

    Raises:
        TypeError: `model` is not a module.
        ValueError: `model` has no stack or several, does something to `xs` first, or `xs` or
            `labels` do not fit.

    Examples:
        >>> net = nn.Sequential(nn.Linear(28, 10, rngs=nnx.Rngs(0)), nn.LIFNode())
        >>> xs = 0.1 * jax.random.uniform(jax.random.key(0), (28, 16, 28))
        >>> report = doctor(net, xs, jnp.arange(16) % 10)
        >>> [(found.what, found.path) for found in report.warnings]
        [('silent_output', '1')]
    """
    name = find_stack("doctor", model)
    given = check_input(xs)
    xs = given if jnp.issubdtype(given.dtype, jnp.floating) else given.astype(jnp.float32)
    if key is None:
        key = jax.random.key(0)
    _checks.random_key("key", key)
    arguments = [] if labels is None else [_check_labels(labels, xs, numbers=loss is None)]
    default = loss is None and labels is not None
    loss, loss_name = _loss(loss, labels)
    whole, numbers = jax.device_get(measure(loss, name, model, xs, *arguments, key))
    if whole.pop("changed"):
        raise ValueError(
            f"{type(model).__name__} does something to xs before it hands it to its stack {name}; "
            f"do that to xs yourself, and pass the stack: doctor(model.{name}, ...)"
        )
    if default:
        _check_range(arguments[0], whole["outputs"].shape[-1])
    stack = model if name is None else getattr(model, name)
    chain = layers(stack)
    every = [part for layer in chain for part in parts(layer)]
    rows = tuple(_row(part, numbers[part.path]) for part in every)
    before_neurons = itertools.takewhile(lambda part: not fires(part.module), every)
    state = nnx.state(model, nnx.Param)
    outside = () if name is None else tuple(str(key) for key in state if key != name)
    whole["examples"] = xs.shape[1]
    seen = Seen(
        whole=whole,
        parts=numbers,
        layers=rows,
        chain=tuple(layer.path for layer in chain),
        cells=frozenset(layer.path for layer in chain if is_cell(layer.module)),
        neurons=any(fires(part.module) for part in every),
        normalised=any(isinstance(part.module, NORMS) for part in before_neurons),
        outside=outside,
        clipping=tuple(
            part.path for part in every if fires(part.module) and not surrogates(part.module)
        ),
        not_spiking=tuple(
            part.path
            for part in every
            if any(getattr(s, "spiking", 1) is False for s in surrogates(part.module).values())
        ),
        input_dtype=str(given.dtype),
        labels=np.asarray(arguments[0]) if arguments else None,
    )
    counted = {row.path for row in rows if row.dense is not None}
    return Report(
        layers=rows,
        warnings=findings(seen),
        loss=float(whole["loss"]),
        loss_name=loss_name,
        steps=xs.shape[0],
        examples=xs.shape[1],
        parameters=sum(leaf.size for leaf in jax.tree.leaves(state)),
        uncounted=tuple(
            part.path
            for part in every
            if part.path not in counted
            and any(array.ndim > 2 for array in numbers[part.path]["parameters"])
        ),
        outside=outside,
    )


def mean_output(outputs: jax.Array) -> jax.Array:
    """The loss where there are no labels."""
    return jnp.mean(outputs)


def _loss(loss: Any, labels: Any) -> tuple[Callable[..., jax.Array], str]:
    if loss is not None:
        function = getattr(_checks.function("loss", loss), "func", loss)  # of a partial
        return loss, getattr(function, "__name__", type(function).__name__)
    if labels is None:
        return mean_output, "mean output, as there are no labels"
    return _firing_rate_mse, "firing_rate_mse"


def _firing_rate_mse(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    if outputs.ndim != 2:
        raise ValueError(
            f"the outputs of the model have shape {list(outputs.shape)}, not [N, classes], so that "
            "firing_rate_mse cannot be their loss; pass the one you train with, loss=..."
        )
    return losses.firing_rate_mse(outputs, labels)


def _check_labels(labels: Any, xs: jax.Array, *, numbers: bool) -> jax.Array:
    """Labels as an array, `[N]` integers if they must be class `numbers`."""
    labels = jnp.asarray(labels)
    steps, examples = xs.shape[:2]
    if labels.ndim == 0 or len(labels) != examples:
        message = (
            f"labels must be those of the N = {examples} examples in xs [T, N, ...] "
            f"{list(xs.shape)}, got shape {list(labels.shape)}"
        )
        if labels.ndim and len(labels) == steps:
            message += "; is the batch the first axis of xs? jnp.swapaxes(xs, 0, 1) puts time first"
        raise ValueError(message)
    if numbers and (labels.ndim > 1 or not jnp.issubdtype(labels.dtype, jnp.integer)):
        one_hot = "; of one-hot labels, labels.argmax(-1)" if labels.ndim == 2 else ""
        raise ValueError(
            f"labels must be class numbers, {examples} integers, got {labels.dtype} of shape "
            f"{list(labels.shape)}{one_hot}; for labels of another kind pass the loss that you "
            "train with, loss=..."
        )
    return labels


def _check_range(labels: jax.Array, classes: int) -> None:
    low, high = int(labels.min()), int(labels.max())
    if not 0 <= low <= high < classes:
        raise ValueError(
            f"labels must be from 0 to {classes - 1}, as the model has {classes} outputs, got "
            f"{low} to {high}; count classes from 0 and have an output for each, or pass the "
            "loss that you train with, loss=..."
        )


def _row(part: Part, numbers: dict[str, Any]) -> LayerReport:
    own = numbers["parameters"]
    by_step = None
    if "by_step" in numbers:
        by_step = tuple(map(float, numbers["by_step"]))
    window = numbers.get("window")
    operations = numbers.get("operations", {})

    def number(name: str, source: dict[str, Any] = numbers) -> float | None:
        return float(source[name]) if name in source else None

    return LayerReport(
        path=part.path,
        kind=getattr(part.module, "__name__", type(part.module).__name__),
        shape=numbers["shape"].shape[2:] if "shape" in numbers else None,
        parameters=sum(math.prod(array.shape[1:]) for array in own),
        rate=number("rate"),
        dead=number("dead"),
        saturated=number("saturated"),
        window=None if window is None else float(window.share),
        gradient=number("gradient"),
        gradient_by_step=by_step,
        early_late=None if by_step is None else _early_late(by_step),
        param_dtype=_narrowest(own),
        state_dtype=_narrowest(numbers["states"]),
        additions=number("additions", operations),
        multiply_adds=number("multiply_adds", operations),
        dense=number("dense", operations),
    )


def _early_late(by_step: Sequence[float]) -> float | None:
    """The gradient of the first fifth of the steps over that of the last; None for 0 / 0."""
    some = math.ceil(len(by_step) / 5)
    early, late = math.hypot(*by_step[:some]), math.hypot(*by_step[-some:])  # whose squares fit
    if late == 0 or not math.isfinite(late):
        return None
    return early / late


def _narrowest(arrays: list[np.ndarray]) -> str | None:
    floating = [a.dtype for a in arrays if jnp.issubdtype(a.dtype, jnp.floating)]
    return str(min(floating, key=lambda dtype: dtype.itemsize)) if floating else None
