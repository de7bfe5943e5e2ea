"""Element-wise cells (neurons and synapses); consecutive ones are fused into a single scan."""

import inspect
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, final

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxsnn import _checks
from jaxsnn._carries import check_call, check_step
from jaxsnn._dtypes import state_dtype
from jaxsnn._layout import is_shared_out
from jaxsnn._masks import over
from jaxsnn._parts import is_final
from jaxsnn.nn._constants import Kind
from jaxsnn.nn._fields import Fields
from jaxsnn.nn._module import Cell
from jaxsnn.nn._run import Carry, Run, Streams, run_cell, start

_STATE = re.compile(r"^(Carry: the state)( `.*`)?,\s", re.MULTILINE)


class ElementwiseCell(Fields, Cell):
    """Abstract base of cells whose output and state at an element depend on that element alone.

    A derived class is a declaration: its annotated attributes are the arguments of its
    constructor, as in `dataclasses`, and `step(state, x, **settings) -> (state, y)` is a pure
    function of one time step, which gets the attributes that it takes as keyword arguments. The
    rest follows: checks, printing, first state, records, export, and the run over time, in which a
    row of such cells is a single scan.

    Constants: each argument of a kind of `jaxsnn.nn.constants` (`TimeConstant`, ...) is a number,
    an array that broadcasts to the features (the last axes of the input), or `learnable(...)`.

    Carry: the state, 0 before the first step, each array in the shape of one step's input.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: a constant is out of range or not finite; when run, if an array of constants
            does not broadcast to the input.

    Examples:
        >>> class Leak(ElementwiseCell):
        ...     decay: constants.Fraction = 0.5
        ...
        ...     @staticmethod
        ...     def step(v, x, *, decay):
        ...         v = decay * v + x
        ...         return v, v
        >>> _, v = unroll(Leak(decay=jnp.array([0.5, 0.25])), jnp.ones((2, 1, 2)))
        >>> v[1]
        Array([[1.5 , 1.25]], dtype=float32)
    """

    step: ClassVar[Callable[..., tuple[Any, jax.Array]]]
    state: ClassVar[Any] = None  # the NamedTuple of a cell with several states
    _taken: ClassVar[list[str]] = []  # the fields that `step` takes

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if not hasattr(cls, "step"):
            return
        if inspect.isfunction(vars(cls).get("step")):
            cls.step = staticmethod(cls.step)
        parameters = list(inspect.signature(cls.step).parameters.values())
        names = [parameter.name for parameter in parameters]
        if len(names) < 2 or "self" in names:
            raise TypeError(
                f"{cls.__name__}.step must be a function of the state, the input and the settings, "
                f"without self, as in step(v, x, *, tau); got {', '.join(names) or 'no arguments'}"
            )
        names, last = names[2:], parameters[-1]
        if last.kind is last.VAR_KEYWORD:
            names = [*names[:-1], *cls._fields]
        unknown = set(names) - set(cls._fields)
        if unknown and cls.settings is ElementwiseCell.settings:
            raise TypeError(
                f"{cls.__name__}.step takes {', '.join(sorted(unknown))}, which the class does not "
                "declare: annotate an attribute of this name, or define settings()"
            )
        cls._taken = [name for name in cls._fields if name in names]
        state = cls.state_name
        if cls.state is not None:
            path = [part for part in cls.state.__module__.split(".") if not part.startswith("_")]
            state = ".".join([*path, f"{cls.state.__name__}({', '.join(cls.state._fields)})"])
        cls.__doc__ = _STATE.sub(rf"\1 `{state}`,\n", cls.__doc__ or "")

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if not hasattr(cls, "step"):
            raise TypeError(f"{cls.__name__} is abstract: a class derived from it defines step")
        return super().__new__(cls)

    def initial_state(self) -> Any:
        """The state before the first step: 0, or a `state` with a number for each name."""
        return 0.0 if self.state is None else self.state(*(0.0 for _ in self.state._fields))

    def settings(self) -> dict[str, Any]:
        """The keyword arguments of `step`, by default the attributes of the same names.

        Override it where a step takes a function of constants, e.g. `exp(-1 / tau)`: over a
        sequence it is called once.
        """
        return {name: getattr(self, name) for name in self._taken}

    def initialize_carry(
        self, input_shape: tuple[int, ...], rngs: Streams = None, *, dtype: Any = jnp.float32
    ) -> Any:
        """The state before the first step, see `initial_state`."""
        self._check_constants(tuple(input_shape))
        dtype = state_dtype(dtype)
        return jax.tree.map(lambda c: jnp.full(input_shape, c, dtype), self.initial_state())

    @final
    def __call__(self, carry: Carry, x: jax.Array = _checks.REQUIRED) -> tuple[Carry, jax.Array]:
        check_call(self, x)
        return self._step(carry, x, self._spread(carry, x, x.shape))

    def _run(self, carry: Carry, x: jax.Array, run: Run) -> tuple[Carry, jax.Array]:
        if run.steps:
            (carry,), ys = scan_elements([self], [carry], x, run, [run])
            return carry, ys
        return run_cell(self, carry, x, run)

    def _spread(self, carry: Carry, x: Any, flat: tuple[int, ...]) -> dict[str, Any]:
        """The settings for a step with this carry and input; arrays are in the shape `flat`.

        As it is spread over the elements, a constant gets its gradient by one sum after the loop.
        """
        check_step(self, carry, x, self.state)
        self._check_constants(x.shape)
        settings, dtype = self.settings(), _dtype_of(carry, x)
        for name, value in settings.items():
            if isinstance(value, jax.Array | np.ndarray):
                spread = jnp.broadcast_to(jnp.asarray(value, dtype), x.shape)
                settings[name] = spread.reshape(flat)
        return settings | getattr(self, "_held", {})

    def _check_constants(self, shape: tuple[int, ...]) -> None:
        """Arrays of constants must broadcast to an input of this shape."""
        for name, check in self._fields.items():
            axes = getattr(getattr(self, name), "shape", ()) if isinstance(check, Kind) else ()
            pairs = zip(reversed(axes), reversed(shape), strict=False)
            if len(axes) > len(shape) or any(a not in (1, b) for a, b in pairs):
                raise ValueError(
                    f"{name} of {type(self).__name__} has the shape {list(axes)}, which does not "
                    f"broadcast to an input of shape {list(shape)}; give one constant for each "
                    "feature, the last axis of the input, or one for all"
                )

    def _hold(self, carry: Carry, x: Any) -> None:
        """Keep the settings for all steps of a loop with this carry and input."""
        settings = self._spread(carry, x, x.shape)
        self._held = nnx.data({k: v for k, v in settings.items() if isinstance(v, jax.Array)})

    def _step(self, carry: Carry, x: jax.Array, settings: Any) -> tuple[Carry, jax.Array]:
        """One time step, computed in the dtype of the state."""
        result = type(self).step(carry, x.astype(_dtype_of(carry, x)), **settings)
        found, expected = (jax.tree.map(jnp.shape, pair) for pair in (result, (carry, x)))
        if found != expected:
            raise TypeError(
                f"{type(self).__name__}.step must return (state, y) with the shapes {expected}, "
                f"those of the state and of x, got {found}"
            )
        after, y = result
        return after, y.astype(x.dtype)


