"""The files of a study: what was asked for, and each run that has ended, written in one go.

`out/study.json` holds the settings of every arm and the fingerprint of the data,
`out/runs/ARM_seedS.csv` one line per epoch.
"""

import csv
import dataclasses
import io
import json
import pathlib
from typing import Any, cast

from experiments._arms import Arm
from experiments._train import Row
from jaxsnn import experiment


def agree(out: pathlib.Path, arms: dict[str, Arm], fingerprint: str) -> None:
    """Notes what this study is, or checks that it is still the same.

    Raises:
        ValueError: `out` holds runs made with other settings or other data.
    """
    path = out / "study.json"
    noted: dict[str, Any] = {"data": fingerprint, "arms": {}}
    if path.exists():
        try:
            noted = json.loads(path.read_text(encoding="utf-8"))
            known, before = noted["arms"], noted["data"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged: {error}") from error
        if before != fingerprint:
            raise ValueError(
                f"{out} was made of data with the fingerprint {before}, this has {fingerprint}; "
                "choose another --out-dir"
            )
        for name, arm in arms.items():
            settings = _plain(arm)
            for key, value in known.get(name, settings).items():
                if settings.get(key) != value:
                    raise ValueError(
                        f"{out} holds runs of {name} with {key} = {value}, asked for is "
                        f"{settings.get(key)}; choose another --out-dir"
                    )
    noted["arms"] |= {name: _plain(arm) for name, arm in arms.items()}
    (out / "runs").mkdir(parents=True, exist_ok=True)
    experiment.write_text(path, json.dumps(noted, indent=2) + "\n")


def _plain(arm: Arm) -> dict[str, Any]:
    """The settings of an arm as JSON gives them back."""
    return json.loads(json.dumps(dataclasses.asdict(arm)))


def _path(out: pathlib.Path, name: str, seed: int) -> pathlib.Path:
    return out / "runs" / f"{name}_seed{seed}.csv"


def save(out: pathlib.Path, name: str, seed: int, rows: list[Row]) -> None:
    """Writes a run that has ended."""
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, list(Row.__annotations__), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    experiment.write_text(_path(out, name, seed), text.getvalue())


def load(out: pathlib.Path, name: str, seed: int, epochs: int) -> list[Row] | None:
    """Reads a run; None if it has not been made yet.

    Raises:
        ValueError: the file is not such a run.
    """
    path = _path(out, name, seed)
    if not path.exists():
        return None
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [
                cast(Row, {key: kind(row[key]) for key, kind in Row.__annotations__.items()})
                for row in csv.DictReader(file)
            ]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}); delete it to train that run anew") from None
    if [row["epoch"] for row in rows] != list(range(epochs)):
        raise ValueError(f"{path} has not {epochs} epochs; delete it to train that run anew")
    return rows
