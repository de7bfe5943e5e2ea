"""Both directions of time: one module reads the sequence forwards, another one backwards."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped

from jaxsnn import _checks
from jaxsnn.nn._modal_layer import SequenceLayer
from jaxsnn.nn._mode import Mode, Seen
from jaxsnn.nn._run import run


class Bidirectional(SequenceLayer):
    """Runs one module forwards and one backwards over time and joins their outputs.

        y[t] = [forward(x[0], ..., x[t]); backward(x[T-1], ..., x[t])]

    As it needs the end of the sequence to begin, it keeps no state between calls. In padded
    sequences, run with a mask of `sequence_mask`, the way back starts at the end of each. A stack
    is a `Sequential` of several; the features that a second one sees are those of both outputs.

    Args:
        forward_cell: any cell or stack, e.g. `SpikingLSTMCell`.
        backward_cell: the same, for the sequence from its end to its beginning.

    Raises:
        TypeError: an argument is not callable.

    Examples:
        >>> rngs = nnx.Rngs(0)
        >>> layer = Bidirectional(SpikingGRUCell(4, 8, rngs=rngs), SpikingGRUCell(4, 8, rngs=rngs))
        >>> _, ys = unroll(layer, jnp.ones((5, 2, 4)))
        >>> ys.shape
        (5, 2, 16)
    """

    def __init__(self, forward_cell: Any, backward_cell: Any) -> None:
        self.forward_cell = _checks.function("forward_cell", forward_cell)
        self.backward_cell = _checks.function("backward_cell", backward_cell)

    def __call__(self, xs: Shaped[Array, "T *shape"]) -> Shaped[Array, "T *out"]:
        return self._all_steps(xs, Mode())[0]

    def _all_steps(self, xs: jax.Array, mode: Mode) -> tuple[jax.Array, Seen]:
        # With a mask the way back begins at the end of each sequence: before it no state changes.
        self._refuse_parts(dataclasses.replace(mode, mask=None))
        _, forwards, seen = run(self.forward_cell, None, xs, mode.at("forward_cell"))
        back = mode.at("backward_cell")
        if mode.mask is not None:
            back = back.of_step(jnp.flip(mode.mask, 0))
        _, backwards, seen_back = run(self.backward_cell, None, jnp.flip(xs, 0), back)
        backwards, records = jax.tree.map(
            lambda ys: jnp.flip(ys, 0), (backwards, seen_back.records)
        )
        seen |= seen_back._replace(records=records)
        return jnp.concatenate([forwards, backwards], axis=-1), seen
