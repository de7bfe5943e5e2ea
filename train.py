"""Train a spiking network on Sequential Fashion-MNIST: an image is read column by column.

    python train.py --model ss                        # stateful synapses; also: plain, fb
    python train.py --model fb --clip-norm 1 --seed 3 # options: python train.py --help
    python train.py --resume logs/ss_b256_sgd_lr0.1   # go on after an interruption
    python train.py --evaluate logs/ss_b256_sgd_lr0.1 # test accuracy of the best epoch
    tensorboard --logdir logs

The networks and settings are those of SpikingJelly's tutorial "Recurrent Connection and Stateful
Synapse"; its single-dash options (-model ss -b 256 -opt sgd ...) work too.
"""

import argparse
import datetime
import math
import os
import pathlib
import platform
import shlex
import signal
import sys
import time
from importlib import metadata
from types import FrameType
from typing import Any, NoReturn


def interrupted(number: int, frame: FrameType | None) -> NoReturn:
    """Ctrl-C before training has begun: nothing to save, and imports must not see an exception."""
    print("train.py: interrupted before the first epoch", file=sys.stderr, flush=True)
    os._exit(130)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, interrupted)

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from jaxsnn import checkpointing, data, losses, models, runs, training

# ----------------------------------------------------------------------------- settings

# What a run is, and what a resumed one must share with it.
DEFAULTS: dict[str, Any] = {
    "model": "plain",
    "epochs": 64,
    "batch_size": 256,
    "opt": "sgd",
    "lr": 0.1,
    "momentum": 0.9,
    "clip_norm": None,
    "amp": False,
    "seed": 0,
    "dataset": "fashion_mnist",
    "sequence": "columns",
}
# Where it runs; free to differ when it is resumed.
PLACE: dict[str, Any] = {"device": "auto", "data_dir": None, "out_dir": "./logs"}

OPTIMIZERS = ("sgd", "adam")

# GPUs would otherwise round the operands of float32 matrix products to 10 bits (TF32).
MATMUL_PRECISION = "float32"


