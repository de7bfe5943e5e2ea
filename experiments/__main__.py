"""Train the networks of the tutorial over several seeds, and report.

    python -m experiments                       # plain, ss, fb; seeds 0 to 4; all 60,000 images
    python -m experiments remedies              # what helps the feedback network
    python -m experiments older                 # the tutorial's older edition, 90 epochs
    python -m experiments --epochs 2 --seeds 2 --dataset fashion_mnist_mini --out-dir /tmp/study

A study that was stopped goes on where it was when the same command is given again.
"""

import argparse
import dataclasses
import functools
import pathlib
import sys

import jax
from tqdm import tqdm

from experiments import _files
from experiments._arms import ARMS, EDITIONS
from experiments._report import report
from experiments._train import train
from jaxsnn import data, experiment
from jaxsnn.experiment import OneLineParser, choice, integer, one_line


def parse(argv: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = OneLineParser(
        prog="python -m experiments",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    edition, arms = choice(EDITIONS), choice(ARMS)
    parser.add_argument(
        "edition", nargs="?", type=edition.parse, default="tutorial", metavar=edition.metavar
    )
    parser.add_argument(
        "--arms", nargs="+", type=arms.parse, metavar="ARM", help="default: the edition's"
    )
    parser.add_argument(
        "--seeds", type=integer(1).parse, default=5, help="seeds 0 to N-1", metavar="N"
    )
    parser.add_argument(
        "--epochs", type=integer(1).parse, help="default: the edition's", metavar="N"
    )
    parser.add_argument("--dataset", type=choice(data.DATASETS).parse, default="fashion_mnist")
    parser.add_argument("--data-dir", help="as for train.py")
    parser.add_argument("--out-dir", type=pathlib.Path, default=pathlib.Path("study"))
    parser.add_argument(
        "--together",
        action=argparse.BooleanOptionalAction,
        help="train all seeds at once; default: on a GPU yes, on a CPU no, where it is slower",
    )
    return parser.parse_args(argv)


def study(args: argparse.Namespace) -> None:
    """Trains what has not been trained yet, and reports."""
    from jaxsnn import plotting as plotting  # matplotlib is missed now, not after an hour

    jax.config.update("jax_default_matmul_precision", "float32")  # as train.py
    arms = {name: ARMS[name] for name in args.arms or EDITIONS[args.edition]}
    if args.epochs is not None:
        arms = {name: dataclasses.replace(arm, epochs=args.epochs) for name, arm in arms.items()}
    images = data.load(args.dataset, args.data_dir)
    device = jax.devices()[0]
    together = device.platform != "cpu" if args.together is None else args.together
    print(f"device: {device.device_kind}; data: {args.dataset}, from {images.source}")

    out = args.out_dir
    with experiment.lock(out):
        _files.agree(out, arms, data.fingerprint(images))
        total = args.seeds * sum(arm.epochs for arm in arms.values())
        with tqdm(total=total, unit="epoch", disable=not sys.stderr.isatty()) as progress:
            for name, arm in arms.items():
                known = {s: _files.load(out, name, s, arm.epochs) for s in range(args.seeds)}
                missing = [seed for seed, rows in known.items() if rows is None]
                progress.update(arm.epochs * (args.seeds - len(missing)))
                for group in [missing] if together and missing else [[s] for s in missing]:
                    step = functools.partial(progress.update, len(group))
                    for seed, rows in train(arm, group, images, step).items():
                        _files.save(out, name, seed, rows)
                        line = f"{name}, seed {seed}: test_acc = {rows[-1]['test_acc']:.4f}"
                        tqdm.write(line, file=sys.stdout)
                        sys.stdout.flush()
        found = {
            name: {s: _files.load(out, name, s, arm.epochs) or [] for s in range(args.seeds)}
            for name, arm in arms.items()
        }
        title = "_".join(args.arms) if args.arms else args.edition
        print(report(out, title, arms, found), end="")
    print(f"written: {out}/{title}.csv, .md, _train.png, _test.png, _seeds.png")


def main(argv: list[str]) -> None:
    """Runs the command line; bad input ends in one line and exit status 2, Ctrl-C in 130."""
    args = parse(argv)
    try:
        study(args)
    except KeyboardInterrupt:
        print("study: interrupted; the same command goes on after the last run", file=sys.stderr)
        raise SystemExit(130) from None
    except (ImportError, ValueError, OSError) as error:
        print(one_line("python -m experiments", str(error)), file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main(sys.argv[1:])
