"""Values as the activity of a population of neurons, each tuned to one value."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from jaxsnn import _checks
from jaxsnn._dtypes import state_dtype
from jaxsnn._repr import Printable


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
        low, high = _bounds(mean_range)
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


def _bounds(mean_range: Any) -> tuple[float, float]:
    if not isinstance(mean_range, Sequence) or len(mean_range) != 2:
        raise ValueError(f"mean_range must be two numbers, e.g. (-1.0, 1.0), got {mean_range!r}")
    low, high = (_checks.real("mean_range", value) for value in mean_range)
    if low >= high:
        raise ValueError(f"mean_range must have the smaller number first, got {mean_range!r}")
    return low, high
