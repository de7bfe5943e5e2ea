"""Reads tests/golden and compares with it at the tolerances its README states."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

FOLDER = pathlib.Path(__file__).parents[1] / "golden"


class Golden:
    """One file of golden arrays."""

    def __init__(self, name):
        with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as arrays:
            self.arrays = dict(arrays)
        self.cases = json.loads(str(self.arrays.pop("__meta__")))["cases"]

    def __call__(self, name, precision):
        """Expected array `name` of the run in this precision (spikes: both runs agree)."""
        if precision == "float32" or np.issubdtype(self.arrays[name].dtype, np.integer):
            return self.arrays[name]
        return self.arrays[f"{name}64"]

    def input(self, name, precision):
        """Array `name` as a floating JAX array."""
        return jnp.asarray(self.arrays[name].astype(precision))

    def has(self, name):
        return name in self.arrays

    def names(self, case):
        """The names of the arrays that belong to a case, each once for both precisions."""
        names = {
            name.removeprefix(f"{case}/") for name in self.arrays if name.startswith(f"{case}/")
        }
        return {name for name in names if name.removesuffix("64") not in names - {name}}


def assert_close(actual, expected, precision, name=""):
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == precision, (name, actual.dtype)
    assert actual.shape == expected.shape, (name, actual.shape, expected.shape)
    largest = float(np.max(np.abs(expected), initial=0.0))
    limit = 1e-9 * max(1.0, largest) if precision == "float64" else 2e-5 * largest
    np.testing.assert_allclose(actual, expected, rtol=0, atol=limit, err_msg=name)


def assert_loss_close(actual, expected, precision, name="loss"):
    """Losses are sums that cancel: in float32 an absolute 1e-5, more only if they are large."""
    assert actual.dtype == precision
    limit = 1e-9 if precision == "float64" else 1e-5
    scale = max(1.0, abs(float(expected)))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=limit * scale, err_msg=name)


def assert_equal(actual, expected, name=""):
    np.testing.assert_array_equal(np.asarray(actual), np.asarray(expected), err_msg=name)


def all_at_once(calls):
    """`{name: function(*args)}` of `{name: (function, *args)}`, as NumPy arrays.

    Compiled as one, which takes a third of the time of one by one.
    """
    functions = {name: function for name, (function, *_) in calls.items()}

    @jax.jit
    def run(args):
        return {name: functions[name](*args) for name, args in args.items()}

    return jax.device_get(run({name: args for name, (_, *args) in calls.items()}))


def scan_with_states(cell, carry, xs):
    """Steps a cell through `xs`; returns the last carry, all carries and all outputs."""

    def step(carry, x):
        carry, y = cell(carry, x)
        return carry, (carry, y)

    carry, (carries, ys) = jax.lax.scan(step, carry, xs)
    return carry, carries, ys
