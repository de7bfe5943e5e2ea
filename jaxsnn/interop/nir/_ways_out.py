"""What to do about a layer that NIR has no node for."""

from typing import Any


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
            "rounding, and can be written"
        )
    if name in ("Dropout", "Dropout2d"):
        return "it does nothing in inference, so leave it out of the stack that you write"
    if "Norm" in name:
        return (
            "in inference it is a scale and a shift of each channel; put them into the weights and "
            "the bias of the layer before it"
        )
    for stack in ("fc", "stack"):
        if hasattr(layer, stack):
            return f"pass its layers, .{stack}; what is done with their outputs is not in NIR"
    return "to_nir says which layers it can write; replace it by one of them"
