"""Spikes, membrane potentials and currents over time; surrogate gradients."""

import jax.numpy as jnp
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from jaxsnn import _checks
from jaxsnn.plotting._style import STYLE, array, axes, legend, lines, whole_numbers
from jaxsnn.surrogate import Surrogate

_WIDTH = 5.5  # inches
_NAMED = 6  # so many lines get a legend; more would repeat their colours
_DOTTED = 60  # sequences up to so many steps show every step as a dot


@matplotlib.rc_context(STYLE)
def raster(spikes: ArrayLike, *, ax: Axes | None = None) -> Axes:
    """Draws spikes: one row a neuron, one tick a spike.

    Args:
        spikes: 0 or 1, `[T, neurons]`, or `[T]` for one neuron.
        ax: where to draw; None makes a new figure.

    Returns:
        The axes: time step against index of the neuron.

    Raises:
        TypeError: `ax` is not an Axes.
        ValueError: `spikes` has other axes, is empty or holds other values.

    Examples:
        >>> _, spikes = unroll(IFNode(), 0.3 * jnp.ones((28, 1, 50)))  # [T, N, neurons]
        >>> ax = raster(spikes[:, 0])
    """
    rows = _spikes("spikes", spikes, "neurons")
    steps, neurons = rows.shape
    ax = axes(ax, _WIDTH, float(np.clip(1.1 + 0.07 * neurons, 1.4, 5.5)))
    when, who = np.nonzero(rows)
    wide = float(np.clip(0.4 * 72 * _WIDTH / steps, 0.6, 1.6))  # points
    # Without snapping to pixels, which would make some of many small ticks twice as high as others.
    ax.vlines(when, who - 0.4, who + 0.4, color="black", linewidth=wide, snap=False)
    _time_axis(ax, steps, "neuron")
    ax.set(ylim=(-0.5, neurons - 0.5))
    ax.yaxis.set_major_locator(whole_numbers())
    return ax


