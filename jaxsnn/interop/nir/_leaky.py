"""snnTorch's `Leaky` in NIR's equations.

A potential of which `beta` is left after a step, and to which the whole input is added, is that of
a `LIF` with `tau = dt / (1 - beta)` and `r = tau / dt`; with `beta = 1` it is that of an `IF`.
"""

from typing import Any

import numpy as np
from flax import nnx

from jaxsnn.interop._leaky import Leaky
from jaxsnn.interop.nir._neuron import Neuron
from jaxsnn.interop.nir._settings import shown
from jaxsnn.interop.nir._strict import Strict

# Resets that no node of NIR has, by `reset_delay`, and their remedies.
_REFUSED = {
    ("subtract", False): (
        "takes the threshold off once more in the next step where the potential is still above it; "
        "train with reset_delay=True"
    ),
    ("discard", True): (
        'drops the input of the step after a spike, as "zero" of RLeaky and Synaptic does; train '
        "with reset_delay=False, or with 'subtract'"
    ),
}
# The delayed reset takes `threshold / beta` off before the leak, and float32 rounds what is left
# by up to 6e-8 of that. In a million steps of neurons with inputs of twice the normal distribution
# none differed from beta = 3e-3 on, one at 1e-3, 23 at 1e-4, 1128 at 1e-6.
_LEAST_BETA = 1e-3


def neuron_of_leaky(leaky: Leaky, dt: float, shape: tuple[int, ...]) -> Neuron:
    """The `Neuron` with the same spikes, but for rounding.

    Args:
        leaky: the neuron.
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
            f"graded_spikes_factor={shown(factor)} is the size of a spike, which is 1 in NIR; "
            "multiply the weights after it by the factor, or put a jaxsnn.interop.nir.Scale there"
        )
    beta = np.clip(_numbers(leaky, "beta", shape), 0, 1)
    if np.any(beta == 1) and not np.all(beta == 1):
        raise ValueError(
            f"beta={shown(beta)} is 1 for some neurons, whose potential never decays, and NIR has "
            "no infinite time constant; choose less, or 1 for all, which is an IF node"
        )
    if reset == "none":
        raise ValueError(
            "reset_mechanism='none' never resets, and every node of NIR that fires does; "
            f"{_integrator(beta)} with a jaxsnn.interop.nir.Threshold(threshold, "
            "surrogate_function=jaxsnn.interop.nir.Strict(surrogate)) after it does the same "
            "but for rounding"
        )
    threshold = _numbers(leaky, "threshold", shape)
    if np.any(threshold < 0):
        raise ValueError(
            f"threshold={shown(threshold)} is below 0, so that a potential of 0, where it starts, "
            "is reset; choose one of at least 0"
        )
    surrogate = leaky.surrogate_function
    settings: dict[str, Any] = {
        "v_threshold": threshold,
        "v_reset": None if reset == "subtract" else 0.0,
        "surrogate_function": surrogate if isinstance(surrogate, Strict) else Strict(surrogate),
        "detach_reset": delay,  # without delay a gradient flows through the spike that resets
    }
    if np.all(beta == 1):
        return Neuron(dt=dt, r=1 / dt, **settings)
    if reset == "subtract" and np.any(beta < _LEAST_BETA):
        raise ValueError(
            f"beta={shown(beta)} is less than {_LEAST_BETA}: in NIR the threshold is divided by "
            "beta when it is taken off, and rounding would make other spikes; train with at least "
            f"{_LEAST_BETA}, or with reset_mechanism='zero', which has no such limit"
        )
    r = 1 / (1 - beta)
    delayed = reset == "subtract"
    return Neuron(dt=dt, r=r, tau=r * dt, v_leak=0.0, delayed_reset=delayed, **settings)


def _integrator(beta: np.ndarray) -> str:
    """The cell with the potential of a neuron that never resets."""
    if np.all(beta == 1):
        return "NonSpikingIFNode()"
    if np.all(beta == beta.flat[0]) and np.all(beta > 0):
        return "NonSpikingLIFNode(1 / (1 - beta), decay_input=False)"
    return (
        "jaxsnn.interop.nir.Neuron(dt=dt, tau=dt / (1 - beta), r=1 / (1 - beta), v_leak=0.0), the "
        "numbers as arrays of the shape of an input,"
    )


def _numbers(leaky: Leaky, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A setting or parameter as one number, or one for each element of a step's input."""
    value = getattr(leaky, name)
    numbers = np.asarray(value[...] if isinstance(value, nnx.Param) else value).astype(np.float64)
    if not np.all(np.isfinite(numbers)):
        raise ValueError(f"{name} must be finite, got {shown(numbers)}")
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
