"""Spike-timing-dependent plasticity: pair-based, with traces; by itself and gated by a reward."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from jaxsnn import _layout
from jaxsnn.learning._rule import PairRule, State, Traces, no_traces


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


class MSTDPState(NamedTuple):
    """State of `MSTDP`; 0 before the first step.

    Attributes:
        traces: of the spikes.
        eligibility: what STDP would have changed in the last step, `[..., *weight.shape]`.
    """

    traces: Traces
    eligibility: Float[Array, "*shape"]


class MSTDPETState(NamedTuple):
    """State of `MSTDPET`; 0 before the first step.

    Attributes:
        traces: of the spikes.
        eligibility: what STDP would have changed in the last step, `[..., *weight.shape]`.
        trace: the eligibility trace, in the same shape.
    """

    traces: Traces
    eligibility: Float[Array, "*shape"]
    trace: Float[Array, "*shape"]


class _RewardedRule(PairRule):
    """Abstract: a rule whose change is a reward times what the spikes up to the last step left."""

    rewarded = True

    def __call__(
        self,
        state: State,
        weight: Float[Array, "*weight"],
        pre: Float[Array, "*before"],
        post: Float[Array, "*behind"],
        reward: float | Shaped[Array | np.ndarray, "*N"],
    ) -> tuple[State, Float[Array, "*weight"]]:
        """One time step.

        Args:
            state: from `init` or the step before.
            weight: the kernel of the layer, `[in, out]` or `[..., in, out]`.
            pre: spikes before the weight, `[..., in]` (channels last), any batch axes in front.
            post: spikes behind it, `[..., out]`, the same batch axes in front.
            reward: of this step, one number for each example of the batch, or one for all.

        Returns:
            `(state, dw)`: `dw`, to be added to the weight, in its shape and dtype, summed over
            the batch.
        """
        state, dw = self._step(state, weight, pre, post, jnp.asarray(reward))
        return state, dw.astype(weight.dtype)

    def _step(self, state: Any, weight: jax.Array, *now: jax.Array) -> tuple[Any, jax.Array]:
        *spikes, reward = now
        traced = self._traced(state)
        dw = _rewarded(reward, traced.get("trace", state.eligibility), weight)
        traces = self._follow(state.traces, *spikes)
        eligibility = self._change(traces, weight, *spikes, each=True)
        return state._replace(traces=traces, eligibility=eligibility, **traced), dw

    def _traced(self, state: Any) -> dict[str, jax.Array]:
        """The eligibility trace after this step, if the rule has one."""
        return {}

    @staticmethod
    def _decay(tau: float) -> float:
        return math.exp(-1 / tau)


@dataclasses.dataclass(frozen=True)
class MSTDP(_RewardedRule):
    """STDP modulated by a reward: a transition that returns the change of one time step.

        dw = reward e                  e of the step before, summed over the batch
        tr_pre = exp(-1 / tau_pre) tr_pre + pre
        tr_post = exp(-1 / tau_post) tr_post + post
        e = f_post(w) tr_pre post - f_pre(w) pre tr_post

    (Florian 2007, "Reinforcement learning through modulation of spike-timing-dependent synaptic
    plasticity"). The traces fade by `exp(-1/tau)`, where those of `STDP` fade by `1 - 1/tau`: as
    in SpikingJelly. The eligibility `e` is kept for each example, as each has its own reward.

    Args:
        tau_pre: time constant of the trace of the spikes before the weight, in time steps, >= 1.
        tau_post: time constant of the trace of the spikes behind it, in time steps, >= 1.
        f_pre: factor of the depression, a function of the weight, e.g. `additive`.
        f_post: factor of the potentiation, a function of the weight.
        synapses: as for `STDP`.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: a time constant is below 1 or not finite; when called, if a shape does not fit.
    """

    def init(self, weight: Any, pre: Any, post: Any) -> MSTDPState:
        traces = no_traces(pre, post)
        return MSTDPState(traces, _no_eligibility(traces, weight))


@dataclasses.dataclass(frozen=True)
class MSTDPET(_RewardedRule):
    """Reward-modulated STDP with an eligibility trace, for rewards that come late.

        z = exp(-1 / tau_trace) z + e / tau_trace      e of the step before
        dw = reward z                                  summed over the batch

    with the eligibility `e` of `MSTDP` (Florian 2007, "Reinforcement learning through modulation
    of spike-timing-dependent synaptic plasticity").

    Args:
        tau_pre: time constant of the trace of the spikes before the weight, in time steps, >= 1.
        tau_post: time constant of the trace of the spikes behind it, in time steps, >= 1.
        tau_trace: time constant of the eligibility trace `z`, in time steps, >= 1.
        f_pre: factor of the depression, a function of the weight, e.g. `additive`.
        f_post: factor of the potentiation, a function of the weight.
        synapses: as for `STDP`.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: a time constant is below 1 or not finite; when called, if a shape does not fit.
    """

    tau_trace: float

    def init(self, weight: Any, pre: Any, post: Any) -> MSTDPETState:
        traces = no_traces(pre, post)
        nothing = _no_eligibility(traces, weight)
        return MSTDPETState(traces, nothing, nothing)

    def _traced(self, state: MSTDPETState) -> dict[str, jax.Array]:
        fading = self._decay(self.tau_trace) * state.trace
        return {"trace": fading + state.eligibility / self.tau_trace}


def _no_eligibility(traces: Traces, weight: Any) -> jax.Array:
    batch = traces.pre.shape[: traces.pre.ndim - (weight.ndim - 1)]
    return jnp.zeros((*batch, *weight.shape), traces.pre.dtype)


def _rewarded(reward: jax.Array, eligibility: jax.Array, weight: jax.Array) -> jax.Array:
    """The sum over the batch of reward times eligibility."""
    batch = eligibility.shape[: eligibility.ndim - weight.ndim]
    if reward.shape not in ((), batch):
        expected = f"one number or one for each example, {list(batch)}"
        raise ValueError(f"reward must be {expected}, got shape {list(reward.shape)}")
    reward = jnp.broadcast_to(reward.astype(eligibility.dtype), batch)
    return jnp.tensordot(reward, eligibility, len(batch))
