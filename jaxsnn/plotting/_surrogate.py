"""A surrogate gradient: the step that runs forward, and what stands in for it backward."""

import jax.numpy as jnp
import matplotlib
import numpy as np
from matplotlib.axes import Axes

from jaxsnn import _checks
from jaxsnn.plotting._style import STYLE, axes, lines
from jaxsnn.surrogate import Surrogate


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
    if np.shape(limits) != (2,):
        raise ValueError(f"limits must be two numbers, e.g. (-2.0, 2.0), got {limits!r}")
    low, high = (_checks.real("limits", limit) for limit in limits)
    if low >= high:
        raise ValueError(f"limits must have the lower end first, got {limits!r}")
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