def parse(argv: list[str]) -> argparse.Namespace:
    """Reads the command line; what is not given is None."""
    parser = OneLineParser(
        prog="train.py",
        description="Train a spiking network on Sequential Fashion-MNIST.",
        allow_abbrev=False,
    )

    def flag(name: str, *more: str, help: str, **kwargs: Any) -> None:
        default = (DEFAULTS | PLACE).get(name.replace("-", "_"))
        said = "" if default in (None, False) else f" (default: {default})"
        parser.add_argument(f"--{name}", f"-{name}", *more, help=help + said, **kwargs)

    flag("model", choices=tuple(models.MODELS), help="network")
    flag("device", help="auto, cpu, gpu, or one GPU: cuda:0, cuda:1, ...")
    flag("batch-size", "-b", type=integer(1), help="images per minibatch", metavar="N")
    flag("epochs", type=integer(1), help="length of the run", metavar="N")
    flag("workers", "-j", type=integer(0), help="accepted and not needed", metavar="N")
    flag("data-dir", help="folder with Fashion-MNIST (IDX files or prepared by TFDS)")
    flag(
        "out-dir", type=os.path.expanduser, help="where runs are kept, each in a folder of its own"
    )
    flag("resume", type=os.path.expanduser, help="go on with the run in this folder", metavar="RUN")
    flag(
        "evaluate",
        type=os.path.expanduser,
        help="print the test accuracy of the run in this folder",
        metavar="RUN",
    )
    flag("amp", action="store_true", default=None, help="bfloat16 matrix products")
    flag("cupy", action="store_true", default=None, help="accepted and not needed")
    flag("opt", choices=OPTIMIZERS, help="optimiser")
    flag("momentum", type=number(0, 1), help="momentum of sgd")
    flag("lr", type=number(0), help="learning rate of the first epoch")
    flag(
        "seed", type=integer(0, 2**32 - 1), help="of parameters and order of the data", metavar="N"
    )
    flag("dataset", choices=tuple(data.DATASETS), help="data set")
    flag("sequence", choices=tuple(data.SEQUENCES), help="what one time step is")
    flag("clip-norm", type=number(1e-12), help="clip the gradient to this norm (default: off)")
    args = parser.parse_args(argv)
    if args.resume is not None and args.evaluate is not None:
        parser.error("--resume and --evaluate exclude each other")
    return args


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line and exits with 2."""

    def error(self, message: str) -> NoReturn:
        fail(message)


def integer(least: int, most: int | None = None) -> Any:
    """An argument type: an integer of at least `least` and at most `most`."""

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be an integer, got {text!r}") from None
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {value}")
        if most is not None and value > most:
            raise argparse.ArgumentTypeError(f"must be at most {most}, got {value}")
        return value

    return convert


def number(least: float, below: float = math.inf) -> Any:
    """An argument type: a finite number in `[least, below)`."""

    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from None
        if not (math.isfinite(value) and least <= value < below):
            limit = f"at least {least}" + (f" and below {below}" if below < math.inf else "")
            raise argparse.ArgumentTypeError(f"must be finite, {limit}, got {text}")
        return value

    return convert


# ----------------------------------------------------------------------------- the run


def train(args: argparse.Namespace) -> None:
    """Trains a network, or goes on training one."""
    # Settings: those given, else those of the run that is resumed, else the defaults.
    given = given_settings(args)
    config = runs.read_config(args.resume) if args.resume is not None else None
    settings = DEFAULTS | (config["settings"] if config else {}) | given
    run = run_directory(args, settings)
    if config:
        refuse_other_settings(given, config["settings"], run)
    else:
        runs.refuse_occupied(run)
    device = select_device(args.device or PLACE["device"])
    print_notes(args, device)

    # The data, on the device once and for all.
    images = data.load(settings["dataset"], args.data_dir)
    print(
        f"data: {settings['dataset']}, {len(images.train_images)} training and "
        f"{len(images.test_images)} test images, from {images.source}"
    )
    train_size, batch_size = len(images.train_images), settings["batch_size"]
    if batch_size > train_size:
        raise ValueError(
            f"--batch-size {batch_size} is larger than the training set of {train_size} images"
        )
    train_set = jnp.asarray(images.train_images), jnp.asarray(images.train_labels)
    test_set = jnp.asarray(images.test_images), jnp.asarray(images.test_labels)

    # The model, the optimiser, the state.
    model = checkpointing.build_model(settings, settings["seed"])
    steps_per_epoch = train_size // batch_size
    recipe, state = training.create(
        model,
        build_optimizer(settings, steps_per_epoch),
        loss=losses.firing_rate_mse,
        to_sequence=data.SEQUENCES[settings["sequence"]],
        batch_size=batch_size,
        seed=settings["seed"],
    )
    rates = training.cosine_learning_rates(settings["lr"], settings["epochs"])
    history: list[runs.Row] = []

    # The run's directory, which from here on is ours alone.
    with runs.lock(run):
        digest = data.fingerprint(images)
        if config is None:
            config = {"settings": settings, "data": digest, "sessions": []}
            runs.create(run, config)
        elif config["data"] != digest:
            raise ValueError(
                f"the data of {run} had the fingerprint {config['data']}, this has {digest} "
                f"(from {images.source}): other images, or the same in another order"
            )
        checkpoints = checkpointing.Checkpoints(run)
        if args.resume is not None and checkpoints.epoch() is not None:
            state, history = checkpoints.restore(state)
            if len(history) >= settings["epochs"]:
                raise ValueError(f"{run} has already finished its {settings['epochs']} epochs")
        config["sessions"].append(session(device, images.source, first_epoch=len(history)))
        runs.write_config(run, config)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # from now on, see main
        print(f"run: {run}, {settings}")
        print(model)
        start = time.perf_counter()
        train_epoch = training.train_epoch.lower(recipe, state, *train_set).compile()
        evaluate = training.evaluate.lower(recipe, state, *test_set).compile()
        print(f"compiled in {time.perf_counter() - start:.1f} s", flush=True)

        # The epochs: one call trains a whole one, another tests it.
        first = len(history)
        no_bar = not sys.stderr.isatty()
        with (
            runs.Log(run, history) as log,
            tqdm(total=settings["epochs"], initial=first, unit="epoch", disable=no_bar) as progress,
        ):
            began = time.perf_counter()
            for epoch in range(first, settings["epochs"]):
                start = time.perf_counter()
                state, trained = jax.block_until_ready(train_epoch(state, *train_set))
                middle = time.perf_counter()
                tested = jax.block_until_ready(evaluate(state, *test_set))
                end = time.perf_counter()
                refuse_nonfinite(epoch, trained, tested, run)

                state = state._replace(
                    best_accuracy=jnp.maximum(state.best_accuracy, tested.accuracy)
                )
                history.append(
                    {
                        "epoch": epoch,
                        "train_loss": float(trained.loss),
                        "train_acc": float(trained.accuracy),
                        "test_loss": float(tested.loss),
                        "test_acc": float(tested.accuracy),
                        "train_images_per_s": steps_per_epoch * batch_size / (middle - start),
                        "test_images_per_s": len(test_set[1]) / (end - middle),
                        "lr": float(np.float32(rates[epoch])),
                    }
                )
                log.write(history)  # before the checkpoint: a finished run has a complete log
                checkpoints.save(state, history)
                progress.update()
                per_epoch = (time.perf_counter() - began) / (epoch + 1 - first)
                seconds_left = per_epoch * (settings["epochs"] - epoch - 1)
                tqdm.write(epoch_line(history, seconds_left), file=sys.stdout)
                sys.stdout.flush()
        top = max(history, key=lambda row: row["test_acc"])
        print(
            f"done: test_acc = {history[-1]['test_acc']:.4f} after {len(history)} epochs, "
            f"max_test_acc = {top['test_acc']:.4f} in epoch {top['epoch']}; {run}"
        )


def evaluate_run(args: argparse.Namespace) -> None:
    """Prints the test accuracy of a run's best epoch."""
    config = runs.read_config(args.evaluate)
    settings = config["settings"]
    refuse_other_settings(given_settings(args), settings, pathlib.Path(args.evaluate))
    print_notes(args, select_device(args.device or PLACE["device"]))
    images = data.load(settings["dataset"], args.data_dir)
    if data.fingerprint(images) != config["data"]:
        print("note: not the data of the training, or the same in another order")
    recipe, state = training.create(
        checkpointing.load_model(args.evaluate, "max"),
        optax.identity(),
        to_sequence=data.SEQUENCES[settings["sequence"]],
        batch_size=min(settings["batch_size"], len(images.test_images)),
        seed=0,
    )
    metrics = training.evaluate(
        recipe, state, jnp.asarray(images.test_images), jnp.asarray(images.test_labels)
    )
    print(
        f"{args.evaluate}: epoch {checkpointing.Checkpoints(args.evaluate).epoch('max')}, "
        f"test_loss = {metrics.loss:.4f}, test_acc = {metrics.accuracy:.4f} "
        f"({len(images.test_images)} images)"
    )


