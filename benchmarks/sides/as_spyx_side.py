"""spyx's networks with jaxsnn's cells: the same equations, for a comparison on equal terms.

spyx fires on the potential of the step before, so its IF is jaxsnn's with the soft reset, delayed
by one step; the first output is 0. Its RIF feeds `y W` back without touching the input: a
`LinearRecurrentContainer` with `feedback_only`. Only a potential that equals the threshold to the
last bit is treated otherwise (spyx wants it exceeded).
"""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsnn import nn, surrogate
from sides import jaxsnn_side
from sides.task import CLASSES, FEATURES, HIDDEN

SOFT = {"v_reset": None, "surrogate_function": surrogate.ATan()}


class Network(nnx.Module):
    """Linear, `hidden`, Linear, IF; both neurons put out what they did one step before."""

    def __init__(self, hidden: nn.Cell) -> None:
        rngs = nnx.Rngs(0)
        self.first, self.hidden = nn.Linear(FEATURES, HIDDEN, rngs=rngs), hidden
        self.second, self.output = nn.Linear(HIDDEN, CLASSES, rngs=rngs), nn.IFNode(**SOFT)

    def __call__(self, xs: jax.Array) -> jax.Array:
        _, spikes = nn.unroll(self.hidden, self.first(xs))
        _, spikes = nn.unroll(self.output, self.second(delayed(spikes)))
        return jnp.mean(delayed(spikes), axis=0)


def delayed(ys: jax.Array) -> jax.Array:
    """`ys` one step later; the first is 0."""
    return jnp.concatenate([jnp.zeros_like(ys[:1]), ys[:-1]])


class Side(jaxsnn_side.Side):
    """The same equations as spyx."""

    differs = "spyx's equations in jaxsnn; shuffled"

    def hidden(self) -> nn.Cell:
        """The hidden neurons."""
        if self.task.network == "plain":
            return nn.IFNode(**SOFT)
        cell = nn.LinearRecurrentContainer(
            nn.IFNode(**SOFT), HIDDEN, HIDDEN, bias=False, feedback_only=True, rngs=nnx.Rngs(0)
        )
        cell.rc.kernel[...] = jnp.asarray(self.task.start()["wr"][HIDDEN:])
        return cell

    def model(self) -> nnx.Module:
        """The network with the task's parameters."""
        start, model = self.task.start(), Network(self.hidden())
        jaxsnn_side.set_linear(model.first, start["w1"], start["b1"])
        jaxsnn_side.set_linear(model.second, start["w2"], start["b2"])
        return model
