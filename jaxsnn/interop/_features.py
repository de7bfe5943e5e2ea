"""The order of features: what a layer reads comes in another order here than in torch.

With channels last a `Flatten` outputs (position, channel), torch's (channel, position). The
weights of the layer that reads it are sorted accordingly, for which the number of channels must
be known: it is that of the layers before, as far as they are known to keep the last axis.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from flax import nnx

from jaxsnn import _checks, nn
from jaxsnn._parts import is_final
from jaxsnn.interop._layouts import SpikingAttention
from jaxsnn.interop._leaky import Leaky


class Flow(NamedTuple):
    """Knowledge of the features between two layers.

    Attributes:
        kind: `features` are in torch's order; an `image` has its channels last; `flat` is an image
            that was flattened; of the `unclear` it is not known.
        channels: of the image, as far as that is known.
        at: the layer that flattened it, or made it unclear.
        axes: of positions, of an image.
    """

    kind: Literal["features", "image", "flat", "unclear"]
    channels: int | None = None
    at: str = ""
    axes: int = 0

    @property
    def sorted(self) -> bool:
        """True if the features have torch's order, or will have when they are flattened."""
        return self.kind in ("features", "image")


FEATURES = Flow("features")
INPUT = Flow("features", at="the input")  # of the network: a Flatten there may find an image

# Layers that keep the last axis, whatever it is.
_KEEPERS: tuple[type, ...] = (
    *(nn.MaxPool, nn.AvgPool, nn.Dropout, nn.Dropout2d, nn.Delay, nnx.GroupNorm),
    *(nn.PSN, nn.contrib.MaskedPSN, nn.SlidingPSN, nn.contrib.NeuNorm, nn.contrib.GatedLIFNode),
    *(nn.contrib.DSRIFNode, nn.contrib.DSRLIFNode, nn.contrib.ActivationAwareIFNode),
    *(nn.contrib.TemporalWiseAttention, nn.contrib.MultiDimensionalAttention),
    *(nn.contrib.SpikeCountToBinary, nn.contrib.TemporalBinSum),
)


class Orders:
    """Follows the features from layer to layer.

    Args:
        said: how many channels come into the `Flatten` of this name, or were flattened to what the
            layer of this name reads; as the caller says.
    """

    def __init__(self, said: Mapping[str, int]) -> None:
        for name, channels in said.items():
            _checks.size(f"flatten_channels[{name!r}]", channels)
        self._said = said
        self._places: set[str] = set()  # that it can be said of
        self._asked: dict[str, str] = {}  # those where it must be, and a layer that reads it there

    def check(self) -> None:
        """Raise unless all that had to be said was, and nothing else."""
        if self._asked:
            say = ", ".join(f"{at!r}: ..." for at in self._asked)
            raise ValueError(
                f"{', '.join(self._asked.values())} read features whose order in torch depends on "
                f"the number of channels of a flattened image: pass flatten_channels={{{say}}} (1 "
                "if there is no axis of channels)"
            )
        if unknown := set(self._said) - self._places:
            places = sorted(self._places)
            raise ValueError(f"flatten_channels names {sorted(unknown)}, which must be of {places}")

    def flatten(self, name: str, flow: Flow) -> Flow:
        """The flow after a `Flatten`."""
        self._places.add(name)
        if name in self._said:
            return Flow("flat", self._said[name], name)
        if flow is INPUT or flow.kind in ("image", "unclear"):
            return Flow("flat", flow.channels, name)
        return flow

    def unclear(self, name: str) -> Flow:
        """The flow after, or in, a part that may do anything."""
        self._places.add(name)
        return Flow("unclear", self._said.get(name), name)

    def behind(self, layer: Any, name: str, flow: Flow) -> Flow:
        """The flow after a layer that reads no features."""
        if isinstance(layer, SpikingAttention):
            return Flow("image", layer.dim, axes=1)
        if flow is INPUT and isinstance(layer, nn.MaxPool | nn.AvgPool):
            return Flow("image", None, name, len(layer.window_shape))
        if not flow.sorted and flow.channels != 1 and _tells_features_apart(layer):
            raise ValueError(
                f"{name} ({type(layer).__name__}) reads the features of {flow.at}, which torch has "
                "in another order; put it before that, or after a Linear"
            )
        # A class may have replaced the step of ours.
        elementwise = isinstance(layer, nn.ElementwiseCell) and is_final(type(layer).__call__)
        if elementwise or isinstance(layer, _KEEPERS):
            return flow
        known = flow.kind == "features" and not _may_flatten(layer, flow)
        return flow if known else self.unclear(name)

    def order(self, name: str, features: int, flow: Flow) -> np.ndarray | None:
        """The order in which the layer `name` reads its features; None if it is torch's.

        Ours at `k` is torch's at `order[k]`.
        """
        self._places.add(name)
        if name in self._said:
            flow = Flow("flat", self._said[name], name)
        if flow.kind == "features":
            return None
        if flow.kind == "image":
            raise ValueError(
                f"{name} reads the features of images, which torch has on another axis; put an "
                "nn.Flatten before it"
            )
        if flow.channels is None:
            self._asked.setdefault(flow.at, name)
            return None
        if features % flow.channels:
            raise ValueError(
                f"{name} reads {features} features, not a multiple of the {flow.channels} channels "
                f"of {flow.at}; correct flatten_channels"
            )
        if flow.channels in (1, features):
            return None
        return np.arange(features).reshape(flow.channels, -1).T.reshape(-1)


def _may_flatten(layer: Any, flow: Flow) -> bool:
    """True if a layer that is not ours may output a flattened image."""
    if not isinstance(layer, nnx.Module):
        return flow is INPUT
    parts = [part for _, part in nnx.iter_modules(layer)]
    spatial = any(isinstance(part, nnx.Conv | nn.Flatten) for part in parts)
    reads = any(isinstance(part, nnx.Linear) for part in parts)
    return spatial or (flow is INPUT and not reads)


def _tells_features_apart(layer: Any) -> bool:
    if isinstance(layer, nn.contrib.GatedLIFNode):
        return layer.inplane is not None
    if isinstance(layer, nn.contrib.ActivationAwareIFNode | nn.ExponentialSynapse | Leaky):
        return any(np.ndim(getattr(layer, name)) > 0 for name in layer.printed)
    return isinstance(layer, nn.VotingLayer | nnx.GroupNorm)
