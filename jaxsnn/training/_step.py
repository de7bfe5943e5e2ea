"""One minibatch: forward, backward, update; and the test of one."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Integer, Key

from jaxsnn import losses
from jaxsnn._captured import no_captured_variables
from jaxsnn.nn._statistics import shapes
from jaxsnn.training import _shares
from jaxsnn.training._metrics import StepMetrics, Sums, all_finite
from jaxsnn.training._recipe import Params, Recipe, Tally, TrainState, merge, takes_training


def train_step(
    recipe: Recipe,
    state: TrainState,
    inputs: Any,
    labels: Integer[Array, " N"],
    key: Key[Array, ""] | None = None,
) -> tuple[TrainState, StepMetrics]:
    """One minibatch: forward, backward, update. Pure; jit it or scan it.

    Args:
        recipe: from `create`, of one device.
        state: of the step before.
        inputs: a minibatch of inputs as `recipe.to_sequence` takes them, `[N, ...]`.
        labels: `[N]`, integers.
        key: random key of this step, for models that behave differently in training.

    Returns:
        The new state, and the figures of the minibatch.

    Raises:
        TypeError: in training the model returns no pair.
        ValueError: the model needs a key and there is none, it returns other running statistics
            than it has, the loss is not one per example, or the recipe has several devices.
    """
    if recipe.mesh is not None:
        raise ValueError(
            f"train_step is for a recipe made without devices=, this one has {recipe.shares}; use "
            "train_epoch"
        )
    return update(recipe, state, inputs, labels, key)


@no_captured_variables(static=1)
def update(
    recipe: Recipe, state: TrainState, inputs: Any, labels: jax.Array, key: jax.Array | None
) -> tuple[TrainState, StepMetrics]:
    """`train_step`; with several devices, on each with its part of the minibatch."""

    def objective(params: Params) -> tuple[jax.Array, tuple[jax.Array, Any]]:
        model = merge(recipe, state._replace(params=params))
        xs = _as_arguments(recipe.to_sequence(inputs))
        if not takes_training(model):
            outputs, statistics = model(*xs), state.statistics
        elif key is None:
            raise ValueError(
                f"{type(model).__name__} behaves differently in training: give train_step a "
                "random key"
            )
        else:
            outputs, statistics = _check_trained(model(*xs, training=key), state)
        return jnp.mean(_losses(recipe, outputs, labels)), (outputs, statistics)

    gradient = jax.value_and_grad(objective, has_aux=True)
    (loss, (outputs, statistics)), grads = gradient(state.params)
    right = jnp.sum(_correct(outputs, labels), dtype=jnp.float32)  # as what it is sent with
    loss, grads, right = _shares.total(recipe.mesh, (loss, grads, right))
    if recipe.shares > 1:
        loss, grads = jax.tree.map(lambda array: array / recipe.shares, (loss, grads))
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes in its schedules and adam
        updates, opt_state = recipe.optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        norm = optax.tree.norm(grads).astype(jnp.float32)
    after = state._replace(params=params, statistics=statistics, opt_state=opt_state)
    finite = jnp.isfinite(loss) & jnp.isfinite(norm) & all_finite(after)
    if recipe.skip_nonfinite:
        after = jax.tree.map(lambda new, old: jnp.where(finite, new, old), after, state)
    seen = StepMetrics(loss, right.astype(jnp.int32), norm, finite)
    return after._replace(step=state.step + 1), seen


def counted_update(recipe: Recipe, state: TrainState, inputs: Any, labels: jax.Array) -> TrainState:
    """A minibatch of an epoch: `update` with the key of the step, counted in the tally."""
    # So that XLA cannot make one of fetching a minibatch and computing on it: however it was
    # fetched, what follows is compiled alike.
    inputs, labels = jax.lax.optimization_barrier((inputs, labels))
    key = None
    if takes_training(merge(recipe, state)):  # no epoch has the number 2^32 - 1
        key = jax.random.fold_in(jax.random.fold_in(state.key, 2**32 - 1), state.step)
    state, seen = update(recipe, state, inputs, labels, key)
    return state._replace(tally=_count(state.tally, seen, recipe.skip_nonfinite))


@no_captured_variables(static=1)
def add_test(
    recipe: Recipe, model: Any, sums: Sums, inputs: Any, labels: jax.Array, counts: jax.Array
) -> Sums:
    """Adds a minibatch of a test to its sums; of the examples `[N]`, those that `counts` names."""
    inputs, labels = jax.lax.optimization_barrier((inputs, labels))
    outputs = model(*_as_arguments(recipe.to_sequence(inputs)))
    loss = jnp.sum(jnp.where(counts, _losses(recipe, outputs, labels), 0))
    right = jnp.sum(_correct(outputs, labels) & counts, dtype=jnp.int32)
    loss, right = _shares.total(recipe.mesh, (loss, right))
    return Sums(sums.loss + loss.astype(sums.loss.dtype), sums.correct + right)


def _count(tally: Tally, seen: StepMetrics, skip: bool) -> Tally:
    """The tally with one more minibatch; a skipped one adds neither loss nor examples."""
    counts = seen.finite if skip else jnp.bool_(True)
    first = ~seen.finite & (tally.first_nonfinite < 0)
    norm = jnp.where(seen.finite, seen.gradient_norm, 0)
    return Tally(
        minibatches=tally.minibatches + 1,
        loss=tally.loss + jnp.where(counts, seen.loss, 0).astype(tally.loss.dtype),
        correct=tally.correct + jnp.where(counts, seen.correct, 0),
        gradient_norm=jnp.maximum(tally.gradient_norm, norm),
        skipped=tally.skipped + (~counts).astype(jnp.int32),
        first_nonfinite=jnp.where(first, tally.minibatches, tally.first_nonfinite),
        nonfinite_norm=jnp.where(first, seen.gradient_norm, tally.nonfinite_norm),
    )


def _losses(recipe: Recipe, outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """The loss of each example, `[N]`, checked: a mean over the batch would count filling."""
    loss = recipe.loss(outputs, labels)
    if loss.shape != labels.shape:
        raise ValueError(
            f"loss must give one number per example, shape {list(labels.shape)}, got shape "
            f"{list(loss.shape)}; take the mean over classes only"
        )
    return loss


def _check_trained(returned: Any, state: TrainState) -> tuple[jax.Array, Any]:
    """What a model returns in training: the outputs, and all of its running statistics."""
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise TypeError(
            "a model that takes training=key must then return (outputs, statistics), got "
            f"{jax.tree.structure(returned)}"
        )
    have, got = shapes(state.statistics), shapes(returned[1])
    if have != got:
        raise ValueError(
            f"the running statistics that the model returns in training, {got or 'none'}, are not "
            f"those it has, {have or 'none'}: return those of every unroll(..., training=key), "
            'nested as the model is, e.g. {"stack": extras.statistics}'
        )
    return returned


def _correct(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Whether each example is classified correctly; outputs of every step are averaged."""
    return losses.correct(outputs.mean(0) if outputs.ndim == 3 else outputs, labels)


def _as_arguments(xs: Any) -> tuple[Any, ...]:
    return xs if isinstance(xs, tuple) else (xs,)
