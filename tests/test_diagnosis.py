"""The doctor: what it measures, each of its warnings, synaptic operations; calibration."""

import functools
import json
import operator

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxsnn
from jaxsnn import losses, models, nn, surrogate

T, N, F = 10, 8, 4
LABELS = jnp.arange(N) % F
UNIFORM = jax.random.uniform(jax.random.key(0), (T, N, F))


def linear(inputs=F, outputs=F, gain=1.0, **kwargs):
    """A layer with positive weights of mean `gain / 2 / inputs`: it drives what is behind."""
    layer = nn.Linear(inputs, outputs, rngs=nnx.Rngs(0), **kwargs)
    kernel = jax.random.uniform(jax.random.key(1), layer.kernel.shape, layer.kernel.dtype)
    layer.kernel[...] = (gain / inputs * kernel).astype(kernel.dtype)
    if layer.bias is not None:
        layer.bias[...] = jnp.zeros_like(layer.bias[...])
    return layer


def healthy(neuron=nn.LIFNode, gain=5.0):
    return nn.Sequential(linear(gain=gain), neuron(), linear(gain=gain), neuron())


def arrays(net):
    return [np.array(leaf) for leaf in jax.tree.leaves(nnx.state(net))]


def assert_unchanged(net, before):
    for array, old in zip(arrays(net), before, strict=True):
        np.testing.assert_array_equal(array, old)


def what(report):
    return {(found.what, found.path) for found in report.warnings}


# ------------------------------------------------------------------------------ what it measures


def test_rates_and_windows_by_hand():
    """Four neurons with currents of 0, 0.3, 0.5 and 2 that integrate and are reset to 0."""
    xs = jnp.broadcast_to(jnp.array([0.0, 0.3, 0.5, 2.0]), (T, N, 4))
    atan = surrogate.ATan()  # a tenth of its peak at |u| = 3 / pi
    report = jaxsnn.doctor(nn.Sequential(nn.IFNode(surrogate_function=atan)), xs)
    (layer,) = report.layers
    assert (layer.path, layer.kind, layer.shape, layer.parameters) == ("0", "IFNode", (4,), 0)
    # Spikes at every fourth step (of 10: 2), every second (5), and every one.
    assert layer.rate == pytest.approx((0 + 2 + 5 + 10) / 40)
    assert layer.dead == 0.25
    assert layer.saturated == 0.25
    # h - 1 is -1, always outside; -0.7, -0.4, -0.1, 0.2; -0.5, 0; 1, always outside.
    assert layer.window == pytest.approx((0 + 10 + 10 + 0) / 40)
    assert (report.steps, report.examples, layer.state_dtype) == (T, N, "float32")


def test_gradients_are_those_of_training():
    rngs = nnx.Rngs(0)
    hidden = nn.LinearRecurrentContainer(nn.IFNode(), F, F, rngs=rngs)
    net = models.Classifier(nn.Sequential(hidden, nn.Linear(F, F, rngs=rngs), nn.LIFNode()))
    report = jaxsnn.doctor(net, UNIFORM, LABELS)

    @functools.partial(jax.value_and_grad, argnums=(0, 1))
    def loss(net, xs):
        return jnp.mean(losses.firing_rate_mse(net(xs), LABELS))

    value, (of_net, of_xs) = jax.jit(loss)(net, UNIFORM)
    norms = {layer.path: layer.gradient for layer in report.layers if layer.gradient is not None}
    for path, layer in {"stack.0.rc": of_net.stack[0].rc, "stack.1": of_net.stack[1]}.items():
        both = [layer.kernel[...].ravel(), layer.bias[...]]
        assert norms.pop(path) == pytest.approx(np.linalg.norm(np.concatenate(both)), rel=1e-4)
    assert norms == {}
    assert report.loss == pytest.approx(float(value))
    by_step = np.linalg.norm(of_xs.reshape(T, -1), axis=1)
    np.testing.assert_allclose(report.layers[0].gradient_by_step, by_step, rtol=1e-4)
    early, late = np.linalg.norm(by_step[:2]), np.linalg.norm(by_step[-2:])
    assert report.layers[0].early_late == pytest.approx(early / late, rel=1e-4)
    assert report.parameters == sum(layer.parameters for layer in report.layers) == 9 * 4 + 5 * 4


class Skip(nn.Cell):
    """A container of somebody's own: nobody knows what it calls."""

    def __init__(self, sub_module):
        self.sub_module = sub_module

    def initialize_carry(self, input_shape, rngs=None, *, dtype=jnp.float32):
        return self.sub_module.initialize_carry(input_shape, rngs, dtype=dtype)

    def __call__(self, carry, x):
        carry, y = self.sub_module(carry, x)
        return carry, y + x


def nested():
    rngs = nnx.Rngs(0)
    return nn.Sequential(
        nn.Sequential(linear(gain=8.0), jax.nn.relu),
        nn.LinearRecurrentContainer(
            nn.Sequential(linear(gain=8.0), nn.IFNode()), F, F, feedback_only=True, rngs=rngs
        ),
        Skip(nn.Sequential(linear(gain=8.0), nn.IFNode())),
        nn.PSN(T, rngs=rngs),
    )


def test_a_layer_that_is_an_argument_of_a_block_has_its_gradient():
    """The doctor puts a tap in its place, which must be data as the layer is."""
    rngs = nnx.Rngs(0)
    block = nn.Residual(nn.Linear(UNIFORM.shape[-1], UNIFORM.shape[-1], rngs=rngs))
    layers = jaxsnn.doctor(nn.Sequential(block, nn.IFNode()), UNIFORM, LABELS).layers
    assert layers[0].path == "0.branch"
    assert layers[0].gradient > 0


def test_what_is_inside_is_seen():
    net = nested()
    before = arrays(net)
    report = jaxsnn.doctor(net, UNIFORM)
    by_path = {layer.path: layer for layer in report.layers}
    spiking = {path: layer.kind for path, layer in by_path.items() if layer.rate is not None}
    assert spiking == {
        "1.sub_module.1": "IFNode",
        "2.sub_module.1": "IFNode",
        "3": "PSN",
    }
    assert all(by_path[path].window is not None for path in spiking)
    assert by_path["0.1"].kind == "relu"
    _, ys, extras = nn.unroll(net, UNIFORM, record="1")
    for path, spikes in {"1.sub_module.1": extras.records["1"], "3": ys}.items():
        assert by_path[path].rate == pytest.approx(float(jnp.mean(spikes)), abs=1e-6), path
    assert all(by_path[f"{k}.sub_module.0"].dense == T * F * F for k in (1, 2))
    assert report.uncounted == ("3",)  # a product of matrices that is no Linear
    assert_unchanged(net, before)


class TwoCompartments(nn.Cell):
    """Two spike functions of one potential: the second one's window is far from it."""

    def __init__(self):
        self.near, self.far = surrogate.ATan(), surrogate.Rect(alpha=1000.0)

    def initialize_carry(self, input_shape, rngs=None, *, dtype=jnp.float32):
        return ()

    def __call__(self, carry, x):
        return carry, self.near(x - 1) + self.far(x[:, :2] - 5).sum(axis=1, keepdims=True)


