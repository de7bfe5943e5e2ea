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
Synapse"; its single-dash options (-model ss -b 256 -opt sgd ...) work too.

Exit status: 0 the run has ended; 2 the command line, a file or the numbers are wrong; 75 something
passing (a full disk, another process was lost), so free the disk or start anew with --resume; 130
Ctrl-C and 143 SIGTERM, everything up to there is saved and --resume goes on.
"""

import argparse
import contextlib
import hashlib
import json
import os
import pathlib
import signal
import sys
import time
from collections.abc import Callable
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

from jaxsnn import checkpointing, data, devices, doctor, endings, losses, models, runs, training
from jaxsnn.command_line import OneLineParser, integer, integer_or_all, number
from jaxsnn.firing import firing_rates
from jaxsnn.interop import spikingjelly

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
    "skip_nonfinite": False,
    "amp": False,
    "seed": 0,
    "dataset": "fashion_mnist",
    "sequence": "columns",
    "init_from": None,  # on the command line a file, in a run the SHA-256 of what it held
    "validation": None,  # share of the training set that is held out to choose the best epoch
}
# Where it runs; free to differ when it is resumed.
PLACE: dict[str, Any] = {
    "device": "auto",
    "devices": 1,
    "data_placement": "device",
    "workers": 2,
    "data_dir": None,
    "out_dir": "./logs",
    "save_every": 60,
}

OPTIMIZERS = ("sgd", "adam")

# GPUs would otherwise round the operands of float32 matrix products to 10 bits (TF32).
MATMUL_PRECISION = "float32"


def parse(argv: list[str]) -> argparse.Namespace:
    """Reads the command line; what is not given is None."""
    parser = OneLineParser(
        prog="train.py",
        description="Train a spiking network on Sequential Fashion-MNIST.",
        epilog="Exit status: 0 the run has ended; 2 the input or the numbers are wrong; "
        "75 something passing, go on with --resume; 130 Ctrl-C or 143 SIGTERM, saved.",
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
    flag("devices", type=integer_or_all, help="how many devices share a minibatch", metavar="N|all")
    flag("distributed", action="store_true", default=None, help="one of several processes")
    flag("coordinator", help="process 0, for --distributed", metavar="HOST:PORT")
    flag("num-processes", type=integer(1), help="how many processes there are", metavar="N")
    flag("process-id", type=integer(0), help="number of this process", metavar="K")
    flag("data-placement", choices=("device", "host"), help="where the data set lives")
    flag("workers", "-j", type=integer(0), help="threads that read ahead on the host", metavar="N")
    flag("data-dir", help="folder with Fashion-MNIST (IDX files or prepared by TFDS)")
    flag(
        "out-dir", type=os.path.expanduser, help="where runs are kept, each in a folder of its own"
    )
    flag(
        "save-every",
        type=number(0),
        help="what a kill may cost; 0 saves after every epoch",
        metavar="SECONDS",
    )
    flag("resume", type=os.path.expanduser, help="go on with the run in this folder", metavar="RUN")
    flag(
        "evaluate",
        type=os.path.expanduser,
        help="print the test accuracy of the run in this folder",
        metavar="RUN",
    )
    flag(
        "doctor",
        action="store_true",
        default=None,
        help="train nothing: look at the network on the first minibatch; with --resume or "
        "--evaluate at that run's latest or best",
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
    flag(
        "skip-nonfinite",
        action="store_true",
        default=None,
        help="leave out updates that are not finite, and count them",
    )
    flag(
        "init-from",
        type=os.path.expanduser,
        help="start from the parameters in this file: .npz, .safetensors, .pth",
        metavar="FILE",
    )
    flag(
        "validation",
        type=number(1e-9, 1),
        help="hold out this share of the training set, and choose the best epoch by it "
        "(default: by the test set, as the tutorial does)",
        metavar="SHARE",
    )
    flag(
        "overwrite",
        action="store_true",
        default=None,
        help="remove the run of the same name, if there is one, and start anew",
    )
    if not argv:
        parser.error(
            f"choose a network with --model {', '.join(models.MODELS)}; --help lists all options"
        )
    args = parser.parse_args(argv)
    if args.resume is not None and args.evaluate is not None:
        parser.error("--resume and --evaluate exclude each other")
    processes = (args.coordinator, args.num_processes, args.process_id)
    args.distributed = bool(args.distributed) or any(value is not None for value in processes)
    if args.evaluate is not None or args.doctor:
        instead = "--doctor" if args.doctor else "--evaluate"
        for name in ("distributed", "devices", "data_placement", "workers"):
            if getattr(args, name) not in (None, False):
                parser.error(f"--{name.replace('_', '-')} is for training, not for {instead}")
    old = args.evaluate is not None or (args.doctor and args.resume is not None)
    if old and args.init_from is not None:
        parser.error("--init-from is for a new network, not for that of a run")
    if args.overwrite and (args.doctor or args.resume is not None or args.evaluate is not None):
        parser.error("--overwrite is for a new run, not with --resume, --evaluate or --doctor")
    return args


# ----------------------------------------------------------------------------- the run


def train(args: argparse.Namespace) -> None:
    """Trains a network, or goes on training one."""
    if place(args, "data_placement") == "host":
        training.import_grain()  # missed now, before there is anything on the disk
    if args.distributed:
        devices.join(args.coordinator, args.num_processes, args.process_id)
    # Settings: those given, else those of the run that is resumed, else the defaults.
    given = given_settings(args)
    config = runs.read_config(args.resume) if args.resume is not None else None
    settings = DEFAULTS | (config["settings"] if config else {}) | given
    run = run_directory(args, settings)
    checkpointing.check_path(run)
    if config:
        refuse_other_settings(given, config["settings"], run)
    chosen = select_devices(args)
    leads = jax.process_index() == 0  # of several processes one reports and writes
    if not leads:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    print_notes(args, chosen)

    # The data.
    images, held_out, digest = load_data(args, settings)
    print(
        f"data: {settings['dataset']}, {len(images.train_images)} training"
        + (f", {len(held_out[1])} validation" if held_out else "")
        + f" and {len(images.test_images)} test images, from {images.source}"
    )
    train_size, batch_size = len(images.train_images), settings["batch_size"]
    refuse_batch_size(batch_size, train_size)
    if not config:
        runs.refuse_occupied(run, bool(args.overwrite))
    refuse_difference(settings, digest, str(run.absolute()), place(args, "data_placement"))

    # The model, the optimiser, the state.
    model = new_model(args, settings)
    recipe, state = training.create(
        model,
        build_optimizer(settings, train_size // batch_size),
        loss=losses.firing_rate_mse,
        to_sequence=data.SEQUENCES[settings["sequence"]],
        batch_size=batch_size,
        seed=settings["seed"],
        skip_nonfinite=settings["skip_nonfinite"],
        devices=chosen if len(chosen) > 1 else None,
    )
    history: list[runs.Row] = []

    # The run's directory, which from here on is ours alone.
    with runs.lock(run) if leads else contextlib.nullcontext(), endings.told_to_stop() as told:
        if config is None:
            config = {"settings": settings, "data": digest, "sessions": []}
            if leads:
                if args.overwrite and (run / "config.json").exists():
                    runs.clear(run)
                runs.create(run, config)
        elif config["data"] != digest:
            raise ValueError(
                f"the data of {run} had the fingerprint {config['data']}, this has {digest} "
                f"(from {images.source}): other images, or the same in another order"
            )
        devices.wait_for_all()  # until the run's directory is there
        checkpoints = checkpointing.Checkpoints(run)
        refuse_difference(checkpoints.step())
        if settings["init_from"] is not None and checkpoints.step() is None:
            if args.init_from is None:
                raise ValueError(
                    f"{run} was stopped before it had kept the parameters that it starts from; "
                    "give --init-from once more"
                )
            checkpoints.save(state, history)  # from here on the file is not needed
        if args.resume is not None and checkpoints.step() is not None:
            state, history = checkpoints.restore(state)
            if len(history) >= settings["epochs"]:
                raise ValueError(
                    f"{run} has already finished its {settings['epochs']} epochs; {LONGER}"
                )
        session = runs.session(
            first_epoch=len(history),
            device=devices.describe(chosen),
            matmul_precision=MATMUL_PRECISION,
            data_source=images.source,
        )
        config["sessions"].append(session)
        if leads:
            runs.write_config(run, config)
        print(f"run: {run}, {settings}")
        print(model)
        with runs.Log(run, history) if leads else contextlib.nullcontext() as log:
            epochs(args, settings, recipe, state, images, held_out, checkpoints, history, log, told)
        print(f"{runs.last_line(history)}; {run}")


def epochs(
    args: argparse.Namespace,
    settings: dict[str, Any],
    recipe: training.Recipe,
    state: training.TrainState,
    images: data.ImageDataset,
    held_out: tuple[np.ndarray, np.ndarray] | None,
    checkpoints: checkpointing.Checkpoints,
    history: list[runs.Row],
    log: runs.Log | None,
    told: list[int],
) -> None:
    """Trains and tests epoch by epoch, and saves now and then; `history` gets a row for each."""
    steps = len(images.train_images) // settings["batch_size"]
    learning_rates = training.cosine_learning_rates(settings["lr"], settings["epochs"])
    saved = time.monotonic()

    def told_or_due(state: training.TrainState) -> bool:
        """Whether to stop; saves then, and when it is time to."""
        nonlocal saved
        due = time.monotonic() - saved >= place(args, "save_every")
        stop, due = devices.in_any_process(bool(told), due)
        if (stop or due) and int(state.step):
            checkpoints.save(state, history)
            saved = time.monotonic()
        return stop

    def between(state: training.TrainState) -> bool:
        """The same in the middle of an epoch, where its data come in pieces."""
        if not settings["skip_nonfinite"]:
            refuse_nonfinite(len(history), steps, state.tally, True, checkpoints)
        return told_or_due(state)

    train_epoch, evaluate, validate = programs(args, recipe, state, images, held_out, between)
    rates = firing_rates(recipe, images.test_images[: settings["batch_size"]])
    no_bar = log is None or not sys.stderr.isatty()
    total, first = settings["epochs"], len(history)
    with tqdm(total=total, initial=first, unit="epoch", disable=no_bar) as progress:
        began = time.perf_counter()
        for epoch in range(first, total):
            if told_or_due(state):
                what = f"saved after epoch {epoch - 1}" if epoch else "no epoch has ended"
                raise endings.Stopped(told, what)
            done = int(state.tally.minibatches)
            start = time.perf_counter()
            state, trained = jax.block_until_ready(train_epoch(state))
            if trained is None:
                what = f"saved in epoch {epoch}, after minibatch {state.tally.minibatches}"
                raise endings.Stopped(told, what)
            middle = time.perf_counter()
            tested = jax.block_until_ready(evaluate(state))
            end = time.perf_counter()
            validated = validate(state)
            finite = all(seen.finite for seen in (trained, tested, validated) if seen is not None)
            refuse_nonfinite(epoch, steps, trained, finite, checkpoints)

            accuracy = tested.accuracy if validated is None else validated.accuracy
            state = state._replace(best_accuracy=jnp.maximum(state.best_accuracy, accuracy))
            images_seen = (steps - done) * settings["batch_size"]
            row: runs.Row = {
                "epoch": epoch,
                "train_loss": float(trained.loss),
                "train_acc": float(trained.accuracy),
                "test_loss": float(tested.loss),
                "test_acc": float(tested.accuracy),
                "gradient_norm": float(trained.gradient_norm),
                "skipped": int(trained.skipped),
                "train_images_per_s": images_seen / (middle - start),
                "test_images_per_s": len(images.test_labels) / (end - middle),
                "lr": float(np.float32(learning_rates[epoch])),
                "firing_rates": rates(state),
            }
            if validated is not None:
                row["val_loss"] = float(validated.loss)
                row["val_acc"] = float(validated.accuracy)
            history.append(row)
            if log is not None:
                log.write(history)  # before the checkpoint: a finished run has a complete log
            checkpoints.hold(state, history)
            progress.update()
            per_epoch = (time.perf_counter() - began) / (epoch + 1 - first)
            seconds_left = per_epoch * (total - epoch - 1)
            tqdm.write(runs.epoch_line(history, seconds_left), file=sys.stdout)
            sys.stdout.flush()
    checkpoints.save(state, history)


def programs(
    args: argparse.Namespace,
    recipe: training.Recipe,
    state: training.TrainState,
    images: data.ImageDataset,
    held_out: tuple[np.ndarray, np.ndarray] | None,
    between: Callable[[training.TrainState], bool],
) -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    """Return the functions that train one epoch, `state -> (state, metrics)`, test and validate.

    The last two are `state -> metrics`; without held-out images the last one returns None.
    """
    train_set = images.train_images, images.train_labels
    start = time.perf_counter()
    if place(args, "data_placement") == "host":
        workers = place(args, "workers")

        def train_epoch(state: training.TrainState) -> Any:
            return training.stream_epoch(
                recipe, state, *train_set, workers=workers, between=between
            )

        def test_on(*test_set: np.ndarray) -> Callable[..., Any]:
            return lambda state: training.stream_evaluate(recipe, state, *test_set, workers=workers)
    else:  # On the device once and for all: one call trains a whole epoch, another tests it.
        train_set = training.put(recipe, train_set)
        compiled = training.train_epoch.lower(recipe, state, *train_set).compile()

        def train_epoch(state: training.TrainState) -> Any:
            return compiled(state, *train_set)

        def test_on(*test_set: np.ndarray) -> Callable[..., Any]:
            on_device = training.put(recipe, test_set)
            compiled = training.evaluate.lower(recipe, state, *on_device).compile()
            return lambda state: compiled(state, *on_device)

    evaluate = test_on(images.test_images, images.test_labels)
    validate = test_on(*held_out) if held_out else lambda state: None
    if place(args, "data_placement") == "device":
        print(f"compiled in {time.perf_counter() - start:.1f} s", flush=True)
    return train_epoch, evaluate, validate


def evaluate_run(args: argparse.Namespace) -> None:
    """Prints the test accuracy of a run's best epoch."""
    config = runs.read_config(args.evaluate)
    settings = config["settings"]
    refuse_other_settings(given_settings(args), settings, pathlib.Path(args.evaluate))
    print_notes(args, select_devices(args))
    images, _, digest = load_data(args, settings)
    if digest != config["data"]:
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
    best = checkpointing.Checkpoints(args.evaluate).history("max")[-1]
    print(
        f"{args.evaluate}: epoch {best['epoch']}, "
        + (f"chosen by val_acc = {best['val_acc']:.4f}, " if "val_acc" in best else "")
        + f"test_loss = {metrics.loss:.4f}, test_acc = {metrics.accuracy:.4f} "
        f"({len(images.test_images)} images)"
    )


