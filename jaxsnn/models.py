"""The three networks of the experiment, `[T, N, 28] -> firing rates [N, 10]`, and your own.

The three differ in memory alone. Built as in SpikingJelly's tutorial "Recurrent Connection and
Stateful Synapse": every neuron is an IF neuron with the ATan surrogate.
"""

from collections.abc import Callable
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Shaped

from jaxsnn import _checks, readouts
from jaxsnn._dtypes import state_dtype
from jaxsnn._masks import zero
from jaxsnn.nn import (
    IFNode,
    Linear,
    LinearRecurrentContainer,
    Module,
    Run,
    Sequential,
    SynapseFilter,
    learnable,
    unroll,
)
from jaxsnn.surrogate import ATan

FEATURES, HIDDEN, CLASSES = 28, 32, 10


class _Model(Module):
    """Abstract: a module from a whole sequence to one output, which is called on the sequence."""

    carries_state = False

    @final  # type: ignore[misc]  # is called without a carry
    def __call__(
        self,
        xs: Shaped[Array | np.ndarray, "T N *shape"],
        mask: Bool[Array | np.ndarray, "T N"] | None = None,
    ) -> Any:
        """The output for a sequence in inference.

        Args:
            xs: `[T, N, ...]`, time first.
            mask: which steps count, bool `[T, N]`, see `jaxsnn.nn.sequence_mask`; None for all.
        """
        return unroll(self, xs, mask=mask)[1]


class _Net(_Model):
    """Abstract: runs the stack `fc` over time and averages its spikes."""

    fc: Sequential

    def forward(self, xs: Float[Array, "T N 28"], run: Run) -> Float[Array, "N 10"]:
        """Firing rates of a sequence.

        Args:
            xs: `[T, N, 28]`, time first, floating.
            run: runs the stack.

        Returns:
            Mean of the output spikes over time, `[N, 10]`, float32 or wider.

        Raises:
            TypeError: `xs` is not floating.
            ValueError: `xs` is not of that shape.
        """
        run.require_whole_sequence(self)
        _checks.floating("xs (made of uint8 images by jaxsnn.data.columns)", xs)
        if xs.ndim != 3 or xs.shape[-1] != FEATURES:
            raise ValueError(
                f"{type(self).__name__} needs xs of shape [T, N, {FEATURES}] (time, batch, "
                f"features), got {list(xs.shape)}; jaxsnn.data.columns makes it of images, and "
                "unroll(net.fc, xs) runs its layers"
            )
        spikes = run(self.fc, xs)
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
    """PlainNet with a `SynapseFilter` of learnable time constant after the hidden neurons.

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
            SynapseFilter(tau=learnable(2.0, param_dtype=param_dtype)),
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


class Classifier(_Model):
    """Any stack of layers with a readout: `[T, N, ...] -> [N, classes]`.

    Args:
        stack: the part that is run over time, e.g. a `jaxsnn.nn.Sequential`.
        readout: one number per class of the outputs `[T, N, classes]`, `readout(ys)`, or with
            padded sequences `readout(ys, mask)`; see `jaxsnn.readouts`. None gives the outputs
            of all steps, for losses that look at each.

    Raises:
        TypeError: an argument is not callable.

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

    def forward(self, xs: Shaped[Array, "T N *shape"], run: Run) -> Any:
        """The readout of a sequence.

        Args:
            xs: `[T, N, ...]`, time first.
            run: runs the stack.
        """
        run.require_whole_sequence(self, masks=True)
        ys = run(self.stack, xs)
        if run.mask is not None:
            ys = zero(run.mask, ys)
        if self.readout is None:
            return ys
        return self.readout(ys) if run.mask is None else self.readout(ys, run.mask)


MODELS = {"plain": PlainNet, "ss": StatefulSynapseNet, "fb": FeedBackNet}
