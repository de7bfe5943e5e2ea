"""The table of calls whose shapes fit, each with an argument that does not, for test_shapes.py."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import quick
from flax import nnx

from jaxsnn import (
    data,
    encoding,
    functional,
    learning,
    losses,
    nn,
    quantize,
    readouts,
    surrogate,
    training,
)
from jaxsnn.interop import nir, snntorch


def ones(*shape, dtype=jnp.float32):
    return jnp.ones(shape, dtype)


def rngs():
    return nnx.Rngs(0)


def on(make, wrong, /, **right):
    """A row for a layer, or for anything else that is called; a module runs by `forward`."""
    layer = make
    if isinstance(make, types.FunctionType):
        layer = jax.tree.map(jnp.asarray, quick.empty(make))
    if isinstance(layer, nn.Module):
        return type(layer).forward, wrong, {"self": layer, "run": nn.Run(steps=True)} | right
    return type(layer).__call__, wrong, {"self": layer} | right


KEY = jax.random.key(0)
COUNTS, SPIKES = ones(4, dtype=jnp.int32), {"pre": ones(5, 2, 4), "post": ones(5, 2, 3)}
TRACES = learning.Traces(ones(2, 4), ones(2, 3))
NEURON = {"surrogate_function": surrogate.ATan(), "detach_reset": False}
GATES = ["alpha", "beta", "gamma", "tau", "v_threshold", "linear_decay", "v_subreset", "conduct"]

# The function, one argument that it must refuse, and all of those that it must take.
ROWS = [
    (encoding.poisson, {"key": ones()}, {"x": ones(2, 3), "T": 4, "key": KEY}),
    (encoding.regular, {"x": COUNTS}, {"x": ones(2, 3), "T": 4}),
    (encoding.repeat, {"x": 0.5}, {"x": COUNTS, "T": 3}),
    (encoding.periodic, {"spikes": ones()}, {"spikes": ones(2, 3), "T": 5}),
    (encoding.latency, {"x": COUNTS}, {"x": ones(2, 3), "T": 4}),
    (encoding.weighted_phase, {"x": COUNTS}, {"x": ones(2, 3), "K": 4}),
    (encoding.delta, {"xs": ones()}, {"xs": ones(5, 3), "threshold": 0.5}),
    on(
        lambda: encoding.PopulationEncoder(2, 3, mean_range=(0.0, 1.0), std=1.0),
        {"x": ones(4, 3)},
        x=ones(4, 2),
    ),
    (quantize.straight_through, {"values": ones(3)}, {"x": ones(2, 3), "values": ones(2, 3)}),
    (quantize.round, {"x": COUNTS}, {"x": ones(2, 3)}),
    (quantize.ceil, {"x": COUNTS}, {"x": ones(2, 3)}),
    (quantize.floor, {"x": COUNTS}, {"x": ones(2, 3)}),
    (quantize.clamp, {"x": COUNTS}, {"x": ones(3), "min_value": 0.0, "max_value": 1.0}),
    (quantize.step_quantize, {"x": COUNTS}, {"x": ones(2, 3)}),
    (quantize.k_bit_quantize, {"x": COUNTS}, {"x": ones(2, 3), "k": 2}),
    (quantize.clamp_by_linear, {"x": COUNTS}, {"x": ones(2, 3)}),
    (learning.proportional, {"w": COUNTS}, {"w": ones(4, 3)}),
    (learning.additive, {"w": COUNTS}, {"w": ones(4, 3)}),
    on(learning.LowerBound(), {"w": COUNTS}, w=ones(4, 3)),
    on(learning.UpperBound(), {"w": COUNTS}, w=ones(4, 3)),
    (learning.dense, {"weight": ones(2, 3)}, {"pre": ones(2, 4), "weight": ones(4, 3)}),
    on(
        learning.Convolution(),
        {"weight": ones(3, 3, 1, 4)},
        pre=ones(2, 5, 5, 2),
        weight=ones(3, 3, 2, 4),
    ),
    on(
        learning.STDP(2.0, 2.0),
        {"post": COUNTS},
        traces=TRACES,
        weight=ones(4, 3),
        pre=ones(2, 4),
        post=ones(2, 3),
    ),
    on(
        learning.MSTDP(2.0, 2.0),
        {"pre": COUNTS},
        state=learning.MSTDPState(TRACES, ones(2, 4, 3)),
        weight=ones(4, 3),
        pre=ones(2, 4),
        post=ones(2, 3),
        reward=ones(2),
    ),
    (
        learning.over_time,
        {"post": ones(4, 2, 3)},
        {"rule": learning.STDP(2.0, 2.0), "weight": ones(4, 3)} | SPIKES,
    ),
    (
        learning.over_time,
        {"reward": ones(2, 5)},
        {"rule": learning.MSTDP(2.0, 2.0), "weight": ones(4, 3), "reward": ones(5)} | SPIKES,
    ),
    (
        losses.redundant_one_hot,
        {"labels": ones(4)},
        {"labels": COUNTS, "num_classes": 3, "n": 2},
    ),
    (training.epoch_order, {"key": COUNTS}, {"key": KEY, "epoch": 0, "n": 3}),
    (training.cosine_learning_rates, {"epochs": 2.5}, {"lr": 0.1, "epochs": 3}),
    (
        snntorch.leaky_step,
        {"threshold": ones(2)},
        {
            "v": ones(2, 3),
            "x": ones(2, 3),
            "beta": ones(),
            "threshold": ones(1, 3),
            "reset_mechanism": "zero",
            "reset_delay": True,
            "surrogate_function": surrogate.ATan(),
        },
    ),
    on(lambda: nir.Scale(np.ones(3)), {"x": COUNTS}, x=ones(2, 3)),
    on(
        lambda: nir.Threshold(1.0, surrogate_function=surrogate.ATan()), {"x": COUNTS}, x=ones(2, 3)
    ),
    on(lambda: nir.SumPool((2, 2)), {"x": ones()}, x=ones(2, 4, 4, 1)),
    on(nir.Strict(surrogate.ATan()), {"u": COUNTS}, u=ones(3)),
    (
        functional.with_trace_gradient,
        {"trace": ones(3)},
        {"layer": jnp.sin, "spikes": ones(2, 3), "trace": ones(2, 3)},
    ),
    (
        readouts.firing_rate,
        {"mask": ones(4, 5, dtype=bool)},
        {"spikes": ones(5, 4, 3), "mask": None},
    ),
    (losses.firing_rate_mse, {"labels": ones(4)}, {"rates": ones(4, 10), "labels": COUNTS}),
    (data.columns, {"images": ones(4, 8, 8)}, {"images": ones(4, 8, 8, dtype=jnp.uint8)}),
    (
        functional.if_step,
        {"x": ones(3)},
        {"v": ones(2, 3), "x": ones(2, 3), "v_threshold": 1.0, "v_reset": 0.0} | NEURON,
    ),
    (
        functional.if_step,
        {"v_threshold": ones(2)},
        {"v": ones(2, 3), "x": ones(2, 3), "v_threshold": ones(1, 3), "v_reset": None} | NEURON,
    ),
    (
        functional.gated_lif_step,
        {"conduct": ones(1, 2, 3)},
        {"state": (ones(2, 3), ones(2, 3)), "x": ones(2, 3), "surrogate_function": surrogate.ATan()}
        | {name: ones(1, 3) for name in GATES},
    ),
    (
        functional.neunorm_step,
        {"w": ones(1, 4, 4, 2)},
        {"s": ones(2, 4, 4, 1), "x": ones(2, 4, 4, 3), "w": ones(1, 4, 4, 1), "k": 0.9},
    ),
    (
        functional.masked_psn_weight,
        {"lambda_": ones(5)},
        {"weight": ones(5, 5), "k": 2, "lambda_": ones()},
    ),
    (
        functional.synapse_filter_step,
        {"tau": ones(2)},
        {"i": ones(2, 3), "x": ones(2, 3), "tau": 2.0},
    ),
    (nn.sequence_mask, {"lengths": ones(2)}, {"lengths": COUNTS, "T": 3}),
    on(lambda: nn.Linear(4, 3, rngs=rngs()), {"inputs": ones(2, 3)}, inputs=ones(5, 2, 4)),
    on(lambda: nn.contrib.WSLinear(4, 3, rngs=rngs()), {"inputs": ones(3)}, inputs=ones(2, 4)),
    on(lambda: nn.contrib.DropConnectLinear(4, 3, rngs=rngs()), {"x": ones(3)}, x=ones(2, 4)),
    on(
        lambda: nn.Conv(2, 3, (3, 3), rngs=rngs()),
        {"inputs": ones(2, 5, 5, 3)},
        inputs=ones(2, 5, 5, 2),
    ),
    on(
        lambda: nn.contrib.WSConv(2, 3, (3, 3), rngs=rngs()),
        {"inputs": ones(2, 5, 5, 3)},
        inputs=ones(2, 5, 5, 2),
    ),
    on(lambda: nn.MaxPool((2, 2)), {"x": ones()}, x=ones(2, 4, 4, 1)),
    on(lambda: nn.AvgPool((2, 2)), {"x": COUNTS}, x=ones(2, 4, 4, 1)),
    on(lambda: nn.Flatten(), {"x": ones()}, x=ones(2, 4, 4, 1)),
    on(lambda: nn.VotingLayer(2), {"x": ones()}, x=ones(3, 5)),
    on(lambda: nn.Dropout(0.5), {"x": 1.0}, x=ones(3, 5)),
    on(lambda: nn.BatchNorm(3), {"x": ones(2, 4)}, x=ones(2, 4, 3)),
    on(
        lambda: nn.contrib.TemporalEffectiveBatchNorm(5, 3), {"xs": ones(4, 2, 3)}, xs=ones(5, 2, 3)
    ),
    on(lambda: nn.contrib.BatchNormThroughTime(5, 3), {"xs": ones(5, 2, 4)}, xs=ones(5, 2, 3)),
    on(
        lambda: nn.contrib.TemporalWiseAttention(5, 2, rngs=rngs()),
        {"xs": ones(2, 5, 3)},
        xs=ones(5, 2, 3),
    ),
    on(
        lambda: nn.contrib.MultiDimensionalAttention(5, 3, 2, 2, rngs=rngs()),
        {"xs": ones(5, 2, 3, 4, 4)},
        xs=ones(5, 2, 4, 4, 3),
    ),
    on(lambda: nn.PSN(5, rngs=rngs()), {"xs": ones(4, 2)}, xs=ones(5, 2)),
    on(lambda: nn.contrib.GatedLIFNode(5, rngs=rngs()), {"xs": ones(4, 2)}, xs=ones(5, 2)),
    on(lambda: nn.contrib.DSRIFNode(), {"xs": ones()}, xs=ones(5, 2)),
    on(lambda: nn.contrib.DSRLIFNode(), {"xs": COUNTS}, xs=ones(5, 2)),
    on(lambda: nn.contrib.SpikeCountToBinary(3), {"xs": ones()}, xs=ones(5, 2)),
    on(lambda: nn.contrib.TemporalBinSum(3), {"xs": ones()}, xs=ones(5, 2)),
    on(lambda: nn.Bidirectional(nn.IFNode(), nn.IFNode()), {"xs": ones()}, xs=ones(5, 2)),
    (
        functional.activation_aware_if_step,
        {"v_offset": ones(2)},
        {
            "v": ones(2, 3),
            "x": ones(2, 3),
            "v_threshold": ones(1, 3),
            "v_offset": ones(1, 3),
            "v_reset": None,
        }
        | NEURON,
    ),
    on(lambda: nn.Delay(2), {"x": ones(2)}, carry=ones(3, 2), x=ones(3)),
    on(lambda: nn.SlidingPSN(3), {"carry": ones(3, 3)}, carry=ones(3, 2), x=ones(3)),
    on(
        lambda: nn.contrib.NeuNorm(3, 4, 4, rngs=rngs()),
        {"x": ones(2, 4, 4, 2)},
        carry=ones(2, 4, 4, 1),
        x=ones(2, 4, 4, 3),
    ),
]


def trace(function, right):
    """Calls it; what need not be computed is not compiled."""
    arrays = {name: value for name, value in right.items() if isinstance(value, jax.Array)}
    others = {name: value for name, value in right.items() if name not in arrays}

    def call(arrays):
        run = {"run": nn.Run(steps=True)} if "run" in others else {}  # of this trace
        return function(**others | run, **arrays)

    return jax.eval_shape(call, arrays)
