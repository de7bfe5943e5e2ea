"""What a study found, as a CSV of every epoch, a table in Markdown, and two figures."""

import csv
import io
import pathlib
import statistics
from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments._arms import Arm
from experiments._train import Row
from jaxsnn import experiment

Found = Mapping[str, Mapping[int, list[Row]]]  # arm -> seed -> epochs


def report(out: pathlib.Path, title: str, arms: Mapping[str, Arm], found: Found) -> str:
    """Writes `TITLE.csv`, `TITLE.md`, and as `.png` and `.svg` `TITLE_train`, `TITLE_test` (means
    over the seeds) and `TITLE_seeds` (test accuracy of every run).

    Args:
        out: the directory.
        title: e.g. the edition.
        arms: what was compared.
        found: for each arm and seed the epochs, from `train`.

    Returns:
        The table.
    """
    experiment.write_text(out / f"{title}.csv", epochs_csv(found))
    text = table(arms, found)
    experiment.write_text(out / f"{title}.md", text)
    draw(out, title, arms, found)
    return text


def epochs_csv(found: Found) -> str:
    """Every epoch of every run: `arm, seed, epoch, train_loss, ...`."""
    text = io.StringIO(newline="")
    columns = ["arm", "seed", *Row.__annotations__]
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for name, seeds in found.items():
        for seed, rows in seeds.items():
            writer.writerows({"arm": name, "seed": seed} | row for row in rows)
    return text.getvalue()


def table(arms: Mapping[str, Arm], found: Found) -> str:
    """Mean and standard deviation over the seeds beside what is published; then every run."""
    lines = [
        "| arm | what | seeds | test accuracy after the last epoch, % | best epoch, % "
        "| published, last / best |",
        "|---|---|---|---|---|---|",
    ]
    for name, seeds in found.items():
        last, best = _ends(seeds)
        published = " / ".join("-" if p is None else f"{p:g}" for p in arms[name].published)
        lines.append(
            f"| {name} | {arms[name].about} | {_numbers(list(seeds))} | {_spread(last)} "
            f"| {_spread(best)} | {published} |"
        )
    lines += ["", "| seed | " + " | ".join(found) + " |", "|---" * (len(found) + 1) + "|"]
    for seed in sorted({seed for seeds in found.values() for seed in seeds}):
        cells = []
        for seeds in found.values():
            one = _ends({seed: seeds[seed]}) if seed in seeds else None
            cells.append(f"{one[0][0]:.1f} ({one[1][0]:.1f})" if one else "")
        lines.append(f"| {seed} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", "Each run: after the last epoch (best epoch)."]) + "\n"


def draw(out: pathlib.Path, title: str, arms: Mapping[str, Arm], found: Found) -> None:
    """Accuracy against epoch: means over the seeds, in bands of one standard deviation, and every
    run by itself.
    """
    import matplotlib.pyplot as plt

    from jaxsnn import plotting

    def percent(rows: list[Row], part: str) -> list[float]:
        return [100 * row[part] for row in rows]  # type: ignore[literal-required]  # a field's name

    def save(figure: Any, name: str) -> None:
        for suffix in ("png", "svg"):
            figure.savefig(out / f"{title}_{name}.{suffix}")
        plt.close(figure)

    ends = {name: arms[name].published[0] for name in found}
    published = {name: end for name, end in ends.items() if end is not None}
    for part, name in (("train_acc", "train"), ("test_acc", "test")):
        curves = {
            arm: np.array([percent(rows, part) for rows in seeds.values()])
            for arm, seeds in found.items()
        }
        ax = plotting.learning_curves(
            curves,
            published=published if name == "test" else None,
            ylabel=f"{name} accuracy (%)",
        )
        save(ax.get_figure(root=True), name)

    with plt.rc_context(plotting.STYLE):
        size = (2 + 2 * len(found), 2.8)
        figure, axes = plt.subplots(1, len(found), figsize=size, sharey=True, squeeze=False)
        for ax, (arm, seeds) in zip(axes[0], found.items(), strict=True):
            for seed, rows in seeds.items():
                epochs, label = range(1, len(rows) + 1), f"seed {seed}"
                ax.plot(epochs, percent(rows, "test_acc"), linewidth=1, label=label)
            ax.set(title=arm, xlabel="epoch")
            ax.grid(axis="y")
        axes[0, 0].set_ylabel("test accuracy (%)")
        axes[0, 0].legend(loc="lower right")
        save(figure, "seeds")


def _ends(seeds: Mapping[int, list[Row]]) -> tuple[list[float], list[float]]:
    """Test accuracies in per cent, `(after the last epoch, of the best epoch)`, of each seed."""
    accuracies = [[100 * row["test_acc"] for row in rows] for rows in seeds.values()]
    return [run[-1] for run in accuracies], [max(run) for run in accuracies]


def _spread(values: list[float]) -> str:
    """`mean ± standard deviation`; of one value just that."""
    mean = f"{statistics.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.1f}"


def _numbers(seeds: list[int]) -> str:
    """`0-4` for consecutive seeds, else a list."""
    if len(seeds) > 1 and seeds == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"{seeds[0]}-{seeds[-1]}"
    return ", ".join(map(str, seeds))
