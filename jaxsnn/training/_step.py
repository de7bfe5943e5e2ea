"""One minibatch: forward, backward, update; and its test."""

import functools
import inspect
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Key

from jaxsnn import losses, nn
from jaxsnn._captured import no_captured_variables
from jaxsnn._dtypes import state_dtype
from jaxsnn._norm import global_norm
from jaxsnn.training import _parallel
from jaxsnn.training._state import Metrics, Recipe, TrainState, check_not_donated, merge, no_metrics


def train_step(
    recipe: Recipe, state: TrainState, inputs: Any, labels: Any, key: Key[Array, ""] | None = None
) -> tuple[TrainState, Metrics]:
    """One minibatch: forward, backward, update. Pure; jit it or scan it.

    It counts `state.step`, but does not know where an epoch ends:
    `state._replace(epoch=state.epoch + 1)` ends one.

    Args:
        recipe: from `create`, of one device.
        state: of the step before.
        inputs: a minibatch of inputs as `recipe.to_sequence` takes them, `[N, ...]`.
        labels: class numbers, `[N]`, integers; or any other targets that `recipe.loss` takes, `[N,
            ...]`, or a pytree of them.
        key: random key of this step, for models that behave differently in training. None draws
            the key that `train_epoch` draws, from `state.key` and `state.step`.

    Returns:
        The new state, and the figures of the minibatch.

    Raises:
        TypeError: inputs or labels are not arrays.
        ValueError: inputs and labels differ in length, the model changes its own variables, its
            outputs do not fit class numbers, the loss is not one per example, or the recipe has
            several devices.
    """
    if recipe.mesh is not None:
        raise ValueError(
            f"train_step is for one device, but recipe has {recipe.shares}; use train_epoch"
        )
    examples(state, inputs, labels)
    state, metrics = update(recipe, state, inputs, labels, key)
    return state, for_labels(metrics, labels)


@no_captured_variables(static=1)
def update(
    recipe: Recipe, state: TrainState, inputs: Any, labels: Any, key: jax.Array | None = None
) -> tuple[TrainState, Metrics]:
    """`train_step`; with several devices, on each with its part of the minibatch."""
    if key is None:  # no epoch has the number 2^32 - 1
        key = jax.random.fold_in(jax.random.fold_in(state.key, 2**32 - 1), state.step)

    def objective(params: optax.Params) -> tuple[jax.Array, Any]:
        model = merge(recipe, state._replace(params=params))
        outputs, statistics = _run(recipe, model, inputs, key)
        return jnp.mean(_losses(recipe, outputs, labels)), (_correct(outputs, labels), statistics)

    gradient = jax.value_and_grad(objective, has_aux=True)
    (loss, (right, statistics)), grads = gradient(state.params)
    right = jnp.sum(right, dtype=jnp.float32)  # floating, so that it joins the same all-reduce
    loss, grads, right = _parallel.total(recipe.mesh, (loss, grads, right))
    if recipe.shares > 1:
        loss, grads = jax.tree.map(lambda array: array / recipe.shares, (loss, grads))
    value_fn = _parallel.mean_of(recipe.mesh, lambda params: objective(params)[0])
    offered = {
        "value": loss,
        "grad": grads,
        "value_fn": value_fn,
        "grad_fn": lambda params, step: jax.grad(value_fn)(params),
        "obj_fn": value_fn,
    }
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes in its schedules and adam
        updates, opt_state = _transform(recipe.optimizer, state, offered)
        params = optax.apply_updates(state.params, updates)
    norm = global_norm(grads)
    finite = jnp.isfinite(loss) & jnp.isfinite(norm) & all_finite((params, statistics))
    finite &= all_finite(opt_state, state.opt_state)
    after = state._replace(params=params, statistics=statistics, opt_state=opt_state)
    if recipe.skip_nonfinite:
        after = jax.tree.map(lambda new, old: jnp.where(finite, new, old), after, state)
    counts = finite if recipe.skip_nonfinite else jnp.bool_(True)
    size = len(jax.tree.leaves(labels)[0]) * recipe.shares
    loss_sum = loss.astype(state_dtype(loss.dtype)) * size
    bounded = jnp.minimum(norm, float(np.finfo(np.float32).max))
    metrics = no_metrics(finite)._replace(
        minibatches=jnp.int32(1),
        examples=jnp.where(counts, jnp.int32(size), 0),
        loss_sum=jnp.where(counts, loss_sum, 0),
        correct=jnp.where(counts, right, 0).astype(jnp.int32),
        gradient_norm=jnp.where(jnp.isfinite(norm), bounded, 0).astype(jnp.float32),
        skipped=(~counts).astype(jnp.int32),
        nonfinite_norm=jnp.where(finite, 0, norm).astype(jnp.float32),
    )
    return after._replace(step=state.step + 1), metrics


