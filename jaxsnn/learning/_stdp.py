"""Spike-timing-dependent plasticity, pair-based, with traces."""

import dataclasses
from typing import Any

import jax
from jaxtyping import Array, Float

from jaxsnn import _layout
from jaxsnn.learning._rule import PairRule, Traces, no_traces


@dataclasses.dataclass(frozen=True)
class STDP(PairRule):
    """Spike-timing-dependent plasticity: a transition that returns the change of one time step.

        tr_pre = tr_pre - tr_pre / tau_pre + pre
        tr_post = tr_post - tr_post / tau_post + post
        dw = f_post(w) tr_pre post - f_pre(w) pre tr_post

    The products run over all pairs that a weight joins, summed over the batch and, for a
    convolution, over positions. The traces hold the spikes of this step already, so two spikes at
    once count in both terms. The rule with traces is that of Morrison, Diesmann & Gerstner 2008,
    "Phenomenological models of synaptic plasticity based on spike timing".

    Args:
        tau_pre: time constant of the trace of the spikes before the weight, in time steps, >= 1.
        tau_post: time constant of the trace of the spikes behind it, in time steps, >= 1.
        f_pre: factor of the depression, a function of the weight, e.g. `additive`.
        f_post: factor of the potentiation, a function of the weight.
        synapses: how the layer uses its weight, `(pre, weight) -> post`: `dense`,
            `Convolution(...)`, or any function that is linear in the weight.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: a time constant is below 1 or not finite; when called, if a shape does not fit.

    Examples:
        A spike behind the weight one step after one before it strengthens the weight:

        >>> rule = STDP(tau_pre=2.0, tau_post=2.0, f_pre=additive, f_post=additive)
        >>> pre, post = jnp.array([[1.0], [0.0]]), jnp.array([[0.0], [1.0]])
        >>> traces, dw = over_time(rule, jnp.zeros((1, 1)), pre, post)
        >>> dw
        Array([[0.5]], dtype=float32)
    """

    def init(self, weight: Any, pre: Any, post: Any) -> Traces:
        return no_traces(pre, post)

    def __call__(
        self,
        traces: Traces,
        weight: Float[Array, "*weight"],
        pre: Float[Array, "*before"],
        post: Float[Array, "*behind"],
    ) -> tuple[Traces, Float[Array, "*weight"]]:
        """One time step.

        Args:
            traces: from `init` or the step before.
            weight: the kernel of the layer, `[in, out]` or `[..., in, out]`.
            pre: spikes before the weight, `[..., in]` (channels last), any batch axes in front.
            post: spikes behind it, `[..., out]`, the same batch axes in front.

        Returns:
            `(traces, dw)`: `dw`, to be added to the weight, in its shape and dtype.
        """
        traces, dw = self._step(traces, weight, pre, post)
        return traces, dw.astype(weight.dtype)

    def _step(self, state: Traces, weight: jax.Array, *now: jax.Array) -> tuple[Traces, jax.Array]:
        traces = self._follow(state, *now)
        return traces, self._change(traces, weight, *now)

    def _over_time(
        self, state: Traces, weight: jax.Array, *sequences: jax.Array
    ) -> tuple[Traces, jax.Array]:
        """As the weight stands still, the sum over time is two products of matrices."""

        def step(traces: Traces, now: tuple[jax.Array, ...]) -> tuple[Traces, Traces]:
            traces = self._follow(traces, *now)
            return traces, traces

        last, traces = _layout.scan(step, state, sequences)
        return last, self._change(traces, weight, *sequences)

    @staticmethod
    def _decay(tau: float) -> float:
        return 1 - 1 / tau