# ----------------------------------------------------------------------------- its parts


def build_optimizer(settings: dict[str, Any], steps_per_epoch: int) -> optax.GradientTransformation:
    """SGD or Adam at a cosine learning rate, after clipping if that is asked for."""
    rate = training.cosine_schedule(settings["lr"], settings["epochs"], steps_per_epoch)
    if settings["opt"] == "sgd":
        optimizer = optax.sgd(rate, momentum=settings["momentum"])
    else:
        optimizer = optax.adam(rate)
    if settings["clip_norm"] is None:
        return optimizer
    return optax.chain(optax.clip_by_global_norm(settings["clip_norm"]), optimizer)


def given_settings(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that the command line names."""
    return {name: value for name in DEFAULTS if (value := getattr(args, name)) is not None}


def run_directory(args: argparse.Namespace, settings: dict[str, Any]) -> pathlib.Path:
    """The folder of the run, named as the tutorial names it, with what is ours at the end."""
    name = "{model}_b{batch_size}_{opt}_lr{lr:g}".format(**settings)
    name += "_amp" if settings["amp"] else ""
    name += "" if settings["clip_norm"] is None else f"_clip{settings['clip_norm']:g}"
    name += "" if settings["seed"] == DEFAULTS["seed"] else f"_seed{settings['seed']}"
    for key in ("dataset", "sequence"):
        name += "" if settings[key] == DEFAULTS[key] else f"_{settings[key]}"
    planned = pathlib.Path(args.out_dir or PLACE["out_dir"]) / name
    if args.resume is None:
        return planned
    run = pathlib.Path(args.resume)
    if args.out_dir is not None and run.resolve() != planned.resolve():
        raise ValueError(
            f"--out-dir {args.out_dir} would put the run into {planned}, but --resume goes on "
            f"in {run}: leave out --out-dir"
        )
    return run


def refuse_other_settings(
    given: dict[str, Any], settings: dict[str, Any], run: pathlib.Path
) -> None:
    """A run keeps its settings; what the command line says must agree with them."""
    for name, value in given.items():
        if value != settings[name]:
            raise ValueError(
                f"--{name.replace('_', '-')} {value} differs from the {settings[name]} with which "
                f"{run} was started; leave it out to go on, or start a new run"
            )


def select_device(name: str) -> jax.Device:
    """Chooses the device before any backend starts, and makes it the default."""
    kind, _, index = name.partition(":")
    if kind not in ("auto", "cpu", "gpu", "cuda") or (index and kind != "cuda"):
        raise ValueError(f"--device must be auto, cpu, gpu or cuda:0, cuda:1, ..., got {name!r}")
    if index and not index.isdigit():
        raise ValueError(f"--device {name}: {index!r} is not the number of a GPU")
    if kind == "cpu":
        jax.config.update("jax_platforms", "cpu")
    try:
        devices = jax.devices("cuda" if kind in ("gpu", "cuda") else None)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"--device {name}: jax finds no such device ({reason}); use --device cpu, or install "
            "jax with CUDA: pip install -e '.[cuda12]'"
        ) from error
    if int(index or 0) >= len(devices):
        raise ValueError(f"--device {name}: there are only {len(devices)} GPUs, from cuda:0 on")
    device = devices[int(index or 0)]
    jax.config.update("jax_default_device", device)
    jax.config.update("jax_default_matmul_precision", MATMUL_PRECISION)
    print(f"device: {device.device_kind} ({device.platform}:{device.id}), jax {jax.__version__}")
    return device


def print_notes(args: argparse.Namespace, device: jax.Device) -> None:
    """Says what an option does not do here, and what is amiss."""
    if args.cupy:
        print("note: --cupy has nothing to switch: XLA compiles the neurons on every device")
    if args.workers is not None:
        print("note: --workers has nothing to switch: the whole data set lives on the device")
    asked = args.device or PLACE["device"]
    nvidia = any(map(os.path.exists, ("/proc/driver/nvidia/gpus", "/dev/nvidia0")))
    if asked == "auto" and device.platform == "cpu" and nvidia:
        print(
            "warning: this machine has an NVIDIA GPU, but jax was installed without CUDA; "
            "pip install -e '.[cuda12]' makes it usable",
            file=sys.stderr,
        )


def session(device: jax.Device, source: str, first_epoch: int) -> dict[str, Any]:
    """What config.json says of this call of the program."""
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {
        "command": shlex.join([pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]),
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "first_epoch": first_epoch,
        "device": f"{device.device_kind} ({device.platform}:{device.id})",
        "cpu_count": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {package: metadata.version(package) for package in packages},
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "matmul_precision": MATMUL_PRECISION,
        "data_source": source,
    }


def refuse_nonfinite(
    epoch: int, trained: training.Metrics, tested: training.Metrics, run: pathlib.Path
) -> None:
    """Ends a run whose numbers have left the real ones; its checkpoints stay."""
    if not (trained.finite and tested.finite):
        raise ValueError(
            f"epoch {epoch}: the loss or a parameter is not finite (train_loss = {trained.loss}, "
            f"test_loss = {tested.loss}), so training stops; the checkpoints in {run} are those "
            "of the epochs before. Try a smaller --lr, or --clip-norm 1"
        )


def epoch_line(history: list[runs.Row], seconds_left: float) -> str:
    """One line for the epoch that has just ended."""
    row = history[-1]
    best = max(past["test_acc"] for past in history)
    return (
        f"epoch = {row['epoch']}, train_loss = {row['train_loss']:.4f}, "
        f"train_acc = {row['train_acc']:.4f}, test_loss = {row['test_loss']:.4f}, "
        f"test_acc = {row['test_acc']:.4f}, max_test_acc = {best:.4f}, "
        f"train {row['train_images_per_s']:,.0f} images/s, "
        f"test {row['test_images_per_s']:,.0f} images/s, "
        f"left = {datetime.timedelta(seconds=round(seconds_left))}"
    )


def fail(message: str) -> NoReturn:
    """One line on stderr, exit status 2."""
    print(f"train.py: error: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(2)


def main(argv: list[str]) -> None:
    """Runs the command line; bad input ends in one line and exit status 2, Ctrl-C in 130."""
    args = parse(argv)
    try:
        train(args) if args.evaluate is None else evaluate_run(args)
    except KeyboardInterrupt:
        print("train.py: interrupted; --resume goes on after the last epoch", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except (ValueError, OSError) as error:
        fail(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
