"""jaxsnn as train.py runs it: `training.create`, then `training.train_epoch` compiled once."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxsnn import data, models, nn, surrogate, training
from sides.task import (
    CHANNELS,
    CLASSES,
    EPOCHS,
    MOMENTUM,
    SEW_STEPS,
    SIDE,
    WINDOW,
    Task,
)


class Side:
    """The network of the tutorial, or the convolutional one."""

    packages = ("jaxsnn-nnx", "jax", "jaxlib", "flax", "optax")
    differs = ""

    def __init__(self, task: Task) -> None:
        self.task = task
        rate = training.cosine_schedule(task.learning_rate, EPOCHS, task.minibatches)
        self.recipe, self.state = training.create(
            self.model(),
            optax.sgd(rate, momentum=MOMENTUM),
            to_sequence=frames if task.network == "sew" else data.columns,
            batch_size=task.batch_size,
            seed=0,
        )
        self.data = jnp.asarray(task.images), jnp.asarray(task.labels)
        start = time.perf_counter()
        lowered = training.train_epoch.lower(self.recipe, self.state, *self.data)
        self.train_epoch = lowered.compile()
        self.info = {"compile_s": time.perf_counter() - start}

    def model(self) -> nnx.Module:
        """The model with the task's parameters."""
        if self.task.network == "sew":
            return SEWNet(self.task.start())
        model = models.MODELS[self.task.network](rngs=nnx.Rngs(0))
        start = self.task.start()
        set_linear(model.fc[0], start["w1"], start["b1"])
        set_linear(model.fc[len(model.fc) - 2], start["w2"], start["b2"])
        if self.task.network == "fb":
            set_linear(model.fc[1].rc, start["wr"], start["br"])
        if self.task.network == "ss":
            model.fc[2].w[...] = jnp.asarray(start["tau"])
        return model

    def losses(self, count: int) -> tuple[float, float]:
        """Loss of the first minibatch, and the mean of the first `count`."""
        images, labels = self.data

        def step(state: Any, batch: jax.Array) -> tuple[Any, jax.Array]:
            state, seen = training.train_step(
                self.recipe, state, images[batch], labels[batch], jax.random.key(0)
            )
            return state, seen.loss

        scan = jax.jit(lambda state, order: jax.lax.scan(step, state, order)[1])
        found = np.asarray(scan(self.state, jnp.asarray(self.task.order()[:count])))
        return float(found[0]), float(np.mean(found))

    def epoch(self) -> float:
        """Trains one epoch."""
        start = time.perf_counter()
        self.state, _ = jax.block_until_ready(self.train_epoch(self.state, *self.data))
        return time.perf_counter() - start


class SEWNet(nn.Module):
    """A stem, then twice a block `x + branch(x)` and pooling, then a readout averaged over time."""

    def __init__(self, start: dict[str, np.ndarray]) -> None:
        kernels = [start[f"conv{k}"] for k in range(5)]
        self.stem = conv_bn_if(kernels[:1])
        self.first, self.second = conv_bn_if(kernels[1:3]), conv_bn_if(kernels[3:])
        self.pool, self.flatten = nn.MaxPool((2, 2)), nn.Flatten()
        self.last = nn.Linear((SIDE // 4) ** 2 * CHANNELS, CLASSES, rngs=nnx.Rngs(0))
        set_linear(self.last, start["w"], start["b"])

    def forward(self, xs: jax.Array, run: nn.Run) -> jax.Array:
        """`[T, N, 28, 28, 1]` to `[N, 10]`."""
        run.require_whole_sequence(self)
        xs = run(self.stem, xs)
        for block in (self.first, self.second):
            xs = run(self.pool, xs + run(block, xs))
        return jnp.mean(run(self.last, run(self.flatten, xs)), axis=0)


def conv_bn_if(kernels: list[np.ndarray]) -> nn.Sequential:
    """For each kernel a convolution, batch normalisation, and IF neurons."""
    layers: list[Any] = []
    for kernel in kernels:
        conv = nn.Conv(
            *kernel.shape[2:], (WINDOW, WINDOW), padding=1, use_bias=False, rngs=nnx.Rngs(0)
        )
        conv.kernel[...] = jnp.asarray(kernel)
        layers += [conv, nn.BatchNorm(CHANNELS), nn.IFNode(surrogate_function=surrogate.ATan())]
    return nn.Sequential(*layers)


def frames(images: jax.Array) -> jax.Array:
    """`[N, 28, 28]` uint8 -> `[T, N, 28, 28, 1]` float32: each image at every step."""
    scaled = images.astype(jnp.float32)[..., None] / 255
    return jnp.broadcast_to(scaled, (SEW_STEPS, *scaled.shape))


def set_linear(layer: Any, kernel: np.ndarray, bias: np.ndarray) -> None:
    """Gives a Linear these parameters."""
    layer.kernel[...] = jnp.asarray(kernel)
    layer.bias[...] = jnp.asarray(bias)
