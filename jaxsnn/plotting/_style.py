"""One look for every figure: told apart in colour, by the colour-blind and in grey print."""

import itertools
from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

# Six of the colours of Okabe & Ito 2008, "Color universal design", in an order in which the first
# three are a dark, a light and a middle grey in print; their black is kept for marks.
_COLOURS = ("#0072B2", "#E69F00", "#D55E00", "#56B4E9", "#009E73", "#CC79A7")
_DASHES = ("-", (0, (5, 1.5)), (0, (6, 1.5, 1, 1.5)), (0, (1, 1)), (0, (9, 2)), (0, (3, 1, 1, 1)))
_LINES = cycler(color=_COLOURS) + cycler(linestyle=_DASHES)

STYLE: dict[Any, Any] = {
    "axes.prop_cycle": _LINES,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "figure.dpi": 150,
    "font.size": 9,
    "grid.alpha": 0.4,
    "grid.linewidth": 0.5,
    "image.interpolation": "nearest",
    "legend.edgecolor": "none",
    "legend.fontsize": 8,
    "legend.framealpha": 0.85,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
}
"""Matplotlib's settings (rcParams) under which every function here draws. They do not outlast the
call; figures of your own get them by `with matplotlib.rc_context(STYLE):`."""


def axes(ax: Axes | None, width: float, height: float) -> Axes:
    """Returns `ax`, or the axes of a new figure of that size in inches."""
    if ax is None:
        return plt.subplots(figsize=(width, height))[1]
    if not isinstance(ax, Axes):
        raise TypeError(f"ax must be one Matplotlib Axes or None, got {type(ax).__name__}")
    return ax


def array(
    name: str, value: ArrayLike, ranks: tuple[int, ...], shape: str, remedy: str
) -> NDArray[Any]:
    """Returns `value` as an array whose rank is one of `ranks`; `shape` describes it in words."""
    found = np.asarray(value)
    if found.ndim not in ranks or found.size == 0:
        raise ValueError(
            f"{name} must have shape {shape} and not be empty, got {list(found.shape)}; {remedy}"
        )
    return found


def legend(ax: Axes) -> None:
    """Names what is drawn, to the right of it, or inside where no layout would make room."""
    if ax.figure.get_layout_engine() is None:
        ax.legend(loc="best")
    else:
        ax.legend(loc="upper left", bbox_to_anchor=(1, 1))


def whole_numbers() -> MaxNLocator:
    """Ticks at round whole numbers: time steps, indices, epochs."""
    return MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1)


def lines() -> Iterator[dict[str, Any]]:
    """The colours and line styles, over and over."""
    return itertools.cycle(_LINES)