def test_a_cell_with_two_surrogates():
    report = jaxsnn.doctor(TwoCompartments(), 2 * UNIFORM)
    (layer,) = report.layers
    assert layer.window == 0  # of the one that lets least through
    assert layer.rate == pytest.approx(float(jnp.mean(2 * UNIFORM >= 1)))  # of what it puts out
    assert ("window", "") in what(report)


@pytest.mark.parametrize(
    ("function", "edge"),
    [
        (surrogate.Rect(alpha=0.25), 2.0),
        (surrogate.PiecewiseQuadratic(alpha=100.0), 0.009),
        (jax.nn.sigmoid, np.log(19 + np.sqrt(360))),  # s (1 - s) = 1 / 40; somebody's own
    ],
    ids=lambda value: type(value).__name__,
)
def test_windows_of_surrogates(function, edge):
    """Where the derivative falls to a tenth of its peak, in closed form."""
    at_edge = jnp.float32(edge) * jnp.array([-1.01, -0.99, 0.99, 1.01])
    xs = jnp.repeat(at_edge, jnp.array([1, 2, 4, 8])).reshape(1, 1, 15)  # each by its number
    (layer,) = jaxsnn.doctor(Passes(function), xs).layers
    assert layer.window == pytest.approx((2 + 4) / 15)


class Passes(nn.Cell):
    """A cell that fires, but passes its input on."""

    def __init__(self, function):
        self.surrogate_function = function

    def initialize_carry(self, input_shape, rngs=None, *, dtype=jnp.float32):
        return ()

    def __call__(self, carry, x):
        self.surrogate_function(x)
        return carry, x


class Cells(nn.Cell):
    """Cells of somebody's own: two layers and their neurons, by names in any order."""

    def __init__(self, names, first, second, neuron=nn.LIFNode):
        self.names = names
        for name, layer in zip(names, (first, neuron(), second, neuron()), strict=True):
            setattr(self, name, layer)

    def initialize_carry(self, input_shape, rngs=None, *, dtype=jnp.float32):
        _, one, _, two = (getattr(self, name) for name in self.names)
        return tuple(cell.initialize_carry(input_shape, dtype=dtype) for cell in (one, two))

    def __call__(self, carry, x):
        first, one, second, two = (getattr(self, name) for name in self.names)
        a, x = one(carry[0], first(x))
        b, x = two(carry[1], second(x))
        return (a, b), x


NAMINGS = {
    "sorted": ("fc1", "lif1", "fc2", "lif2"),
    "reversed": ("w", "c", "b", "a"),
}


@pytest.mark.parametrize("names", NAMINGS.values(), ids=NAMINGS)
def test_hidden_neurons_of_a_cell_are_no_output_neurons(names):
    net = nn.Sequential(Cells(names, linear(gain=0.1), linear(gain=0.1)))
    found = what(jaxsnn.doctor(net, UNIFORM))
    assert {("dead", f"0.{names[1]}"), ("silent_output", f"0.{names[3]}")} <= found


def test_hidden_neurons_of_containers_are_no_output_neurons():
    hidden = nn.Sequential(linear(gain=0.1), nn.LIFNode(), linear(gain=0.1), nn.LIFNode())
    found = what(jaxsnn.doctor(nn.ElementWiseRecurrentContainer(hidden, operator.add), UNIFORM))
    assert {("dead", "sub_module.1"), ("silent_output", "sub_module.3")} <= found


class Narrow(nn.Cell):
    """Keeps a weight and its state in float16; so does the neuron inside."""

    def __init__(self):
        self.weight, self.inner = nnx.Param(jnp.ones((F, F), jnp.float16)), HalfState()
        self.fc = linear()

    def initialize_carry(self, input_shape, rngs=None, *, dtype=jnp.float32):
        return self.inner.initialize_carry(input_shape)

    def __call__(self, v, x):
        return self.inner(v, self.fc(x @ self.weight[...].astype(x.dtype)))


def test_a_bare_cell_is_called_by_its_class():
    report = jaxsnn.doctor(Narrow(), 5 * UNIFORM)
    assert ("low_precision", "") in what(report)
    text = str(report)
    assert "\n! Narrow: parameters are kept in float16" in text
    assert "\nnot counted: Narrow\n" in text


# ------------------------------------------------------------------------------ modules


class Gated(nn.Module):
    """A residual block of somebody's own, with a layer that is called without `run`."""

    def __init__(self):
        self.branch = nn.Sequential(
            *(linear(gain=6.0), nn.BatchNorm(F), nn.IFNode(), nn.Dropout(0.2)),
            *(linear(gain=6.0), nn.LIFNode()),
        )
        self.gate = linear()
        self.strength = nnx.Param(jnp.ones(()))

    def forward(self, x, run):
        return x + self.strength[...] * jax.nn.sigmoid(self.gate(x)) * run(self.branch, x)


class Twice(nn.Module):
    """Two stacks, of which the second is run twice, a readout, and a layer that is not used."""

    def __init__(self):
        self.first = nn.Sequential(linear(gain=5.0), nn.LIFNode(), Gated())
        self.then = nn.Residual(nn.Sequential(nn.LIFNode()), linear(gain=2.0))
        self.out = nnx.List([linear(), linear(gain=2.0)])

    def forward(self, x, run):
        run.require_whole_sequence(self)
        x = run(self.then, run(self.then, run(self.first, x)))
        return run(self.out[1], x).mean(0)


SPIKING = ["first.1", "first.2.branch.2", "first.2.branch.5", "then.branch.0", "then#2.branch.0"]


def test_modules_are_seen_as_they_are_trained():
    net, key = Twice(), jax.random.key(3)
    report = jaxsnn.doctor(net, UNIFORM, LABELS, key=key)
    by_path = {layer.path: layer for layer in report.layers}
    assert list(by_path) == [
        *("first.0", "first.1", "first.2", "first.2.gate"),
        *(f"first.2.branch.{k}" for k in range(6)),
        *("then.branch.0", "then.shortcut", "then#2.branch.0", "then#2.shortcut"),
        *("out.1", "out.0"),
    ]
    assert report.outside == report.uncounted == ("out.0",)
    assert what(report) == {("zero_gradient", "out.0")}  # no neuron here is the output

    def loss(net, shift):
        _, rates, extras = nn.unroll(net, UNIFORM + shift, key=key, record=SPIKING)
        return jnp.mean(losses.firing_rate_mse(rates, LABELS)), extras.records

    grad = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
    (value, records), (of_net, of_xs) = grad(net, jnp.zeros_like(UNIFORM))
    assert report.loss == pytest.approx(float(value))
    assert [path for path, layer in by_path.items() if layer.rate is not None] == SPIKING
    for path, spikes in records.items():
        assert by_path[path].rate == pytest.approx(float(jnp.mean(spikes)), abs=1e-6)
    (linear_0, _, gated), residual = of_net.first, of_net.then
    for path, parameters in {
        "first.0": (linear_0.kernel, linear_0.bias),
        "first.2": (gated.strength,),
        "first.2.gate": (gated.gate.kernel, gated.gate.bias),
        "first.2.branch.1": (gated.branch[1].scale, gated.branch[1].bias),
        "then.shortcut": (residual.shortcut.kernel, residual.shortcut.bias),
    }.items():
        norm = np.linalg.norm(np.concatenate([p[...].ravel() for p in parameters]))
        assert by_path[path].gradient == pytest.approx(norm, rel=1e-4), path
    by_step = np.linalg.norm(of_xs.reshape(T, -1), axis=1)
    np.testing.assert_allclose(by_path["first.0"].gradient_by_step, by_step, rtol=1e-4)
    assert by_path["then#2.shortcut"].gradient_by_step is not None
    # The gate sees the spikes of `first.1`, called once a step for all neurons.
    assert by_path["first.2.gate"].additions == pytest.approx(
        float(records["first.1"].sum()) / N * F
    )