def examine(args: argparse.Namespace) -> None:
    """Prints what `jaxsnn.doctor` says of a new network, or of that of a run."""
    run = args.resume if args.evaluate is None else args.evaluate
    given = given_settings(args)
    settings = DEFAULTS | given
    if run is not None:
        settings = runs.read_config(run)["settings"]
        refuse_other_settings(given, settings, pathlib.Path(run))
    print_notes(args, select_devices(args))
    images, _, _ = load_data(args, settings)
    size, total = settings["batch_size"], len(images.train_images)
    refuse_batch_size(size, total)
    if run is None:
        model = new_model(args, settings)
    else:
        model = checkpointing.load_model(run, "max" if args.evaluate else "latest")
    order = training.epoch_order(jax.random.key(settings["seed"]), 0, total)
    batch = np.asarray(order[:size])
    xs = data.SEQUENCES[settings["sequence"]](images.train_images[batch])
    print(f"first minibatch of {settings['dataset']}, from {images.source}", end="\n\n")
    print(doctor(model, xs, images.train_labels[batch], loss=losses.firing_rate_mse))


# ----------------------------------------------------------------------------- its parts

LONGER = (
    "a longer run has another learning rate in every epoch, so it is a new run: start it with "
    "--epochs and --overwrite, a --seed or --out-dir of its own, or go on from the trained "
    "parameters with --init-from (docs/how-to/resume.md)"
)


