"""Rules for pairs of spikes: settings, traces of recent spikes, the run over a sequence."""

import abc
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from jaxsnn import _checks, _layout
from jaxsnn._dtypes import state_dtype
from jaxsnn._ranks import with_axes_before
from jaxsnn.learning._synapses import Synapses, dense, pairs, proportional

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
                object.__setattr__(self, field.name, _checks.trace_constant(field.name, value))
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
                    f"{name} must have the shape of its trace, {list(before.shape)}, got "
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
        f_post, f_pre = (
            with_axes_before(f(w) * jnp.ones_like(w), up.ndim) for f in (self.f_post, self.f_pre)
        )
        return f_post * up - f_pre * down


def no_traces(pre: Any, post: Any) -> Traces:
    """The traces before the first step, for spikes like these."""
    return Traces(*(jnp.zeros(spikes.shape, state_dtype(spikes.dtype)) for spikes in (pre, post)))


def over_time(
    rule: PairRule,
    weight: Float[Array | np.ndarray, "*weight"],
    pre: Float[Array | np.ndarray, "T *before"],
    post: Float[Array | np.ndarray, "T *behind"],
    reward: Shaped[Array | np.ndarray, "T *N"] | None = None,
    *,
    state: State | None = None,
) -> tuple[State, Float[Array, "*weight"]]:
    """Runs a rule over a sequence, the weight standing still, and adds the changes up.

    To change the weight at every step, call the rule itself in a `jax.lax.scan`.

    Args:
        rule: e.g. `STDP(tau_pre=2.0, tau_post=2.0)`.
        weight: the kernel of the layer, `[in, out]` or `[..., in, out]`.
        pre: spikes before the weight, time first, `[T, ..., in]` (channels last).
        post: spikes behind it, `[T, ..., out]`.
        reward: `[T, ...]`, one number for each example, or `[T]`, one for all; for `MSTDP` and
            `MSTDPET` only.
        state: from the stretch before; None starts afresh.

    Returns:
        `(state, dw)`: the state after the last step, and the sum of all changes, to be added to
        the weight, in its shape and dtype. Handing the state on to the next stretch, the sum of
        both `dw` is that of one long sequence.

    Raises:
        TypeError: `rule` is not a learning rule, spikes are not floating, or a reward is missing
            or has no use.
        ValueError: the sequences differ in length, have no steps, or a shape does not fit.
    """
    if not isinstance(rule, PairRule):
        raise TypeError(f"rule must be a learning rule, e.g. STDP(2.0, 2.0), got {rule!r}")
    if (reward is not None) != rule.rewarded:
        takes = "needs a" if rule.rewarded else "takes no"
        raise TypeError(f"{type(rule).__name__} {takes} reward, got {reward!r}")
    sequences = [jnp.asarray(xs) for xs in (pre, post, reward) if xs is not None]
    shapes = [list(xs.shape) for xs in sequences]
    if not all(shapes) or len({shape[0] for shape in shapes}) != 1 or shapes[0][0] == 0:
        raise ValueError(f"sequences must be [T, ...] with the same number of steps, got {shapes}")
    return _over_time(rule, jnp.asarray(weight), state, *sequences)


@functools.partial(jax.jit, static_argnums=0)
def _over_time(
    rule: PairRule, weight: jax.Array, state: State | None, *sequences: jax.Array
) -> tuple[State, jax.Array]:
    if state is None:
        state = rule.init(weight, *(jax.eval_shape(lambda xs: xs[0], xs) for xs in sequences[:2]))
    state, dw = rule._over_time(state, weight, *sequences)
    return state, dw.astype(weight.dtype)
