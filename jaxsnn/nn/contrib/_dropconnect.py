"""`DropConnectLinear`: a linear layer that drops different weights for each example."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from jaxsnn import _checks
from jaxsnn._layout import follow
from jaxsnn._ranks import with_axes_after
from jaxsnn.nn._layer import TrainsApart
from jaxsnn.nn._layers import Linear, along_last, on_rows
from jaxsnn.nn._run import Run

_NODES = 64  # of the inference; for a ReLU it is then 1e-3 standard deviations off at most
_WIDTH = 6.0  # standard deviations to either side


class DropConnectLinear(TrainsApart, Linear):  # type: ignore[misc]  # is called as a layer, too
    """A linear layer that drops single weights in training, followed by an activation.

        y = f((M * W) x + m * b),  each entry of M and m is 0 with probability rate, else 1

    Each example has its own masks. The remaining weights are not scaled up. Masks are drawn at
    each step, or with `invariant` once per sequence. In inference `y` is the mean of `f` under the
    normal distribution that approximates the sum over the masks,

        y = E[f(z)],  z ~ N((1 - rate)(W x + b), rate (1 - rate)(W^2 x^2 + b^2))

    which is computed with a fixed rule of equally spaced points (Gauss-Hermite's points, better
    for smooth functions, are worse at the kink of a ReLU), where Wan et al. draw samples.

    Args:
        in_features: size of the input's last axis.
        out_features: size of the output's last axis.
        use_bias: whether there is a `b`.
        rate: probability with which a weight is dropped, in `[0, 1)`.
        invariant: whether a sequence keeps its masks for all steps. Inside a recurrent container
            and with `checkpoint_every`, where it sees a part of the sequence, it must.
        activation: `f`, an element-wise function; None for none.
        dtype: dtype of the product, None for that of its operands.
        param_dtype: dtype of `W` and `b`.
        rngs: random streams; `params` is used.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument is out of range; when run, if the input does not fit, or if it
            sees a part of the sequence when training and is not `invariant`.

    Source: Wan et al. 2013, "Regularization of neural networks using DropConnect".
    """

    printed = ("in_features", "out_features", "use_bias", "rate", "invariant", "activation")

    def __init__(
        self,
        in_features: int,
        out_features: int,
        use_bias: bool = True,
        rate: float = 0.5,
        *,
        invariant: bool = False,
        activation: Callable[[jax.Array], jax.Array] | None = jax.nn.relu,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs = _checks.REQUIRED,
    ) -> None:
        super().__init__(
            in_features,
            out_features,
            use_bias=_checks.boolean("use_bias", use_bias),
            dtype=dtype,
            param_dtype=param_dtype,
            rngs=rngs,
        )
        self.rate = _checks.probability("rate", rate, below_one=True)
        self.invariant = _checks.boolean("invariant", invariant)
        if activation is not None:
            _checks.function("activation", activation)
        self.activation = activation

    def forward(
        self, x: Float[Array, "*N {self.in_features}"], run: Run
    ) -> Float[Array, "*N {self.out_features}"]:
        if not run.training:
            return self._expected(x)
        if not self.invariant and not (run.steps and run._whole):
            how = "with checkpoint_every" if run.steps else "step by step, in a recurrent container"
            raise ValueError(
                "DropConnectLinear draws other masks at each step of a sequence in training, so it "
                f"cannot run {how}; with invariant=True it keeps them"
            )
        xs = x if run.steps else x[None]
        if xs.ndim < 3:
            raise ValueError(
                "DropConnectLinear needs inputs with a batch axis in training, "
                f"[N, ..., {self.in_features}] per step, got {list(xs.shape[1:])}"
            )
        if self.invariant:
            ys = self._dropped(xs, run.draw(self._kept, xs.shape[1:2]))
            return ys if run.steps else ys[0]

        # Masks of one step are as large as the weights of all examples: none are kept.
        def step(now: tuple[jax.Array, jax.Array]) -> jax.Array:
            x, t = now
            kept = run.draw(lambda key, shape: self._kept(jax.random.fold_in(key, t), shape), shape)
            return self._dropped(x[None], kept)[0]

        shape = xs.shape[1:2]
        return jax.lax.map(jax.checkpoint(step), (xs, jnp.arange(len(xs))))

    def _expected(self, inputs: Array | np.ndarray) -> Array:
        """The mean over the masks, `[..., in_features]` to `[..., out_features]`."""
        x, w, b = self._operands(inputs)
        mean = (1 - self.rate) * _affine(x, w, b)
        if self.activation is None:
            return mean
        b_squared = None if b is None else jnp.square(b)
        var = self.rate * (1 - self.rate) * _affine(jnp.square(x), jnp.square(w), b_squared)
        # Where nothing is dropped the root has no derivative.
        std = jnp.where(var > 0, jnp.sqrt(jnp.where(var > 0, var, 1)), 0)
        points = jnp.linspace(-_WIDTH, _WIDTH, _NODES, dtype=mean.dtype)
        points = with_axes_after(points, 1 + mean.ndim)
        weights = jnp.exp(-0.5 * jnp.square(points))
        weights /= jnp.sum(weights)
        return jnp.sum(weights * self.activation(mean[None] + std[None] * points), 0)

    def _kept(self, key: jax.Array, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
        """The weights `[N, in, out]` and biases `[N, out]` that stay, for the shape `[N]`."""
        of_weights, of_biases = jax.random.split(key)
        return (
            jax.random.bernoulli(
                of_weights, 1 - self.rate, (*shape, self.in_features, self.out_features)
            ),
            jax.random.bernoulli(of_biases, 1 - self.rate, (*shape, self.out_features)),
        )

    def _dropped(self, xs: jax.Array, kept: tuple[jax.Array, jax.Array]) -> jax.Array:
        """All steps `[T, N, ..., in]` with the same masks."""
        xs, w, b = self._operands(xs)
        kept_w, kept_b = follow(kept, xs, 1)
        ys = jnp.einsum("tn...i,nio->tn...o", xs, jnp.where(kept_w, w[None], 0))
        if b is not None:
            dropped = jnp.where(kept_b, b[None], 0)
            ys += dropped.reshape(1, len(dropped), *(1,) * (ys.ndim - 3), -1)
        return ys if self.activation is None else self.activation(ys)

    def _operands(self, inputs: Array | np.ndarray) -> Any:
        """Input, `W` and `b` in the dtype of the product."""
        inputs = jnp.asarray(inputs)
        if inputs.ndim == 0 or inputs.shape[-1] != self.in_features:
            raise ValueError(
                f"DropConnectLinear(in_features={self.in_features}) needs inputs of shape "
                f"[..., {self.in_features}], got {list(inputs.shape)}"
            )
        bias = None if self.bias is None else self.bias[...]
        return self.promote_dtype((inputs, self.kernel[...], bias), dtype=self.dtype)


def _affine(x: jax.Array, w: jax.Array, b: jax.Array | None) -> jax.Array:
    y = on_rows(lambda rows: rows @ w, x)
    return y if b is None else y + along_last(b, y)
