"""Warnings in plain words, made of measured numbers: the problem, and remedies."""

import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxsnn.diagnosis import _watch
from jaxsnn.diagnosis._report import Finding, LayerReport

DEAD = 0.9  # of a layer's neurons; half of them do not keep a network from learning
SATURATED = 0.5
OUTSIDE = 0.01  # share of potentials inside the window
RATIO = 1e3  # between gradients at either end, of layers or of time
LARGE_INPUT = 50.0
SOME = 8  # examples, from which to say what all have in common
SAME = 0.7  # of the neurons that fire, or of the channels

SCALE = "jaxsnn.calibrate scales the weights for a firing rate"


class Seen(NamedTuple):
    """Everything there is to judge; layers are in the order in which they are run."""

    whole: dict[str, Any]  # of the whole network: numbers by name
    parts: dict[str, dict[str, Any]]  # of each layer, by its path: numbers by name
    layers: tuple[LayerReport, ...]
    chain: tuple[str, ...]  # paths of the outermost layers, which were given all steps
    modules: dict[str, Any]  # the layers themselves, by path
    outside: tuple[str, ...]  # paths of parts that learn, but were not run by a `Run`
    input_dtype: str  # of `xs` before it was converted
    labels: np.ndarray | None

    def is_cell(self, path: str) -> bool:
        """True if the layer at `path` was given all steps and has a state."""
        return path in self.chain and _watch.has_state(self.modules[path])

    def is_smooth(self, path: str) -> bool:
        """True if the layer at `path` has a surrogate that does not spike."""
        functions = _watch.surrogates(self.modules[path]).values()
        return any(getattr(function, "spiking", 1) is False for function in functions)


def findings(seen: Seen) -> tuple[Finding, ...]:
    """All problems, from the input to the output, then gradients and dtypes."""
    found = (*_input(seen), *_labels(seen))
    not_finite = _not_finite(seen)
    if not_finite is not None:  # the other findings would be about NaN
        return (*found, not_finite, *_precision(seen))
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
    before = itertools.takewhile(lambda part: not _watch.fires(part), seen.modules.values())
    if largest > LARGE_INPUT and not any(isinstance(part, _watch.NORMS) for part in before):
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


def _not_finite(seen: Seen) -> Finding | None:
    """The first place where numbers cease to be finite, on the way forward and then back."""
    what = "not_finite"
    if not seen.whole["input_finite"]:
        return Finding(what, None, "the input holds NaN or infinity", "look at how xs is made")
    places = (
        (
            "parameters_finite",
            "its parameters hold NaN or infinity",
            "start from the last good checkpoint, with a smaller learning rate or clipping",
        ),
        (
            "finite",
            "its outputs hold NaN or infinity, those of the layers before it do not",
            "smaller weights or inputs; a wider dtype, if this is float16",
        ),
    )
    for name, message, advice in places:
        for path, numbers in seen.parts.items():
            if not numbers.get(name, True):
                return Finding(what, path, message, advice)
    if not (seen.whole["outputs_finite"] and math.isfinite(float(seen.whole["loss"]))):
        return Finding(
            what,
            None,
            "the loss is not finite, though all layers are",
            "look at what the readout and the loss do: a logarithm of 0, a division by 0?",
        )
    for layer in reversed(seen.layers):
        gradients = [layer.gradient or 0.0, *(layer.gradient_by_step or ())]
        if not all(map(math.isfinite, gradients)):
            return _beyond_numbers(seen, layer)
    return None


def _beyond_numbers(seen: Seen, layer: LayerReport) -> Finding:
    """The finding for a gradient that is not finite: it explodes through time, or another."""
    by_path = {layer.path: layer for layer in seen.layers}
    around = by_path[next((at for at in seen.chain if _watch.within(layer.path, at)), layer.path)]
    finite = [g for g in around.gradient_by_step or () if math.isfinite(g)]
    late = around.gradient_by_step[-1] if around.gradient_by_step else math.nan
    if seen.is_cell(around.path) and 0 < late < math.inf and max(finite) > late * RATIO:
        return _exploding_time(seen, around)
    return Finding(
        "not_finite",
        layer.path,
        "its gradient is NaN or infinite, on the way back the first to be so",
        "look at the derivative of its surrogate and of the loss",
    )


