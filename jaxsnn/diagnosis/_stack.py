"""What of a model is run over time: its stack, the layers of it, the parts of a layer."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsnn.nn import Sequential
from jaxsnn.nn._cell import Cell, is_cell, runs_as
from jaxsnn.nn._modal_layer import ModalLayer
from jaxsnn.nn._mode import join
from jaxsnn.nn._repr import Printable
from jaxsnn.nn._spiking_attention import _SpikingAttention


class Part(NamedTuple):
    """A layer, or one inside of it.

    Attributes:
        path: as for `record` of `unroll`, e.g. `"1.sub_module"`; `""` for the whole stack.
        module: the layer itself.
        keys: the way to it from the layer that it is inside of, e.g. `("sub_module",)`.
    """

    path: str
    module: Any
    keys: tuple[str | int, ...] = ()

    @property
    def name(self) -> str:
        """Its path, or where that is empty its class."""
        return self.path or type(self.module).__name__


def find_stack(caller: str, model: Any) -> str | None:
    """The attribute of `model` that is run over time; None if the model itself is."""
    if is_cell(model) or isinstance(model, ModalLayer):
        return None
    if not isinstance(model, nnx.Module):
        raise TypeError(
            f"model must be a cell such as a Sequential, or a module with one such stack in it, "
            f"got {type(model).__name__}; put your layers into jaxsnn.nn.Sequential"
        )
    stacks = [name for name, value in vars(model).items() if is_cell(value)]
    if len(stacks) == 1:
        return stacks[0]
    name = type(model).__name__
    raise ValueError(
        f"{caller} follows one stack of layers, and model ({name}) has "
        + (f"{len(stacks)}: {', '.join(stacks)}" if stacks else "no cell such as a Sequential")
        + "; put its layers into one jaxsnn.nn.Sequential, or look at each stack with its own "
        f"input, {caller}(model.{stacks[0] if stacks else 'stack'}, xs)"
    )


def check_input(xs: Any) -> jax.Array:
    """`xs` as an array `[T, N, ...]`."""
    if isinstance(xs, tuple | list):
        raise TypeError(
            f"xs must be one array [T, N, ...], got a {type(xs).__name__}; of padded sequences "
            "take those of one length, without their mask"
        )
    xs = jnp.asarray(xs)
    if xs.ndim < 3 or 0 in xs.shape:
        raise ValueError(
            "xs must be a batch of sequences [T, N, ...] (time, batch, features), with something "
            f"in it, got shape {list(xs.shape)}"
        )
    return xs


def layers(stack: Any, path: str = "") -> list[Part]:
    """The layers of a stack one after the other, those of a `Sequential` inside it included."""
    if not runs_as(stack, Sequential):
        return [Part(path, stack)]
    within = (layers(layer, join(path, k)) for k, layer in enumerate(stack.layers))
    return [part for parts in within for part in parts]


def parts(layer: Part) -> list[Part]:
    """A layer and everything that is a layer inside of it, outermost first."""
    return [part for part in _parts(layer) if not isinstance(part.module, Sequential)]


def parts_as_run(layer: Part, heard: Sequence[str]) -> list[Part]:
    """The same in the order in which they are run, a layer after what is inside of it.

    The order of attributes says nothing of that: a copy of a module has them sorted. What is
    inside a cell of somebody's own is run as `heard`, and not at all if it is not there.
    """
    run = _parts(layer, heard)
    return [part for part in run if not isinstance(part.module, Sequential)]


def _parts(part: Part, heard: Sequence[str] | None = None) -> Iterator[Part]:
    inside: list[Part] = []
    # What is inside another library's layer is that layer's own affair.
    if isinstance(part.module, Cell | ModalLayer | Printable):
        inside = [
            Part(join(part.path, child.path), child.module, part.keys + child.keys)
            for child in children(part.module)
        ]
    for each in [part, *inside] if heard is None else _as_run(part, inside, heard):
        if each is part:
            yield part
        else:
            yield from _parts(each, heard)


def _as_run(part: Part, inside: list[Part], heard: Sequence[str]) -> list[Part]:
    """A layer and those right inside of it, in the order in which they are run."""
    if isinstance(part.module, _SpikingAttention):
        order: list[Any] = ["in_proj", "attn_lif", "out_proj"]
        return [*sorted(inside, key=lambda child: order.index(child.keys[-1])), part]
    if hasattr(part.module, "_order"):  # a Graph of NIR, whose names these are
        order = [part.module.names.index(name) for name in part.module._order]
        return [*sorted(inside, key=lambda child: order.index(child.keys[-1])), part]
    if not is_own(part.module):
        return [*inside, part]
    times = [(heard.index(part.path) if part.path in heard else len(heard), part)]
    for child in inside:
        times += [(k, child) for k, path in enumerate(heard) if within(path, child.path)][:1]
    return [each for _, each in sorted(times, key=lambda pair: pair[0])]


def is_own(module: Any) -> bool:
    """Whether a module is a cell that calls its layers by itself, in an order of its own."""
    return getattr(type(module), "_one_step", None) is Cell._one_step


def within(path: str, around: str) -> bool:
    """Whether what is at `path` is at `around` or inside of it."""
    return not around or f"{path}.".startswith(f"{around}.")


def children(module: Any) -> Iterator[Part]:
    """The modules that a module has as attributes, their paths as those of its records."""
    for name, value in vars(module).items():
        if isinstance(value, nnx.List):
            prefix = "" if isinstance(module, Sequential) else name
            for k, child in enumerate(value):
                if isinstance(child, nnx.Module):
                    yield Part(join(prefix, k), child, (name, k))
        elif isinstance(value, nnx.Module):
            yield Part(name, value, (name,))


class Known(Cell):
    """Stands in for a stack whose outputs are known, and gives them.

    With it a model's own `__call__` makes of them what it makes of the stack's. A strict one
    gives NaN for other inputs than those that they belong to.
    """

    def __init__(self, xs: jax.Array, ys: jax.Array, *, strict: bool) -> None:
        self.xs, self.ys, self.strict = nnx.Variable(xs), nnx.Variable(ys), strict

    def initialize_carry(
        self,
        input_shape: tuple[int, ...],
        rngs: nnx.Rngs | nnx.RngStream | None = None,
        *,
        dtype: Any = jnp.float32,
    ) -> jax.Array:
        """The number of the first step."""
        return jnp.zeros((), jnp.int32)

    def __call__(self, carry: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        expected, y = self.xs[...][carry], self.ys[...][carry]
        if x.shape != expected.shape:
            raise ValueError(
                f"the model hands its stack inputs of shape {list(x.shape)} where xs has "
                f"{list(expected.shape)}, so it does something to xs first; do that to xs "
                "yourself and pass the stack in place of the model, or put the layers before the "
                "stack and the stack into one jaxsnn.nn.Sequential"
            )
        if self.strict:
            expected = expected.astype(x.dtype)
            same = jnp.all((x == expected) | (jnp.isnan(x) & jnp.isnan(expected)))
            y = jnp.where(same, y, jnp.full_like(y, jnp.nan))
        return carry + 1, y


def read_out(
    model: Any, name: str | None, xs: jax.Array, ys: jax.Array, *, strict: bool = False
) -> jax.Array:
    """What the model makes of the outputs `ys` of its stack: of a bare stack, the mean over time.

    If it is `strict`, it is NaN where the stack is not given `xs` itself.
    """
    if name is None:
        return jnp.mean(ys, axis=0)
    copy = jax.tree.map(lambda leaf: leaf, model)
    setattr(copy, name, Known(xs, ys, strict=strict))
    return copy(xs)
