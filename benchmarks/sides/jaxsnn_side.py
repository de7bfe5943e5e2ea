"""jaxsnn as train.py runs it: `training.create`, then `training.train_epoch` compiled once."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxsnn import data, models, training
from sides.task import EPOCHS, LEARNING_RATE, MOMENTUM, Task


class Side:
    """The network of the tutorial."""

    packages = ("jaxsnn-nnx", "jax", "jaxlib", "flax", "optax")
    differs = ""

    def __init__(self, task: Task) -> None:
        self.task = task
        rate = training.cosine_schedule(LEARNING_RATE, EPOCHS, task.minibatches)
        self.recipe, self.state = training.create(
            self.model(),
            optax.sgd(rate, momentum=MOMENTUM),
            to_sequence=data.columns,
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
            state, seen = training.train_step(self.recipe, state, images[batch], labels[batch])
            return state, seen.loss

        scan = jax.jit(lambda state, order: jax.lax.scan(step, state, order)[1])
        found = np.asarray(scan(self.state, jnp.asarray(self.task.order()[:count])))
        return float(found[0]), float(np.mean(found))

    def epoch(self) -> float:
        """Trains one epoch."""
        start = time.perf_counter()
        self.state, _ = jax.block_until_ready(self.train_epoch(self.state, *self.data))
        return time.perf_counter() - start


def set_linear(layer: Any, kernel: np.ndarray, bias: np.ndarray) -> None:
    """Gives a Linear these parameters."""
    layer.kernel[...] = jnp.asarray(kernel)
    layer.bias[...] = jnp.asarray(bias)
