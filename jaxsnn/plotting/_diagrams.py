"""Networks as boxes and arrows: the three of the experiment, and feedback on its own."""

from typing import Any, Literal, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.path import Path

from jaxsnn.models import CLASSES, FEATURES, HIDDEN, MODELS
from jaxsnn.plotting._style import STYLE, axes

# All lengths are in inches; the layers stand on the line y = 0.
_BOX, _HIGH, _LOOP = 0.98, 0.56, 0.78  # width and height of a box; how far above feedback runs
_BLUE, _ORANGE, _GREEN, _WHITE = "#CFE5F5", "#FBD9C4", "#C9EBDD", "white"


class _Part(NamedTuple):
    """A box of a colour, or bare text without one."""

    text: str
    colour: str | None = None
    width: float = _BOX


_HIDDEN_NEURONS = _Part(f"IFNode\n{HIDDEN}", _ORANGE)
_FIRST = [_Part(f"x[t]\n{FEATURES}", width=0.35), _Part(f"Linear\n{FEATURES} → {HIDDEN}", _BLUE)]
_LAST = [
    _Part(f"Linear\n{HIDDEN} → {CLASSES}", _BLUE),
    _Part(f"IFNode\n{CLASSES}", _ORANGE),
    _Part(f"mean over t:\n{CLASSES} firing rates", width=1.05),
]
_NETWORKS = {
    "plain": [*_FIRST, _HIDDEN_NEURONS, *_LAST],
    "ss": [*_FIRST, _HIDDEN_NEURONS, _Part("SynapseFilter\nlearnable τ", _GREEN), *_LAST],
    "fb": [*_FIRST, _Part(f"Linear\n{2 * HIDDEN} → {HIDDEN}", _BLUE), _HIDDEN_NEURONS, *_LAST],
}


@matplotlib.rc_context(STYLE)
def network_diagram(name: str, *, ax: Axes | None = None) -> Axes:
    """Draws one of the three networks of `jaxsnn.models`, its layers from left to right.

    Args:
        name: "plain", "ss" (stateful synapses) or "fb" (linear feedback).
        ax: where to draw, better wide than high; None makes a new figure.

    Returns:
        The axes, with neither ticks nor labels.

    Raises:
        TypeError: `ax` is not an Axes.
        ValueError: there is no network of that name.

    Examples:
        >>> ax = network_diagram("fb")
    """
    if name not in MODELS:
        raise ValueError(f"name must be one of {', '.join(map(repr, MODELS))}, got {name!r}")
    feedback = name == "fb"
    drawing = _Drawing(ax, _NETWORKS[name], gap=0.34, top=1.42 if feedback else 0.4)
    if feedback:
        drawing.frame(2, 3, "LinearRecurrentContainer")
        drawing.feedback(2, 3)
    return drawing.ax


@matplotlib.rc_context(STYLE)
def feedback_diagram(*, ax: Axes | None = None) -> Axes:
    """Draws what a recurrent container does: `i[t] = f(y[t-1], x[t])`, `y[t] = sub_module(i[t])`.

    Args:
        ax: where to draw, better wide than high; None makes a new figure.

    Returns:
        The axes, with neither ticks nor labels.

    Raises:
        TypeError: `ax` is not an Axes.

    Examples:
        >>> ax = feedback_diagram()
    """
    x, y = _Part("x[t]", width=0.35), _Part("y[t]", width=0.35)
    parts = [x, _Part("f", _BLUE, width=0.56), _Part("sub-module", _ORANGE), y]
    drawing = _Drawing(ax, parts, gap=0.6, top=1.15)
    drawing.feedback(1, 2)
    drawing.text(drawing.right(1) + 0.25, 0.12, "i[t]")
    drawing.text(drawing.centre(1) + 0.1, 0.5 * (_LOOP + _HIGH / 2), "y[t-1]", ha="left")
    return drawing.ax


