"""What stays fixed while training, what changes, and how both come out of a model."""

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, Integer, Key

from jaxsnn import _checks, losses
from jaxsnn.nn import needs_training_mode
from jaxsnn.training import _shares

Params = Any  # nested dict of arrays


class Tally(NamedTuple):
    """What has been counted in the epoch under way; see `EpochMetrics` for what becomes of it.

    Attributes:
        minibatches: number of minibatches so far, int32.
        loss: sum of their losses, float32.
        correct: number of examples classified correctly, int32.
        gradient_norm: largest norm of a gradient whose update was finite, float32.
        skipped: number of updates left out because they were not finite, int32.
        first_nonfinite: number of the first minibatch whose update was not finite, int32; or -1.
        nonfinite_norm: norm of its gradient, float32; or 0.
    """

    minibatches: Integer[Array, ""]
    loss: Float[Array, ""]
    correct: Integer[Array, ""]
    gradient_norm: Float[Array, ""]
    skipped: Integer[Array, ""]
    first_nonfinite: Integer[Array, ""]
    nonfinite_norm: Float[Array, ""]


class TrainState(NamedTuple):
    """Everything that changes while training, and nothing else. All leaves are arrays.

    Attributes:
        params: parameters of the model, a nested dict of arrays.
        statistics: running statistics of its normalisations, likewise; `{}` if it has none.
        opt_state: state of the optimiser.
        key: random key of the run; the order of epoch e is drawn from `fold_in(key, e)`.
        epoch: number of epochs that have ended, int32.
        step: number of minibatches since the start, int32.
        tally: what has been counted in the epoch under way.
        best_accuracy: best test accuracy so far, float32; -1 before the first test.
    """

    params: Params
    statistics: Any
    opt_state: optax.OptState
    key: Key[Array, ""]
    epoch: Integer[Array, ""]
    step: Integer[Array, ""]
    tally: Tally
    best_accuracy: Float[Array, ""]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What stays fixed while training; hashable, so that `jax.jit` compiles once for it.

    Attributes:
        graphdef: the model without its parameters, from `create`.
        optimizer: an optax optimiser.
        loss: `(outputs, labels) -> [N]`, one number per example, e.g. `losses.firing_rate_mse`.
        to_sequence: makes the model's input of a minibatch of `inputs`, e.g. `data.columns`; a
            tuple is several inputs, e.g. a padded sequence and its mask.
        batch_size: examples per minibatch, on all devices together.
        skip_nonfinite: whether an update that is not finite is left out.
        mesh: the devices among which a minibatch is shared out; None for one device.
    """

    graphdef: nnx.GraphDef[Any]
    optimizer: optax.GradientTransformation
    loss: Callable[[jax.Array, jax.Array], jax.Array]
    to_sequence: Callable[[Any], Any]
    batch_size: int
    skip_nonfinite: bool = False
    mesh: jax.sharding.Mesh | None = None

    def __post_init__(self) -> None:
        _checks.size("batch_size", self.batch_size)
        _checks.boolean("skip_nonfinite", self.skip_nonfinite)
        if self.batch_size % self.shares:
            raise ValueError(
                f"batch_size={self.batch_size} cannot be shared out evenly among {self.shares} "
                f"devices; choose a multiple of {self.shares}"
            )

    @property
    def shares(self) -> int:
        """Into how many parts a minibatch is divided, one a device."""
        return 1 if self.mesh is None else self.mesh.size


def create(
    model: nnx.Module,
    optimizer: optax.GradientTransformation,
    *,
    loss: Callable[[jax.Array, jax.Array], jax.Array] = losses.firing_rate_mse,
    to_sequence: Callable[[Any], Any],
    batch_size: int,
    seed: int,
    skip_nonfinite: bool = False,
    devices: Sequence[jax.Device] | None = None,
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
        batch_size: examples per minibatch, on all devices together.
        seed: of the order of the data.
        skip_nonfinite: leave out an update after which loss, parameters or running statistics
            would not be finite, and count it, in place of letting it ruin the network.
        devices: share every minibatch out among these, e.g. `jax.devices()`: each device takes
            an equal part, and the gradients are averaged. The data then go through `put`. None
            is JAX's default device. With several processes, the devices of all of them.

    Returns:
        The recipe and the first state.

    Raises:
        ValueError: the model holds variables that are neither parameters nor running statistics,
            or layers that behave differently in training though its call takes no `training`;
            `batch_size` is below 1 or not a multiple of the number of devices, or `seed` is not
            one of the 2^32 that JAX tells apart; several devices for a model with dropout or batch
            normalisation, which look at a whole minibatch.
    """
    split: Any = nnx.split(model, nnx.Param, nnx.BatchStat, ...)
    graphdef, params, statistics, rest = split
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
    apart = needs_training_mode(model) or bool(running)
    if apart and not takes_training(model):
        raise ValueError(
            f"{type(model).__name__} has dropout or batch normalisation inside, but its call takes "
            "no training=key; see jaxsnn.models.Classifier, which does"
        )
    if apart and devices is not None and len(devices) > 1:
        raise ValueError(
            f"{type(model).__name__} has dropout or batch normalisation inside, which look at a "
            f"whole minibatch: train it on one device, not on {len(devices)}"
        )
    mesh = None if devices is None else _shares.mesh_of(devices)
    recipe = Recipe(graphdef, optimizer, loss, to_sequence, batch_size, skip_nonfinite, mesh)
    state = TrainState(
        params=arrays,
        statistics=running,
        opt_state=optimizer.init(arrays),
        key=jax.random.key(_checks.seed(seed)),
        epoch=jnp.zeros((), jnp.int32),
        step=jnp.zeros((), jnp.int32),
        tally=no_tally(),
        best_accuracy=jnp.full((), -1, jnp.float32),
    )
    return recipe, put(recipe, state)


def merge(recipe: Recipe, state: TrainState) -> Any:
    """The model of the recipe as it is in this state.

    Args:
        recipe: from `create`.
        state: its parameters and running statistics are used.
    """
    return nnx.merge(recipe.graphdef, state.params, state.statistics)


def put(recipe: Recipe, tree: Any) -> Any:
    """Puts arrays on the devices of a recipe, whole on each; with several processes, on all.

    Args:
        recipe: from `create`.
        tree: a pytree of arrays, e.g. the training set `(inputs, labels)`; with several processes
            the same in each.
    """
    return _shares.put_whole(recipe.mesh, tree)


def no_tally() -> Tally:
    """The tally of an epoch that begins; each leaf an array of its own, since all are donated."""
    return Tally(
        minibatches=jnp.zeros((), jnp.int32),
        loss=jnp.zeros((), jnp.float32),
        correct=jnp.zeros((), jnp.int32),
        gradient_norm=jnp.zeros((), jnp.float32),
        skipped=jnp.zeros((), jnp.int32),
        first_nonfinite=jnp.full((), -1, jnp.int32),
        nonfinite_norm=jnp.zeros((), jnp.float32),
    )


def takes_training(model: Any) -> bool:
    """Whether the model behaves differently in training."""
    return "training" in inspect.signature(type(model).__call__).parameters
