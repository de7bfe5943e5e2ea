"""Neurons that need the whole sequence, and that few networks need."""

import math
from dataclasses import KW_ONLY, InitVar
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from jaxsnn import _checks, functional
from jaxsnn._dtypes import state_dtype
from jaxsnn.nn._constants import Constant
from jaxsnn.nn._fields import Fields, Size
from jaxsnn.nn._layer import Layer
from jaxsnn.nn._neurons import SpikeFunction
from jaxsnn.nn._parallel import Drawn, ParallelNeuron, check_sequence
from jaxsnn.nn._run import Run
from jaxsnn.surrogate import Sigmoid


def _above_zero_to_one(name: str, value: Any) -> float:
    if _checks.positive(name, value) > 1:
        raise ValueError(f"{name} must be greater than 0 and at most 1, got {value!r}")
    return float(value)


def _number_or_parameter(name: str, value: Any) -> Any:
    return value if isinstance(value, nnx.Variable) else _checks.real(name, value)


class MaskedPSN(ParallelNeuron):
    """Parallel spiking neuron that comes to see only the last `k` steps; the equations are in
    `jaxsnn.functional.masked_psn_weight` and `jaxsnn.functional.psn`.

    While training, `lambda_` is raised from 0 (a `PSN`) to 1 (`k` steps, none of them to come)
    by `with_lambda`. It is not trained. Parameters are as in `PSN`.

    Args:
        k: how many steps are never masked: the present one and the `k - 1` before it.
        lambda_init: how far the others are masked at first, from 0 to 1.
    """

    printed = ("k", "T", "lambda_", "surrogate_function")
    k: Size
    T: Size
    lambda_init: InitVar[float] = 0.0

    def __post_init__(self, param_dtype: Any, rngs: nnx.Rngs, lambda_init: float) -> None:
        super().__post_init__(param_dtype, rngs)
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
    known = not isinstance(lambda_, jax.Array)
    value = nnx.static(_checks.probability("lambda_", lambda_)) if known else nnx.data(lambda_)
    module = nnx.merge(*nnx.split(module))
    found = [part for _, part in nnx.iter_modules(module) if isinstance(part, MaskedPSN)]
    if not found:
        raise ValueError(f"there is no MaskedPSN in {type(module).__name__}")
    for neuron in found:
        neuron.lambda_ = value
    return module


_GATES = ("alpha", "beta", "gamma")
_SHARES = ("tau", "v_threshold", "linear_decay", "v_subreset")


class GatedLIFNode(Drawn, Layer):
    """Gated LIF neuron; the equation is in `jaxsnn.functional.gated_lif_step`.

    Parameters are `alpha`, `beta`, `gamma`, `tau`, `v_threshold`, `linear_decay`, `v_subreset`
    and `conduct`. They are stored as logits: what the equation uses is `sigmoid` of each, which
    begins at the argument of its name; the three gates begin near 1/2 (logits from
    `U(-0.1, 0.1)`). `conduct` has one value for each time step, so that the neuron needs a whole
    sequence. Potential and spikes begin at 0.

    Args:
        inplane: number of channels, if each has its own parameters; they are the last axis of
            the input. None shares them in the whole layer.
        init_linear_decay: None is `init_v_threshold / (2 T)`.
        init_v_subreset: None is `init_v_threshold`.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: a size is below 1, or one of the other numbers is not between 0 and 1; when
            run, if a sequence has another length or another number of channels.
    """

    T: Size
    inplane: Size | None = None
    _: KW_ONLY
    init_linear_decay: InitVar[float | None] = None
    init_v_subreset: InitVar[float | None] = None
    init_tau: InitVar[float] = 0.25
    init_v_threshold: InitVar[float] = 0.5
    init_conduct: InitVar[float] = 0.5
    surrogate_function: SpikeFunction = Sigmoid()

    def __post_init__(self, param_dtype: Any, rngs: nnx.Rngs, *starts: Any) -> None:
        linear_decay, v_subreset, tau, v_threshold, conduct = starts
        shape = () if self.inplane is None else (self.inplane,)

        def logit(name: str, value: float, *steps: int) -> Constant:
            if not 0 < _checks.real(f"init_{name}", value) < 1:
                raise ValueError(f"init_{name} must be between 0 and 1, got {value!r}")
            logits = np.full((*steps, *shape), -math.log(1 / float(value) - 1))
            return Constant(jnp.asarray(logits, param_dtype))

        for name in _GATES:
            key = _checks.streams(rngs).params()
            setattr(self, name, Constant(jax.random.uniform(key, shape, param_dtype, -0.1, 0.1)))
        self.v_threshold = logit("v_threshold", v_threshold)
        decay = v_threshold / (2 * self.T) if linear_decay is None else linear_decay
        self.linear_decay = logit("linear_decay", decay)
        self.v_subreset = logit("v_subreset", v_threshold if v_subreset is None else v_subreset)
        self.tau = logit("tau", tau)
        self.conduct = logit("conduct", conduct, self.T)

    def forward(
        self, xs: Float[Array, "{self.T} *shape"], run: Run
    ) -> Float[Array, "{self.T} *shape"]:
        check_sequence(self, self.T, xs, run)
        if self.inplane is not None and (xs.ndim < 2 or xs.shape[-1] != self.inplane):
            raise ValueError(
                f"GatedLIFNode(inplane={self.inplane}) needs inputs with the channels last, "
                f"[T, ..., {self.inplane}], got {list(xs.shape)}"
            )
        dtype = state_dtype(xs.dtype)
        axes = () if self.inplane is None else (1,) * (xs.ndim - 2) + (self.inplane,)

        def numbers(name: str, *steps: int) -> jax.Array:
            logits: jax.Array = getattr(self, name)[...].astype(dtype)
            return jax.nn.sigmoid(logits).reshape(*steps, *axes)

        settings: dict[str, Any] = {name: numbers(name) for name in (*_GATES, *_SHARES)}
        settings["surrogate_function"] = self.surrogate_function

        def step(state: Any, now: Any, _: Run) -> tuple[Any, jax.Array]:
            x, conduct = now
            return functional.gated_lif_step(state, x, conduct=conduct, **settings)

        start = jnp.zeros(xs.shape[1:], dtype)
        return run._scan(step, (start, start), (xs, numbers("conduct", self.T)))[1]


