"""One cell for all neurons of NIR: an equation of which parts can be left out."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from jaxsnn import _checks
from jaxsnn._carries import check_call, check_step
from jaxsnn._dtypes import state_dtype
from jaxsnn._phases import SurrogateFunction, keep, reset
from jaxsnn.interop.nir._settings import Numbers, Setting, array_of, beside, setting
from jaxsnn.nn import Cell
from jaxsnn.surrogate import Sigmoid


class NeuronState(NamedTuple):
    """State of a `Neuron` with a synaptic current.

    Attributes:
        v: membrane potential after the last reset.
        i: synaptic current.
    """

    v: Float[Array, "*shape"]
    i: Float[Array, "*shape"]


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
        self.dt = _checks.positive("dt", dt)
        self.r: Setting = setting("r", r)
        self.tau = _time_constant("tau", tau, self.dt)
        self.v_leak = _partner("v_leak", v_leak, "tau", tau)
        self.tau_syn = _time_constant("tau_syn", tau_syn, self.dt)
        self.w_in = _partner("w_in", w_in, "tau_syn", tau_syn)
        self.v_threshold = None if v_threshold is None else setting("v_threshold", v_threshold)
        self.v_reset = None if v_reset is None else setting("v_reset", v_reset)
        self.surrogate_function = _checks.function("surrogate_function", surrogate_function)
        self.detach_reset = _checks.boolean("detach_reset", detach_reset)
        self.delayed_reset = _checks.boolean("delayed_reset", delayed_reset)
        if delayed_reset and (v_threshold is None or v_reset is not None):
            raise ValueError(
                f"delayed_reset=True is a soft reset: it needs a v_threshold and no v_reset, got "
                f"{v_threshold!r} and {v_reset!r}"
            )
        if delayed_reset and self.tau is not None and np.any(array_of(self.tau) == self.dt):
            raise ValueError(
                f"with tau=dt={self.dt!r} nothing is left of a potential in the next step, so that "
                "delayed_reset=True would have to subtract infinity; choose a larger tau"
            )
        if v_reset is not None and v_threshold is None:
            raise ValueError(f"v_reset={v_reset!r} needs a v_threshold, got None")
        if tau_syn is not None and tau is None:
            raise ValueError(f"tau_syn={tau_syn!r} needs a tau, got None; NIR has no such neuron")
        arrays = {name: getattr(self, name) for name in self.numbers}
        shapes = {name: a.array.shape for name, a in arrays.items() if isinstance(a, Numbers)}
        if len(set(shapes.values())) > 1:
            raise ValueError(f"the arrays of a Neuron must have one shape, got {shapes}")

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
        v = zeros if first is None else zeros + self._beside(first, zeros)
        return v if self.tau_syn is None else NeuronState(v, zeros)

    def __call__(self, carry: Any, x: jax.Array = _checks.REQUIRED) -> tuple[Any, jax.Array]:
        check_call(self, x)
        check_step(self, carry, x, None if self.tau_syn is None else NeuronState)
        v, i = (carry, None) if self.tau_syn is None else carry
        h, i = self._charge(v, i, x.astype(v.dtype))
        if self.v_threshold is None:
            v, y = h, h
        else:
            threshold = self._beside(self.v_threshold, h)
            y = self.surrogate_function(h - threshold)
            if self.delayed_reset and self.tau is not None:
                threshold = threshold / (1 - self._share(self.tau, h))
            v_reset = None if self.v_reset is None else self._beside(self.v_reset, h)
            v = reset(h, y, v_threshold=threshold, v_reset=v_reset, detach_reset=self.detach_reset)
        return (v if i is None else NeuronState(v, i)), y.astype(x.dtype)

    def _charge(
        self, v: jax.Array, i: jax.Array | None, current: jax.Array
    ) -> tuple[jax.Array, jax.Array | None]:
        """`(h, i)`: the potential before the reset, and the synaptic current if there is one."""
        if i is not None:
            i = i + self._share(self.tau_syn, v) * (self._beside(self.w_in, v) * current - i)
            current = i
        if self.tau is None:
            gain = setting("dt r", self.dt * array_of(self.r))
            return keep(v + self._beside(gain, v) * current), i
        above = self._beside(self.v_leak, v) - v + self._beside(self.r, v) * current
        return keep(v + self._share(self.tau, v) * above), i

    def _share(self, tau: Setting | None, v: jax.Array) -> Any:
        """`dt/tau`, divided in float64."""
        assert tau is not None
        return self._beside(setting("dt/tau", self.dt / array_of(tau).astype(np.float64)), v)

    def _beside(self, value: Setting | None, v: jax.Array) -> Any:
        assert value is not None
        return beside(value, v, "a parameter of Neuron")


def _time_constant(name: str, value: Any, dt: float) -> Setting | None:
    if value is None:
        return None
    tau = setting(name, value)
    if np.any(array_of(tau) < dt):
        raise ValueError(
            f"{name} must be at least dt={dt!r} (both in seconds: in a step of dt a potential "
            f"decays by dt/{name}), got {tau!r}; choose a smaller dt"
        )
    return tau


def _partner(name: str, value: Any, other: str, other_value: Any) -> Setting | None:
    if (value is None) != (other_value is None):
        raise ValueError(
            f"{name} and {other} go together, got {name}={value!r} and {other}={other_value!r}"
        )
    return None if value is None else setting(name, value)
