"""A stack of layers, with or without state, that is itself a cell."""

import functools
import itertools
from collections.abc import Iterator
from typing import Any, overload

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsnn import _checks
from jaxsnn.nn._cell import Carry, Cell, check_call, feature_axes, first_carry, is_cell
from jaxsnn.nn._elementwise import is_elementwise, scan_elements
from jaxsnn.nn._mode import NOTHING, Mode, Seen
from jaxsnn.nn._run import run, step


class Sequential(Cell):
    """Layers one after the other.

    Args:
        *layers: cells (neurons, synapses, containers, Flax's recurrent cells) and stateless
            layers, i.e. any other callable (`Linear`, `Conv`, `jax.nn.relu`, ...).

    Carry: a tuple with one entry per layer, `()` for the stateless ones.

    `net[2]` is a layer and `net[:2]` the stack of the first two, with the same parameters; their
    carry is `carry[:2]`. `net[2] = layer` replaces a layer, and `Sequential(*net, layer)` adds one.

    Raises:
        TypeError: a layer is not callable.

    Examples:
        >>> rngs = nnx.Rngs(0)
        >>> net = Sequential(Linear(28, 32, rngs=rngs), IFNode(), Linear(32, 10, rngs=rngs))
        >>> carry, y = unroll(net, jnp.zeros((5, 2, 28)))
        >>> y.shape
        (5, 2, 10)
        >>> unroll(net[:2], jnp.zeros((5, 2, 28)))[1].shape  # the features of the hidden layer
        (5, 2, 32)
    """

    def __init__(self, *layers: Any) -> None:
        for k, layer in enumerate(layers):
            _checks.function(f"layer {k} of Sequential", layer)
        self.layers = nnx.List(layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.layers)

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> "Sequential": ...

    def __getitem__(self, index: int | slice) -> Any:
        layers = list(self.layers)
        return Sequential(*layers[index]) if isinstance(index, slice) else layers[index]

    def __setitem__(self, index: int | slice, layer: Any) -> None:
        layers = list(self.layers)
        layers[index] = layer
        self.layers = Sequential(*layers).layers

    def initialize_carry(
        self,
        input_shape: tuple[int, ...],
        rngs: nnx.Rngs | nnx.RngStream | None = None,
        *,
        dtype: Any = jnp.float32,
    ) -> Carry:
        """The first carry of each layer, in order; shapes are followed through the layers."""
        x = jax.ShapeDtypeStruct(tuple(input_shape), dtype)
        carries: list[Carry] = []
        for layer in self.layers:
            carry = first_carry(layer, x, rngs) if is_cell(layer) else ()
            _, x, _ = jax.eval_shape(functools.partial(step, layer, mode=Mode()), carry, x)
            carries.append(carry)
        return tuple(carries)

    def __call__(self, carry: Carry, x: jax.Array = _checks.REQUIRED) -> tuple[Carry, jax.Array]:
        check_call(self, x)
        carry, y, _ = Sequential._one_step(self, carry, x, Mode())
        return carry, y

    def _one_step(self, carry: Carry, x: jax.Array, mode: Mode) -> tuple[Carry, jax.Array, Seen]:
        self._check_carry(carry)
        carries: list[Carry] = []
        seen = NOTHING
        for k, (layer, state) in enumerate(zip(self.layers, carry, strict=True)):
            state, x, here = step(layer, state, x, mode.at(str(k)))
            carries.append(state)
            seen |= here
        return tuple(carries), x, seen

    def _over_time(self, carry: Carry, xs: jax.Array, mode: Mode) -> tuple[Carry, jax.Array, Seen]:
        """Layer by layer: each, or each row of element-wise cells, sees all steps in turn."""
        if carry is None:
            carry = (None,) * len(self)
        self._check_carry(carry)
        carries: list[Carry] = []
        seen = NOTHING
        modes = [mode.at(str(k)) for k in range(len(self))]
        rows = itertools.groupby(
            zip(self.layers, carry, modes, strict=True), lambda layer: is_elementwise(layer[0])
        )
        for in_a_row, row in rows:
            if in_a_row:
                layers, before, within = zip(*row, strict=True)
                after, xs, here = scan_elements(layers, before, xs, within)
                carries += after
                seen |= here
            else:
                for layer, state, inside in row:
                    state, xs, here = run(layer, state, xs, inside)
                    carries.append(state)
                    seen |= here
        return tuple(carries), xs, seen

    def _check_carry(self, carry: Carry) -> None:
        """`carry` must be a tuple with one entry a layer."""
        if not isinstance(carry, tuple | list) or len(carry) != len(self.layers):
            raise ValueError(
                f"the carry of a Sequential of {len(self.layers)} layers must be a tuple of as "
                f"many entries, got {jax.tree.structure(carry)}; start from "
                "initialize_carry(x.shape) or hand on the last carry"
            )

    def _feature_axes(self) -> int | None:
        known = (feature_axes(layer) for layer in self.layers)
        return next((axes for axes in known if axes is not None), None)