def test_calibrate_modules():
    model, done = jaxsnn.calibrate(Twice(), UNIFORM, rate=0.2, tolerance=0.25)
    assert [(layer.path, layer.scaled) for layer in done] == [
        ("first.1", ("first.0",)),
        ("first.2.branch.2", ("first.2.gate", "first.2.branch.1")),
        ("first.2.branch.5", ("first.2.branch.4",)),
        ("then.branch.0", ()),
        ("then#2.branch.0", ("then.shortcut",)),
    ]
    records = nn.unroll(model, UNIFORM, key=jax.random.key(0), record=SPIKING)[2].records
    for layer in done:
        assert layer.rate == pytest.approx(float(jnp.mean(records[layer.path])), abs=1e-6)
        assert not layer.scaled or layer.rate == pytest.approx(0.2, rel=0.25)


def test_silent_neurons_beside_a_shortcut_are_no_output_neurons():
    block = nn.Residual(nn.Sequential(linear(gain=0.1), nn.LIFNode()))
    assert ("dead", "branch.1") in what(jaxsnn.doctor(block, UNIFORM))


class Pair(nn.Module):
    """A spike function that is run like a part, and two outputs."""

    def __init__(self):
        self.fc, self.spike, self.sum = linear(gain=5.0), surrogate.ATan(), Sum()

    def forward(self, x, run):
        return run(self.sum, (x, run(self.spike, run(self.fc, x) - 1)))


class Sum(nn.Module):
    """Takes a pair."""

    def forward(self, pair, run):
        return pair[0] + pair[1]


def test_modules_with_spike_functions_and_several_arrays():
    report = jaxsnn.doctor(Pair(), UNIFORM)
    by_path = {layer.path: layer for layer in report.layers}
    assert list(by_path) == ["", "fc", "sum"]
    fired = (linear(gain=5.0)(UNIFORM) >= 1).astype(jnp.float32)
    assert by_path[""].rate == pytest.approx(float(jnp.mean(fired)))
    assert by_path[""].window is not None
    assert by_path["sum"].gradient_by_step is None
    assert report.loss == pytest.approx(float(jnp.mean(UNIFORM + fired)), rel=1e-5)


# ------------------------------------------------------------------------------ each warning


def test_a_healthy_network_has_no_warnings():
    report = jaxsnn.doctor(healthy(), UNIFORM, LABELS)
    assert report.warnings == ()
    assert "no warnings" in str(report)


def step_without_gradient(u):
    return (u >= 0).astype(u.dtype)


def endless_slope(u):
    """Steps whose derivative is infinite."""
    return jax.lax.stop_gradient((u >= 0).astype(u.dtype)) + 0 * jnp.sqrt(
        u - jax.lax.stop_gradient(u)
    )


def with_layer(k, layer):
    net = healthy()
    net.layers[k] = layer
    return net


def broken_parameter():
    layer = linear()
    layer.kernel[...] = layer.kernel[...].at[0, 0].set(jnp.nan)
    return layer


LINE = functools.partial(  # a slope of 1/2 everywhere
    nn.LIFNode,
    surrogate_function=surrogate.PiecewiseLeakyReLU(w=1.0, c=0.5),
    detach_reset=True,
)


def last_step(ys):
    return ys[-1]


def growing():
    """Neurons that feed back to themselves forty times what they put out."""
    container = nn.LinearRecurrentContainer(LINE(), F, F, rngs=nnx.Rngs(0))
    container.rc.kernel[...] = 40 * jnp.eye(2 * F, F, k=-F) + jnp.eye(2 * F, F)
    return nn.Sequential(container)


class HalfState(nn.Cell):
    """A neuron that keeps its potential in float16."""

    state_name = "v"

    def __init__(self):
        self.surrogate_function = surrogate.ATan()

    def initialize_carry(self, input_shape, rngs=None, *, dtype=jnp.float32):
        return jnp.zeros(input_shape, jnp.float16)

    def __call__(self, v, x):
        h = v.astype(x.dtype) + x
        spikes = self.surrogate_function(h - 1)
        return ((1 - spikes) * h).astype(jnp.float16), spikes


def constant(layer):
    layer.kernel[...] = jnp.full_like(layer.kernel[...], 1.25)
    return layer


def mean_of_all(ys):
    return jnp.broadcast_to(jnp.mean(ys, axis=(0, 1)), ys.shape[1:])


def accuracy(outputs, labels):
    return losses.correct(outputs, labels)


def log_of_zero(outputs, labels):
    return jnp.log(0 * outputs)


def alone(function):
    """One layer of neurons with some spike function."""
    return nn.Sequential(linear(gain=5.0), nn.LIFNode(surrogate_function=function))


def ill():
    """A network with much amiss."""
    atan = surrogate.ATan(spiking=False)
    return nn.Sequential(
        *(linear(gain=5.0, param_dtype=jnp.bfloat16, dtype=jnp.float32), HalfState()),
        *(nn.LIFNode(surrogate_function=atan), nn.LIFNode(surrogate_function=FAR)),
        nn.LIFNode(surrogate_function=step_without_gradient),
    )


FAR = surrogate.Rect(alpha=1000.0)


def line(gain):
    """Two layers without biases."""
    linears = linear(gain=gain[0], use_bias=False), linear(gain=gain[1], use_bias=False)
    return nn.Sequential(linears[0], LINE(), linears[1], LINE())


