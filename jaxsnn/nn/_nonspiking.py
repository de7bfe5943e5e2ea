"""Neurons that integrate and never fire: their output is the membrane potential."""

from dataclasses import KW_ONLY

from jaxsnn import functional
from jaxsnn.nn._constants import TimeConstant
from jaxsnn.nn._elementwise import ElementwiseCell


class NonSpikingIFNode(ElementwiseCell):
    """Integrator that never fires; the equation is in `jaxsnn.functional.nonspiking_if_step`.

    It outputs its potential at each step. As the last layer of a network it is followed by a
    readout over time, e.g. `jaxsnn.readouts.last_membrane`.

    Carry: the potential `v`, 0 before the first step, in the shape of one step's input.
    """

    state_name = "v"
    step = functional.nonspiking_if_step


class NonSpikingLIFNode(ElementwiseCell):
    """Leaky integrator (LI) that never fires; the equation is in
    `jaxsnn.functional.nonspiking_lif_step`.

    It outputs its potential at each step. As the last layer of a network it is followed by a
    readout over time, e.g. `jaxsnn.readouts.max_membrane`.

    Args:
        tau: membrane time constant in time steps, greater than 1.
        decay_input: whether the input is divided by `tau` too.

    Carry: the potential `v`, 0 before the first step, in the shape of one step's input.

    Examples:
        >>> _, v_seq = unroll(NonSpikingLIFNode(tau=2.0), jnp.array([[1.0], [1.0], [0.0]]))
        >>> jaxsnn.readouts.max_membrane(v_seq)
        Array([0.75], dtype=float32)
    """

    state_name = "v"
    tau: TimeConstant = 2.0
    _: KW_ONLY
    decay_input: bool = True
    step = functional.nonspiking_lif_step
