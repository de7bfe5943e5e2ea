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

    @property
    def by_path(self) -> dict[str, LayerReport]:
        return {layer.path: layer for layer in self.layers}

    def is_cell(self, path: str) -> bool:
        """True if the layer at `path` was given all steps and has a state."""
        return path in self.chain and _watch.has_state(self.modules[path])

    def is_smooth(self, path: str) -> bool:
        """True if the layer at `path` has a surrogate that does not spike."""
        functions = _watch.surrogates(self.modules[path]).values()
        return any(getattr(function, "spiking", 1) is False for function in functions)


# By `what`, with a word for the case if there are several: the problem, and remedies.
_TEXTS = {
    "input_integer": (
        "the input has dtype {dtype}; here it was converted to float32",
        "pass floats: images by xs.astype(jnp.float32) / 255, or jaxsnn.data.columns",
    ),
    "input_large": (
        "the input goes up to {largest:g}, which drives neurons far beyond a threshold of 1",
        "scale it to about 0 to 1 (images: divide by 255), or put a BatchNorm first",
    ),
    "input_zero": ("the input is 0 everywhere", "look at how xs is made"),
    "input_same": (
        "all {examples} examples have the same input",
        "look at how xs is made; is its second axis the batch, [T, N, ...]?",
    ),
    "one_class": (
        "all {examples} labels are {label}",
        "shuffle the examples: a network that sees one class at a time forgets the others",
    ),
    "label_range": (
        "labels go from {low} to {high}, but the outputs are those of classes 0 to {last}",
        "count classes from 0, and have an output for each",
    ),
    "not_finite, input": ("the input holds NaN or infinity", "look at how xs is made"),
    "not_finite, parameters": (
        "its parameters hold NaN or infinity",
        "start from the last good checkpoint, with a smaller learning rate or clipping",
    ),
    "not_finite, outputs": (
        "its outputs hold NaN or infinity, those of the layers before it do not",
        "smaller weights or inputs; a wider dtype, if this is float16",
    ),
    "not_finite, loss": (
        "the loss is not finite, though all layers are",
        "look at what the readout and the loss do: a logarithm of 0, a division by 0?",
    ),
    "not_finite, gradient": (
        "its gradient is NaN or infinite, on the way back the first to be so",
        "look at the derivative of its surrogate and of the loss",
    ),
    "no_neurons": (
        "no layer has a surrogate function: nothing in this network spikes, as far as can be seen",
        "put neurons such as jaxsnn.nn.LIFNode() after Linear and Conv; a neuron of your own needs "
        "a jaxsnn.surrogate as an attribute",
    ),
    "not_spiking": (
        "its surrogate function has spiking=False: it outputs smooth values, not spikes",
        "leave spiking=False out, unless you train a network without spikes on purpose",
    ),
    "dead": (
        "{who} on this batch, so little passes through it",
        f"larger weights or a lower v_threshold: {SCALE}; or a BatchNorm before it",
    ),
    "silent_output": (
        "{who} on this batch, so all classes look alike",
        f"larger weights or a lower v_threshold: {SCALE}; or a BatchNorm before it",
    ),
    "saturated": (
        "{share:.0%} of its neurons fire at nearly every step, whatever the input",
        f"smaller weights or inputs, or a higher v_threshold: {SCALE}",
    ),
    "no_surrogate": (
        "its spike function has no derivative anywhere, so no gradient passes it",
        "use a surrogate of jaxsnn.surrogate, e.g. ATan(), and no stop_gradient around it",
    ),
    "window": (
        "{share:.1%} of its potentials are where its surrogate lets a gradient through",
        f"bring them to the threshold ({SCALE}), or take a wider surrogate (a smaller alpha)",
    ),
    "same_neurons": (
        "all of its neurons have the same potential, as if they were one",
        "random initial weights: neurons with the same weights stay the same",
    ),
    "same_spikes": (
        "of its neurons that fire {share:.0%} do so at the same steps for all {examples} examples",
        "make the inputs more distinct: subtract their mean, scale them to about 0 to 1, or put a "
        "BatchNorm first; and look for a bias or a constant that outweighs them",
    ),
    "same_output": (
        "the outputs are the same for all {examples} examples, though those of the layers are not",
        "look at the readout: is it one over time, the first axis of [T, N, ...]?",
    ),
    "zero_gradient, all": (
        "no parameter of the network gets a gradient: it cannot learn",
        "see the warnings above; is there a stop_gradient, or a loss without one, as an accuracy?",
    ),
    "zero_gradient, input": (
        "its parameters get no gradient: its inputs are all 0",
        "see the layer before it",
    ),
    "zero_gradient": ("its parameters get no gradient", "see the layers after it"),
    "vanishing_layers": (
        "the gradient at its input is {ratio:.1g} times that at layer {last}",
        f"bring the layers between into their windows ({SCALE}), a BatchNorm before each neuron, "
        "fewer layers, or connections that skip some",
    ),
    "exploding_layers": (
        "the gradient at its input is {ratio:.1g} times that at layer {last}{too_large}",
        "smaller weights, a surrogate with a lower peak{clip}",
    ),
    "vanishing_time": (
        "the gradient at the first steps is {ratio:.1g} times that at the last{growth}; what "
        "happens early is not learned from",
        "a longer memory (a larger tau, a SynapseFilter), detach_reset=True, or a loss that looks "
        "at all steps",
    ),
    "exploding_time": (
        "{found}{growth}{too_large}",
        "smaller recurrent weights, detach_reset=True, a surrogate with a lower peak, or gradients "
        "through fewer steps (jax.lax.stop_gradient of the carry between pieces){clip}",
    ),
    "low_precision": (
        "{kept} are kept in {dtypes}{layers}: small changes are lost in rounding",
        "keep them in float32; dtype=jnp.bfloat16 of Linear and Conv alone makes the matrix "
        "products fast",
    ),
}


