"""Losses and scores: one number per example, so that a mean over any batch is exact.

`firing_rate_mse`, `firing_rate_cross_entropy` and `correct` take one number per class, `[N,
classes]`, as a readout gives it; the others take all time steps, `[T, N, ...]`.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Integer, Shaped

from jaxsnn import _checks, readouts
from jaxsnn._dtypes import state_dtype
from jaxsnn._ties import absolute


def _check_labels(
    outputs: jax.Array, labels: jax.Array | np.ndarray, name: str = "outputs [N, classes]"
) -> jax.Array:
    """Labels as an array: an integer for each of the outputs, whose last axis are the classes."""
    labels = jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels must be integers (class numbers), got dtype {labels.dtype}")
    if outputs.ndim == 0 or outputs.shape[:-1] != labels.shape:
        raise ValueError(
            f"{name} and labels [N] must hold the same examples, got labels of shape "
            f"{list(labels.shape)} for {list(outputs.shape)}"
        )
    return labels


def _of_classes(loss: jax.Array, labels: jax.Array, classes: int) -> jax.Array:
    """NaN instead of the loss of each label that is none of the classes, 0 to `classes - 1`."""
    if labels.dtype.itemsize < 4:  # 8 bits do not hold a large number of classes
        labels = labels.astype(jnp.int32)
    there = (labels >= 0) & (labels < classes)
    # Added rather than chosen between, so that gradients keep their bits.
    return loss + jnp.where(there, 0, jnp.nan).astype(loss.dtype)


def redundant_one_hot(
    labels: Integer[Array | np.ndarray, " N"],
    num_classes: int,
    n: int,
    *,
    dtype: jax.typing.DTypeLike = jnp.float32,
) -> Shaped[Array, "N {num_classes*n}"]:
    """One-hot labels with each class `n` times side by side, as the neurons of a population vote.

        out[i, n c] ... out[i, n c + n - 1] = [c == labels[i]]

    Args:
        labels: class numbers, `[N]`, integers.
        num_classes: number of classes.
        n: neurons for each class.
        dtype: of the result.

    Returns:
        `[N, num_classes * n]`.

    Raises:
        TypeError: a size is not an integer.
        ValueError: a size is below 1.

    Examples:
        >>> redundant_one_hot(jnp.array([1, 0]), 2, 3)
        Array([[0., 0., 0., 1., 1., 1.],
               [1., 1., 1., 0., 0., 0.]], dtype=float32)
    """
    num_classes, n = _checks.size("num_classes", num_classes), _checks.size("n", n)
    return jnp.repeat(jax.nn.one_hot(labels, num_classes, dtype=dtype), n, axis=-1)


def firing_rate_mse(
    rates: Float[Array, "N C"],
    labels: Integer[Array, " N"],
    *,
    correct_rate: float = 1.0,
    incorrect_rate: float = 0.0,
) -> Float[Array, " N"]:
    """Squared distance of firing rates to the one-hot label, mean over the classes.

        loss[n] = mean_c (rates[n, c] - target[n, c])^2
        target[n, c] = correct_rate if c == labels[n] else incorrect_rate

    Asking a little activity of the other classes too keeps their neurons from falling silent for
    good. The same of spike counts is `T^2` times as large.

    Args:
        rates: firing rates (spikes per time step), `[N, classes]`.
        labels: class numbers, `[N]`, integers.
        correct_rate: the rate wanted of the class of the label, in spikes per time step.
        incorrect_rate: that of all others.

    Returns:
        Loss of each example, `[N]`; NaN for a label that is none of the classes, which inside a
        `jit` cannot be an error.

    Raises:
        TypeError: `labels` are not integers.
        ValueError: the shapes do not fit.
    """
    labels = _check_labels(rates, labels, "rates [N, classes]")
    chosen = jax.nn.one_hot(labels, rates.shape[-1], dtype=rates.dtype)
    target = chosen * (correct_rate - incorrect_rate) + incorrect_rate
    loss = jnp.mean(jnp.square(rates - target), axis=-1)
    return _of_classes(loss, labels, rates.shape[-1])


def correct(outputs: Float[Array, "N C"], labels: Integer[Array, " N"]) -> Bool[Array, " N"]:
    """Whether the largest output is that of the label (the first of equals counts).

    Args:
        outputs: one number per class, `[N, classes]`.
        labels: class numbers, `[N]`, integers.

    Returns:
        `[N]`, bool.

    Raises:
        TypeError: `labels` are not integers.
        ValueError: the shapes do not fit.
    """
    labels = _check_labels(outputs, labels)
    best = jnp.argmax(outputs, axis=-1)
    return best == labels.astype(best.dtype)


def firing_rate_cross_entropy(
    rates: Float[Array, "N C"], labels: Integer[Array, " N"], *, scale: float = 1.0
) -> Float[Array, " N"]:
    """Cross-entropy with firing rates, or any other readout, as logits.

        loss[n] = -log softmax(scale rates[n])[labels[n]]

    Rates are poor logits: they lie between 0 and 1, so that with 10 classes the loss stays above
    1.46. A `scale` of some 10, or spike counts in their place, lets it fall further.

    Args:
        rates: one number per class, `[N, classes]`.
        labels: class numbers, `[N]`, integers.
        scale: factor of the rates, > 0.

    Returns:
        Loss of each example, `[N]`, float32 or wider.

    Raises:
        TypeError: `labels` are not integers, or `scale` is not a number.
        ValueError: the shapes do not fit, or `scale` is not greater than 0.

    Examples:
        For training, with its settings:

        >>> import functools
        >>> loss = functools.partial(firing_rate_cross_entropy, scale=10.0)
        >>> loss(jnp.array([[0.5, 0.25]]), jnp.array([0])).round(3)
        Array([0.079], dtype=float32)
    """
    scale = _checks.positive("scale", scale)
    return _cross_entropy(rates * scale, labels, "rates [N, classes]")


def spike_count_cross_entropy(
    spikes: Float[Array, "T N C"],
    labels: Integer[Array, " N"],
    *,
    mask: Bool[Array, "T N"] | None = None,
) -> Float[Array, " N"]:
    """Cross-entropy with the number of spikes as logits.

        loss[n] = -log softmax(sum_t spikes[t, n])[labels[n]]

    Args:
        spikes: output of all steps, `[T, N, classes]`.
        labels: class numbers, `[N]`, integers.
        mask: bool, `[T, N]`, the steps that count; None for all.

    Returns:
        Loss of each example, `[N]`, float32 or wider.

    Raises:
        TypeError: `labels` are not integers, or `mask` is not bool.
        ValueError: the shapes do not fit.
    """
    counts = readouts.spike_count(spikes, mask=mask)
    return _cross_entropy(counts, labels, "spikes [T, N, classes]")


def max_membrane_cross_entropy(
    v_seq: Float[Array, "T N C"],
    labels: Integer[Array, " N"],
    *,
    mask: Bool[Array, "T N"] | None = None,
) -> Float[Array, " N"]:
    """Cross-entropy with the largest potential over time as logits.

        loss[n] = -log softmax(max_t v[t, n])[labels[n]]

    The gradient reaches the step of the largest potential only.

    Args:
        v_seq: potentials of neurons that do not spike, `[T, N, classes]`.
        labels: class numbers, `[N]`, integers.
        mask: bool, `[T, N]`, the steps that count; None for all.

    Returns:
        Loss of each example, `[N]`, float32 or wider.

    Raises:
        TypeError: `labels` are not integers, or `mask` is not bool.
        ValueError: the shapes do not fit.
    """
    largest = readouts.max_membrane(v_seq, mask=mask)
    return _cross_entropy(largest, labels, "v_seq [T, N, classes]")


def temporal_efficient_training_cross_entropy(
    ys: Float[Array, "T N C *space"],
    labels: Integer[Array, "N *space"],
    *,
    mask: Bool[Array, "T N"] | None = None,
) -> Float[Array, " N"]:
    """Cross-entropy of every time step, mean over time (Deng et al. 2022, "Temporal efficient
    training of spiking neural network via gradient re-weighting").

        loss[n] = mean_t -log softmax(ys[t, n])[labels[n]]

    Each step has to be right by itself, so that fewer steps can be run later.

    Args:
        ys: outputs of all steps, `[T, N, classes]`; or `[T, N, classes, *space]` for one label at
            each place.
        labels: class numbers, `[N]` or `[N, *space]`, integers.
        mask: bool, `[T, N]`, the steps that count; None for all.

    Returns:
        Loss of each example, `[N]`, mean over the places too, float32 or wider.

    Raises:
        TypeError: `labels` are not integers, or `mask` is not bool.
        ValueError: the shapes do not fit.

    Examples:
        >>> ys = jnp.zeros((5, 3, 10))
        >>> temporal_efficient_training_cross_entropy(ys, jnp.array([1, 0, 9])).round(1)
        Array([2.3, 2.3, 2.3], dtype=float32)
    """
    if ys.ndim < 3:
        raise ValueError(f"ys must have shape [T, N, classes, ...], got {list(ys.shape)}")
    by_step = jnp.moveaxis(ys, 2, -1)  # classes last
    labels = jnp.asarray(labels)
    steps = jnp.broadcast_to(labels, (len(ys), *labels.shape))
    losses = _cross_entropy(by_step, steps, "ys [T, N, classes, ...]")
    return readouts.mean_membrane(jnp.mean(losses, axis=tuple(range(2, losses.ndim))), mask=mask)


def _cross_entropy(logits: jax.Array, labels: jax.Array, name: str) -> jax.Array:
    """Cross-entropy over the last axis in float32 or wider; shapes and dtypes checked."""
    labels = _check_labels(logits, labels, name)
    logits = logits.astype(state_dtype(logits.dtype))
    loss = optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
    return _of_classes(loss, labels, logits.shape[-1])


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
    meaning = _PARAMETERS[kernel]
    if (parameter is None) != (meaning is None):
        takes = meaning or "no parameter"
        raise TypeError(f"the {kernel} kernel takes {takes}, got parameter={parameter!r}")
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
        lengths = optax.safe_norm(rows, 0.0, axis=-1)  # whose gradient at 0 is 0, not NaN
        similarity = similarity / (lengths[:, None] * lengths[None, :] + 1e-8)
    if labels.ndim == 1:
        target = (labels[:, None] == labels[None, :]).astype(dtype)
    else:
        target = jnp.minimum(labels.astype(dtype) @ labels.astype(dtype).T, 1)
    if loss_type not in _DISTANCES or (loss_type == "bce" and kernel_type == "polynomial"):
        raise ValueError(
            'loss_type must be "mse", "l1", or, but not with a polynomial kernel, "bce", got '
            f"{loss_type!r} with {kernel_type!r}"
        )
    return jnp.mean(_DISTANCES[loss_type](similarity, target), axis=-1)


def _log(p: jax.Array) -> jax.Array:
    """`ln p`, at least -100: `p` is 0, or by rounding below, where two examples share no spike."""
    positive = p > 0
    return jnp.where(positive, jnp.maximum(jnp.log(jnp.where(positive, p, 1)), -100), -100)


_DISTANCES: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "mse": lambda similarity, target: jnp.square(similarity - target),
    "l1": lambda similarity, target: absolute(similarity - target),
    "bce": lambda p, target: -target * _log(p) - (1 - target) * _log(1 - p),
}
