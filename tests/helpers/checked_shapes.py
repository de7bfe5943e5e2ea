"""Runs the package with a type checker switched on; see test_shapes.py.

It must be switched on before the package is imported, so this is a program of its own.
"""

import os
import tempfile

import jaxtyping

if __name__ == "__main__":
    with jaxtyping.install_import_hook("jaxsnn", "beartype.beartype"):
        import jaxsnn  # noqa: F401  (now, so that the hook sees it)

import every_shape
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cells import CELLS, F
from flax import nnx

from jaxsnn import (
    data,
    diagnosis,
    export,
    functional,
    losses,
    models,
    nn,
    readouts,
    surrogate,
    training,
)


def refused(parameter, function, *arguments, **settings):
    with pytest.raises(jaxtyping.TypeCheckError, match=f"typechecking parameter '{parameter}'"):
        function(*arguments, **settings)


def run_cells():
    for row in CELLS.values():
        cell, xs = row.make(), jnp.ones((3, 2, *row.shape, F))
        jax.eval_shape(jax.grad(lambda xs, cell=cell: nn.unroll(cell, xs)[1].sum()), xs)


def functions_and_layers():
    for function, _, right in every_shape.ROWS:
        every_shape.trace(function, right)


def train():
    images, labels = np.zeros((4, 28, 28), np.uint8), np.zeros(4, np.int32)
    on_device = jnp.asarray(images), jnp.asarray(labels)
    for net in models.MODELS.values():
        recipe, state = training.create(
            net(rngs=nnx.Rngs(0)),
            optax.sgd(0.1),
            to_sequence=data.columns,
            batch_size=2,
            seed=0,
        )
        state, _ = training.train_epoch(recipe, state, *on_device)
    training.evaluate(recipe, state, *on_device)
    training.stream_evaluate(recipe, state, images, labels)
    jax.eval_shape(lambda state: training.train_step(recipe, state, *on_device), state)
    state, _ = training.stream_epoch(recipe, state, images, labels)
    refused("xs", net(rngs=nnx.Rngs(0)), jnp.ones((28, 4, 27)))
    refused("mask", readouts.firing_rate, jnp.ones((5, 4, 3)), mask=jnp.ones((4, 5), bool))
    refused("labels", losses.firing_rate_mse, jnp.ones((4, 10)), jnp.zeros(3, jnp.int32))
    refused("images", data.columns, images.astype(np.float32))
    neuron = {
        "surrogate_function": surrogate.ATan(),
        "v_threshold": 1.0,
        "v_reset": 0.0,
        "detach_reset": False,
    }
    refused("x", functional.if_step, jnp.ones((5, 3)), jnp.ones(3), **neuron)
    one_hot = jnp.ones((4, 10))
    refused("labels", training.train_step, recipe, state, on_device[0], one_hot)
    refused("labels", training.train_epoch, recipe, state, on_device[0], one_hot)
    refused("labels", training.evaluate, recipe, state, on_device[0], one_hot)
    refused("labels", training.stream_epoch, recipe, state, images, np.asarray(one_hot))


def diagnose():
    net = nn.Sequential(nn.Linear(4, 3, rngs=nnx.Rngs(0)), nn.LIFNode())
    xs = np.random.default_rng(0).random((5, 2, 4)).astype(np.float32)
    diagnosis.doctor(net, xs, np.zeros(2, int), key=jax.random.key(0))
    refused("xs", diagnosis.doctor, net, xs[0])
    refused("labels", diagnosis.doctor, net, xs, np.zeros(5, int))
    calibrated = diagnosis.calibrate(net, xs, 0.2).model
    refused("xs", diagnosis.calibrate, net, xs[:, 0])
    refused("key", nn.unroll, calibrated, xs, key=jnp.zeros(2, jnp.uint32))

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "net.zip")
        export.save(path, calibrated, (2, 4), steps=5)
        network = export.load(path)
    carry = network.start(xs[0])
    carry, _ = network.step(carry, xs[0])
    network.run(xs)
    refused("x", network.start, 1.0)
    refused("xs", network.run, xs[0, 0, 0])


if __name__ == "__main__":
    run_cells()
    functions_and_layers()
    train()
    diagnose()
