"""One minibatch: forward, backward, update; and the test of one."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Key

from jaxsnn import losses, nn
from jaxsnn._captured import no_captured_variables
from jaxsnn._norm import global_norm
from jaxsnn.training import _shares
from jaxsnn.training._metrics import StepMetrics, Sums, all_finite, are_classes
from jaxsnn.training._recipe import (
    Params,
    Recipe,
    Tally,
    TrainState,
    merge,
    refuse_donated,
)


def train_step(
    recipe: Recipe,
    state: TrainState,
    inputs: Any,
    labels: Any,
    key: Key[Array, ""] | None = None,
) -> tuple[TrainState, StepMetrics]:
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
            f"train_step is for a recipe made without devices=, this one has {recipe.shares}; use "
            "train_epoch"
        )
    examples(inputs, labels)
    refuse_donated(state)
    return update(recipe, state, inputs, labels, key)


@no_captured_variables(static=1)
def update(
    recipe: Recipe, state: TrainState, inputs: Any, labels: Any, key: jax.Array | None = None
) -> tuple[TrainState, StepMetrics]:
    """`train_step`; with several devices, on each with its part of the minibatch."""
    if key is None:  # no epoch has the number 2^32 - 1
        key = jax.random.fold_in(jax.random.fold_in(state.key, 2**32 - 1), state.step)

    def objective(params: Params) -> tuple[jax.Array, tuple[Any, Any]]:
        model = merge(recipe, state._replace(params=params))
        outputs, statistics = _run(recipe, model, inputs, key)
        return jnp.mean(_losses(recipe, outputs, labels)), (outputs, statistics)

    gradient = jax.value_and_grad(objective, has_aux=True)
    (loss, (outputs, statistics)), grads = gradient(state.params)
    right = None
    if are_classes(labels):  # float32, so that it joins the same all-reduce
        right = jnp.sum(_correct(outputs, labels), dtype=jnp.float32)
    loss, grads, right = _shares.total(recipe.mesh, (loss, grads, right))
    if recipe.shares > 1:
        loss, grads = jax.tree.map(lambda array: array / recipe.shares, (loss, grads))
    value_fn = _shares.mean_of(recipe.mesh, lambda params: objective(params)[0])
    offered = {
        "value": loss,
        "grad": grads,
        "value_fn": value_fn,
        "grad_fn": lambda params, step: jax.grad(value_fn)(params),
        "obj_fn": value_fn,
    }
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes in its schedules and adam
        updates, opt_state = _transform(recipe.optimizer, grads, state, offered)
        params = optax.apply_updates(state.params, updates)
    norm = global_norm(grads)
    after = state._replace(params=params, statistics=statistics, opt_state=opt_state)
    finite = jnp.isfinite(loss) & jnp.isfinite(norm) & all_finite(after)
    finite &= _stayed_finite(state.opt_state, opt_state)
    if recipe.skip_nonfinite:
        after = jax.tree.map(lambda new, old: jnp.where(finite, new, old), after, state)
    if norm.dtype != jnp.float32:
        bounded = jnp.minimum(norm, float(np.finfo(np.float32).max))
        norm = jnp.where(jnp.isfinite(norm), bounded, norm).astype(jnp.float32)
    right = None if right is None else right.astype(jnp.int32)
    return after._replace(step=state.step + 1), StepMetrics(loss, right, norm, finite)


def counted_update(recipe: Recipe, state: TrainState, inputs: Any, labels: Any) -> TrainState:
    """Train on a minibatch of an epoch: `update`, counted in the tally."""
    # Keeps XLA from fusing the fetching of a minibatch with the computation on it, so that streamed
    # epochs and epochs on the device are bitwise equal.
    inputs, labels = jax.lax.optimization_barrier((inputs, labels))
    state, seen = update(recipe, state, inputs, labels)
    return state._replace(tally=_count(state.tally, seen, recipe.skip_nonfinite))


@no_captured_variables(static=1)
def add_test(
    recipe: Recipe, model: Any, sums: Sums, inputs: Any, labels: Any, counts: jax.Array
) -> Sums:
    """Adds a minibatch of a test to its sums; of the examples `[N]`, those that `counts` names."""
    inputs, labels = jax.lax.optimization_barrier((inputs, labels))
    outputs, _ = _run(recipe, model, inputs, None)
    loss = jnp.sum(jnp.where(counts, _losses(recipe, outputs, labels), 0))
    right = jnp.zeros((), jnp.int32)
    if are_classes(labels):
        right = jnp.sum(_correct(outputs, labels) & counts, dtype=jnp.int32)
    loss, right = _shares.total(recipe.mesh, (loss, right))
    return Sums(sums.loss + loss.astype(sums.loss.dtype), sums.correct + right)


def _count(tally: Tally, seen: StepMetrics, skip: bool) -> Tally:
    """The tally with one more minibatch; a skipped one adds neither loss nor examples."""
    counts = seen.finite if skip else jnp.bool_(True)
    first = ~seen.finite & (tally.first_nonfinite < 0)
    norm = jnp.where(jnp.isfinite(seen.gradient_norm), seen.gradient_norm, 0)
    correct = 0 if seen.correct is None else jnp.where(counts, seen.correct, 0)
    return Tally(
        minibatches=tally.minibatches + 1,
        loss=tally.loss + jnp.where(counts, seen.loss, 0).astype(tally.loss.dtype),
        correct=tally.correct + correct,
        gradient_norm=jnp.maximum(tally.gradient_norm, norm),
        skipped=tally.skipped + (~counts).astype(jnp.int32),
        first_nonfinite=jnp.where(first, tally.minibatches, tally.first_nonfinite),
        nonfinite_norm=jnp.where(first, seen.gradient_norm, tally.nonfinite_norm),
    )


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


def examples(inputs: Any, labels: Any) -> int:
    """The number of examples, checked."""
    for name, tree in (("inputs", inputs), ("labels", labels)):
        for leaf in jax.tree.leaves(tree):
            if not getattr(leaf, "shape", ()):
                raise TypeError(
                    f"{name} must be an array [n, ...] or a pytree of arrays, or have a shape as "
                    f"arrays do, got {leaf!r} ({type(leaf).__name__}) in it; make an array of it, "
                    f"e.g. jnp.asarray({name})"
                )
    shapes, targets = ([leaf.shape for leaf in jax.tree.leaves(t)] for t in (inputs, labels))
    sizes = {shape[0] for shape in shapes + targets}
    if not shapes or not targets or len(sizes) != 1 or 0 in sizes:
        some = [", ".join(map(str, map(list, few[:4]))) or "none" for few in (shapes, targets)]
        raise ValueError(
            "inputs [n, ...] and labels [n, ...] must hold the same number of examples, at least "
            f"one; got shapes {' and '.join(some)}; a list of arrays, one per example, must be "
            "made one array, e.g. by np.stack"
        )
    return int(sizes.pop())


def _transform(
    optimizer: optax.GradientTransformation,
    grads: Params,
    state: TrainState,
    offered: dict[str, Any],
) -> tuple[Params, optax.OptState]:
    """Call the optimiser with those of the offered arguments for which it asks."""
    parameters = inspect.signature(optimizer.update).parameters
    choices = [[name for name in parameters if name in offered]]
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        # A chain takes whatever comes, but its members may not, and they cannot be seen. Optax's
        # line searches refuse all but the first three.
        choices = [list(offered), list(offered)[:3]]
    errors = []
    for names in [*choices, []]:
        given = {name: offered[name] for name in names}
        try:
            return optimizer.update(grads, state.opt_state, state.params, **given)
        except TypeError as error:
            errors.append(error)
            if "unexpected keyword argument" not in str(error).lower():
                break
    raise errors[0] if len(errors) > len(choices) else errors[-1]


def _stayed_finite(before: optax.OptState, after: optax.OptState) -> jax.Array:
    """Return whether every number that was finite still is; infinity may be a first value."""
    stayed = jnp.bool_(True)
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        if jnp.issubdtype(new.dtype, jnp.inexact):
            stayed &= jnp.all(jnp.isfinite(new) | ~jnp.isfinite(old))
    return stayed


def _check_unchanged(model: Any, variables: dict[Any, Any]) -> None:
    """Raise if a call of the model has changed its variables, which would be lost."""
    for path, leaf in jax.tree.leaves_with_path(model):
        if variables.get(path, leaf) is not leaf:
            raise ValueError(
                f"{type(model).__name__} changes its variable {jax.tree_util.keystr(path)} when it "
                "is called, and the change would be lost: keep state in the carry of a cell, and "
                "use the BatchNorm and Dropout of jaxsnn.nn instead of Flax's"
            )


def _correct(outputs: Any, labels: jax.Array) -> jax.Array:
    """Whether each example is classified correctly; outputs of every step are averaged."""
    shape: tuple[int, ...] = getattr(outputs, "shape", ())
    if len(shape) not in (2, 3) or shape[-1] < 2:
        raise ValueError(
            "labels [N] of integers are class numbers, so the model must return outputs [N, "
            f"classes] or [T, N, classes], got {list(shape) or type(outputs).__name__}; for "
            "another task give floating targets, e.g. labels.astype(jnp.float32)"
        )
    return losses.correct(outputs.mean(0) if outputs.ndim == 3 else outputs, labels)


def _run(recipe: Recipe, model: Any, inputs: Any, key: jax.Array | None) -> tuple[Any, Any]:
    """The outputs of a model and its running statistics after them."""
    xs = recipe.to_sequence(inputs)
    xs = xs if isinstance(xs, tuple) else (xs,)
    if isinstance(model, nn.Module) and len(xs) > 2:
        raise ValueError(
            f"to_sequence must return xs or (xs, mask) for a {type(model).__name__}, which is an "
            f"nn.Module; got {len(xs)} arrays"
        )
    mask = xs[1] if len(xs) > 1 else None
    if not isinstance(model, nn.Module):
        variables = dict(jax.tree.leaves_with_path(model))
        outputs = model(*xs)
        _check_unchanged(model, variables)
    elif key is None:
        outputs = nn.unroll(model, xs[0], mask=mask)[1]
    else:
        _, outputs, extras = nn.unroll(model, xs[0], mask=mask, key=key, axis_name=recipe.axis_name)
        model = extras.module
    return outputs, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))
