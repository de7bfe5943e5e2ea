"""Firing rates of the layers of a network, on one minibatch."""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxsnn.nn import unroll
from jaxsnn.training import Recipe, TrainState, merge, put

_POTENTIAL = re.compile(r"(\d+)(\.\w+)*\.v")


def firing_rates(
    recipe: Recipe, inputs: Any, stack: str = "fc"
) -> Callable[[TrainState], dict[str, float]]:
    """Compile the measurement of how often the neurons of each layer fire.

    Args:
        recipe: from `training.create`, also of several devices.
        inputs: a minibatch of inputs as `recipe.to_sequence` takes them, the same every time.
        stack: the attribute of the model that holds its layers, a `nn.Sequential`.

    Returns:
        A function of a `TrainState`: for each layer that has a membrane potential, spikes per
        neuron and time step, between 0 and 1, e.g. `{"fc.1": 0.14, "fc.3": 0.07}`.
    """
    inputs = put(recipe, inputs)

    @jax.jit
    def rates(state: TrainState, inputs: Any) -> dict[str, jax.Array]:
        layers = getattr(merge(recipe, state), stack)
        records = unroll(layers, recipe.to_sequence(inputs), record="*")[2].records
        spiking = {found[1] for path in records if (found := _POTENTIAL.fullmatch(path))}
        return {
            f"{stack}.{layer}": jnp.mean(records[layer], dtype=jnp.float32)
            for layer in sorted(spiking, key=int)
        }

    def measure(state: TrainState) -> dict[str, float]:
        return {layer: float(rate) for layer, rate in jax.device_get(rates(state, inputs)).items()}

    return measure
