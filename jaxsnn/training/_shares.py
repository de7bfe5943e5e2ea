"""How a minibatch is shared out among devices: equal parts, side by side, and what is summed.

Every device holds all parameters and computes the gradient of its part of a minibatch; the mean
over the devices, one all-reduce a step, is the gradient of the whole. This is written out with
`jax.shard_map`: each device gathers its examples itself, everything is summed in one message, and
a layer may make one axis of time and batch, which is faster.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXIS = "data"

WHOLE = PartitionSpec()  # the same on every device
SHARED = PartitionSpec(None, AXIS)  # [K, N, ...]: of each of K minibatches an equal part


def mesh_of(devices: Sequence[jax.Device]) -> Mesh:
    """The devices in a row."""
    if not devices:
        raise ValueError("devices must hold at least one device, e.g. jax.devices(), got none")
    return Mesh(np.array(devices), (AXIS,))


def put_whole(mesh: Mesh | None, tree: Any) -> Any:
    """Arrays on every device of the mesh, or on JAX's default device."""
    if mesh is None:
        return jax.tree.map(jnp.asarray, tree)
    sharding = NamedSharding(mesh, WHOLE)

    def put(leaf: Any) -> jax.Array:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = put(jax.random.key_data(leaf))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(put, tree)


def put_shares(mesh: Mesh | None, tree: Any) -> Any:
    """Minibatches `[K, N, ...]` on the devices, each given its part; `own_share` has those."""
    if mesh is None:
        return jax.tree.map(jnp.asarray, tree)
    sharding = NamedSharding(mesh, SHARED)
    put = functools.partial(jax.make_array_from_process_local_data, sharding)
    return jax.tree.map(put, tree)


def own_share(mesh: Mesh | None, size: int) -> slice:
    """Which of the `size` examples of a minibatch the devices of this process compute."""
    if mesh is None:
        return slice(0, size)
    shares = NamedSharding(mesh, SHARED).addressable_devices_indices_map((1, size))
    parts = [index[1].indices(size) for index in shares.values() if index is not None]
    return slice(min(part[0] for part in parts), max(part[1] for part in parts))


def everywhere(mesh: Mesh | None, function: Callable[..., Any], *specs: Any) -> Any:
    """`function` run on every device, on its part of what `specs` says is shared."""
    if mesh is None:
        return function
    # What leaves it is the same everywhere, as what entered was and all sums are over all devices.
    return jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=WHOLE, check_vma=False)


def part(mesh: Mesh | None, examples: jax.Array) -> jax.Array:
    """Of the examples of a minibatch, `[N]`, those of this device."""
    if mesh is None:
        return examples
    size = len(examples) // mesh.size
    return jax.lax.dynamic_slice_in_dim(examples, jax.lax.axis_index(AXIS) * size, size)


def mean_of(mesh: Mesh | None, function: Callable[[Any], jax.Array]) -> Callable[[Any], jax.Array]:
    """The mean of `function(params)` over all devices, whose gradient is the mean of theirs."""
    if mesh is None:
        return function
    # `psum` is its own transpose, so that the gradient of a plain mean would be of one device only.
    mean = functools.partial(jax.lax.pmean, axis_name=AXIS)
    enter = jax.custom_vjp(lambda params: params)
    enter.defvjp(lambda params: (params, None), lambda _, gradient: (mean(gradient),))
    leave = jax.custom_vjp(mean)
    leave.defvjp(lambda value: (mean(value), None), lambda _, gradient: (gradient,))
    return lambda params: leave(function(enter(params)))


def total(mesh: Mesh | None, tree: Any) -> Any:
    """The sum over all devices, of everything in one message."""
    return tree if mesh is None else jax.lax.psum(tree, AXIS)
