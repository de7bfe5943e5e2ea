"""Printing: one line per layer with its settings, no arrays; and signatures."""

import inspect
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxsnn import encoding, learning, models, nn, readouts, surrogate
from jaxsnn.interop import nir

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
            "ParametricLIFNode(tau=learnable(3.5), decay_input=True, v_threshold=1.0, v_reset=0.0, "
            "detach_reset=False, surrogate_function=ATan(alpha=2.0, spiking=True))"
        ),
        nn.SynapseFilter(): "SynapseFilter(tau=100.0)",
        nn.SynapseFilter(2.0, True): "SynapseFilter(tau=learnable(2.0))",
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
    assert repr(synapse) == "SynapseFilter(tau=learnable(3.7183))"


def test_prints_while_traced():
    seen = []

    @jax.jit
    def run(net):
        seen.append(repr(net))

    run(nn.SynapseFilter(2.0, True))
    assert seen == ["SynapseFilter(tau=learnable(<traced>))"]


def test_many_numbers_print_in_short():
    node = nn.contrib.ActivationAwareIFNode(
        v_threshold=[0.5, 1.0, 1.0, 1.0, 2.0], v_offset=[0.0] * 4
    )
    assert "v_threshold=<[5] numbers from 0.5 to 2>" in repr(node)
    assert "v_offset=<[4] numbers from 0 to 0>" in repr(node)


class Numbers(nn.IFNode):
    """Has settings of every kind that a variable may hold."""

    printed = ("large", "key", "flags", "empty")

    def __init__(self):
        super().__init__()
        self.large = nnx.Param(jnp.arange(4.0))
        self.key = nnx.Param(jax.random.key(0))
        self.flags = nnx.Param(np.array([True, False]))
        self.empty = nnx.Param(jnp.zeros((0, 2), jnp.bfloat16))


def test_prints_without_numbers():
    net = nnx.eval_shape(lambda: models.StatefulSynapseNet(rngs=nnx.Rngs(0)))
    assert "(2): SynapseFilter(tau=learnable(<float32[]>))" in repr(net)
    assert repr(jax.eval_shape(nn.ParametricLIFNode)).startswith(
        "ParametricLIFNode(tau=learnable(<float32[]>)"
    )
    for make in (lambda make: nnx.eval_shape(make), lambda make: jax.eval_shape(make)):
        large = repr(make(Numbers))
        assert large.startswith("Numbers(large=<float32[4]>, key=<key<fry>[]>, flags=<bool[2]>")


def test_prints_many_modules_in_one():
    def make(w):
        synapse = nn.SynapseFilter(2.0, True)
        synapse.w = nnx.Param(w)
        return synapse

    net = jax.vmap(make)(jnp.array([-1.0, 0.0]))
    assert repr(net) == "SynapseFilter(tau=learnable(<[2] numbers from 2 to 3.718>))"
    seen = []
    jax.vmap(lambda net: seen.append(repr(net)))(net)
    assert seen == ["SynapseFilter(tau=learnable(<traced>))"]


def test_prints_whatever_variables_hold():
    node = Numbers()
    expected = (
        "Numbers(large=<[4] numbers from 0 to 3>, key=<key<fry>[]>, "
        "flags=<[2] numbers from 0 to 1>, empty=<[0, 2] numbers>)"
    )
    seen = []
    jax.jit(lambda x: seen.append(repr(node)))(
        1.0
    )  # the node is no argument, its numbers are there
    assert [repr(node), *seen] == [expected] * 2
    node.large[...].delete()  # as an argument that was donated
    assert "large=<float32[4]>" in repr(node)


def test_inside_a_module_of_flax():
    class Mine(nnx.Module):
        def __init__(self, rngs):
            self.stack = nn.Sequential(nn.Linear(3, 4, rngs=rngs), nn.SynapseFilter())
            self.last = nnx.List([nn.Dropout(0.5)])

    mine = Mine(nnx.Rngs(0))
    expected = """\
Mine( # Param: 16 (64 B)
  stack=Sequential(
    (0): Linear(in_features=3, out_features=4, use_bias=True)
    (1): SynapseFilter(tau=100.0)
  ),
  last=List([
    Dropout(rate=0.5)
  ])
)"""
    assert repr(mine) == expected


def test_layers_of_a_graph_print_with_their_names():
    graph = nn.Graph({"fire": nn.Dropout(0.5)}, [("input", "fire"), ("fire", "output")])
    assert "(fire): Dropout(rate=0.5)" in repr(graph)


def public_classes():
    for module in (encoding, learning, models, nn, readouts, surrogate, nir):
        for name, kind in vars(module).items():
            if isinstance(kind, type) and kind.__module__.startswith("jaxsnn") and name[0] != "_":
                if issubclass(kind, nnx.Variable):
                    continue  # its signature is Flax's
                yield pytest.param(kind, id=f"{module.__name__}.{name}")


@pytest.mark.parametrize("kind", [*public_classes()])
def test_every_class_shows_the_signature_of_its_constructor(kind):
    init = kind.__new__ if issubclass(kind, tuple) else kind.__init__
    expected = (
        [] if init is object.__init__ else list(inspect.signature(init).parameters.values())[1:]
    )
    shown = inspect.signature(kind).parameters.values()
    if getattr(
        kind, "shown_signature", None
    ):  # of a declaration: in another order, with the kinds of constants
        assert {p.name: p.default for p in shown} == {p.name: p.default for p in expected}
        assert [p.kind for p in shown] == sorted(p.kind for p in expected)
    else:
        assert list(shown) == expected


def test_a_module_has_the_signature_of_its_call():
    assert list(inspect.signature(nn.LIFNode()).parameters) == ["carry", "x"]