def _finding(case: str, path: str | None = None, **values: Any) -> Finding:
    message, advice = _TEXTS[case]
    what = case.partition(",")[0]
    return Finding(what, path, message.format(**values), advice.format(**values))


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
        yield _finding("input_integer", dtype=seen.input_dtype)
    largest = float(whole["input_largest"])
    before = itertools.takewhile(lambda part: not _watch.fires(part), seen.modules.values())
    if largest > LARGE_INPUT and not any(isinstance(part, _watch.NORMS) for part in before):
        yield _finding("input_large", largest=largest)
    if largest == 0:
        yield _finding("input_zero")
    elif bool(whole["input_same"]) and whole["examples"] > 1:
        yield _finding("input_same", examples=whole["examples"])


def _labels(seen: Seen) -> Iterator[Finding]:
    labels, outputs = seen.labels, seen.whole["outputs"].shape
    if labels is None or labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        return
    low, high = int(labels.min()), int(labels.max())
    if low == high and len(labels) >= SOME:
        yield _finding("one_class", examples=len(labels), label=low)
    classes = outputs[-1] if len(outputs) == 2 else 1
    if classes > 1 and not 0 <= low <= high < classes:
        yield _finding("label_range", low=low, high=high, last=classes - 1)


def _not_finite(seen: Seen) -> Finding | None:
    """The first place where numbers cease to be finite, on the way forward and then back."""
    if not seen.whole["input_finite"]:
        return _finding("not_finite, input")
    for arrays in ("parameters", "outputs"):
        for path, numbers in seen.parts.items():
            if not numbers.get(f"{arrays}_finite", True):
                return _finding(f"not_finite, {arrays}", path)
    if not (seen.whole["outputs_finite"] and math.isfinite(float(seen.whole["loss"]))):
        return _finding("not_finite, loss")
    for layer in reversed(seen.layers):
        gradients = [layer.gradient or 0.0, *(layer.gradient_by_step or ())]
        if not all(map(math.isfinite, gradients)):
            return _beyond_numbers(seen, layer)
    return None


def _beyond_numbers(seen: Seen, layer: LayerReport) -> Finding:
    """The finding for a gradient that is not finite: it explodes through time, or another."""
    outer = [at for at in seen.chain if _watch.within(layer.path, at)]
    around = seen.by_path[outer[0]] if outer else layer
    finite = [g for g in around.gradient_by_step or () if math.isfinite(g)]
    late = around.gradient_by_step[-1] if around.gradient_by_step else math.nan
    if seen.is_cell(around.path) and 0 < late < math.inf and max(finite) > late * RATIO:
        return _exploding_time(seen, around)
    return _finding("not_finite, gradient", layer.path)


def _spikes(seen: Seen) -> Iterator[Finding]:
    if not any(map(_watch.fires, seen.modules.values())):
        yield _finding("no_neurons")
    for layer in seen.layers:
        numbers = seen.parts[layer.path]
        if seen.is_smooth(layer.path):
            yield _finding("not_spiking", layer.path)
        elif layer.dead is not None and layer.saturated is not None:
            last = bool(numbers.get("puts_out")) and not seen.outside
            if layer.dead >= DEAD:
                who = "no output neuron fires" if last else "no neuron fires"
                if layer.dead < 1:
                    who = f"{layer.dead:.0%} of its neurons never fire"
                yield _finding("silent_output" if last else "dead", layer.path, who=who)
            if layer.saturated >= SATURATED:
                yield _finding("saturated", layer.path, share=layer.saturated)
        if layer.window is not None and numbers["peak"] == 0:
            yield _finding("no_surrogate", layer.path)
        elif layer.window is not None and layer.window < OUTSIDE:
            yield _finding("window", layer.path, share=layer.window)


