"""Checks of training on several devices, for a process that has eight; see test_devices.py.

JAX makes eight devices of one CPU before it starts only, so they run in a process of their own.
"""

import json
import os
import re
import sys
import tempfile
import traceback

if __name__ == "__main__":
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import composed
import jax
import jax.numpy as jnp
import learned_constants
import numpy as np
import optax
import pytest
import quick
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxsnn import data, experiment, models, nn, training

IMAGES = data.fashion_mnist_mini()
TRAIN, TEST = (IMAGES.train_images[:1000], IMAGES.train_labels[:1000]), IMAGES[2:4]
SGD = optax.sgd(0.1, momentum=0.9)


def make(devices, model="fb", batch_size=64, optimizer=SGD, **kwargs):
    dtype = jnp.float64 if jax.config.jax_enable_x64 else jnp.float32
    return training.create(
        models.MODELS[model](param_dtype=dtype, rngs=nnx.Rngs(0)),
        optimizer,
        to_sequence=data.columns,
        batch_size=batch_size,
        seed=3,
        devices=None if devices == 1 else jax.devices()[:devices],
        **kwargs,
    )


def trained(devices, epochs=1, **kwargs):
    recipe, state = make(devices, **kwargs)
    inputs, labels = training.put(recipe, TRAIN)
    for _ in range(epochs):
        state, metrics = training.train_epoch(recipe, state, inputs, labels)
    return recipe, state, metrics


def assert_close(actual, expected, rtol, atol):
    def check(a, b):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=rtol, atol=atol)

    jax.tree.map(check, actual, expected)


def assert_same(actual, expected):
    jax.tree.map(np.testing.assert_array_equal, *map(quick.as_arrays, (actual, expected)))


def check_float64_is_one_device():
    """To rounding: the same examples in the same order. Another order would change digit three."""
    with jax.enable_x64(True):
        for model in models.MODELS:
            _, one, _ = trained(1, epochs=3, model=model)
            for devices in (2, 8):
                _, many, _ = trained(devices, epochs=3, model=model)
                assert_close(many.params, one.params, rtol=0, atol=1e-12)


def check_float32_is_one_device():
    """15 steps, after which rounding has not yet turned into other spikes."""
    _, one, seen = trained(1)
    _, many, seen_by_many = trained(8)
    assert_close(many.params, one.params, rtol=0, atol=1e-5)
    assert_close(seen_by_many, seen, rtol=1e-5, atol=0)


def check_constants_of_each_neuron_are_learned_as_on_one_device():
    """On two, in an epoch on the device and a streamed one; fixed arrays stay as they are."""
    training._stream.CHUNK_BYTES = 4 * 32 * (28 * 28 + 8)
    with jax.enable_x64(True):
        ends = []
        for devices in (None, jax.devices()[:2]):
            net = learned_constants.classifier(jnp.float64)
            optimizer = learned_constants.groups(net)
            recipe, state = learned_constants.create(net, optimizer, devices=devices)
            first = quick.as_arrays(state)
            images = training.put(recipe, learned_constants.TRAIN)
            state, _ = training.train_epoch(recipe, state, *images)
            state, _ = training.stream_epoch(recipe, state, *learned_constants.TRAIN)
            assert_same(state.constants, first.constants)
            ends.append((state.params, state.opt_state))
        assert_close(*ends, rtol=0, atol=1e-12)
        for k, name in ((1, "w"), (1, "w_v_threshold"), (2, "w")):
            now, before = (p["stack"]["layers"][k][name] for p in (ends[1][0], first.params))
            assert np.unique(np.asarray(now) - before).size > 10, (k, name)


def check_a_streamed_epoch_is_the_same():
    """In four chunks, the last one partial."""
    training._stream.CHUNK_BYTES = 4 * 64 * (28 * 28 + 4)
    recipe, state = make(8)
    for _ in range(2):
        state, metrics = training.stream_epoch(recipe, state, *TRAIN)
    _, expected, expected_metrics = trained(8, epochs=2)
    assert_same(state, expected)
    assert_same(metrics, expected_metrics)
    tested = training.stream_evaluate(recipe, state, *TEST)
    assert_same(tested, training.evaluate(recipe, expected, *training.put(recipe, TEST)))


