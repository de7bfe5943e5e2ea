"""Training: pure steps, and whole epochs as one compiled, donated call each.

The data set lives on the device. One call to `train_epoch` shuffles it, gathers minibatches and
updates the parameters for a whole epoch, without coming back to Python in between.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxsnn import _checks, losses
from jaxsnn.nn import needs_training_mode
from jaxsnn.nn._statistics import shapes

Params = Any  # nested dict of arrays


class TrainState(NamedTuple):
    """Everything that changes while training, and nothing else. All leaves are arrays.

    Attributes:
        params: parameters of the model, a nested dict of arrays.
        statistics: running statistics of its normalisations, likewise; `{}` if it has none.
        opt_state: state of the optimiser.
        key: random key of the run; the order of epoch e is drawn from `fold_in(key, e)`.
        epoch: number of epochs trained, int32.
        best_accuracy: best test accuracy so far, float32; -1 before the first test.
    """

    params: Params
    statistics: Any
    opt_state: optax.OptState
    key: jax.Array
    epoch: jax.Array
    best_accuracy: jax.Array


class Metrics(NamedTuple):
    """Means over the examples seen, and whether loss, parameters and statistics are finite.

    Attributes:
        loss: mean loss.
        accuracy: share of examples classified correctly.
        finite: whether loss, parameters and running statistics are all finite. Spiking networks
            need this: a membrane potential of NaN does not fire, so the loss of a ruined network
            is finite.
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
        to_sequence: makes the model's input of a minibatch of `inputs`, e.g. `data.columns`; a
            tuple is several inputs, e.g. a padded sequence and its mask.
        batch_size: examples per minibatch.
    """

    graphdef: nnx.GraphDef[Any]
    optimizer: optax.GradientTransformation
    loss: Callable[[jax.Array, jax.Array], jax.Array]
    to_sequence: Callable[[Any], Any]
    batch_size: int

    def __post_init__(self) -> None:
        _checks.size("batch_size", self.batch_size)


def create(
    model: nnx.Module,
    optimizer: optax.GradientTransformation,
    *,
    loss: Callable[[jax.Array, jax.Array], jax.Array] = losses.firing_rate_mse,
    to_sequence: Callable[[Any], Any],
    batch_size: int,
    seed: int,
) -> tuple[Recipe, TrainState]:
    """Splits a model into what stays fixed while training and what changes.

    Args:
        model: a module with `model(xs) -> outputs`, one number per class, `[N, classes]` or, if
            the loss looks at every step, `[T, N, classes]`; its parameters are copied. One that
            behaves differently in training (dropout, batch normalisation) takes a random key,
            `model(xs, training=key) -> (outputs, statistics)`, as `jaxsnn.models.Classifier` does.
        optimizer: an optax optimiser; keep it for a second run, since to JAX one that is
            built anew is another, which compiles again.
        loss: `(outputs, labels) -> [N]`, one number per example.
        to_sequence: makes the model's `xs` of a minibatch of inputs.
        batch_size: examples per minibatch.
        seed: of the order of the data.

    Returns:
        The recipe and the first state.

    Raises:
        ValueError: the model holds variables that are neither parameters nor running statistics,
            or layers that behave differently in training though its call takes no `training`;
            `batch_size` is below 1, or `seed` is not one of the 2^32 that JAX tells apart.
    """
    graphdef, params, statistics, rest = nnx.split(model, nnx.Param, nnx.BatchStat, ...)  # type: ignore[misc]
    others = {type(v).__name__ for _, v in nnx.to_flat_state(rest)}
    if others:
        raise ValueError(
            f"{type(model).__name__} holds variables that are neither nnx.Param nor nnx.BatchStat "
            f"({', '.join(sorted(others))}): state must be a carry, not a variable; take those "
            "layers out"
        )
    arrays, running = (
        jax.tree.map(jnp.copy, nnx.to_pure_dict(part)) for part in (params, statistics)
    )
    if (needs_training_mode(model) or running) and not _takes_training(model):
        raise ValueError(
            f"{type(model).__name__} has dropout or batch normalisation inside, but its call takes "
            "no training=key; see jaxsnn.models.Classifier, which does"
        )
    recipe = Recipe(graphdef, optimizer, loss, to_sequence, batch_size)
    state = TrainState(
        params=arrays,
        statistics=running,
        opt_state=optimizer.init(arrays),
        key=jax.random.key(_checks.seed(seed)),
        epoch=jnp.zeros((), jnp.int32),
        best_accuracy=jnp.full((), -1, jnp.float32),
    )
    return recipe, state


def merge(recipe: Recipe, state: TrainState) -> Any:
    """The model of the recipe as it is in this state.

    Args:
        recipe: from `create`.
        state: its parameters and running statistics are used.
    """
    return nnx.merge(recipe.graphdef, state.params, state.statistics)


def train_step(
    recipe: Recipe,
    state: TrainState,
    inputs: Any,
    labels: jax.Array,
    key: jax.Array | None = None,
) -> tuple[TrainState, tuple[jax.Array, jax.Array]]:
    """One minibatch: forward, backward, update. Pure; jit it or scan it.

    Args:
        recipe: from `create`.
        state: of the step before.
        inputs: a minibatch of inputs as `recipe.to_sequence` takes them, `[N, ...]`.
        labels: `[N]`, integers.
        key: random key of this step, for models that behave differently in training.

    Returns:
        The new state, and `(mean loss, number of correct examples)` before the update.

    Raises:
        TypeError: in training the model returns no pair.
        ValueError: the model needs a key and there is none, it returns other running statistics
            than it has, or the loss is not one per example.
    """

    def objective(params: Params) -> tuple[jax.Array, tuple[jax.Array, Any]]:
        model = merge(recipe, state._replace(params=params))
        xs = _as_arguments(recipe.to_sequence(inputs))
        if not _takes_training(model):
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
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes in its schedules and adam
        updates, opt_state = recipe.optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
    right = jnp.sum(_correct(outputs, labels), dtype=jnp.int32)
    state = state._replace(params=params, statistics=statistics, opt_state=opt_state)
    return state, (loss, right)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def train_epoch(
    recipe: Recipe, state: TrainState, inputs: Any, labels: jax.Array
) -> tuple[TrainState, Metrics]:
    """One pass over the data in a fresh order; the last partial minibatch is dropped.

    Epoch e visits the examples in the order `permutation(fold_in(key, e), n)`.

    Args:
        recipe: from `create`.
        state: of the epoch before; donated, so use the one returned from now on.
        inputs: the whole training set, `[n, ...]`, or a pytree of such arrays.
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
    keys = None
    if _takes_training(merge(recipe, state)):  # no epoch has the number 2^32 - 1
        keys = jax.random.fold_in(jax.random.fold_in(state.key, 2**32 - 1), state.epoch)
        keys = jax.random.split(keys, steps)

    def body(state: TrainState, now: Any) -> tuple[TrainState, tuple[jax.Array, jax.Array]]:
        batch, key = now
        return train_step(recipe, state, _pick(inputs, batch), labels[batch], key)

    batches = order[: steps * size].reshape(steps, size)
    state, (loss, right) = jax.lax.scan(body, state, (batches, keys))
    state = state._replace(epoch=state.epoch + 1)
    return state, _metrics(jnp.mean(loss), jnp.sum(right), steps * size, state)


