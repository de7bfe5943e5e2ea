"""Running statistics of normalisations: variables beside the parameters, never changed in place.

They live across sequences and are therefore no part of a carry. `unroll(..., key=key)`
returns those after the sequence; a module is given new ones with `with_statistics`.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsnn import _layout
from jaxsnn.nn._mode import Batch, join
from jaxsnn.nn._repr import children


class Statistics(nnx.Module):
    """Mixin of a normalisation: what it remembers of the batches it was trained on."""

    momentum: float
    mean: nnx.BatchStat[jax.Array]
    var: nnx.BatchStat[jax.Array]

    def _after(self, batches: Batch) -> tuple[jax.Array, jax.Array]:
        """The running mean and variance after one or more batches, `[..., *statistic]`.

        running = momentum running + (1 - momentum) batch
        """
        before = self.mean[...], self.var[...]
        shape = before[0].shape

        def update(running: Any, batch: Batch) -> tuple[Any, None]:
            # What a mask leaves may be a single number, which has no variance, or nothing.
            share = jnp.where(batch.numbers > 1, 1 - self.momentum, 0.0).astype(running[0].dtype)
            new = (batch.mean, batch.var)
            return tuple(
                (1 - share) * old + share * now.astype(old.dtype)
                for old, now in zip(running, new, strict=True)
            ), None

        in_a_row = jax.tree.map(
            lambda b: jax.lax.stop_gradient(b).reshape(-1, *shape),
            batches,
        )
        after, _ = _layout.scan(update, before, in_a_row)
        return after


def statistics(module: nnx.Module) -> Any:
    """The running statistics in a module, a nested dict of arrays; `{}` if it has none.

    Args:
        module: any module.
    """
    return nnx.to_pure_dict(nnx.state(module, nnx.BatchStat))


def with_statistics(module: Any, statistics: Any) -> Any:
    """A copy of `module` with other running statistics; the parameters are shared.

    Args:
        module: any module.
        statistics: as `unroll(module, xs, key=key)` returns them.

    Raises:
        ValueError: `statistics` are not those of `module`.

    Examples:
        >>> net = Sequential(Linear(4, 3, rngs=nnx.Rngs(0)), BatchNorm(3), LIFNode())
        >>> xs = jax.random.normal(jax.random.key(0), (8, 16, 4))
        >>> _, _, extras = unroll(net, xs, key=jax.random.key(1))
        >>> net = with_statistics(net, extras.statistics)
    """
    split: Any = nnx.split(module, nnx.BatchStat, ...)
    graphdef, state, rest = split
    there, given = shapes(nnx.to_pure_dict(state)), shapes(statistics)
    if there != given:
        raise ValueError(
            f"statistics must be those of this {type(module).__name__}, with the shapes {there}, "
            f"got {given}; take them from unroll(module, xs, key=key) with the same module"
        )
    nnx.replace_by_pure_dict(state, statistics)
    return nnx.merge(graphdef, state, rest)


def shapes(statistics: Any) -> dict[str, tuple[int, ...]]:
    """The shape of each array in a nested dict, by its path."""
    leaves = jax.tree.leaves_with_path(statistics)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): jnp.shape(leaf)
        for path, leaf in leaves
    }


def updated_statistics(module: Any, batches: dict[str, Batch]) -> Any:
    """`statistics(module)` after the normalisations at these paths have seen these batches."""
    if not isinstance(module, nnx.Module):
        return {}
    graphdef, state = nnx.split(module)
    module = nnx.merge(graphdef, state)  # a copy: nothing is changed in place
    for path, layer in _layers(module):
        if path in batches:
            layer.mean[...], layer.var[...] = layer._after(batches[path])
    return statistics(module)


def _layers(layer: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """A module and all layers inside of it, with the paths at which they run."""
    yield path, layer
    if isinstance(layer, nnx.Module):
        for name, child in children(layer).items():
            yield from _layers(child, join(path, name))