def check_normalisation_and_dropout_are_those_of_one_device(names=tuple(composed.TRAINABLE)):
    """Statistics of the whole minibatch, and masks that do not depend on the number of devices.

    Parameters and running statistics, on the device and streamed; in chunks of two minibatches.
    """
    training._stream.CHUNK_BYTES = 2 * composed.BATCH * (6 * 6 + 4)
    with jax.enable_x64(True):
        for name in names:
            one = composed.trained(name)
            first = composed.norms(training.merge(*composed.create(name)))
            assert first, name
            for devices in (2, 8):
                there = jax.devices()[:devices]
                for streamed in (False, True):
                    many = composed.trained(name, there, streamed=streamed)
                    try:
                        # Relative too: some parameters grow to 30, where 1e-12 is a few roundings.
                        assert_close(many, one, rtol=1e-12, atol=1e-12)
                    except AssertionError as error:
                        error.add_note(f"{name} on {devices} devices, streamed={streamed}")
                        raise


def check_dropout_drops_on_every_device():
    """The same network without dropout, from the same parameters, ends elsewhere."""
    with_dropout, without = (
        composed.trained(name, jax.devices(), epochs=1) for name in ("images", "without dropout")
    )
    assert jax.tree.structure(with_dropout) == jax.tree.structure(without)
    pairs = zip(jax.tree.leaves(with_dropout), jax.tree.leaves(without), strict=True)
    assert sum(np.abs(a - b).max() > 1e-4 for a, b in pairs) > 5


def check_evaluation_uses_the_running_statistics():
    """Of any number of test examples, those that fill up a share not counted."""
    recipe, state = composed.create("padded", jax.devices())
    images = composed.examples(composed.EXAMPLES)
    state, _ = training.train_epoch(recipe, state, *training.put(recipe, images))
    alone = jax.device_put(state, jax.devices()[0])
    one, _ = composed.create("padded")
    for n in (40, 13, 3):
        some = tuple(array[:n] for array in images)
        expected = training.evaluate(one, alone, *some)
        tested = training.evaluate(recipe, state, *training.put(recipe, some))
        assert_close(tested, expected, rtol=1e-5, atol=0)


def check_every_test_example_counts_once():
    (one, state), (many, _) = make(1), make(8)
    for n in (500, 67, 3):
        some = tuple(array[:n] for array in TEST)
        expected = training.evaluate(one, state, *some)
        spread = training.put(many, state)
        tested = training.evaluate(many, spread, *training.put(many, some))
        assert_close(tested, expected, rtol=1e-6, atol=0)


def check_the_state_is_whole_on_every_device():
    recipe, state, _ = trained(8)
    for leaf in jax.tree.leaves(state):
        assert leaf.sharding.is_fully_replicated
        assert len(leaf.sharding.device_set) == 8
    assert recipe.shares == 8


def check_one_all_reduce_a_step():
    """What is communicated: gradients, loss and counts, together; nothing as large as the data."""
    recipe, state = make(8)
    program = training.train_epoch.lower(recipe, state, *training.put(recipe, TRAIN)).compile()
    lines = [line for line in program.as_text().splitlines() if " = " in line]
    for what in ("all-gather(", "all-to-all(", "collective-permute(", "reduce-scatter("):
        assert not [line for line in lines if what in line], what
    assert len([line for line in lines if "all-reduce(" in line]) == 1


def check_nonfinite_updates_are_skipped_alike():
    _, state, metrics = trained(8, optimizer=optax.adam(3e38), skip_nonfinite=True)
    assert metrics.skipped > 0
    _, _, alone = trained(1, optimizer=optax.adam(3e38), skip_nonfinite=True)
    assert_close(metrics._replace(nonfinite_norm=0), alone._replace(nonfinite_norm=0), 1e-5, 0)
    for leaf in jax.tree.leaves(state.params):
        assert jnp.all(jnp.isfinite(leaf))


