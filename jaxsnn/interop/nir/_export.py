"""`to_nir`: a module of ours as a NIR graph."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxsnn import _checks
from jaxsnn._graphs import INPUT, OUTPUT
from jaxsnn.interop.nir._layout import Layout
from jaxsnn.interop.nir._notes import KEY
from jaxsnn.interop.nir._package import package
from jaxsnn.interop.nir._writer import Flow, Writer


def to_nir(
    module: Any,
    input_shape: Sequence[int],
    *,
    dt: float = 1e-4,
    soft_reset: bool = False,
) -> Any:
    """A module as a NIR graph; `nir.write(path, graph)` puts it into a file.

    Nodes are named by the paths of the layers. The recurrent containers become cycles, a
    `Graph` becomes its nodes and edges. The time constants of the graph are those of the network
    times `dt`, which its metadata keep for `from_nir`.

    Constants of neurons are written as one number per neuron, arrays and learned ones too.

    NIR describes a trained network. Settings of the training are written as metadata, which other
    readers pass over: the surrogate (only the name of a custom one), `detach_reset`, the parameters
    and bounds of learned constants (not those of two layers that become one node), and that a
    potential equal to the threshold fires, which in NIR it does not. `dtype` and `precision` of
    layers that multiply are written there, too.

    Args:
        module: a cell or a layer: of `jaxsnn.nn` `Sequential`, both recurrent containers, `Linear`,
            `Conv` of one or two axes, `WSLinear` and `WSConv` with their standardised weights,
            `AvgPool` of two axes, `Flatten`, `Delay`, `IFNode`, `LIFNode`, `ParametricLIFNode`,
            `CUBALIFNode`, `NonSpikingIFNode`, `NonSpikingLIFNode` and `Graph`; of this module
            `Neuron`, `Threshold`, `Scale` and `SumPool`; of `jaxsnn.interop.snntorch` `Leaky`; and
            Flax's `Linear` and `Conv`. An `ExponentialSynapse` is written with the `LIFNode`,
            `NonSpikingLIFNode` or `Leaky` right after it in a `Sequential`.
            `jaxsnn.nn.fold_batch_norm` puts batch normalisations into the layers before them.
        input_shape: shape of the input of one time step without its batch axis, e.g. `(28,)` or,
            channels last, `(28, 28, 1)`.
        dt: seconds in a time step.
        soft_reset: whether neurons with the soft reset may be written. NIR does not know it:
            they become nodes with a `v_reset` of 0 and the soft reset in their metadata, where
            other readers do not find it.

    Returns:
        A `nir.NIRGraph`, its shapes channels first.

    Raises:
        ImportError: the package `nir` is not installed.
        TypeError: a layer has no NIR node; the message has its path and what to do.
        ValueError: a layer has one, but not with these settings; parameters are not finite, or
            shapes do not fit.

    Examples:
        >>> graph = to_nir(nn.Sequential(nn.Linear(4, 2, rngs=nnx.Rngs(0)), nn.IFNode()), (4,))
        >>> graph.edges
        [('input', '0'), ('0', '1'), ('1', 'output')]
    """
    nir = package()
    dt = _checks.positive("dt", dt)
    if not isinstance(input_shape, Sequence):
        raise TypeError(f"input_shape must be a shape, e.g. (28,), got {input_shape!r}")
    shape = tuple(_checks.size("input_shape", side) for side in input_shape)
    if not 1 <= len(shape) <= 3:
        raise ValueError(
            "input_shape must have one to three axes (features; length and channels; height, width "
            f"and channels) and none for the batch, got {list(shape)}"
        )
    writer = Writer(nir, dt, _checks.boolean("soft_reset", soft_reset))
    first = Layout(shape)
    writer.nodes[INPUT] = nir.Input(np.array(first.nir_shape))
    last = writer.write(module, "", Flow((INPUT,), first))
    if last.layout.order is not None:
        raise ValueError(
            "a Flatten of images at the end would output its elements in another order than NIR "
            "does, which flattens channels first; put a Linear after it, or leave it out"
        )
    writer.nodes[OUTPUT] = nir.Output(np.array(last.layout.nir_shape))
    writer.edges += [(name, OUTPUT) for name in last.sources]
    return nir.NIRGraph(writer.nodes, writer.edges, {KEY: {"dt": dt}}, type_check=False)
