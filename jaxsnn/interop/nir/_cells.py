"""Cells and layers that NIR has and `jaxsnn.nn` has not: one neuron for all its equations, `Scale`,
`Threshold`, `SumPool`; and `Strict`, its spike function.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from jaxsnn import _checks
from jaxsnn._carries import check_call, check_step
from jaxsnn._dtypes import state_dtype
from jaxsnn._phases import SurrogateFunction, keep, reset
from jaxsnn._repr import Printable, in_short
from jaxsnn.nn import AvgPool, Cell
from jaxsnn.quantize import straight_through
from jaxsnn.surrogate import Sigmoid


class Numbers:
    """An array that never changes, and so can be a setting of a module: it has a hash.

    Args:
        array: the numbers; kept as they are, in float64 if need be.
    """

    def __init__(self, array: np.ndarray) -> None:
        self.array = np.array(array)
        self.array.setflags(write=False)
        self._key = self.array.shape, self.array.dtype.str, self.array.tobytes()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Numbers) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return in_short(self.array)


Setting = float | Numbers


def setting(name: str, value: Any) -> Setting:
    """`value` as a float if it is one number or many equal ones, otherwise as `Numbers`."""
    array = numbers(name, array_of(value))
    first = float(array.flat[0])
    return first if np.all(array == first) else Numbers(array)


def numbers(name: str, value: Any) -> np.ndarray:
    """`value` as an array, which must hold finite numbers."""
    array = np.asarray(value)
    if array.size == 0 or array.dtype.kind not in "fiu" or not np.all(np.isfinite(array)):
        found = shown(array) if array.dtype.kind == "f" else f"dtype {array.dtype}"
        raise ValueError(f"{name} must hold finite numbers, got {found}")
    return array


def array_of(value: Any) -> Any:
    """The array of `Numbers`; everything else as it is."""
    return value.array if isinstance(value, Numbers) else value


def shown(array: np.ndarray) -> str:
    """Numbers in an error message: a few as they are, many in short."""
    return in_short(array) if array.size > 4 else str(array)


def refuse(*reasons: tuple[Any, str]) -> None:
    """Raise ValueError with the first reason whose condition holds, of an array for any number."""
    for holds, reason in reasons:
        if np.any(holds):
            raise ValueError(reason)


def _beside(value: Any, x: jax.Array, owner: str) -> Any:
    """Numbers, or one, as they are combined with `x` `[..., *their shape]`, in its dtype."""
    array = array_of(value)
    if not isinstance(array, np.ndarray | jax.Array):
        return value
    if x.shape[x.ndim - array.ndim :] != array.shape:
        raise ValueError(
            f"{owner} has shape {list(array.shape)}, so inputs must end in this shape, got "
            f"{list(x.shape)}"
        )
    return jnp.broadcast_to(jnp.asarray(array.astype(x.dtype)), x.shape)


class NeuronState(NamedTuple):
    """State of a `Neuron` with a synaptic current.

    Attributes:
        v: membrane potential after the last reset.
        i: synaptic current.
    """

    v: Float[Array, "*shape"]
    i: Float[Array, "*shape"]


_NEEDS = (
    *(("v_leak", "tau"), ("tau", "v_leak"), ("w_in", "tau_syn"), ("tau_syn", "w_in")),
    *(("tau_syn", "tau"), ("v_reset", "v_threshold")),
)


class Neuron(Cell):
    """A neuron with the parameters that NIR gives it, in forward Euler steps of `dt`.

        i = i + dt/tau_syn (w_in x - i)        with tau_syn, otherwise i = x
        h = v + dt/tau (v_leak - v + r i)      with tau, otherwise h = v + dt r i
        y = H(h - v_threshold)                 with v_threshold, otherwise y = h
        v = y v_reset + (1 - y) h              with v_threshold and v_reset, the hard reset
        v = h - y v_threshold                  with v_threshold alone, the soft reset
        v = h - y v_threshold / (1 - dt/tau)   with delayed_reset, otherwise v = h

    The delayed reset subtracts the threshold after the leak of the next step, as `Leaky` of
    snnTorch and `LIF` of spyx do: of what is subtracted here, 1 - dt/tau is left by then.

    `from_nir` makes one where no cell of `jaxsnn.nn` has this equation with these parameters, e.g.
    a rest that is not the reset, or a resistance that is neither 1 nor `tau/dt`.

    Args:
        dt: seconds in a time step.
        r: resistance.
        tau: membrane time constant in seconds, at least `dt`; None for no leak.
        v_leak: potential at rest; needed with `tau` and only there.
        tau_syn: synaptic time constant in seconds, at least `dt`; None for no current.
        w_in: weight of the input to the current; needed with `tau_syn` and only there.
        v_threshold: firing threshold; None never fires and outputs the potential.
        v_reset: potential after a spike; None is the soft reset, which subtracts the threshold.
        delayed_reset: whether the soft reset is that of the next step.
        surrogate_function: spike function of `v - v_threshold`, e.g. `jaxsnn.surrogate.ATan()`.
        detach_reset: no gradient flows through the reset (that of the output spike stays).

    From `r` to `v_reset` each is a number, or an array of one for each element of a time step's
    input without its batch axis, channels last. None of them is learned.

    Carry: the potential `v`, with `tau_syn` `NeuronState(v, i)`; before the first step `v` is
    `v_leak`, without a leak `v_reset` or 0, and `i` is 0.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: a number is not finite, a time constant is less than `dt`, two arrays have
            different shapes, or an argument lacks its partner; when run, if the input does not
            fit the arrays.

    Examples:
        >>> leaky = Neuron(dt=0.001, r=1.0, tau=[0.002, 0.004], v_leak=0.0)
        >>> _, v = unroll(leaky, jnp.ones((2, 1, 2)))
        >>> v[:, 0]
        Array([[0.5   , 0.25  ],
               [0.75  , 0.4375]], dtype=float32)
    """

    state_name = "v"
    numbers = ("r", "tau", "v_leak", "tau_syn", "w_in", "v_threshold", "v_reset")
    printed = ("dt", *numbers, "delayed_reset", "detach_reset", "surrogate_function")

    def __init__(
        self,
        *,
        dt: float,
        r: Any,
        tau: Any = None,
        v_leak: Any = None,
        tau_syn: Any = None,
        w_in: Any = None,
        v_threshold: Any = None,
        v_reset: Any = None,
        delayed_reset: bool = False,
        surrogate_function: SurrogateFunction = Sigmoid(),
        detach_reset: bool = False,
    ) -> None:
        def optional(name: str, value: Any) -> Setting | None:
            return None if value is None else setting(name, value)

        self.dt = dt = _checks.positive("dt", dt)
        self.r = setting("r", r)
        self.tau, self.v_leak = optional("tau", tau), optional("v_leak", v_leak)
        self.tau_syn, self.w_in = optional("tau_syn", tau_syn), optional("w_in", w_in)
        self.v_threshold = optional("v_threshold", v_threshold)
        self.v_reset = optional("v_reset", v_reset)
        self.surrogate_function = _checks.function("surrogate_function", surrogate_function)
        self.detach_reset = _checks.boolean("detach_reset", detach_reset)
        self.delayed_reset = _checks.boolean("delayed_reset", delayed_reset)
        values = {name: array_of(getattr(self, name)) for name in self.numbers}
        given = {name: value for name, value in values.items() if value is not None}
        shapes = {name: a.shape for name, a in given.items() if isinstance(a, np.ndarray)}
        tau, tau_syn = given.get("tau", math.inf), given.get("tau_syn", math.inf)
        no_soft_reset = v_threshold is None or v_reset is not None
        refuse(
            *((a in given and b not in given, f"{a} needs a {b}, got None") for a, b in _NEEDS),
            (tau < dt, f"tau must be at least dt={dt!r}, got {self.tau!r}; choose a smaller dt"),
            (tau_syn < dt, f"tau_syn must be at least dt={dt!r}, got {tau_syn!r}"),
            (delayed_reset and no_soft_reset, "delayed_reset=True needs a v_threshold, no v_reset"),
            (delayed_reset & (tau == dt), f"delayed_reset=True needs a tau above dt={dt!r}"),
            (len({*shapes.values()}) > 1, f"arrays of a Neuron need one shape, got {shapes}"),
        )

    @property
    def kind(self) -> str:
        """The name of the NIR node that this is, e.g. `"LIF"`."""
        leak = "" if self.tau is None else "L" if self.tau_syn is None else "CubaL"
        return f"{leak}I" if self.v_threshold is None else f"{leak}IF"

    def initialize_carry(
        self,
        input_shape: tuple[int, ...],
        rngs: nnx.Rngs | nnx.RngStream | None = None,
        *,
        dtype: Any = jnp.float32,
    ) -> Any:
        """The potential at rest, and no current."""
        zeros = jnp.zeros(input_shape, state_dtype(dtype))
        first = self.v_reset if self.v_leak is None else self.v_leak
        v = zeros if first is None else zeros + self._number(first, zeros)
        return v if self.tau_syn is None else NeuronState(v, zeros)

    def __call__(self, carry: Any, x: jax.Array = _checks.REQUIRED) -> tuple[Any, jax.Array]:
        check_call(self, x)
        check_step(self, carry, x, None if self.tau_syn is None else NeuronState)
        v, i = (carry, None) if self.tau_syn is None else carry
        current = x.astype(v.dtype)
        if i is not None:
            i = i + self._share(self.tau_syn, v) * (self._number(self.w_in, v) * current - i)
            current = i
        if self.tau is None:
            gain = self._number(setting("dt r", self.dt * array_of(self.r)), v)
            h = keep(v + gain * current)
        else:
            above = self._number(self.v_leak, v) - v + self._number(self.r, v) * current
            h = keep(v + self._share(self.tau, v) * above)
        v, y = self._fire(h)
        return (v if i is None else NeuronState(v, i)), y.astype(x.dtype)

    def _fire(self, h: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The potential after the reset, and the output."""
        if self.v_threshold is None:
            return h, h
        threshold, v_reset = (self._number(n, h) for n in (self.v_threshold, self.v_reset))
        y = self.surrogate_function(h - threshold)
        if self.delayed_reset and self.tau is not None:
            threshold = threshold / (1 - self._share(self.tau, h))
        v = reset(h, y, v_threshold=threshold, v_reset=v_reset, detach_reset=self.detach_reset)
        return v, y

    def _share(self, tau: Any, v: jax.Array) -> Any:
        """`dt/tau`, divided in float64."""
        share = self.dt / np.asarray(array_of(tau), np.float64)
        return self._number(setting("dt/tau", share), v)

    def _number(self, value: Setting | None, v: jax.Array) -> Any:
        return _beside(value, v, "a parameter of Neuron")


