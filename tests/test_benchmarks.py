"""The benchmarks run, on small sizes and without other libraries, and write what they should."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

BENCHMARKS = pathlib.Path(__file__).parent.parent / "benchmarks"


def run(script, tmp_path, *options):
    """Runs a script with --quick; returns what it prints and what it writes."""
    path = tmp_path / "results.json"
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), "--quick", "--json", str(path), *options],
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(path.read_text())
    assert results["script"] == script.removesuffix(".py")
    assert results["quick"] is True
    environment = results["environment"]
    assert environment["platform"] == "cpu"
    assert environment["usable_cpus"] >= 1
    assert {"python", "jax", "flax"} <= set(environment["versions"])
    return done.stdout, results


def check_summary(summary):
    assert 0 < summary["min"] <= summary["median"] <= summary["max"]
    assert len(summary["values"]) == summary["repeats"]


@pytest.mark.slow
def test_train_epoch(tmp_path):
    sides = ["gemm", "jaxsnn", "scan", "as_spyx"]
    printed, results = run(
        "train_epoch.py", tmp_path, "--networks", "plain", "fb", "--sides", *sides
    )
    rows = {(row["network"], row["side"]): row for row in results["rows"]}
    assert set(rows) == {(network, side) for network in ("plain", "fb") for side in sides}
    for row in rows.values():
        check_summary(row)
        assert row["times_floor"] > 0.5  # 1 at least, if the machine has nothing else to do
    for network in ("plain", "fb"):
        scan = rows[network, "scan"]
        assert scan["agrees_with"] == "jaxsnn"
        assert scan["first_loss_error"] <= results["tolerances"]["first"]
        assert scan["mean_loss_error"] <= results["tolerances"]["mean"]
        assert rows[network, "jaxsnn"]["times_ours"] == 1
    assert rows["plain", "jaxsnn"]["flops"] == 7 * 28 * 256 * 2 * (2 * 28 * 32 + 3 * 32 * 10)
    assert "GFLOP/s" in printed


@pytest.mark.slow
def test_train_epoch_of_the_convolutional_network(tmp_path):
    sides = ["jaxsnn", "train_step"]
    _, results = run("train_epoch.py", tmp_path, "--networks", "sew", "--sides", *sides)
    rows = {row["side"]: row for row in results["rows"]}
    assert set(rows) == set(sides)
    assert rows["train_step"]["agrees_with"] == "jaxsnn"
    assert results["settings"]["batch_size"] == {"sew": 50}
    for row in rows.values():
        check_summary(row)


@pytest.mark.slow
def test_a_library_that_is_not_there_is_left_out(tmp_path):
    (tmp_path / "spyx.py").write_text('raise ImportError("No module named spyx")\n')
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{tmp_path}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    sides = ["gemm", "jaxsnn", "spyx"]
    printed, results = run(
        *("train_epoch.py", tmp_path, "--networks", "plain", "--sides", *sides),
        *("--python", f"spyx={python}"),
    )
    assert [row["side"] for row in results["rows"]] == ["gemm", "jaxsnn"]
    assert "spyx" in results["skipped"]
    assert "left out: spyx" in printed


@pytest.mark.slow
def test_scaling(tmp_path):
    _, results = run("scaling.py", tmp_path)
    assert len(results["rows"]) == 2 * 2 * 4
    for row in results["rows"]:
        check_summary(row)
        assert row["temp MiB"] > 0
    assert {row["axis"] for row in results["slopes"]} == {"steps", "hidden", "batch", "depth"}


@pytest.mark.slow
def test_memory(tmp_path):
    _, results = run("memory.py", tmp_path)
    rows = {(row["cell"], row["way"]): row for row in results["rows"]}
    assert len(rows) == 2 * 7
    for row in rows.values():
        assert row["floats"] > 0 or row["with outputs"] > 0
        # What XLA sets aside holds at least what the pullback holds beyond inputs and outputs.
        assert row["bytes"] >= 4 * row["floats"] - 0.5
    for cell, way in rows:
        assert rows[cell, "unroll"]["floats"] <= rows[cell, "plain scan"]["floats"], (cell, way)
    assert {row["way"] for row in results["training_step"]} <= {"all kept", "recomputed"}


@pytest.mark.slow
def test_start_up(tmp_path):
    _, results = run("start_up.py", tmp_path, "--networks", "plain")
    assert [row["import"] for row in results["imports"]] == [
        "nothing",
        "jax, flax.nnx, optax",
        "jaxsnn",
    ]
    cold, warm = results["runs"]
    assert (cold["cache"], warm["cache"]) == ("cold", "warm")
    assert cold["losses"] == warm["losses"]
    assert cold["compilations"] == 1
    assert warm["compile"] < cold["compile"]


@pytest.mark.slow
def test_inference(tmp_path):
    _, results = run("inference.py", tmp_path)
    assert [row["network"] for row in results["rows"]] == ["empty call", "plain", "ss", "fb"]
    for row in results["rows"]:
        check_summary(row["latency_s"])
        if row["network"] != "empty call":
            check_summary(row["throughput_s"])
            assert row["images/s"] > 0


@pytest.mark.slow
def test_kills(tmp_path):
    printed, results = run("kills.py", tmp_path)
    assert len(results["kills"]) == 3
    assert sum(results["phases"].values()) == 3
    assert results["equal"] is True
    assert "3 kills" in printed


@pytest.mark.slow
def test_soak(tmp_path):
    _, results = run("soak.py", tmp_path)
    assert results["epochs"] == 20
    assert results["rows"][-1]["compiled"] > 0


@pytest.mark.slow
def test_devices(tmp_path):
    _, results = run("devices.py", tmp_path)
    assert len(results["rows"]) == 6
    for row in results["rows"]:
        check_summary(row["times"])
        alone = row.get("devices") == 1
        # What is summed: the gradient of every parameter, the loss, the correct examples.
        assert row["bytes"] == (0 if alone else 4 * row["parameters"] + 8)
