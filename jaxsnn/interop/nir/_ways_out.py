"""Remedies for layers that NIR has no node for."""

from typing import Any

from flax import nnx

from jaxsnn import nn

_NORMS = nn.BatchNorm | nn.contrib.BatchNormThroughTime | nn.contrib.TemporalEffectiveBatchNorm


def way_out(layer: Any) -> str:
    """The end of the error message."""
    name = type(layer).__name__
    if name == "SynapseFilter":
        return (
            "its decay stops where a spike comes, which is a product of current and spike, and NIR "
            "only has sums; NonSpikingLIFNode(tau, decay_input=False) decays all the time and can "
            "be written, the network has to be trained with it"
        )
    if name == "ExponentialSynapse":
        return (
            "NonSpikingLIFNode(1 / (1 - exp(-1 / tau)), decay_input=False) is the same but for "
            "rounding, and can be written; one that stands right before a LIFNode, "
            "NonSpikingLIFNode or Leaky in a Sequential is written together with it"
        )
    if name in ("Dropout", "Dropout2d"):
        return "it does nothing in inference, so leave it out of the stack that you write"
    if type(layer) in (nn.BatchNorm, nn.contrib.ThresholdDependentBatchNorm, nnx.BatchNorm):
        return (
            "in inference it is a scale and a shift of each channel; write the network that "
            "jaxsnn.nn.fold_batch_norm(net) returns, which has them in the layer before"
        )
    if isinstance(layer, _NORMS):
        return "it is another one at each time step; train with a BatchNorm to write the network"
    for stack in ("fc", "stack"):
        if hasattr(layer, stack):
            return f"pass its layers, .{stack}; what is done with their outputs is not in NIR"
    return "to_nir says which layers it can write; replace it by one of them"
