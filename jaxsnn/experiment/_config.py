"""The settings of train.py, each one declared once: default, type, range and help.

The command line, `--help`, config.json, the checks on resume and the table of options in the
documentation are made of these fields.
"""

import argparse
import dataclasses
import difflib
import math
import os
import re
from collections.abc import Callable, Iterable
from typing import Any, Literal

import jax.numpy as jnp
from flax import nnx

from jaxsnn.data import DATASETS, SEQUENCES
from jaxsnn.models import MODELS


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return the end of an error about an unknown word: the most similar known one, if any is."""
    spellings = {name.lower(): name for name in known}
    similar = difflib.get_close_matches(word.lower(), spellings, n=1)
    return f"; did you mean {spellings[similar[0]]}?" if similar else ""


@dataclasses.dataclass(frozen=True)
class Kind:
    """The values that a setting may have.

    Attributes:
        read: makes a value of the text on a command line; it may raise ValueError.
        problem: says what is wrong with a value of any type; None if nothing is.
        metavar: how `--help` writes such a value.
    """

    read: Callable[[str], Any]
    problem: Callable[[Any], str | None]
    metavar: str = ""

    def parse(self, text: str) -> Any:
        """Read the text of an option; raise what argparse expects if it is not such a value."""
        try:
            value = self.read(text)
        except ValueError:
            value = text
        if problem := self.problem(value):
            raise argparse.ArgumentTypeError(problem)
        return value


def integer(least: int, most: int | None = None, *, words: tuple[str, ...] = ()) -> Kind:
    """An integer of at least `least` and at most `most`, or one of some words."""

    def problem(value: Any) -> str | None:
        if value in words:
            return None
        if type(value) is not int:
            return f"must be an integer{''.join(f' or {word}' for word in words)}, got {value!r}"
        if value < least:
            return f"must be at least {least}, got {value}"
        if most is not None and value > most:
            return f"must be at most {most}, got {value}"
        return None

    return Kind(int, problem, "|".join(("N", *words)))


def number(least: float, below: float = math.inf) -> Kind:
    """A finite number in `[least, below)`."""

    def problem(value: Any) -> str | None:
        if type(value) not in (int, float):
            return f"must be a number, got {value!r}"
        if math.isfinite(value) and least <= value < below:
            return None
        limit = f"at least {least}" + (f" and below {below}" if below < math.inf else "")
        return f"must be finite, {limit}, got {value}"

    return Kind(float, problem, "X")


def choice(names: Iterable[str]) -> Kind:
    """One of some words."""
    names = tuple(names)

    def problem(value: Any) -> str | None:
        if value in names:
            return None
        wrong = f"must be one of {', '.join(names)}, got {value!r}"
        return wrong + suggestion(str(value), names)

    return Kind(str, problem, "|".join(names))


def text(pattern: str = ".*", *, read: Callable[[str], str] = str, metavar: str = "NAME") -> Kind:
    """Text of a pattern."""

    def problem(value: Any) -> str | None:
        fits = isinstance(value, str) and re.fullmatch(pattern, value, re.DOTALL)
        return None if fits else f"must be text that matches {pattern}, got {value!r}"

    return Kind(read, problem, metavar)


TEXT, SHA256 = text(), text("[0-9a-f]{64}")
PATH = text(read=os.path.expanduser, metavar="PATH")
FLAG = Kind(bool, lambda value: None if type(value) is bool else f"must be a bool, got {value!r}")


def setting(
    default: Any, kind: Kind, help: str = "", *, short: str | None = None, suffix: str = ""
) -> Any:
    """Declare a field.

    Args:
        default: its value where nothing else is said; None may stand for "not set".
        kind: the values that it may have.
        help: one sentence for `--help` and the documentation; "" if it is no option.
        short: a second spelling, e.g. `-b`.
        suffix: what the name of a run's folder says of another value than the default.
    """
    about = {"kind": kind, "help": help, "short": short, "suffix": suffix}
    return dataclasses.field(default=default, metadata=about)


@dataclasses.dataclass(frozen=True)
class _Checked:
    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, kind = getattr(self, field.name), field.metadata.get("kind")
            unset = value is None and field.default is None
            if kind is not None and not unset and (problem := kind.problem(value)):
                raise ValueError(f"{field.name} {problem}")


@dataclasses.dataclass(frozen=True)
class Config(_Checked):
    """The hyperparameters: what a run is, and what it keeps when it is resumed.

    A new one is one field here. Runs whose config.json lacks it have the default.

    Raises:
        ValueError: a value is not one that the field may have.
    """

    model: str = setting("plain", choice(MODELS), "network")
    epochs: int = setting(64, integer(1), "length of the run")
    batch_size: int = setting(256, integer(1), "images per minibatch", short="-b")
    opt: str = setting("sgd", choice(("sgd", "adam")), "optimizer")
    lr: float = setting(0.1, number(0), "learning rate of the first epoch")
    momentum: float = setting(0.9, number(0, 1), "momentum of sgd")
    amp: bool = setting(False, FLAG, "bfloat16 matrix products", suffix="_amp")
    clip_norm: float | None = setting(
        None, number(1e-12), "clip the gradient to this norm (default: off)", suffix="_clip{:g}"
    )
    skip_nonfinite: bool = setting(False, FLAG, "leave out and count updates that are not finite")
    seed: int = setting(
        0, integer(0, 2**32 - 1), "seed of parameters and order of the data", suffix="_seed{}"
    )
    dataset: str = setting("fashion_mnist", choice(DATASETS), "data set", suffix="_{}")
    sequence: str = setting("columns", choice(SEQUENCES), "what one time step is", suffix="_{}")
    init_from: str | None = setting(None, SHA256, suffix="_init{:.8}")  # of what --init-from holds
    validation: float | None = setting(
        None,
        number(1e-9, 1),
        "hold out this share of the training set, and choose the best epoch by it (default: by "
        "the test set, as the tutorial does)",
        suffix="_val{:g}",
    )

    @property
    def folder(self) -> str:
        """The name of the run's folder: the tutorial's, and what differs from the tutorial."""
        name = f"{self.model}_b{self.batch_size}_{self.opt}_lr{self.lr:g}"
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                name += field.metadata["suffix"].format(value)
        return name


@dataclasses.dataclass(frozen=True)
class Placement(_Checked):
    """Devices, processes and placement of the data."""

    device: str = setting("auto", TEXT, "auto, cpu, gpu, or one GPU: cuda:0, cuda:1, ...")
    devices: int | Literal["all"] = setting(
        1, integer(1, words=("all",)), "how many devices share a minibatch"
    )
    data_placement: str = setting("device", choice(("device", "host")), "where the data set lives")
    workers: int = setting(2, integer(0), "threads that read ahead on the host", short="-j")
    distributed: bool = setting(False, FLAG, "one of several processes")
    coordinator: str | None = setting(
        None, text(metavar="HOST:PORT"), "process 0, for --distributed"
    )
    num_processes: int | None = setting(None, integer(1), "how many processes there are")
    process_id: int | None = setting(None, integer(0), "number of this process")


@dataclasses.dataclass(frozen=True)
class Runtime(Placement):
    """The options: what to do, where, and how; they may differ when a run is resumed.

    `given` are the names of the settings that the command line names.
    """

    resume: str | None = setting(None, PATH, "go on with the run in this folder")
    overwrite: bool = setting(False, FLAG, "remove the run of the same name, and start anew")
    init_from: str | None = setting(
        None, PATH, "start from the parameters in this file: .npz, .safetensors, .pth"
    )
    evaluate: str | None = setting(None, PATH, "print the test accuracy of the run in this folder")
    doctor: bool = setting(
        False,
        FLAG,
        "train nothing: look at the network on the first minibatch; with --resume or --evaluate "
        "at that run's latest or best",
    )
    data_dir: str | None = setting(None, PATH, "folder with Fashion-MNIST, e.g. its four IDX files")
    out_dir: str = setting("./logs", PATH, "where runs are kept, each in a folder of its own")
    save_every: float = setting(
        60, number(0), "seconds of training that a kill may cost; 0 saves after every epoch"
    )
    cupy: bool = setting(False, FLAG, "accepted and not needed")
    given: frozenset[str] = frozenset()

    @property
    def run(self) -> str | None:
        """The folder of the run that there is already; None for a new one."""
        return self.evaluate if self.resume is None else self.resume


def options(settings: type[Config] | type[Runtime]) -> list[dataclasses.Field[Any]]:
    """Return the fields that are options of the command line."""
    return [field for field in dataclasses.fields(settings) if field.metadata.get("help")]


def spelled(name: str) -> str:
    """Return the option of a field, e.g. `--batch-size`."""
    return "--" + name.replace("_", "-")


def help_of(field: dataclasses.Field[Any]) -> str:
    """Return the sentence of an option with its default."""
    unset = field.default is None or field.default is False
    said = "" if unset else f" (default: {field.default})"
    return field.metadata["help"] + said


def build_model(config: Config) -> Any:
    """Build the untrained network that `model`, `amp` and `seed` name.

    A new network needs a line in `MODELS` of `jaxsnn/models.py`.
    """
    dtype = jnp.bfloat16 if config.amp else None
    return MODELS[config.model](dtype=dtype, rngs=nnx.Rngs(config.seed))
