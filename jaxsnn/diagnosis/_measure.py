"""One pass forward and back through a network, and the numbers that come of it."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxsnn import models, nn
from jaxsnn._captured import no_captured_variables
from jaxsnn._norm import global_norm
from jaxsnn.diagnosis._watch import (
    CONTAINERS,
    SPIKING_RNNS,
    Sight,
    Watch,
    fires,
    inside,
    surrogates,
    within,
)

NEARLY_ALWAYS = 0.95
"""A neuron is saturated if it fires at this share of all steps or more."""

INSIDE = 0.1
"""A potential is inside the window where the derivative is at least this share of its peak."""

# Far and near on either side of the threshold: peaks as narrow as 1e-6 at it, and wide ones.
_NEAR = np.logspace(-6, 3, 901)
_GRID = np.concatenate([-_NEAR, [0.0], _NEAR, np.linspace(-8, 8, 1601)]).astype(np.float32)


Numbers = dict[str, Any]


@functools.partial(jax.jit, static_argnums=0)
@no_captured_variables(static=1)
def measure(
    loss: Callable[..., jax.Array], model: Any, xs: jax.Array, shifts: Any, *args: Any
) -> tuple[Numbers, dict[str, Numbers]]:
    """Run `model` on `xs` forward and back: numbers of the whole, and of each part by its path.

    `args` are the labels or none, and a random key. `shifts` are zeros in the shape of each input
    whose gradient is measured, by path.
    """
    *labels, key = args
    split: Any = nnx.split(model, _is_learnable, ...)
    graph, params, rest = split
    watches: list[Watch] = []

    def value(params: Any, shifts: Any) -> Any:
        watches.append(Watch(key, shifts))
        ys, sight = watches[0].run(nnx.merge(graph, params, rest), xs)
        # A Classifier trains on all that it returns, a stack on its means over time.
        stack = not isinstance(model, models.Classifier)
        if stack and ys.ndim > 2 and ys.shape[:2] == xs.shape[:2]:
            ys = jnp.mean(ys, axis=0)
        return jnp.mean(loss(ys, *labels)), (ys, sight)

    grad = jax.value_and_grad(value, argnums=(0, 1), has_aux=True)
    (lost, (outputs, sight)), (to_params, to_inputs) = grad(params, shifts)
    by_example = outputs.shape[:1] == xs.shape[1:2]
    whole = {
        "loss": lost,
        "outputs": outputs[:0],  # empty: it carries the shape alone
        "outputs_finite": _finite(outputs),
        "same_output": jnp.any(outputs) & _alike(outputs, 0, 1e-6) & by_example,
        "input_finite": _finite(xs),
        "input_largest": jnp.max(jnp.abs(xs)),
        "input_same": jnp.all(xs == xs[:, :1]),
    }
    watch = watches[0]
    parts, chain, order = watch.parts(model), watch.chain, list(watch.order)
    spiking = [path for path in order if fires(parts[path])]
    before = order[: order.index(spiking[0])] if spiking else order
    ends = [path for path in spiking if within(path, chain[-1])]
    parameters, gradients = own(model), own(nnx.merge(graph, to_params, rest))
    numbers: dict[str, Numbers] = {}
    for path, part in parts.items():
        here = _activity(path, part, sight)
        if path in ends[-1:]:
            here["puts_out"] = _comes_out(path, sight)
        both = zip(parameters.get(path, ()), gradients.get(path, ()), strict=True)
        learned = [gradient for value, gradient in both if _is_learnable((), value)]
        if learned:
            here["gradient"] = global_norm([gradient[...] for gradient in learned])
        arrays = [value[...] for value in parameters.get(path, ())]
        here["parameters"] = [array[None][:0] for array in arrays]  # empty, for shape and dtype
        here["parameters_finite"] = jnp.all(jnp.array([True, *map(_finite, arrays)]))
        zeros = [jnp.all(x == 0) for x in sight.inputs.get(path, [])]
        here["input_zero"] = jnp.all(jnp.array([bool(zeros), *zeros]))
        if path in sight.outputs:
            ys = sight.outputs[path]
            here["shape"] = ys[:0]  # empty: it carries the shape alone
            if any(within(path, layer) for layer in chain):
                here["outputs_finite"] = _finite(ys)
        here["states"] = [state[:0] for state in _states(path, part, sight)]
        around = parts.get(path.rpartition(".")[0])
        here |= _operations(path, part, around, sight, first=path in before)
        if path in to_inputs:
            here["by_step"] = jax.vmap(global_norm)(to_inputs[path])
        numbers[path] = here
    return whole, numbers


def _is_learnable(path: Any, value: Any) -> bool:
    """True if a variable has a gradient."""
    return isinstance(value, nnx.Param) and jnp.issubdtype(value.dtype, jnp.floating)


def own(model: Any) -> dict[str, list[Any]]:
    """The parameters of each part, those of the parts inside of it apart, by path."""
    found: dict[str, list[Any]] = {}
    known: set[int] = set()
    for path, module in reversed(list(inside(model))):
        leaves = jax.tree.leaves(module, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))
        variables = [v for v in leaves if isinstance(v, nnx.Param) and id(v) not in known]
        known |= {id(v) for v in variables}
        found[path] = variables
    return found


def _finite(array: jax.Array) -> jax.Array:
    return jnp.all(jnp.isfinite(array))


def _alike(array: jax.Array, axis: int, tolerance: float = 1e-5) -> jax.Array:
    """True if the entries along an axis are the same but for rounding, and more than one."""
    if array.ndim == 0 or array.shape[axis] == 1:
        return jnp.array(False)
    return jnp.all(jnp.ptp(array, axis=axis) <= jnp.max(jnp.abs(array)) * tolerance)


def _comes_out(path: str, sight: Sight) -> jax.Array:
    """True if the output of a spiking part is the output of all parts around it, by shape."""
    ys = sight.outputs.get(path, spikes_of(path, sight))
    if ys is None:
        return jnp.array(False)
    around = [a for at, a in sight.outputs.items() if within(path, at) and a.shape == ys.shape]
    return jnp.all(jnp.array([jnp.all(ys.astype(a.dtype) == a) for a in around]))


def _activity(path: str, part: Any, sight: Sight) -> Numbers:
    """Firing rate, silent neurons and potentials of a spiking part."""
    if not fires(part):
        return {}
    here: Numbers = {}
    fired = spikes_of(path, sight)
    if fired is not None:
        if not surrogates(part):  # its spikes have the size of its threshold
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
    potentials = [u for called in sight.potentials.get(path, {}).values() for u in called]
    same = [_alike(u, -1) for u in potentials]
    here["same_neurons"] = jnp.all(jnp.array([bool(potentials), *same]))
    for name, called in sight.potentials.get(path, {}).items():
        share, peak = _window(surrogates(part)[name], jnp.concatenate([*map(jnp.ravel, called)]))
        # With several surrogates, the one that lets the least through.
        here["window"] = jnp.minimum(here.get("window", 1), share)
        here["peak"] = jnp.minimum(here.get("peak", jnp.inf), peak)
    return here


def spikes_of(path: str, sight: Sight) -> jax.Array | None:
    """The spikes of a spiking part; its outputs where its surrogate was not called once a step."""
    calls = [spikes for called in sight.spikes.get(path, {}).values() for spikes in called]
    return calls[0] if len(calls) == 1 else sight.outputs.get(path)


def _states(path: str, part: Any, sight: Sight) -> list[jax.Array]:
    """The states of a part itself. The current of a container is none, nor its feedback."""
    if isinstance(part, CONTAINERS):
        return []
    own = [state for name, state in sight.states.items() if name.rpartition(".")[0] == path]
    return [leaf for leaf in jax.tree.leaves(own) if jnp.issubdtype(leaf.dtype, jnp.floating)]


def _slope(surrogate: Callable[[jax.Array], jax.Array], u: jax.Array) -> jax.Array:
    """The factor of a gradient on its way back through the spikes, at each `u`."""
    spikes, pull = jax.vjp(lambda u: surrogate(u).astype(u.dtype), u)
    return jnp.abs(pull(jnp.ones_like(spikes))[0])


def _window(
    surrogate: Callable[[jax.Array], jax.Array], u: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The share of potentials `u` less the threshold inside the window, and the largest slope."""
    here = _slope(surrogate, u)
    everywhere = _slope(surrogate, jnp.asarray(_GRID, u.dtype))
    peak = jnp.maximum(jnp.max(jnp.where(jnp.isfinite(everywhere), everywhere, 0)), jnp.max(here))
    inside = (here >= INSIDE * peak) & (peak > 0)
    return jnp.mean(inside, dtype=jnp.float32), peak


