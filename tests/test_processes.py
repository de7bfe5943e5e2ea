"""Several processes, here on the loopback of one machine, train as one; and what if one is lost."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import optax
import pytest
import run_files

from jaxsnn import data, experiment, training

TRAIN = pathlib.Path(__file__).parent.parent / "train.py"
SETTINGS = ["--model", "ss", "--epochs", "4", "--dataset", "fashion_mnist_mini", "-b", "64"]
SETTINGS += ["--save-every", "0"]
LOST_WITHIN = 30  # seconds; JAX's own heartbeat would take up to 100


def free_port(among=(0,)):
    """A port of the loopback that nobody listens at; 0 is any."""
    for port in among:
        with contextlib.suppress(OSError), socket.socket() as server:
            server.bind(("127.0.0.1", port))
            return server.getsockname()[1]
    raise OSError("no port is free")


def start(number, *args):
    """Starts train.py in so many processes."""
    address = f"127.0.0.1:{free_port()}"
    env = {"JAX_PLATFORMS": "cpu", "JAX_COORDINATOR_ADDRESS": address} | os.environ
    processes = []
    for k in range(number):
        command = [sys.executable, str(TRAIN), *args, "--num-processes", str(number)]
        pipe = subprocess.PIPE
        processes.append(
            subprocess.Popen(
                [*command, "--process-id", str(k)], stdout=pipe, stderr=pipe, text=True, env=env
            )
        )
    return processes


def end(processes):
    """Waits; returns each one's status and what it wrote, `(status, out, err)`."""
    ended = []
    for process in processes:
        try:
            out, err = process.communicate(timeout=300)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        ended.append((process.returncode, out, err))
    return ended


def until(process, beginning):
    """Reads what it prints up to a line that begins so."""
    for line in process.stdout:
        if line.startswith(beginning):
            return
    raise AssertionError(f"no line {beginning!r}: {process.stderr.read()}")


def trained(number, *args):
    for status, _, err in end(start(number, *args)):
        assert status == 0, err


def only_run(out_dir):
    (folder,) = out_dir.iterdir()
    return folder


def params(folder):
    _, like = training.create(
        experiment.build_model(experiment.Config(**run_files.SETTINGS)),
        optax.identity(),
        to_sequence=data.columns,
        batch_size=1,
        seed=0,
    )
    found = experiment.Checkpoints(folder).restore_params(like.params, "latest")
    return jax.tree.map(np.asarray, found)


def assert_same(actual, expected):
    jax.tree.map(np.testing.assert_array_equal, params(actual), params(expected))


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """A run of two processes that nothing has disturbed, and what they printed."""
    out = tmp_path_factory.mktemp("together")
    ended = end(start(2, *SETTINGS, "--out-dir", str(out)))
    assert [status for status, _, _ in ended] == [0, 0], ended
    return only_run(out), ended


@pytest.mark.slow
def test_two_processes_are_one_run(together, tmp_path):
    folder, ((_, out, _), (_, silent, _)) = together
    assert out.count("epoch = ") == 4
    assert "cpu (cpu:0) and 1 more, in 2 processes" in out
    assert "epoch" not in silent
    assert [row["epoch"] for row in run_files.table(folder)] == [0, 1, 2, 3]
    assert len(run_files.curves(folder)["test_acc"]) == 4
    (session,) = json.loads((folder / "config.json").read_text())["sessions"]
    assert "--process-id 0" in session["command"]

    two = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, str(TRAIN), *SETTINGS, "--out-dir", str(tmp_path), "--devices", "2"],
        capture_output=True,
        text=True,
        env=os.environ | two,
    )
    assert done.returncode == 0, done.stderr
    assert_same(folder, only_run(tmp_path))


def train_blocks(number, file):
    """Trains networks of our own in so many processes; parameters and running statistics."""
    script = pathlib.Path(__file__).parent / "helpers" / "one_of_several.py"
    address = f"127.0.0.1:{free_port()}"
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), str(number), str(k), address, str(file)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"} | os.environ,
        )
        for k in range(number)
    ]
    for status, _, err in end(processes):
        assert status == 0, err
    with np.load(file, allow_pickle=False) as found:
        return dict(found)


