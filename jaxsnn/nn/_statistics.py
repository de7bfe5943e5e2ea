"""Running statistics of normalisations: variables next to the parameters, never changed in place.

They live across sequences and are therefore no part of a carry. `unroll(..., key=key)` returns a
module with the statistics after the sequence.
"""

import re
from typing import Any

import jax
from flax import nnx

from jaxsnn._parts import named, parts
from jaxsnn.nn._run import Run

Statistics = dict[str, tuple[jax.Array, jax.Array]]  # mean and variance by the layer's path


def aliases(module: Any) -> tuple[tuple[str, str], ...]:
    """The paths of modules that are in several places, with the first of these places.

    `jax.jit` makes a module of each place.
    """
    first: dict[int, str] = {}
    places = [(path, first.setdefault(id(part), path)) for path, part in parts(module)]
    return tuple((path, place) for path, place in places if path != place)


def statistics_after(module: Any, run: Run, aliases: tuple[tuple[str, str], ...]) -> Statistics:
    """The running statistics after a run of `module` in training, if all of it was run by `Run`."""
    where = dict(aliases)
    layers = {path: layer for path, layer in parts(module) if path not in where}

    def place(path: str) -> str:
        path = re.sub(r"#\d+", "", path)  # of a second call
        return where.get(path, path)

    reached = set(map(place, run._ran))
    forgotten = [
        (layer, path)
        for path, layer in parts(module)
        if any(layer is other for other in run._alone)
        or (getattr(layer, "trains_apart", False) and where.get(path, path) not in reached)
    ] + [(layer, "") for layer in run._alone]
    if forgotten:
        raise ValueError(
            f"{named(*forgotten[0])} of {type(module).__name__} was not run by a Run, so it would "
            "do the same in training as in inference. Every module around it must be an nn.Module, "
            "or a container of jaxsnn.nn, and run its parts by run(part, x), not by part(x). A "
            "derived class replaces forward, not __call__. Remove a part that is not used"
        )
    after: Statistics = {}
    for path, batch in run._seen.batches.items():  # in the order of the calls
        layer = layers[place(path)]
        before = after.get(place(path), (layer.mean[...], layer.var[...]))
        after[place(path)] = layer._after(before, batch)
    return after


def with_statistics(module: Any, statistics: Statistics) -> Any:
    """A copy of `module` with these running statistics; the other variables share their arrays."""
    if not statistics:
        return module
    module = nnx.clone(module)
    layers = dict(parts(module))
    for path, after in statistics.items():
        layers[path].mean[...], layers[path].var[...] = after
    return module