def load_data(
    args: argparse.Namespace, settings: dict[str, Any]
) -> tuple[data.ImageDataset, tuple[np.ndarray, np.ndarray] | None, str]:
    """Load the data and hold out the part for validation; the last value is a fingerprint."""
    images, held_out = data.load(settings["dataset"], args.data_dir), None
    if settings["validation"] is not None:
        images, held_out = data.hold_out(images, settings["validation"])
    return images, held_out, data.fingerprint(images)


def new_model(args: argparse.Namespace, settings: dict[str, Any]) -> Any:
    """The network as training begins with it."""
    model = checkpointing.build_model(settings, settings["seed"])
    return model if args.init_from is None else spikingjelly.load(model, args.init_from)


def build_optimizer(settings: dict[str, Any], steps_per_epoch: int) -> optax.GradientTransformation:
    """SGD or Adam at a cosine learning rate, after clipping if that is asked for."""
    rate = training.cosine_schedule(settings["lr"], settings["epochs"], steps_per_epoch)
    if settings["opt"] == "sgd":
        optimizer = optax.sgd(rate, momentum=settings["momentum"])
    else:
        optimizer = optax.adam(rate)
    if settings["clip_norm"] is None:
        return optimizer
    return optax.chain(training.clip_by_global_norm(settings["clip_norm"]), optimizer)


