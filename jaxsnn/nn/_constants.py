"""Constants of a cell: numbers, arrays with one for each neuron, or parameters that are learned."""

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import NDArray

from jaxsnn import _checks

Bounds = tuple[float | int, float | int]


class Constant(nnx.Param[Any]):
    """The parameter of a constant of a neuron or synapse; `learnable` makes it.

    A type of its own, by which `nnx.state(net, nn.Constant)` and the labels of an optimizer find
    all of them.
    """


@dataclasses.dataclass(frozen=True, eq=False)
class Learnable:
    """A constant that is learned: its value at the start, and how it is stored."""

    value: Any
    bounds: Bounds | None
    param_dtype: Any

    def __repr__(self) -> str:
        bounds = "" if self.bounds is None else f", {self.bounds}"
        return f"learnable({self.value}{bounds})"


# What a constant is: to a type checker the attribute, at run time also what the constructor takes.
if TYPE_CHECKING:
    Number = float | jax.Array | NDArray[Any]
else:
    Number = float | int | jax.Array | NDArray[Any] | list | tuple | Learnable


def learnable(value: Any, bounds: Bounds | None = None, *, param_dtype: Any = None) -> Any:
    """A constant that is learned, for any constant of a neuron or synapse.

        c = low + (high - low) sigmoid(w)     bounds=(low, high)
        c = low + exp(-w)                     bounds=(low, inf)
        c = high - exp(-w)                    bounds=(-inf, high)
        c = w                                 bounds=(-inf, inf)

    with the parameter `w`, a `Constant`. Gradient descent on `w` cannot leave the bounds.

    Args:
        value: the constant at the start: a number for all neurons of the layer, or an array that
            broadcasts to the features, the last axes of the input, e.g. a random draw
            `jax.random.uniform(rngs.params(), (128,), minval=5.0, maxval=25.0)`.
        bounds: None are those of the constant: `(1, inf)` for a time constant, SpikingJelly's
            `w = -log(tau - 1)`; `(0, inf)` for a threshold and what must be positive, `(0, 1)`
            for a fraction, otherwise none. `(0, inf)` for a time constant learns `-log(tau)`.
        param_dtype: dtype of `w`; None is that of an array, float32 for a number.

    Raises:
        TypeError: `param_dtype` is not floating; at the neuron, if `value` is no number and no
            array of numbers.
        ValueError: `bounds` are not two numbers in order; at the neuron, if `value` lies outside,
            or the bounds do not fit the constant.

    Examples:
        >>> neuron = LIFNode(tau=learnable(jnp.array([2.0, 3.0])), v_threshold=learnable(1.0))
        >>> neuron.tau, neuron.w.shape
        (Array([2., 3.], dtype=float32), (2,))
    """
    if isinstance(value, Learnable):
        raise TypeError("value must be a number or an array, got what learnable returns")
    if bounds is not None:
        numbers = [b for b in np.ravel(np.asarray(bounds, object)) if isinstance(b, int | float)]
        if np.shape(bounds) != (2,) or len(numbers) != 2 or not numbers[0] < numbers[1]:
            raise ValueError(
                f"bounds must be (low, high), two numbers with low < high, got {bounds!r}; where "
                "there is no bound write -math.inf or math.inf"
            )
    if bounds is not None:
        bounds = float(bounds[0]), float(bounds[1])
    if param_dtype is not None and not jnp.issubdtype(param_dtype, jnp.floating):
        raise TypeError(f"param_dtype must be floating, got {jnp.dtype(param_dtype)}")
    return Learnable(value, bounds, param_dtype)


