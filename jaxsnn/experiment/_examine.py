"""Two looks at a network without training it: its test accuracy, and the doctor."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxsnn import data, diagnosis, training
from jaxsnn.experiment import _folder
from jaxsnn.experiment._checkpoints import Checkpoints, load_model
from jaxsnn.experiment._config import Config, Runtime
from jaxsnn.experiment._run import load_data, new_model, select_devices

Loss = Callable[[jax.Array, jax.Array], jax.Array]


def evaluate(config: Config, runtime: Runtime, loss: Loss) -> None:
    """Print the test accuracy of the best epoch of a run."""
    run = str(runtime.run)
    select_devices(runtime)
    images, _ = load_data(config, runtime)
    if data.fingerprint(images) != _folder.read_config(run)["data"]:
        print("note: not the data of the training, or the same in another order")
    recipe, state = training.create(
        load_model(run, "max"),
        optax.identity(),
        loss=loss,
        to_sequence=data.SEQUENCES[config.sequence],
        batch_size=min(config.batch_size, len(images.test_images)),
        seed=0,
    )
    metrics = training.evaluate(
        recipe, state, jnp.asarray(images.test_images), jnp.asarray(images.test_labels)
    )
    best = Checkpoints(run).history("max")[-1]
    print(
        f"{run}: epoch {best['epoch']}, "
        + (f"chosen by val_acc = {best['val_acc']:.4f}, " if "val_acc" in best else "")
        + f"test_loss = {metrics.loss:.4f}, test_acc = {metrics.accuracy:.4f} "
        f"({len(images.test_images)} images)"
    )


def doctor(config: Config, runtime: Runtime, loss: Loss) -> None:
    """Print what `jaxsnn.doctor` says of a new network, or of that of a run."""
    select_devices(runtime)
    images, _ = load_data(config, runtime)
    if runtime.run is None:
        model = new_model(config, runtime)
    else:
        model = load_model(runtime.run, "latest" if runtime.evaluate is None else "max")
    order = training.epoch_order(jax.random.key(config.seed), 0, len(images.train_images))
    batch = np.asarray(order[: config.batch_size])
    xs = data.SEQUENCES[config.sequence](images.train_images[batch])
    print(f"first minibatch of {config.dataset}, from {images.source}", end="\n\n")
    print(diagnosis.doctor(model, xs, images.train_labels[batch], loss=loss))
