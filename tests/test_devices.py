"""Training on several devices is training on one; and the choice of devices."""

import json
import os
import pathlib
import subprocess
import sys

import eight_devices
import jax
import pytest

from jaxsnn.experiment import devices


@pytest.fixture(scope="module")
def outcome():
    """What went wrong with each check, in a process that has eight devices."""
    done = subprocess.run(
        [sys.executable, pathlib.Path(eight_devices.__file__)],
        check=True,
        stdout=subprocess.PIPE,
        env={"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"} | os.environ,
        timeout=900,
    )
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("check", eight_devices.CHECKS)
def test_eight_devices(outcome, check):
    assert outcome[check] is None, outcome[check]


@pytest.fixture
def default_device():
    before = jax.config.jax_default_device
    yield
    jax.config.update("jax_default_device", before)


def test_one_device_or_all(default_device):
    there = jax.devices()
    assert devices.select() == there[:1]
    assert devices.select("cpu", "all") == there
    assert jax.config.jax_default_device == there[0]


@pytest.mark.parametrize(
    ("name", "count", "message"),
    [
        ("tpu9", 1, "--device must be auto, cpu, gpu or cuda:0"),
        ("cuda:x", 1, "'x' is not the number of a GPU"),
        ("cuda:1", 2, "cuda:1 is one GPU; for 2 of them say --device gpu"),
        ("cpu", 99, r"there are only \d+ of the kind cpu; XLA_FLAGS=--xla_force_host"),
        ("cpu", 0, "--devices must be at least 1, got 0"),
    ],
)
def test_devices_that_are_not_there(default_device, name, count, message):
    with pytest.raises(ValueError, match=message):
        devices.select(name, count)


@pytest.mark.parametrize(
    ("arguments", "variables", "message"),
    [
        (("127.0.0.1", 2, 0), {}, "free port of process 0, HOST:PORT, got '127.0.0.1'"),
        (("127.0.0.1:0", 2, 0), {}, "free port"),
        (("127.0.0.1:1",), {"JAX_NUM_PROCESSES": "two"}, "JAX_NUM_PROCESSES must be a number"),
        ((), {"JAX_COORDINATOR_ADDRESS": "here"}, "got 'here'"),
    ],
)
def test_joining_wrongly(monkeypatch, arguments, variables, message):
    for name in ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        devices.join(*arguments)


def test_one_gpu_for_several_processes(monkeypatch):
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    with pytest.raises(ValueError, match="each its own GPU with CUDA_VISIBLE_DEVICES"):
        devices.select("cuda:1")


def test_one_process_is_of_one_mind():
    assert devices.in_any_process(True, False) == (True, False)
    devices.refuse_difference("0" * 64)
    devices.wait_for_all()
