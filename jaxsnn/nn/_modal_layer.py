"""Layers without state for which one step's input is not all: all steps count, or training does."""

import abc
from typing import ClassVar

import jax
from flax import nnx

from jaxsnn.nn._mode import NOTHING, Mode, Seen
from jaxsnn.nn._repr import Printable


class ModalLayer(Printable, nnx.Module):
    """Abstract: a layer without state that is told how it is run."""

    trains_apart: ClassVar[bool] = True  # whether it behaves differently in training

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
    def __call__(self, xs: jax.Array) -> jax.Array:
        """All time steps.

        Args:
            xs: the sequence, time first, `[T, ...]`.

        Returns:
            The outputs, time first.
        """

    def _all_steps(self, xs: jax.Array, mode: Mode) -> tuple[jax.Array, Seen]:
        self._refuse_parts(mode)
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
    return any(
        isinstance(part, ModalLayer) and part.trains_apart for _, part in nnx.iter_modules(module)
    )
