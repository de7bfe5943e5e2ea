"""`ExponentialSynapse` and the leaky neuron right after it: one node, `CubaLIF` or `CubaLI`.

The current, of which `alpha = exp(-1 / tau)` is left after a step and to which the whole input is
added, is NIR's with `tau_syn = dt / (1 - alpha)` and `w_in = tau_syn / dt`.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxsnn.interop._leaky import Leaky
from jaxsnn.interop.nir._equations import constant
from jaxsnn.nn import ExponentialSynapse, LIFNode, NonSpikingLIFNode

BEHIND = (Leaky, LIFNode, NonSpikingLIFNode)


class Synaptic(NamedTuple):
    """A synapse and the neuron that its current feeds."""

    synapse: ExponentialSynapse
    neuron: Any

    @property
    def name(self) -> str:
        """For error messages, which are at the place of the neuron."""
        return f"ExponentialSynapse and {type(self.neuron).__name__}"


def in_nodes(layers: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    """The layers of a stack and their places; two that are one node are one, at the second."""
    joined = False
    for k, (layer, after) in enumerate(itertools.pairwise([*layers, None])):
        if joined:
            joined = False
        elif type(layer) is ExponentialSynapse and type(after) in BEHIND:
            joined = True
            yield k + 1, Synaptic(layer, after)
        else:
            yield k, layer


def with_current(
    kind: str, fields: dict[str, Any], synapse: ExponentialSynapse, dt: float
) -> tuple[str, dict[str, Any]]:
    """The kind of node that a neuron is with the synapse before it, and its fields."""
    if "tau" not in fields:
        raise ValueError(
            f"its potential has no leak, it is an {kind} node, and NIR has none of those with a "
            "synaptic current; choose a leak, e.g. beta below 1"
        )
    with np.errstate(divide="ignore"):  # a learned time constant may have become 0
        alpha = np.exp(-1 / np.asarray(constant(synapse, "tau")))
    fields = {("tau_mem" if name == "tau" else name): value for name, value in fields.items()}
    return f"Cuba{kind}", {**fields, "tau_syn": dt / (1 - alpha), "w_in": 1 / (1 - alpha)}