def _spikes(seen: Seen) -> Iterator[Finding]:
    if not any(map(_watch.fires, seen.modules.values())):
        yield Finding(
            "no_neurons",
            None,
            "no layer has a surrogate function: nothing in this network spikes, as far as can be "
            "seen",
            "put neurons such as jaxsnn.nn.LIFNode() after Linear and Conv, unless you mean to "
            "have none; derive a neuron of your own from jaxsnn.nn.Cell, with a jaxsnn.surrogate "
            "as an attribute",
        )
    for layer in seen.layers:
        numbers = seen.parts[layer.path]
        last = bool(numbers.get("puts_out")) and not seen.outside
        smooth = seen.is_smooth(layer.path)
        if smooth:
            yield Finding(
                "not_spiking",
                layer.path,
                "its surrogate function has spiking=False: it outputs smooth values, not spikes",
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
        if layer.window is not None:
            yield from _window(layer, float(numbers["peak"]))


def _sameness(seen: Seen, found: tuple[Finding, ...]) -> Iterator[Finding]:
    """Where examples, or neurons, that differ are made the same; after what has been found."""
    known = {(finding.what, finding.path) for finding in found}
    examples = seen.whole["examples"]
    if examples < SOME or known & {("input_zero", None), ("input_same", None)}:
        return
    spiking = [layer for layer in seen.layers if layer.rate is not None]
    ill = {path for what, path in known if what in ("dead", "silent_output", "saturated")}
    ill |= {layer.path for layer in seen.layers if seen.is_smooth(layer.path)}
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
            "make the inputs more distinct: subtract their mean, scale them to about 0 to 1, or "
            "put a BatchNorm first; and look for a bias or a constant that outweighs them",
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


def _window(layer: LayerReport, peak: float) -> Iterator[Finding]:
    if peak == 0:
        yield Finding(
            "no_surrogate",
            layer.path,
            "its spike function has no derivative anywhere, so no gradient passes it",
            "use a surrogate of jaxsnn.surrogate, e.g. ATan(), and no stop_gradient around it",
        )
    elif layer.window is not None and layer.window < OUTSIDE:
        yield Finding(
            "window",
            layer.path,
            f"{layer.window:.1%} of its potentials are where its surrogate lets a gradient through",
            f"bring them to the threshold ({SCALE}), or take a wider surrogate (a smaller alpha)",
        )


def _gradients(seen: Seen) -> Iterator[Finding]:
    learning = [layer for layer in seen.layers if layer.gradient is not None]
    # The threshold of neurons without a surrogate learns from inputs beyond it alone.
    apart = _watch.WITHOUT_SURROGATE
    learning = [layer for layer in learning if not isinstance(seen.modules[layer.path], apart)]
    still = [layer for layer in learning if layer.gradient == 0]
    if still and len(still) == len(learning):
        yield Finding(
            "zero_gradient",
            None,
            "no parameter of the network gets a gradient: it cannot learn",
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
            "see the layer before it" if reason else "see the layers after it",
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
    name = by_path[places[-1]].name
    found = f"the gradient at its input is {first / last:.1g} times that at layer {name}"
    if first < last / RATIO:
        yield Finding(
            "vanishing_layers",
            places[0],
            found,
            f"bring the layers between into their windows ({SCALE}), a BatchNorm before each "
            "neuron, fewer layers, or connections that skip some",
        )
    if first > last * RATIO and not any(_explodes(seen, layer) for layer in seen.layers):
        too_large, clip = _squares(seen, first)
        advice = "smaller weights, a surrogate with a lower peak" + clip
        yield Finding("exploding_layers", places[0], found + too_large, advice)


def _through_time(seen: Seen) -> Iterator[Finding]:
    cells = [layer for layer in seen.layers if seen.is_cell(layer.path)]
    vanishing = [
        layer for layer in cells if layer.early_late is not None and layer.early_late < 1 / RATIO
    ]
    exploding = [layer for layer in cells if _explodes(seen, layer)]
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
    """True if the gradient of a layer with a state explodes through time."""
    return seen.is_cell(layer.path) and (layer.early_late or 0) > RATIO


def _exploding_time(seen: Seen, layer: LayerReport) -> Finding:
    largest = math.hypot(*(layer.gradient_by_step or ()))
    too_large, clip = _squares(seen, largest)
    found = f"the gradient at the first steps is {layer.early_late or 0:.1g} times that at the last"
    if not math.isfinite(largest):
        found = "the gradient is finite at the last steps, and NaN or infinite at the first"
    return Finding(
        "exploding_time",
        layer.path,
        f"{found}{_by_step(layer)}{too_large}",
        "smaller recurrent weights, detach_reset=True, a surrogate with a lower peak, or gradients "
        "through fewer steps (pieces of the sequence, and jax.lax.stop_gradient of the carry "
        f"between them){clip}",
    )


def _by_step(layer: LayerReport) -> str:
    if layer.growth is None:
        return ""
    return f": each step back in time multiplies it by {layer.growth:.3g}"


def _squares(seen: Seen, norm: float) -> tuple[str, str]:
    """A warning if the square of a gradient is infinite, else the advice to clip the gradient.

    Clipping a larger gradient would leave little more than one step of it.
    """
    dtype = seen.whole["loss"].dtype
    dtype = dtype if dtype.itemsize > 4 else np.dtype(np.float32)  # of the gradients
    if norm < math.sqrt(np.finfo(dtype).max):
        return "", (
            "; or clip the gradient (train.py: --clip-norm 1; in a loop of your own "
            "jaxsnn.training.clip_by_global_norm)"
        )
    return (
        f"; its square is infinite in {dtype}, so that optax.adam and "
        "optax.clip_by_global_norm would make every update 0"
        if math.isfinite(norm)
        else ""
    ), ""


def _precision(seen: Seen) -> Iterator[Finding]:
    for field, what in (("param_dtype", "parameters"), ("state_dtype", "states")):
        dtypes = [(layer, getattr(layer, field)) for layer in seen.layers]
        narrow = [
            (layer, dtype) for layer, dtype in dtypes if dtype and jnp.dtype(dtype).itemsize < 4
        ]
        if narrow:
            layers, kinds = zip(*narrow, strict=True)
            of = f", of layers {', '.join(layer.name for layer in layers)}"
            yield Finding(
                "low_precision",
                layers[0].path if len(layers) == 1 else None,
                f"{what} are kept in {' and '.join(sorted(set(kinds)))}"
                f"{of if len(layers) > 1 else ''}: small changes are lost in rounding",
                "keep them in float32; dtype=jnp.bfloat16 of Linear and Conv alone makes the "
                "matrix products fast",
            )