class Scale(Printable, nnx.Module):
    """Multiplies each element by its own number: `y = scale x`.

    Args:
        scale: one number for each element of a time step's input without its batch axis,
            channels last; becomes a parameter.
        param_dtype: dtype of the parameter.

    Raises:
        ValueError: when called, if the input does not end in the shape of `scale`.

    Examples:
        >>> Scale([2.0, 3.0])(jnp.ones((1, 2)))
        Array([[2., 3.]], dtype=float32)
    """

    def __init__(self, scale: Any, *, param_dtype: Any = jnp.float32) -> None:
        self.scale = nnx.Param(jnp.array(scale, param_dtype))  # a copy, whatever `scale` is

    def __call__(self, x: Float[Array | np.ndarray, "*shape"]) -> Float[Array, "*shape"]:
        x = jnp.asarray(x)
        return x * _beside(self.scale[...], x, "scale")


class Threshold(Printable, nnx.Module):
    """Spikes without a memory: `y = H(x - threshold)`.

    Args:
        threshold: a number, or one for each element of a time step's input without its batch
            axis, channels last. Not learned.
        surrogate_function: spike function of `x - threshold`, e.g. `jaxsnn.surrogate.ATan()`.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: a number is not finite; when called, if the input has another shape.

    Examples:
        >>> Threshold(0.5, surrogate_function=jaxsnn.surrogate.ATan())(jnp.array([0.4, 0.6]))
        Array([0., 1.], dtype=float32)
    """

    printed = ("threshold", "surrogate_function")

    def __init__(self, threshold: Any, *, surrogate_function: Any) -> None:
        self.threshold: Setting = setting("threshold", threshold)
        self.surrogate_function = _checks.function("surrogate_function", surrogate_function)

    def __call__(self, x: Float[Array | np.ndarray, "*shape"]) -> Float[Array, "*shape"]:
        x = jnp.asarray(x)
        _checks.floating("the input x of Threshold", x)
        spikes: jax.Array = self.surrogate_function(x - _beside(self.threshold, x, "threshold"))
        return spikes


