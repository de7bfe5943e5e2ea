"""What drives the neurons of a layer: whose weights to scale for them, and how."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsnn.diagnosis._follow import surrogates, watch
from jaxsnn.diagnosis._stack import Part, children, is_own, parts, parts_as_run, within
from jaxsnn.nn import (
    MultiDimensionalAttention,
    Sequential,
    TemporalEffectiveBatchNorm,
    WSConv,
    WSLinear,
)
from jaxsnn.nn._attention import AxisWeights
from jaxsnn.nn._containers import LinearRecurrentContainer
from jaxsnn.nn._mode import Mode
from jaxsnn.nn._normalization import _Normalization
from jaxsnn.nn._spiking_rnns import _SpikingRNNCell

Keys = tuple[str | int, ...]


class Drive(NamedTuple):
    """A spiking part, and the parts whose weights set how strongly it is driven."""

    part: Part
    chosen: tuple[Part, ...]


def order_of_calls(segment: Sequence[Part], xs: jax.Array, key: jax.Array) -> list[str]:
    """Paths in the order in which somebody's own cells among the layers call what is there."""
    heard: list[str] = []

    def run(xs: jax.Array) -> None:
        for layer in segment:
            xs, _ = watch(layer, xs, Mode(key=key), heard)

    inside = [part.module for layer in segment for part in parts(layer)]
    if any(is_own(module) and any(True for _ in children(module)) for module in inside):
        jax.eval_shape(run, xs)
    return heard


def drives_of(segment: Sequence[Part], heard: Sequence[str]) -> list[Drive]:
    """What there is to scale for each spiking part of some layers, in the order they are run."""
    drives: list[Drive] = []
    before: list[Part] = []  # what stands before the next neuron
    for layer in segment:
        inside = parts_as_run(layer, heard)
        gates = [p.path for p in inside if isinstance(p.module, _GATES)]
        for part in inside:
            if surrogates(part.module):
                # The spiking RNN cells fire at 0 or more, at any scale.
                fixed = isinstance(part.module, _SpikingRNNCell)
                drives.append(Drive(part, () if fixed else tuple(before)))
                before = []
            elif _weights(part.module) and not any(within(part.path, gate) for gate in gates):
                before = [p for p in before if _both(p, part, layer)] + [part]
    if not drives:
        raise ValueError(
            f"the spikes inside of {segment[-1].name} cannot be seen, so it cannot be calibrated; "
            "put its layers into a jaxsnn.nn.Sequential"
        )
    return drives


# What multiplies its input by weights between 0 and 1 that it makes of it.
_GATES = AxisWeights, MultiDimensionalAttention


def _both(first: Part, second: Part, layer: Part) -> bool:
    """Whether two layers run one after the other both drive the next neuron, as far as is known.

    The input of a container is added to what its `rc` gives; what somebody's own cell or a graph
    makes of its layers nobody knows.
    """
    around = at(layer.module, second.keys[:-1])
    if isinstance(around, LinearRecurrentContainer) and around.feedback_only:
        return around.rc is second.module
    if not within(first.path, layer.path):
        return False
    pairs = enumerate(zip(first.keys, second.keys, strict=False))
    fork = next(k for k, (one, other) in pairs if one != other)
    around = at(layer.module, first.keys[:fork])
    if isinstance(around, nnx.List):
        around = at(layer.module, first.keys[: fork - 1])
    return not isinstance(around, Sequential | LinearRecurrentContainer)


FLAX_NORMS = nnx.BatchNorm, nnx.LayerNorm, nnx.GroupNorm, nnx.RMSNorm
NORMS = _Normalization, TemporalEffectiveBatchNorm, *FLAX_NORMS

# What the output of a layer is proportional to; of several kinds that fit, the first counts.
_WEIGHTS: tuple[tuple[tuple[type, ...], str], ...] = (
    ((WSLinear, WSConv), "gain"),
    ((nnx.Linear, nnx.Conv), "kernel"),
    ((_Normalization,), "weight"),
    (FLAX_NORMS, "scale"),
)


def _weights(layer: Any) -> list[str]:
    """The parameters of a layer that its output is proportional to."""
    first = next((name for kinds, name in _WEIGHTS if isinstance(layer, kinds)), None)
    if first is None or getattr(layer, first, None) is None:
        return []
    return [first] if getattr(layer, "bias", None) is None else [first, "bias"]


def scale(layer: Any, factor: Any) -> None:
    """Multiplies the weights of a layer, in place."""
    for name in _weights(layer):
        weights = getattr(layer, name)
        weights[...] = weights[...] * jnp.asarray(factor).astype(weights.dtype)


def at(module: Any, keys: Keys) -> Any:
    for key in keys:
        module = module[key] if isinstance(key, int) else getattr(module, key)
    return module
