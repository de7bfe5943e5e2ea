"""`Cell` and `Module`: the two classes from which parts of a network are derived."""

import abc
import contextlib
import functools
from typing import Any, ClassVar, final

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsnn import _checks
from jaxsnn._carries import check_call
from jaxsnn._parts import parts
from jaxsnn._repr import Printable
from jaxsnn.nn._run import Carry, Run, Streams, first_carry, has_first_carry
from jaxsnn.nn._stateless import one_step_of


class Cell(Printable, nnx.RNNCellBase):
    """Abstract base of a part that has a state and computes one time step.

    State is an argument and a result, never an attribute: `carry, y = cell(carry, x)`. A cell
    is therefore the body of `jax.lax.scan` and runs under `flax.nnx.RNN`; `unroll` runs it over
    time. A carry of one array is called `state_name`, several arrays are a NamedTuple. Layers
    inside are called by the cell itself; normalisations and dropout belong into a `Module` instead.
    """

    state_name: ClassVar[str] = "carry"

    @abc.abstractmethod
    def initialize_carry(
        self, input_shape: tuple[int, ...], rngs: Streams = None, *, dtype: Any = jnp.float32
    ) -> Carry:
        """The state before the first time step.

        Args:
            input_shape: shape of the input of one time step, e.g. `(N, features)`.
            rngs: for the layers inside that draw their first state at random; ours do not.
            dtype: dtype of that input; potentials are kept in it, or float32 if that is wider.
        """

    @abc.abstractmethod
    def __call__(self, carry: Carry, x: jax.Array = _checks.REQUIRED) -> tuple[Carry, jax.Array]:
        """One time step: the new state, and the output in the dtype of `x`.

        Args:
            carry: the state, from `initialize_carry` or the step before.
            x: input of this time step, `[N, ...]`.
        """

    @property
    def num_feature_axes(self) -> int:
        """How many trailing axes of the input are not batch; read by `flax.nnx.RNN`."""
        for _, part in parts(self):  # the first one that cares
            if isinstance(part, nnx.Conv | nnx.Linear):
                return len(getattr(part, "kernel_size", ())) + 1
            if axes := getattr(part, "_feature_axes", None):
                return int(axes)
        return 1


class Module(Cell):
    """Abstract base of a part that is made of parts: blocks, stacks, whole networks.

    `forward(x, run)` computes the output and runs every part by `run(part, x)`. The rest follows
    from it: state, one step by `carry, y = module(carry, x)`, training, streams, masks, records.

    Carry: a tuple with one entry per call of `run`, in the order of the calls; `()` for parts
    without state.

    Examples:
        >>> class Skip(Module):
        ...     def __init__(self, features, *, rngs):
        ...         linear = Linear(features, features, rngs=rngs)
        ...         self.branch = Sequential(linear, BatchNorm(features), IFNode())
        ...
        ...     def forward(self, x, run):
        ...         return x + run(self.branch, x)
        >>> carry, y = unroll(Skip(3, rngs=nnx.Rngs(0)), jnp.ones((5, 2, 3)))
        >>> y.shape
        (5, 2, 3)
    """

    @abc.abstractmethod
    def forward(self, x: Any, run: Run) -> Any:
        """The output for `x`, a whole sequence `[T, ...]` or one time step, as `run.steps` says.

        The same operations must be right for both: count axes from the end, e.g. `axis=-1`.

        Args:
            x: the input.
            run: runs the parts, `run(self.part, x)`.
        """

    @final
    def initialize_carry(
        self, input_shape: tuple[int, ...], rngs: Streams = None, *, dtype: Any = jnp.float32
    ) -> Carry:
        """The first carry of each part, in the order in which `forward` runs them."""
        firsts: list[Any] = []
        x = jax.ShapeDtypeStruct(tuple(input_shape), dtype)
        jax.eval_shape(lambda x: firsts.append(self._run(None, x, FindFirst(steps=False))[0]), x)
        return jax.tree.map(lambda first: first(rngs), firsts[0])

    @final
    def __call__(self, carry: Carry, x: jax.Array = _checks.REQUIRED) -> tuple[Carry, jax.Array]:
        check_call(self, x)
        return self._run(carry, x, Run(steps=False))

    def _run(self, carry: Carry, x: Any, run: Run) -> tuple[Carry, Any]:
        run._begin(self, carry)
        with contextlib.nullcontext() if run.steps else one_step_of(self):
            y = self.forward(x, run)
        return run._end(), y


class FindFirst(Run):
    """Runs one step to see the input of each cell; a carry has a function of `rngs` for it."""

    training = property(lambda self: False)

    def _go(self, name: str, part: Any, carry: Carry, x: Any) -> tuple[Carry, Any]:
        if not has_first_carry(part):
            return super()._go(name, part, None, x)
        _, y = super()._go(name, part, first_carry(part, x), x)
        return functools.partial(first_carry, part, jax.ShapeDtypeStruct(x.shape, x.dtype)), y
