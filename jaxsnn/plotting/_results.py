"""What training brought: accuracy by epoch, and which classes are taken for which."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from jaxsnn import _checks
from jaxsnn.plotting._style import STYLE, array, axes, lines, whole_numbers

_EDGED: dict[str, Any] = {"markeredgecolor": "black", "zorder": 3}
_WRITTEN = 25  # so many classes get a number in every cell; of more it could not be read


@matplotlib.rc_context(STYLE)
def learning_curves(
    curves: Mapping[str, ArrayLike],
    *,
    published: Mapping[str, float] | None = None,
    ylabel: str = "test accuracy (%)",
    ax: Axes | None = None,
) -> Axes:
    """Draws the mean over the seeds and, around it, a band of one standard deviation either way
    (of the sample, with n - 1; none for a single seed).

    Args:
        curves: by name, `[seeds, epochs]`, or `[epochs]` for one seed.
        published: by the same names, values from the literature, marked at the last epoch.
        ylabel: what is drawn, with its unit.
        ax: where to draw; None makes a new figure.

    Returns:
        The axes: epoch, from 1, against the values.

    Raises:
        TypeError: `curves` is not a mapping, a published value not a number, `ax` not an Axes.
        ValueError: `curves` is empty or one of them is, or has other axes; `published` has a name
            that is not in `curves`, or a value that is not finite.

    Examples:
        >>> accuracy = jnp.array([[52.0, 60.1, 62.3], [51.2, 60.9, 61.8]])  # two seeds
        >>> ax = learning_curves({"plain": accuracy}, published={"plain": 62.0})
    """
    if not isinstance(curves, Mapping):
        raise TypeError(f"curves must be arrays by name, got {type(curves).__name__}")
    published = {} if published is None else published
    arrays = {name: _curve(f"curves[{name!r}]", values) for name, values in curves.items()}
    if not arrays:
        raise ValueError("curves must hold at least one curve, got none")
    for name, value in published.items():
        if name not in arrays:
            raise ValueError(f"published must have names from {list(arrays)}, got {name!r}")
        _checks.real(f"published[{name!r}]", value)
    ax = axes(ax, 4.8, 3.2)
    for (name, runs), look in zip(arrays.items(), lines(), strict=False):
        seeds, epochs = runs.shape
        epoch = np.arange(1, epochs + 1)
        mean = runs.mean(axis=0)
        marker = "." if epochs == 1 else None  # a line of one point could not be seen
        ax.plot(epoch, mean, label=name, marker=marker, **look)
        if seeds > 1:
            band, filled = runs.std(axis=0, ddof=1), {"color": look["color"], "alpha": 0.2}
            ax.fill_between(epoch, mean - band, mean + band, linewidth=0, **filled)
        if name in published:
            ax.plot(epochs, published[name], "D", color=look["color"], **_EDGED)
    if published:
        ax.plot([], [], "D", color="white", label="published", **_EDGED)  # for the legend
    ax.set(xlabel="epoch", ylabel=ylabel)
    ax.xaxis.set_major_locator(whole_numbers())
    ax.grid(axis="y")
    ax.legend(loc="best")
    return ax


@matplotlib.rc_context(STYLE)
def confusion_matrix(
    labels: ArrayLike,
    predictions: ArrayLike,
    *,
    class_names: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draws how often each class was taken for which, in per cent of the class.

    Every row adds up to 100; a cell with nothing in it, and the row of a class that does not
    occur, stays empty.

    Args:
        labels: true classes, integers from 0, `[N]`.
        predictions: classes that were predicted, integers from 0, `[N]`; of firing rates
            `[N, classes]` they are `rates.argmax(-1)`.
        class_names: names of all classes in order; None writes their numbers.
        ax: where to draw; None makes a new figure.

    Returns:
        The axes: a row for each true class, a column for each predicted one.

    Raises:
        TypeError: `labels` or `predictions` are not integers, `ax` is not an Axes.
        ValueError: `labels` and `predictions` are empty, have other axes, differ in length or
            hold a class below 0 or beyond `class_names`.

    Examples:
        >>> ax = confusion_matrix([0, 0, 1, 1], [0, 1, 1, 1], class_names=["bag", "shirt"])
    """
    true, predicted = _classes("labels", labels), _classes("predictions", predictions)
    if len(true) != len(predicted):
        raise ValueError(
            f"predictions must be as many as labels, {len(true)}, got {len(predicted)}"
        )
    highest = int(max(true.max(), predicted.max()))
    names = [str(k) for k in range(highest + 1)] if class_names is None else list(class_names)
    if highest >= len(names):
        raise ValueError(f"class_names must name classes 0 to {highest}, got {len(names)} names")
    pairs, sides = true * len(names) + predicted, (len(names), len(names))
    counts = np.bincount(pairs, minlength=len(names) ** 2).reshape(sides)
    percent = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    side = float(np.clip(1.4 + 0.36 * len(names), 2.6, 10))
    ax = axes(ax, side, side)
    ax.imshow(percent, cmap="Blues", vmin=0, vmax=100)
    ax.set(xlabel="predicted class", ylabel="true class", title="per cent of the true class")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    if len(names) <= _WRITTEN:
        ax.set_xticks(range(len(names)), names)
        ax.set_yticks(range(len(names)), names)
        if max(map(len, names)) > 4:  # wider than a cell
            plt.setp(ax.get_xticklabels(), rotation=45, ha="right", rotation_mode="anchor")
        for row, column in np.argwhere(counts):
            share = percent[row, column]
            written = f"{share:.0f}" if share >= 0.5 else "<1"
            color = "white" if share > 50 else "black"
            ax.text(column, row, written, ha="center", va="center", color=color, fontsize=8)
    return ax


def _curve(name: str, value: ArrayLike) -> NDArray[np.float64]:
    """Returns `value` as `[seeds, epochs]`; `[epochs]` is one seed."""
    found = array(name, value, (1, 2), "[epochs] or [seeds, epochs]", "a row is a seed")
    return np.atleast_2d(found.astype(np.float64))


def _classes(name: str, value: ArrayLike) -> NDArray[np.integer]:
    """Returns `value` as classes `[N]`."""
    remedy = "of firing rates [N, classes] take rates.argmax(-1)"
    classes = array(name, value, (1,), "[N]", remedy)
    if not np.issubdtype(classes.dtype, np.integer):
        raise TypeError(f"{name} must be integers, the classes from 0, got dtype {classes.dtype}")
    if classes.min() < 0:
        raise ValueError(f"{name} must be classes from 0, got {classes.min()}")
    return classes.astype(np.int64)
