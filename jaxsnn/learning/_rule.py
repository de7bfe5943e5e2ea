"""What all rules here share: settings, traces of recent spikes, the change that pairs make."""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsnn import _checks, _layout
from jaxsnn._dtypes import state_dtype
from jaxsnn.learning._synapses import Synapses, dense, pairs
from jaxsnn.learning._weight_dependence import proportional

State = Any  # a pytree of arrays


class Traces(NamedTuple):
    """Recent spikes, fading with a time constant each; 0 before the first step.

    Attributes:
        pre: of the units before the weight, in the shape of `pre`.
        post: of the units behind it, in the shape of `post`.
    """

    pre: Float[Array, "*before"]
    post: Float[Array, "*behind"]


@dataclasses.dataclass(frozen=True)
class PairRule(abc.ABC):
    """Abstract: a rule for pairs of spikes. A subclass says how their traces become a change."""

    rewarded: ClassVar[bool] = False

    tau_pre: float
    tau_post: float
    f_pre: Callable[[jax.Array], Any] = dataclasses.field(default=proportional, kw_only=True)
    f_post: Callable[[jax.Array], Any] = dataclasses.field(default=proportional, kw_only=True)
    synapses: Synapses = dataclasses.field(default=dense, kw_only=True)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name.startswith("tau"):
                object.__setattr__(self, field.name, _at_least_one(field.name, value))
            else:
                _checks.function(field.name, value)

    @abc.abstractmethod
    def init(self, weight: Any, pre: Any, post: Any) -> State:
        """The state before the first step, 0, for spikes `pre` and `post` of one time step."""

    @abc.abstractmethod
    def _step(self, state: State, weight: jax.Array, *now: jax.Array) -> tuple[State, jax.Array]:
        """One time step; the change in the dtype of the traces."""

    @staticmethod
    @abc.abstractmethod
    def _decay(tau: float) -> float:
        """The factor by which a trace fades in one step."""

    def _over_time(
        self, state: State, weight: jax.Array, *sequences: jax.Array
    ) -> tuple[State, jax.Array]:
        """All time steps with the weight as it is; the sum of the changes."""

        def step(carry: Any, now: tuple[jax.Array, ...]) -> Any:
            state, total = carry
            state, dw = self._step(state, weight, *now)
            return (state, total + dw), None

        start = jnp.zeros(weight.shape, state_dtype(sequences[0].dtype))
        (state, total), _ = _layout.scan(step, (state, start), sequences)
        return state, total

    def _follow(self, traces: Traces, pre: jax.Array, post: jax.Array) -> Traces:
        """The traces after this step, its own spikes included."""
        for name, before, spikes in zip(Traces._fields, traces, (pre, post), strict=True):
            _checks.floating(f"{name} of {type(self).__name__}", spikes)
            if before.shape != spikes.shape:
                raise ValueError(
                    f"the trace of {name} has shape {list(before.shape)}, the spikes of this step "
                    f"{list(spikes.shape)}; for a new batch start from a fresh state"
                )
        return Traces(
            self._decay(self.tau_pre) * traces.pre + pre.astype(traces.pre.dtype),
            self._decay(self.tau_post) * traces.post + post.astype(traces.post.dtype),
        )

    def _change(
        self,
        traces: Traces,
        weight: jax.Array,
        pre: jax.Array,
        post: jax.Array,
        *,
        each: bool = False,
    ) -> jax.Array:
        """What pairs with the spikes of this step change, given the traces after it.

        Summed over the batch, or with the batch axes in front if `each`.
        """
        dtype = traces.pre.dtype
        w = weight.astype(dtype)
        up = pairs(self.synapses, w, traces.pre, post.astype(dtype), each=each)
        down = pairs(self.synapses, w, pre.astype(dtype), traces.post, each=each)
        shape = (1,) * (up.ndim - w.ndim) + w.shape
        f_post, f_pre = (f(w) * jnp.ones_like(w) for f in (self.f_post, self.f_pre))
        return f_post.reshape(shape) * up - f_pre.reshape(shape) * down


def no_traces(pre: Any, post: Any) -> Traces:
    """The traces before the first step, for spikes like these."""
    return Traces(*(jnp.zeros(spikes.shape, state_dtype(spikes.dtype)) for spikes in (pre, post)))


def _at_least_one(name: str, value: Any) -> float:
    """Returns `value` as the time constant of a trace: at 1 a sum of spikes is gone in a step."""
    tau = _checks.real(name, value)
    if tau < 1:
        raise ValueError(f"{name} must be at least 1 (a time constant in time steps), got {value}")
    return tau
