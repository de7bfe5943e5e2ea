"""spyx: `spyx.optimize.compile_fit` on the nearest network that its neurons express.

`compile_fit` compiles anew at every call, so its compiled loop is caught when it is made, and
called again: the time is that of one epoch, without compiling. It does not shuffle, and its data
is laid out beforehand as it wants it: minibatches of float32, time before batch.

It has no batch normalisation, and its `run` goes through time step by step in a scan, from which
Flax's running statistics cannot leave: the convolutional network runs without.
"""

import time
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import spyx
import spyx.nn
import spyx.optimize
from flax import nnx

from sides.task import (
    CHANNELS,
    CLASSES,
    FEATURES,
    HIDDEN,
    MOMENTUM,
    SIDE,
    WINDOW,
    Task,
    columns,
    frames,
)

ATAN = spyx.axn.custom(bwd=lambda u: 1 / (1 + (jnp.pi * u) ** 2))
LATE = "spikes come one step later, soft reset"


class Side:
    """Integrate-and-fire neurons (`IF`), recurrent ones for fb (`RIF`), an `LI` filter for ss."""

    packages = ("spyx", "jax", "jaxlib", "flax", "optax")

    def __init__(self, task: Task) -> None:
        self.task = task
        self.differs = f"spyx IF: {LATE}; data in order"
        if task.network == "ss":
            self.differs = f"spyx IF and LI: {LATE}, linear filter; data in order"
        if task.network == "fb":
            self.differs = f"spyx RIF: {LATE}, feedback has no second bias; data in order"
        if task.network == "sew":
            self.differs = f"spyx IF: {LATE}; no batch normalisation; data in order"
        start = time.perf_counter()
        self.run = self._compile(self._staged())
        jax.block_until_ready(self.run(jax.random.key(0)))
        self.info = {"compile_s": time.perf_counter() - start}

    def _model(self) -> Any:
        start, rngs = self.task.start(), nnx.Rngs(0)
        if self.task.network == "sew":
            return SEWNet(start)
        layers = [nnx.Linear(FEATURES, HIDDEN, rngs=rngs)]
        if self.task.network == "fb":
            layers.append(spyx.nn.RIF((HIDDEN,), activation=ATAN, rngs=rngs))
            layers[1].recurrent_w[...] = jnp.asarray(start["wr"][HIDDEN:])
        else:
            layers.append(spyx.nn.IF((HIDDEN,), activation=ATAN))
        if self.task.network == "ss":
            layers.append(spyx.nn.LI((HIDDEN,), beta=0.5, rngs=rngs))
        layers += [
            nnx.Linear(HIDDEN, CLASSES, rngs=rngs),
            spyx.nn.IF((CLASSES,), activation=ATAN),
        ]
        for layer, name in ((layers[0], "1"), (layers[-2], "2")):
            layer.kernel[...] = jnp.asarray(start["w" + name])
            layer.bias[...] = jnp.asarray(start["b" + name])
        return spyx.nn.Sequential(*layers)

    def _staged(self, count: int | None = None) -> tuple[jax.Array, jax.Array]:
        order = self.task.order()[:count]
        images, labels = self.task.images[order], jnp.asarray(self.task.labels[order])
        if self.task.network == "sew":
            return jnp.asarray(frames(images)[..., None]), labels
        return jnp.asarray(columns(images)), labels

    def _compile(self, staged: tuple[jax.Array, jax.Array]) -> Any:
        """The compiled function inside `compile_fit`; it returns parameters and history."""
        caught = []

        def jit(function: Any, *args: Any, **kwargs: Any) -> Any:
            compiled = original(function, *args, **kwargs)
            if getattr(function, "__name__", "") == "_run":
                caught.append(compiled)
            return compiled

        original = jax.jit
        with mock.patch.object(jax, "jit", jit):
            spyx.optimize.compile_fit(
                self._model(),
                optax.sgd(self.task.learning_rate, momentum=MOMENTUM),
                rate_loss,
                staged,
                epochs=1,
            )
        (run,) = caught
        return run

    def losses(self, count: int) -> tuple[float, float]:
        """Loss of the first minibatch, and the mean of the first `count`."""
        found = [
            self._compile(self._staged(k))(jax.random.key(0))[1]["train_loss"] for k in (1, count)
        ]
        return tuple(float(np.squeeze(value)) for value in found)

    def epoch(self) -> float:
        """Trains the first epoch: each call begins at the start."""
        start = time.perf_counter()
        jax.block_until_ready(self.run(jax.random.key(0)))
        return time.perf_counter() - start


class SEWNet(nnx.Module):
    """A stem, then twice a block `x + branch(x)` and pooling, then a readout; one time step."""

    def __init__(self, start: dict[str, np.ndarray]) -> None:
        kernels = [start[f"conv{k}"] for k in range(5)]
        self.stem = conv_if(kernels[:1], SIDE)
        self.first, self.second = conv_if(kernels[1:3], SIDE), conv_if(kernels[3:], SIDE // 2)
        self.last = nnx.Linear((SIDE // 4) ** 2 * CHANNELS, CLASSES, rngs=nnx.Rngs(0))
        self.last.kernel[...] = jnp.asarray(start["w"])
        self.last.bias[...] = jnp.asarray(start["b"])

    def initial_state(self, batch_size: int) -> list[Any]:
        """The first states."""
        parts = self.stem, self.first, self.second
        return [part.initial_state(batch_size) for part in parts]

    def __call__(self, x: jax.Array, state: list[Any]) -> tuple[jax.Array, list[Any]]:
        """`[N, 28, 28, 1]` to `[N, 10]`."""
        x, stem = self.stem(x, state[0])
        y, first = self.first(x, state[1])
        x = nnx.max_pool(x + y, (2, 2), (2, 2))
        y, second = self.second(x, state[2])
        x = nnx.max_pool(x + y, (2, 2), (2, 2))
        return self.last(x.reshape(len(x), -1)), [stem, first, second]


def conv_if(kernels: list[np.ndarray], side: int) -> spyx.nn.Sequential:
    """For each kernel a convolution and IF neurons."""
    layers: list[Any] = []
    for kernel in kernels:
        conv = nnx.Conv(*kernel.shape[2:], (WINDOW, WINDOW), use_bias=False, rngs=nnx.Rngs(0))
        conv.kernel[...] = jnp.asarray(kernel)
        layers += [conv, spyx.nn.IF((side, side, CHANNELS), activation=ATAN)]
    return spyx.nn.Sequential(*layers)


def rate_loss(model: Any, xs: jax.Array, labels: jax.Array) -> jax.Array:
    """Squared distance of firing rates, or mean outputs, to one-hot labels; `xs` is time first."""
    spikes, _ = spyx.nn.run(model, xs)
    return jnp.mean((jnp.mean(spikes, axis=0) - jax.nn.one_hot(labels, CLASSES)) ** 2)