# What is wrong: the network, its input, what else `doctor` is given, what it must say of whom.
PROVOKED = {
    "integers": (healthy, (UNIFORM * 255).astype(jnp.uint8), {}, ("input_integer", None)),
    "not scaled": (healthy, UNIFORM * 255, {}, ("input_large", None)),
    "no input": (healthy, 0 * UNIFORM, {}, ("input_zero", None)),
    "one example": (healthy, 0 * UNIFORM + UNIFORM[:, :1], {}, ("input_same", None)),
    "one class": (healthy, UNIFORM, {"labels": 0 * LABELS + 3}, ("one_class", None)),
    "label 4": (
        healthy,
        *(UNIFORM, {"labels": LABELS + 1, "loss": losses.firing_rate_mse}, ("label_range", None)),
    ),
    "input NaN": (healthy, UNIFORM.at[3, 2, 1].set(jnp.nan), {}, ("not_finite", None)),
    "input NaN of a model": (
        lambda: models.Classifier(healthy()),
        *(UNIFORM.at[3, 2, 1].set(jnp.nan), {}, ("not_finite", None)),
    ),
    "weight NaN": (lambda: with_layer(2, broken_parameter()), UNIFORM, {}, ("not_finite", "2")),
    "overflow": (lambda: with_layer(0, linear(gain=3e38)), 9 * UNIFORM, {}, ("not_finite", "0")),
    "loss NaN": (
        lambda: alone(surrogate.ATan()),
        *(UNIFORM, {"loss": log_of_zero}, ("not_finite", None)),
    ),
    "gradient": (lambda: alone(endless_slope), UNIFORM, {}, ("not_finite", "1")),
    "no neurons": (
        lambda: nn.Sequential(linear(), jax.nn.relu, linear()),
        *(UNIFORM, {}, ("no_neurons", None)),
    ),
    "smooth": (ill, UNIFORM, {}, ("not_spiking", "2")),
    "dead": (lambda: with_layer(0, linear(gain=0.1)), UNIFORM, {}, ("dead", "1")),
    "silent": (lambda: with_layer(2, linear(gain=0.1)), UNIFORM, {}, ("silent_output", "3")),
    "saturated": (lambda: with_layer(0, linear(gain=100.0)), UNIFORM, {}, ("saturated", "1")),
    "offset": (healthy, 0.5 + 1e-3 * UNIFORM, {}, ("same_spikes", "1")),
    "constant weights": (
        lambda: with_layer(0, constant(linear())),
        *(UNIFORM, {}, ("same_neurons", "1")),
    ),
    "readout over all": (
        lambda: models.Classifier(healthy(), mean_of_all),
        *(UNIFORM, {}, ("same_output", None)),
    ),
    "step": (ill, UNIFORM, {}, ("no_surrogate", "4")),
    "far off": (ill, UNIFORM, {}, ("window", "3")),
    "accuracy": (
        lambda: alone(surrogate.ATan()),
        *(UNIFORM, {"loss": accuracy}, ("zero_gradient", None)),
    ),
    "in vain": (lambda: line((0.1, 1.0)), UNIFORM, {}, ("zero_gradient", "2")),
    "weak": (lambda: with_layer(2, linear(gain=1e-3)), UNIFORM, {}, ("vanishing_layers", "1")),
    "strong": (lambda: line((5.0, 1e5)), UNIFORM, {}, ("exploding_layers", "1")),
    "forgotten": (
        lambda: models.Classifier(nn.Sequential(linear(gain=5.0), nn.LIFNode(1.2)), last_step),
        *(UNIFORM, {}, ("vanishing_time", "stack.1")),
    ),
    "growing": (growing, UNIFORM, {}, ("exploding_time", "0")),
    "half a weight": (ill, UNIFORM, {}, ("low_precision", "0")),
    "half a state": (ill, UNIFORM, {}, ("low_precision", "1")),
}


@pytest.mark.parametrize("case", PROVOKED)
def test_each_warning(case):
    make, xs, more, expected = PROVOKED[case]
    report = jaxsnn.doctor(make(), xs, **({"labels": LABELS} | more))
    assert expected in what(report), report
    (found,) = (f for f in report.warnings if (f.what, f.path) == expected)
    assert found.message.split(":")[0][:60] in " ".join(str(report).split())
    assert found.advice


def at_threshold():
    """Neurons that reach 1 at every step, where the steep surrogate makes of a gradient -5 times.

    (1 - 1/tau) (1 - s - h alpha/2) = 0.5 (1 - 1 - 10)
    """
    return nn.Sequential(nn.LIFNode(surrogate_function=surrogate.ATan(20.0)))


def in_a_circle():
    """All fire at every step, and the straight-through gradient is fed back: w/tau = 4.5."""
    neuron = nn.LIFNode(surrogate_function=surrogate.DeterministicPass(), detach_reset=True)
    container = nn.LinearRecurrentContainer(neuron, F, F, feedback_only=True, rngs=nnx.Rngs(0))
    container.rc.kernel[...] = 9 * jnp.eye(F)
    container.rc.bias[...] = jnp.ones(F)
    return nn.Sequential(container)


@pytest.mark.parametrize(
    ("make", "steps", "growth"),
    [
        pytest.param(at_threshold, 10, 5.0, marks=pytest.mark.slow),
        (at_threshold, 40, 5.0),
        pytest.param(in_a_circle, 90, 4.5, marks=pytest.mark.slow),
    ],
)
def test_explosion_through_time(make, steps, growth):
    """From 1e4 by way of 1e25, whose square is infinite in float32, to infinity."""
    report = jaxsnn.doctor(make(), jnp.full((steps, N, F), 2.0), LABELS)
    (found,) = (f for f in report.warnings if f.what == "exploding_time")
    assert found.path == "0"
    np.testing.assert_allclose(report.layers[0].growth, growth, rtol=0.02)
    assert f"each step back in time multiplies it by {report.layers[0].growth:.3g}" in found.message
    assert not what(report) & {("not_finite", "0"), ("exploding_layers", "0")}
    first = report.layers[0].gradient_by_step[0]
    assert np.isfinite(first) == (steps < 50)
    assert (first < 1e22) == (steps == 10)  # NaN for the longest
    assert ("clip" in found.advice) == (steps == 10)
    assert ("every update 0" in found.message) == (steps == 40)


def test_what_vanishes_through_time_is_not_lost():
    """Squares of 1e-25 are 0 in float32, the gradient is not."""
    net = models.Classifier(nn.Sequential(linear(), nn.NonSpikingLIFNode()), last_step)
    report = jaxsnn.doctor(net, jnp.ones((80, N, F)), LABELS)
    (found,) = (f for f in report.warnings if f.what == "vanishing_time")
    assert found.path == "stack.1"
    assert "each step back in time multiplies it by 0.5" in found.message
    assert 0 < report.layers[1].gradient_by_step[0] < 1e-23
    np.testing.assert_allclose(report.layers[1].early_late, 0.5**64, rtol=1e-5)


def test_every_warning_is_provoked_and_documented():
    provoked = {expected[0] for *_, expected in PROVOKED.values()}
    named = set(jaxsnn.doctor.__doc__.split("as `what`:")[1].split(".\n")[0].split("`")[1::2])
    assert provoked == named


def test_a_layer_that_normalises_makes_large_inputs_small():
    layers = nn.BatchNorm(F), linear(gain=5.0), nn.LIFNode()
    assert what(jaxsnn.doctor(nn.Sequential(*layers), UNIFORM * 255)).isdisjoint(
        {("input_large", None)}
    )
    late = nn.Sequential(*layers[1:], nn.BatchNorm(F), nn.LIFNode())
    assert ("input_large", None) in what(jaxsnn.doctor(late, UNIFORM * 255))


