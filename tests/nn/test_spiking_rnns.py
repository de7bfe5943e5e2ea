"""Spiking RNN, GRU and LSTM against SpikingJelly, one way and both ways; then their arguments."""

import golden_arrays
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxsnn import functional, nn, surrogate

GOLDEN = golden_arrays.Golden("rnn")
CLASSES = {
    "SpikingVanillaRNN": nn.contrib.SpikingVanillaRNNCell,
    "SpikingGRU": nn.contrib.SpikingGRUCell,
    "SpikingLSTM": nn.contrib.SpikingLSTMCell,
}
WAYS = {"cells": "forward_cell", "cells_reverse": "backward_cell"}


def parts(case):
    """The parameters as SpikingJelly names them, and how to read ours from a network."""
    for name in GOLDEN.arrays:
        if name.startswith(f"{case}/p_"):
            way, k, part, kind = name.removeprefix(f"{case}/p_").split(".")
            path = [int(k), *([WAYS[way]] if GOLDEN.cases[case]["bidirectional"] else []), part]
            yield name, path, {"weight": "kernel", "bias": "bias"}[kind]


def follow(net, path):
    for step in path:
        net = net[step] if isinstance(step, int) else getattr(net, step)
    return net


def make(case, parameters):
    meta = GOLDEN.cases[case]
    hidden, dtype = meta["hidden_size"], next(iter(parameters.values())).dtype

    def cell(inputs):
        return CLASSES[meta["cls"]](
            inputs, hidden, meta["bias"], param_dtype=dtype, rngs=nnx.Rngs(0)
        )

    if meta["bidirectional"]:
        sizes = meta["input_size"], 2 * hidden
        net = nn.Sequential(*(nn.Bidirectional(cell(size), cell(size)) for size in sizes))
    else:
        net = nn.Sequential(cell(meta["input_size"]), cell(hidden))
    for name, path, kind in parts(case):
        getattr(follow(net, path), kind)[...] = parameters[name].T
    return net


def last_states(net, xs):
    """Of the cells forwards, then of those backwards."""
    carries = []
    for layer in net.layers:
        carries.append((nn.unroll(layer.forward_cell, xs)[0],))
        carries[-1] += (nn.unroll(layer.backward_cell, xs[::-1])[0],)
        xs = layer(xs)
    forwards, backwards = zip(*carries, strict=True)
    return forwards + backwards


@jax.jit  # one for all cases, which makes the networks too: in pieces it would take twice as long
def everything(arrays):
    def loss(net, x, w_y):
        carry, y = nn.unroll(net, x)
        return jnp.sum(y * w_y), (y, carry)

    results = {}
    for case, (parameters, x, w_y) in arrays.items():
        net = make(case, parameters)
        (value, (y, states)), gradients = jax.value_and_grad(loss, (0, 1), has_aux=True)(
            net, x, w_y
        )
        if isinstance(net[0], nn.Bidirectional):
            stepped, states = y, last_states(net, x)
        else:
            stepped = jax.lax.scan(net, net.initialize_carry(x.shape[1:], dtype=x.dtype), x)[1]
        results[case] = value, y, stepped, states, gradients
    return results


def test_golden(precision):
    arrays = {}
    for case in GOLDEN.cases:
        p = {name: GOLDEN.arrays[name].astype(precision) for name, *_ in parts(case)}
        x, w_y = (GOLDEN.arrays[f"{case}/{name}"].astype(precision) for name in ("x", "w_y"))
        arrays[case] = p, x, w_y
    for case, (value, y, stepped, states, (g_net, g_x)) in everything(arrays).items():
        golden_arrays.assert_equal(y, GOLDEN(f"{case}/y", precision), f"{case} y")
        golden_arrays.assert_equal(stepped, y, f"{case} step by step")
        for name in ("h", "c")[: 1 + GOLDEN.has(f"{case}/c")]:
            last = np.stack([getattr(state, name, state) for state in states])
            golden_arrays.assert_equal(last, GOLDEN(f"{case}/{name}", precision), f"{case} {name}")
        golden_arrays.assert_loss_close(value, GOLDEN(f"{case}/loss", precision), precision)
        golden_arrays.assert_close(g_x, GOLDEN(f"{case}/g_x", precision), precision, f"{case} g_x")
        for name, path, kind in parts(case):
            name = name.replace("/p_", "/g_p_")
            g = np.asarray(getattr(follow(g_net, path), kind)[...]).T
            golden_arrays.assert_close(g, GOLDEN(name, precision), precision, name)