def check_checkpoints_move_between_numbers_of_devices():
    _, state, metrics = trained(8)
    row = {"epoch": 0, "test_acc": float(metrics.accuracy)}
    for devices in (1, 2, 8):
        with tempfile.TemporaryDirectory() as folder:
            experiment.Checkpoints(folder).save(state, [row])
            _, like = make(devices)
            restored, rows = experiment.Checkpoints(folder).restore(like)
            assert_same(restored, state)
            assert rows == [row]
            for leaf in jax.tree.leaves(restored.params):
                assert len(leaf.sharding.device_set) == devices


class Line(nnx.Module):
    """A line through the inputs, off which a constant is taken."""

    def __init__(self):
        self.layer, self.mean = nn.Linear(3, 2, rngs=nnx.Rngs(0)), jnp.full((1, 3), 0.5)

    def __call__(self, xs):
        return self.layer(xs - self.mean)


def check_targets_constants_and_what_optimizers_ask_for():
    """Losses and gradients that an optimiser asks for are those of the whole minibatch."""
    rng = np.random.default_rng(0)
    data = rng.normal(size=(32, 3)).astype(np.float32), rng.normal(size=(32, 2)).astype(np.float32)
    inner = optax.chain(optax.contrib.normalize(), optax.sgd(0.1))
    plateau = optax.contrib.reduce_on_plateau(0.5, patience=0, accumulation_size=1)
    for optimizer in (
        optax.lbfgs(memory_size=2),
        optax.contrib.sophia(0.01, update_interval=1),
        optax.contrib.sam(optax.sgd(0.1), inner, opaque_mode=True),
        optax.chain(SGD, plateau),
        optax.contrib.prodigy(1.0),
    ):
        outcomes = []
        for devices in (1, 4):
            recipe, state = training.create(
                Line(),
                optimizer,
                loss=lambda outputs, targets: jnp.mean(jnp.square(outputs - targets), axis=-1),
                to_sequence=lambda inputs: inputs,
                batch_size=16,
                seed=0,
                devices=None if devices == 1 else jax.devices()[:devices],
            )
            on_devices = training.put(recipe, data)
            for _ in range(2):
                state, metrics = training.train_epoch(recipe, state, *on_devices)
            tested = training.evaluate(recipe, state, *on_devices)
            outcomes.append((state.params, metrics, tested))
            assert metrics.accuracy is tested.accuracy is None
            assert metrics.finite
            assert jnp.all(training.merge(recipe, state).mean == 0.5)
        assert_close(*outcomes, rtol=1e-4, atol=1e-5)


def check_what_cannot_be_shared_out():
    for make_it, message in (
        (lambda: make(8, batch_size=60), "batch_size=60 cannot be shared out evenly among 8"),
        (lambda: make(0), "devices must hold at least one device"),
        (lambda: training.train_step(*make(8), *TRAIN), "for one device, but recipe has 8"),
    ):
        with pytest.raises(ValueError, match=message):
            make_it()


SHARED = P(None, "batch")


def stacks():
    """A stack for each way in which layers merge axes, and the shape of its inputs."""
    rngs = nnx.Rngs(0)
    dense = nn.Sequential(
        nn.Linear(16, 16, rngs=rngs),
        nn.LinearRecurrentContainer(nn.LIFNode(v_threshold=0.5), 16, 16, rngs=rngs),
        nn.SynapseFilter(learnable=True),
        nn.Linear(16, 6, rngs=rngs),
        nn.LIFNode(v_threshold=0.2),
        nn.contrib.SpikingGRUCell(6, 8, rngs=rngs),
        nnx.Linear(8, 4, rngs=rngs),
    )
    images = nn.Sequential(
        nn.Conv(2, 4, (3, 3), rngs=rngs),
        nn.BatchNorm(4),
        nn.LIFNode(v_threshold=0.3),
        nn.MaxPool((2, 2)),
        nn.AvgPool((2, 2)),
        nn.Flatten(),
        nn.Linear(4, 6, rngs=rngs),
    )
    attention = nn.contrib.SpikingSelfAttention(8, num_heads=2, rngs=rngs)
    return (dense, (5, 8, 16)), (images, (3, 8, 4, 4, 2)), (attention, (3, 8, 2, 8))


