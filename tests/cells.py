"""The table of all cells: one row per cell, and per variant of it that is worth a test.

The tests of all cells read it: the contract (`nn/test_cells.py`), properties, shapes, layouts,
forward mode. A new cell joins by one row.
"""

import inspect
import operator
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxsnn
from jaxsnn import surrogate
from jaxsnn.interop import nir, snntorch

# The names of `jaxsnn.nn` and `jaxsnn.nn.contrib`: a row does not say which of them has its cell.
PUBLIC = jaxsnn.nn, jaxsnn.nn.contrib
nn = types.SimpleNamespace(**{k: v for module in PUBLIC for k, v in vars(module).items()})
ABSTRACT = nn.Cell, nn.Module, nn.ElementwiseCell, nn.Neuron

F = 4  # features of the inputs


class Equation(NamedTuple):
    """One time step of a neuron in NumPy: charge, fire, reset.

    Each function takes the constants of the neuron first, e.g. `n.tau`; then `v`, `x` and, if the
    neuron has a second state, `w`.

    Attributes:
        charge: the potential `h` before the reset, of `(n, v, x)` or `(n, v, x, w)`.
        second: the second state after the step, of `(n, v, x, w, h, s)`.
        reach: the value that `h` must reach to fire, of `(n, w)`; None is `v_threshold`.
        take: the value that a soft reset subtracts per spike, of `(n, w, w after the step)`; None
            is `v_threshold`.
        fire: the spikes, of `h` and the value to reach.
        exact: the inputs for which the numbers are equal to NumPy's bit for bit: "any" float,
            "grid", multiples of 1/8, or "" if they are equal to rounding.
    """

    charge: Callable[..., Any]
    second: Callable[..., Any] | None = None
    reach: Callable[..., Any] | None = None
    take: Callable[..., Any] | None = None
    fire: Callable[..., Any] = np.greater_equal
    exact: str = ""


class Row(NamedTuple):
    """A cell, and what its tests need to know about it.

    Attributes:
        make: makes the cell.
        equation: its step in NumPy, for a neuron that charges, fires and resets.
        shape: the axes of an input between batch and features.
        outputs: the values that an output may have; empty if it may have any.
        over_time: how equal the ways to run it over a sequence are: "any" float as input gives the
            same numbers bit for bit; "sums", so do multiples of 1/2, whose sums are exact in any
            order; "rounded", multiples of 1/8 give the same to rounding. "" leaves the cell out
            of these tests.
        rests: whether inputs of 0 leave it in its first state, with an output of 0.
    """

    make: Callable[[], nn.Cell]
    equation: Equation | None = None
    shape: tuple[int, ...] = ()
    outputs: tuple[int, ...] = (0, 1)
    over_time: str = "rounded"
    rests: bool = True


def rngs():
    return nnx.Rngs(0)


def linear(inputs, outputs):
    return nn.Linear(inputs, outputs, rngs=rngs())


# --- Equations of neurons. With a power of 2 for `tau`, dividing by it rounds nothing. ------------


def integrate(n, v, x):
    return v + x


def leak(n, v, x, w=None):
    """The charge of a LIF neuron, which rests at `v_reset`."""
    rest = 0.0 if n.v_reset is None else n.v_reset
    if n.decay_input:
        return v + (x - (v - rest)) / n.tau
    return v - (v - rest) / n.tau + x


def leak_undecayed(n, v, x, w=None):
    return v - v / n.tau + x


def quadratic(n, v, x, w=0):
    return v + (x - w + n.a0 * (v - n.v_rest) * (v - n.v_c)) / n.tau


def adapted(n, v, x, w):
    return np.exp(-1 / n.tau_u) * v + (1 - np.exp(-1 / n.tau_u)) * (x - w)


def sigmoid(u):
    return 1 / (1 + np.exp(-u))


def either_way(h, threshold):
    return (h >= threshold) * 1 - (-h >= threshold) * 1


IF = Equation(integrate, exact="any")
LIF = Equation(leak, exact="any")

