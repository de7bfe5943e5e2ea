"""Numbers to spikes and sequences, time first: `x` `[N, ...]` becomes `[T, N, ...]`."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Key, Shaped

from jaxsnn import _checks, quantize
from jaxsnn._dtypes import state_dtype
from jaxsnn._repr import Printable
from jaxsnn.nn import IFNode, unroll
from jaxsnn.surrogate import DeterministicPass


def _within(x: jax.Array, low: float, high: float, remedy: str) -> jax.Array:
    """`x`, which must be floating and lie in `[low, high]`, in float32 or wider.

    Values can be looked at only outside `jax.jit`; inside, they are clipped.
    """
    _checks.floating("x", x)
    if not isinstance(x, jax.core.Tracer) and x.size:
        smallest, largest = float(jnp.min(x)), float(jnp.max(x))
        if not (low <= smallest and largest <= high):  # so that not-a-number is caught too
            raise ValueError(
                f"x must lie in [{low:g}, {high:.10g}], got values from {smallest:g} to "
                f"{largest:g}; {remedy}"
            )
    return quantize.clamp(x.astype(state_dtype(x.dtype)), low, high)


def repeat(x: Shaped[Array | np.ndarray, "*shape"], T: int) -> Shaped[Array, "{T} *shape"]:
    """The same input at every time step (direct coding): the first layer makes the spikes.

        out[t] = x

    Args:
        x: the input, any shape, as a rule `[N, ...]`.
        T: number of time steps.

    Returns:
        `[T, *x.shape]` in the dtype of `x`.

    Raises:
        TypeError: `T` is not an integer.
        ValueError: `T` is below 1.

    Examples:
        >>> repeat(jnp.array([0.25, 0.5]), 3)[:, 0]
        Array([0.25, 0.25, 0.25], dtype=float32)
    """
    x = jnp.asarray(x)
    return jnp.broadcast_to(x, (_checks.size("T", T), *x.shape))


def periodic(
    spikes: Shaped[Array | np.ndarray, "period *shape"], T: int
) -> Shaped[Array, "{T} *shape"]:
    """A stretch of spikes over and over, e.g. a latency code for longer than one period.

        out[t] = spikes[t mod period]

    Args:
        spikes: one period, time first, `[period, ...]`.
        T: number of time steps; what it does not divide is cut off.

    Returns:
        `[T, ...]` in the dtype of `spikes`.

    Raises:
        TypeError: `T` is not an integer.
        ValueError: `T` is below 1, or `spikes` has no time steps.

    Examples:
        >>> periodic(jnp.array([1.0, 0.0, 0.0]), 7)
        Array([1., 0., 0., 1., 0., 0., 1.], dtype=float32)
    """
    spikes = jnp.asarray(spikes)
    if spikes.ndim == 0 or not len(spikes):
        raise ValueError(
            f"spikes must be one period [period, ...] of at least one step, got shape "
            f"{list(spikes.shape)}"
        )
    return jnp.take(spikes, np.arange(_checks.size("T", T)) % len(spikes), axis=0)


_REMEDY = "x is the probability of a spike: scale it, e.g. images / 255"


def poisson(
    x: Float[Array | np.ndarray, "*shape"], T: int, *, key: Key[Array, ""]
) -> Float[Array, "{T} *shape"]:
    """Spikes at random, at each step with probability `x`.

        out[t] = [u[t] < x],  u uniform in [0, 1)

    0 never fires and 1 fires at every step. The gradient passes straight through: that of the
    mean of the spikes, which is `x`.

    Args:
        x: probability of a spike in one time step, in [0, 1], any shape, as a rule `[N, ...]`.
            Inside `jax.jit` it cannot be checked and is clipped.
        T: number of time steps.
        key: random key, e.g. `jax.random.key(0)`; the same one gives the same spikes.

    Returns:
        Spikes, `[T, *x.shape]`, in the dtype of `x`.

    Raises:
        TypeError: `x` is not floating, `T` not an integer, or `key` not a random key.
        ValueError: a value is out of [0, 1], or `T` is below 1.

    Examples:
        >>> spikes = poisson(jnp.full((100,), 0.25), 1000, key=jax.random.key(0))
        >>> spikes.shape, bool(abs(spikes.mean() - 0.25) < 0.01)
        ((1000, 100), True)
    """
    _checks.random_key("key", key)
    x = jnp.asarray(x)
    probability = jnp.broadcast_to(_within(x, 0.0, 1.0, _REMEDY), (_checks.size("T", T), *x.shape))
    spikes = jax.random.bernoulli(key, probability).astype(probability.dtype)
    return quantize.straight_through(probability, spikes).astype(x.dtype)


def regular(x: Float[Array | np.ndarray, "*shape"], T: int) -> Float[Array, "{T} *shape"]:
    """Evenly spaced spikes at rate `x`: the deterministic rate code.

        v = v + x
        out[t] = H(v - 0.999)
        v = v - 0.999 out[t]

    An integrate-and-fire neuron with soft reset makes the spikes, always from `v = 0`; its
    threshold is a little below 1, so that rounding does not put off a spike. The gradient passes
    straight through each spike (`jaxsnn.surrogate.DeterministicPass`) and not through the reset.
    For a state that lasts from one call to the next run such a neuron in `jaxsnn.nn.unroll`:
    `IFNode(v_threshold=0.999, v_reset=None, surrogate_function=DeterministicPass(),
    detach_reset=True)` on `repeat(x, T)`.

    Args:
        x: firing rate in spikes per time step, in [0, 1], any shape, as a rule `[N, ...]`.
            Inside `jax.jit` it cannot be checked and is clipped.
        T: number of time steps.

    Returns:
        Spikes, `[T, *x.shape]`, in the dtype of `x`.

    Raises:
        TypeError: `x` is not floating, or `T` not an integer.
        ValueError: a value is out of [0, 1], or `T` is below 1.

    Examples:
        >>> regular(jnp.array([0.25, 1.0]), 8)[:, 0]
        Array([0., 0., 0., 1., 0., 0., 0., 1.], dtype=float32)
    """
    x = jnp.asarray(x)
    neuron = IFNode(
        v_threshold=0.999,
        v_reset=None,
        surrogate_function=DeterministicPass(),
        detach_reset=True,
    )
    _, spikes = unroll(neuron, repeat(_within(x, 0.0, 1.0, _REMEDY), T))
    return spikes.astype(x.dtype)


def latency(
    x: Float[Array | np.ndarray, "*shape"], T: int, *, function: Literal["linear", "log"] = "linear"
) -> Float[Array, "{T} *shape"]:
    """One spike per element, the sooner the larger the value.

        t = round((T - 1) (1 - x))                              linear
        t = round(T - 1 - ln(alpha x + 1)),  alpha = e^(T-1) - 1    log

    rounded half to even. A value of 0 fires too, in the last step; for none multiply the code by
    `x > 0`. `periodic` repeats it. No gradient flows to `x`.

    Args:
        x: values in [0, 1], any shape, as a rule `[N, ...]`. Inside `jax.jit` they cannot be
            checked and are clipped.
        T: number of time steps.
        function: "linear" or "log", from value to time.

    Returns:
        Spikes, `[T, *x.shape]`, in the dtype of `x`.

    Raises:
        TypeError: `x` is not floating, or `T` not an integer.
        ValueError: a value is out of [0, 1], `T` is below 1, or `function` unknown.

    Examples:
        >>> latency(jnp.array([0.0, 0.5, 1.0]), 5).argmax(axis=0)  # times of the spikes
        Array([4, 2, 0], dtype=int32)
    """
    x, last = jnp.asarray(x), _checks.size("T", T) - 1
    value = _within(x, 0.0, 1.0, "scale it, e.g. images / 255")
    if function not in ("linear", "log"):
        raise ValueError(f'function must be "linear" or "log", got {function!r}')
    if function == "linear" or last == 0:
        time = last * (1 - value)
    else:
        # ln(alpha x + 1) from ln(alpha), since alpha itself overflows for some 90 steps.
        ln_alpha = last + math.log1p(-math.exp(-last))
        ln_x = jnp.log(jnp.where(value > 0, value, 1))
        sooner = jnp.logaddexp(ln_x + ln_alpha, jnp.zeros_like(value))
        time = last - jnp.where(value > 0, sooner, 0)
    return jax.nn.one_hot(jnp.round(time).astype(jnp.int32), last + 1, dtype=x.dtype, axis=0)


def weighted_phase(x: Float[Array | np.ndarray, "*shape"], K: int) -> Float[Array, "{K} *shape"]:
    """The binary digits of a value, one a step, the largest first (Kim et al. 2018, "Deep neural
    networks with weighted spikes").

        x = sum_t out[t] 2^-(t+1),  t = 0 ... K - 1

    A spike in step t counts `2^-(t+1)`. `periodic` repeats the digits for more than one phase.
    No gradient flows to `x`.

    Args:
        x: values in [0, 1 - 2^-K], any shape, as a rule `[N, ...]`; what K digits cannot hold is
            cut off. Inside `jax.jit` they cannot be checked and are clipped.
        K: number of digits and time steps.

    Returns:
        Spikes, `[K, *x.shape]`, in the dtype of `x`.

    Raises:
        TypeError: `x` is not floating, or `K` not an integer.
        ValueError: a value is out of [0, 1 - 2^-K], or `K` is below 1.

    Examples:
        >>> weighted_phase(jnp.array([0.625]), 3)[:, 0]  # 1/2 + 1/8
        Array([1., 0., 1.], dtype=float32)
    """
    x, K = jnp.asarray(x), _checks.size("K", K)
    largest = 1 - 2.0**-K
    value = _within(x, 0.0, largest, f"K={K} digits hold no more: multiply what is in [0, 1] by it")
    places = jnp.asarray(2.0 ** np.arange(1, K + 1), value.dtype)
    shifted = jnp.floor(value[None] * places.reshape(-1, *[1] * x.ndim))
    return (shifted - 2 * jnp.floor(shifted / 2)).astype(x.dtype)


def delta(xs: Float[Array | np.ndarray, "T *shape"], threshold: float) -> Float[Array, "T *shape"]:
    """Spikes where a signal changes: 1 where it rises, -1 where it falls by the threshold.

        d[t] = xs[t] - xs[t-1],  d[0] = 0
        out[t] = [d[t] >= threshold] - [d[t] <= -threshold]

    `jax.nn.relu` of it keeps the rises only. No gradient flows to `xs`.

    Args:
        xs: a signal, time first, `[T, ...]`.
        threshold: the change from one step to the next that counts, > 0, in the unit of `xs`.

    Returns:
        Signed spikes, in the shape and dtype of `xs`.

    Raises:
        TypeError: `xs` is not floating, or `threshold` not a number.
        ValueError: `xs` has no time steps, or `threshold` is not greater than 0.

    Examples:
        >>> delta(jnp.array([0.0, 0.5, 0.6, 0.0]), 0.25)
        Array([ 0.,  1.,  0., -1.], dtype=float32)
    """
    xs, threshold = jnp.asarray(xs), _checks.positive("threshold", threshold)
    _checks.floating("xs", xs)
    if xs.ndim == 0 or not len(xs):
        raise ValueError(f"xs must be a signal [T, ...] with time first, got {list(xs.shape)}")
    change = jnp.diff(xs, axis=0, prepend=xs[:1])
    return (change >= threshold).astype(xs.dtype) - (change <= -threshold).astype(xs.dtype)


class PopulationEncoder(Printable, nnx.Module):
    """A layer of neurons with Gaussian tuning curves, `pop_dim` for each input (Tang et al. 2021,
    "Deep reinforcement learning with population-coded spiking neural network for continuous
    control").

        activity[i, j] = exp(-((x[i] - mean[i, j]) / std[i, j])^2 / 2)

    The means start evenly spaced over `mean_range`; means and widths are learned. The activity is
    graded, in (0, 1]: `repeat` hands it on as it is, `regular` and `poisson` make spikes of it.

    Args:
        obs_dim: number of inputs.
        pop_dim: number of neurons for each.
        mean_range: the values to which the first and the last neuron are tuned.
        std: width of the tuning curves, greater than 0.
        param_dtype: dtype of the parameters `mean` and `std`, `[obs_dim, pop_dim]`.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: a size is below 1, `std` is not greater than 0, or `mean_range` is not two
            numbers, the smaller first; when called on an input that does not fit.

    Examples:
        >>> encoder = PopulationEncoder(2, 3, mean_range=(-1.0, 1.0), std=0.5)
        >>> activity = encoder(jnp.array([[0.0, 1.0]]))  # [N, obs_dim] -> [N, obs_dim * pop_dim]
        >>> activity.round(2)
        Array([[0.14, 1.  , 0.14, 0.  , 0.14, 1.  ]], dtype=float32)
        >>> jaxsnn.encoding.regular(activity, 5).shape
        (5, 1, 6)
    """

    printed = ("obs_dim", "pop_dim")

    def __init__(
        self,
        obs_dim: int,
        pop_dim: int,
        *,
        mean_range: Sequence[float],
        std: float,
        param_dtype: Any = jnp.float32,
    ) -> None:
        self.obs_dim = _checks.size("obs_dim", obs_dim)
        self.pop_dim = _checks.size("pop_dim", pop_dim)
        low, high = _checks.interval("mean_range", mean_range)
        shape = (self.obs_dim, self.pop_dim)
        means = jnp.linspace(low, high, self.pop_dim, dtype=param_dtype)
        self.mean = nnx.Param(jnp.broadcast_to(means, shape))
        self.std = nnx.Param(jnp.full(shape, _checks.positive("std", std), param_dtype))

    def __call__(
        self, x: Float[Array | np.ndarray, "*N {self.obs_dim}"]
    ) -> Float[Array, "*N {self.obs_dim*self.pop_dim}"]:
        """The activity of the population.

        Args:
            x: `[..., obs_dim]`, floating.

        Returns:
            `[..., obs_dim * pop_dim]`, the neurons of one input side by side, in the dtype of `x`.
        """
        x = jnp.asarray(x)
        _checks.floating("x", x)
        if x.ndim == 0 or x.shape[-1] != self.obs_dim:
            raise ValueError(
                f"PopulationEncoder(obs_dim={self.obs_dim}) needs x of shape "
                f"[..., {self.obs_dim}], got {list(x.shape)}"
            )
        dtype = state_dtype(x.dtype)
        shape = (*x.shape, self.pop_dim)
        mean, std = (jnp.broadcast_to(p[...].astype(dtype), shape) for p in (self.mean, self.std))
        z = (x.astype(dtype)[..., None] - mean) / std
        activity = jnp.exp(-jnp.square(z) / 2)
        return activity.reshape(*x.shape[:-1], -1).astype(x.dtype)
