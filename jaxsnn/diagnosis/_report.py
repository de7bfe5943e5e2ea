"""The report of `doctor`: as data, and as two tables and a list of warnings."""

import functools
import math
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

ADD_PJ = 0.9
"""Energy of adding two 32-bit floats in picojoules: 45 nm, 0.9 V (Horowitz 2014)."""

MULTIPLY_ADD_PJ = 3.7 + 0.9
"""Energy of multiplying two and adding the product (the same)."""

WIDTH = 80

LEGEND = """\
rate: spikes per neuron and step; dead: neurons that never fire; full: that fire
at nearly every step; window: potentials where the surrogate lets a gradient
through; gradient: of the parameters; early/late: gradient at the layer's input,
first steps over last"""

SOURCE = """\
45 nm CMOS, 32-bit floats: 0.9 pJ an addition, 4.6 pJ a multiply-add (Horowitz
2014); memory, biases and the neurons themselves are not counted"""


class LayerReport(NamedTuple):
    """Measurements of one layer. None stands for a measurement that does not apply to its kind.

    Attributes:
        path: as for `record` of `jaxsnn.nn.unroll`, e.g. `"1.sub_module"`.
        kind: name of its class.
        shape: of its output for one example at one step.
        parameters: how many numbers it learns, those of layers inside of it apart.
        rate: spikes per neuron and time step.
        dead: share of the neurons that do not fire once in the batch.
        saturated: share of the neurons that fire at 95 % of all steps or more.
        window: share of the potentials, before the reset, at which the derivative of the
            surrogate is at least a tenth of its largest.
        gradient: norm of the gradient of its parameters.
        gradient_by_step: norm of the gradient of its input at each step as it runs them, `[T]`.
        early_late: the norm of that over the first fifth of the steps, divided by that over the
            last fifth.
        param_dtype: the narrowest dtype of its parameters.
        state_dtype: the narrowest dtype of its state.
        additions: how often a spike is added to the current of a neuron, for one example.
        multiply_adds: the same for inputs that are not spikes: how many products are added.
        dense: the products there would be if nothing were left out.
        learned: the least, the median and the largest value of each learned constant.
    """

    path: str
    kind: str
    shape: tuple[int, ...] | None
    parameters: int
    rate: float | None
    dead: float | None
    saturated: float | None
    window: float | None
    gradient: float | None
    gradient_by_step: tuple[float, ...] | None
    early_late: float | None
    param_dtype: str | None
    state_dtype: str | None
    additions: float | None
    multiply_adds: float | None
    dense: float | None
    learned: dict[str, tuple[float, float, float]]

    @property
    def name(self) -> str:
        """Its path, or where that is empty its class."""
        return self.path or self.kind

    @property
    def title(self) -> str:
        """Its path, where it has one, and its class."""
        return f"{self.path} {self.kind}".strip()

    @property
    def growth(self) -> float | None:
        """Factor between the gradient at its input at one step and at the step after.

        Above 1 the gradient explodes through time, below 1 it vanishes. The geometric mean between
        the first fifth and the last fifth of the steps at which `gradient_by_step` is neither 0
        nor infinite; None for fewer than two such steps.
        """
        gradients = enumerate(self.gradient_by_step or ())
        known = np.array([(t, math.log(g)) for t, g in gradients if 0 < g < math.inf])
        if len(known) < 2:
            return None
        some = math.ceil(len(known) / 5)
        (first, early), (last, late) = known[:some].mean(0), known[-some:].mean(0)
        return math.exp((early - late) / (last - first))

    @property
    def energy(self) -> float | None:
        """Energy of the operations for one example, in picojoules; see `Report.energy`."""
        if self.additions is None or self.multiply_adds is None:
            return None
        return self.additions * ADD_PJ + self.multiply_adds * MULTIPLY_ADD_PJ


class Finding(NamedTuple):
    """Something that keeps a network from learning, or may.

    Attributes:
        what: a word for it, e.g. `"dead"`; the documentation of `doctor` lists them.
        path: the layer; None for the whole.
        message: what was seen, in plain words.
        advice: what to try.
    """

    what: str
    path: str | None
    message: str
    advice: str


