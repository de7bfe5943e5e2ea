"""The integrate-and-fire neuron with an offset before its threshold."""

from dataclasses import KW_ONLY

from jaxsnn import functional
from jaxsnn.nn._constants import Positive, Real
from jaxsnn.nn._neurons import Neuron


class ActivationAwareIFNode(Neuron):
    """IF neuron whose threshold is shifted by an offset, each one number or one for each channel;
    the equation is in `jaxsnn.functional.activation_aware_if_step`.

    Args:
        v_threshold: firing threshold, greater than 0.
        v_offset: what is added to the potential when it is compared with the threshold.
        v_reset: potential after a spike and before the first step; None is the soft reset,
            which subtracts the threshold and starts from 0.
        surrogate_function: spike function of `v + v_offset - v_threshold`.

    Examples:
        >>> neuron = ActivationAwareIFNode(v_threshold=[1.0, 0.5])
        >>> _, spikes = unroll(neuron, jnp.full((4, 1, 2), 0.25))
        >>> spikes[:, 0]
        Array([[0., 0.],
               [0., 1.],
               [0., 0.],
               [1., 1.]], dtype=float32)
    """

    _: KW_ONLY
    v_threshold: Positive = 1.0
    v_offset: Real = 0.0
    v_reset: Real | None = None
    step = functional.activation_aware_if_step