def test_starting_weights():
    """All of them in `U(-1/sqrt(H), 1/sqrt(H))`, whatever the number of inputs."""
    cell = nn.contrib.SpikingGRUCell(100, 16, rngs=nnx.Rngs(0))
    assert cell.linear_ih.kernel.shape == (100, 48)
    assert cell.linear_hh.kernel.shape == (16, 48)
    for layer in (cell.linear_ih, cell.linear_hh):
        assert 0.24 < np.abs(layer.kernel[...]).max() <= 0.25
        assert 0.2 < np.abs(layer.bias[...]).max() <= 0.25


def test_the_limit_of_the_cell_state_is_not_felt_by_the_gradient():
    step = jax.value_and_grad(
        lambda c, a: jnp.sum(
            functional.spiking_lstm_step(c, a, surrogate_function=surrogate.Erf()).c
        )
    )
    value, g = step(jnp.ones(1), jnp.array([0.5, 0.5, 0.5, 0.5]))  # all gates open: 1 + 1
    assert value == 1
    assert g == 1


def test_bidirectional_reads_padded_sequences_from_their_own_end():
    layer = nn.Bidirectional(nn.LIFNode(), nn.SynapseFilter(tau=2.0))
    xs = np.random.default_rng(0).uniform(0, 3, (5, 2, 3)).astype("float32")
    mask = nn.sequence_mask(jnp.array([3, 5]), 5)
    _, ys, extras = nn.unroll(layer, xs, mask=mask, record="*")
    for n, length in enumerate((3, 5)):
        _, alone = nn.unroll(layer, xs[:length, n])
        np.testing.assert_allclose(ys[:length, n], alone, rtol=1e-6)
        assert np.all(np.asarray(ys)[length:, n] == 0)
    np.testing.assert_array_equal(extras.records["backward_cell"], ys[..., 3:])
    np.testing.assert_array_equal(extras.records["backward_cell.i"], ys[..., 3:])
    np.testing.assert_array_equal(extras.records["forward_cell"], ys[..., :3])


def test_bidirectional_needs_the_whole_sequence():
    layer = nn.Bidirectional(nn.IFNode(), nn.IFNode())
    with pytest.raises(ValueError, match="Bidirectional needs all time steps together"):
        nn.Sequential(layer).initialize_carry((2, 3))
    with pytest.raises(ValueError, match="checkpoint_every"):
        nn.unroll(layer, jnp.ones((4, 2)), checkpoint_every=2)


RNGS = {"rngs": nnx.Rngs(0)}


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: nn.contrib.SpikingVanillaRNNCell(0, 3, **RNGS),
            ValueError,
            "input_size must be at least 1",
        ),
        (
            lambda: nn.contrib.SpikingGRUCell(2, 3.5, **RNGS),
            TypeError,
            "hidden_size must be an integer",
        ),
        (
            lambda: nn.contrib.SpikingLSTMCell(2, 3, 1, **RNGS),
            TypeError,
            "bias must be True or False",
        ),
        (lambda: nn.contrib.SpikingLSTMCell(2, 3, rngs=0), TypeError, "rngs must be"),
        (lambda: nn.Bidirectional(nn.IFNode(), 3), TypeError, "backward_cell must be callable"),
        (
            lambda: nn.unroll(nn.contrib.SpikingVanillaRNNCell(2, 3, **RNGS), jnp.ones((5, 2, 4))),
            ValueError,
            r"SpikingVanillaRNNCell\(input_size=2\) needs inputs",
        ),
        (
            lambda: nn.unroll(
                nn.contrib.SpikingLSTMCell(2, 3, **RNGS), jnp.ones((5, 4, 2)), jnp.ones(2)
            ),
            TypeError,
            r"must be LSTMState\(h, c\)",
        ),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
