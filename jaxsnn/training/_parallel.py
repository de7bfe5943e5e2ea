"""Data parallelism: each device computes an equal part of every minibatch.

Every device holds all parameters and computes the gradient of its part of a minibatch; the mean
over the devices, one all-reduce a step, is the gradient of the whole. This is written out with
`jax.shard_map`: each device gathers its examples itself, everything is summed in one message, and
a layer may make one axis of time and batch, which is faster.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

T = TypeVar("T")

AXIS = "data"

WHOLE = PartitionSpec()  # the same on every device
SHARED = PartitionSpec(None, AXIS)  # [K, N, ...]: of each of K minibatches an equal part


def mesh_of(devices: Sequence[jax.Device]) -> Mesh:
    """The devices in a row."""
    if not devices:
        raise ValueError("devices must hold at least one device, e.g. jax.devices(), got none")
    return Mesh(np.array(devices), (AXIS,))


def put(mesh: Mesh | None, tree: Any, spec: PartitionSpec = WHOLE) -> Any:
    """Put arrays on the devices of the mesh, or on JAX's default device.

    `tree` has what the devices of this process compute: for `SHARED` the part in `own_share`.
    """
    if mesh is None:
        return jax.tree.map(jnp.asarray, tree)
    sharding = NamedSharding(mesh, spec)

    def put_one(leaf: Any) -> jax.Array:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = put_one(jax.random.key_data(leaf))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        return jax.make_array_from_process_local_data(sharding, np.asarray(leaf))

    return jax.tree.map(put_one, tree)


def own_share(mesh: Mesh | None, size: int) -> slice:
    """The examples, of the `size` of a minibatch, that the devices of this process compute."""
    if mesh is None:
        return slice(0, size)
    here = jax.process_index()
    ours = [k for k, device in enumerate(mesh.devices) if device.process_index == here]
    return slice(ours[0] * size // mesh.size, (ours[-1] + 1) * size // mesh.size)


def on_each_device(
    mesh: Mesh | None, function: Callable[..., T], specs: Any = WHOLE
) -> Callable[..., T]:
    """Run `function` on every device, on its part of each argument that is `SHARED` in `specs`."""
    if mesh is None:
        return function
    # The results are the same on all devices: so are the arguments, and all sums are over all.
    return jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=WHOLE, check_vma=False)


def mean_of(mesh: Mesh | None, function: Callable[[Any], jax.Array]) -> Callable[[Any], jax.Array]:
    """The mean of `function(params)` over all devices, whose gradient is the mean of theirs."""
    if mesh is None:
        return function
    # Each device has the gradient of its own value only, so `enter` takes the mean of gradients.
    mean = functools.partial(jax.lax.pmean, axis_name=AXIS)
    enter = jax.custom_vjp(lambda params: params)
    enter.defvjp(lambda params: (params, None), lambda _, gradient: (mean(gradient),))
    return lambda params: mean(function(enter(params)))


def total(mesh: Mesh | None, tree: T) -> T:
    """The sum over all devices, of everything in one message."""
    return tree if mesh is None else jax.lax.psum(tree, AXIS)