def _sameness(seen: Seen, found: tuple[Finding, ...]) -> Iterator[Finding]:
    """Where examples, or neurons, that differ are made the same; after what has been found."""
    known = {(finding.what, finding.path) for finding in found}
    examples = seen.whole["examples"]
    if examples < SOME or known & {("input_zero", None), ("input_same", None)}:
        return
    ill = {path for what, path in known if what in ("dead", "silent_output", "saturated")}
    ill |= {layer.path for layer in seen.layers if seen.is_smooth(layer.path)}
    for k, layer in enumerate(seen.layers):
        weighted = any(before.parameters for before in seen.layers[:k])
        if weighted and layer.path not in ill and seen.parts[layer.path].get("same_neurons"):
            yield _finding("same_neurons", layer.path)
    for layer in seen.layers:
        share = float(seen.parts[layer.path].get("same_spikes", 0))
        if share >= SAME and layer.path not in ill:
            yield _finding("same_spikes", layer.path, share=share, examples=examples)
            return
    if seen.whole["same_output"] and not ill:
        yield _finding("same_output", examples=examples)


def _gradients(seen: Seen) -> Iterator[Finding]:
    learning = [layer for layer in seen.layers if layer.gradient is not None]
    # The threshold of neurons without a surrogate learns from inputs beyond it alone.
    apart = _watch.WITHOUT_SURROGATE
    learning = [layer for layer in learning if not isinstance(seen.modules[layer.path], apart)]
    still = [layer for layer in learning if layer.gradient == 0]
    if still and len(still) == len(learning):
        yield _finding("zero_gradient, all")
        return
    for layer in still:
        fed = not seen.parts[layer.path]["input_zero"]
        yield _finding("zero_gradient" if fed else "zero_gradient, input", layer.path)
    yield from _across_layers(seen)
    yield from _through_time(seen)


def _across_layers(seen: Seen) -> Iterator[Finding]:
    spiking = [layer.path for layer in seen.layers if layer.rate is not None]
    places = [p for p in seen.chain if any(_watch.within(path, p) for path in spiking)]
    start, end = [*places, seen.chain[-1]][0], seen.chain[-1]
    first, last = (math.hypot(*seen.by_path[p].gradient_by_step or ()) for p in (start, end))
    if first == 0 or last == 0:
        return
    values = {"ratio": first / last, "last": seen.by_path[end].name}
    if first < last / RATIO:
        yield _finding("vanishing_layers", start, **values)
    if first > last * RATIO and not any(_explodes(seen, layer) for layer in seen.layers):
        yield _finding("exploding_layers", start, **values, **_squares(seen, first))


def _through_time(seen: Seen) -> Iterator[Finding]:
    cells = [layer for layer in seen.layers if seen.is_cell(layer.path)]
    ratios = [(layer, layer.early_late) for layer in cells if layer.early_late is not None]
    vanishing = [(layer, ratio) for layer, ratio in ratios if ratio < 1 / RATIO]
    exploding = [layer for layer in cells if _explodes(seen, layer)]
    if vanishing:  # the last of them passes it on to those before
        layer, ratio = vanishing[-1]
        yield _finding("vanishing_time", layer.path, ratio=ratio, growth=_by_step(layer))
    if exploding:
        yield _exploding_time(seen, exploding[-1])


def _explodes(seen: Seen, layer: LayerReport) -> bool:
    """True if the gradient of a layer with a state explodes through time."""
    return seen.is_cell(layer.path) and (layer.early_late or 0) > RATIO


def _exploding_time(seen: Seen, layer: LayerReport) -> Finding:
    largest = math.hypot(*(layer.gradient_by_step or ()))
    found = f"the gradient at the first steps is {layer.early_late or 0:.1g} times that at the last"
    if not math.isfinite(largest):
        found = "the gradient is finite at the last steps, and NaN or infinite at the first"
    values = {"found": found, "growth": _by_step(layer), **_squares(seen, largest)}
    return _finding("exploding_time", layer.path, **values)


def _by_step(layer: LayerReport) -> str:
    if layer.growth is None:
        return ""
    return f": each step back in time multiplies it by {layer.growth:.3g}"


def _squares(seen: Seen, norm: float) -> dict[str, str]:
    """A warning if the square of a gradient is infinite, else the advice to clip the gradient.

    Clipping a larger gradient would leave little more than one step of it.
    """
    dtype = seen.whole["loss"].dtype
    dtype = dtype if dtype.itemsize > 4 else np.dtype(np.float32)  # of the gradients
    too_large = clip = ""
    if norm < math.sqrt(np.finfo(dtype).max):
        clip = "; or clip the gradient (train.py: --clip-norm 1; training.clip_by_global_norm)"
    elif math.isfinite(norm):
        too_large = f"; its square is infinite in {dtype}: optax.adam would make every update 0"
    return {"too_large": too_large, "clip": clip}


def _precision(seen: Seen) -> Iterator[Finding]:
    for field, kept in (("param_dtype", "parameters"), ("state_dtype", "states")):
        dtypes = [(layer, getattr(layer, field)) for layer in seen.layers]
        narrow = [(layer, d) for layer, d in dtypes if d and jnp.dtype(d).itemsize < 4]
        if narrow:
            several = len(narrow) > 1
            names = f", of layers {', '.join(layer.name for layer, _ in narrow)}" if several else ""
            kinds = " and ".join(sorted({dtype for _, dtype in narrow}))
            path = None if several else narrow[0][0].path
            yield _finding("low_precision", path, kept=kept, dtypes=kinds, layers=names)