def outputs_and_gradients(net, xs):
    def total(net, xs):
        ys = nn.unroll(net, xs)[1]
        return jnp.sum(jnp.square(ys)), ys

    gradients, ys = jax.grad(total, (0, 1), has_aux=True)(net, xs)
    return ys, gradients


@jax.jit
def on_one_device(net, xs):
    return outputs_and_gradients(net, xs)


def shared_out(mesh, net, xs):
    return jax.device_put((net, xs), (NamedSharding(mesh, P()), NamedSharding(mesh, SHARED)))


def collectives(program):
    """Their kinds and the shapes of their results, of a compiled program."""
    kinds = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"
    return re.findall(rf"= (.*?) ({kinds})(?:-start)?\(", program.as_text())


def check_a_mesh_with_automatic_axes():
    """Half the operations on each of two devices; all that crosses are gradients of parameters."""
    mesh = jax.make_mesh((2,), ("batch",), (AxisType.Auto,), devices=jax.devices()[:2])
    for net, shape in stacks():
        xs = 2 * jax.random.normal(jax.random.key(0), shape)
        there = shared_out(mesh, net, xs)
        forward = jax.jit(lambda net, xs: nn.unroll(net, xs)[1])
        program = forward.lower(*there).compile()
        alone = forward.lower(net, xs).compile()
        assert collectives(program) == []
        share = program.cost_analysis()["flops"] / alone.cost_analysis()["flops"]
        assert 0.45 < share < 0.55
        assert program.output_shardings.spec[:2] == (None, "batch")

        program = jax.jit(outputs_and_gradients).lower(*there).compile()
        largest = max(leaf.size for leaf in jax.tree.leaves(net))
        assert largest < xs.size
        for result, kind in collectives(program):
            assert kind == "all-reduce"
            for dims in re.findall(r"\w+\[([\d,]*)\]", result):
                assert np.prod([int(d) for d in dims.split(",") if d]) <= largest, result
        assert_close(program(*there), on_one_device(net, xs), rtol=1e-4, atol=1e-5)


def check_a_mesh_with_explicit_axes():
    mesh = jax.make_mesh((2,), ("batch",), devices=jax.devices()[:2])
    for net, shape in stacks():
        xs = 2 * jax.random.normal(jax.random.key(0), shape)
        with jax.set_mesh(mesh):
            actual = jax.jit(outputs_and_gradients)(*shared_out(mesh, net, xs))
        assert actual[0].sharding.spec[:2] == (None, "batch")
        assert actual[1][1].sharding.spec[:2] == (None, "batch")
        assert_close(actual, on_one_device(net, xs), rtol=1e-4, atol=1e-5)


def check_shard_map():
    """With its default settings; the gradient of what all devices share is their sum."""
    mesh = jax.make_mesh((2,), ("batch",), (AxisType.Auto,), devices=jax.devices()[:2])
    run = jax.shard_map(
        outputs_and_gradients,
        mesh=mesh,
        in_specs=(P(), SHARED),
        out_specs=(SHARED, (P(), SHARED)),
    )
    for net, shape in stacks():
        xs = 2 * jax.random.normal(jax.random.key(0), shape)
        assert_close(jax.jit(run)(net, xs), on_one_device(net, xs), rtol=1e-4, atol=1e-5)


CHECKS = {name: value for name, value in globals().items() if name.startswith("check_")}


def main():
    """Runs all checks, and prints what went wrong with each."""
    outcome = {}
    for name, check in CHECKS.items():
        try:
            check()
            outcome[name] = None
        except BaseException:
            outcome[name] = traceback.format_exc()
    json.dump(outcome, sys.stdout)


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    main()