def counted_update(
    recipe: Recipe, state: TrainState, inputs: Any, labels: Any, _: jax.Array
) -> TrainState:
    """Train on a minibatch of an epoch: `update`, counted in the tally."""
    state, metrics = update(recipe, state, inputs, labels)
    return state._replace(tally=state.tally.add(metrics))


def begin_test(state: TrainState) -> tuple[TrainState, Metrics]:
    """The state, and the figures of a test of no examples."""
    return state, no_metrics(all_finite((state.params, state.statistics)))


@no_captured_variables(static=1)
def add_test(
    recipe: Recipe, test: tuple[TrainState, Metrics], inputs: Any, labels: Any, counts: jax.Array
) -> tuple[TrainState, Metrics]:
    """Add the figures of a minibatch: of its examples `[N]`, those that `counts` names."""
    state, metrics = test
    outputs, _ = _run(recipe, merge(recipe, state), inputs, None)
    loss = jnp.sum(jnp.where(counts, _losses(recipe, outputs, labels), 0))
    right = jnp.sum(_correct(outputs, labels) & counts, dtype=jnp.int32)
    number = jnp.sum(counts, dtype=jnp.int32)
    number, loss, right = _parallel.total(recipe.mesh, (number, loss, right))
    seen = no_metrics(jnp.isfinite(loss))._replace(
        minibatches=jnp.int32(1), examples=number, loss_sum=loss, correct=right
    )
    return state, metrics.add(seen)


def _losses(recipe: Recipe, outputs: Any, labels: Any) -> jax.Array:
    """The loss of each example, `[N]`, checked: a mean over the batch would count filling."""
    loss = recipe.loss(outputs, labels)
    size = len(jax.tree.leaves(labels)[0])
    if jnp.shape(loss) != (size,):
        raise ValueError(
            f"loss must give one number per example, shape [{size}], got shape "
            f"{list(jnp.shape(loss))}; take the mean over classes, features or steps only"
        )
    return loss


def examples(state: TrainState, inputs: Any, labels: Any) -> int:
    """Check what a user passes; return the number of examples."""
    check_not_donated(state)
    for name, tree in (("inputs", inputs), ("labels", labels)):
        for leaf in jax.tree.leaves(tree):
            if not getattr(leaf, "shape", ()):
                raise TypeError(
                    f"{name} must be an array [n, ...] or a pytree of arrays, got {leaf!r} "
                    f"({type(leaf).__name__}) in it; make an array, e.g. jnp.asarray({name})"
                )
    shapes = [[list(leaf.shape) for leaf in jax.tree.leaves(tree)] for tree in (inputs, labels)]
    sizes = {shape[0] for shape in itertools.chain(*shapes)}
    if not all(shapes) or len(sizes) != 1 or 0 in sizes:
        some = [", ".join(map(str, few[:4])) or "none" for few in shapes]
        raise ValueError(
            "inputs and labels must hold the same number n of examples, at least one, got shapes "
            f"{' and '.join(some)}; make one array of a list of examples, e.g. by np.stack"
        )
    return int(sizes.pop())


