"""Firing rates of the layers of a network, on one minibatch."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jaxsnn._parts import children, join, parts
from jaxsnn.nn import Module, unroll
from jaxsnn.training import Recipe, TrainState, merge, put


def firing_rates(recipe: Recipe, inputs: Any) -> Callable[[TrainState], dict[str, float]]:
    """Make the measurement of how often the neurons of each layer fire.

    Args:
        recipe: from `training.create`, also of several devices; of a model that is an
            `nn.Module`, as those of `jaxsnn.models` are.
        inputs: a minibatch of inputs as `recipe.to_sequence` takes them, the same every time.

    Returns:
        A function of a `TrainState`: for each layer with a spike function, spikes per neuron and
        time step, between 0 and 1, e.g. `{"fc.1": 0.14, "fc.3": 0.07}`. A recurrent container is
        one layer.
    """
    made = recipe.to_sequence(put(recipe, inputs))
    xs, mask = made if isinstance(made, tuple) else (made, None)
    share = 1.0 if mask is None else jnp.mean(mask, dtype=jnp.float32)  # of the steps that count

    def measure(state: TrainState) -> dict[str, float]:
        model = merge(recipe, state)
        records = unroll(model, xs, mask=mask, record=[*_spiking(model)])[2].records
        rates = {path: jnp.mean(ys, dtype=jnp.float32) / share for path, ys in records.items()}
        return {path: float(rate) for path, rate in jax.device_get(rates).items()}

    return measure


def _spiking(part: Any, path: str = "") -> Iterator[str]:
    """Yield the paths of the layers that have a spike function or, in a container, hold one."""
    if isinstance(part, Module) and not hasattr(part, "surrogate_function"):
        for name, child in children(part).items():
            yield from _spiking(child, join(path, name))
    elif any(hasattr(inside, "surrogate_function") for _, inside in parts(part)):
        yield path
