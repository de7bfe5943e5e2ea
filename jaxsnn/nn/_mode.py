"""How a sequence is run, beside its data: training or not, which steps count, what is recorded."""

import dataclasses
import fnmatch
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Carry = Any


class Batch(NamedTuple):
    """What a normalisation saw: mean and variance, and of how many numbers."""

    mean: jax.Array
    var: jax.Array
    numbers: jax.Array  # 0 where all was masked


class Seen(NamedTuple):
    """What a run shows beside carry and outputs, by path."""

    records: dict[str, jax.Array]
    batches: dict[str, Batch]

    def __or__(self, other: "Seen") -> "Seen":
        return Seen(self.records | other.records, self.batches | other.batches)


def join(path: str, name: str | int) -> str:
    """The path of what is called `name` at `path`, e.g. `"1.sub_module"`."""
    return f"{path}.{name}" if path else str(name)


@dataclasses.dataclass(frozen=True)
class Mode:
    """How a layer is to be run.

    Attributes:
        path: of the layer in the module that is run, e.g. `"1.sub_module"`.
        record: patterns of the paths to record.
        key: random key of this sequence when training, else None.
        mask: which steps count, `[T, ...]` (or `[...]` of one step); None for all.
        whole: whether a layer sees all steps of the sequence when it is run over time.
    """

    path: str = ""
    record: tuple[str, ...] = ()
    key: jax.Array | None = None
    mask: jax.Array | None = None
    whole: bool = True

    @property
    def training(self) -> bool:
        return self.key is not None

    def at(self, name: str) -> "Mode":
        """The mode for the layer `name` inside this one."""
        return dataclasses.replace(self, path=join(self.path, name))

    def of_step(self, mask: jax.Array | None) -> "Mode":
        """The mode for one step, of which `mask` says whether it counts."""
        return dataclasses.replace(self, mask=mask)

    def layer_key(self) -> jax.Array:
        """A random key for the layer at this path, the same at every step."""
        assert self.key is not None
        return jax.random.fold_in(self.key, zlib.crc32(self.path.encode()))

    def see(self, **values: Any) -> Seen:
        """Those of the layer's `values` that are to be recorded."""
        return self._see({self.at(name).path: value for name, value in values.items()})

    def see_output(self, y: jax.Array) -> Seen:
        """The layer's output, if it is to be recorded; that of the whole module is not."""
        return self._see({self.path: y} if self.path else {})

    def see_batch(self, batch: Batch) -> Seen:
        return Seen({}, {self.path: batch})

    def _see(self, values: dict[str, Any]) -> Seen:
        wanted = {
            path: value
            for path, value in values.items()
            if any(fnmatch.fnmatchcase(path, pattern) for pattern in self.record)
        }
        return Seen(wanted, {})


NOTHING = Seen({}, {})

# (carry, x, mode of the step) -> (carry, y, seen)
Step = Callable[[Carry, jax.Array, Mode], tuple[Carry, jax.Array, Seen]]


def over(mask: jax.Array, like: jax.Array, name: str = "an output") -> jax.Array:
    """`mask` `[N]` with as many axes as `like` `[N, ...]`, which an error calls `name`."""
    if mask.shape != like.shape[: mask.ndim]:
        remedy = (
            f"; in initialize_carry, jnp.zeros(input_shape[:{mask.ndim}]) is one number for each"
        )
        raise ValueError(
            f"the mask, here of shape {list(mask.shape)}, does not fit {name} of shape "
            f"{list(like.shape)}: what a mask tells apart, usually the sequences of a batch, must "
            "have states and outputs apart, [N, ...], from the first layer to the last"
            + ("" if name == "an output" else remedy)
        )
    return mask.reshape(mask.shape + (1,) * (like.ndim - mask.ndim))


def zero(mask: jax.Array, a: jax.Array) -> jax.Array:
    """`a` where `mask` is true, elsewhere 0."""
    return jnp.where(over(mask, a), a, jnp.zeros((), a.dtype))


def hold(mask: jax.Array | None, after: Carry, before: Carry, path: str = "") -> Carry:
    """`after` where `mask` is true, elsewhere `before`: a masked step changes nothing.

    An error names the state, of the layer at `path`.
    """
    if mask is None:
        return after

    def held(keys: Any, a: jax.Array, b: jax.Array) -> jax.Array:
        name = f"the state carry{jax.tree_util.keystr(keys)}"
        return jnp.where(over(mask, a, f"{name} of layer {path}" if path else name), a, b)

    return jax.tree_util.tree_map_with_path(held, after, before)
