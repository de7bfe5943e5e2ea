"""Bare JAX, written out for these networks: one step function, `lax.scan` over time, one jit.

What one writes without a library: a surrogate with `jax.custom_vjp`, the whole network as one
step, plain automatic differentiation of the scan, optax, and a scan over shuffled minibatches. The
convolutional network runs layer by layer, since batch normalisation needs all steps, and each
neuron is a scan.
"""

import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sides.task import (
    CLASSES,
    EPOCHS,
    HIDDEN,
    MOMENTUM,
    SEW_STEPS,
    Task,
)


@jax.custom_vjp
def spike(u: jax.Array) -> jax.Array:
    """Heaviside step forward, ATan surrogate (alpha = 2) backward."""
    return (u >= 0).astype(u.dtype)


spike.defvjp(lambda u: (spike(u), u), lambda u, g: (g / (1 + (jnp.pi * u) ** 2),))


def neuron(v: jax.Array, x: jax.Array, detach: bool = False) -> tuple[jax.Array, jax.Array]:
    """Integrate, fire, reset to zero."""
    h = v + x
    s = spike(h - 1.0)
    v = (1 - (jax.lax.stop_gradient(s) if detach else s)) * h
    return v, s


def step(network: str, p: Any, state: Any, x: jax.Array) -> tuple[Any, jax.Array]:
    """One time step of the whole network."""
    hidden, memory, output = state
    current = x @ p["w1"] + p["b1"]
    if network == "fb":
        current = jnp.concatenate([current, memory], axis=-1) @ p["wr"] + p["br"]
    hidden, s = neuron(hidden, current, detach=network == "fb")
    if network == "fb":
        memory = s
    if network == "ss":
        s = memory = memory - (1 - s) * memory * jax.nn.sigmoid(p["tau"]) + s
    output, rate = neuron(output, s @ p["w2"] + p["b2"])
    return (hidden, memory, output), rate


def mean_loss(network: str, p: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
    """Squared distance of firing rates, or mean outputs, to the one-hot labels."""
    if network == "sew":
        return jnp.mean((sew(p, images) - jax.nn.one_hot(labels, CLASSES)) ** 2)
    xs = jnp.transpose(images, (2, 0, 1)).astype(jnp.float32) / 255
    n = len(labels)
    memory = jnp.zeros((n, HIDDEN)) if network != "plain" else ()
    state = jnp.zeros((n, HIDDEN)), memory, jnp.zeros((n, CLASSES))
    _, spikes = jax.lax.scan(functools.partial(step, network, p), state, xs)
    return jnp.mean((jnp.mean(spikes, axis=0) - jax.nn.one_hot(labels, CLASSES)) ** 2)


def sew(p: Any, images: jax.Array) -> jax.Array:
    """Outputs of the convolutional network, `[N, 10]`."""
    xs = images.astype(jnp.float32)[..., None] / 255
    xs = block(p, range(1), jnp.broadcast_to(xs, (SEW_STEPS, *xs.shape)))
    for convolutions in (range(1, 3), range(3, 5)):
        xs = xs + block(p, convolutions, xs)
        window = (1, 1, 2, 2, 1)
        xs = jax.lax.reduce_window(xs, -jnp.inf, jax.lax.max, window, window, "VALID")
    return jnp.mean(xs.reshape(*xs.shape[:2], -1) @ p["w"] + p["b"], axis=0)


def block(p: Any, convolutions: range, xs: jax.Array) -> jax.Array:
    """Convolution, batch normalisation and neurons, as often as given; `xs` is `[T, N, ...]`."""
    for k in convolutions:
        rows = xs.reshape(-1, *xs.shape[2:])
        rows = jax.lax.conv_general_dilated(
            rows, p[f"conv{k}"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        mean, var = jnp.mean(rows, (0, 1, 2)), jnp.var(rows, (0, 1, 2))
        rows = (rows - mean) * jax.lax.rsqrt(var + 1e-5) * p[f"scale{k}"] + p[f"shift{k}"]
        rows = rows.reshape(*xs.shape[:2], *rows.shape[1:])
        _, xs = jax.lax.scan(neuron, jnp.zeros_like(rows[0]), rows)
    return xs


def cosine(rate: float, steps: int, count: jax.Array) -> jax.Array:
    """Learning rate: half a cosine over the run, constant within an epoch."""
    return rate * (1 + jnp.cos(jnp.pi * (count // steps) / EPOCHS)) / 2


class Side:
    """The network, without a library for spiking networks."""

    packages = ("jax", "jaxlib", "optax")
    differs = ""

    def __init__(self, task: Task) -> None:
        self.task = task
        size, steps, n = task.batch_size, task.minibatches, len(task.labels)
        optimizer = optax.sgd(
            functools.partial(cosine, task.learning_rate, steps), momentum=MOMENTUM
        )
        loss = functools.partial(mean_loss, task.network)

        def train(carry: Any, order: jax.Array, images: jax.Array, labels: jax.Array) -> Any:
            def minibatch(carry: Any, batch: jax.Array) -> Any:
                params, state = carry
                value, grads = jax.value_and_grad(loss)(params, images[batch], labels[batch])
                updates, state = optimizer.update(grads, state, params)
                return (optax.apply_updates(params, updates), state), value

            return jax.lax.scan(minibatch, carry, order)

        @functools.partial(jax.jit, donate_argnums=0)
        def epoch(carry: Any, key: jax.Array, images: jax.Array, labels: jax.Array) -> Any:
            order = jax.random.permutation(key, n)[: steps * size].reshape(steps, size)
            return train(carry, order, images, labels)

        self.train, self.keys = jax.jit(train), iter(jax.random.split(jax.random.key(0), 1000))
        params = jax.tree.map(jnp.asarray, task.start())
        for name in [name for name in params if name.startswith("conv")]:
            channels = params[name].shape[-1]
            params[name.replace("conv", "scale")] = jnp.ones(channels)
            params[name.replace("conv", "shift")] = jnp.zeros(channels)
        self.carry = params, optimizer.init(params)
        self.data = jnp.asarray(task.images), jnp.asarray(task.labels)
        start = time.perf_counter()
        self.compiled = epoch.lower(self.carry, jax.random.key(0), *self.data).compile()
        self.info = {"compile_s": time.perf_counter() - start}

    def losses(self, count: int) -> tuple[float, float]:
        """Loss of the first minibatch, and the mean of the first `count`."""
        order = jnp.asarray(self.task.order()[:count])
        found = np.asarray(self.train(self.carry, order, *self.data)[1])
        return float(found[0]), float(np.mean(found))

    def epoch(self) -> float:
        """Trains one epoch."""
        key = next(self.keys)
        start = time.perf_counter()
        self.carry, _ = jax.block_until_ready(self.compiled(self.carry, key, *self.data))
        return time.perf_counter() - start
