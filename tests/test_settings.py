"""Settings are Python values: a traced one is refused by name. Constants may be traced."""

import dataclasses
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxsnn
from jaxsnn import learning, nn, surrogate
from jaxsnn._checks import REQUIRED

NAMED = r"must be known when it is set.*constants of neurons.*jaxsnn\.functional"

# What constructors ask for, by name; all other arguments have a default.
GIVEN = {
    "kernel_size": (3, 3),
    "sub_module": nn.IFNode(),
    "act": jax.nn.relu,
    "threshold_related": True,
    "T": 16,
    "C": 16,
    "dim": 8,
}

MESSAGE = {"reduction_t": "reduction", "reduction_c": "reduction"}


def numbers_of(kind):
    """The names of the arguments of `kind` that are single numbers, flags or sizes."""
    for name, parameter in inspect.signature(kind).parameters.items():
        annotation = getattr(parameter.annotation, "__origin__", parameter.annotation)
        if annotation in (float, int, bool, float | None, int | None):
            yield name


def classes():
    for module in (nn, surrogate, learning):
        for name, kind in vars(module).items():
            ours = isinstance(kind, type) and not issubclass(kind, tuple | nn.Run)
            ours = ours and kind is not nn.Neuron  # which is abstract
            if ours and [*numbers_of(kind)]:
                yield pytest.param(kind, id=name)


def given(kind, **more):
    arguments = {}
    for name, parameter in inspect.signature(kind).parameters.items():
        if parameter.default is REQUIRED:
            arguments[name] = nnx.Rngs(0)
        elif parameter.default is parameter.empty and parameter.kind != parameter.VAR_KEYWORD:
            arguments[name] = GIVEN.get(name, 4)
    return arguments | more


@pytest.mark.parametrize("kind", [*classes()])
def test_every_number_of_every_class(kind):
    def construct(x):
        kind(**given(kind))  # else the test proves nothing
        for name in numbers_of(kind):
            with pytest.raises(TypeError, match=f"{MESSAGE.get(name, name)} {NAMED}"):
                kind(**given(kind, **{name: x}))

    jax.eval_shape(construct, jnp.float32(4.0))


def test_constants_of_neurons_may_be_traced():
    """Over them run `jax.grad`, whose result is that of finite differences, `vmap` and `jit`."""
    xs = 2 * np.random.default_rng(0).normal(size=(6, 3))

    def mean(tau, v_threshold):
        settings = {"surrogate_function": surrogate.ATan(spiking=False), "v_threshold": v_threshold}
        layers = nn.LIFNode(tau, **settings), nn.ExponentialSynapse(tau)
        return jnp.mean(nn.unroll(nn.Sequential(*layers), xs)[1])

    with jax.enable_x64(True):
        at, small = np.array([2.5, 0.7]), 1e-6 * np.eye(2)
        found = jax.grad(mean, (0, 1))(*at)
        numbers = [[mean(*(at + sign * step)) for sign in (1, -1)] for step in small]
        np.testing.assert_allclose(found, [(up - down) / 2e-6 for up, down in numbers], 1e-6)
    taus = [1.5, 4.0]
    separate = [mean(tau, 0.5) for tau in taus]
    for several in (jax.vmap(mean, (0, None)), jax.jit(jax.vmap(mean, (0, None)))):
        np.testing.assert_allclose(several(jnp.array(taus), 0.5), separate, 1e-5)


@dataclasses.dataclass(frozen=True)
class Scaled(surrogate.Surrogate):
    """A surrogate of a user, whose fields have no checks."""

    scale: float
    spiking: bool = True

    def primal(self, u):
        return jax.nn.sigmoid(self.scale * u)

    def derivative(self, u):
        return jnp.ones_like(u)


@dataclasses.dataclass(frozen=True)
class Readout:
    """A function of a user."""

    scale: float

    def __call__(self, ys):
        return self.scale * ys.mean(0)


def test_traced_fields_of_frozen_dataclasses():
    with pytest.raises(TypeError, match=f"scale {NAMED}"):
        jax.grad(lambda scale: Scaled(scale)(jnp.float32(1.0)))(2.0)
    with pytest.raises(TypeError, match=f"scale of readout {NAMED}"):
        jax.jit(lambda scale: jaxsnn.models.Classifier(nn.IFNode(), Readout(scale)))(2.0)


def test_arrays_of_one_number_are_numbers():
    assert nn.LIFNode(tau=jnp.float32(3.0)).tau == 3.0
    assert surrogate.ATan(jnp.float32(3.0)) == surrogate.ATan(3.0)
    bounds = learning.LowerBound, learning.UpperBound
    for bound in bounds:  # hashable, as jit needs them
        assert hash(bound(jnp.float32(0.5), jnp.float32(2.0))) == hash(bound(0.5, 2.0))