class Report(NamedTuple):
    """The report of `doctor`. `print` shows it as tables.

    Attributes:
        layers: one entry per layer, front to back.
        warnings: the problems found; empty for a healthy network.
        loss: of this batch.
        loss_name: what it is.
        steps: time steps, `T`.
        examples: `N`.
        parameters: of the whole model.
        uncounted: paths of layers with weights whose synaptic operations are not counted.
        outside: paths of parts that learn, but are not run by `run(part, x)`: only their gradients
            are seen.
    """

    layers: tuple[LayerReport, ...]
    warnings: tuple[Finding, ...]
    loss: float
    loss_name: str
    steps: int
    examples: int
    parameters: int
    uncounted: tuple[str, ...]
    outside: tuple[str, ...]

    @property
    def energy(self) -> float:
        """Energy of the synaptic operations for one example, in picojoules.

        0.9 pJ an addition and 4.6 pJ a multiply-add of 32-bit floats in 45 nm CMOS (Horowitz
        2014, "Computing's energy problem (and what we can do about it)", ISSCC). Neither memory,
        which takes more on real hardware, nor what happens inside neurons is counted.
        """
        return sum(layer.energy or 0.0 for layer in self.layers)

    def as_dict(self) -> dict[str, Any]:
        """All of it as dicts, lists and numbers, e.g. for `json.dumps`."""
        named = self._asdict()
        named["layers"] = [
            layer._asdict() | {"growth": layer.growth, "energy": layer.energy}
            for layer in self.layers
        ]
        named["warnings"] = [finding._asdict() for finding in self.warnings]
        return named | {"energy": self.energy}

    def __str__(self) -> str:
        head = (
            f"{self.examples} examples of {self.steps} steps, {self.parameters:,} parameters, "
            f"loss {self.loss:.4g} ({self.loss_name})"
        )
        if self.outside:
            head += f"\nnot run, so only gradients are seen: {', '.join(self.outside)}"
        parts = [head, self._activity(), self._learned(), self._operations(), self._found()]
        return "\n\n".join(part for part in parts if part)

    def __repr__(self) -> str:
        return str(self)

    def _activity(self) -> str:
        rows = [("layer", "shape", *_MEASURED, "dtype")]
        for layer in self.layers:
            shape = "x".join(map(str, layer.shape or ()))
            values = [(getattr(layer, field), form) for field, form in _MEASURED.values()]
            numbers = ["" if value is None else format(value, form) for value, form in values]
            dtypes = [d.replace("float", "f") for d in (layer.param_dtype, layer.state_dtype) if d]
            rows.append((layer.title, shape, *numbers, "/".join(dict.fromkeys(dtypes))))
        return f"{table(rows)}\n{LEGEND}"

    def _learned(self) -> str:
        rows = [
            (layer.title, name, *map("{:.4g}".format, values))
            for layer in self.layers
            for name, values in layer.learned.items()
        ]
        head = "learned constants", "", "least", "median", "largest"
        return table([head, *rows]) if rows else ""

    def _operations(self) -> str:
        counted = [layer for layer in self.layers if layer.energy is not None]
        rows = [("synapses", "parameters", "additions", "multiply-adds", "of dense", "energy")]
        for title, layers in [
            *((layer.title, [layer]) for layer in counted if layer.dense),
            ("for one example", counted),
        ]:
            additions = sum(layer.additions or 0 for layer in layers)
            products = sum(layer.multiply_adds or 0 for layer in layers)
            dense = None if layers is counted else layers[0].dense
            rows.append(
                (
                    title,
                    f"{sum(layer.parameters for layer in layers):,}",
                    f"{additions:,.0f}",
                    f"{products:,.0f}",
                    f"{(additions + products) / dense:.1%}" if dense else "",
                    _energy(sum(layer.energy or 0 for layer in layers)),
                )
            )
        if len(rows) == 2:
            return "no Linear or Conv whose synaptic operations could be counted"
        names = [layer.name for layer in self.layers if layer.path in self.uncounted]
        note = f"\nnot counted: {', '.join(names)}" if names else ""
        return f"{table(rows)}\n{SOURCE}{note}"

    def _found(self) -> str:
        if not self.warnings:
            return "no warnings"
        titles = {layer.path: layer.title for layer in self.layers}
        same: dict[tuple[str, str], list[str]] = {}  # what is said of several layers is said once
        for found in self.warnings:
            where = [] if found.path is None else [titles[found.path]]
            same.setdefault((found.message, found.advice), []).extend(where)
        lines = []
        wrap = functools.partial(textwrap.wrap, width=WIDTH, break_long_words=False)
        for (message, advice), where in same.items():
            at = f"{', '.join(where)}: " if where else ""
            lines += wrap(f"! {at}{message}", subsequent_indent="  ")
            lines += wrap(f"  -> {advice}", subsequent_indent="     ")
        return "\n".join(lines)


# The columns of the first table: a field of LayerReport and its format.
_MEASURED = {
    "rate": ("rate", ".3f"),
    "dead": ("dead", ".1%"),
    "full": ("saturated", ".1%"),
    "window": ("window", ".1%"),
    "gradient": ("gradient", ".2g"),
    "early/late": ("early_late", ".2g"),
}


def _energy(picojoules: float) -> str:
    for unit, size in (("mJ", 1e9), ("uJ", 1e6), ("nJ", 1e3)):
        if picojoules >= size:
            return f"{picojoules / size:.3g} {unit}"
    return f"{picojoules:.3g} pJ"


def table(rows: Sequence[tuple[str, ...]]) -> str:
    first, *others = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([head.ljust(first), *map(str.rjust, texts, others)]).rstrip()
        for head, *texts in rows
    ]
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(lines)
