"""Layers without state for which one step's input is not all: all steps count, or training does."""

import abc
from collections.abc import Iterator
from typing import Any, ClassVar

import jax
from flax import nnx
from jaxtyping import Array, Shaped

from jaxsnn.nn._mode import NOTHING, Mode, Seen
from jaxsnn.nn._repr import Printable


class ModalLayer(Printable, nnx.Module):
    """Abstract: a layer without state that is told how it is run."""

    trains_apart: ClassVar[bool] = True  # whether it behaves differently in training

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        bases = (base for base in cls.__mro__[1:] if issubclass(base, ModalLayer))
        base = next((base for base in bases if "__call__" in vars(base)), None)
        if (
            "__call__" in vars(cls)
            and "_all_steps" not in vars(cls)
            and base is not None
            and not getattr(base.__call__, "__isabstractmethod__", False)
            and cls._all_steps is not SequenceLayer._all_steps  # which calls it
        ):
            raise TypeError(
                f"{cls.__name__} replaces the __call__ of {base.__name__}, which unroll does not "
                f"use: nothing would change; put a layer of your own before or behind a "
                f"{base.__name__}"
            )

    @abc.abstractmethod
    def _all_steps(self, xs: jax.Array, mode: Mode) -> tuple[jax.Array, Seen]:
        """All steps, `[T, ...]`."""

    @abc.abstractmethod
    def _one_step(self, x: jax.Array, mode: Mode) -> tuple[jax.Array, Seen]:
        """One step, inside a recurrent container or on a stream."""


class SequenceLayer(ModalLayer):
    """Abstract: a layer without state from a whole sequence `[T, ...]` to a whole sequence.

    `unroll` and `Sequential` hand it all time steps in one call. It cannot run step by step:
    not inside a recurrent container, and not on a stream.
    """

    trains_apart = False

    @abc.abstractmethod
    def __call__(self, xs: Shaped[Array, "T *shape"]) -> Shaped[Array, "S *out"]:
        """All time steps.

        Args:
            xs: the sequence, time first, `[T, ...]`.

        Returns:
            The outputs, time first.
        """

    def _all_steps(self, xs: jax.Array, mode: Mode) -> tuple[jax.Array, Seen]:
        self._refuse_parts(mode)
        refuse_untold(self, mode)
        return self(xs), NOTHING

    def _one_step(self, x: jax.Array, mode: Mode) -> tuple[jax.Array, Seen]:
        raise ValueError(
            f"{type(self).__name__} needs all time steps at once, so it cannot run step by step, "
            "e.g. inside a recurrent container; put it beside the container and use unroll"
        )

    def _refuse_parts(self, mode: Mode) -> None:
        """Every step must be there, and count."""
        name = type(self).__name__
        if not mode.whole:
            raise ValueError(
                f"{name} needs all time steps at once, so unroll cannot run it with "
                "checkpoint_every"
            )
        if mode.mask is not None:
            raise ValueError(
                f"{name} mixes time steps, so unroll cannot leave some out by mask; run sequences "
                "of one length together"
            )


def needs_training_mode(module: nnx.Module) -> bool:
    """Whether `module` holds dropout, batch normalisation or another layer that trains apart.

    Args:
        module: any module.
    """
    return any(True for _ in _train_apart(module))


def refuse_untold(module: Any, mode: Mode) -> None:
    """A module that calls its layers by itself cannot tell them that they are trained."""
    if not mode.training or not isinstance(module, nnx.Module):
        return
    for path, layer in _train_apart(module):
        name, inside = type(module).__name__, type(layer).__name__
        where = ".".join(map(str, path))
        raise ValueError(
            f"{name} calls the {inside} in it ({where}) by itself, so that even in training it "
            "would do as in inference: only unroll, Sequential and the containers of jaxsnn.nn "
            f"tell a layer that it is trained. Split {name} into parts that these run, and join "
            "the outputs in the model: unroll(part, xs, key=key)"
        )


def _train_apart(module: nnx.Module) -> Iterator[tuple[Any, ModalLayer]]:
    """The layers in `module` that train apart, with their paths."""
    for path, part in nnx.iter_modules(module):
        if isinstance(part, ModalLayer) and part.trains_apart:
            yield path, part