def test_corners_that_see_the_background_are_the_same_in_all_images():
    xs = jnp.zeros((5, N, 9, 9, 1)).at[:, :, 3:6, 3:6, 0].set(UNIFORM[:5, :, :3, None])
    conv = nn.Conv(1, 2, (3, 3), padding=1, rngs=nnx.Rngs(0))
    conv.bias[...] = jnp.array([0.5, 0.7])
    report = jaxsnn.doctor(nn.Sequential(conv, nn.IFNode()), xs)
    assert report.warnings == ()


def test_neurons_without_a_surrogate_fire():
    """Those of differentiation on spike representation, whose threshold may get no gradient."""
    net = nn.Sequential(linear(), nn.contrib.DSRIFNode(v_threshold=2.0))
    report = jaxsnn.doctor(net, UNIFORM, LABELS)
    assert report.warnings == ()
    (_, layer) = report.layers
    assert layer.gradient == 0
    assert layer.rate == pytest.approx(float(jnp.mean(nn.unroll(net, UNIFORM)[1] != 0)))


def offset(ys):
    return ys.mean(0) + jnp.arange(0, 400, 100.0)[None]


def nothing(ys):
    return 0 * ys[0]


def over_time(ys):
    return ys


@pytest.mark.parametrize(("readout", "steps"), [(offset, T), (nothing, T), (over_time, 1)])
def test_outputs_that_only_look_the_same(readout, steps):
    """Beside large constants; all 0, which is said elsewhere; with another first axis."""
    net = models.Classifier(healthy(nn.IFNode), readout)
    report = jaxsnn.doctor(net, UNIFORM[:steps], loss=jnp.mean)
    assert ("same_output", None) not in what(report)


def test_smooth_values_are_no_spikes():
    """They are hardly ever 0, or all 0, which says nothing of neurons."""
    for function in (surrogate.ATan(spiking=False), surrogate.Rect(spiking=False)):
        report = jaxsnn.doctor(alone(function), 0.01 * UNIFORM)
        assert what(report).isdisjoint({("dead", "1"), ("silent_output", "1"), ("saturated", "1")})
        assert ("not_spiking", "1") in what(report)


def test_a_few_examples_may_be_alike():
    xs = 0.5 + 1e-3 * UNIFORM
    assert ("same_spikes", "1") in what(jaxsnn.doctor(healthy(), xs))
    assert ("same_spikes", "1") not in what(jaxsnn.doctor(healthy(), xs[:, :7]))


def test_neurons_that_are_fed_the_same_before_any_weight():
    grey = jnp.broadcast_to(UNIFORM[..., :1], UNIFORM.shape)
    net = nn.Sequential(nn.IFNode(), *healthy())
    assert not any(found.what == "same_neurons" for found in jaxsnn.doctor(net, grey).warnings)


class Reader(nnx.Module):
    """A readout that learns."""

    def __init__(self):
        self.linear = linear()

    def __call__(self, ys):
        return self.linear(ys.mean(0))


def test_parts_that_are_not_run_are_named():
    silent = with_layer(2, linear(gain=0.1))
    report = jaxsnn.doctor(models.Classifier(silent, Reader()), UNIFORM, LABELS)
    assert report.outside == ("readout",)
    assert "not run, so only gradients are seen: readout\n" in str(report)
    assert report.parameters == sum(layer.parameters for layer in report.layers) == 3 * (F * F + F)
    (reader,) = (layer for layer in report.layers if layer.path == "readout")
    assert reader.gradient > 0
    assert ("dead", "stack.3") in what(report)  # no output neurons, as something follows
    assert jaxsnn.doctor(models.Classifier(silent), UNIFORM, LABELS).outside == ()


# ------------------------------------------------------------------------------ as text and data


def test_the_report_as_text_and_as_data():
    report = jaxsnn.doctor(healthy(), 0.1 * UNIFORM, LABELS)
    lines = str(report).splitlines()
    assert max(map(len, lines)) <= 100
    (row,) = (line.split() for line in lines if line.startswith("1 LIFNode"))
    assert row[:4] == ["1", "LIFNode", "4", "0.000"]
    assert sum(line.startswith("!") for line in lines) == len(report.warnings)
    twice = report._replace(warnings=report.warnings[:1] + report.warnings[:1])
    assert str(twice).count("!") == 1  # what is said of two layers is said once
    assert "! 1 LIFNode, 1 LIFNode: no neuron fires" in str(twice)
    as_dict = json.loads(json.dumps(report.as_dict()))
    assert as_dict["layers"][1]["rate"] == 0
    assert as_dict["warnings"][0]["what"] == "dead"
    assert as_dict["layers"][0]["energy"] == pytest.approx(4.6 * T * F * F)
    assert len(as_dict["layers"][0]["gradient_by_step"]) == T
    assert repr(report) == str(report)


# ------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("make", "xs", "kwargs", "message"),
    [
        (healthy, UNIFORM[0], {}, r"\[T, N, ...\] .* got shape \[8, 4\]"),
        (healthy, UNIFORM, {"labels": LABELS[:5]}, r"N = 8 examples .* got shape \[5\]"),
        (healthy, UNIFORM, {"labels": jnp.zeros(T, int)}, "is the batch the first axis"),
        (
            healthy,
            UNIFORM,
            {"labels": jnp.eye(N, F)},
            r"argmax\(-1\)\), got float32 of .* \[8, 4\]",
        ),
        (healthy, UNIFORM, {"labels": jnp.zeros(N)}, "class numbers, 8 integers .* got float32"),
        (
            healthy,
            UNIFORM,
            {"labels": LABELS + 1},
            "labels go from 1 to 4, but .* classes 0 to 3; count",
        ),
        (
            lambda: models.Classifier(healthy(), None),
            *(UNIFORM, {"labels": LABELS}, r"outputs \[N, classes\] for .*, got \[10, 8, 4\]"),
        ),
    ],
)
def test_what_does_not_fit(make, xs, kwargs, message):
    with pytest.raises(ValueError, match=message):
        jaxsnn.doctor(make(), xs, **kwargs)


class Plain(nnx.Module):
    """A model of Flax, which runs its stack by itself."""

    def __init__(self):
        self.layers = healthy()

    def __call__(self, xs):
        return nn.unroll(self.layers, xs)[1].mean(0)


@pytest.mark.parametrize("ask", [jaxsnn.doctor, jaxsnn.calibrate])
@pytest.mark.parametrize("make", [Plain, lambda: jnp.tanh, linear], ids=["Flax", "tanh", "Linear"])
def test_what_is_no_model(ask, make):
    with pytest.raises(TypeError, match=r"must be a cell .* derive the model from jaxsnn.nn.Modul"):
        ask(make(), UNIFORM)


# ------------------------------------------------------------------------------ operations


def count(layer, xs, first=False):
    """The operations on `xs` as the input of the network, or as the output of other layers."""
    net = nn.Sequential(layer) if first else nn.Sequential(Passes(surrogate.ATan()), layer)
    row = jaxsnn.doctor(net, xs).layers[-1]
    return row.additions, row.multiply_adds, row.dense


