"""Plasticity gated by a reward: spikes say which weights may change, the reward how much."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from jaxsnn.learning._rule import PairRule, State, Traces, no_traces


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

    def _eligibility(self, traces: Traces, weight: jax.Array, *spikes: jax.Array) -> jax.Array:
        return self._change(traces, weight, *spikes, each=True)

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

    def _step(
        self, state: MSTDPState, weight: jax.Array, *now: jax.Array
    ) -> tuple[MSTDPState, jax.Array]:
        *spikes, reward = now
        dw = _rewarded(reward, state.eligibility, weight)
        traces = self._follow(state.traces, *spikes)
        return MSTDPState(traces, self._eligibility(traces, weight, *spikes)), dw


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

    def _step(
        self, state: MSTDPETState, weight: jax.Array, *now: jax.Array
    ) -> tuple[MSTDPETState, jax.Array]:
        *spikes, reward = now
        fading = self._decay(self.tau_trace) * state.trace
        trace = fading + state.eligibility / self.tau_trace
        dw = _rewarded(reward, trace, weight)
        traces = self._follow(state.traces, *spikes)
        return MSTDPETState(traces, self._eligibility(traces, weight, *spikes), trace), dw


def _no_eligibility(traces: Traces, weight: Any) -> jax.Array:
    batch = traces.pre.shape[: traces.pre.ndim - (weight.ndim - 1)]
    return jnp.zeros((*batch, *weight.shape), traces.pre.dtype)


def _rewarded(reward: jax.Array, eligibility: jax.Array, weight: jax.Array) -> jax.Array:
    """The sum over the batch of reward times eligibility."""
    batch = eligibility.shape[: eligibility.ndim - weight.ndim]
    if reward.shape not in ((), batch):
        raise ValueError(
            f"reward must be one number or one for each example, {list(batch)}, got shape "
            f"{list(reward.shape)}"
        )
    reward = jnp.broadcast_to(reward.astype(eligibility.dtype), batch)
    return jnp.tensordot(reward, eligibility, len(batch))
