"""Train a spiking network on Sequential Fashion-MNIST: an image is read column by column.

    python train.py --model ss                        # stateful synapses; also: plain, fb
    python train.py --model fb --clip-norm 1 --seed 3 # options: python train.py --help
    python train.py --resume logs/ss_b256_sgd_lr0.1   # go on after an interruption
    python train.py --model fb --init-from fb.npz     # start from these parameters
    python train.py --model ss --devices all          # share minibatches out among all devices
    python train.py --model ss --validation 0.1       # choose the best epoch without the test set
    python train.py --evaluate logs/ss_b256_sgd_lr0.1 # test accuracy of the best epoch
    python train.py --model ss --doctor               # would it learn? who fires, what gradients
    tensorboard --logdir logs

The networks and settings are those of SpikingJelly's tutorial "Recurrent Connection and Stateful
Synapse"; its single-dash options (-model ss -b 256 -opt sgd ...) work too. `Config` in
jaxsnn/experiment/_config.py declares the hyperparameters: a new field is an option, is kept in
config.json and checked on resume. `Runtime` beside it declares where and how to run. A network is
a class in jaxsnn/models.py, made by `(dtype=, rngs=)`; an entry in `MODELS` there makes it a
choice of --model. `Run` keeps the folder of a run with its checkpoints, the latest and the best.
--evaluate and --doctor, which train nothing, are in jaxsnn/experiment/_examine.py.

Exit status: 0 the run has ended; 2 the command line, a file or the numbers are wrong; 75 a full
disk or a lost process: mend it and go on with --resume; 130 Ctrl-C and 143 SIGTERM: what was
trained is saved and --resume goes on.
"""

import os
import signal
import sys


def interrupted(*_: object) -> None:
    """End on Ctrl-C until `Run` takes it over: there is nothing to save yet."""
    print("train.py: interrupted before the first epoch", file=sys.stderr, flush=True)
    os._exit(130)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, interrupted)

import time
from collections.abc import Callable
from typing import Any

import jax
import optax

from jaxsnn import data, experiment, losses, training
from jaxsnn.experiment import Config, Run, Runtime
from jaxsnn.firing import firing_rates
from jaxsnn.training import Metrics, Recipe, TrainState

LOSS = losses.firing_rate_mse


def train(config: Config, runtime: Runtime) -> None:
    """Train a network, or go on training one."""
    run = Run(config, runtime)
    images = run.load_data()
    steps = len(images.train_images) // config.batch_size  # minibatches of an epoch
    learning_rate = training.cosine_schedule(config.lr, config.epochs, steps)
    model = experiment.new_model(config, runtime)
    recipe, state = training.create(
        model,
        build_optimizer(config, learning_rate),
        loss=LOSS,
        to_sequence=data.SEQUENCES[config.sequence],
        batch_size=config.batch_size,
        seed=config.seed,
        skip_nonfinite=config.skip_nonfinite,
        devices=run.devices,
    )
    with run.begin(state) as state:  # makes the folder, or restores the latest checkpoint
        print(model)
        train_epoch, evaluate, validate = programs(run, recipe, state)
        rates = firing_rates(recipe, images.test_images[: config.batch_size])
        for epoch in run.epochs():
            run.save_or_stop(state)  # saves every --save-every seconds; on a signal saves and ends
            done = int(state.tally.minibatches)  # trained before a resume within the epoch, else 0
            begin = time.perf_counter()
            state, trained = jax.block_until_ready(train_epoch(state))
            middle = time.perf_counter()
            tested = jax.block_until_ready(evaluate(state))
            end = time.perf_counter()
            run.record(  # in metrics.csv, TensorBoard and on the terminal; remembers the best state
                state,
                trained,
                tested,
                validate(state),
                lr=float(learning_rate(epoch * steps)),
                train_images_per_s=(steps - done) * config.batch_size / (middle - begin),
                test_images_per_s=len(images.test_labels) / (end - middle),
                firing_rates=rates(state),
            )
        run.end(state)  # saves the last epoch


def build_optimizer(config: Config, learning_rate: Any) -> optax.GradientTransformation:
    """SGD or Adam, after clipping if that is asked for."""
    if config.opt == "sgd":
        optimizer = optax.sgd(learning_rate, momentum=config.momentum)
    else:
        optimizer = optax.adam(learning_rate)
    if config.clip_norm is None:
        return optimizer
    return optax.chain(training.clip_by_global_norm(config.clip_norm), optimizer)


def programs(
    run: Run, recipe: Recipe, state: TrainState
) -> tuple[Callable[..., Any], Callable[..., Metrics], Callable[..., Metrics | None]]:
    """Return the functions that train an epoch, `state -> (state, metrics)`, test and validate.

    With data on the device each is one compiled call.
    """
    train_set = run.images.train_images, run.images.train_labels
    test_set = run.images.test_images, run.images.test_labels
    if run.runtime.data_placement == "host":
        workers = run.runtime.workers

        def train_epoch(state: TrainState) -> Any:
            return training.stream_epoch(
                recipe, state, *train_set, workers=workers, between=run.save_in_epoch
            )

        def test_on(arrays: Any) -> Callable[..., Metrics]:
            return lambda state: training.stream_evaluate(recipe, state, *arrays, workers=workers)

        return train_epoch, test_on(test_set), test_on(run.held_out) if run.held_out else nothing

    def compiled(function: Any, arrays: Any) -> Callable[..., Any]:
        """Put the data on the device once and for all; one call trains or tests a whole epoch."""
        on_device = training.put(recipe, arrays)
        program = function.lower(recipe, state, *on_device).compile()
        return lambda state: program(state, *on_device)

    start = time.perf_counter()
    train_epoch = compiled(training.train_epoch, train_set)
    evaluate = compiled(training.evaluate, test_set)
    validate = compiled(training.evaluate, run.held_out) if run.held_out else nothing
    print(f"compiled in {time.perf_counter() - start:.1f} s", flush=True)
    return train_epoch, evaluate, validate


def nothing(state: TrainState) -> None:
    """Return no metrics, where no images were held out for validation."""


if __name__ == "__main__":
    experiment.main(train, LOSS, sys.argv[1:])
