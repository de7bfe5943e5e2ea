"""How long does one epoch of training take, here, elsewhere, and at the least?

    python benchmarks/train_epoch.py                             # every library that is installed
    python benchmarks/train_epoch.py --networks plain --sides jaxsnn scan gemm
    python benchmarks/train_epoch.py --python spyx=/envs/spyx/bin/python   # a peer's environment

The task is the tutorial's: Sequential Fashion-MNIST, all 60,000 training images, batch 256, SGD,
with the networks plain (feed-forward), ss (stateful synapses) and fb (feedback). The fourth
network, sew, is convolutional: 1,000 of the images in batches of 50, each shown at 4 steps;
convolution, batch normalisation and IF neurons five times, with two skip connections
(spike-element-wise sums) and max-pooling, 16 channels. The sides are in `sides/`, one file each,
which says what is run and how it differs:

- jaxsnn: as train.py runs it, shuffle included;
- train_step: of sew, the same steps by one call of `jax.jit(training.train_step)` per minibatch;
- scan: bare JAX, written out;
- spyx: `compile_fit`, the nearest network; as_spyx: that network with jaxsnn's cells;
- spikingjelly: the tutorial's script, as published; sew is written with its layers;
- snntorch, norse: the network as a loop over time with their neurons;
- NAME@1: the same with one thread; PyTorch's own choice, one for each core, is often slower here;
- gemm: the floor. The FLOPs of the epoch's matrix products at the rate of a large product, measured
  in the same run; `exact` is the time of the products in their own, small shapes.

Method. Equality first: from one start and in one order all sides must give the same loss for the
first minibatch, and the same mean over ten minibatches with the updates in between, where their
equations are the same (`loss` in the table says with which side and how far they agree); otherwise
nothing is timed. Each side is a process of its own that compiles, trains one epoch to warm up, and
then trains one epoch on command, so that rounds go A B C A B C. The time is taken inside, from the
call until the results are there (`block_until_ready`, `item`). Waiting processes must not compute:
their processor time is watched. No figure may exceed the rate of the large product.
"""

import argparse
import contextlib
import importlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

import _common
from sides import task as tasks

# name -> (networks, library it needs, side to agree with); NAME@1 is NAME with one thread
ALL, TUTORIAL = tasks.NETWORKS, tasks.TUTORIAL
SIDES: dict[str, tuple[tuple[str, ...], str, str | None]] = {
    "gemm": (ALL, "jax", None),
    "jaxsnn": (ALL, "jaxsnn", None),
    "train_step": (("sew",), "jaxsnn", "jaxsnn"),
    "scan": (ALL, "jax", "jaxsnn"),
    "as_spyx": (("plain", "fb"), "jaxsnn", None),
    "spyx": (ALL, "spyx", "as_spyx"),
    "spikingjelly": (ALL, "spikingjelly", "jaxsnn"),
    "spikingjelly@1": (ALL, "spikingjelly", "jaxsnn"),
    "snntorch": (TUTORIAL, "snntorch", "jaxsnn"),
    "snntorch@1": (TUTORIAL, "snntorch", "jaxsnn"),
    "norse": (TUTORIAL, "norse", "jaxsnn"),
    "norse@1": (TUTORIAL, "norse", "jaxsnn"),
}
TORCH = ("spikingjelly", "snntorch", "norse")
FIRST_LOSS_ONLY = ("norse",)  # other gradients, so other losses later
# Relative. A potential within rounding of the threshold fires on one side only, and one spike more
# or less moves the first loss by about 1e-5; training carries that on.
TOLERANCES = {"first": 1e-4, "mean": 2e-3}
MINIBATCHES_COMPARED = 10
BATCH = 256
IDLE_SHARE = 0.05  # of one core, that a waiting process may use


def main() -> None:
    """Measures, prints, writes."""
    args = parse()
    if args.worker:
        work(args)
        return
    rows: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        source = prepare_data(pathlib.Path(folder), args.quick)
        for network in args.networks:
            rows += measure(network, pathlib.Path(folder), args, skipped)
    report(rows)
    for name, reason in skipped.items():
        print(f"left out: {name} ({reason})")
    _common.set_precision()
    batch_sizes = {network: batch_size(network, args) for network in args.networks}
    settings = {"batch_size": batch_sizes, "dataset": source, "networks": args.networks}
    _common.write(
        args,
        {
            "environment": _common.environment(),
            "settings": settings,
            "tolerances": TOLERANCES,
            "skipped": skipped,
            "rows": rows,
        },
    )


def parse() -> argparse.Namespace:
    """Reads the command line."""
    parser = _common.arguments(__doc__, repeats=7)
    parser.add_argument("--networks", nargs="+", choices=ALL, default=list(ALL))
    parser.add_argument("--sides", nargs="+", choices=tuple(SIDES), default=list(SIDES))
    parser.add_argument(
        "--batch-size",
        type=int,
        help=f"examples per minibatch; by default {BATCH}, of sew {tasks.SEW_BATCH}",
    )
    parser.add_argument(
        "--loader-workers",
        default="2",
        help="-j of SpikingJelly's script; 2 was faster than 0 on two cores",
    )
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="SIDE=PATH",
        help="interpreter of an environment that has this side's library",
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=pathlib.Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.quick:
        args.repeats = min(args.repeats, 3)
    args.python = dict(pair.split("=", 1) for pair in args.python)
    return args