class _SpikeRepresentationNode(Fields, Layer):
    """Abstract: a neuron with a threshold that is trained. Sequences may have any length.

    Args:
        v_threshold: threshold at the start.
        alpha: the share of the threshold at which a neuron fires, in `(0, 1]`.
        v_threshold_training: whether the threshold is learned, one for the whole layer: the
            parameter `v_threshold`.
        v_threshold_grad_scaling: factor of the gradient of the threshold.
        v_threshold_lower_bound: least threshold that is used, greater than 0.
        param_dtype: dtype of the parameter.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument is out of range, or `v_threshold` below its bound.
    """

    step: ClassVar[Any]  # all steps at once
    taken: ClassVar[tuple[str, ...]] = ("alpha", "v_threshold_grad_scaling")

    v_threshold: Annotated[Any, _number_or_parameter] = 6.0
    _: KW_ONLY
    alpha: Annotated[float, _above_zero_to_one] = 0.5
    v_threshold_training: bool = True
    v_threshold_grad_scaling: float = 1.0
    v_threshold_lower_bound: Annotated[float, _checks.positive] = 0.01
    param_dtype: InitVar[Any] = jnp.float32

    def __post_init__(self, param_dtype: Any) -> None:
        if self.v_threshold_training:
            self.v_threshold = Constant(jnp.asarray(self.v_threshold, param_dtype))

    def check_fields(self) -> None:
        v, bound = self.v_threshold, self.v_threshold_lower_bound
        if not isinstance(v, nnx.Variable) and v < bound:
            raise ValueError(
                f"v_threshold must be at least v_threshold_lower_bound={bound}, got {v}"
            )

    def forward(self, xs: Float[Array, "T *shape"], run: Run) -> Float[Array, "T *shape"]:
        run.require_whole_sequence(self)
        _checks.floating(f"the input of {type(self).__name__}", xs)
        v, bound = self.v_threshold, self.v_threshold_lower_bound
        v = v[...] if isinstance(v, nnx.Variable) else v
        v = jnp.asarray(v, state_dtype(xs.dtype))
        v = jnp.where(v >= bound, v, bound)
        return type(self).step(xs, v, **{name: getattr(self, name) for name in self.taken})


class DSRIFNode(_SpikeRepresentationNode):
    """IF neuron of differentiation on spike representation, with its gradient.

    It is trained as if the mean of its outputs were the mean of its inputs, clipped at the
    threshold. Outputs are 0 or `v_threshold`.

    Args:
        v_threshold: threshold at the start, and size of the output.

    Examples:
        >>> _, y = unroll(DSRIFNode(v_threshold=2.0), jnp.full((4, 1), 0.5))
        >>> y[:, 0]
        Array([0., 2., 0., 0.], dtype=float32)
    """

    step = functional.dsr_if


class DSRLIFNode(_SpikeRepresentationNode):
    """LIF neuron of differentiation on spike representation, with its gradient.

    Outputs are 0 or `v_threshold / delta_t`.

    Args:
        v_threshold: threshold at the start.
    """

    v_threshold: Annotated[Any, _number_or_parameter] = 1.0
    _: KW_ONLY
    tau: Annotated[float, _checks.positive] = 2.0
    delta_t: Annotated[float, _checks.positive] = 0.05
    alpha: Annotated[float, _above_zero_to_one] = 0.3
    v_threshold_lower_bound: Annotated[float, _checks.positive] = 0.1

    step = functional.dsr_lif
    taken = ("tau", "delta_t", *_SpikeRepresentationNode.taken)
