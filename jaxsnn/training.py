"""Training: pure steps, and whole epochs as one compiled, donated call each.

The data set lives on the device. One call to `train_epoch` shuffles it, gathers minibatches and
updates the parameters for a whole epoch, without coming back to Python in between.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxsnn import _checks, losses

Params = Any  # nested dict of arrays


class TrainState(NamedTuple):
    """Everything that changes while training, and nothing else. All leaves are arrays.

    Attributes:
        params: parameters of the model, a nested dict of arrays.
        opt_state: state of the optimiser.
        key: random key of the run; the order of epoch e is drawn from `fold_in(key, e)`.
        epoch: number of epochs trained, int32.
        best_accuracy: best test accuracy so far, float32; -1 before the first test.
    """

    params: Params
    opt_state: optax.OptState
    key: jax.Array
    epoch: jax.Array
    best_accuracy: jax.Array


class Metrics(NamedTuple):
    """Means over the examples seen, and whether loss and parameters are finite.

    Attributes:
        loss: mean loss.
        accuracy: share of examples classified correctly.
        finite: whether loss and parameters are all finite. Spiking networks need this: a
            membrane potential of NaN does not fire, so the loss of a ruined network is finite.
    """

    loss: jax.Array
    accuracy: jax.Array
    finite: jax.Array


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What stays fixed while training; hashable, so that `jax.jit` compiles once for it.

    Attributes:
        graphdef: the model without its parameters, from `create`.
        optimizer: an optax optimiser.
        loss: `(outputs, labels) -> [N]`, one number per example, e.g. `losses.firing_rate_mse`.
        to_sequence: makes the model's input of a minibatch of `inputs`, e.g. `data.columns`.
        batch_size: examples per minibatch.
    """

    graphdef: nnx.GraphDef[Any]
    optimizer: optax.GradientTransformation
    loss: Callable[[jax.Array, jax.Array], jax.Array]
    to_sequence: Callable[[jax.Array], jax.Array]
    batch_size: int

    def __post_init__(self) -> None:
        _checks.size("batch_size", self.batch_size)


def create(
    model: nnx.Module,
    optimizer: optax.GradientTransformation,
    *,
    loss: Callable[[jax.Array, jax.Array], jax.Array] = losses.firing_rate_mse,
    to_sequence: Callable[[jax.Array], jax.Array],
    batch_size: int,
    seed: int,
) -> tuple[Recipe, TrainState]:
    """Splits a model into what stays fixed while training and what changes.

    Args:
        model: a module with `model(xs) -> outputs [N, classes]`; its parameters are copied.
        optimizer: an optax optimiser; keep it for a second run, since to JAX one that is
            built anew is another, which compiles again.
        loss: `(outputs, labels) -> [N]`, one number per example.
        to_sequence: makes the model's `xs` of a minibatch of inputs.
        batch_size: examples per minibatch.
        seed: of the order of the data.

    Returns:
        The recipe and the first state.

    Raises:
        ValueError: the model holds variables that are not parameters, `batch_size` is below 1,
            or `seed` is not one of the 2^32 that JAX tells apart.
    """
    graphdef, params = nnx.split(model)
    others = {
        type(v).__name__ for _, v in nnx.to_flat_state(params) if not isinstance(v, nnx.Param)
    }
    if others:
        raise ValueError(
            f"{type(model).__name__} holds variables that are not nnx.Param "
            f"({', '.join(sorted(others))}): state must be a carry, not a variable; take those "
            "layers out"
        )
    arrays = jax.tree.map(jnp.copy, nnx.to_pure_dict(params))
    recipe = Recipe(graphdef, optimizer, loss, to_sequence, batch_size)
    state = TrainState(
        params=arrays,
        opt_state=optimizer.init(arrays),
        key=jax.random.key(_checks.seed(seed)),
        epoch=jnp.zeros((), jnp.int32),
        best_accuracy=jnp.full((), -1, jnp.float32),
    )
    return recipe, state


def merge(recipe: Recipe, params: Params) -> Any:
    """The model of the recipe with these parameters."""
    return nnx.merge(recipe.graphdef, params)


