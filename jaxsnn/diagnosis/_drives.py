"""What drives the neurons of a layer: whose weights to scale for them, and how."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
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
from jaxsnn.nn._containers import LinearRecurrentContainer, _RecurrentContainer
from jaxsnn.nn._mode import Mode
from jaxsnn.nn._normalization import _Normalization
from jaxsnn.nn._spiking_rnns import _SpikingRNNCell

Keys = tuple[str | int, ...]

LARGEST = 2.0**30  # factor, or one over it


class Drive(NamedTuple):
    """A spiking part, and the parts whose weights set how strongly it is driven.

    Attributes:
        part: the spiking part.
        chosen: the parts whose weights are scaled. For a `LinearRecurrentContainer`, whose input's
            share of `rc` is scaled, it is the container, at the path of its `rc`.
        recurrent: paths of recurrent layers, whose weights are not scaled.
        limit: the largest factor.
    """

    part: Part
    chosen: tuple[Part, ...]
    recurrent: tuple[str, ...]
    limit: float


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


def drives_of(
    segment: Sequence[Part], heard: Sequence[str], loops: AbstractSet[Keys]
) -> list[Drive]:
    """What there is to scale for each spiking part of some layers, in the order they are run.

    Args:
        segment: the layers.
        heard: from `order_of_calls`.
        loops: from `in_loops`.
    """
    drives: list[Drive] = []
    before: list[Part] = []  # layers between the last neuron and the next, in no loop
    within_loop: list[Part] = []
    recurrent: list[str] = []
    for layer in segment:
        inside = parts_as_run(layer, heard)
        gates = [p.path for p in inside if isinstance(p.module, _GATES)]
        earlier = len(drives)
        for part in inside:
            if surrogates(part.module):
                # The spiking RNN cells fire at 0 or more, at any scale.
                fixed = isinstance(part.module, _SpikingRNNCell)
                if fixed or before or not within_loop:
                    chosen, limit = () if fixed else tuple(before), LARGEST
                else:
                    chosen, limit = tuple(within_loop), min(map(_limit, within_loop))
                drives.append(Drive(part, chosen, tuple(recurrent), limit))
                before, within_loop, recurrent = [], [], []
            elif _weights(part.module) and not any(within(part.path, gate) for gate in gates):
                around = _container(part, layer)
                if (layer.path, *part.keys, _weights(part.module)[0]) not in loops:
                    before = [p for p in before if _both(p, part, layer)] + [part]
                    continue
                recurrent.append(part.path)
                if around is not None and not around.module.feedback_only:
                    before = [p for p in before if _both(p, around, layer)]
                    before.append(around._replace(path=part.path))
                else:
                    within_loop = [p for p in within_loop if _both(p, part, layer)] + [part]
        if recurrent and len(drives) > earlier:  # after the last neuron, which they come back to
            all_of_them = drives[-1].recurrent + tuple(recurrent)
            drives[-1] = drives[-1]._replace(recurrent=all_of_them)
        within_loop, recurrent = [], []
    if not drives:
        raise ValueError(
            f"the spikes inside of {segment[-1].name} cannot be seen, so it cannot be calibrated; "
            "put its layers into a jaxsnn.nn.Sequential"
        )
    return drives


def _container(part: Part, layer: Part) -> Part | None:
    """The `LinearRecurrentContainer` that a part is the `rc` of, unless another loop is around."""
    arounds = [at(layer.module, part.keys[:k]) for k in range(len(part.keys))]
    containers = [module for module in arounds if isinstance(module, _RecurrentContainer)]
    if len(containers) != 1 or not isinstance(containers[0], LinearRecurrentContainer):
        return None
    if arounds[-1] is not containers[0] or part.module is not containers[0].rc:
        return None
    return Part(part.path.rpartition(".")[0], containers[0], part.keys[:-1])


def _limit(part: Part) -> float:
    """The largest factor of recurrent weights.

    Their largest singular value, which the spectral radius does not exceed, becomes at most 1, or
    stays if it is larger; weights of other layers than `Linear` become no larger.
    """
    name = _weights(part.module)[0]
    if not isinstance(part.module, nnx.Linear) or name != "kernel":
        return 1.0
    kernel = np.asarray(getattr(part.module, name)[...], np.float64)
    return 1 / min(1.0, float(np.linalg.norm(kernel, 2)) or 1.0)


# What multiplies its input by weights between 0 and 1 that it makes of it.
_GATES = AxisWeights, MultiDimensionalAttention


def _both(first: Part, second: Part, layer: Part) -> bool:
    """Whether two layers run one after the other both drive the next neuron, as far as is known.

    It is not known what somebody's own cell or a graph makes of its layers.
    """
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
    ((_Normalization, *FLAX_NORMS), "scale"),
)


def _weights(layer: Any) -> list[str]:
    """The parameters of a layer that its output is proportional to."""
    first = next((name for kinds, name in _WEIGHTS if isinstance(layer, kinds)), None)
    if first is None or getattr(layer, first, None) is None:
        return []
    return [first] if getattr(layer, "bias", None) is None else [first, "bias"]


def scale(layer: Any, factor: Any) -> None:
    """Multiplies the weights of a layer, in place; of a container's `rc` the input's share."""
    rows = None
    if isinstance(layer, LinearRecurrentContainer):
        layer, rows = layer.rc, layer.in_features
    for name in _weights(layer):
        weights = getattr(layer, name)
        here = slice(None) if name == "bias" else slice(rows)
        scaled = weights[here] * jnp.asarray(factor).astype(weights.dtype)
        weights[...] = weights[...].at[here].set(scaled)


def at(module: Any, keys: Keys) -> Any:
    for key in keys:
        module = module[key] if isinstance(key, int) else getattr(module, key)
    return module
