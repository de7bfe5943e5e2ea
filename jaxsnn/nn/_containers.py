"""Recurrent containers: the output of a sub-module is fed back to its input, one step later."""

import abc
from collections.abc import Callable
from dataclasses import KW_ONLY, InitVar
from typing import Annotated, Any, final

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsnn import _checks
from jaxsnn._carries import check_call, refuse_carry
from jaxsnn._dtypes import state_dtype
from jaxsnn.nn._elementwise import is_elementwise
from jaxsnn.nn._fields import Fields, Part, Size
from jaxsnn.nn._layers import Linear, along_last, operands
from jaxsnn.nn._linear_recurrence import linear_recurrence, product
from jaxsnn.nn._module import Cell
from jaxsnn.nn._run import Carry, Run, Streams, first_carry


class _RecurrentContainer(Fields, Cell):
    """Abstract: a cell around `sub_module` with the carry `(sub_carry, y)`, `y` its last output.

    The feedback `y` is 0 before the first step and kept in the dtype of the input.

    Carry: `(carry of the sub-module, y)`.
    """

    sub_module: Part

    @abc.abstractmethod
    def _mix(self, x: jax.Array, y: jax.Array) -> jax.Array:
        """The input `i` of the sub-module at one step."""

    def _feedback_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the feedback for an input of this shape, which is checked."""
        return shape

    def initialize_carry(
        self, input_shape: tuple[int, ...], rngs: Streams = None, *, dtype: Any = jnp.float32
    ) -> Carry:
        """The first carry of the sub-module, and a feedback of 0."""
        x = jax.ShapeDtypeStruct(tuple(input_shape), dtype)
        y = jnp.zeros(self._feedback_shape(x.shape), dtype)
        return first_carry(self.sub_module, jax.eval_shape(self._mix, x, y), rngs), y

    @final
    def __call__(self, carry: Carry, x: jax.Array = _checks.REQUIRED) -> tuple[Carry, jax.Array]:
        check_call(self, x)
        return self._run(carry, jnp.asarray(x), Run(steps=False))

    def _run(self, carry: Carry, x: jax.Array, run: Run) -> tuple[Carry, jax.Array]:
        if run.steps:
            return run._scan(self._for_steps(carry, x)._run, carry, x)
        sub_carry, y = self._split(carry, x)
        return self._feed_back(sub_carry, self._mix(x, y), y, run)

    def _for_steps(self, carry: Carry, x: jax.Array) -> Any:
        """The container for a loop, with the constants of its neuron spread over the elements."""
        if not is_elementwise(self.sub_module):
            return self
        sub_carry, y = self._split(carry, jax.ShapeDtypeStruct(x.shape[1:], x.dtype))
        container = nnx.merge(*nnx.split(self))
        container.sub_module._hold(sub_carry, jax.eval_shape(self._mix, x[0], y))
        return container

    def _split(self, carry: Carry, x: Any) -> tuple[Carry, jax.Array]:
        """`(sub_carry, y)`, checked."""
        _checks.floating(f"the input x of {type(self).__name__}", x)
        shape = self._feedback_shape(tuple(x.shape))
        pair: Any = carry if isinstance(carry, tuple | list) and len(carry) == 2 else (None, None)
        if getattr(pair[1], "shape", None) != shape:
            expected = f"(carry of the sub-module, last output y) with a y of shape {shape}"
            refuse_carry(self, expected, carry)
        return pair

    def _feed_back(
        self, sub_carry: Carry, i: jax.Array, feedback: jax.Array, run: Run
    ) -> tuple[Carry, jax.Array]:
        """Run the sub-module on `i`; its output must be able to replace `feedback`."""
        sub_carry, y = run._go("sub_module", self.sub_module, sub_carry, i)
        if not hasattr(y, "shape") or y.shape != feedback.shape:
            raise ValueError(
                f"the sub-module of {type(self).__name__} must output the shape that is fed "
                f"back, {feedback.shape}, got {getattr(y, 'shape', y)}: {self.sub_module!r}"
            )
        run._see("i", i)
        return (sub_carry, y.astype(feedback.dtype)), y


class ElementWiseRecurrentContainer(_RecurrentContainer):
    """Feeds the last output back through an element-wise function.

        i[t] = f(y[t-1], x[t]),  y[-1] = 0
        y[t] = sub_module(i[t])

    Args:
        sub_module: any cell or stateless layer that keeps the shape of its input.
        element_wise_function: `f`; the feedback is its first argument. A module-level function
            such as `operator.add` or `jnp.multiply` compiles once; a new lambda for every
            container compiles again.

    Raises:
        TypeError: an argument is not callable.
        ValueError: when run, if the sub-module changes the shape.

    Examples:
        >>> net = ElementWiseRecurrentContainer(IFNode(), operator.add)
        >>> _, spikes = unroll(net, jnp.array([[1.5], [0.0], [0.0]]))
        >>> spikes[:, 0]
        Array([1., 1., 1.], dtype=float32)
    """

    printed = ("element_wise_function",)
    element_wise_function: Annotated[Callable[[jax.Array, jax.Array], jax.Array], _checks.function]

    def _mix(self, x: jax.Array, y: jax.Array) -> jax.Array:
        return self.element_wise_function(y.astype(x.dtype), x)


class LinearRecurrentContainer(_RecurrentContainer):
    """Feeds the last output back through a linear layer, `rc`.

        i[t] = W [x[t]; y[t-1]] + b,    y[-1] = 0
        i[t] = x[t] + W y[t-1] + b,     feedback_only=True
        y[t] = sub_module(i[t])

    The first form is SpikingJelly's. The second leaves the input to a layer before; with such a
    `Linear` it is the recurrent layer of Norse, snnTorch and spyx.

    Args:
        sub_module: any cell or stateless layer from `[..., in_features]` to
            `[..., out_features]`.
        in_features: features of the input `x` and of `i`.
        out_features: features of the output `y`.
        bias: whether there is a `b`.
        feedback_only: whether `W` sees the output alone, and `x` is added as it is.
        dtype: dtype of the matrix product, None for that of its operands.
        param_dtype: dtype of `W` and `b`.
        rngs: random streams; `params` is used.

    Raises:
        TypeError: `sub_module` is not callable or a size is not an integer.
        ValueError: a size is below 1; when run, if a shape does not fit.
    """

    printed = ("in_features", "out_features", "bias")  # rc shows what it sees

    in_features: Size
    out_features: Size
    bias: bool = True
    _: KW_ONLY
    feedback_only: bool = False
    dtype: InitVar[Any] = None
    param_dtype: InitVar[Any] = jnp.float32
    rngs: InitVar[nnx.Rngs] = _checks.REQUIRED

    def __post_init__(self, dtype: Any, param_dtype: Any, rngs: nnx.Rngs) -> None:
        seen = self.out_features + (0 if self.feedback_only else self.in_features)
        settings = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.rc = Linear(seen, self.in_features, use_bias=self.bias, **settings)

    def _children(self) -> dict[str, Any]:
        return {"rc": self.rc, "sub_module": self.sub_module}

    def _mix(self, x: jax.Array, y: jax.Array) -> jax.Array:
        w = self._weights(x.dtype)[1]
        return (self._feed(x) + product(y.astype(w.dtype), w)).astype(w.dtype)

    def _feed(self, x: jax.Array) -> jax.Array:
        """The share of the input and the bias in `i`, of one step or many, float32 or wider."""
        w, _, b = self._weights(x.dtype)
        i = x.astype(state_dtype(x.dtype)) if self.feedback_only else product(x.astype(w.dtype), w)
        return i if b is None else i + along_last(b, i)

    def _weights(self, dtype: Any) -> tuple[jax.Array, jax.Array, jax.Array | None]:
        """The rows of `W` for `x`, those for `y`, and `b`, in the dtype of the product."""
        w, b = operands(self.rc, dtype)
        return w[: -self.out_features], w[-self.out_features :], b

    def _run(self, carry: Carry, x: jax.Array, run: Run) -> tuple[Carry, jax.Array]:
        """Over a sequence the input's share of `i` is one product, then comes the recurrence."""
        if not run.steps:
            return super()._run(carry, x, run)
        carry = self._split(carry, jax.ShapeDtypeStruct(x.shape[1:], x.dtype))
        _, w, _ = self._weights(x.dtype)

        def step(container: Any, sub_carry: Carry, i: jax.Array, y: jax.Array, run: Run) -> Any:
            return container._feed_back(sub_carry, i.astype(w.dtype), y, run)

        container = self._for_steps(carry, x)
        return linear_recurrence(step, container, w, carry, self._feed(x), run)

    def _feedback_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if not shape or shape[-1] != self.in_features:
            raise ValueError(
                f"LinearRecurrentContainer(in_features={self.in_features}) needs inputs of shape "
                f"[..., {self.in_features}], got {list(shape)}"
            )
        return (*shape[:-1], self.out_features)