# --- The table ------------------------------------------------------------------------------------

ROWS = {
    # Neurons.
    "ActivationAwareIFNode": Row(
        lambda: nn.ActivationAwareIFNode(
            v_threshold=np.array([0.75, 1.0, 1.25, 1.5]), v_offset=np.array([0.25, 0.0, -0.25, 0.5])
        ),
        Equation(integrate, reach=lambda n: n.v_threshold - n.v_offset, exact="grid"),
        over_time="any",
    ),
    "AdLIFNode": Row(
        lambda: nn.AdLIFNode(2.0, 4.0, a=0.5, b=0.25),
        Equation(
            adapted,
            second=lambda n, v, x, w, h, s: np.exp(-1 / n.tau_w) * w + n.a * h + n.b * s,
        ),
    ),
    "AdLIFNode, learned": Row(
        lambda: nn.AdLIFNode(
            nn.learnable((2.0, 3.0, 4.0, 5.0), (1, 25)),
            nn.learnable(4.0),
            a=nn.learnable(0.5),
            b=np.array([0.25, 0.5, 0.0, 1.0]),
            v_threshold=nn.learnable((0.5, 0.75, 1.0, 0.25)),
        )
    ),
    "AdaptiveLIFNode": Row(
        lambda: nn.AdaptiveLIFNode(tau_a=4.0, beta=2.0),
        Equation(
            leak,
            second=lambda n, v, x, w, h, s: w + (s - w) / n.tau_a,
            reach=lambda n, w: n.v_threshold + n.beta * w,
            take=lambda n, before, after: n.v_threshold + n.beta * before,
            exact="grid",
        ),
    ),
    "BRFNode": Row(lambda: nn.BRFNode(omega=0.8, b_offset=0.1, dt=1.0, v_threshold=0.5)),
    "ComplementaryLIFNode": Row(
        lambda: nn.ComplementaryLIFNode(),
        Equation(
            leak_undecayed,
            second=lambda n, v, x, w, h, s: w * sigmoid(h / n.tau) + s,
            take=lambda n, before, after: n.v_threshold + sigmoid(after),
        ),
    ),
    "CUBALIFNode": Row(
        lambda: nn.CUBALIFNode(),
        Equation(
            lambda n, v, x, w: n.v_decay * v + n.c_decay * w + x,
            second=lambda n, v, x, w, h, s: n.c_decay * w + x,
            exact="grid",
        ),
        over_time="sums",
    ),
    "EIFNode": Row(
        lambda: nn.EIFNode(theta_rh=0.75, v_rest=0.5),
        Equation(
            lambda n, v, x: (
                v + (x - (v - n.v_rest) + n.delta_T * np.exp((v - n.theta_rh) / n.delta_T)) / n.tau
            )
        ),
        rests=False,
    ),
    "HalfThresholdIFNode": Row(
        lambda: nn.HalfThresholdIFNode(v_threshold=0.5), IF, over_time="any"
    ),
    "IFNode": Row(lambda: nn.IFNode(), IF, over_time="any"),
    "IFNode, other reset": Row(
        lambda: nn.IFNode(v_threshold=0.7, v_reset=-0.1, detach_reset=True), IF, over_time="any"
    ),
    "IFNode, soft": Row(
        lambda: nn.IFNode(v_threshold=0.7, v_reset=None, surrogate_function=surrogate.ATan()),
        IF,
        over_time="any",
    ),
    "ILIFNode": Row(
        lambda: nn.ILIFNode(tau=4.0, v_threshold=0.5),
        Equation(
            leak_undecayed,
            fire=lambda h, threshold: np.round(np.clip(h / threshold, 0, 4)),
            exact="any",
        ),
        outputs=(0, 1, 2, 3, 4),
        over_time="sums",
    ),
    "IzhikevichNode": Row(
        lambda: nn.IzhikevichNode(v_c=0.75, v_rest=-0.125, tau_w=4.0, a=0.5, b=0.25),
        Equation(
            quadratic,
            second=lambda n, v, x, w, h, s: w + (n.a * (h - n.v_rest) - w) / n.tau_w + n.b * s,
            exact="grid",
        ),
        rests=False,
    ),
    "KLIFNode": Row(
        lambda: nn.KLIFNode(),
        Equation(lambda n, v, x: np.maximum(n.k * leak(n, v, x), 0), exact="any"),
        over_time="any",
    ),
    "LIAFNode": Row(lambda: nn.LIAFNode(jax.nn.relu, True), outputs=(), over_time="any"),
    "LIAFNode, spikes": Row(lambda: nn.LIAFNode(surrogate.ATan(), True), LIF, over_time="any"),
    "LIFNode": Row(lambda: nn.LIFNode(), LIF, over_time="any"),
    "LIFNode, other reset": Row(lambda: nn.LIFNode(v_reset=-0.1), LIF, over_time="any"),
    "LIFNode, undecayed, soft": Row(
        lambda: nn.LIFNode(tau=4.0, decay_input=False, v_reset=None), LIF, over_time="any"
    ),
    "LIFNode, learned per neuron": Row(
        lambda: nn.LIFNode(nn.learnable((1.5, 2.0, 3.0, 8.0)), v_threshold=nn.learnable(0.5)),
        Equation(leak),
    ),
    "LIFNode, tau 3": Row(lambda: nn.LIFNode(tau=3.0, v_reset=-0.25), Equation(leak)),
    "NonSpikingIFNode": Row(lambda: nn.NonSpikingIFNode(), outputs=(), over_time="any"),
    "NonSpikingLIFNode": Row(lambda: nn.NonSpikingLIFNode(), outputs=(), over_time="any"),
    "OTTTLIFNode": Row(
        lambda: nn.OTTTLIFNode(tau=4.0),
        Equation(leak, second=lambda n, v, x, w, h, s: w * (1 - 1 / n.tau) + s, exact="grid"),
        over_time="any",
    ),
    "ParametricLIFNode": Row(
        lambda: nn.ParametricLIFNode(decay_input=False, v_threshold=0.5), LIF, over_time="any"
    ),
    "QIFNode": Row(
        lambda: nn.QIFNode(v_c=0.75, v_rest=-0.125, v_reset=-0.25),
        Equation(quadratic, exact="grid"),
        rests=False,
    ),
    "RAFNode": Row(
        lambda: nn.RAFNode(),
        Equation(
            lambda n, v, x, w: (
                np.exp(n.b * n.dt) * (v * np.cos(n.omega * n.dt) + w * np.sin(n.omega * n.dt))
            ),
            second=lambda n, v, x, w, h, s: (
                np.exp(n.b * n.dt) * (w * np.cos(n.omega * n.dt) - v * np.sin(n.omega * n.dt)) + x
            ),
        ),
    ),
    "SEAdLIFNode": Row(
        lambda: nn.SEAdLIFNode(2.0, 4.0, b=0.25, q=8.0),
        Equation(
            adapted,
            second=lambda n, v, x, w, h, s: (
                np.exp(-1 / n.tau_w) * w
                + (1 - np.exp(-1 / n.tau_w)) * n.q * (n.a * (1 - s) * h + n.b * s)
            ),
        ),
    ),
    "SLTTLIFNode": Row(lambda: nn.SLTTLIFNode(), LIF, over_time="any"),
    "TCLIFNode": Row(lambda: nn.TCLIFNode(v_threshold=0.5), over_time="sums"),
    "TernaryIFNode": Row(
        lambda: nn.TernaryIFNode(), IF._replace(fire=either_way), (), (-1, 0, 1), "any"
    ),
    "TernaryIFNode, soft": Row(
        lambda: nn.TernaryIFNode(v_reset=None), IF._replace(fire=either_way), (), (-1, 0, 1), "any"
    ),
    "TernaryLIFNode": Row(
        lambda: nn.TernaryLIFNode(v_reset=-0.25),
        LIF._replace(fire=either_way),
        (),
        (-1, 0, 1),
        "any",
    ),
    "Leaky": Row(
        lambda: snntorch.Leaky([0.9, 0.8, 0.7, 0.6], threshold=0.4, learn_threshold=True),
    ),
    # Synapses.
    "AlphaSynapse": Row(lambda: nn.AlphaSynapse(3.0), outputs=()),
    "Delay": Row(lambda: nn.Delay(2), outputs=(), over_time="any"),
    "DoubleExponentialSynapse": Row(lambda: nn.DoubleExponentialSynapse(4.0, 1.5), outputs=()),
    "DoubleExponentialSynapse, learned": Row(
        lambda: nn.DoubleExponentialSynapse(nn.learnable(4.0), nn.learnable(1.5)), outputs=()
    ),
    "ExponentialSynapse": Row(lambda: nn.ExponentialSynapse(3.0), outputs=()),
    "SynapseFilter": Row(lambda: nn.SynapseFilter(tau=2.0), outputs=(), over_time="sums"),
    "SynapseFilter, tau 3, learned": Row(lambda: nn.SynapseFilter(3.0, True), outputs=()),
    # Layers with a state.
    "NeuNorm": Row(lambda: nn.NeuNorm(F, 2, 2, rngs=rngs()), shape=(2, 2), outputs=()),
    "SlidingPSN": Row(lambda: nn.SlidingPSN(k=3, rngs=rngs()), over_time="sums"),
    "SpikingGRUCell": Row(
        lambda: nn.SpikingGRUCell(F, 3, rngs=rngs()), over_time="sums", rests=False
    ),
    "SpikingLSTMCell": Row(
        lambda: nn.SpikingLSTMCell(F, 3, rngs=rngs()), over_time="sums", rests=False
    ),
    "SpikingVanillaRNNCell": Row(
        lambda: nn.SpikingVanillaRNNCell(F, 3, rngs=rngs()), over_time="sums", rests=False
    ),
    # Attention is made of Linear, BatchNorm and LIFNode, and takes a minute to compile over time.
    "ChannelQKAttention": Row(
        lambda: nn.ChannelQKAttention(F, num_heads=2, rngs=rngs()),
        shape=(2,),
        over_time="",
        rests=False,
    ),
    "SpikingSelfAttention": Row(
        lambda: nn.SpikingSelfAttention(F, num_heads=2, rngs=rngs()),
        shape=(2,),
        over_time="",
        rests=False,
    ),
    "TokenQKAttention": Row(
        lambda: nn.TokenQKAttention(F, num_heads=2, rngs=rngs()),
        shape=(2,),
        over_time="",
        rests=False,
    ),
    # Modules that are made of others.
    "Concatenate": Row(
        lambda: nn.Concatenate(nn.LIFNode(v_threshold=0.3), linear(F, 2)),
        outputs=(),
        over_time="sums",
        rests=False,
    ),
    "ElementWiseRecurrentContainer": Row(
        lambda: nn.ElementWiseRecurrentContainer(nn.IFNode(), operator.add), over_time="any"
    ),
    "ElementWiseRecurrentContainer, around a stack": Row(
        lambda: nn.ElementWiseRecurrentContainer(
            nn.Sequential(linear(F, F), nn.LIFNode(v_threshold=0.25)), operator.sub
        ),
        over_time="sums",
        rests=False,
    ),
    "ElementWiseRecurrentContainer, around a layer": Row(
        lambda: nn.ElementWiseRecurrentContainer(linear(F, F), operator.add),
        outputs=(),
        over_time="",  # its outputs grow
        rests=False,
    ),
    "ElementWiseRecurrentContainer, around a function": Row(
        lambda: nn.ElementWiseRecurrentContainer(jnp.tanh, operator.add), outputs=()
    ),
    "ElementWiseRecurrentContainer, around another container": Row(
        lambda: nn.ElementWiseRecurrentContainer(
            nn.LinearRecurrentContainer(nn.IFNode(v_threshold=0.5), F, F, rngs=rngs()),
            operator.add,
        ),
        over_time="sums",
        rests=False,
    ),
    "Graph": Row(
        lambda: nn.Graph(
            {"a": linear(F, F), "b": nn.LIFNode(v_threshold=0.3)},
            [("input", "b"), ("b", "a"), ("a", "b"), ("b", "output"), ("input", "output")],
        ),
        outputs=(),
        over_time="sums",
        rests=False,
    ),
    "Graph, of neurons of NIR": Row(
        lambda: nn.Graph(
            {
                "a": linear(F, F),
                "b": nir.Neuron(
                    dt=1.0, r=[2.0, 3.0, 2.0, 4.0], tau=2.0, v_leak=0.1, v_threshold=0.3
                ),
            },
            [("input", "b"), ("b", "a"), ("a", "b"), ("b", "output"), ("input", "output")],
        ),
        outputs=(),
        over_time="",  # neither sums nor products are exact
        rests=False,
    ),
    "LinearRecurrentContainer": Row(
        lambda: nn.LinearRecurrentContainer(nn.LIFNode(v_threshold=0.3), F, F, rngs=rngs()),
        over_time="sums",
        rests=False,
    ),
    "LinearRecurrentContainer, feedback only": Row(
        lambda: nn.LinearRecurrentContainer(
            nn.LIFNode(v_threshold=0.5), F, F, bias=False, feedback_only=True, rngs=rngs()
        ),
        over_time="sums",
    ),
    "LinearRecurrentContainer, other size": Row(
        lambda: nn.LinearRecurrentContainer(
            nn.Sequential(linear(F, 2), nn.LIFNode(v_threshold=0.2)), F, 2, bias=False, rngs=rngs()
        ),
        over_time="sums",
        rests=False,
    ),
    "Residual": Row(
        lambda: nn.Residual(
            nn.Sequential(linear(F, F), nn.IFNode(v_threshold=0.3)),
            shortcut=nn.LIFNode(v_threshold=0.3),
            combine=operator.sub,
        ),
        outputs=(-1, 0, 1),
        over_time="sums",
        rests=False,
    ),
    "Sequential": Row(
        lambda: nn.Sequential(linear(F, 2), nn.IFNode()), over_time="sums", rests=False
    ),
    "Sequential, one scan": Row(
        lambda: nn.Sequential(
            nn.IFNode(v_threshold=0.25), nn.SynapseFilter(tau=2.0), nn.LIFNode(v_threshold=0.125)
        ),
        over_time="sums",
    ),
    "Sequential, stack": Row(
        lambda: nn.Sequential(
            linear(F, F),
            nn.LIFNode(v_threshold=0.5),
            jax.nn.relu,
            nn.ElementWiseRecurrentContainer(nn.IFNode(v_reset=None), operator.add),
            nn.SynapseFilter(tau=2.0),
        ),
        outputs=(),
        over_time="sums",
        rests=False,
    ),
}

# One row per class, for tests that take long.
CELLS = {name: row for name, row in ROWS.items() if "," not in name}


def public_cells():
    """The classes of cells that are public: each has a row."""
    for module in PUBLIC:
        for kind in vars(module).values():
            is_cell = inspect.isclass(kind) and issubclass(kind, nn.Cell)
            if is_cell and kind not in ABSTRACT and getattr(kind, "carries_state", True):
                yield kind


# --- The transition of a neuron -------------------------------------------------------------------


def one_step(cell, state, x):
    """One step of a neuron by its transition in `functional`."""
    settings = {
        name: jnp.broadcast_to(value, x.shape) if isinstance(value, jax.Array) else value
        for name, value in cell.settings().items()
    }
    return type(cell).step(state, x, **settings)


class Constants:
    """The attributes of a neuron; those that are arrays as arrays of NumPy."""

    def __init__(self, cell):
        self.cell = cell

    def __getattr__(self, name):
        value = getattr(self.cell, name)
        return np.asarray(value, np.float32) if isinstance(value, tuple | jax.Array) else value
