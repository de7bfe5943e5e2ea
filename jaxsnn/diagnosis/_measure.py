"""One pass forward and back through a network, and the numbers that come of it."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsnn._captured import no_captured_variables
from jaxsnn._norm import global_norm
from jaxsnn.diagnosis._follow import Sight, fires, surrogates, watch
from jaxsnn.diagnosis._operations import operations
from jaxsnn.diagnosis._stack import Part, layers, parts, parts_as_run, read_out
from jaxsnn.diagnosis._window import Window, window
from jaxsnn.nn._containers import _RecurrentContainer
from jaxsnn.nn._mode import Mode

NEARLY_ALWAYS = 0.95
"""A neuron is saturated if it fires at this share of all steps or more."""

Numbers = dict[str, Any]


@functools.partial(jax.jit, static_argnums=(0, 1))
@no_captured_variables(static=2)
def measure(
    loss: Callable[..., jax.Array], name: str | None, model: Any, xs: jax.Array, *args: Any
) -> tuple[Numbers, dict[str, Numbers]]:
    """What there is to know of `model` on `xs`: of the whole, and of each part by its path.

    Args:
        loss: of the model's outputs and the labels, if there are any.
        name: the attribute of the model that is its stack.
        model: the model.
        xs: `[T, N, ...]`, floating.
        *args: the labels or none, and a random key.
    """
    *labels, key = args
    stack = model if name is None else getattr(model, name)
    mode = Mode(record=("*",), key=key)
    chain = layers(stack)
    sights: list[Sight] = []
    pulls: list[Callable[..., Any]] = []
    heard: list[str] = []
    ys = xs
    for layer in chain:
        ys, pull, sight = _differentiable(layer, ys, mode, heard)
        sights.append(sight)
        pulls.append(pull)

    def value(ys: jax.Array) -> tuple[jax.Array, jax.Array]:
        outputs = read_out(model, name, xs, ys)
        return jnp.mean(loss(outputs, *labels)), outputs

    lost, pull, outputs = jax.vjp(value, ys, has_aux=True)
    strict = read_out(model, name, xs, ys, strict=True)
    (gradient,) = pull(jnp.ones_like(lost))
    gradients: list[Any] = []
    for pull in reversed(pulls):
        to_parameters, gradient = pull(gradient)
        gradients.append((to_parameters, gradient))
    whole = {
        "loss": lost,
        "outputs": outputs[:0],  # empty: it carries the shape alone
        "outputs_finite": _finite(outputs),
        "same_output": _same_for_all(outputs, xs.shape[1]),
        "changed": jnp.any(jnp.isnan(strict) & ~jnp.isnan(outputs)),
        "input_finite": _finite(xs),
        "input_largest": jnp.max(jnp.abs(xs)),
        "input_same": jnp.all(xs == xs[:, :1]),
    }
    numbers: dict[str, Numbers] = {}
    first = True
    for layer, sight, (to_parameters, to_inputs) in zip(
        chain, sights, reversed(gradients), strict=True
    ):
        run = parts_as_run(layer, heard)
        numbers |= _of_layer(layer, run, sight, to_parameters, to_inputs, first=first)
        first = first and not any(fires(part.module) for part in run)
    return whole, numbers


def _differentiable(layer: Part, xs: jax.Array, mode: Mode, heard: list[str]) -> Any:
    """Outputs, what turns a gradient of them into those of parameters and inputs, and a `Sight`."""
    if not isinstance(layer.module, nnx.Module):  # a plain function
        return jax.vjp(lambda _, xs: watch(layer, xs, mode, heard), nnx.State({}), xs, has_aux=True)
    split: Any = nnx.split(layer.module, is_learnable, ...)
    graph, params, rest = split

    def outputs(params: Any, xs: jax.Array) -> tuple[jax.Array, Sight]:
        return watch(layer._replace(module=nnx.merge(graph, params, rest)), xs, mode, heard)

    return jax.vjp(outputs, params, xs, has_aux=True)


def is_learnable(path: Any, value: Any) -> bool:
    """Whether a variable has a gradient."""
    return isinstance(value, nnx.Param) and jnp.issubdtype(value.dtype, jnp.floating)


def _of_layer(
    layer: Part,
    run: Sequence[Part],
    sight: Sight,
    to_parameters: Any,
    to_inputs: jax.Array,
    *,
    first: bool,
) -> dict[str, Numbers]:
    """Of a layer and its parts, which are run in the order of `run`."""
    inside = parts(layer)
    spiking = [k for k, part in enumerate(run) if fires(part.module)]
    after = {part.path for part in run[spiking[0] :]} if spiking else set()
    puts_out = run[spiking[-1]].path if spiking else None
    gradients, parameters = _flat(to_parameters), {}
    if isinstance(layer.module, nnx.Module):
        parameters = _flat(nnx.state(layer.module, nnx.Param))
    numbers: dict[str, Numbers] = {}
    for part in inside:
        here = _activity(part, sight)
        if "rate" in here:
            same = part.path == puts_out and _same(
                spikes_of(part, sight), sight.outputs[layer.path]
            )
            here["puts_out"] = jnp.asarray(part.path == layer.path) | same
        learned = _own(gradients, part, inside)
        if learned:
            here["gradient"] = global_norm(learned)
        own = _own(parameters, part, inside)
        here["parameters"] = [array[None][:0] for array in own]  # empty, for shape and dtype
        here["parameters_finite"] = jnp.all(jnp.array([True, *map(_finite, own)]))
        here["input_zero"] = jnp.all(sight.inputs.get(part.path, jnp.ones(())) == 0)
        if part.path in sight.outputs:
            outputs = sight.outputs[part.path]
            here["shape"] = outputs[:0]  # empty: it carries the shape alone
            here["finite"] = _finite(outputs)
        here["states"] = [state[:0] for state in _states(part, sight)]
        no_spikes = first and part.path not in after
        synapses = operations(part, inside, sight, first=no_spikes)
        if synapses is not None:
            here["operations"] = synapses
        numbers[part.path] = here
    numbers[layer.path]["by_step"] = jax.vmap(global_norm)(to_inputs)
    return numbers


def _flat(state: Any) -> dict[Any, jax.Array]:
    return {path: value[...] for path, value in nnx.to_flat_state(state)}


def _own(flat: dict[Any, jax.Array], part: Part, inside: Sequence[Part]) -> list[jax.Array]:
    """What belongs to a part itself, not to one inside of it."""
    below = [p.keys for p in inside if len(p.keys) > len(part.keys)]
    below = [keys for keys in below if keys[: len(part.keys)] == part.keys]
    return [
        leaf
        for path, leaf in flat.items()
        if path[: len(part.keys)] == part.keys
        and not any(path[: len(keys)] == keys for keys in below)
    ]


def _finite(array: jax.Array) -> jax.Array:
    return jnp.all(jnp.isfinite(array))


def _alike(potentials: jax.Array) -> jax.Array:
    """Whether all neurons, or channels, have the same potentials but for rounding."""
    if potentials.ndim == 0 or potentials.shape[-1] == 1:
        return jnp.array(False)
    size = jnp.max(jnp.abs(potentials))
    return jnp.all(jnp.ptp(potentials, axis=-1) <= size * 1e-5)


def _same_for_all(outputs: jax.Array, examples: int) -> jax.Array:
    """Whether outputs `[N, ...]` are those of one example, but for rounding, and not all 0."""
    if outputs.shape[:1] != (examples,):
        return jnp.array(False)
    size = jnp.max(jnp.abs(outputs))
    return (size > 0) & jnp.all(jnp.ptp(outputs, axis=0) <= size * 1e-6)


def _same(spikes: jax.Array | None, outputs: jax.Array) -> Any:
    """Whether what a part gives is what its layer gives."""
    if spikes is None or spikes.shape != outputs.shape:
        return False
    return jnp.all(spikes.astype(outputs.dtype) == outputs)


def _activity(part: Part, sight: Sight) -> Numbers:
    """Of a spiking part: how much it fires, how many do not, and where its potentials are."""
    if not fires(part.module):
        return {}
    here: Numbers = {}
    fired = spikes_of(part, sight)
    if fired is not None:
        if not surrogates(part.module):  # its spikes have the size of its threshold
            fired = (fired != 0).astype(jnp.float32)
        share = jnp.mean(fired != 0, axis=(0, 1), dtype=jnp.float32)
        # By channel: in all images there may be corners that see the background alone.
        every = tuple(range(fired.ndim - 1))
        active = jnp.any(fired != 0, axis=every)
        alike = active & ~jnp.any(fired != fired[:, :1], axis=every)
        here["same_spikes"] = jnp.sum(alike) / jnp.maximum(jnp.sum(active), 1)
        here["rate"] = jnp.mean(jnp.abs(fired), dtype=jnp.float32)
        here["dead"] = jnp.mean(share == 0, dtype=jnp.float32)
        here["saturated"] = jnp.mean(share >= NEARLY_ALWAYS, dtype=jnp.float32)
    potentials = [u for called in sight.potentials.get(part.path, {}).values() for u in called]
    here["same_neurons"] = jnp.all(jnp.array([bool(potentials), *map(_alike, potentials)]))
    windows = [
        window(surrogates(part.module)[name], jnp.concatenate([jnp.ravel(u) for u in called]))
        for name, called in sight.potentials.get(part.path, {}).items()
    ]
    if windows:  # of a cell with several surrogates, that which lets least through
        shares, peaks = zip(*windows, strict=True)
        here["window"] = Window(jnp.min(jnp.stack(shares)), jnp.min(jnp.stack(peaks)))
    return here


def spikes_of(part: Part, sight: Sight) -> jax.Array | None:
    """The spikes of a spiking part; its outputs where its surrogate was not called once a step."""
    calls = [spikes for called in sight.spikes.get(part.path, {}).values() for spikes in called]
    return calls[0] if len(calls) == 1 else sight.outputs.get(part.path)


def _states(part: Part, sight: Sight) -> list[jax.Array]:
    """The states of a part itself. The current of a container is none, nor its feedback."""
    if isinstance(part.module, _RecurrentContainer):
        return []
    own = [state for path, state in sight.states.items() if path.rpartition(".")[0] == part.path]
    return [leaf for leaf in jax.tree.leaves(own) if jnp.issubdtype(leaf.dtype, jnp.floating)]