def _transform(
    optimizer: optax.GradientTransformation, state: TrainState, offered: dict[str, Any]
) -> tuple[optax.Params, optax.OptState]:
    """Call the optimiser with the offered arguments for which it asks."""
    asked = inspect.signature(optimizer.update).parameters
    transform = functools.partial(optimizer.update, offered["grad"], state.opt_state, state.params)
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in asked.values()):
        return transform(**{name: offered[name] for name in asked if name in offered})
    # A chain takes any argument and passes it to its members, which may refuse it and cannot be
    # seen. Optax's line searches refuse all but the first three.
    for names in (list(offered), list(offered)[:3]):
        try:
            return transform(**{name: offered[name] for name in names})
        except TypeError as error:
            if "unexpected keyword argument" not in str(error).lower():
                raise
    return transform()


def all_finite(tree: Any, before: Any = None) -> jax.Array:
    """Return whether all numbers are finite; with `before`, all that were so before."""
    finite = jnp.bool_(True)
    earlier = itertools.repeat(0.0) if before is None else jax.tree.leaves(before)
    for new, old in zip(jax.tree.leaves(tree), earlier, strict=False):
        if jnp.issubdtype(new.dtype, jnp.inexact):
            finite &= jnp.all(jnp.isfinite(new) | ~jnp.isfinite(old))
    return finite


def _correct(outputs: Any, labels: Any) -> jax.Array:
    """True for each example that is classified correctly; False if labels are not class numbers.

    Outputs of every step are averaged.
    """
    if not are_classes(labels):
        return jnp.zeros(len(jax.tree.leaves(labels)[0]), bool)
    shape: tuple[int, ...] = getattr(outputs, "shape", ())
    if len(shape) not in (2, 3) or shape[-1] < 2:
        raise ValueError(
            "for class numbers as labels the model must return [N, classes] or [T, N, classes], "
            f"got {list(shape) or type(outputs).__name__}; for another task give floating targets"
        )
    return losses.correct(outputs.mean(0) if outputs.ndim == 3 else outputs, labels)


def for_labels(metrics: Metrics, labels: Any) -> Metrics:
    """Leave out the number of correct classifications if labels are not class numbers."""
    return metrics if are_classes(labels) else metrics._replace(correct=None)


def are_classes(labels: Any) -> bool:
    """Return whether labels are one array `[N]` of integers, and so class numbers."""
    shape = getattr(labels, "shape", ())  # a tree of targets has none
    return len(shape) == 1 and jnp.issubdtype(labels.dtype, jnp.integer)


def _run(recipe: Recipe, model: Any, inputs: Any, key: jax.Array | None) -> tuple[Any, Any]:
    """The outputs of a model and its running statistics after them."""
    made = recipe.to_sequence(inputs)
    xs = made if isinstance(made, tuple) else (made,)
    if not isinstance(model, nn.Module):
        before = dict(jax.tree.leaves_with_path(model))
        outputs = model(*xs)
        for path, leaf in jax.tree.leaves_with_path(model):
            if before.get(path, leaf) is not leaf:
                raise ValueError(
                    f"{type(model).__name__} changes its variable {jax.tree_util.keystr(path)} "
                    "when it is called, which would be lost: keep state in the carry of a cell, "
                    "and use the BatchNorm and Dropout of jaxsnn.nn instead of Flax's"
                )
    elif len(xs) > 2:
        raise ValueError(
            f"to_sequence must return xs or (xs, mask) for an nn.Module, got {len(xs)} arrays"
        )
    else:
        xs, mask = (*xs, None)[:2]
        axis = None if recipe.mesh is None else _parallel.AXIS
        _, outputs, *extras = nn.unroll(model, xs, mask=mask, key=key, axis_name=axis)
        model = extras[0].module if extras else model
    return outputs, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))