@dataclasses.dataclass(frozen=True)
class Kind:
    """The range of a constant.

    Attributes:
        name: its name.
        check: the check of one number.
        bounds: between which it is learned by default.
        widest: the bounds that may be given instead.
        optional: whether the constant may be None.
    """

    name: str
    check: Callable[[str, Any], float]
    bounds: Bounds = (-math.inf, math.inf)
    widest: Bounds = (-math.inf, math.inf)
    optional: bool = False

    def __repr__(self) -> str:
        return f"{self.name} | None" if self.optional else self.name

    def __call__(self, name: str, value: Any) -> Any:
        """The constant as it is kept: a float, an array, or `Learned`."""
        if value is None and self.optional:
            return None
        if isinstance(value, Learnable):
            return self._parameter(name, value)
        if isinstance(value, nnx.Variable):
            raise TypeError(
                f"{name} must be a number, an array, or nn.learnable(...), got a variable of type "
                f"{type(value).__name__}; write {name}=nn.learnable(value)"
            )
        if isinstance(value, jax.core.Tracer):
            return value
        if isinstance(value, list | tuple) or np.ndim(value) > 0:
            return self._array(name, value)
        return self.check(name, value)

    def _array(self, name: str, value: Any) -> jax.Array:
        try:
            array = value if isinstance(value, jax.Array) else np.asarray(value)
        except ValueError as error:
            raise TypeError(f"{name} must be an array of numbers: {error}") from None
        if array.size == 0 or array.dtype.kind not in "iufV":  # V is bfloat16
            raise TypeError(
                f"{name} must be an array of numbers, got one of dtype {array.dtype} and shape "
                f"{list(array.shape)}"
            )
        if array.dtype.kind in "iu":
            array = array.astype(float)
        for number in (np.min(array), np.max(array)):  # NaN is either of them
            self.check(name, float(number))
        return jnp.asarray(array)

    def _parameter(self, name: str, start: Learnable) -> "Learned":
        low, high = bounds = start.bounds or self.bounds
        if low < self.widest[0] or high > self.widest[1]:
            raise ValueError(
                f"{name} can be learned within {self.widest} only, got bounds={bounds}"
            )
        value = self(name, start.value)
        dtype = start.param_dtype
        if dtype is None:
            dtype = jnp.float32 if isinstance(value, float) else value.dtype
        if not isinstance(value, jax.core.Tracer):
            value = np.asarray(value, np.float64)
            if not (np.all(low < value) and np.all(value < high)):
                raise ValueError(
                    f"{name} must start inside of its bounds {bounds}, between which it is "
                    f"learned, got {start.value!r}"
                )
        return Learned(Constant(jnp.asarray(_parameter_of(value, low, high), dtype)), bounds)


class Learned(NamedTuple):
    """A parameter and the bounds of the constant that it stands for."""

    parameter: Constant
    bounds: Bounds


def between(w: jax.Array, low: float | int, high: float | int) -> jax.Array:
    if math.isfinite(low) and math.isfinite(high):
        return low + (high - low) * jax.nn.sigmoid(w)
    if math.isfinite(low):
        return low + jnp.exp(-w)
    return high - jnp.exp(-w) if math.isfinite(high) else w


def _parameter_of(c: Any, low: float | int, high: float | int) -> Any:
    """The inverse of `between`, in float64 unless `c` is traced."""
    xp: Any = jnp if isinstance(c, jax.core.Tracer) else np
    if math.isfinite(low) and math.isfinite(high):
        return xp.log(c - low) - xp.log(high - c)
    if math.isfinite(low):
        return -xp.log(c - low)
    return -xp.log(high - c) if math.isfinite(high) else c


INF = math.inf
TimeConstant = Annotated[Number, Kind("TimeConstant", _checks.time_constant, (1, INF), (0, INF))]
Positive = Annotated[Number, Kind("Positive", _checks.positive, (0, INF), (0, INF))]
NonNegative = Annotated[Number, Kind("NonNegative", _checks.non_negative, (0, INF), (0, INF))]
Negative = Annotated[Number, Kind("Negative", _checks.negative, (-INF, 0), (-INF, 0))]
Real = Annotated[Number, Kind("Real", _checks.real)]
Threshold = Annotated[Number, Kind("Threshold", _checks.real, (0, INF))]
Fraction = Annotated[Number, Kind("Fraction", _checks.probability, (0, 1), (0, 1))]
