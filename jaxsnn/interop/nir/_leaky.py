"""snnTorch's `Leaky` in NIR's equations.

A potential of which `beta` is left after a step, and to which the whole input is added, is that of
a `LIF` with `tau = dt / (1 - beta)` and `r = tau / dt`; with `beta = 1` it is that of an `IF`.
"""

from typing import Any

import numpy as np
from flax import nnx

from jaxsnn.interop._leaky import Leaky
from jaxsnn.interop.nir._neuron import Neuron
from jaxsnn.interop.nir._strict import Strict

# What to do about the resets that are none of a node that NIR has, by `reset_delay`.
_REFUSED = {
    ("subtract", False): (
        "takes the threshold off once more in the next step where the potential is still above it; "
        "train with reset_delay=True"
    ),
    ("discard", True): (
        'drops the input of the step after a spike, as "zero" of RLeaky and Synaptic does; train '
        "with reset_delay=False, or with 'subtract'"
    ),
    ("none", True): (
        "never resets, and every node of NIR that fires does; NonSpikingLIFNode(1 / (1 - beta), "
        "decay_input=False) with a jaxsnn.interop.nir.Threshold behind it does the same"
    ),
}
_REFUSED["none", False] = _REFUSED["none", True]


def neuron_of_leaky(leaky: Leaky, dt: float, shape: tuple[int, ...]) -> Neuron:
    """The `Neuron` with the same spikes, but for rounding.

    Args:
        leaky: what becomes a node.
        dt: seconds in a step.
        shape: of the input of one step, without the batch.

    Raises:
        ValueError: NIR has no such equation.
    """
    reset, delay = leaky.reset_mechanism, leaky.reset_delay
    if (reset, delay) in _REFUSED:
        raise ValueError(
            f"reset_mechanism={reset!r} with reset_delay={delay} {_REFUSED[reset, delay]}"
        )
    factor = _numbers(leaky, "graded_spikes_factor", shape)
    if np.any(factor != 1):
        raise ValueError(
            f"graded_spikes_factor={factor} is the size of a spike, which is 1 in NIR; multiply "
            "the weights behind it by the factor, or put a jaxsnn.interop.nir.Scale there"
        )
    threshold = _numbers(leaky, "threshold", shape)
    if np.any(threshold < 0):
        raise ValueError(
            f"threshold={threshold} is below 0, so that a potential of 0, where it starts, is "
            "reset; choose one of at least 0"
        )
    surrogate = leaky.surrogate_function
    settings: dict[str, Any] = {
        "v_threshold": threshold,
        "v_reset": None if reset == "subtract" else 0.0,
        "surrogate_function": surrogate if isinstance(surrogate, Strict) else Strict(surrogate),
        "detach_reset": delay,  # without delay a gradient flows through the spike that resets
    }
    beta = np.clip(_numbers(leaky, "beta", shape), 0, 1)
    if np.all(beta == 1):
        return Neuron(dt=dt, r=1 / dt, **settings)
    if np.any(beta == 1):
        raise ValueError(
            f"beta={beta} is 1 for some neurons, whose potential never decays, and NIR has no "
            "infinite time constant; choose less, or 1 for all, which is an IF node"
        )
    if reset == "subtract" and np.any(beta.astype(np.float32) < np.finfo(np.float32).eps):
        raise ValueError(
            f"beta={beta} leaves nothing of the potential that the threshold is taken off in NIR; "
            "choose more than 0, or reset_mechanism='zero'"
        )
    r = 1 / (1 - beta)
    delayed = reset == "subtract"
    return Neuron(dt=dt, r=r, tau=r * dt, v_leak=0.0, delayed_reset=delayed, **settings)


def _numbers(leaky: Leaky, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A setting or parameter as one number, or one for each element of a step's input."""
    value = getattr(leaky, name)
    numbers = np.asarray(value[...] if isinstance(value, nnx.Param) else value).astype(np.float64)
    if numbers.ndim == 0:
        return numbers
    if leaky.of_features and len(shape) > 1:
        raise ValueError(
            f"{name} has one number for each of {len(numbers)} features, as snnTorch has it, which "
            f"would put them along the width of an image; the input has shape {list(shape)} a step"
        )
    if numbers.shape != shape[-1:]:
        raise ValueError(
            f"{name} has one number for each of {len(numbers)} neurons, but the input has shape "
            f"{list(shape)} a step"
        )
    return np.broadcast_to(numbers, shape)
