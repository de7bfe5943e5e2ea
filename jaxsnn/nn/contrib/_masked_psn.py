"""`MaskedPSN`: a parallel spiking neuron that comes to see the last steps alone."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxsnn import _checks, functional
from jaxsnn._phases import SurrogateFunction
from jaxsnn.nn._parallel import _ParallelNeuron
from jaxsnn.surrogate import ATan


class MaskedPSN(_ParallelNeuron):
    """Parallel spiking neuron that comes to see only the last `k` steps; the equations are in
    `jaxsnn.functional.masked_psn_weight` and `jaxsnn.functional.psn`.

    While training, `lambda_` is raised from 0 (a `PSN`) to 1 (`k` steps, none of them to come)
    by `with_lambda`. It is not trained. Parameters are as in `PSN`.

    Args:
        k: how many steps are never masked: the present one and the `k - 1` before it.
        T: number of time steps of every sequence.
        lambda_init: how far the others are masked at first, from 0 to 1.
        surrogate_function: spike function of the potential.
        param_dtype: dtype of the parameters.
        rngs: random streams; `params` is used.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: `k` or `T` is below 1, or `lambda_init` not between 0 and 1; when run, if a
            sequence has another length.
    """

    printed = ("k", "T", "lambda_", "surrogate_function")

    def __init__(
        self,
        k: int,
        T: int,
        lambda_init: float = 0.0,
        *,
        surrogate_function: SurrogateFunction = ATan(),
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs = _checks.REQUIRED,
    ) -> None:
        super().__init__(
            T, surrogate_function=surrogate_function, param_dtype=param_dtype, rngs=rngs
        )
        self.k = _checks.size("k", k)
        self.lambda_: float | jax.Array = _checks.probability("lambda_init", lambda_init)

    def _weight(self, weight: jax.Array) -> jax.Array:
        lambda_ = jax.lax.stop_gradient(jnp.asarray(self.lambda_, weight.dtype))
        return functional.masked_psn_weight(weight, k=self.k, lambda_=lambda_)


def with_lambda(module: Any, lambda_: float | Float[Array, ""]) -> Any:
    """A copy of `module` in which every `MaskedPSN` masks by `lambda_`; parameters are shared.

    A Python number becomes a setting, and a jitted function compiles again for each one. An array
    does not: inside a jitted training step, take `lambda_` as an argument and begin with this.
    (`jaxsnn.training.create` takes a network with a number only.)

    Args:
        module: a `MaskedPSN`, or a module with at least one inside.
        lambda_: how far to mask, from 0 to 1 (not checked for an array).

    Raises:
        TypeError: `lambda_` is not a number.
        ValueError: there is no `MaskedPSN` in `module`, or `lambda_` is not between 0 and 1.

    Examples:
        >>> net = Sequential(Linear(4, 3, rngs=nnx.Rngs(0)), MaskedPSN(2, T=8, rngs=nnx.Rngs(1)))
        >>> with_lambda(net, 0.25)[1].lambda_
        0.25
    """
    if not isinstance(lambda_, jax.Array):
        lambda_ = _checks.probability("lambda_", lambda_)
    mark = nnx.data if isinstance(lambda_, jax.Array) else nnx.static  # said to Flax if it changes
    module = nnx.merge(*nnx.split(module))
    found = [part for _, part in nnx.iter_modules(module) if isinstance(part, MaskedPSN)]
    if not found:
        raise ValueError(f"there is no MaskedPSN in {type(module).__name__}")
    for neuron in found:
        neuron.lambda_ = mark(lambda_)
    return module
