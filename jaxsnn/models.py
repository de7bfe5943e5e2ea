"""The three networks of the experiment, `[T, N, 28] -> firing rates [N, 10]`, and your own.

The three differ in memory alone. Built as in SpikingJelly's tutorial "Recurrent Connection and
Stateful Synapse": every neuron is an IF neuron with the ATan surrogate.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Key, Shaped

from jaxsnn import _checks, readouts
from jaxsnn.nn import (
    IFNode,
    Linear,
    LinearRecurrentContainer,
    Sequential,
    SynapseFilter,
    needs_training_mode,
    unroll,
)
from jaxsnn.nn._cell import state_dtype
from jaxsnn.nn._repr import Printable
from jaxsnn.surrogate import ATan

FEATURES, HIDDEN, CLASSES = 28, 32, 10


class _Net(Printable, nnx.Module):
    """Abstract: runs the stack `fc` over time and averages its spikes."""

    fc: Sequential

    def __call__(self, xs: Float[Array | np.ndarray, "T N 28"]) -> Float[Array, "N 10"]:
        """Firing rates of a sequence.

        Args:
            xs: `[T, N, 28]`, time first, floating.

        Returns:
            Mean of the output spikes over time, `[N, 10]`, float32 or wider.

        Raises:
            TypeError: `xs` is not floating.
            ValueError: `xs` is not of that shape.
        """
        xs = jnp.asarray(xs)
        _checks.floating("xs (made of uint8 images by jaxsnn.data.columns)", xs)
        if xs.ndim != 3 or xs.shape[-1] != FEATURES:
            raise ValueError(
                f"{type(self).__name__} needs xs of shape [T, N, {FEATURES}] (time, batch, "
                f"features), got {list(xs.shape)}; jaxsnn.data.columns makes it of images, and "
                "unroll(net.fc, xs) runs its layers"
            )
        _, spikes = unroll(self.fc, xs)
        return jnp.mean(spikes, axis=0, dtype=state_dtype(spikes.dtype))


class PlainNet(_Net):
    """Feed-forward: Linear, IF, Linear, IF. Its only memory is the membrane potential.

    Args:
        dtype: dtype of the matrix products, None for that of their operands.
        param_dtype: dtype of the parameters.
        rngs: random streams; `params` is used.
    """

    def __init__(
        self,
        *,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs = _checks.REQUIRED,
    ) -> None:
        kinds = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.fc = Sequential(
            Linear(FEATURES, HIDDEN, **kinds),
            IFNode(surrogate_function=ATan()),
            Linear(HIDDEN, CLASSES, **kinds),
            IFNode(surrogate_function=ATan()),
        )


class StatefulSynapseNet(_Net):
    """PlainNet with a `SynapseFilter` of learnable time constant behind the hidden neurons.

    Args:
        dtype: dtype of the matrix products, None for that of their operands.
        param_dtype: dtype of the parameters.
        rngs: random streams; `params` is used.
    """

    def __init__(
        self,
        *,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs = _checks.REQUIRED,
    ) -> None:
        kinds = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.fc = Sequential(
            Linear(FEATURES, HIDDEN, **kinds),
            IFNode(surrogate_function=ATan()),
            SynapseFilter(tau=2.0, learnable=True, param_dtype=param_dtype),
            Linear(HIDDEN, CLASSES, **kinds),
            IFNode(surrogate_function=ATan()),
        )


class FeedBackNet(_Net):
    """PlainNet whose hidden neurons feed back to themselves through a linear layer.

    Args:
        dtype: dtype of the matrix products, None for that of their operands.
        param_dtype: dtype of the parameters.
        rngs: random streams; `params` is used.
    """

    def __init__(
        self,
        *,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs = _checks.REQUIRED,
    ) -> None:
        kinds = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.fc = Sequential(
            Linear(FEATURES, HIDDEN, **kinds),
            LinearRecurrentContainer(
                IFNode(surrogate_function=ATan(), detach_reset=True), HIDDEN, HIDDEN, **kinds
            ),
            Linear(HIDDEN, CLASSES, **kinds),
            IFNode(surrogate_function=ATan()),
        )


class Classifier(Printable, nnx.Module):
    """Any stack of layers with a readout: `[T, N, ...] -> [N, classes]`.

    It trains with dropout and batch normalisation inside, and takes padded sequences.

    Args:
        stack: what is run over time, e.g. a `jaxsnn.nn.Sequential`.
        readout: one number per class of the outputs `[T, N, classes]`, `readout(ys)`, or with
            padded sequences `readout(ys, mask)`; see `jaxsnn.readouts`. None gives the outputs
            of all steps, for losses that look at each.

    Raises:
        TypeError: an argument is not callable.
        ValueError: the readout holds layers that behave differently in training.

    Examples:
        >>> rngs = nnx.Rngs(0)
        >>> net = Classifier(
        ...     nn.Sequential(nn.Linear(8, 3, rngs=rngs), nn.BatchNorm(3), nn.LIFNode())
        ... )
        >>> net(jnp.ones((5, 2, 8))).shape
        (2, 3)
    """

    printed = ("readout",)

    def __init__(
        self, stack: Any, readout: Callable[..., jax.Array] | None = readouts.firing_rate
    ) -> None:
        self.stack = _checks.function("stack", stack)
        self.readout = None if readout is None else _checks.function("readout", readout)
        if isinstance(readout, nnx.Module) and needs_training_mode(readout):
            raise ValueError(
                "the readout is not told that it is trained, but has dropout or batch "
                "normalisation inside; put those at the end of the stack"
            )

    def __call__(
        self,
        xs: Shaped[Array | np.ndarray, "T N *shape"],
        mask: Bool[Array | np.ndarray, "T N"] | None = None,
        *,
        training: Key[Array, ""] | None = None,
    ) -> Any:
        """What the readout makes of a sequence.

        Args:
            xs: `[T, N, ...]`, time first.
            mask: which steps count, bool `[T, N]`, see `jaxsnn.nn.sequence_mask`; None for all.
            training: a random key when training, else None.

        Returns:
            The outputs; when training `(outputs, running statistics)`.
        """
        _, outputs, *extras = unroll(self.stack, xs, mask=mask, key=training)
        if self.readout is not None:
            outputs = self.readout(outputs) if mask is None else self.readout(outputs, mask)
        if training is None:
            return outputs
        statistics = extras[0].statistics
        return outputs, {"stack": statistics} if statistics else {}


MODELS = {"plain": PlainNet, "ss": StatefulSynapseNet, "fb": FeedBackNet}
