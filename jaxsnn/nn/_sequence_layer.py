"""Layers that take all time steps at once, as a parallel spiking neuron does."""

import abc

import jax
from flax import nnx

from jaxsnn.nn._repr import Printable


class SequenceLayer(Printable, nnx.Module):
    """Abstract: a layer without state from a whole sequence `[T, ...]` to a whole sequence.

    `unroll` and `Sequential` hand it all time steps in one call. It cannot run step by step:
    not inside a recurrent container, and not on a stream.
    """

    @abc.abstractmethod
    def __call__(self, xs: jax.Array) -> jax.Array:
        """All time steps.

        Args:
            xs: the sequence, time first, `[T, ...]`.

        Returns:
            The outputs, time first.
        """


def refuse_single_steps(layer: object) -> None:
    """`layer`, about to be given one time step, must be able to work with one."""
    if isinstance(layer, SequenceLayer):
        raise ValueError(
            f"{type(layer).__name__} needs all time steps at once, so it cannot run step by step, "
            "e.g. inside a recurrent container; put it beside the container and use unroll"
        )