def train_step(
    recipe: Recipe, state: TrainState, inputs: jax.Array, labels: jax.Array
) -> tuple[TrainState, tuple[jax.Array, jax.Array]]:
    """One minibatch: forward, backward, update. Pure; jit it or scan it.

    Args:
        recipe: from `create`.
        state: of the step before.
        inputs: a minibatch of inputs as `recipe.to_sequence` takes them, `[N, ...]`.
        labels: `[N]`, integers.

    Returns:
        The new state, and `(mean loss, number of correct examples)` before the update.
    """

    def objective(params: Params) -> tuple[jax.Array, jax.Array]:
        outputs = merge(recipe, params)(recipe.to_sequence(inputs))
        return jnp.mean(_losses(recipe, outputs, labels)), outputs

    (loss, outputs), grads = jax.value_and_grad(objective, has_aux=True)(state.params)
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes in its schedules and adam
        updates, opt_state = recipe.optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
    right = jnp.sum(losses.correct(outputs, labels), dtype=jnp.int32)
    return state._replace(params=params, opt_state=opt_state), (loss, right)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def train_epoch(
    recipe: Recipe, state: TrainState, inputs: jax.Array, labels: jax.Array
) -> tuple[TrainState, Metrics]:
    """One pass over the data in a fresh order; the last partial minibatch is dropped.

    Epoch e visits the examples in the order `permutation(fold_in(key, e), n)`.

    Args:
        recipe: from `create`.
        state: of the epoch before; donated, so use the one returned from now on.
        inputs: the whole training set, `[n, ...]`.
        labels: `[n]`, integers.

    Returns:
        The new state, and the metrics of the minibatches as they were met.

    Raises:
        ValueError: inputs and labels differ in length or are fewer than one minibatch.
    """
    n, size = _examples(inputs, labels), recipe.batch_size
    if n < size:
        raise ValueError(
            f"batch_size={size} is larger than the training set of {n} examples; choose at most {n}"
        )
    steps = n // size
    order = jax.random.permutation(jax.random.fold_in(state.key, state.epoch), n)

    def body(state: TrainState, batch: jax.Array) -> tuple[TrainState, tuple[jax.Array, jax.Array]]:
        return train_step(recipe, state, inputs[batch], labels[batch])

    state, (loss, right) = jax.lax.scan(body, state, order[: steps * size].reshape(steps, size))
    state = state._replace(epoch=state.epoch + 1)
    return state, _metrics(jnp.mean(loss), jnp.sum(right), steps * size, state.params)


@functools.partial(jax.jit, static_argnums=0)
def evaluate(recipe: Recipe, params: Params, inputs: jax.Array, labels: jax.Array) -> Metrics:
    """Loss and accuracy over all examples, whatever the batch size.

    Args:
        recipe: from `create`.
        params: e.g. `state.params`.
        inputs: `[n, ...]`.
        labels: `[n]`, integers.

    Raises:
        ValueError: inputs and labels differ in length or are empty.
    """
    n = _examples(inputs, labels)
    size = min(recipe.batch_size, n)
    steps = -(-n // size)
    model = merge(recipe, params)

    def body(_: None, batch: jax.Array) -> tuple[None, tuple[jax.Array, jax.Array]]:
        seen = jnp.minimum(batch, n - 1)  # the last minibatch is filled up, and its filling
        outputs = model(recipe.to_sequence(inputs[seen]))  # is not counted
        loss = jnp.where(batch < n, _losses(recipe, outputs, labels[seen]), 0)
        right = losses.correct(outputs, labels[seen]) & (batch < n)
        return None, (jnp.sum(loss), jnp.sum(right, dtype=jnp.int32))

    _, (loss, right) = jax.lax.scan(body, None, jnp.arange(steps * size).reshape(steps, size))
    return _metrics(jnp.sum(loss) / n, jnp.sum(right), n, params)


def cosine_schedule(lr: float, epochs: int, steps_per_epoch: int) -> optax.Schedule:
    """Learning rate of a half cosine over the run, constant within an epoch.

        lr[e] = lr (1 + cos(pi e / epochs)) / 2

    Args:
        lr: learning rate of the first epoch.
        epochs: length of the run.
        steps_per_epoch: minibatches per epoch.

    Returns:
        An optax schedule: step count -> learning rate.
    """
    table = cosine_learning_rates(lr, epochs).astype(np.float32)

    def schedule(count: Any) -> jax.Array:
        return jnp.asarray(table)[jnp.minimum(count // steps_per_epoch, epochs - 1)]

    return schedule


def cosine_learning_rates(lr: float, epochs: int) -> np.ndarray:
    """The learning rate of each epoch, `[epochs]`, float64; see `cosine_schedule`."""
    return lr * (1 + np.cos(np.pi * np.arange(epochs) / epochs)) / 2


def _losses(recipe: Recipe, outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """The loss of each example, `[N]`, checked: a mean over the batch would count filling."""
    loss = recipe.loss(outputs, labels)
    if loss.shape != labels.shape:
        raise ValueError(
            f"loss must give one number per example, shape {list(labels.shape)}, got shape "
            f"{list(loss.shape)}; take the mean over classes only"
        )
    return loss


def _examples(inputs: jax.Array, labels: jax.Array) -> int:
    if labels.ndim != 1 or inputs.shape[:1] != labels.shape or not len(labels):
        raise ValueError(
            "inputs [n, ...] and labels [n] must hold the same number of examples, at least one; "
            f"got shapes {list(inputs.shape)} and {list(labels.shape)}"
        )
    return len(labels)


def _metrics(loss: jax.Array, right: jax.Array, n: int, params: Params) -> Metrics:
    finite = jnp.isfinite(loss)
    for p in jax.tree.leaves(params):
        finite &= jnp.all(jnp.isfinite(p))
    return Metrics(loss, right.astype(jnp.float32) / n, finite)
