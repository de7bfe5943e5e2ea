"""Whole networks to and from the Neuromorphic Intermediate Representation (NIR).

NIR (Pedersen et al. 2024, "Neuromorphic intermediate representation: a unified instruction set for
interoperable brain-inspired computing") describes a network as a graph of nodes, most of them
differential equations in seconds. Ours are steps; `dt` is how many seconds one takes.
"""

from jaxsnn.interop.nir._cells import Neuron as Neuron
from jaxsnn.interop.nir._cells import NeuronState as NeuronState
from jaxsnn.interop.nir._cells import Scale as Scale
from jaxsnn.interop.nir._cells import Strict as Strict
from jaxsnn.interop.nir._cells import SumPool as SumPool
from jaxsnn.interop.nir._cells import Threshold as Threshold
from jaxsnn.interop.nir._convert import from_nir as from_nir
from jaxsnn.interop.nir._convert import to_nir as to_nir
