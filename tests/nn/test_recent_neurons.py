"""adLIF, SE-adLIF, BRF and TC-LIF against loops in NumPy in the order of their authors' code."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from golden_arrays import assert_equal
from quick import run_once

from jaxsnn import functional, nn, surrogate

T, N, F = 60, 3, 4


def per_neuron(*numbers):
    return np.asarray([numbers], "float64")


class Neuron(NamedTuple):
    """A neuron and its equations once more.

    Attributes:
        step: the transition.
        state: the NamedTuple of its states.
        first: a first state for each of them, a number.
        constants: one number per neuron, the arguments of the transition.
        fixed: its other arguments.
        surrogate: the one that the authors use.
        loop: `(xs, constants) -> (states, spikes)` over time, in the variables of the authors.
        scale: of the inputs, so that it fires now and then.
    """

    step: Callable[..., Any]
    state: Any
    first: tuple[float, ...]
    constants: dict[str, np.ndarray]
    fixed: dict[str, Any]
    surrogate: surrogate.Surrogate
    loop: Callable[..., Any]
    scale: float


def sparch(xs, first, v_decay, w_decay, a, b, v_threshold):
    """The state of the code is (u, w, s); ours is made of it."""
    v, w = first
    u, s, states, spikes = v, 0.0 * v, [], []
    for t, x in enumerate(xs):
        w = w if t == 0 else w_decay * w + a * u + b * s
        u = v_decay * (u - s) + (1 - v_decay) * (x - w)
        s = 1.0 * (u >= v_threshold)
        states.append((u - s, w_decay * w + a * u + b * s))
        spikes.append(s)
    return states, spikes


def se_adlif(xs, first, v_decay, w_decay, a, b, q, v_threshold):
    (u, w), states, spikes = first, [], []
    for x in xs:
        u = v_decay * u + (1.0 - v_decay) * (x - w)
        z = 1.0 * (u - v_threshold >= 0)
        u = u * (1 - z)
        w = w_decay * w + (1.0 - w_decay) * (a * u + b * z) * q
        states.append((u, w))
        spikes.append(z)
    return states, spikes


def brf(xs, first, b, omega, dt, q_decay, v_threshold):
    """In complex numbers, as in the paper."""
    v, u, q = first
    y, states, spikes = v + 1j * u, [], []
    for x in xs:
        y = y + dt * ((b - q + 1j * omega) * y + x)
        z = 1.0 * (y.real - v_threshold - q >= 0)
        q = q_decay * q + z
        states.append((y.real, y.imag, q))
        spikes.append(z)
    return states, spikes


def tclif(xs, first, beta1, beta2, gamma, v_threshold):
    (v2, v1), states, spikes = first, [], []
    for x in xs:
        v1 = v1 - beta1 * v2 + x
        v2 = v2 + beta2 * v1
        z = 1.0 * (v2 - v_threshold >= 0)
        v1 = v1 - z * gamma
        v2 = v2 - z * v_threshold
        states.append((v2, v1))
        spikes.append(z)
    return states, spikes


TAU_W = {"adLIF": per_neuron(30, 60, 90, 120), "SE-adLIF": per_neuron(60, 120, 200, 300)}
TAU_U = per_neuron(5, 10, 15, 25)
OMEGA, B_OFFSET, DT = (
    per_neuron(10, 20, 40, 85),
    per_neuron(0.1, 0.4, 0.7, 1),
    per_neuron(*[0.01] * 4),
)
NEURONS = {
    "adLIF": Neuron(
        functional.adlif_step,
        functional.AdLIFState,
        (0.4, -0.1),
        {
            "v_decay": np.exp(-1 / TAU_U),
            "w_decay": np.exp(-1 / TAU_W["adLIF"]),
            "a": per_neuron(-0.02, 0.0, 0.05, 0.2),
            "b": per_neuron(0.1, 0.4, 1.0, 2.0),
            "v_threshold": per_neuron(1, 1, 1, 1),
        },
        {"v_reset": None, "detach_reset": False},
        surrogate.Rect(),
        sparch,
        12.0,
    ),
    "SE-adLIF": Neuron(
        functional.se_adlif_step,
        functional.AdLIFState,
        (0.4, -0.1),
        {
            "v_decay": np.exp(-1 / TAU_U),
            "w_decay": np.exp(-1 / TAU_W["SE-adLIF"]),
            "a": per_neuron(0.0, 0.2, 0.5, 1.0),
            "b": per_neuron(0.1, 0.5, 1.0, 2.0),
            "q": per_neuron(60, 120, 120, 228),
            "v_threshold": per_neuron(0.9, 1, 1, 1.1),
        },
        {"v_reset": 0.0, "detach_reset": False},
        surrogate.PiecewiseExp(alpha=5.0, gamma=0.4),
        se_adlif,
        12.0,
    ),
    "BRF": Neuron(
        functional.brf_step,
        functional.BRFState,
        (0.3, -0.2, 0.1),
        {
            "b": (-1 + np.sqrt(1 - (DT * OMEGA) ** 2)) / DT - B_OFFSET,
            "omega": OMEGA,
            "dt": DT,
            "q_decay": per_neuron(0.8, 0.9, 0.9, 0.95),
            "v_threshold": per_neuron(0.5, 0.8, 1, 1),
        },
        {},
        surrogate.DoubleGaussian(),
        brf,
        60.0,
    ),
    "TC-LIF": Neuron(
        functional.tclif_step,
        functional.TCLIFState,
        (0.3, -0.2),
        {
            "beta1": per_neuron(0.2, 0.5, 0.6, 0.8),
            "beta2": per_neuron(0.8, 0.5, 0.4, 0.3),
            "gamma": per_neuron(0.3, 0.5, 0.5, 0.7),
            "v_threshold": per_neuron(1.0, 1.2, 1.5, 1.8),
        },
        {"detach_reset": False},
        surrogate.PiecewiseQuadratic(),
        tclif,
        1.0,
    ),
}
every = pytest.mark.parametrize("name", NEURONS)


def inputs(row):
    """Inputs over time and the first states."""
    xs = np.random.default_rng(0).uniform(-0.4, 1.0, (T, N, F)) * row.scale
    return xs, [np.full((N, F), number) for number in row.first]


def over_time(row, xs, first, constants, **changed):
    step = functools.partial(
        row.step, **({"surrogate_function": row.surrogate} | constants | row.fixed | changed)
    )

    def body(state, x):
        state, y = step(state, x)
        return state, (state, y)

    return jax.lax.scan(body, row.state(*first), xs)[1]


@every
def test_as_the_authors_compute_it(name):
    """States and spikes after every step, a constant of its own for each neuron."""
    row = NEURONS[name]
    xs, first = inputs(row)
    states, spikes = row.loop(xs, first, **row.constants)
    states, spikes = np.moveaxis(np.asarray(states), 1, 0), np.asarray(spikes)
    rates = spikes.mean((0, 1))
    assert np.all((rates > 0.01) & (rates < 0.9)), rates
    with jax.enable_x64(True):
        found, ys = jax.device_get(
            jax.jit(functools.partial(over_time, row))(xs, first, row.constants)
        )
    assert_equal(ys, spikes)
    for field, actual, expected in zip(row.state._fields, found, states, strict=True):
        limit = 1e-12 * np.max(np.abs(expected))
        np.testing.assert_allclose(actual, expected, rtol=0, atol=limit, err_msg=field)


@every
def test_gradients_are_finite_differences_of_the_smooth_primal(name):
    """Of outputs and all states, by inputs, first states and every constant."""
    row = NEURONS[name]
    draw = np.random.default_rng(1).normal
    xs, first = inputs(row)
    xs = xs[:12]
    places = {"xs": xs, "first": first} | row.constants
    # The boxcar's and the triangle's primals have kinks, near which differences are not slopes.
    smooth = dataclasses.replace(
        surrogate.Gaussian() if name in ("adLIF", "TC-LIF") else row.surrogate, spiking=False
    )
    weights = [draw(size=xs.shape) for _ in range(len(first) + 1)]

    def loss(places):
        constants = {key: places[key] for key in row.constants}
        states, ys = over_time(
            row, places["xs"], places["first"], constants, surrogate_function=smooth
        )
        return sum(jnp.sum(w * a) for w, a in zip(weights, [*states, ys], strict=True))

    @jax.jit
    def both(places, nudged):
        return jax.grad(loss)(places), jax.vmap(loss)(nudged)

    # Each place is moved alone, in a direction of its own, a little back and forth.
    size = 1e-6
    directions = {
        key: jax.tree.map(lambda a: draw(size=a.shape) * np.abs(a).max(), value)
        for key, value in places.items()
    }

    def move(key, by):
        return places | {key: jax.tree.map(lambda a, d: a + by * d, places[key], directions[key])}

    moved = [move(key, by) for key in places for by in (size, -size)]
    with jax.enable_x64(True):
        gradient, losses = jax.device_get(
            both(places, jax.tree.map(lambda *leaves: np.stack(leaves), *moved))
        )
    for k, key in enumerate(places):
        slope = (losses[2 * k] - losses[2 * k + 1]) / (2 * size)
        products = jax.tree.map(lambda g, d: np.sum(g * d), gradient[key], directions[key])
        along = sum(jax.tree.leaves(products))
        assert abs(along) > 1e-3, key
        np.testing.assert_allclose(along, slope, rtol=1e-6, err_msg=key)


@every
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dtypes_and_numbers(name, dtype):
    """States stay float32, spikes have the dtype of the input, constants may be numbers."""
    row = NEURONS[name]
    xs, first = inputs(row)
    first = row.state(*(jnp.asarray(leaf, "float32") for leaf in first))
    settings = row.fixed | {"surrogate_function": row.surrogate}
    arrays = {key: jnp.asarray(value, "float32") for key, value in row.constants.items()}
    numbers = {key: float(value[0, 2]) for key, value in row.constants.items()}
    x = jnp.asarray(xs[0], dtype)
    (state, y), (with_numbers, of_numbers) = (
        row.step(first, x, **constants, **settings) for constants in (arrays, numbers)
    )
    assert (y.dtype, of_numbers.dtype) == (dtype, dtype)
    for a, b in zip(state, with_numbers, strict=True):
        assert (a.dtype, b.dtype) == ("float32", "float32")
        np.testing.assert_allclose(a[:, 2], b[:, 2], rtol=1e-5, atol=1e-5)


# The cell, and those of its constants that are not those of the transition.
CELLS = {
    "adLIF": (nn.AdLIFNode, {"tau_u": TAU_U, "tau_w": TAU_W["adLIF"]}),
    "SE-adLIF": (nn.SEAdLIFNode, {"tau_u": TAU_U, "tau_w": TAU_W["SE-adLIF"]}),
    "BRF": (nn.BRFNode, {"b_offset": B_OFFSET}),
    "TC-LIF": (nn.TCLIFNode, {}),
}


def cell_of(name, make=lambda field, value: value, **settings):
    """The cell with the constants of the row, each passed through `make`."""
    kind, own = CELLS[name]
    row = NEURONS[name]
    fields = {field: value for field, value in row.constants.items() if field in kind._fields} | own
    constants = {field: make(field, jnp.asarray(value[0])) for field, value in fields.items()}
    return kind(**({"surrogate_function": row.surrogate} | constants | row.fixed | settings))


@every
def test_the_cell_with_an_array_for_each_constant(name):
    row = NEURONS[name]
    xs, first = inputs(row)
    states, spikes = row.loop(xs, first, **row.constants)
    with jax.enable_x64(True):
        node = cell_of(name)
        carry, ys = run_once(lambda xs, carry: nn.unroll(node, xs, carry), xs, row.state(*first))
        assert not node.learned
    assert_equal(ys, spikes)
    for field, actual, expected in zip(row.state._fields, carry, states[-1], strict=True):
        limit = 1e-12 * np.max(np.abs(expected))
        np.testing.assert_allclose(actual, expected, rtol=0, atol=limit, err_msg=field)


def learned(field, value):
    """The bounds are those of the constant, but where the product of two must not exceed 1."""
    return nn.learnable(value, {"omega": (0, 90), "dt": (0, 0.011)}.get(field))


@every
def test_the_cell_with_constants_that_are_learned(name):
    """The gradient of the parameter of each constant and neuron is a finite difference."""
    row = NEURONS[name]
    xs, _ = inputs(row)
    smooth = dataclasses.replace(surrogate.Gaussian(), spiking=False)
    weights = np.random.default_rng(2).normal(size=(12, N, F))
    with jax.enable_x64(True):
        # Not 0, where a coupling could not start that is learned between bounds.
        node = cell_of(
            name,
            lambda field, value: learned(field, jnp.where(value == 0, 0.1, value)),
            surrogate_function=smooth,
        )
        graphdef, parameters = nnx.split(node)
        flat, unflatten = jax.flatten_util.ravel_pytree(parameters)
        assert len(flat) == F * len(node.learned)
        assert {*node.learned} >= {*CELLS[name][1]}

        def loss(flat):
            node = nnx.merge(graphdef, unflatten(flat))
            return jnp.sum(weights * nn.unroll(node, jnp.asarray(xs[:12]))[1])

        size = 1e-6
        gradient, ahead, behind = run_once(
            lambda flat, nudge: (
                jax.grad(loss)(flat),
                jax.vmap(loss)(flat[None] + nudge),
                jax.vmap(loss)(flat[None] - nudge),
            ),
            flat,
            size * jnp.eye(len(flat)),
        )
    assert np.count_nonzero(gradient) == len(flat)
    limit = 1e-7 * np.max(np.abs(gradient))
    np.testing.assert_allclose(gradient, (ahead - behind) / (2 * size), rtol=1e-5, atol=limit)


@pytest.mark.parametrize("name", ["adLIF", "SE-adLIF", "TC-LIF"])
def test_detached_reset(name):
    """By the input that makes a spike: no surrogate in the reset, as ever in the output."""
    row = NEURONS[name]
    smooth = surrogate.Gaussian(sigma=1.0, gamma=1.0)
    constants = {key: float(value[0, 2]) for key, value in row.constants.items()}

    def after(x, detach_reset):
        settings = row.fixed | {"surrogate_function": smooth, "detach_reset": detach_reset}
        state, y = row.step(
            row.state(*(jnp.float32(0) for _ in row.first)), x, **constants, **settings
        )
        return (*state, y)

    to_h = {"TC-LIF": constants.get("beta2")}.get(name, 1 - constants.get("v_decay", 0))
    x = jnp.float32(1.5 * constants["v_threshold"] / to_h)
    (_, slopes), (ys, detached) = run_once(
        lambda x: [(after(x, detach), jax.jacrev(after)(x, detach)) for detach in (False, True)], x
    )
    assert ys[-1] == 1
    u = to_h * x - constants["v_threshold"]
    np.testing.assert_allclose(slopes[-1], smooth.derivative(u) * to_h, rtol=1e-5)
    np.testing.assert_allclose(detached[-1], slopes[-1], rtol=1e-6)
    stays = 0.0 if row.fixed.get("v_reset") == 0 else to_h  # of the potential after the reset
    np.testing.assert_allclose(detached[0], stays, rtol=1e-5)
    assert abs(slopes[0] - stays) > 0.01
    if name == "TC-LIF":
        np.testing.assert_allclose(detached[1], 1.0)
        np.testing.assert_allclose(slopes[1], 1 - constants["gamma"] * slopes[-1], rtol=1e-5)


@pytest.mark.parametrize("name", ["adLIF", "SE-adLIF"])
def test_an_oscillation_fades_however_strong_the_coupling(name):
    """Below the threshold both eigenvalues have the modulus sqrt(v_decay w_decay)."""
    row = NEURONS[name]
    settings = {"v_decay": 0.9, "w_decay": 0.99, "a": 5.0, "b": 1.0, "v_threshold": 1.0}
    settings |= {"q": 60.0} if name == "SE-adLIF" else {}
    settings |= row.fixed | {"surrogate_function": surrogate.Rect()}  # 0 far from the threshold

    def after(state):
        return jnp.stack(row.step(functional.AdLIFState(*state), jnp.float32(0), **settings)[0])

    matrix = run_once(jax.jacfwd(after), jnp.array([-0.1, 0.2]))
    moduli = np.abs(np.linalg.eigvals(matrix))
    np.testing.assert_allclose(moduli, np.sqrt(0.9 * 0.99), rtol=1e-4)


def test_divergence_bound():
    """There an oscillation keeps its amplitude: the factor of one step has the modulus 1."""
    with jax.enable_x64(True):
        omega, dt = np.array([1e-3, 1.0, 10.0, 85.0, 100.0]), 0.01
        bound = np.asarray(functional.divergence_bound(jnp.asarray(omega), dt))
        np.testing.assert_allclose(np.abs(1 + dt * (bound + 1j * omega)), 1.0, rtol=1e-14)
        np.testing.assert_allclose(bound[0], -dt * 1e-6 / 2, rtol=1e-9)  # no digits lost
        for number, expected in zip(omega, bound, strict=True):
            found = functional.divergence_bound(float(number), dt)
            assert isinstance(found, float)
            np.testing.assert_allclose(found, expected, rtol=1e-15)
        assert np.isnan(functional.divergence_bound(jnp.asarray(100.1), dt))
    with pytest.raises(ValueError, match="math domain error"):
        functional.divergence_bound(100.1, 0.01)