class _Drawing:
    """A chain of parts joined by arrows. On axes smaller than it everything shrinks, text too."""

    def __init__(self, ax: Axes | None, parts: list[_Part], *, gap: float, top: float) -> None:
        self.parts, self.gap = parts, gap
        self.lefts = [0.0]
        for part in parts:
            self.lefts.append(self.lefts[-1] + part.width + gap)
        bottom, width = -0.45, self.lefts[-1] - gap
        self.ax = axes(ax, width + 0.1, top - bottom + 0.1)
        self.ax.set(xlim=(0, width), ylim=(bottom, top), aspect="equal")
        self.ax.set_axis_off()
        figure = self.ax.get_figure(root=True)
        if figure is not None:
            figure.draw_without_rendering()  # gives the axes the room that they will have
        in_inches = self.ax.figure.dpi_scale_trans.inverted()
        room = self.ax.get_window_extent().transformed(in_inches)
        self.scale = min(1, room.width / width, room.height / (top - bottom))

        for k, part in enumerate(parts):
            if part.colour:
                self.box(self.centre(k), 0, part)
            self.text(self.centre(k), 0, part.text)
            if k > 0:
                self.arrow((self.right(k - 1), 0), (self.lefts[k], 0))

    def right(self, k: int) -> float:
        """Where part `k` ends."""
        return self.lefts[k] + self.parts[k].width

    def centre(self, k: int) -> float:
        """The middle of part `k`."""
        return self.lefts[k] + self.parts[k].width / 2

    def text(
        self, x: float, y: float, text: str, *, ha: Literal["left", "center"] = "center"
    ) -> None:
        """Writes at a point."""
        self.ax.text(x, y, text, ha=ha, va="center", fontsize=8.5 * self.scale)

    def box(self, x: float, y: float, part: _Part, high: float = _HIGH) -> None:
        """A box around a point; its text is written apart."""
        look: dict[str, Any] = {"facecolor": part.colour, "edgecolor": "black"}
        look |= {"boxstyle": "round,pad=0,rounding_size=0.06", "linewidth": self.scale}
        corner = (x - part.width / 2, y - high / 2)
        self.ax.add_patch(FancyBboxPatch(corner, part.width, high, **look))

    def arrow(self, *points: tuple[float, float]) -> None:
        """A line through the points, with a head at the last."""
        look: dict[str, Any] = {"color": "black", "joinstyle": "miter", "arrowstyle": "-|>"}
        look |= {"linewidth": self.scale, "mutation_scale": 9 * self.scale}
        self.ax.add_patch(FancyArrowPatch(path=Path(points), **look))

    def feedback(self, into: int, out_of: int) -> None:
        """The output of part `out_of` returns, one step late, to part `into`."""
        branch = self.right(out_of) + 0.4 * self.gap
        middle = (self.centre(into) + branch) / 2
        delay = _Part("delay: 1 step", _WHITE)
        self.ax.add_patch(Circle((branch, 0), 0.03, color="black"))
        left, right = middle - delay.width / 2, middle + delay.width / 2
        end = self.centre(into)
        self.arrow((branch, 0), (branch, _LOOP), (right, _LOOP))
        self.arrow((left, _LOOP), (end, _LOOP), (end, _HIGH / 2))
        self.box(middle, _LOOP, delay, high=0.34)
        self.text(middle, _LOOP, delay.text)

    def frame(self, first: int, last: int, name: str) -> None:
        """A dashed frame around the parts from `first` to `last` and the feedback above them."""
        left, right = self.lefts[first] - 0.12, self.right(last) + 0.6 * self.gap
        low, high = -_HIGH / 2 - 0.1, _LOOP + 0.3
        look: dict[str, Any] = {"edgecolor": "0.4", "linestyle": "--", "linewidth": self.scale}
        self.ax.add_patch(Rectangle((left, low), right - left, high - low, fill=False, **look))
        self.text((left + right) / 2, high + 0.12, name)
