"""Why FeedBackNet falls by ten points and more, and what clipping changes.

    python -m experiments.collapse                 # seed 1 at the tutorial's settings, and clipped
    python -m experiments.collapse --seeds 1 2 --out-dir study

Trains the arms `fb` and `fb-clip` from the same start in the same order. After every epoch it looks
at the hidden neurons on the test images (how many are silent, how many fire at every step) and at
the gradient: its norm at each minibatch of the epoch, and its norm at each time step, from the last
to the first.
"""

import argparse
import pathlib
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from experiments._arms import ARMS, Arm, build, optimizer
from jaxsnn import data, losses, training
from jaxsnn.nn import unroll

ARMS_COMPARED = ("fb", "fb-clip")
SILENT, ALWAYS = 0.001, 0.999  # mean firing rate of a neuron over test images and time steps


class Norms(NamedTuple):
    """State of `recorded_norms`: the norms `[steps]`, and how many steps there have been."""

    norms: jax.Array
    step: jax.Array


def recorded_norms(steps: int) -> optax.GradientTransformation:
    """Passes gradients on and keeps their last `steps` norms."""

    def update(grads: Any, state: Norms, params: Any = None) -> tuple[Any, Norms]:
        norms = state.norms.at[state.step % steps].set(training.global_norm(grads))
        return grads, Norms(norms, state.step + 1)

    first = Norms(jnp.zeros(steps), jnp.zeros((), jnp.int32))
    return optax.GradientTransformation(lambda params: jax.tree.map(jnp.copy, first), update)


@jax.jit
def look(model: Any, xs: jax.Array, labels: jax.Array) -> dict[str, jax.Array]:
    """Accuracy, hidden firing rates `[32]`, gradient at the hidden layer's input by time `[T]`."""

    def loss(currents: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        _, hidden = unroll(model.fc[1], currents)
        _, spikes = unroll(model.fc[3], model.fc[2](hidden))
        rates = jnp.mean(spikes, axis=0)
        return jnp.mean(losses.firing_rate_mse(rates, labels)), (hidden, rates)

    grads, (hidden, rates) = jax.grad(loss, has_aux=True)(model.fc[0](xs))
    return {
        "accuracy": jnp.mean(losses.correct(rates, labels)),
        "rates": jnp.mean(hidden, axis=(0, 1)),
        "gradient": jnp.sqrt(jnp.sum(jnp.square(grads), axis=(1, 2))),
    }


def trace(arm: Arm, seed: int, images: data.ImageDataset) -> dict[str, np.ndarray]:
    """Trains, and looks after every epoch.

    Returns:
        `accuracy [epochs]`, `rates [epochs, 32]`, `gradient [epochs, T]`,
        `norms [epochs, minibatches]`.
    """
    train_set = jnp.asarray(images.train_images), jnp.asarray(images.train_labels)
    xs, labels = data.columns(jnp.asarray(images.test_images)), jnp.asarray(images.test_labels)
    steps = len(images.train_labels) // arm.batch_size
    recipe, state = training.create(
        build(arm, seed),
        optax.chain(recorded_norms(steps), optimizer(arm, steps)),
        to_sequence=data.columns,
        batch_size=arm.batch_size,
        seed=seed,
    )
    found = []
    for _ in tqdm(range(arm.epochs), unit="epoch", disable=not sys.stderr.isatty()):
        state, _ = training.train_epoch(recipe, state, *train_set)
        seen = look(training.merge(recipe, state), xs, labels)
        found.append(jax.device_get(seen | {"norms": state.opt_state[0].norms}))
    return jax.tree.map(lambda *values: np.stack(values), *found)


def draw(traces: dict[str, dict[str, np.ndarray]], path: pathlib.Path) -> None:
    """One column for each arm: accuracy, neurons, gradient by epoch, gradient by time step."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import MaxNLocator

    from jaxsnn import plotting

    with plt.rc_context(plotting.STYLE):
        figure, axes = plt.subplots(4, len(traces), figsize=(8, 9), sharey="row", squeeze=False)
        for column, (name, found) in zip(axes.T, traces.items(), strict=True):
            epochs = np.arange(len(found["accuracy"]))
            best, worst = before_and_after(found["accuracy"])
            column[0].plot(epochs, 100 * found["accuracy"])
            column[0].plot([best, worst], 100 * found["accuracy"][[best, worst]], "o")
            column[0].set(title=name, ylabel="test accuracy (%)")
            silent, always = found["rates"] < SILENT, found["rates"] > ALWAYS
            column[1].plot(epochs, np.sum(silent, axis=1), label="silent")
            column[1].plot(epochs, np.sum(always, axis=1), "--", label="always firing")
            column[1].set(ylabel="hidden neurons of 32")
            column[1].yaxis.set_major_locator(MaxNLocator(integer=True))
            column[2].semilogy(epochs, np.median(found["norms"], axis=1), label="median")
            column[2].semilogy(epochs, np.max(found["norms"], axis=1), "--", label="largest")
            column[2].set(xlabel="epoch", ylabel="norm of the gradient")
            for epoch, line, what in ((best, "-", "before"), (worst, "--", "after")):
                label = f"epoch {epoch}, {what}"
                column[3].semilogy(found["gradient"][epoch], line, label=label)
            column[3].set(xlabel="time step", ylabel="gradient at the hidden layer")
            for ax in column[1:]:
                ax.legend()
        figure.savefig(path)
        plt.close(figure)


def before_and_after(accuracy: np.ndarray) -> tuple[int, int]:
    """The two epochs of the largest fall: the highest accuracy before, the lowest after it."""
    falls = np.maximum.accumulate(accuracy) - accuracy
    worst = int(np.argmax(falls))
    return int(np.argmax(accuracy[: worst + 1])), worst


def summary(name: str, found: dict[str, np.ndarray]) -> str:
    """The largest fall in words."""
    best, worst = before_and_after(found["accuracy"])
    lines = [f"{name}:"]
    for epoch in (best, worst):
        rates, norms = found["rates"][epoch], found["norms"][epoch]
        gradient = found["gradient"][epoch]
        lines.append(
            f"  epoch {epoch}: test accuracy {100 * found['accuracy'][epoch]:.1f} %, "
            f"{np.sum(rates < SILENT)} silent and {np.sum(rates > ALWAYS)} always firing of "
            f"{len(rates)}, mean rate {np.mean(rates):.2f}; gradient norm median "
            f"{np.median(norms):.2g}, largest {np.max(norms):.2g}; first step over last "
            f"{gradient[0] / gradient[-1]:.2g}"
        )
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.collapse",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--data-dir")
    parser.add_argument("--out-dir", type=pathlib.Path, default=pathlib.Path("study"))
    args = parser.parse_args(argv)
    jax.config.update("jax_default_matmul_precision", "float32")  # as train.py
    images = data.load("fashion_mnist", args.data_dir)
    args.out_dir.mkdir(parents=True, exist_ok=True)
    for seed in args.seeds:
        traces = {name: trace(ARMS[name], seed, images) for name in ARMS_COMPARED}
        path = args.out_dir / f"collapse_seed{seed}"
        draw(traces, path.with_suffix(".png"))
        print(f"seed {seed}\n" + "\n".join(summary(n, t) for n, t in traces.items()), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
