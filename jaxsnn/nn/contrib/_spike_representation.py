"""Neurons that are trained by their mean output over the sequence."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxsnn import _checks, functional
from jaxsnn._dtypes import state_dtype
from jaxsnn.nn._constants import Constant
from jaxsnn.nn._layer import Layer
from jaxsnn.nn._run import Run


class _SpikeRepresentationNode(Layer):
    """Abstract: what both neurons share, above all a threshold that is trained."""

    printed: ClassVar[tuple[str, ...]] = (
        "v_threshold",
        "alpha",
        "v_threshold_training",
        "v_threshold_grad_scaling",
        "v_threshold_lower_bound",
    )

    def __init__(
        self,
        v_threshold: float,
        *,
        alpha: float,
        v_threshold_training: bool,
        v_threshold_grad_scaling: float,
        v_threshold_lower_bound: float,
        param_dtype: Any,
    ) -> None:
        v_threshold = _checks.real("v_threshold", v_threshold)
        bound = _checks.positive("v_threshold_lower_bound", v_threshold_lower_bound)
        if v_threshold < bound:
            raise ValueError(
                f"v_threshold must be at least v_threshold_lower_bound={bound}, got {v_threshold}"
            )
        self.alpha = _checks.positive("alpha", alpha)
        if self.alpha > 1:
            raise ValueError(f"alpha must be greater than 0 and at most 1, got {alpha!r}")
        self.v_threshold_training = _checks.boolean("v_threshold_training", v_threshold_training)
        self.v_threshold_grad_scaling = _checks.real(
            "v_threshold_grad_scaling", v_threshold_grad_scaling
        )
        self.v_threshold_lower_bound = bound
        self.v_threshold = (
            Constant(jnp.asarray(v_threshold, param_dtype))
            if self.v_threshold_training
            else v_threshold
        )

    def _threshold(self, xs: jax.Array) -> jax.Array:
        """The threshold as it is used on `xs`, which must be a sequence."""
        name = type(self).__name__
        _checks.floating(f"the input of {name}", xs)
        if xs.ndim == 0:
            raise ValueError(f"{name} needs a sequence [T, ...] with time first, got a scalar")
        dtype = state_dtype(xs.dtype)
        if not isinstance(self.v_threshold, nnx.Param):
            return jnp.asarray(self.v_threshold, dtype)
        v = self.v_threshold[...].astype(dtype)
        return jnp.where(v >= self.v_threshold_lower_bound, v, self.v_threshold_lower_bound)


class DSRIFNode(_SpikeRepresentationNode):
    """IF neuron of differentiation on spike representation; equation and gradient are in
    `jaxsnn.functional.dsr_if`.

    It is trained as if the mean of its outputs were the mean of its inputs, clipped at the
    threshold. Outputs are 0 or `v_threshold`. Sequences may have any length, so that there is no
    argument for it.

    Args:
        v_threshold: threshold at the start, and size of the outputs.
        alpha: the share of the threshold at which a neuron fires, in `(0, 1]`.
        v_threshold_training: whether the threshold is learned, one for the whole layer: the
            parameter `v_threshold`.
        v_threshold_grad_scaling: factor of the gradient of the threshold.
        v_threshold_lower_bound: least threshold that is used, greater than 0.
        param_dtype: dtype of the parameter.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: `alpha` or the bound is out of range, or `v_threshold` below the bound.

    Examples:
        >>> _, y = unroll(DSRIFNode(v_threshold=2.0), jnp.full((4, 1), 0.5))
        >>> y[:, 0]
        Array([0., 2., 0., 0.], dtype=float32)
    """

    def __init__(
        self,
        v_threshold: float = 6.0,
        *,
        alpha: float = 0.5,
        v_threshold_training: bool = True,
        v_threshold_grad_scaling: float = 1.0,
        v_threshold_lower_bound: float = 0.01,
        param_dtype: Any = jnp.float32,
    ) -> None:
        super().__init__(
            v_threshold,
            alpha=alpha,
            v_threshold_training=v_threshold_training,
            v_threshold_grad_scaling=v_threshold_grad_scaling,
            v_threshold_lower_bound=v_threshold_lower_bound,
            param_dtype=param_dtype,
        )

    def forward(self, xs: Float[Array, "T *shape"], run: Run) -> Float[Array, "T *shape"]:
        run.require_whole_sequence(self)
        return functional.dsr_if(
            xs,
            self._threshold(xs),
            alpha=self.alpha,
            v_threshold_grad_scaling=self.v_threshold_grad_scaling,
        )


class DSRLIFNode(_SpikeRepresentationNode):
    """LIF neuron of differentiation on spike representation; equation and gradient are in
    `jaxsnn.functional.dsr_lif`.

    Outputs are 0 or `v_threshold / delta_t`.

    Args:
        v_threshold: threshold at the start, and what a spike takes off the potential.
        tau: membrane time constant, in the unit of `delta_t`.
        delta_t: length of a time step.
        alpha: the share of the threshold at which a neuron fires, in `(0, 1]`.
        v_threshold_training: whether the threshold is learned, one for the whole layer: the
            parameter `v_threshold`.
        v_threshold_grad_scaling: factor of the gradient of the threshold.
        v_threshold_lower_bound: least threshold that is used, greater than 0.
        param_dtype: dtype of the parameter.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: `tau`, `delta_t`, `alpha` or the bound is out of range, or `v_threshold`
            below the bound.
    """

    printed = ("tau", "delta_t", *_SpikeRepresentationNode.printed)

    def __init__(
        self,
        v_threshold: float = 1.0,
        *,
        tau: float = 2.0,
        delta_t: float = 0.05,
        alpha: float = 0.3,
        v_threshold_training: bool = True,
        v_threshold_grad_scaling: float = 1.0,
        v_threshold_lower_bound: float = 0.1,
        param_dtype: Any = jnp.float32,
    ) -> None:
        super().__init__(
            v_threshold,
            alpha=alpha,
            v_threshold_training=v_threshold_training,
            v_threshold_grad_scaling=v_threshold_grad_scaling,
            v_threshold_lower_bound=v_threshold_lower_bound,
            param_dtype=param_dtype,
        )
        self.tau = _checks.positive("tau", tau)
        self.delta_t = _checks.positive("delta_t", delta_t)

    def forward(self, xs: Float[Array, "T *shape"], run: Run) -> Float[Array, "T *shape"]:
        run.require_whole_sequence(self)
        return functional.dsr_lif(
            xs,
            self._threshold(xs),
            tau=self.tau,
            delta_t=self.delta_t,
            alpha=self.alpha,
            v_threshold_grad_scaling=self.v_threshold_grad_scaling,
        )
