"""The one mechanism of all surrogates: spikes forward, the surrogate derivative backward."""

import abc
import dataclasses
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

from jaxsnn import _checks

Positive = Annotated[float, _checks.positive]
NonNegative = Annotated[float, _checks.non_negative]


def _spikes(u: jax.Array, *, surrogate: "Surrogate") -> jax.Array:
    return surrogate.spikes(u)


def _jvp(
    primals: tuple[jax.Array], tangents: tuple[Any], *, surrogate: "Surrogate"
) -> tuple[jax.Array, Any]:
    """One rule for both directions: it is linear in the tangent, so JAX transposes it."""
    (u,), (to_u,) = primals, tangents
    spikes = _spike.bind(u, surrogate=surrogate)
    if isinstance(to_u, ad.Zero):
        return spikes, to_u
    return spikes, to_u * surrogate.derivative(u)


# An operation of its own rather than a `jax.custom_jvp`, whose rule JAX 0.10 drops from the loop
# when it differentiates a scan: second derivatives would be wrong.
_spike = Primitive("spike")
_spike.def_impl(_spikes)
_spike.def_abstract_eval(lambda u, *, surrogate: u.update(weak_type=False))
ad.primitive_jvps[_spike] = _jvp
batching.defvectorized(_spike)
mlir.register_lowering(_spike, mlir.lower_fun(_spikes, multiple_results=False))


class Surrogate(abc.ABC):
    """A spike function with a surrogate derivative.

    Subclasses are frozen dataclasses, so that two with equal settings are one and the same to
    `jax.jit`, and define `primal` and `derivative`. `spiking` says which of the two sides is
    run forward: the Heaviside step (True) or the primal itself (False), which JAX then
    differentiates as it stands. A field annotated `Annotated[float, check]` is passed through
    `check(name, value)` at construction.

    Examples:
        A surrogate of one's own:

        >>> @dataclasses.dataclass(frozen=True)
        ... class Tanh(Surrogate):
        ...     spiking: bool = True
        ...
        ...     def primal(self, u):
        ...         return (jnp.tanh(u) + 1) / 2
        ...
        ...     def derivative(self, u):
        ...         return (1 - jnp.tanh(u) ** 2) / 2
        >>> jax.grad(Tanh())(jnp.float32(0))
        Array(0.5, dtype=float32)
    """

    spiking: bool

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]  # subclasses are
            _checks.not_traced(field.name, getattr(self, field.name))
            for check in getattr(field.type, "__metadata__", ()):
                value = check(field.name, getattr(self, field.name))
                object.__setattr__(self, field.name, value)
        _checks.boolean("spiking", self.spiking)

    @abc.abstractmethod
    def primal(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The function whose derivative stands in for that of the step."""

    @abc.abstractmethod
    def derivative(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The surrogate derivative, `d primal / du`."""

    def spikes(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The step itself: 1 where `u >= 0`, 0 elsewhere and where `u` is not a number."""
        return (u >= 0).astype(u.dtype)

    def __call__(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Fires where `u >= 0`.

        Args:
            u: membrane potential less threshold, `v - v_threshold`, any shape, floating.

        Returns:
            Spikes in the shape and dtype of `u` (the primal if `spiking=False`).

        Raises:
            TypeError: `u` is not floating.
        """
        u = jnp.asarray(u)
        _checks.floating("u", u)
        return _spike.bind(u, surrogate=self) if self.spiking else self.primal(u)


def magnitude(u: jax.Array) -> jax.Array:
    """`|u|` with slope 1 at 0, whatever slope `jnp.abs` has there: for primals with a slope."""
    return jnp.where(u >= 0, u, -u)


def step_with_tail(u: jax.Array, tail: jax.Array) -> jax.Array:
    """The step from 0 to 1 that misses either end by `tail`, a function of `magnitude(u)`."""
    return jnp.where(u >= 0, 1 - tail, tail)