def batch_size(network: str, args: argparse.Namespace) -> int:
    """Examples per minibatch of this network."""
    return args.batch_size or (tasks.SEW_BATCH if network == "sew" else BATCH)


def prepare_data(folder: pathlib.Path, quick: bool) -> str:
    """Writes the images where all sides find them; returns what they are."""
    from jaxsnn import data

    name = "fashion_mnist_mini" if quick else "fashion_mnist"
    images = data.load(name)
    tasks.write_idx(
        folder,
        train_images=images.train_images,
        train_labels=images.train_labels,
        test_images=images.test_images,
        test_labels=images.test_labels,
    )
    return f"{name}, {len(images.train_labels)} images, {data.fingerprint(images)}"


# ----------------------------------------------------------------------------- one network


def measure(
    network: str, folder: pathlib.Path, args: argparse.Namespace, skipped: dict[str, str]
) -> list[dict[str, Any]]:
    """The rows of one network."""
    with contextlib.ExitStack() as stack:
        workers: dict[str, Worker] = {}
        for name in SIDES:
            if name in args.sides and network in SIDES[name][0] and name not in skipped:
                worker = stack.enter_context(Worker(name, network, folder, args))
                if "skip" in worker.facts:
                    skipped[name] = worker.facts["skip"]
                    print(f"{name}: left out, {worker.facts['skip']}", file=sys.stderr)
                else:
                    workers[name] = worker
        agreement = {name: compare(name, workers) for name in workers}
        figures: dict[str, list[Any]] = {name: [] for name in workers}
        idle = 0.0
        for r in range(-1, args.repeats):  # round -1 warms up
            for name, worker in workers.items():
                others = [w for w in workers.values() if w is not worker]
                before, began = sum(w.cpu_seconds() for w in others), time.perf_counter()
                figure = worker.ask("epoch")["epoch"]
                share = sum(w.cpu_seconds() for w in others) - before
                if r >= 0:
                    figures[name].append(figure)
                    idle = max(idle, share / max(time.perf_counter() - began, 0.2))
            print(f"{network}: round {r + 1} of {args.repeats}", file=sys.stderr, flush=True)
        if idle > IDLE_SHARE:
            print(f"warning: waiting processes used {idle:.0%} of a core", file=sys.stderr)
        minibatches = next(iter(workers.values())).facts["minibatches"] if workers else 0
        rows = [
            row(name, network, workers[name], figures[name], minibatches, args) | agreement[name]
            for name in workers
        ]
    for one in rows:
        one["idle_share"] = idle
    finish(rows, args.quick)
    return rows


def plain_name(name: str) -> str:
    """The side without its number of threads."""
    return name.split("@")[0]


def compare(name: str, workers: dict[str, "Worker"]) -> dict[str, Any]:
    """Says how far the side agrees with its counterpart; refuses it if it does not."""
    facts, other = workers[name].facts, SIDES[name][2]
    if other not in workers:
        return {"agrees_with": None}
    reference = workers[other].facts
    found: dict[str, Any] = {"agrees_with": other}
    for kind in ("first",) if plain_name(name) in FIRST_LOSS_ONLY else ("first", "mean"):
        error = abs(facts[kind] - reference[kind]) / reference[kind]
        found[f"{kind}_loss_error"] = error
        if not error <= TOLERANCES[kind]:
            raise SystemExit(
                f"{name} and {other} do not compute the same: {kind} loss {facts[kind]:.8f} and "
                f"{reference[kind]:.8f}, relative difference {error:.2g}; not timed"
            )
    return found


def row(
    name: str,
    network: str,
    worker: "Worker",
    figures: list[Any],
    minibatches: int,
    args: argparse.Namespace,
) -> dict[str, Any]:
    """One line of the table, but for the ratios."""
    kind = network
    if name in ("spyx", "as_spyx") and network != "sew":
        kind = "rif" if network == "fb" else "plain"
    found = {
        "network": network,
        "side": name,
        "flops": tasks.flops(kind, batch_size(network, args)) * minibatches,
        "differs": worker.facts["differs"],
        **{key: worker.facts[key] for key in ("first", "mean", "info", "versions", "threads")},
    }
    if name != "gemm":
        return found | _common.summary(figures)
    rates = {size: [f["rates"][size] for f in figures] for size in figures[0]["rates"]}
    best = max(rates, key=lambda size: _common.summary(rates[size])["median"])
    return found | {
        **_common.summary(found["flops"] / rate for rate in rates[best]),
        "size": int(best),
        "rate": _common.summary(rates[best]),
        "exact": _common.summary(f["exact"] for f in figures),
    }