@functools.partial(jax.jit, static_argnums=0)
def evaluate(recipe: Recipe, state: TrainState, inputs: Any, labels: jax.Array) -> Metrics:
    """Loss and accuracy over all examples, whatever the batch size.

    Args:
        recipe: from `create`.
        state: its parameters and running statistics are used.
        inputs: `[n, ...]`, or a pytree of such arrays.
        labels: `[n]`, integers.

    Raises:
        ValueError: inputs and labels differ in length or are empty.
    """
    n = _examples(inputs, labels)
    size = min(recipe.batch_size, n)
    steps = -(-n // size)
    model = merge(recipe, state)

    def body(_: None, batch: jax.Array) -> tuple[None, tuple[jax.Array, jax.Array]]:
        seen = jnp.minimum(batch, n - 1)  # the last minibatch is filled up, and its filling
        xs = recipe.to_sequence(_pick(inputs, seen))  # is not counted
        outputs = model(*_as_arguments(xs))
        loss = jnp.where(batch < n, _losses(recipe, outputs, labels[seen]), 0)
        right = _correct(outputs, labels[seen]) & (batch < n)
        return None, (jnp.sum(loss), jnp.sum(right, dtype=jnp.int32))

    _, (loss, right) = jax.lax.scan(body, None, jnp.arange(steps * size).reshape(steps, size))
    return _metrics(jnp.sum(loss) / n, jnp.sum(right), n, state)


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


def _takes_training(model: Any) -> bool:
    """Whether the model behaves differently in training."""
    return "training" in inspect.signature(type(model).__call__).parameters


def _as_arguments(xs: Any) -> tuple[Any, ...]:
    return xs if isinstance(xs, tuple) else (xs,)


def _pick(inputs: Any, batch: jax.Array) -> Any:
    return jax.tree.map(lambda array: array[batch], inputs)


def _examples(inputs: Any, labels: jax.Array) -> int:
    shapes = [array.shape for array in jax.tree.leaves(inputs)]
    if (
        labels.ndim != 1
        or not len(labels)
        or not shapes
        or any(shape[:1] != labels.shape for shape in shapes)
    ):
        raise ValueError(
            "inputs [n, ...] and labels [n] must hold the same number of examples, at least one; "
            f"got shapes {', '.join(str(list(shape)) for shape in shapes)} and {list(labels.shape)}"
        )
    return len(labels)


def _metrics(loss: jax.Array, right: jax.Array, n: int, state: TrainState) -> Metrics:
    finite = jnp.isfinite(loss)
    for array in jax.tree.leaves((state.params, state.statistics)):
        finite &= jnp.all(jnp.isfinite(array))
    return Metrics(loss, right.astype(jnp.float32) / n, finite)
