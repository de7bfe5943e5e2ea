"""What is compared: networks, and ways of training them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxsnn import data, models, training

MEAN, DEVIATION = 0.2860, 0.3530  # of the training images' pixels, as the older edition has them


@dataclasses.dataclass(frozen=True)
class Arm:
    """A network and how it is trained; the defaults are the tutorial's.

    Attributes:
        about: what sets it apart, for the table.
        model: a key of `jaxsnn.models.MODELS`.
        epochs: length of a run.
        batch_size: images per minibatch.
        adam: whether Adam is used in place of SGD with momentum 0.9.
        lr: learning rate of the first epoch; half a cosine takes it down.
        clip_norm: norm to which the gradient is clipped, None for no clipping.
        detach_reset: whether no neuron's reset passes a gradient on; the tutorial's networks have
            this at the recurrent neurons of fb alone.
        no_feedback: whether the weights of the feedback start from zero.
        standardize: whether the pixels are given a mean of 0 and a deviation of 1.
        published: test accuracy in per cent that SpikingJelly's documentation gives for one run,
            `(after the last epoch, of the best epoch)`; None where it gives none.
    """

    about: str
    model: str
    epochs: int = 64
    batch_size: int = 256
    adam: bool = False
    lr: float = 0.1
    clip_norm: float | None = None
    detach_reset: bool = False
    no_feedback: bool = False
    standardize: bool = False
    published: tuple[float | None, float | None] = (None, None)


def _older(model: str, best: float) -> Arm:
    """The same network in the tutorial's edition for SpikingJelly 0.0.0.0.12 and before."""
    return Arm(
        "older edition",
        model,
        epochs=90,
        batch_size=128,
        detach_reset=True,
        standardize=True,
        published=(None, best),
    )


ARMS = {
    "plain": Arm("feed-forward", "plain", published=(70.45, 70.45)),
    "ss": Arm("stateful synapses", "ss", published=(75.58, 75.68)),
    "fb": Arm("linear feedback", "fb", published=(76.88, 77.19)),
    "fb-clip": Arm("gradient clipped to norm 1", "fb", clip_norm=1.0),
    "fb-detach": Arm("no reset passes a gradient", "fb", detach_reset=True),
    "fb-zero": Arm("feedback weights start at 0", "fb", no_feedback=True),
    "fb-adam": Arm("Adam, learning rate 0.001", "fb", adam=True, lr=0.001),
    "old-plain": _older("plain", 77.4),
    "old-ss": _older("ss", 80.4),
    "old-fb": _older("fb", 81.4),
}

EDITIONS = {
    "tutorial": ("plain", "ss", "fb"),
    "remedies": ("fb", "fb-clip", "fb-detach", "fb-zero", "fb-adam"),
    "older": ("old-plain", "old-ss", "old-fb"),
}


def build(arm: Arm, seed: int) -> nnx.Module:
    """The untrained network."""
    model = models.MODELS[arm.model](rngs=nnx.Rngs(seed))
    for _, part in nnx.iter_graph(model):
        if arm.detach_reset and hasattr(part, "detach_reset"):
            part.detach_reset = True
    if arm.no_feedback:
        container = model.fc[1]
        kernel = container.rc.kernel[...]
        container.rc.kernel[...] = kernel.at[container.in_features :].set(0)
    return model


@functools.cache  # to JAX one built anew is another, and all would be compiled again
def optimizer(arm: Arm, steps_per_epoch: int) -> optax.GradientTransformation:
    """SGD or Adam at a cosine learning rate, after clipping if that is asked for."""
    rate = training.cosine_schedule(arm.lr, arm.epochs, steps_per_epoch)
    step = optax.adam(rate) if arm.adam else optax.sgd(rate, momentum=0.9)
    if arm.clip_norm is None:
        return step
    return optax.chain(training.clip_by_global_norm(arm.clip_norm), step)


def standardized_columns(images: jax.Array) -> jax.Array:
    """`jaxsnn.data.columns`, then `(x - mean) / deviation` of the training set's pixels."""
    return (data.columns(images) - jnp.float32(MEAN)) / jnp.float32(DEVIATION)