def finish(rows: list[dict[str, Any]], quick: bool) -> None:
    """Adds ratios: to jaxsnn, to the side with the same equations, to the floor."""
    sides = {one["side"]: one for one in rows}
    floor = sides.get("gemm")
    for one in rows:
        same = sides.get("as_spyx") if one["side"] == "spyx" else None
        same = same or sides.get("jaxsnn")
        if same:
            one["times_ours"] = one["median"] / same["median"]
        if floor:
            rate = floor["rate"]
            one["times_floor"] = one["median"] * rate["median"] / one["flops"]
            if one is not floor:
                _common.check_possible(
                    one["side"], one["flops"], one["min"], rate["max"], quick=quick
                )


def report(rows: list[dict[str, Any]]) -> None:
    """Prints the table."""
    lines = []
    for one in rows:
        errors = [one[k] for k in ("first_loss_error", "mean_loss_error") if k in one]
        loss = " ".join(f"{e:.0e}" for e in errors)
        lines.append(
            one
            | {
                "gflop": one["flops"] / 1e9,
                "compile": one["info"].get("compile_s"),
                "loss": f"{one['agrees_with']} {loss}" if errors else None,
            }
        )
        if "exact" in one:
            differs = "the same products in their own shapes"
            lines.append(one["exact"] | {"side": "gemm exact", "differs": differs})
    columns = {
        "network": "",
        "side": "",
        "median": ".3f",
        "min": ".3f",
        "max": ".3f",
        "repeats": "d",
        "gflop": ".1f",
        "times_ours": ".2f",
        "times_floor": ".1f",
        "compile": ".1f",
        "loss": "",
        "differs": "",
    }
    print(_common.table(lines, columns))
    for one in rows:
        if one["side"] == "gemm":
            print(
                f"{one['network']}: rate of a {one['size']} x {one['size']} product "
                f"{one['rate']['median'] / 1e9:.0f} GFLOP/s "
                f"({one['rate']['min'] / 1e9:.0f} to {one['rate']['max'] / 1e9:.0f})"
            )
    print(
        "times_ours: seconds per epoch over those of jaxsnn; for spyx over those of as_spyx, the "
        "same equations in jaxsnn"
    )


# ----------------------------------------------------------------------------- processes


class Worker:
    """A side in a process of its own, ready to train epochs on command."""

    def __init__(
        self, name: str, network: str, folder: pathlib.Path, args: argparse.Namespace
    ) -> None:
        self.name = name
        settings = {
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # the sides share a GPU
            "BENCHMARK_LOADER_WORKERS": args.loader_workers,
        }
        if "@" in name:
            settings["OMP_NUM_THREADS"] = name.split("@")[1]
        self.log = (folder / f"{network}_{name}.log").open("w+")
        command = [args.python.get(name, sys.executable), __file__, "--worker", name]
        command += ["--networks", network, "--folder", str(folder)]
        command += ["--batch-size", str(batch_size(network, args))]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env=os.environ | settings,
        )
        self.facts = self._answer()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        self.log.close()

    def ask(self, command: str) -> dict[str, Any]:
        """Sends a command and waits for the answer."""
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        if not line:
            self.log.seek(0)
            text = self.log.read()[-4000:]
            raise RuntimeError(f"{self.name} ended with {self.process.wait()}:\n{text}")
        return json.loads(line)

    def cpu_seconds(self) -> float:
        """Processor time that the process has used; 0 where the system does not say."""
        try:
            text = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text()
        except OSError:
            return 0.0
        user, system = text.rsplit(")", 1)[1].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def work(args: argparse.Namespace) -> None:
    """The process of one side: answers in JSON, a line each; libraries print to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(found: dict[str, Any]) -> None:
        print(json.dumps(found), file=answers, flush=True)

    name, library = plain_name(args.worker), SIDES[args.worker][1]
    try:
        importlib.import_module(library)
        if name not in TORCH:
            _common.set_precision()
        module = importlib.import_module(f"sides.{name}_side")
    except ImportError as error:
        answer({"skip": str(error)})
        return
    network = args.networks[0]
    examples = tasks.SEW_EXAMPLES if network == "sew" else None
    task = tasks.Task(args.folder, network, args.batch_size, examples)
    side = module.Side(task)
    facts = dict.fromkeys(("first", "mean"))
    if hasattr(side, "losses"):
        first, mean = side.losses(min(MINIBATCHES_COMPARED, task.minibatches))
        facts = {"first": first, "mean": mean}
    facts |= {
        "differs": side.differs,
        "info": side.info,
        "minibatches": task.minibatches,
        "versions": _common.versions(*side.packages),
        "threads": side.info.get("threads", _common.usable_cpus()),
    }
    answer(facts)
    for line in sys.stdin:
        if line.strip() == "epoch":
            answer({"epoch": side.epoch()})


if __name__ == "__main__":
    main()
