"""jaxsnn minibatch by minibatch: `jax.jit(training.train_step)` in a loop in Python.

The same steps as the side jaxsnn, without the loop of `train_epoch` around them in the program. The
order is made on the device as there, and a minibatch is gathered before the step.
"""

import time
from typing import Any

import jax
import jax.numpy as jnp

from jaxsnn import training
from sides import jaxsnn_side


class Side(jaxsnn_side.Side):
    """The network of the task, one call per minibatch."""

    differs = "one call of jax.jit(train_step) per minibatch"

    def __init__(self, task: Any) -> None:
        super().__init__(task)

        def step(state: Any, images: jax.Array, labels: jax.Array, batch: jax.Array) -> Any:
            key = jax.random.fold_in(state.key, state.step)
            return training.train_step(self.recipe, state, images[batch], labels[batch], key)

        batch = jnp.arange(task.batch_size)
        start = time.perf_counter()
        lowered = jax.jit(step, donate_argnums=0).lower(self.state, *self.data, batch)
        self.step = lowered.compile()
        self.info = {"compile_s": time.perf_counter() - start}

    def epoch(self) -> float:
        """Trains one epoch."""
        size, steps = self.task.batch_size, self.task.minibatches
        start = time.perf_counter()
        order = jax.random.permutation(self.state.key, len(self.data[1]))
        for batch in order[: size * steps].reshape(steps, size):
            self.state, _ = self.step(self.state, *self.data, batch)
        jax.block_until_ready(self.state)
        return time.perf_counter() - start