def refuse_difference(*things: Any) -> None:
    """Several processes must be about to do the same, or they would wait for each other."""
    same = json.dumps(things, sort_keys=True)
    devices.refuse_difference(hashlib.sha256(same.encode()).hexdigest())


def given_settings(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that the command line names; a file of parameters counts by its content."""
    given = {name: value for name in DEFAULTS if (value := getattr(args, name)) is not None}
    if args.init_from is not None:
        content = pathlib.Path(args.init_from).read_bytes()
        given["init_from"] = hashlib.sha256(content).hexdigest()
    return given


def run_directory(args: argparse.Namespace, settings: dict[str, Any]) -> pathlib.Path:
    """The folder of the run, named as the tutorial names it, with what is ours at the end."""
    name = "{model}_b{batch_size}_{opt}_lr{lr:g}".format(**settings)
    name += "_amp" if settings["amp"] else ""
    name += "" if settings["clip_norm"] is None else f"_clip{settings['clip_norm']:g}"
    name += "" if settings["seed"] == DEFAULTS["seed"] else f"_seed{settings['seed']}"
    for key in ("dataset", "sequence"):
        name += "" if settings[key] == DEFAULTS[key] else f"_{settings[key]}"
    name += "" if settings["init_from"] is None else f"_init{settings['init_from'][:8]}"
    name += "" if settings["validation"] is None else f"_val{settings['validation']:g}"
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
                f"{run} was started; "
                + (LONGER if name == "epochs" else "leave it out to resume, or start a new run")
            )


def refuse_batch_size(batch_size: int, train_size: int) -> None:
    """A minibatch must be there."""
    if batch_size > train_size:
        raise ValueError(
            f"--batch-size {batch_size} is larger than the training set of {train_size} images"
        )


def place(args: argparse.Namespace, name: str) -> Any:
    """An option of where the run takes place, as given or by default."""
    value = getattr(args, name)
    return PLACE[name] if value is None else value


def select_devices(args: argparse.Namespace) -> list[jax.Device]:
    """The devices that the command line asks for."""
    chosen = devices.select(place(args, "device"), place(args, "devices"))
    jax.config.update("jax_default_matmul_precision", MATMUL_PRECISION)
    return chosen


def print_notes(args: argparse.Namespace, chosen: list[jax.Device]) -> None:
    """Says what it runs on, what an option does not do here, and what is amiss."""
    print(f"device: {devices.describe(chosen)}, jax {jax.__version__}")
    if args.cupy:
        print("note: --cupy has nothing to switch: XLA compiles the neurons on every device")
    if args.workers is not None and place(args, "data_placement") == "device":
        print(
            "note: --workers has nothing to switch: the whole data set lives on the device "
            "(--data-placement host)"
        )
    if args.distributed and args.devices not in (None, "all"):
        print("note: --devices has nothing to switch: all devices of all processes are used")
    nvidia = any(map(os.path.exists, ("/proc/driver/nvidia/gpus", "/dev/nvidia0")))
    if place(args, "device") == "auto" and chosen[0].platform == "cpu" and nvidia:
        print(
            "warning: this machine has an NVIDIA GPU, but jax was installed without CUDA; "
            "pip install -e '.[cuda12]' makes it usable",
            file=sys.stderr,
        )


def refuse_nonfinite(
    epoch: int,
    steps: int,
    seen: training.EpochMetrics | training.Tally,
    finite: Any,
    checkpoints: checkpointing.Checkpoints,
) -> None:
    """Ends a run whose numbers have left the real ones; what was right before is kept."""
    where = int(seen.first_nonfinite)
    if finite and (where < 0 or seen.skipped):
        return
    what = "the loss, a parameter or the optimiser's state is not finite"
    if seen.skipped:
        what += f" though {seen.skipped} updates of {steps} were left out"
    if where >= 0:
        what += (
            f" since minibatch {where} of {steps} (its gradient has the norm "
            f"{seen.nonfinite_norm:.3g}, the largest finite one {seen.gradient_norm:.3g})"
        )
    checkpoints.save_held()
    raise ValueError(
        f"epoch {epoch}: {what}, so training stops; the checkpoints in {checkpoints.directory} are "
        "those of the epochs before. Try a smaller --lr, --clip-norm 1 or --skip-nonfinite"
    )


def main(argv: list[str]) -> None:
    """Runs the command line; how it ends is said at the head of this file."""
    args = parse(argv)
    with endings.in_one_line("train.py", distributed=args.distributed):
        if args.doctor:
            examine(args)
        elif args.evaluate is not None:
            evaluate_run(args)
        else:
            train(args)


if __name__ == "__main__":
    main(sys.argv[1:])