def test_operations_of_linear_by_hand():
    layer = nn.Linear(4, 3, rngs=nnx.Rngs(0))
    spikes = jnp.zeros((2, 2, 4)).at[0, 0, 1].set(1).at[1, 0, 2].set(1).at[1, 1, 3].set(-1)
    assert count(layer, spikes) == (3 * 3 / 2, 0, 2 * 4 * 3)
    # What dropout leaves is larger, all alike; in the input of a network it is no spike.
    assert count(layer, 1.25 * spikes) == (3 * 3 / 2, 0, 24)
    assert count(layer, 1.25 * spikes, first=True) == (0, 24, 24)
    # One spike, one, and two at once; three sizes that are no counts.
    counts = spikes.at[1, 1, 3].set(2)
    assert count(layer, counts) == (4 * 3 / 2, 0, 24)
    assert count(layer, counts, first=True) == (0, 24, 24)
    assert count(layer, counts / 4 + 0.25) == (0, 24, 24)


@pytest.mark.parametrize(
    ("kwargs", "place", "additions", "dense"),
    [
        ({"padding": 1}, (0, 0), 4 * 2, (3 * 3 - 2) ** 2 * 2 * 2),
        ({"padding": 1}, (1, 1), 9 * 2, 49 * 2 * 2),
        ({"padding": "VALID"}, (0, 0), 1 * 2, 9 * 2 * 2),
        ({"padding": 1, "strides": 2}, (1, 1), 4 * 2, 4 * 4 * 2 * 2),
        ({"padding": 1, "feature_group_count": 2}, (1, 1), 9 * 1, 49 * 2),
    ],
)
def test_operations_of_conv_by_hand(kwargs, place, additions, dense):
    """One spike in an image of 3 by 3 and two channels: it reaches what its kernel reaches."""
    layer = nn.Conv(2, 2, (3, 3), rngs=nnx.Rngs(0), **kwargs)
    spikes = jnp.zeros((1, 1, 3, 3, 2)).at[0, 0, *place, 0].set(1)
    assert count(layer, spikes) == (additions, 0, dense)


def test_operations_of_rc_by_hand():
    """Two inputs that are no spikes, and the spikes of two neurons, fed back a step later."""
    container = nn.LinearRecurrentContainer(nn.IFNode(), 2, 2, bias=False, rngs=nnx.Rngs(0))
    container.rc.kernel[...] = jnp.eye(4, 2)  # i = x: no feedback to this input
    xs = jnp.broadcast_to(jnp.array([0.5, 1.5]), (4, 3, 2))
    report = jaxsnn.doctor(nn.Sequential(container), xs)
    rc = report.layers[1]
    assert rc.path == "0.rc"
    # Spikes in steps 1, 3 (from 0) and in 0 to 3; those of step 3 are fed back no more.
    assert (rc.additions, rc.multiply_adds) == ((1 + 3) * 2, 4 * 2 * 2)
    assert rc.dense == 4 * 2 * 2 + 3 * 2 * 2
    assert rc.energy == report.energy == pytest.approx(8 * 0.9 + 16 * 4.6)


def test_images_are_no_spikes_whatever_stands_first():
    pixels = jnp.floor(255 * UNIFORM)
    cell = Cells(NAMINGS["reversed"], linear(), linear())
    for net, first, second in (
        (nn.Sequential(nn.Flatten(), *healthy().layers), "1", "3"),
        (nn.Sequential(cell), "0.w", "0.b"),
        (
            nn.Sequential(nn.LinearRecurrentContainer(healthy(), F, F, rngs=nnx.Rngs(0))),
            *(
                "0.sub_module.0",
                "0.sub_module.2",
            ),
        ),
    ):
        by_path = {layer.path: layer for layer in jaxsnn.doctor(net, pixels).layers}
        assert by_path[first].additions == 0
        assert by_path[first].multiply_adds == by_path[first].dense == T * F * F
        assert by_path[second].multiply_adds == 0
        assert 0 < by_path[second].additions <= T * F * F


def test_counts_that_outnumber_the_products_are_multiplied():
    layer = nn.Linear(4, 3, rngs=nnx.Rngs(0))
    assert count(layer, jnp.ones((2, 2, 4)).at[0, 0, 0].set(200)) == (0, 24, 24)


# ------------------------------------------------------------------------------ calibration


def test_calibrate_a_dead_stack():
    net = nn.Sequential(
        *(linear(gain=0.1), nn.LIFNode(), linear(gain=0.1), nn.SynapseFilter(tau=2.0), nn.IFNode()),
        *(linear(gain=0.1), nn.LIFNode(v_reset=None)),
    )
    before = arrays(net)
    model, done = jaxsnn.calibrate(net, UNIFORM, rate=0.3, tolerance=0.05)
    assert [layer.path for layer in done] == ["1", "4", "6"]
    assert [layer.scaled for layer in done] == [("0",), ("2",), ("5",)]
    records = nn.unroll(model, UNIFORM, record=["1", "4", "6"])[2].records
    for layer in done:
        assert layer.before < layer.rate == pytest.approx(0.3, rel=0.05)
        seen = float(jnp.mean(records[layer.path]))
        assert seen == pytest.approx(layer.rate, abs=1e-6)
        assert layer.factor > 1
    np.testing.assert_allclose(model[0].kernel[...], net[0].kernel[...] * done[0].factor, rtol=1e-6)
    assert_unchanged(net, before)
    assert "0.300" in str(jaxsnn.diagnosis.Calibration(model, (done[0]._replace(rate=0.3),)))


def test_calibrate_containers_and_normalisations():
    rngs = nnx.Rngs(0)
    stack = nn.Sequential(
        *(linear(gain=50.0), nn.ElementWiseRecurrentContainer(nn.LIFNode(), operator.add)),
        nn.LinearRecurrentContainer(nn.IFNode(), F, F, rngs=rngs),
        nn.Linear(F, F, rngs=rngs),
        nn.LinearRecurrentContainer(nn.LIFNode(), F, F, feedback_only=True, rngs=rngs),
        *(linear(), nn.BatchNorm(F), nn.LIFNode()),
    )
    calibration = jaxsnn.calibrate(models.Classifier(stack), UNIFORM, rate=0.2, tolerance=0.15)
    model, done = calibration
    assert isinstance(model, models.Classifier)
    assert [layer.scaled for layer in done] == [
        *(("stack.0",), ("stack.2.rc",), ("stack.3",), ("stack.6",))
    ]
    assert [layer.recurrent for layer in done] == [(), ("stack.2.rc",), ("stack.4.rc",), ()]
    for k, first in (("2", F), ("4", 0)):  # the weights of the feedback
        now, before = (net[int(k)].rc.kernel[first:] for net in (model.stack, stack))
        np.testing.assert_array_equal(now, before)
    assert str(calibration).splitlines()[-1] == (
        "recurrent weights left as they are: stack.2.rc (its feedback), stack.4.rc"
    )
    assert done[0].factor < 1  # that one fired too much
    run = nn.unroll(model.stack, UNIFORM, record=["1", "2", "4", "7"], key=jax.random.key(0))
    for layer, spikes in zip(done, run[2].records.values(), strict=True):
        assert layer.rate == pytest.approx(0.2, rel=0.15)
        assert layer.rate == pytest.approx(float(jnp.mean(spikes)), abs=1e-6)