@pytest.mark.slow
def test_normalisation_and_dropout_in_two_processes(tmp_path):
    """Parameters and running statistics are those of one process, on the device and streamed."""
    one, two = (train_blocks(number, tmp_path / f"{number}.npz") for number in (1, 2))
    assert set(one) == set(two)
    assert any("mean" in name for name in one)
    for name, expected in one.items():
        assert expected.dtype == np.float64
        np.testing.assert_allclose(two[name], expected, rtol=0, atol=1e-12, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("placement", ["device", "host"])
def test_where_the_data_live_changes_nothing(together, tmp_path, placement):
    trained(2, *SETTINGS, "--out-dir", str(tmp_path), "--data-placement", placement)
    assert_same(only_run(tmp_path), together[0])


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_one_process_is_lost(together, tmp_path, victim):
    """The other ends with one line; resumed, the run is the one that was never disturbed."""
    processes = start(2, *SETTINGS, "--out-dir", str(tmp_path))
    until(processes[0], "epoch = 1,")
    processes[victim].kill()
    began = time.monotonic()
    status, _, err = end([processes[1 - victim]])[0]
    assert time.monotonic() - began < LOST_WITHIN
    processes[victim].communicate()
    # Mostly one line of ours; JAX may be first, and abort with its own.
    assert status in (75, -signal.SIGABRT), err
    assert "another process was lost" in err or "another task died" in err
    folder = only_run(tmp_path)
    trained(2, "--resume", str(folder))
    assert_same(folder, together[0])


@pytest.mark.slow
def test_another_number_of_processes_goes_on(together, tmp_path):
    """SIGTERM to one of two ends both; four go on, then one."""
    processes = start(2, *SETTINGS, "--out-dir", str(tmp_path))
    until(processes[0], "epoch = 0,")
    processes[1].terminate()
    for status, _, err in end(processes):
        assert status == 143, err
        assert "SIGTERM: saved after epoch" in err
    folder = only_run(tmp_path)
    processes = start(4, "--resume", str(folder))
    until(processes[0], "epoch = ")
    processes[0].terminate()
    ended = {status for status, _, _ in end(processes)}
    assert ended in ({143}, {0})  # they may have come to the end before it came
    if ended == {143}:
        alone = [sys.executable, str(TRAIN), "--resume", str(folder)]
        subprocess.run(alone, check=True, capture_output=True, env=os.environ)
    sessions = json.loads((folder / "config.json").read_text())["sessions"]
    assert [part["device"][-14:] for part in sessions[:2]] == [f"in {n} processes" for n in (2, 4)]
    assert [row["epoch"] for row in run_files.table(folder)] == [0, 1, 2, 3]
    # Sums in another order end in other spikes, sooner or later: the losses stay close.
    for row, expected in zip(run_files.table(folder), run_files.table(together[0]), strict=True):
        assert row["train_loss"] == pytest.approx(expected["train_loss"], rel=0.02)
        assert row["lr"] == expected["lr"]


def start_distributed(environments, *args):
    """Starts train.py once for each environment, from which alone it is to know the others."""
    return [
        subprocess.Popen(
            [sys.executable, str(TRAIN), *args, "--distributed", *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"JAX_PLATFORMS": "cpu"} | environment,
        )
        for environment, more in environments
    ]


@pytest.mark.slow
def test_slurm_tells_who_the_others_are(together, tmp_path):
    """As `srun -n 2` would start them; JAX takes the port from the number of the job."""
    first = 2**16 - 2**12
    port = free_port(range(first, 2**16))
    job = {
        "SLURM_JOB_ID": str(port - first),
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
        "JAX_COORDINATOR_BIND_ADDRESS": f"127.0.0.1:{port}",
    }
    ranks = [{"SLURM_PROCID": str(k), "SLURM_LOCALID": str(k)} for k in range(2)]
    processes = start_distributed(
        [(job | rank, ()) for rank in ranks], *SETTINGS, "--out-dir", str(tmp_path)
    )
    for status, _, err in end(processes):
        assert status == 0, err
    assert_same(only_run(tmp_path), together[0])


@pytest.mark.slow
def test_processes_that_disagree(tmp_path):
    address = f"127.0.0.1:{free_port()}"
    environment = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    processes = start_distributed(
        [(environment | {"JAX_PROCESS_ID": str(k)}, ("--lr", f"0.{k + 1}")) for k in range(2)],
        *("--dataset", "fashion_mnist_mini", "--out-dir", str(tmp_path)),
    )
    for status, _, err in end(processes):
        assert status == 2, err
        assert "have other settings, data or checkpoints than process 0" in err
    assert list(tmp_path.iterdir()) == []


def test_distributed_with_nobody_named(tmp_path):
    done = subprocess.run(
        [sys.executable, str(TRAIN), "--distributed", "--out-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        env=os.environ,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "cannot join the other processes" in line
    assert "--coordinator HOST:PORT" in line
