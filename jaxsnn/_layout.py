"""The layout of arrays over several devices: a merge of axes and a scan that follow it.

The layout is a part of an array's type (`jax.typeof`). It says on which mesh the array is; for
explicit axes which axis of the array is shared out; inside `jax.shard_map` over which axes of the
mesh the array varies.
"""

import itertools
import operator
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec


def is_shared_out(x: jax.Array) -> bool:
    """Return whether XLA partitions the operations on `x`, or types say that it would.

    That is so on a mesh of several devices, and on explicit axes even if the device is alone.

    Two axes may then be made one only if the first of them is the one that is shared out: each
    device holds some of the rows `[n, :]` of `[N, C]`, but of `[T, N]` only parts of rows, which
    are no part of the merged axis. Inside `jax.shard_map` every device computes for itself.
    """
    mesh = jax.typeof(x).sharding.mesh
    if not mesh.shape:
        mesh = jax.sharding.get_abstract_mesh()
    kinds = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    return any(
        kinds[name] == AxisType.Explicit or (n > 1 and kinds[name] == AxisType.Auto)
        for name, n in mesh.shape.items()
    )


def follow(arrays: Any, x: jax.Array, axis: int = 0) -> Any:
    """Lay arrays out as `x` is, from its axis `axis` on, in the leading axes that are as long.

    That is of use for constants and for arrays from the host, on a mesh with explicit axes. Other
    arrays, and those that are shared out already, are returned as they are.
    """
    layout = jax.typeof(x).sharding
    if not any(layout.spec):
        return arrays

    def put(array: Any) -> Any:
        if any(jax.typeof(array).sharding.spec):
            return array
        pairs = zip(array.shape, x.shape[axis:], layout.spec[axis:], strict=False)
        alike = itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)
        spec = PartitionSpec(*(name for *_, name in alike))
        return jax.sharding.reshard(array, NamedSharding(layout.mesh, spec))

    return jax.tree.map(put, arrays)


def scan(step: Callable[[Any, Any], tuple[Any, Any]], carry: Any, xs: Any) -> tuple[Any, Any]:
    """Run `jax.lax.scan` from a first carry that may be made of constants.

    A scan needs a carry that keeps its type. Zeros are the same on all devices, while the carry
    after a step is laid out as the input is; therefore the first carry is laid out so, too.
    """
    meshes = [jax.typeof(leaf).sharding.mesh for leaf in jax.tree.leaves((carry, xs))]
    if any(map(_is_in_types, [*meshes, jax.sharding.get_abstract_mesh()])):
        carry = _as_after_a_step(step, carry, xs)
    return jax.lax.scan(step, carry, xs)


def _is_in_types(mesh: Any) -> bool:
    """Return whether types of arrays have their layout on `mesh`; on automatic axes they do not."""
    return any(kind != AxisType.Auto for kind in mesh.axis_types)


def _as_after_a_step(step: Callable[[Any, Any], tuple[Any, Any]], carry: Any, xs: Any) -> Any:
    """Lay the carry out as a step returns it, until a step changes nothing more."""

    def after(carry: Any, xs: Any) -> Any:
        return step(carry, jax.tree.map(lambda a: a[0], xs))[0]

    for _ in jax.tree.leaves(carry):
        found = jax.eval_shape(after, carry, xs)
        structures: list[Any] = [jax.tree.structure(tree) for tree in (found, carry)]
        if structures[0] != structures[1]:
            break  # the scan raises
        before, carry = carry, jax.tree.map(_laid_out_as, carry, found)
        if all(map(operator.is_, jax.tree.leaves(before), jax.tree.leaves(carry))):
            break
    return carry


def _laid_out_as(x: Any, like: jax.ShapeDtypeStruct) -> Any:
    """`x` itself where its type says the same already."""
    layout = jax.typeof(x)
    if more := _varying(like) - _varying(layout):
        x = jax.lax.pcast(x, tuple(sorted(more)), to="varying")
    if x.shape == like.shape and layout.sharding != like.sharding:
        x = jax.sharding.reshard(x, like.sharding)
    return x


def _varying(array: Any) -> frozenset[str]:
    """The axes of a mesh over which an array varies inside `jax.shard_map`."""
    kind = array.manual_axis_type
    return frozenset() if kind is None else kind.varying