@pytest.mark.parametrize("names", NAMINGS.values(), ids=NAMINGS)
def test_calibrate_goes_by_what_is_called(names):
    """Not by the names of attributes; of each neuron there is a rate."""
    net = nn.Sequential(linear(gain=3.0), Cells(names, linear(gain=0.1), linear(gain=0.1)))
    model, done = jaxsnn.calibrate(net, UNIFORM, rate=0.3)
    first, one, second, two = (f"1.{name}" for name in names)
    assert [(layer.path, layer.scaled) for layer in done] == [(one, (first,)), (two, (second,))]
    np.testing.assert_array_equal(model[0].kernel[...], net[0].kernel[...])
    report = {layer.path: layer for layer in jaxsnn.doctor(model, UNIFORM).layers}
    for layer in done:
        assert layer.before < layer.rate == pytest.approx(0.3, rel=0.1)
        assert report[layer.path].rate == pytest.approx(layer.rate, abs=1e-6)


class Recurrent(nn.Cell):
    """Somebody's own recurrence: two layers whose outputs are added, and a third behind."""

    def __init__(self):
        self.neuron, self.after = nn.LIFNode(), linear(gain=0.1)
        self.x, self.back = linear(gain=0.1), linear(gain=0.1)

    def initialize_carry(self, input_shape, rngs=None, *, dtype=jnp.float32):
        return self.neuron.initialize_carry(input_shape, dtype=dtype), jnp.zeros(input_shape, dtype)

    def __call__(self, carry, x):
        v, y = self.neuron(carry[0], self.x(x) + self.back(carry[1]))
        return (v, y), self.after(y)


class Late(nn.Cell):
    """Spikes of the potential one step before, which reach it a step later, and the last input."""

    def __init__(self):
        self.surrogate = surrogate.ATan()
        self.back, self.x = linear(), linear()

    def initialize_carry(self, input_shape, rngs=None, *, dtype=jnp.float32):
        return (jnp.zeros(input_shape, dtype),) * 3

    def __call__(self, carry, x):
        v, y, last = carry
        return (0.5 * v + self.x(last) + self.back(y), self.surrogate(v - 1), x), y


def test_calibrate_an_own_recurrence():
    (done,) = jaxsnn.calibrate(Recurrent(), UNIFORM, rate=0.3).layers
    assert (done.path, done.scaled, done.recurrent) == ("neuron", ("x",), ("back",))
    assert done.rate == pytest.approx(0.3, rel=0.1)


def around_a_layer(gain=1.0):
    """A container that feeds back to the layer inside of it."""
    return nn.ElementWiseRecurrentContainer(
        nn.Sequential(linear(gain=gain), nn.LIFNode(v_threshold=0.5)), operator.add
    )


def ring():
    """A graph with a layer on the way to a neuron, and one on the way back."""
    edges = [("input", "forth"), ("forth", "fire"), ("fire", "back"), ("back", "fire")]
    cells = {"forth": linear(), "back": linear(), "fire": nn.LIFNode()}
    return nn.Graph(cells, [*edges, ("fire", "output")])


def radius(kernel):
    return max(abs(np.linalg.eigvals(np.asarray(kernel))))


def test_recurrent_weights_are_bound():
    """Where all weights are recurrent they grow as far as a singular value of 1, or shrink."""
    weak, strong = around_a_layer(gain=0.2), around_a_layer(gain=50.0)
    calibration = jaxsnn.calibrate(weak, UNIFORM, rate=0.7)
    (done,) = calibration.layers
    assert done.factor == done.limit > 1
    assert done.before < done.rate < 0.6
    assert "all its weights are recurrent; not reached, at a factor of" in str(calibration)
    kernel = calibration.model.sub_module[0].kernel[...]
    np.testing.assert_allclose(np.linalg.norm(kernel, 2), 1.0, rtol=1e-5)
    assert radius(kernel) <= 1
    (done,) = jaxsnn.calibrate(strong, UNIFORM, rate=0.4).layers
    assert done.factor < done.limit == 1
    assert done.rate == pytest.approx(0.4, rel=0.1)


def test_calibrate_neurons_that_change_each_other():
    """The second one feeds back to the first, which was done before it, and all is in the loop."""
    neurons = nn.LIFNode(v_threshold=0.2), nn.LIFNode(v_threshold=0.05)
    inside = nn.Sequential(linear(gain=0.5), neurons[0], linear(gain=0.1), neurons[1])
    net = nn.ElementWiseRecurrentContainer(inside, lambda y, x: x + 0.3 * y)
    model, done = jaxsnn.calibrate(net, UNIFORM, rate=0.3, tolerance=0.1)
    assert [layer.scaled for layer in done] == [("sub_module.0",), ("sub_module.2",)]
    assert [layer.recurrent for layer in done] == [layer.scaled for layer in done]
    report = {layer.path: layer for layer in jaxsnn.doctor(model, UNIFORM).layers}
    for layer, k in zip(done, (0, 2), strict=True):
        assert layer.rate == pytest.approx(0.3, rel=0.1)
        assert report[layer.path].rate == pytest.approx(layer.rate, abs=1e-6)
        old, new = inside[k].kernel[...], model.sub_module[k].kernel[...]
        np.testing.assert_allclose(new, layer.factor * old, rtol=1e-6)


