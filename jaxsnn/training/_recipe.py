"""What stays fixed while training, what changes, and how both come out of a model."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, Integer, Key

from jaxsnn import _checks, losses, nn
from jaxsnn.training import _shares

Params = Any  # nested dict of arrays


class Tally(NamedTuple):
    """What has been counted in the epoch under way; see `EpochMetrics` for what becomes of it.

    Attributes:
        minibatches: number of minibatches so far, int32.
        loss: sum of their losses, float32.
        correct: number of examples classified correctly, int32.
        gradient_norm: largest finite norm of a gradient, also of skipped updates, float32.
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
        epoch: number of epochs that have ended, int32; `train_epoch` and `stream_epoch` count
            them. A loop over `train_step` ends one by `state._replace(epoch=state.epoch + 1)`.
        step: number of minibatches since the start, int32.
        tally: what has been counted in the epoch under way.
        best_accuracy: best test accuracy so far, float32; -1 before the first test.
        constants: arrays of the model that are not learned, e.g. fixed recurrent weights, a nested
            dict; `{}` if it has none.
    """

    params: Params
    statistics: Any
    opt_state: optax.OptState
    key: Key[Array, ""]
    epoch: Integer[Array, ""]
    step: Integer[Array, ""]
    tally: Tally
    best_accuracy: Float[Array, ""]
    constants: Any = {}  # noqa: RUF012  (never changed in place)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What stays fixed while training; hashable, so that `jax.jit` compiles once for it.

    Attributes:
        graphdef: the model without its parameters, from `create`.
        optimizer: an optax optimiser.
        loss: `(outputs, labels) -> [N]`, one number per example, e.g. `losses.firing_rate_mse`;
            `labels` are a minibatch of class numbers or of other targets.
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
        """The number of parts into which a minibatch is divided, one per device."""
        return 1 if self.mesh is None else self.mesh.size

    @property
    def axis_name(self) -> str | None:
        """The axis of the mesh over which a minibatch is divided; None for one device."""
        return None if self.mesh is None else _shares.AXIS


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
        model: an `nn.Module` from a sequence to outputs, e.g. `jaxsnn.models.Classifier`, run by
            `unroll(model, xs, key=key)`; or another `nnx.Module` with `model(xs) -> outputs`,
            without dropout and batch normalisation. For class numbers as labels outputs are `[N,
            classes]` or, if the loss looks at every step, `[T, N, classes]`. Every `nnx.Param` is
            learned. Other arrays and variables, e.g. `self.mean = jnp.asarray(mean)`, stay as they
            are. All are copied.
        optimizer: an optax optimiser; keep it for a second run, since to JAX a second one with the
            same settings is different, which compiles again. Those that ask for `value`, `grad`,
            `value_fn`, `grad_fn` or `obj_fn`, e.g. `optax.lbfgs`, get them of each minibatch. It
            sees the parameters as nested dicts; docs/how-to/learn-constants.md has groups of
            parameters by type or path, for `optax.multi_transform`.
        loss: `(outputs, labels) -> [N]`, one number per example. Outputs and labels are those of a
            minibatch, so a loss for targets per step sees outputs `[T, N, ...]` and labels
            `[N, T, ...]`.
        to_sequence: makes the model's `xs` of a minibatch of inputs, or `(xs, mask)`.
        batch_size: examples per minibatch, on all devices together.
        seed: of the order of the data.
        skip_nonfinite: leave out an update that is not finite (`StepMetrics.finite`), and count
            it, instead of letting it ruin the network.
        devices: share every minibatch out among these, e.g. `jax.devices()`: each device takes
            an equal part, and the gradients are averaged. The data then go through `put`. None
            is JAX's default device. With several processes, the devices of all of them.

    Returns:
        The recipe and the first state.

    Raises:
        TypeError: the model is a cell, which takes one step.
        ValueError: the model holds random state, as Flax's `nnx.Dropout` does; it is no `nn.Module`
            but holds dropout or batch normalisation; `batch_size` is below 1 or not a multiple of
            the number of devices, or `seed` is not one of the 2^32 that JAX tells apart.
    """
    if hasattr(model, "initialize_carry") and not isinstance(model, nn.Module):
        raise TypeError(
            f"model must take a whole sequence, model(xs), but {type(model).__name__} is a cell; "
            f"give it a readout: jaxsnn.models.Classifier({type(model).__name__}(...))"
        )
    split: Any = nnx.split(model, nnx.Param, nnx.BatchStat, ...)
    graphdef, params, statistics, rest = split
    random = {type(v).__name__ for _, v in nnx.to_flat_state(rest) if isinstance(v, nnx.RngState)}
    if random:
        raise ValueError(
            f"{type(model).__name__} holds variables that are neither nnx.Param nor nnx.BatchStat "
            f"({', '.join(sorted(random))}), and that change when it is called: state must be a "
            "carry, not a variable; use jaxsnn.nn.Dropout instead of Flax's"
        )
    arrays, running, constants = map(nnx.to_pure_dict, (params, statistics, rest))
    apart = [part for _, part in nnx.iter_modules(model) if hasattr(part, "trains_apart")]
    if apart and not isinstance(model, nn.Module):
        raise ValueError(
            f"{type(model).__name__} holds a {type(apart[0]).__name__}, which must know that it "
            f"is in training, but {type(model).__name__} is no nn.Module: derive it from "
            "jaxsnn.nn.Module and run its parts in forward(self, xs, run), or use "
            "jaxsnn.models.Classifier"
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
        constants=constants,
    )
    return recipe, put(recipe, jax.tree.map(_own, state))


def _own(leaf: Any) -> jax.Array:
    """A copy: all leaves are donated, so that none may be shared, nor be one of the model."""
    leaf = jnp.asarray(leaf)
    return jnp.array(leaf, dtype=leaf.dtype)  # with dtype= not weakly typed: compiled once


def merge(recipe: Recipe, state: TrainState) -> Any:
    """The model of the recipe as it is in this state.

    Args:
        recipe: from `create`.
        state: its parameters, running statistics and constants are used.

    Raises:
        ValueError: `state` was donated to an earlier call.
    """
    refuse_donated(state)
    return nnx.merge(recipe.graphdef, state.params, state.statistics, state.constants)


def put(recipe: Recipe, tree: Any) -> Any:
    """Puts arrays on the devices of a recipe, whole on each; with several processes, on all.

    Args:
        recipe: from `create`.
        tree: a pytree of arrays, e.g. the training set `(inputs, labels)`; with several processes
            the same in each.
    """
    refuse_donated(tree)
    return _shares.put_whole(recipe.mesh, tree)


def no_tally() -> Tally:
    """The tally of an epoch that begins."""
    return Tally(
        minibatches=jnp.zeros((), jnp.int32),
        loss=jnp.zeros((), jnp.float32),
        correct=jnp.zeros((), jnp.int32),
        gradient_norm=jnp.zeros((), jnp.float32),
        skipped=jnp.zeros((), jnp.int32),
        first_nonfinite=jnp.full((), -1, jnp.int32),
        nonfinite_norm=jnp.zeros((), jnp.float32),
    )


def refuse_donated(state: Any) -> None:
    """Raise if the memory of this state, or of other arrays, was given to an earlier call."""
    for leaf in jax.tree.leaves(state):
        array = isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer)
        if array and leaf.is_deleted():
            raise ValueError(
                "this state was donated to an earlier call, e.g. of train_epoch, which used its "
                "memory again: continue with the state that the call returned, `state, metrics = "
                "train_epoch(recipe, state, ...)`; to keep a state, pass a copy, "
                "jax.tree.map(jnp.copy, state)"
            )
