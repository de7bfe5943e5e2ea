"""snnTorch's `Leaky` to NIR, by hand: which node it is, and what no node does.

`test_snntorch.py` compares what comes back with the spikes of snnTorch.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick
from flax import nnx

import jaxsnn
from jaxsnn import nn, surrogate
from jaxsnn.interop.nir import Neuron, Strict, from_nir, to_nir
from jaxsnn.interop.snntorch import Leaky


def zero(beta, **settings):
    return Leaky(beta, reset_mechanism="zero", **settings)


def synaptic(leaky, tau=2.0):
    return nn.Sequential(nn.ExponentialSynapse(tau), leaky)


def same_spikes(net, shape, *, scale=1.0):
    """What comes back, after it has put out the same."""
    back = from_nir(to_nir(net, shape, dt=0.001, soft_reset=True))
    xs = scale * quick.uniform((25, 2, *shape), -0.5, 1.5)
    ys, expected = quick.run_once(lambda *nets: [nn.unroll(net, xs)[1] for net in nets], back, net)
    assert 0.05 < np.mean(expected) < 0.95
    np.testing.assert_array_equal(ys, expected)
    return back[0]


def test_units():
    """Seconds, and a resistance with which the whole input is added."""
    node = to_nir(zero(0.75, threshold=0.7), (2,), dt=0.01).nodes["lif"]
    fields = node.tau, node.r, node.v_leak, node.v_threshold, node.v_reset
    for field, expected in zip(fields, (0.04, 4.0, 0.0, 0.7, 0.0), strict=True):
        np.testing.assert_allclose(field, [expected] * 2)
    synapse = nn.ExponentialSynapse(1 / np.log(2))
    node = to_nir(nn.Sequential(synapse, zero(0.5)), (1,), dt=0.01).nodes["1"]
    fields = node.tau_syn, node.w_in, node.tau_mem, node.r, node.v_leak, node.v_reset
    np.testing.assert_allclose(np.ravel(fields), [0.02, 2.0, 0.02, 2.0, 0.0, 0.0])
    assert to_nir(zero(1.0), (1,), dt=0.01).nodes["if"].r == 100.0


def test_a_plain_neuron_comes_back():
    back = same_spikes(zero(0.75), (3,))
    strict = Strict(surrogate.ATan())
    expected = nn.LIFNode(
        4.0, decay_input=False, v_reset=0.0, surrogate_function=strict, detach_reset=True
    )
    assert repr(back) == repr(expected)
    back = same_spikes(zero(0.75, reset_delay=False), (3,))
    assert not back.detach_reset
    function = Strict(surrogate.Sigmoid())
    back = from_nir(to_nir(zero(0.5, surrogate_function=function), (3,)))[0]
    assert back.surrogate_function == function


@pytest.mark.parametrize(("mechanism", "delay"), [("zero", False), ("discard", False)])
def test_no_decay_is_an_if(mechanism, delay):
    cell = Leaky(1.5, reset_mechanism=mechanism, reset_delay=delay)  # clipped, as there
    assert repr(same_spikes(cell, (3,))).startswith("IFNode(v_threshold=1.0, v_reset=0.0")


def test_no_decay_with_a_soft_reset():
    assert repr(same_spikes(Leaky(1.0), (3,))).startswith("IFNode(v_threshold=1.0, v_reset=None")


def test_numbers_for_each_neuron():
    """Of the last axis; sorted where a Flatten has changed the order in NIR."""
    cell = Leaky([0.5, 0.9], threshold=[0.5, 1.0])
    back = same_spikes(cell, (3, 3, 2))
    assert isinstance(back, Neuron)
    assert back.delayed_reset
    np.testing.assert_allclose(back.v_threshold.array, np.broadcast_to([0.5, 1.0], (3, 3, 2)))
    ring = nn.LinearRecurrentContainer(
        synaptic(zero(np.linspace(0.1, 0.9, 8), reset_delay=False)),
        *(8, 8),
        feedback_only=True,
        rngs=nnx.Rngs(0),
    )
    last = nn.Linear(8, 4, rngs=nnx.Rngs(1))
    last.kernel[...] *= 5
    same_spikes(nn.Sequential(nn.Flatten(), ring, last, zero(0.0)), (2, 2, 2))
    with pytest.raises(ValueError, match=r"beta has shape \(2,\), which does not .*\(3,\)"):
        to_nir(zero([0.5, 0.9]), (3,))


def test_what_is_learned_is_written():
    """As the number that it is."""
    cell = zero(0.9, learn_beta=True, learn_threshold=True, learn_graded_spikes_factor=True)
    cell.w_beta[...], cell.w_threshold[...] = jnp.float32(0.75), jnp.float32(0.5)
    back = same_spikes(cell, (3,))
    assert (back.tau, back.v_threshold) == (4.0, 0.5)
    learned = synaptic(zero(0.5, reset_delay=False), nn.learnable(9.0))
    learned[0].w[...] = -jnp.log(jnp.float32(2.0))  # a time constant of 2
    assert repr(same_spikes(learned, (3,), scale=0.5)).startswith("CUBALIFNode(c_decay=0.606530659")
    each = synaptic(nn.LIFNode(2.0, decay_input=False), nn.learnable(jnp.array([0.5, 2.0, 8.0])))
    back = same_spikes(each, (3,), scale=0.5)
    np.testing.assert_allclose(back.c_decay, np.exp(-1 / np.array([0.5, 2.0, 8.0])), rtol=1e-6)


def test_double_precision():
    """What is above the threshold by less than float32 can tell fires."""
    with jax.enable_x64(True):
        back = from_nir(to_nir(zero(0.5), (1,)))
        xs = jnp.array([[[1.0]], [[0.5 + 1e-12]]])
        for net in (zero(0.5), back):
            assert nn.unroll(net, xs)[1].ravel().tolist() == [0, 1]


REFUSED = {
    "a soft reset": (
        Leaky(0.5),
        "Leaky: NIR has no soft reset; soft_reset=True",
    ),
    "of a synaptic one": (
        synaptic(Leaky(0.5)),
        "^ExponentialSynapse and Leaky at '1': NIR has no soft",
    ),
    "at once": (Leaky(0.5, reset_delay=False), "'subtract' with reset_delay=False .*=True"),
    "a lost input": (
        nn.Sequential(Leaky(0.5, reset_mechanism="discard")),
        "Leaky at '0': reset_mechanism='discard' with reset_delay=True drops .*reset_delay=False",
    ),
    "a factor of many": (
        zero(0.5, graded_spikes_factor=np.linspace(1, 2, 5)),
        r"graded_spikes_factor=<\[5\] numbers from 1 to 2> is not 1",
    ),
    "a factor": (zero(0.5, graded_spikes_factor=2.0), r"graded_spikes_factor=2\.0 .*Scale"),
    "a negative threshold": (zero(0.5, threshold=-1.0), r"threshold=-1\.0 is below 0"),
    "no decay of some": (zero([0.5, 1.0, 0.5]), "beta=.* is 1 for some; .*1 for all"),
    "no decay of currents": (
        synaptic(zero(1.0)),
        "'1': NIR has no IF node with a synaptic",
    ),
    "no decay of one of many": (
        zero(np.linspace(0, 1, 5)),
        r"Leaky: beta=<\[5\] numbers from 0 to 1> is 1 for some",
    ),
    "no memory": (Leaky(0.0), r"beta=0.0 is below 0.001; .* reset_mechanism='zero'"),
    "little memory": (Leaky([0.5, 9e-4, 0.5]), r"beta=\[0.5 .*\] is below 0.001; "),
    "a synapse elsewhere": (
        nn.Sequential(nn.ExponentialSynapse(2.0), nn.Sequential(zero(0.5))),
        "ExponentialSynapse at '0': NIR has no .*right before a LIFNode, .* is written together",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_node_does_is_refused(case):
    net, message = REFUSED[case]
    features = 5 if "many" in case else 3
    with pytest.raises((TypeError, ValueError), match=message):
        to_nir(net, (features,), soft_reset=case not in ("a soft reset", "of a synaptic one"))


def test_what_is_not_finite_is_refused():
    """By the name that it has here, not by the name of NIR's field."""
    for name in ("beta", "threshold", "graded_spikes_factor"):
        cell = Leaky(0.5, **{f"learn_{name}": True})
        getattr(cell, f"w_{name}")[...] = jnp.nan
        with pytest.raises(ValueError, match=f"^Leaky: {name} must hold finite numbers, got nan"):
            to_nir(cell, (3,), soft_reset=True)


