"""Both directions of time: one module reads the sequence forwards, another one backwards."""

import jax.numpy as jnp
from jaxtyping import Array, Shaped

from jaxsnn._masks import zero
from jaxsnn.nn._fields import Fields, Part
from jaxsnn.nn._layer import Layer
from jaxsnn.nn._run import Run


class Bidirectional(Fields, Layer):
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
        >>> layer = Bidirectional(*(contrib.SpikingGRUCell(4, 8, rngs=rngs) for _ in range(2)))
        >>> _, ys = unroll(layer, jnp.ones((5, 2, 4)))
        >>> ys.shape
        (5, 2, 16)
    """

    printed = ()
    forward_cell: Part
    backward_cell: Part

    def forward(self, xs: Shaped[Array, "T *shape"], run: Run) -> Shaped[Array, "T *out"]:
        run.require_whole_sequence(self, masks=True)
        forwards = run._part("forward_cell", self.forward_cell, xs)
        # With a mask the way back begins at the end of each sequence: before it no state changes.
        mask = None if run.mask is None else jnp.flip(run.mask, 0)
        back = run._changed(mask=mask)
        backwards = back._part("backward_cell", self.backward_cell, jnp.flip(xs, 0))
        run._after += back._after
        records, batches = back._seen
        run._seen.records.update({path: jnp.flip(ys, 0) for path, ys in records.items()})
        run._seen.batches.update(batches)
        ys = jnp.concatenate([forwards, jnp.flip(backwards, 0)], axis=-1)
        return ys if run.mask is None else zero(run.mask, ys)