def _operations(path: str, layer: Any, around: Any, sight: Sight, *, first: bool) -> Numbers:
    """Operations of the synapses of a `Linear` or `Conv` for one example, mean over the batch.

    They are `additions` that spikes cause; `multiply_adds`, of inputs that are not spikes; `dense`,
    the multiply-adds if nothing were left out. The `first` layers have no spiking layer before.
    """
    if not isinstance(layer, nnx.Linear | nnx.Conv):
        return {}
    total: Numbers = {}
    for xs, inner in _inputs(path, around, sight, first):
        spikes, events = _events(xs, inner)
        counted = jnp.sum(_reached(layer, events), dtype=jnp.float32) / xs.shape[1]
        one = jnp.ones((1, 1, *xs.shape[2:]), jnp.float32)
        dense = len(xs) * jnp.sum(_reached(layer, one), dtype=jnp.float32)
        spikes &= counted <= dense  # or else it is cheaper to multiply
        additions, products = jnp.where(spikes, counted, 0), jnp.where(spikes, 0, dense)
        here = {"additions": additions, "multiply_adds": products, "dense": dense}
        total = {name: total.get(name, 0) + here[name] for name in here}
    return total


def _inputs(path: str, around: Any, sight: Sight, first: bool) -> list[tuple[jax.Array, bool]]:
    """The inputs of a layer with weights, and whether they come from other layers.

    The input of layers that feed the outputs of a cell back to it is these outputs.
    """
    if path in sight.inputs:
        batch = sight.inputs[""][0].shape[:2]  # other inputs are no sequences
        return [(xs, not first) for xs in sight.inputs[path] if xs.shape[:2] == batch]
    cell, _, name = path.rpartition(".")
    if cell not in sight.inputs or cell not in sight.outputs:
        return []
    fed = sight.inputs[cell][0], not first
    back = sight.outputs[cell][:-1], True
    if isinstance(around, nn.LinearRecurrentContainer):
        return [back] if around.feedback_only else [fed, back]
    if isinstance(around, SPIKING_RNNS):
        return [fed] if name == "linear_ih" else [back]
    return []


