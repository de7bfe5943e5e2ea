"""From numbers to plain words: what is amiss, and what to try."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxsnn.diagnosis._report import Finding, LayerReport
from jaxsnn.diagnosis._stack import within

DEAD = 0.9  # of a layer's neurons; half of them do not keep a network from learning
SATURATED = 0.5
OUTSIDE = 0.01  # share of potentials inside the window
RATIO = 1e3  # between gradients at either end, of layers or of time
LARGE_INPUT = 50.0
SOME = 8  # examples, from which to say what all have in common
SAME = 0.7  # of the neurons that fire, or of the channels

SCALE = "jaxsnn.calibrate scales the weights for a firing rate"


class Seen(NamedTuple):
    """What there is to judge.

    Attributes:
        whole: of the whole network: numbers by name.
        parts: of each layer, by its path: numbers by name.
        layers: the reports of all layers, front to back.
        chain: the paths of those that follow one another, front to back.
        cells: those of them that have a state.
        neurons: whether anything puts out spikes.
        normalised: whether the input is normalised before the first of them.
        outside: what the model has beside its stack that learns.
        clipping: paths of neurons whose threshold learns from inputs beyond it alone.
        not_spiking: paths of layers whose surrogate runs its primal forward.
        input_dtype: of `xs` as it was given.
        labels: those of the batch; None without.
    """

    whole: dict[str, Any]
    parts: dict[str, dict[str, Any]]
    layers: tuple[LayerReport, ...]
    chain: tuple[str, ...]
    cells: frozenset[str]
    neurons: bool
    normalised: bool
    outside: tuple[str, ...]
    clipping: tuple[str, ...]
    not_spiking: tuple[str, ...]
    input_dtype: str
    labels: np.ndarray | None


def findings(seen: Seen) -> tuple[Finding, ...]:
    """Everything that is amiss, from the input to the output, then gradients and dtypes."""
    not_finite = tuple(_not_finite(seen))
    found = (*_input(seen), *_labels(seen), *not_finite)
    if not_finite:  # what follows would be about NaN
        return (*found, *_precision(seen))
    found = (*found, *_spikes(seen))
    return (*found, *_sameness(seen, found), *_gradients(seen), *_precision(seen))


def _input(seen: Seen) -> Iterator[Finding]:
    whole = seen.whole
    if not jnp.issubdtype(jnp.dtype(seen.input_dtype), jnp.floating):
        yield Finding(
            "input_integer",
            None,
            f"the input has dtype {seen.input_dtype}; here it was converted to float32",
            "hand over floats: images by xs.astype(jnp.float32) / 255, or jaxsnn.data.columns",
        )
    largest = float(whole["input_largest"])
    if largest > LARGE_INPUT and not seen.normalised:
        yield Finding(
            "input_large",
            None,
            f"the input goes up to {largest:g}, which drives neurons with a threshold of 1 far "
            "beyond it",
            "scale it to about 0 to 1 (images: divide by 255), or put a BatchNorm first",
        )
    if largest == 0:
        yield Finding("input_zero", None, "the input is 0 everywhere", "look at how xs is made")
    elif bool(whole["input_same"]) and whole["examples"] > 1:
        yield Finding(
            "input_same",
            None,
            f"all {whole['examples']} examples have the same input",
            "look at how xs is made; is its second axis the batch, [T, N, ...]?",
        )


def _labels(seen: Seen) -> Iterator[Finding]:
    labels, outputs = seen.labels, seen.whole["outputs"].shape
    if labels is None or labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        return
    low, high = int(labels.min()), int(labels.max())
    if low == high and len(labels) >= SOME:
        yield Finding(
            "one_class",
            None,
            f"all {len(labels)} labels are {low}",
            "shuffle the examples: a network that sees one class at a time forgets the others",
        )
    classes = outputs[-1] if len(outputs) == 2 else 1
    if classes > 1 and not 0 <= low <= high < classes:
        yield Finding(
            "label_range",
            None,
            f"labels go from {low} to {high}, but the outputs are those of classes 0 to "
            f"{classes - 1}",
            "count classes from 0, and have an output for each",
        )


def _not_finite(seen: Seen) -> Iterator[Finding]:
    """Where numbers cease to be finite, on the way forward and then back: the first place."""
    if not seen.whole["input_finite"]:
        yield Finding(
            "not_finite", None, "the input holds NaN or infinity", "look at how xs is made"
        )
        return
    for path, numbers in seen.parts.items():
        if not numbers["parameters_finite"]:
            yield Finding(
                "not_finite",
                path,
                "its parameters hold NaN or infinity",
                "start from the last good checkpoint, with a smaller learning rate or clipping",
            )
            return
    for path, numbers in seen.parts.items():
        if not numbers.get("finite", True):
            yield Finding(
                "not_finite",
                path,
                "its outputs hold NaN or infinity, those of the layers before it do not",
                "smaller weights or inputs; a wider dtype, if this is float16",
            )
            return
    if not (seen.whole["outputs_finite"] and math.isfinite(float(seen.whole["loss"]))):
        yield Finding(
            "not_finite",
            None,
            "the loss is not finite, though all layers are",
            "look at what the readout and the loss do: a logarithm of 0, a division by 0?",
        )
        return
    for layer in reversed(seen.layers):
        gradients = [layer.gradient or 0.0, *(layer.gradient_by_step or ())]
        if not all(map(math.isfinite, gradients)):
            yield _beyond_numbers(seen, layer)
            return


def _beyond_numbers(seen: Seen, layer: LayerReport) -> Finding:
    """The finding for a gradient that is not finite: it explodes through time, or another."""
    by_path = {layer.path: layer for layer in seen.layers}
    around = by_path[next(path for path in seen.chain if within(layer.path, path))]
    finite = [g for g in around.gradient_by_step or () if math.isfinite(g)]
    late = around.gradient_by_step[-1] if around.gradient_by_step else math.nan
    if around.path in seen.cells and 0 < late < math.inf and max(finite) > late * RATIO:
        return _exploding_time(seen, around)
    return Finding(
        "not_finite",
        layer.path,
        "its gradient is NaN or infinite, on the way back the first to be so",
        "look at the derivative of its surrogate and of the loss",
    )


def _spikes(seen: Seen) -> Iterator[Finding]:
    if not seen.neurons:
        yield Finding(
            "no_neurons",
            None,
            "no layer has a surrogate function: nothing in this network spikes, as far as can be "
            "seen",
            "put neurons such as jaxsnn.nn.LIFNode() behind Linear and Conv, unless you mean to "
            "have none; derive a neuron of your own from jaxsnn.nn.Cell, with a jaxsnn.surrogate "
            "as an attribute",
        )
    for layer in seen.layers:
        numbers = seen.parts[layer.path]
        last = within(layer.path, seen.chain[-1]) and bool(numbers.get("puts_out"))
        last = last and not seen.outside
        smooth = layer.path in seen.not_spiking
        if smooth:
            yield Finding(
                "not_spiking",
                layer.path,
                "its surrogate function has spiking=False: it puts out smooth values, not spikes",
                "leave spiking=False out, unless you train a network without spikes on purpose",
            )
        if layer.dead is not None and layer.dead >= DEAD and not smooth:
            who = "no output neuron fires" if last else "no neuron fires"
            if layer.dead < 1:
                who = f"{layer.dead:.0%} of its neurons never fire"
            yield Finding(
                "silent_output" if last else "dead",
                layer.path,
                f"{who} on this batch"
                + (", so all classes look alike" if last else ", so little passes through it"),
                f"larger weights or a lower v_threshold: {SCALE}; or a BatchNorm before it",
            )
        if layer.saturated is not None and layer.saturated >= SATURATED and not smooth:
            yield Finding(
                "saturated",
                layer.path,
                f"{layer.saturated:.0%} of its neurons fire at nearly every step, whatever the "
                "input",
                f"smaller weights or inputs, or a higher v_threshold: {SCALE}",
            )
        if "window" in numbers:
            yield from _window(layer, numbers["window"])


def _sameness(seen: Seen, found: tuple[Finding, ...]) -> Iterator[Finding]:
    """Where examples, or neurons, that differ are made the same; after what has been found."""
    known = {(finding.what, finding.path) for finding in found}
    examples = seen.whole["examples"]
    if examples < SOME or known & {("input_zero", None), ("input_same", None)}:
        return
    spiking = [layer for layer in seen.layers if layer.rate is not None]
    ill = {path for what, path in known if what in ("dead", "silent_output", "saturated")}
    ill |= set(seen.not_spiking)
    for k, layer in enumerate(seen.layers):
        weighted = any(before.parameters for before in seen.layers[:k])
        if weighted and layer.path not in ill and seen.parts[layer.path].get("same_neurons"):
            yield Finding(
                "same_neurons",
                layer.path,
                "all of its neurons have the same potential, as if they were one",
                "random initial weights: neurons with the same weights stay the same",
            )
    for layer in spiking:
        share = float(seen.parts[layer.path]["same_spikes"])
        if layer.path in ill or share < SAME:
            continue
        yield Finding(
            "same_spikes",
            layer.path,
            f"of its neurons that fire {share:.0%} do so at the same steps for all {examples} "
            "examples",
            "let inputs differ by more than that is lost beside what they have in common: subtract "
            "their mean, scale them to about 0 to 1, or put a BatchNorm first; and look for a "
            "bias or a constant that outweighs them",
        )
        return
    if seen.whole["same_output"] and not ill:
        yield Finding(
            "same_output",
            None,
            f"the outputs are the same for all {examples} examples, though those of the layers are "
            "not",
            "look at the readout: is it one over time, the first axis of [T, N, ...]?",
        )


def _window(layer: LayerReport, window: Any) -> Iterator[Finding]:
    if float(window.peak) == 0:
        yield Finding(
            "no_surrogate",
            layer.path,
            "its spike function has no derivative anywhere, so no gradient passes it",
            "use a surrogate of jaxsnn.surrogate, e.g. ATan(), and no stop_gradient around it",
        )
    elif float(window.share) < OUTSIDE:
        yield Finding(
            "window",
            layer.path,
            f"{float(window.share):.1%} of its potentials are where its surrogate lets a gradient "
            "through",
            f"bring them to the threshold ({SCALE}), or take a wider surrogate (a smaller alpha)",
        )


def _gradients(seen: Seen) -> Iterator[Finding]:
    learning = [
        layer
        for layer in seen.layers
        if layer.gradient is not None and layer.path not in seen.clipping
    ]
    still = [layer for layer in learning if layer.gradient == 0]
    if still and len(still) == len(learning):
        yield Finding(
            "zero_gradient",
            None,
            "no parameter of the stack gets a gradient: it cannot learn",
            "see the warnings above; is there a stop_gradient, or a loss without a gradient "
            "such as an accuracy?",
        )
        return
    for layer in still:
        reason = ": its inputs are all 0" if seen.parts[layer.path]["input_zero"] else ""
        yield Finding(
            "zero_gradient",
            layer.path,
            f"its parameters get no gradient{reason}",
            "see the layer before it" if reason else "see the layers behind it",
        )
    yield from _across_layers(seen)
    yield from _through_time(seen)


def _across_layers(seen: Seen) -> Iterator[Finding]:
    by_path = {layer.path: layer for layer in seen.layers}
    spiking = {layer.path for layer in seen.layers if layer.rate is not None}
    places = [
        path
        for path in seen.chain
        if path == seen.chain[-1] or any(f"{at}.".startswith(f"{path}.") for at in spiking)
    ]
    first, last = (math.hypot(*by_path[p].gradient_by_step or ()) for p in (places[0], places[-1]))
    if first == 0 or last == 0:
        return
    if first < last / RATIO:
        yield Finding(
            "vanishing_layers",
            places[0],
            f"the gradient at its input is {first / last:.1g} times that at layer "
            f"{by_path[places[-1]].name}",
            f"bring the layers between into their windows ({SCALE}), a BatchNorm before each "
            "neuron, fewer layers, or connections that skip some",
        )
    if first > last * RATIO and not any(_explodes(seen, layer) for layer in seen.layers):
        yield Finding(
            "exploding_layers",
            places[0],
            f"the gradient at its input is {first / last:.1g} times that at layer "
            f"{by_path[places[-1]].name}{_too_large(seen, first)}",
            "smaller weights, a surrogate with a lower peak" + _clipping(seen, first),
        )


def _through_time(seen: Seen) -> Iterator[Finding]:
    cells = [
        (layer, layer.early_late)
        for layer in seen.layers
        if layer.path in seen.cells and layer.early_late is not None
    ]
    vanishing = [layer for layer, ratio in cells if ratio < 1 / RATIO]
    exploding = [layer for layer, _ in cells if _explodes(seen, layer)]
    if vanishing:  # the last of them passes it on to those before
        layer = vanishing[-1]
        yield Finding(
            "vanishing_time",
            layer.path,
            f"the gradient at the first steps is {layer.early_late:.1g} times that at the last"
            f"{_by_step(layer)}; what happens early is not learned from",
            "a longer memory (a larger tau, a SynapseFilter), detach_reset=True, or a loss that "
            "looks at all steps",
        )
    if exploding:
        yield _exploding_time(seen, exploding[-1])


def _explodes(seen: Seen, layer: LayerReport) -> bool:
    """Whether the gradient of a layer with a state explodes through time."""
    return layer.path in seen.cells and (layer.early_late or 0) > RATIO


def _exploding_time(seen: Seen, layer: LayerReport) -> Finding:
    largest = math.hypot(*(layer.gradient_by_step or ()))
    found = f"the gradient at the first steps is {layer.early_late or 0:.1g} times that at the last"
    if not math.isfinite(largest):
        found = "the gradient is finite at the last steps, and NaN or infinite at the first"
    return Finding(
        "exploding_time",
        layer.path,
        f"{found}{_by_step(layer)}{_too_large(seen, largest)}",
        "smaller recurrent weights, detach_reset=True, a surrogate with a lower peak, or gradients "
        "through fewer steps (pieces of the sequence, and jax.lax.stop_gradient of the carry "
        f"between them){_clipping(seen, largest)}",
    )


def _by_step(layer: LayerReport) -> str:
    if layer.growth is None:
        return ""
    return f": each step back in time multiplies it by {layer.growth:.3g}"


def _dtype(seen: Seen) -> Any:
    """The dtype of gradients: that of the loss, or float32 where it is narrower."""
    dtype = seen.whole["loss"].dtype
    return dtype if dtype.itemsize > 4 else np.dtype(np.float32)


def _squares_fit(seen: Seen, norm: float) -> bool:
    return norm < math.sqrt(np.finfo(_dtype(seen)).max)


def _too_large(seen: Seen, norm: float) -> str:
    """The warning that the square of a gradient is infinite."""
    if _squares_fit(seen, norm) or not math.isfinite(norm):
        return ""
    return (
        f"; its square is infinite in {_dtype(seen)}, so that optax.adam and "
        "optax.clip_by_global_norm would make every update 0"
    )


def _clipping(seen: Seen, norm: float) -> str:
    """The advice to clip the gradient, unless it is so large that one step outweighs the others."""
    if not _squares_fit(seen, norm):
        return ""
    return (
        "; or clip the gradient (train.py: --clip-norm 1; in a loop of your own "
        "jaxsnn.training.clip_by_global_norm)"
    )


def _precision(seen: Seen) -> Iterator[Finding]:
    for field, what in (("param_dtype", "parameters"), ("state_dtype", "states")):
        narrow = {
            layer: getattr(layer, field)
            for layer in seen.layers
            if (dtype := getattr(layer, field)) and jnp.dtype(dtype).itemsize < 4
        }
        if narrow:
            kinds = " and ".join(sorted(set(narrow.values())))
            yield Finding(
                "low_precision",
                next(iter(narrow)).path if len(narrow) == 1 else None,
                f"{what} are kept in {kinds}"
                + (
                    ""
                    if len(narrow) == 1
                    else f", of layers {', '.join(layer.name for layer in narrow)}"
                )
                + ": small changes are lost in rounding",
                "keep them in float32; dtype=jnp.bfloat16 of Linear and Conv alone makes the "
                "matrix products fast",
            )