class Mixed(nn.Cell):
    """A container, then a normalised layer and a neuron."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.z = nn.LinearRecurrentContainer(nn.LIFNode(), F, F, rngs=rngs)
        self.y, self.x, self.a = linear(), nnx.LayerNorm(F, rngs=rngs), nn.LIFNode()
        self.b = linear()  # never called

    def initialize_carry(self, input_shape, rngs=None, *, dtype=jnp.float32):
        return tuple(cell.initialize_carry(input_shape, dtype=dtype) for cell in (self.z, self.a))

    def __call__(self, carry, x):
        z, x = self.z(carry[0], x)
        a, x = self.a(carry[1], self.x(self.y(x)))
        return (z, a), x


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (Mixed, {"0.z.sub_module": ("0.z.rc",), "0.a": ("0.y", "0.x")}),
        (  # attention only weighs what the layer before it gives
            lambda: (
                linear(),
                nn.contrib.TemporalWiseAttention(T, 5, rngs=nnx.Rngs(0)),
                nn.LIFNode(),
            ),
            {"2": ("0",)},
        ),
        (lambda: (linear(), linear(), nn.LIFNode()), {"2": ("1",)}),
        (
            lambda: nn.Bidirectional(*(nn.Sequential(linear(), nn.LIFNode()) for _ in "ab")),
            {
                "0.forward_cell.1": ("0.forward_cell.0",),
                "0.backward_cell.1": ("0.backward_cell.0",),
            },
        ),
        (lambda: nn.contrib.SpikingGRUCell(F, F, rngs=nnx.Rngs(0)), {"0": ()}),
        (lambda: (linear(), nnx.GRUCell(F, F, rngs=nnx.Rngs(0)), nn.LIFNode()), {"2": ("0",)}),
        (lambda: (linear(), in_a_circle().layers[0]), {"1.sub_module": ("0",)}),
        (lambda: (linear(), around_a_layer()), {"1.sub_module.1": ("0",)}),
        (around_a_layer, {"0.sub_module.1": ("0.sub_module.0",)}),
        (Late, {"0": ("0.x",)}),
        (ring, {"0.fire": ("0.forth",)}),
    ],
)
def test_what_is_scaled(make, expected):
    made = make()
    net = nn.Sequential(*made) if isinstance(made, tuple) else nn.Sequential(made)
    if not any(expected.values()):
        with pytest.raises(ValueError, match="no spiking layer with a Linear"):
            jaxsnn.calibrate(net, UNIFORM)
        return
    done = jaxsnn.calibrate(net, UNIFORM, tolerance=1e9).layers  # any rate will do
    assert {layer.path: layer.scaled for layer in done} == expected


@pytest.mark.slow
def test_calibrate_attention():
    """Each of its neurons by the projection before it; none before `attn_lif`."""
    rngs = nnx.Rngs(0)
    cell = nn.contrib.SpikingSelfAttention(F, num_heads=2, rngs=rngs)
    cell.attn_lif = nn.LIFNode(v_threshold=0.01)
    net = nn.Sequential(nn.Linear(F, F, rngs=rngs), cell)
    xs = jax.random.uniform(jax.random.key(0), (T, N, 2, F), maxval=3.0)
    done = jaxsnn.calibrate(net, xs, rate=0.2, tolerance=0.2).layers
    assert [(layer.path, layer.scaled) for layer in done] == [
        ("1.in_proj.2", ("1.in_proj.1",)),
        ("1.attn_lif", ()),
        ("1.out_proj.2", ("1.out_proj.1",)),
    ]


def test_the_table_of_a_bare_cell():
    done = jaxsnn.diagnosis.CalibratedLayer("", "Own", ("fc",), 2.0, 0.0, 0.1)
    assert str(jaxsnn.diagnosis.Calibration(None, (done,))).splitlines()[2].startswith("Own ")
    with pytest.raises(ValueError, match="layer Own cannot be brought"):
        jaxsnn.calibrate(Own(), UNIFORM)


class Own(nn.Cell):
    """A neuron with its own weights, whose current is negative."""

    def __init__(self):
        self.fc, self.surrogate = linear(gain=-1.0), surrogate.ATan()

    def initialize_carry(self, input_shape, rngs=None, *, dtype=jnp.float32):
        return ()

    def __call__(self, carry, x):
        return carry, self.surrogate(self.fc(x) - 1)


@pytest.mark.slow
def test_calibrate_conv():
    rngs = nnx.Rngs(0)
    conv = nn.Conv(1, 3, (3, 3), padding=1, rngs=rngs)
    net = nn.Sequential(conv, nn.MaxPool((2, 2)), nn.IFNode())
    xs = jax.random.uniform(jax.random.key(0), (5, N, 4, 4, 1))
    _, done = jaxsnn.calibrate(net, xs, rate=0.15)
    assert [(layer.path, layer.scaled) for layer in done] == [("2", ("0",))]
    assert done[0].rate == pytest.approx(0.15, rel=0.1)


def never(u):
    return jnp.zeros_like(u)


@pytest.mark.parametrize(
    ("make", "xs", "rate", "message"),
    [
        (healthy, 0 * UNIFORM, 0.1, "xs must be finite and not 0 everywhere"),
        (lambda: nn.Sequential(nn.LIFNode()), UNIFORM, 0.1, "no spiking layer with a Linear"),
        (
            lambda: nn.Sequential(linear(), nn.contrib.DSRIFNode()),
            *(UNIFORM, 0.1, r"for 1 \(DSRIFNode\), choose another v_threshold"),
        ),
        (healthy, UNIFORM, 1.5, "layer 1 cannot be brought to rate=1.5"),
        (lambda: alone(never), UNIFORM, 0.1, "between 0 and 0;"),
        (lambda: nn.Sequential(*[linear(), nn.IFNode()] * 2), UNIFORM, 0.1, "in two places"),
        (healthy, UNIFORM[:1, :1], 0.1, "the rate jumps"),
        (healthy, UNIFORM, 0.0, "rate must be greater than 0"),
    ],
)
def test_what_cannot_be_calibrated(make, xs, rate, message):
    with pytest.raises(ValueError, match=message):
        jaxsnn.calibrate(make(), xs, rate)


@pytest.mark.slow
def test_a_dead_network_learns_after_calibration():
    """Which of four channels is on? No neuron comes near the narrow window of its surrogate."""
    inputs = jnp.tile(jnp.eye(F), (4, 1)) * jnp.linspace(1, 2, 16)[:, None]
    xs, labels = jnp.broadcast_to(inputs, (T, *inputs.shape)), jnp.argmax(inputs, axis=-1)
    node = functools.partial(nn.LIFNode, surrogate_function=surrogate.Triangle(width=0.5))
    rngs = nnx.Rngs(0)
    hidden, out = nn.Linear(F, 16, rngs=rngs), nn.Linear(16, F, rngs=rngs)
    net = models.Classifier(nn.Sequential(hidden, node(), out, node()))
    dead = jax.tree.map(lambda weights: weights / 10, net)
    optimizer = optax.adam(3e-2)

    def loss(net):
        rates = net(xs)
        right = jnp.mean(losses.correct(rates, labels), dtype=jnp.float32)
        return jnp.mean(losses.firing_rate_mse(rates, labels)), right

    @jax.jit
    def learn(net):
        def step(carry, _):
            net, state = carry
            gradient, right = jax.grad(loss, has_aux=True)(net)
            updates, state = optimizer.update(gradient, state)
            return (jax.tree.map(jnp.add, net, updates), state), right

        return jax.lax.scan(step, (net, optimizer.init(net)), length=100)[1][-1]

    assert "zero_gradient" in {found.what for found in jaxsnn.doctor(dead, xs, labels).warnings}
    calibrated = jaxsnn.calibrate(dead, xs, rate=0.2, tolerance=0.3).model
    with jax.numpy_dtype_promotion("standard"):  # optax's
        assert learn(dead) == 0.25
        assert learn(calibrated) >= 0.9


@pytest.mark.parametrize(
    "network",
    [nn.LIFNode(), nn.Residual(nn.IFNode()), nn.Sequential()],
    ids=["neuron", "block", "empty"],
)
def test_a_network_without_products_of_matrices_is_printed(network):
    printed = str(jaxsnn.doctor(network, jnp.ones((7, 5, 8))))
    assert "no Linear or Conv whose synaptic operations could be counted" in printed