def _dtype_of(carry: Carry, x: Any) -> Any:
    states = jax.tree.leaves(carry)
    return states[0].dtype if states else state_dtype(x.dtype)


def is_elementwise(layer: Any) -> bool:
    """Whether `layer` is such a cell, without a step of its own in a derived class."""
    return isinstance(layer, ElementwiseCell) and is_final(type(layer).__call__)


def run_elements(
    cells: Sequence[ElementwiseCell], xs: jax.Array, run: Run, names: Sequence[str]
) -> jax.Array:
    """Run parts of a module that follow one another over `xs` `[T, ...]`, in one scan."""
    within = [run._inside(run._named(name)) for name in names]
    carries = list(map(start, cells, run._next(len(cells)), [xs] * len(cells)))
    carries, ys = scan_elements(cells, carries, xs, run, within)
    run._after += carries
    return ys


def scan_elements(
    cells: Sequence[ElementwiseCell],
    carries: Sequence[Carry],
    xs: jax.Array,
    run: Run,
    within: Sequence[Run],
) -> tuple[list[Carry], jax.Array]:
    """The new carries and the outputs of cells that follow one another, each run `within`.

    Axes but the first are one, where a device has all of them: XLA's inner loops are then long.
    """
    steps, *shape = xs.shape
    flat = tuple(shape) if is_shared_out(xs) else (math.prod(shape),)
    one = jax.ShapeDtypeStruct(tuple(shape), xs.dtype)
    settings = [cell._spread(c, one, flat) for cell, c in zip(cells, carries, strict=True)]

    def step(carries: list[Carry], x: jax.Array, now: Run) -> tuple[list[Carry], jax.Array]:
        after: list[Any] = []
        for cell, carry, constants, inside in zip(cells, carries, settings, within, strict=True):
            carry, x = cell._step(carry, x, constants)
            now._path = inside._path
            now._see_states(cell, carry)
            if inside is not run:  # which records its output itself
                now._see("", x)
            after.append(carry)
        return after, x

    carries = jax.tree.map(lambda state: state.reshape(flat), carries)
    mask = run.mask
    if mask is not None:
        mask = jnp.broadcast_to(over(mask, xs), xs.shape).reshape(steps, *flat)
    carries, ys, seen = run._changed(mask=mask)._scanned(step, carries, xs.reshape(steps, *flat))
    ys, seen = jax.tree.map(lambda a: a.reshape(steps, *shape), (ys, seen))
    run._take(seen)
    return jax.tree.map(lambda state: state.reshape(shape), carries), ys
