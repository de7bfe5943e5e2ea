"""How much a weight changes depends on the weight itself: `f_pre` and `f_post` of the rules.

Any function from a weight to a factor of the same shape will do, e.g. one of these. A
module-level function or a frozen dataclass compiles once; a new lambda compiles anew.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsnn import _checks


def proportional(w: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`f(w) = w`, SpikingJelly's default: for weights above 0; it turns around below."""
    return w


def additive(w: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`f(w) = 1`: the change does not depend on the weight."""
    return jnp.ones_like(w)


@dataclasses.dataclass(frozen=True)
class LowerBound:
    """`f(w) = (w - w_min)^mu`, as `f_pre`: depression fades towards the lower bound.

    A weight beyond the bound counts as one that is on it. With `mu = 1` and its counterpart
    `UpperBound` these are soft bounds, with `mu = 0` there are none (Gütig, Aharonov, Rotter &
    Sompolinsky 2003, "Learning input correlations through nonlinear temporally asymmetric Hebbian
    plasticity").

    Args:
        w_min: the lower bound.
        mu: exponent, at least 0.

    Raises:
        TypeError: an argument is not a number.
        ValueError: `mu` is below 0, or a number is not finite.
    """

    w_min: float = 0.0
    mu: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "w_min", _checks.real("w_min", self.w_min))
        object.__setattr__(self, "mu", _checks.non_negative("mu", self.mu))

    def __call__(self, w: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The factor for each weight."""
        return _room(w - self.w_min, self.mu)


@dataclasses.dataclass(frozen=True)
class UpperBound:
    """`f(w) = (w_max - w)^mu`, as `f_post`: potentiation fades towards the upper bound.

    A weight beyond the bound counts as one that is on it; see `LowerBound`.

    Args:
        w_max: the upper bound.
        mu: exponent, at least 0.

    Raises:
        TypeError: an argument is not a number.
        ValueError: `mu` is below 0, or a number is not finite.
    """

    w_max: float = 1.0
    mu: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "w_max", _checks.real("w_max", self.w_max))
        object.__setattr__(self, "mu", _checks.non_negative("mu", self.mu))

    def __call__(self, w: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The factor for each weight."""
        return _room(self.w_max - w, self.mu)


def _room(distance: jax.Array, mu: float) -> jax.Array:
    """`max(distance, 0)^mu`; from the bound on its gradient is 0, not NaN."""
    inside = distance > 0
    return jnp.where(inside, jnp.where(inside, distance, 1) ** mu, 0.0**mu)