def test_the_least_beta():
    """A bit above it rounding does not matter here."""
    xs = 2 * quick.uniform((50, 20, 50), -2.0, 2.0)
    net = Leaky(3e-3)
    back = from_nir(to_nir(net, (50,), soft_reset=True))
    ys, expected = quick.run_once(lambda *nets: [nn.unroll(n, xs)[1] for n in nets], back, net)
    assert 0.05 < np.mean(expected) < 0.95
    np.testing.assert_array_equal(ys, expected)


GENERAL = "jaxsnn.interop.nir.Neuron(dt=dt, tau=dt / (1 - beta), r=1 / (1 - beta), v_leak=0.0)"
UNDECAYED = "jaxsnn.nn.NonSpikingIFNode()"


@pytest.mark.parametrize(
    ("beta", "integrator"),
    [(0.5, GENERAL), (1.0, UNDECAYED), (np.array([0.0, 0.5, 0.75]), GENERAL)],
)
def test_the_remedy_of_no_reset(beta, integrator):
    """The message names layers that can be written and do the same; ties are among the inputs."""
    net = Leaky(beta, threshold=0.75, reset_mechanism="none")
    with pytest.raises(ValueError, match=r"^Leaky: reset_mechanism='none' .* never res") as error:
        to_nir(net, (3,))
    function = "jaxsnn.interop.nir.Strict(surrogate)"
    way_out = f"jaxsnn.interop.nir.Threshold(threshold, surrogate_function={function})"
    for remedy in (integrator, way_out):
        assert remedy in str(error.value)
    names = {"beta": beta, "dt": 1e-4, "threshold": 0.75, "surrogate": surrogate.ATan()}
    names["jaxsnn"] = jaxsnn
    other = nn.Sequential(eval(integrator, names), eval(way_out, names))
    xs = jnp.round(4 * quick.uniform((25, 2, 3), -0.75, 1.0)) / 4
    nets = other, from_nir(to_nir(other, (3,))), net
    *others, expected = quick.run_once(lambda *nets: [nn.unroll(n, xs)[1] for n in nets], *nets)
    assert 0.05 < np.mean(expected) < 0.95
    for ys in others:
        np.testing.assert_array_equal(ys, expected)
