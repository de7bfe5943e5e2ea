"""Printing: one line a layer with its settings, no arrays, nothing of Flax's insides."""

import operator

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsnn import models, nn, surrogate

IF = (
    "IFNode(v_threshold=1.0, v_reset=0.0, detach_reset={}, "
    "surrogate_function=ATan(alpha=2.0, spiking=True))"
)


def test_feedbacknet_prints_as_a_tree():
    expected = f"""\
FeedBackNet(
  (fc): Sequential(
    (0): Linear(in_features=28, out_features=32, use_bias=True)
    (1): LinearRecurrentContainer(
      in_features=32, out_features=32, bias=True
      (rc): Linear(in_features=64, out_features=32, use_bias=True)
      (sub_module): {IF.format(True)}
    )
    (2): Linear(in_features=32, out_features=10, use_bias=True)
    (3): {IF.format(False)}
  )
)"""
    net = models.FeedBackNet(rngs=nnx.Rngs(0))
    assert repr(net) == str(net) == expected


def test_each_kind_of_layer():
    rngs = nnx.Rngs(0)
    sigmoid = "surrogate_function=Sigmoid(alpha=4.0, spiking=True))"
    soft = nn.IFNode(v_reset=None)
    expected = {
        soft: f"IFNode(v_threshold=1.0, v_reset=None, detach_reset=False, {sigmoid}",
        nn.LIFNode(tau=2): (
            "LIFNode(tau=2.0, decay_input=True, v_threshold=1.0, v_reset=0.0, "
            f"detach_reset=False, {sigmoid}"
        ),
        nn.ParametricLIFNode(init_tau=3.5, surrogate_function=surrogate.ATan()): (
            "ParametricLIFNode(tau=3.5, decay_input=True, v_threshold=1.0, v_reset=0.0, "
            "detach_reset=False, surrogate_function=ATan(alpha=2.0, spiking=True))"
        ),
        nn.SynapseFilter(): "SynapseFilter(tau=100.0, learnable=False)",
        nn.SynapseFilter(2.0, True): "SynapseFilter(tau=2.0, learnable=True)",
        nn.Conv(3, 16, (3, 3), padding=1, rngs=rngs): (
            "Conv(in_features=3, out_features=16, kernel_size=(3, 3), strides=1, padding=1, "
            "use_bias=True)"
        ),
        nn.ElementWiseRecurrentContainer(jnp.tanh, operator.add): (
            "ElementWiseRecurrentContainer(\n  element_wise_function=add\n  (sub_module): tanh\n)"
        ),
        nn.Sequential(jax.nn.relu, nnx.Linear(2, 3, use_bias=False, rngs=rngs)): (
            "Sequential(\n  (0): relu\n"
            "  (1): Linear(in_features=2, out_features=3, use_bias=False)\n)"
        ),
    }
    for layer, text in expected.items():
        assert repr(layer) == text


def test_a_learned_time_constant_prints_as_it_is_now():
    synapse = nn.SynapseFilter(2.0, True)
    synapse.w[...] = jnp.float32(-1.0)
    assert repr(synapse) == "SynapseFilter(tau=3.7183, learnable=True)"


def test_prints_while_traced():
    seen = []

    @jax.jit
    def run(net):
        seen.append(repr(net))

    run(nn.SynapseFilter(2.0, True))
    assert seen == ["SynapseFilter(tau=<traced>, learnable=True)"]


def test_many_numbers_print_in_short():
    node = nn.ActivationAwareIFNode([0.5, 1.0, 1.0, 1.0, 2.0], [0.0] * 4)
    assert "v_threshold=<[5] numbers from 0.5 to 2>" in repr(node)
    assert "v_offset=(0.0, 0.0, 0.0, 0.0)" in repr(node)