def _events(xs: jax.Array, inner: bool) -> tuple[jax.Array, jax.Array]:
    """True if `xs` are spikes, and the number of spikes at each place.

    Spikes are -1, 0 and 1. Between layers they may have another size, the same for all (what
    dropout leaves is larger), which weights can take up, or be whole numbers, counts.
    """
    sizes = jnp.abs(xs)
    size = jnp.max(sizes) if inner else jnp.ones((), xs.dtype)
    alike = jnp.all((sizes == 0) | (sizes == size))
    counts = jnp.all(sizes == jnp.round(sizes)) if inner else False
    return alike | counts, jnp.where(alike, (sizes > 0).astype(xs.dtype), sizes)


def _reached(layer: Any, xs: jax.Array) -> jax.Array:
    """The number of synapses that `xs` reaches at each output: the layer with weights of 1.

    A `Conv` at a border, or with strides or groups, has fewer than its kernel's size suggests.
    """
    if isinstance(layer, nnx.Linear):
        return jnp.sum(xs, axis=-1, dtype=jnp.float32) * layer.out_features
    ones = jax.tree.map(lambda leaf: leaf, layer)
    ones.kernel = nnx.Param(jnp.ones(layer.kernel.shape, jnp.float32))
    ones.use_bias, ones.dtype, ones.precision = False, jnp.float32, jax.lax.Precision.HIGHEST
    return nnx.Conv.__call__(ones, xs.astype(jnp.float32).reshape(-1, *xs.shape[2:]))