@matplotlib.rc_context(STYLE)
def membrane(
    v: ArrayLike,
    *,
    threshold: float | None = None,
    spikes: ArrayLike | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draws membrane potentials, with the threshold as a dashed line and the spikes as ticks.

    Args:
        v: membrane potential, `[T]`, or `[T, neurons]` for one line a neuron.
        threshold: the potential at which the neurons fire; None draws no line.
        spikes: 0 or 1, in the shape of `v`; the ticks stand above the potentials, one row a
            neuron, the first on top. None draws none.
        ax: where to draw; None makes a new figure.

    Returns:
        The axes: time step against membrane potential.

    Raises:
        TypeError: `threshold` is not a number or `ax` not an Axes.
        ValueError: `v` has other axes or is empty, `threshold` is not finite, `spikes` is not of
            the shape of `v` or holds other values than 0 and 1.

    Examples:
        >>> potentials = jnp.array([0.5, 0.9, 0.0, 0.5])
        >>> ax = membrane(potentials, threshold=1.0, spikes=jnp.array([0, 0, 1, 0]))
    """
    potentials = _sequences("v", v, "neurons")
    level = None if threshold is None else _checks.real("threshold", threshold)
    fired = None if spikes is None else _spikes("spikes", spikes, "neurons")
    if fired is not None and fired.shape != potentials.shape:
        raise ValueError(
            f"spikes must have the shape of v, {list(potentials.shape)}, got {list(fired.shape)}"
        )
    ax = axes(ax, _WIDTH, 2.6)
    _draw_lines(ax, potentials, "neuron")
    if level is not None:
        ax.axhline(level, color="black", linestyle="--", linewidth=0.8, label="threshold")
    if fired is not None:
        _draw_ticks(ax, potentials, level, fired)
    _time_axis(ax, len(potentials), "membrane potential")
    if 1 < potentials.shape[1] <= _NAMED or level is not None or fired is not None:
        legend(ax)
    return ax


@matplotlib.rc_context(STYLE)
def current(i: ArrayLike, *, ax: Axes | None = None) -> Axes:
    """Draws synaptic currents.

    Args:
        i: synaptic current, `[T]`, or `[T, synapses]` for one line a synapse.
        ax: where to draw; None makes a new figure.

    Returns:
        The axes: time step against synaptic current.

    Raises:
        TypeError: `ax` is not an Axes.
        ValueError: `i` has other axes or is empty.

    Examples:
        >>> _, i = unroll(SynapseFilter(tau=5.0), jnp.zeros((28, 1)).at[3].set(1.0))
        >>> ax = current(i)
    """
    currents = _sequences("i", i, "synapses")
    ax = axes(ax, _WIDTH, 2.2)
    _draw_lines(ax, currents, "synapse")
    _time_axis(ax, len(currents), "synaptic current")
    if 1 < currents.shape[1] <= _NAMED:
        legend(ax)
    return ax


@matplotlib.rc_context(STYLE)
def surrogate(
    function: Surrogate, *, limits: tuple[float, float] = (-2.0, 2.0), ax: Axes | None = None
) -> Axes:
    """Draws the Heaviside step, the primal that stands in for it, and the primal's derivative,
    which is the one of the backward pass.

    Args:
        function: the surrogate, e.g. `jaxsnn.surrogate.ATan()`.
        limits: the range of `v - v_threshold` to draw, the lower end first.
        ax: where to draw; None makes a new figure.

    Returns:
        The axes: `v - v_threshold` against the three functions of it.

    Raises:
        TypeError: `function` is not a surrogate, a limit is not a number, `ax` is not an Axes.
        ValueError: `limits` is not a lower and an upper end.

    Examples:
        >>> ax = surrogate(jaxsnn.surrogate.ATan(alpha=2.0))
    """
    if not isinstance(function, Surrogate):
        raise TypeError(
            f"function must be a surrogate, e.g. jaxsnn.surrogate.ATan(), got {function!r}"
        )
    low, high = _checks.interval("limits", limits)
    ax = axes(ax, 4.2, 2.8)
    # With 0 among the points, so that the step stands exactly where it is.
    u = np.union1d(np.linspace(low, high, 501), np.clip(0.0, low, high)).astype(np.float32)
    look = lines()
    ax.plot(u, np.heaviside(u, 1), label="step", drawstyle="steps-post", **next(look))
    ax.plot(u, function.primal(jnp.asarray(u)), label="primal", **next(look))
    ax.plot(u, function.derivative(jnp.asarray(u)), label="derivative", **next(look))
    ax.set(xlabel="membrane potential less threshold", xlim=(low, high))
    ax.legend(loc="best")
    return ax


def _sequences(name: str, value: ArrayLike, columns: str) -> NDArray[np.float64]:
    """Returns `value` as `[T, columns]`; `[T]` is one column."""
    shape, remedy = f"[T] or [T, {columns}]", f"of a batch draw one example, {name}[:, 0]"
    found = array(name, value, (1, 2), shape, remedy).astype(np.float64)
    return found.reshape(len(found), -1)


def _spikes(name: str, value: ArrayLike, columns: str) -> NDArray[np.bool_]:
    """Returns `value` as `[T, columns]`, True where there is a spike."""
    found = _sequences(name, value, columns)
    other = found[(found != 0) & (found != 1)]
    if other.size:
        raise ValueError(f"{name} must hold 0 and 1 only, got {other[0]:g}; see membrane, current")
    return found == 1


def _draw_lines(ax: Axes, sequences: NDArray[np.float64], noun: str) -> None:
    """One line a column; up to `_NAMED` of several are named in the legend."""
    steps, columns = sequences.shape
    marker = "." if steps <= _DOTTED else None
    for k, look in zip(range(columns), lines(), strict=False):
        label = f"{noun} {k}" if 1 < columns <= _NAMED else None
        ax.plot(np.arange(steps), sequences[:, k], marker=marker, label=label, **look)


def _draw_ticks(
    ax: Axes, potentials: NDArray[np.float64], level: float | None, fired: NDArray[np.bool_]
) -> None:
    """Ticks at the spikes, above all that is drawn, one row a column."""
    drawn = potentials[np.isfinite(potentials)]
    if level is not None:
        drawn = np.append(drawn, level)
    low, high = (drawn.min(), drawn.max()) if drawn.size else (0.0, 1.0)
    columns = fired.shape[1]
    apart = (high - low or 1.0) * min(0.1, 0.6 / columns)
    for k, look in zip(range(columns), lines(), strict=False):
        (when,) = np.nonzero(fired[:, k])
        row = high + apart * (columns - k)
        ax.vlines(when, row, row + 0.7 * apart, color=look["color"], linewidth=1.2)
    colour = look["color"] if columns == 1 else "black"
    ax.plot([], [], color=colour, linestyle="none", marker="|", markersize=7, label="spikes")


def _time_axis(ax: Axes, steps: int, ylabel: str) -> None:
    ax.set(xlabel="time step", xlim=(-0.5, steps - 0.5), ylabel=ylabel)
    ax.xaxis.set_major_locator(whole_numbers())
