"""What a cell is: a `lax.scan` body `(carry, x) -> (carry, y)` that can make its first carry."""

import abc
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsnn import _checks, _layout
from jaxsnn.nn._modal_layer import refuse_untold
from jaxsnn.nn._mode import NOTHING, Mode, Seen
from jaxsnn.nn._repr import Printable
from jaxsnn.nn._schedule import scan

Carry = Any  # a pytree of arrays; what is in it is each cell's own affair


class Cell(Printable, nnx.RNNCellBase):
    """Abstract base of everything that has a state: neurons, synapses, containers.

    State is an argument and a result, never an attribute: `carry, y = cell(carry, x)`. A cell
    is therefore the body of `jax.lax.scan` and runs under `flax.nnx.RNN` as it is; `unroll`
    is the way to run one over time. A carry of one array is called `state_name`, one of several
    is a NamedTuple that names them.
    """

    state_name: ClassVar[str] = "carry"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__call__" in vars(cls):  # a step of its own: no schedule of its parent fits
            for name in ("_over_time", "_one_step"):
                if name not in vars(cls):
                    setattr(cls, name, getattr(Cell, name))

    @abc.abstractmethod
    def initialize_carry(
        self,
        input_shape: tuple[int, ...],
        rngs: nnx.Rngs | nnx.RngStream | None = None,
        *,
        dtype: Any = jnp.float32,
    ) -> Carry:
        """The state before the first time step.

        Args:
            input_shape: shape of the input of one time step, e.g. `(N, features)`.
            rngs: for the layers inside that draw their first state at random; ours do not.
            dtype: dtype of that input. Membrane potentials and currents are kept in it or in
                float32, whichever is wider.
        """

    @abc.abstractmethod
    def __call__(self, carry: Carry, x: jax.Array = _checks.REQUIRED) -> tuple[Carry, jax.Array]:
        """One time step.

        Args:
            carry: the state, from `initialize_carry` or the step before.
            x: input of this time step, `[N, ...]`.

        Returns:
            `(carry, y)`: the new state, and the output in the dtype of `x`.
        """

    def _over_time(self, carry: Carry, xs: jax.Array, mode: Mode) -> tuple[Carry, jax.Array, Seen]:
        """All steps of `xs` `[T, ...]`, as `unroll` runs them; a carry of None starts afresh."""
        return scan(self._one_step, self._start(carry, xs), xs, mode)

    def _one_step(self, carry: Carry, x: jax.Array, mode: Mode) -> tuple[Carry, jax.Array, Seen]:
        """One step; cells made of layers tell them the mode."""
        refuse_untold(self, mode)
        carry, y = self(carry, x)
        return carry, y, see_states(self, carry, mode)

    def _start(self, carry: Carry, xs: jax.Array) -> Carry:
        """`carry`, or the first one for the sequence `xs` where it is None."""
        if carry is None:
            carry = self.initialize_carry(xs.shape[1:], dtype=xs.dtype)
        return _layout.follow(carry, xs, 1)

    @property
    def num_feature_axes(self) -> int:
        """How many trailing axes of the input are not batch; read by `flax.nnx.RNN`."""
        return feature_axes(self) or 1

    def _feature_axes(self) -> int | None:
        """The same, or None where any number will do (a neuron works element by element)."""
        return None


def is_cell(layer: Any) -> bool:
    """Whether `layer` carries state: ours and Flax's cells do; any other callable does not."""
    return hasattr(layer, "initialize_carry")


def runs_as(layer: Any, kind: Any) -> bool:
    """Whether it is a `kind`, or one made of it that does not run over time in a way of its own."""
    return getattr(type(layer), "_over_time", None) is kind._over_time


def feature_axes(layer: Any) -> int | None:
    """Trailing axes that `layer` takes as features, None if it does not care."""
    if hasattr(layer, "_feature_axes"):  # ours
        return layer._feature_axes()
    if is_cell(layer):
        return layer.num_feature_axes
    if isinstance(layer, nnx.Conv):
        return len(layer.kernel_size) + 1
    return 1 if isinstance(layer, nnx.Linear) else None


