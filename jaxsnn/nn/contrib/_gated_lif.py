"""The gated LIF neuron: all of its numbers are learned, the share of the input for each step."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from jaxsnn import _checks, functional
from jaxsnn._dtypes import state_dtype
from jaxsnn._phases import SurrogateFunction
from jaxsnn.nn._constants import Constant
from jaxsnn.nn._layer import Layer
from jaxsnn.nn._parallel import check_length
from jaxsnn.nn._run import Run
from jaxsnn.surrogate import Sigmoid


class GatedLIFNode(Layer):
    """Gated LIF neuron; the equation is in `jaxsnn.functional.gated_lif_step`.

    Parameters are `alpha`, `beta`, `gamma`, `tau`, `v_threshold`, `linear_decay`, `v_subreset`
    and `conduct`. They are stored as logits: what the equation uses is `sigmoid` of each. The
    three gates begin near 1/2 (logits from `U(-0.1, 0.1)`). `conduct` has one value for each
    time step, so that the neuron needs a whole sequence. Potential and spikes begin at 0.

    Args:
        T: number of time steps of every sequence.
        inplane: number of channels, if each has its own parameters; they are the last axis of
            the input. None shares them in the whole layer.
        init_linear_decay: what linear decay takes off a step; None is `init_v_threshold / (2 T)`.
        init_v_subreset: what a reset by subtraction takes off; None is `init_v_threshold`.
        init_tau: the share of the potential that exponential decay leaves at each step.
        init_v_threshold: firing threshold.
        init_conduct: the share of the input that is let in, at every step.
        surrogate_function: spike function of `v - v_threshold`.
        param_dtype: dtype of the parameters.
        rngs: random streams; `params` is used.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: a size is below 1, or one of the other numbers is not between 0 and 1; when
            run, if a sequence has another length or another number of channels.
    """

    printed = ("T", "inplane", "surrogate_function")

    def __init__(
        self,
        T: int,
        inplane: int | None = None,
        *,
        init_linear_decay: float | None = None,
        init_v_subreset: float | None = None,
        init_tau: float = 0.25,
        init_v_threshold: float = 0.5,
        init_conduct: float = 0.5,
        surrogate_function: SurrogateFunction = Sigmoid(),
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs = _checks.REQUIRED,
    ) -> None:
        self.T = _checks.size("T", T)
        self.inplane = None if inplane is None else _checks.size("inplane", inplane)
        self.surrogate_function = _checks.function("surrogate_function", surrogate_function)
        shape = () if self.inplane is None else (self.inplane,)

        def logit(name: str, value: float, shape: tuple[int, ...] = shape) -> Constant:
            share = _checks.real(name, value)
            if not 0 < share < 1:
                raise ValueError(f"{name} must be between 0 and 1, got {value!r}")
            return Constant(jnp.asarray(np.full(shape, -math.log(1 / share - 1)), param_dtype))

        def gate() -> Constant:
            key = _checks.streams(rngs).params()
            return Constant(jax.random.uniform(key, shape, param_dtype, -0.1, 0.1))

        self.v_threshold = logit("init_v_threshold", init_v_threshold)
        if init_linear_decay is None:
            init_linear_decay = init_v_threshold / (2 * self.T)
        if init_v_subreset is None:
            init_v_subreset = init_v_threshold
        self.alpha, self.beta, self.gamma = gate(), gate(), gate()
        self.tau = logit("init_tau", init_tau)
        self.linear_decay = logit("init_linear_decay", init_linear_decay)
        self.v_subreset = logit("init_v_subreset", init_v_subreset)
        self.conduct = logit("init_conduct", init_conduct, (self.T, *shape))

    def forward(
        self, xs: Float[Array, "{self.T} *shape"], run: Run
    ) -> Float[Array, "{self.T} *shape"]:
        run.require_whole_sequence(self)
        _checks.floating("the input of GatedLIFNode", xs)
        check_length(self, self.T, xs)
        if self.inplane is not None and (xs.ndim < 2 or xs.shape[-1] != self.inplane):
            raise ValueError(
                f"GatedLIFNode(inplane={self.inplane}) needs inputs with the channels last, "
                f"[T, ..., {self.inplane}], got {list(xs.shape)}"
            )
        dtype = state_dtype(xs.dtype)
        conduct, constant = self._numbers(xs.ndim - 1, dtype)

        def step(state: Any, now: Any, _: Run) -> tuple[Any, jax.Array]:
            x, conduct = now
            return functional.gated_lif_step(
                state, x, conduct=conduct, surrogate_function=self.surrogate_function, **constant
            )

        start = jnp.zeros(xs.shape[1:], dtype)
        _, ys = run._scan(step, (start, start), (xs, conduct))
        return ys

    def _numbers(self, ndim: int, dtype: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        """`conduct` of all steps, and the others by name, to go with `ndim` axes of a step."""
        axes = () if self.inplane is None else (1,) * (ndim - 1) + (self.inplane,)

        def number(name: str, *steps: int) -> jax.Array:
            logits = getattr(self, name)[...].astype(dtype)
            return jax.nn.sigmoid(logits).reshape(*steps, *axes)

        names = ("alpha", "beta", "gamma", "tau", "v_threshold", "linear_decay", "v_subreset")
        return number("conduct", self.T), {name: number(name) for name in names}
