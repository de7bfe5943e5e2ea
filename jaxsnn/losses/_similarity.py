"""How alike the responses to two examples are, against how alike their labels are."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer, Shaped

from jaxsnn import _checks
from jaxsnn._dtypes import state_dtype
from jaxsnn._ties import absolute

Kernel = Literal["linear", "polynomial", "sigmoid", "gaussian"]
_PARAMETERS = {
    "linear": None,
    "polynomial": "the degree d",
    "sigmoid": "the slope alpha",
    "gaussian": "the width sigma",
}


def kernel_dot_product(
    x: Float[Array, "N F"],
    y: Float[Array, "M F"],
    kernel: Kernel = "linear",
    parameter: float | None = None,
) -> Float[Array, "N M"]:
    """The kernel of each row of `x` with each row of `y`.

        out[i, j] = x[i] . y[j]                            linear
                    (x[i] . y[j])^d                        polynomial
                    1 / (1 + exp(-alpha x[i] . y[j]))      sigmoid
                    exp(-|x[i] - y[j]|^2 / (2 sigma^2))    gaussian

    Args:
        x: `[N, features]`.
        y: `[M, features]`.
        kernel: one of these four.
        parameter: `d`, a positive integer, `alpha`, or `sigma` > 0; None for the linear kernel.

    Returns:
        `[N, M]`.

    Raises:
        TypeError: `parameter` is missing, not wanted, or not a number (`d`: not an integer).
        ValueError: `kernel` is unknown, `d` is below 1, or `sigma` not greater than 0.

    Examples:
        >>> x = jnp.array([[1.0, 0.0], [1.0, 2.0]])
        >>> kernel_dot_product(x, x, "polynomial", 2)
        Array([[ 1.,  1.],
               [ 1., 25.]], dtype=float32)
    """
    if kernel not in _PARAMETERS:
        raise ValueError(f"kernel must be one of {', '.join(_PARAMETERS)}, got {kernel!r}")
    if (meaning := _PARAMETERS[kernel]) is None:
        if parameter is not None:
            raise TypeError(f"the linear kernel takes no parameter, got {parameter!r}")
    elif parameter is None:
        raise TypeError(f"the {kernel} kernel needs its parameter, {meaning}")
    products = jnp.matmul(x, y.T, precision="highest")
    if kernel == "linear":
        return products
    if kernel == "polynomial":
        return jax.lax.integer_pow(products, _checks.size("parameter", parameter))
    if kernel == "sigmoid":
        return jax.nn.sigmoid(products * _checks.real("parameter", parameter))
    of_x, of_y = (jnp.sum(jnp.square(rows), axis=-1) for rows in (x, y))
    squares = of_x[:, None] + of_y[None, :] - 2 * products
    return jnp.exp(-squares / (2 * _checks.positive("parameter", parameter) ** 2))


def spike_similar_loss(
    spikes: Float[Array, "T N *shape"],
    labels: Integer[Array, " N"] | Shaped[Array, "N classes"],
    kernel_type: Kernel = "linear",
    loss_type: Literal["mse", "l1", "bce"] = "mse",
    parameter: float | None = None,
) -> Float[Array, " N"]:
    """Distance between the similarity of the spikes to two examples and that of their labels.

        sim[n, m] = kernel of the spikes of n and m, all steps and neurons
        target[n, m] = 1 if n and m have a label in common, else 0
        loss[n] = mean_m (sim[n, m] - target[n, m])^2              mse
                  mean_m |sim[n, m] - target[n, m]|                l1
                  mean_m of their binary cross-entropy             bce

    The kernels are those of `kernel_dot_product`, the linear one divided by the lengths:
    `x . y / (|x| |y| + 1e-8)`. The slope of `|.|` at 0 is 0, and so is that of the cross-entropy
    where a logarithm is cut off at -100 (torch's is 1e12 there). A loss of pairs: the number of an
    example depends on the others in the minibatch, so `training.evaluate` gives another mean for
    another batch size.

    Args:
        spikes: output of all steps, `[T, N, ...]`.
        labels: class numbers, `[N]`, integers; or, for several labels an example, 0 and 1,
            `[N, classes]`.
        kernel_type: "linear", "polynomial", "sigmoid", or "gaussian".
        loss_type: "mse", "l1", or "bce". The last one needs similarities between 0 and 1, so it
            does not go with the polynomial kernel.
        parameter: `d` of the polynomial, `alpha` of the sigmoid, `sigma` of the Gaussian kernel.

    Returns:
        Loss of each example, `[N]`, float32 or wider.

    Raises:
        TypeError: `parameter` is missing, not wanted, or not a number (`d`: not an integer).
        ValueError: the shapes do not fit, or a name is unknown.
    """
    labels = jnp.asarray(labels)
    if spikes.ndim < 2 or labels.ndim not in (1, 2) or len(labels) != spikes.shape[1]:
        raise ValueError(
            f"spikes [T, N, ...] and labels [N] must hold the same examples, got shapes "
            f"{list(spikes.shape)} and {list(labels.shape)}"
        )
    dtype = state_dtype(spikes.dtype)
    rows = jnp.moveaxis(spikes, 1, 0).reshape(len(labels), -1).astype(dtype)
    similarity = kernel_dot_product(rows, rows, kernel_type, parameter)
    if kernel_type == "linear":
        lengths = _lengths(rows)
        similarity = similarity / (lengths[:, None] * lengths[None, :] + 1e-8)
    if labels.ndim == 1:
        target = (labels[:, None] == labels[None, :]).astype(dtype)
    else:
        target = jnp.minimum(labels.astype(dtype) @ labels.astype(dtype).T, 1)
    if loss_type == "mse":
        by_pair = jnp.square(similarity - target)
    elif loss_type == "l1":
        by_pair = absolute(similarity - target)
    elif loss_type == "bce" and kernel_type != "polynomial":
        by_pair = -target * _log(similarity) - (1 - target) * _log(1 - similarity)
    elif loss_type == "bce":
        raise ValueError('loss_type "bce" needs similarities in [0, 1], not a polynomial kernel')
    else:
        raise ValueError(f'loss_type must be "mse", "l1", or "bce", got {loss_type!r}')
    return jnp.mean(by_pair, axis=-1)


def _lengths(rows: jax.Array) -> jax.Array:
    """Length of each row; where it is 0 the gradient is 0 too, not that of a square root."""
    squares = jnp.sum(jnp.square(rows), axis=-1)
    silent = squares == 0
    return jnp.where(silent, 0, jnp.sqrt(jnp.where(silent, 1, squares)))


def _log(p: jax.Array) -> jax.Array:
    """`ln p`, at least -100: `p` is 0, or by rounding below, where two examples share no spike."""
    positive = p > 0
    return jnp.where(positive, jnp.maximum(jnp.log(jnp.where(positive, p, 1)), -100), -100)