def first_carry(
    cell: Any, x: jax.Array | jax.ShapeDtypeStruct, rngs: nnx.Rngs | nnx.RngStream | None = None
) -> Carry:
    """The first carry of our cell or one of Flax's for an input like `x` (one time step)."""
    if isinstance(cell, Cell):
        return cell.initialize_carry(x.shape, rngs, dtype=x.dtype)
    # Flax's cells ask for a random stream even to make zeros.
    return cell.initialize_carry(x.shape, nnx.Rngs(0) if rngs is None else rngs)


def see_states(cell: Any, carry: Carry, mode: Mode) -> Seen:
    """The arrays of a cell's carry that are to be recorded."""
    if not mode.record:
        return NOTHING
    if hasattr(carry, "_fields"):
        return mode.see(**carry._asdict())
    if isinstance(carry, tuple | list):
        return mode.see(**{str(k): state for k, state in enumerate(carry)})
    return mode.see(**{getattr(cell, "state_name", Cell.state_name): carry})


def state_dtype(dtype: Any) -> Any:
    """The dtype in which a state is kept for inputs of `dtype`: at least float32."""
    dtype = jnp.dtype(dtype)
    return dtype if dtype.itemsize > 4 else jnp.dtype(jnp.float32)


def check_call(cell: Cell, x: Any) -> None:
    """A cell must be called with a carry and the input `x` of one time step, in this order."""
    if x is _checks.REQUIRED or isinstance(x, tuple):
        name = type(cell).__name__
        found = "the carry last" if isinstance(x, tuple) else "one argument"
        raise TypeError(
            f"{name} is a cell: carry, y = cell(carry, x) is one time step, got {found}. To run "
            "it over a sequence use jaxsnn.nn.unroll(cell, xs). In a stack use "
            "jaxsnn.nn.Sequential, which passes each layer its carry; flax.nnx.Sequential does not"
        )


def check_step(
    cell: Cell,
    carry: Carry,
    x: jax.Array | jax.ShapeDtypeStruct,
    kind: type[Any] | None = None,
    shape: tuple[int, ...] | None = None,
) -> None:
    """`carry` must be an array that fits the input `x` of one time step, or a `kind` (a
    NamedTuple) of such arrays. Their shape is that of `x`, unless another is given.
    """
    name = type(cell).__name__
    shape = x.shape if shape is None else shape
    if kind is None:
        states = {cell.state_name: carry}
    elif isinstance(carry, kind):
        states = carry._asdict()
    else:
        found = "one array" if hasattr(carry, "shape") else type(carry).__name__
        raise TypeError(
            f"the carry of {name} must be {kind.__name__}({', '.join(kind._fields)}), got "
            f"{found}; start from initialize_carry(x.shape) or hand on the last carry"
        )
    _checks.floating(f"the input x of {name}", x)
    for field, state in states.items():
        if not hasattr(state, "dtype") or not hasattr(state, "shape"):
            raise TypeError(
                f"{field} in the carry of {name} must be an array, got {type(state).__name__}; "
                "start from initialize_carry(x.shape) or hand on the last carry"
            )
        if state.dtype != state_dtype(x.dtype) and state.dtype != jnp.float64:
            raise TypeError(
                f"{field} in the carry of {name} has dtype {state.dtype}, but for inputs of "
                f"{x.dtype} it is kept in {state_dtype(x.dtype)}; convert it with .astype"
            )
        if state.shape != shape:
            raise ValueError(
                f"{field} in the carry of {name} has shape {state.shape}, but for an input of "
                f"shape {x.shape} it needs {shape}; for a new batch start from a fresh state "
                "(carry=None, or initialize_carry)"
            )


def check_past(cell: Cell, past: Any, x: Any, steps: int) -> None:
    """`past` must be the last `steps` inputs like `x`, along an axis of their own, the last."""
    shape = getattr(past, "shape", None)
    if shape is not None and shape != (*x.shape, steps):
        raise ValueError(
            f"the carry of {type(cell).__name__} must hold {steps} inputs of shape {x.shape} along "
            f"its last axis, got an array of shape {shape}; for a new batch start from a fresh "
            "state (carry=None, or initialize_carry)"
        )
    one = past if shape is None else jax.ShapeDtypeStruct(x.shape, past.dtype)
    check_step(cell, one, x)
