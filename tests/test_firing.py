"""Firing rates by layer, of the tutorial's networks and of one's own."""

import operator

import jax
import jax.numpy as jnp
import numpy as np
import optax
import quick
from flax import nnx

from jaxsnn import models, nn, training
from jaxsnn.firing import firing_rates


class Block(nn.Module):
    """A stack with a neuron, a container, a shortcut and a neuron that needs the whole sequence."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        feedback = nn.LinearRecurrentContainer(nn.IFNode(), 4, 4, rngs=rngs)
        self.branch = nn.Sequential(
            nn.Linear(4, 4, rngs=rngs), nn.LIFNode(v_threshold=0.2), feedback
        )
        self.psn = nn.PSN(3, rngs=rngs)

    def forward(self, x, run):
        return run(self.psn, x + run(self.branch, x))


def test_the_layers_of_a_network_of_ones_own():
    """Mean outputs of what has or holds a spike function, by the paths of `record`."""
    plus = nn.ElementWiseRecurrentContainer(nn.Sequential(nn.IFNode()), operator.add)
    net = models.Classifier(nn.Sequential(Block(), jax.nn.relu, nn.BatchNorm(4), plus))
    recipe, state = training.create(
        net, optax.sgd(0.1), to_sequence=lambda x: jnp.stack([x] * 3), batch_size=2, seed=0
    )
    inputs = quick.uniform((5, 4), 0, 2)
    rates = firing_rates(recipe, inputs)(state)
    paths = ["stack.0.branch.1", "stack.0.branch.2", "stack.0.psn", "stack.3"]
    assert [*rates] == paths
    records = nn.unroll(net, recipe.to_sequence(inputs), record=paths)[2].records
    for path in paths:
        np.testing.assert_allclose(rates[path], records[path].mean(), rtol=1e-6)
    assert len({*rates.values()}) > 2