class SumPool(AvgPool):
    """The sum of each window, channels last `[N, H, W, C]`; arguments and errors are those of
    `jaxsnn.nn.AvgPool`.

    Examples:
        >>> SumPool((2, 2))(jnp.ones((1, 4, 4, 1)))[0, ..., 0]
        Array([[4., 4.],
               [4., 4.]], dtype=float32)
    """

    @final  # type: ignore[misc]  # as right for any leading axes as its parent's
    def __call__(self, x: Float[Array | np.ndarray, "*N C"]) -> Float[Array, "*M C"]:
        return self._sums(x)


@dataclasses.dataclass(frozen=True)
class Strict:
    """A spike function that does not fire at `u = 0`, as NIR, snnTorch, Norse and spyx have it.

    Args:
        surrogate: any spike function, e.g. `jaxsnn.surrogate.ATan()`. Everywhere else its values
            are kept, and its derivative everywhere.

    Raises:
        TypeError: `surrogate` is not callable.

    Examples:
        >>> u = jnp.array([-1.0, 0.0, 1.0])
        >>> jaxsnn.surrogate.ATan()(u), Strict(jaxsnn.surrogate.ATan())(u)
        (Array([0., 1., 1.], dtype=float32), Array([0., 0., 1.], dtype=float32))
    """

    surrogate: Callable[[jax.Array], jax.Array]

    def __post_init__(self) -> None:
        _checks.function("surrogate", self.surrogate)

    def __call__(self, u: Float[Array | np.ndarray, "*shape"]) -> Float[Array, "*shape"]:
        """Spikes where `u > 0`.

        Args:
            u: membrane potential less threshold, any shape, floating.
        """
        u = jnp.asarray(u)
        _checks.floating("u", u)
        tiny = jnp.finfo(u.dtype).tiny  # type: ignore[no-untyped-call]  # ml_dtypes has no types
        below = jnp.asarray(-tiny, u.dtype)
        return self.surrogate(straight_through(u, jnp.where(u == 0, below, u)))
