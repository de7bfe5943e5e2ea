"""Firing rates of the layers of the tutorial's networks, on one minibatch."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsnn.nn import unroll
from jaxsnn.training import Recipe, TrainState, merge, put


def firing_rates(recipe: Recipe, inputs: Any) -> Callable[[TrainState], dict[str, float]]:
    """Make the measurement of how often the neurons of each layer fire.

    Args:
        recipe: from `training.create`, also of several devices; of a model whose layers are a
            `nn.Sequential` called `fc`, as those of `jaxsnn.models` are.
        inputs: a minibatch of inputs as `recipe.to_sequence` takes them, the same every time.

    Returns:
        A function of a `TrainState`: for each layer with a spike function, spikes per neuron and
        time step, between 0 and 1, e.g. `{"fc.1": 0.14, "fc.3": 0.07}`.
    """
    xs = recipe.to_sequence(put(recipe, inputs))

    def measure(state: TrainState) -> dict[str, float]:
        layers = merge(recipe, state).fc
        spiking = [str(k) for k, layer in enumerate(layers) if _spikes(layer)]
        records = unroll(layers, xs, record=spiking)[2].records
        rates = {f"fc.{k}": jnp.mean(records[k], dtype=jnp.float32) for k in spiking}
        return {layer: float(rate) for layer, rate in jax.device_get(rates).items()}

    return measure


def _spikes(layer: Any) -> bool:
    """Return whether a layer is a neuron with a spike function, or holds one."""
    return isinstance(layer, nnx.Module) and any(
        hasattr(part, "surrogate_function") for _, part in nnx.iter_modules(layer)
    )
