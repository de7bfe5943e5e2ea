"""The command line of train.py: what it says, and how the program ends."""

import argparse
import dataclasses
import hashlib
import pathlib
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from jaxsnn.experiment import _endings, _examine, _folder, devices
from jaxsnn.experiment._config import (
    Config,
    Kind,
    Placement,
    Runtime,
    help_of,
    options,
    spelled,
    suggestion,
)
from jaxsnn.experiment._examine import Loss
from jaxsnn.models import MODELS

PROGRAM = "train.py"

EPILOG = (
    "Exit status: 0 the run has ended; 2 the input or the numbers are wrong; 75 something passing, "
    "go on with --resume; 130 Ctrl-C or 143 SIGTERM, saved. Each option also takes one dash."
)


class OneLineParser(argparse.ArgumentParser):
    """Print an error in one line, if possible with a suggestion, and exit with 2."""

    def parse_known_args(  # type: ignore[override]  # two overloads in typeshed
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> Any:
        """Raise on the first unknown option, before any value is parsed; `-opt` is `--opt`."""
        words = list(sys.argv[1:] if args is None else args)
        known = self._option_string_actions
        for place, word in enumerate(words):
            if word == "--":
                break
            name = word.partition("=")[0]
            attached = word[:2] in known and re.match("[-+.0-9]", word[2:])  # -b64
            if not re.match("--?[a-zA-Z]", word) or name in known or attached:
                continue
            if f"-{name}" not in known:
                one_dash = [option.replace("--", "-") for option in known]
                spellings = known if name.startswith("--") else one_dash
                self.error(f"unrecognized arguments: {name}{suggestion(name, spellings)}")
            words[place] = f"-{word}"
        return super().parse_known_args(words, namespace)

    def error(self, message: str) -> NoReturn:
        """Print one line."""
        print(_endings.one_line(self.prog, message), file=sys.stderr)
        raise SystemExit(2)


def parse(argv: list[str]) -> tuple[dict[str, Any], Runtime]:
    """Read the command line.

    Returns:
        The hyperparameters that it names, and the options.
    """
    parser = OneLineParser(
        prog=PROGRAM,
        usage=f"python {PROGRAM} --model {'|'.join(MODELS)} [options]",
        description="Train a spiking network on Sequential Fashion-MNIST.",
        epilog=EPILOG,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    hyperparameters = parser.add_argument_group("hyperparameters")
    run = parser.add_argument_group("the run")
    placement = parser.add_argument_group("devices, processes and placement of the data")
    for field in options(Config):
        _add(hyperparameters, field)
    for field in options(Runtime):
        _add(placement if field.name in Placement.__annotations__ else run, field)
    if not argv:
        parser.error(f"choose a network with --model {', '.join(MODELS)}; --help lists all options")
    given = vars(parser.parse_args(argv))
    names = {field.name for field in options(Config)}
    runtime = Runtime(**{k: v for k, v in given.items() if k not in names}, given=frozenset(given))
    if not given.keys().isdisjoint(("coordinator", "num_processes", "process_id")):
        runtime = dataclasses.replace(runtime, distributed=True)
    if wrong := _contradiction(runtime):
        parser.error(wrong)
    return {k: v for k, v in given.items() if k in names}, runtime


def _add(group: Any, field: dataclasses.Field[Any]) -> None:
    about, names = field.metadata, [spelled(field.name)]
    names += [about["short"]] if about["short"] else []
    if field.default is False:
        group.add_argument(*names, action="store_true", help=help_of(field))
    else:
        kind: Kind = about["kind"]
        group.add_argument(*names, type=kind.parse, metavar=kind.metavar, help=help_of(field))


def _contradiction(runtime: Runtime) -> str | None:
    """Return what is wrong with options that exclude each other, None if nothing is."""
    if runtime.resume is not None and runtime.evaluate is not None:
        return "--resume and --evaluate exclude each other"
    if runtime.evaluate is not None or runtime.doctor:
        instead = "--doctor" if runtime.doctor else "--evaluate"
        for name in ("distributed", "devices", "data_placement", "workers"):
            if name in runtime.given or (name == "distributed" and runtime.distributed):
                return f"{spelled(name)} is for training, not for {instead}"
    old = runtime.evaluate is not None or (runtime.doctor and runtime.run is not None)
    if old and runtime.init_from is not None:
        return "--init-from is for a new network, not for that of a run"
    if runtime.overwrite and (runtime.doctor or runtime.run is not None):
        return "--overwrite is for a new run, not with --resume, --evaluate or --doctor"
    return None


def main(train: Callable[[Config, Runtime], None], loss: Loss, argv: list[str]) -> None:
    """Run the command line of train.py.

    Args:
        train: called with the hyperparameters and the options, unless these ask for `evaluate` or
            `doctor`, which are in this package.
        loss: that of the training, for these two.
        argv: the words after the program's name.

    Raises:
        SystemExit: unless the program has done its work. The statuses: 2 the command line, a file
            or the numbers are wrong; 75 something passing, a full disk or another process that was
            lost; 130 Ctrl-C; 143 SIGTERM; 141 nobody reads the output any more.
    """
    given, runtime = parse(argv)
    with _endings.in_one_line(PROGRAM, distributed=runtime.distributed):
        if runtime.distributed:
            devices.join(runtime.coordinator, runtime.num_processes, runtime.process_id)
        if runtime.init_from is not None:
            content = pathlib.Path(runtime.init_from).read_bytes()
            given["init_from"] = hashlib.sha256(content).hexdigest()
        config = _folder.settled(given, runtime.run)
        if runtime.doctor:
            _examine.doctor(config, runtime, loss)
        elif runtime.evaluate is not None:
            _examine.evaluate(config, runtime, loss)
        else:
            train(config, runtime)
