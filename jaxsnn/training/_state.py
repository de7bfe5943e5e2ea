"""The three records of training (its figures, its state, its recipe), and their making."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Bool, Float, Integer, Key

from jaxsnn import _checks, losses, nn
from jaxsnn.training import _parallel


class Metrics(NamedTuple):
    """The figures of a minibatch, of an epoch (also of one under way), or of a test.

    They are sums over examples, so `one.add(other)` has the figures of both; means are properties.

    A skipped minibatch (`skip_nonfinite`) counts in `minibatches`, but its examples, its loss and
    its correct classifications do not.

    Attributes:
        minibatches: number of minibatches, int32.
        examples: number of examples, int32.
        loss_sum: sum of their losses; in training each loss is that before the update.
        correct: number of examples classified correctly, int32; None if the labels are not class
            numbers, `[N]`, integers. In `TrainState.tally` it is 0 then.
        gradient_norm: largest finite Euclidean norm of a gradient over all parameters, before any
            clipping, also of skipped minibatches; 0 in a test.
        nonfinite: number of minibatches that were not finite, int32. In training a minibatch is
            finite if its loss, its gradient, and the parameters and running statistics after it
            are, and if the optimiser's state stayed so: Adam, for example, stands still once the
            square of a gradient has overflowed in its state. In a test it is finite if its loss
            is; parameters or running statistics that are not finite count as one more.
        skipped: number of minibatches whose update was left out as not finite, int32.
        first_nonfinite: number of the first minibatch that was not finite, counted from 0, int32;
            -1 if there was none.
        nonfinite_norm: norm of the gradient of that minibatch; 0 if there was none.
    """

    minibatches: Integer[Array, ""]
    examples: Integer[Array, ""]
    loss_sum: Float[Array, ""]
    correct: Integer[Array, ""] | None
    gradient_norm: Float[Array, ""]
    nonfinite: Integer[Array, ""]
    skipped: Integer[Array, ""]
    first_nonfinite: Integer[Array, ""]
    nonfinite_norm: Float[Array, ""]

    @property
    def loss(self) -> Float[Array, ""]:
        """Mean loss of the examples; NaN if there are none."""
        loss_sum = jnp.asarray(self.loss_sum)
        return loss_sum / jnp.asarray(self.examples, loss_sum.dtype)

    @property
    def accuracy(self) -> Float[Array, ""] | None:
        """Share of the examples classified correctly; None if labels are not class numbers."""
        if self.correct is None:
            return None
        return jnp.asarray(self.correct, jnp.float32) / jnp.asarray(self.examples, jnp.float32)

    @property
    def finite(self) -> Bool[Array, ""]:
        """True if the mean loss is finite, and all minibatches that were not skipped are.

        The loss alone does not show it: a membrane potential of NaN does not fire, so the loss of
        a ruined spiking network is finite. Therefore parameters, running statistics and the
        optimiser's state are examined too, see `nonfinite`.
        """
        return jnp.isfinite(self.loss) & jnp.equal(self.nonfinite, self.skipped)

    def add(self, other: "Metrics") -> "Metrics":
        """Return the figures of both; the minibatches of `other` come after those of `self`."""
        sums = jax.tree.map(lambda one, more: one + more.astype(one.dtype), self, other)
        first = (self.first_nonfinite < 0) & (other.first_nonfinite >= 0)
        number = self.minibatches + other.first_nonfinite
        return sums._replace(
            gradient_norm=jnp.maximum(self.gradient_norm, other.gradient_norm),
            first_nonfinite=jnp.where(first, number, self.first_nonfinite),
            nonfinite_norm=jnp.where(first, other.nonfinite_norm, self.nonfinite_norm),
        )


def no_metrics(finite: bool | jax.Array = True) -> Metrics:
    """The figures of no minibatch; `nonfinite` is 1 if `finite` is False."""
    zero, none = jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32)
    nonfinite = jnp.where(finite, none, none + 1)
    return Metrics(none, none, zero, none, zero, nonfinite, none, nonfinite - 1, zero)


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
        tally: figures of the epoch under way.
        constants: arrays of the model that are not learned, e.g. fixed recurrent weights, a nested
            dict; `{}` if it has none.
    """

    params: Any
    statistics: Any
    opt_state: optax.OptState
    key: Key[Array, ""]
    epoch: Integer[Array, ""]
    step: Integer[Array, ""]
    tally: Metrics
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
    """Split a model into what stays fixed while training and what changes.

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
        skip_nonfinite: leave out an update that is not finite (`Metrics.nonfinite`), and count
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
    kind = type(model).__name__
    if hasattr(model, "initialize_carry") and not isinstance(model, nn.Module):
        raise TypeError(
            f"model must take a whole sequence, model(xs), but {kind} is a cell; give it a "
            f"readout: jaxsnn.models.Classifier({kind}(...))"
        )
    split: Any = nnx.split(model, nnx.Param, nnx.BatchStat, nnx.RngState, ...)
    graphdef, params, statistics, random, constants = split[0], *map(nnx.to_pure_dict, split[1:])
    if random:
        raise ValueError(
            f"{kind} holds random state (nnx.RngState), which changes when it is called; use "
            "jaxsnn.nn.Dropout instead of Flax's"
        )
    apart = [part for _, part in nnx.iter_modules(model) if hasattr(part, "trains_apart")]
    if apart and not isinstance(model, nn.Module):
        raise ValueError(
            f"{kind} holds a {type(apart[0]).__name__}, which must know that it is in training, "
            f"but {kind} is no nn.Module: derive it from jaxsnn.nn.Module and run its parts in "
            "forward(self, xs, run), or use jaxsnn.models.Classifier"
        )
    mesh = None if devices is None else _parallel.mesh_of(devices)
    recipe = Recipe(graphdef, optimizer, loss, to_sequence, batch_size, skip_nonfinite, mesh)
    zero = jnp.zeros((), jnp.int32)
    state = TrainState(
        params=params,
        statistics=statistics,
        opt_state=optimizer.init(params),
        key=jax.random.key(_checks.seed(seed)),
        epoch=zero,
        step=zero,
        tally=no_metrics(),
        constants=constants,
    )
    # All leaves are donated, so none may be shared, nor belong to the model. With dtype= they are
    # not weakly typed, so that an epoch is compiled once.
    copy = jax.tree.map(lambda leaf: jnp.array(leaf, dtype=jnp.asarray(leaf).dtype), state)
    return recipe, put(recipe, copy)


def merge(recipe: Recipe, state: TrainState) -> Any:
    """The model of the recipe as it is in this state.

    Args:
        recipe: from `create`.
        state: its parameters, running statistics and constants are used.

    Raises:
        ValueError: `state` was donated to an earlier call.
    """
    check_not_donated(state)
    return nnx.merge(recipe.graphdef, state.params, state.statistics, state.constants)


def put(recipe: Recipe, tree: Any) -> Any:
    """Put arrays on the devices of a recipe, whole on each; with several processes, on all.

    Args:
        recipe: from `create`.
        tree: a pytree of arrays, e.g. the training set `(inputs, labels)`; with several processes
            the same in each.
    """
    check_not_donated(tree)
    return _parallel.put(recipe.mesh, tree)


def check_not_donated(tree: Any) -> None:
    """Raise if the memory of one of these arrays was given to an earlier call."""
    for leaf in jax.tree.leaves(tree):
        array = isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer)
        if array and leaf.is_deleted():
            raise ValueError(
                "this state was donated to an earlier call, e.g. of train_epoch, which used its "
                "memory again: continue with the state that the call returned, or pass a copy, "
                "jax.tree.map(jnp.copy, state)"
            )
