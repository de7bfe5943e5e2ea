"""Properties of transitions and cells that hold for all inputs, on inputs that Hypothesis makes.

It is told not to draw at random, so that what fails in one run fails in the next.
"""

import functools
import operator

import cells
import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cells import CELLS, ROWS, F
from flax import nnx
from hypothesis import given

from jaxsnn import functional, nn, surrogate

T, N = 7, 3


def examples(count):
    """Settings: no deadline and no check of speed, for the first example compiles."""
    return hypothesis.settings(
        derandomize=True,
        deadline=None,
        max_examples=count,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )


both_dtypes = pytest.mark.parametrize("dtype", ["float32", "bfloat16"])

# Multiples of 1/8, of which sums and products of a few are exact, in whatever order they are
# taken. Thresholds of 1 and 1/2 are among them, and so are ties.
GRID = st.integers(-32, 32).map(lambda k: k / 8)

# From 2^-60 to 2^99 on either side of 0. Below, a difference may be subnormal, which XLA flushes
# to 0 and NumPy does not; above, a sum may be infinite, of which the hard reset
# `s v_reset + (1 - s) h` makes NaN. (Multiples of 1/8 to begin with: shrinking ends there.)
SIZE = st.floats(2.0**-60, 2.0**99, width=32)
BESIDE_1 = [float(np.nextafter(np.float32(1), np.float32(to))) for to in (0, 2)]
ANY = GRID | SIZE | SIZE.map(operator.neg) | st.sampled_from([-0.0, *BESIDE_1])

SPIKES = st.integers(0, 1).map(float)


def arrays(*shape, of):
    return hnp.arrays(np.float32, shape, elements=of, fill=st.nothing())


def assert_equal(actual, expected, message="", atol=0.0, rtol=0.0):
    """Of trees of arrays; without a tolerance the same numbers, of which -0 is 0."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected), message
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.shape == b.shape, message
        np.testing.assert_allclose(
            a.astype(np.float32), b.astype(np.float32), rtol, atol, err_msg=message
        )


# --- One step: charge, fire, reset ---------------------------------------------------------------


NEURONS = {name: row for name, row in ROWS.items() if row.equation}
INPUTS = {"any": ANY, "grid": GRID, "": GRID}


@functools.partial(jax.jit, static_argnames="name")
def one_step(name, state, x):
    """By the transition and by the cell."""
    cell = NEURONS[name].make()
    return cells.one_step(cell, state, x), cell(state, x)


@both_dtypes
@pytest.mark.parametrize("name", NEURONS)
@given(data=st.data())
@examples(20)
def test_a_step_charges_fires_and_resets(name, dtype, data):
    """From any state, as the equations say; to the bit where nothing is rounded differently."""
    row = NEURONS[name]
    cell, equation, of = row.make(), row.equation, INPUTS[row.equation.exact]
    n = cells.Constants(cell)
    # Exponentials, and time constants that are not a power of 2, are rounded in their own way: a
    # few times half a unit in the last place, 2e-6, of terms below 32.
    atol = 0.0 if equation.exact else 1e-5
    x = data.draw(arrays(N, F, of=of)).astype(dtype)
    first = cell.initialize_carry((N, F))
    state = jax.tree.map(lambda _: data.draw(arrays(N, F, of=of)), first)
    before, *others = jax.tree.leaves(state)
    (after, s), by_cell = jax.device_get(one_step(name, state, x))
    assert_equal(by_cell, (after, s), "the cell is its transition")

    assert s.dtype == x.dtype
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(after))
    x, s = x.astype(np.float32), s.astype(np.float32)
    assert np.isin(s, row.outputs).all()

    h = equation.charge(n, before, x, *others)
    reach = equation.reach(n, *others) if equation.reach else n.v_threshold
    fired = s != 0
    clear = np.minimum(abs(h - reach), abs(h + reach)) > atol
    if atol == 0:
        clear[:] = True  # ties as well
    np.testing.assert_array_equal(s[clear], equation.fire(h, reach)[clear])

    v, *second = jax.tree.leaves(after)
    v_reset = getattr(cell, "v_reset", None)  # None, or a neuron without it: the soft reset
    if v_reset is not None:
        np.testing.assert_array_equal(v[fired], np.float32(v_reset))
        assert_equal(v[~fired], h[~fired], "no reset without a spike", atol)
    else:
        taken = equation.take(n, *others, *second) if equation.take else n.v_threshold
        assert_equal(v, h - s * taken, "what a spike takes", atol)
    if len(row.outputs) == 2:
        assert (v < reach)[~fired].all()
    if second:
        assert_equal(second[0], equation.second(n, before, x, *others, h, s), "second", atol)


# --- Synapses ------------------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnames=("synapse", "tau"))
def currents(synapse, tau, first, xs):
    """The state after each step; outputs are the same, rounded to the dtype of the input."""
    factors = {"tau": tau}
    if synapse is functional.exponential_synapse_step:
        factors = {"decay": functional.exponential_decay(tau)}
    if synapse is functional.double_exponential_synapse_step:  # alpha
        decay, rise, gain = functional.double_exponential_factors(tau, tau)
        factors = {"decay": decay, "rise": rise, "gain": gain}

    def step(carry, x):
        carry, y = synapse(carry, x, **factors)
        return carry, (carry, y)

    _, (states, ys) = jax.lax.scan(step, first, xs)
    return states, ys


def filtered(first, spikes, tau=2.0):
    states, ys = jax.device_get(currents(functional.synapse_filter_step, tau, first, spikes))
    assert (states.dtype, ys.dtype) == (np.float32, spikes.dtype)
    np.testing.assert_array_equal(ys, states.astype(ys.dtype))
    return states


@both_dtypes
@pytest.mark.parametrize("tau", [2.0, 4.0])
@given(data=st.data())
@examples(20)
def test_what_is_linear_in_a_synapse_filter(tau, dtype, data):
    """Where there is a spike, `i + 1`, elsewhere `(1 - 1/tau) i`: no current decays while another
    comes in. So each spike's share, and the first current's, is `(1 - 1/tau)^k` after `k` silent
    steps, of whichever spikes are between. Given the spikes, the current is therefore linear in
    its first value, superposition and scaling, but for the share of the spikes.

    Exact: with these time constants, 7 steps and first currents in eighths, nothing is rounded.
    """
    spikes = data.draw(arrays(T, N, of=SPIKES)).astype(dtype)
    a, b = (data.draw(arrays(N, of=GRID)) for _ in range(2))
    x = spikes.astype(np.float32)

    silent = np.cumsum(1 - x, axis=0)  # silent steps up to and including each
    share = lambda k: (1 - 1 / tau) ** k  # noqa: E731
    expected = a * share(silent)
    for t in range(T):
        expected[t:] += x[t] * share(silent[t:] - silent[t])
    from_a = filtered(a, spikes, tau)
    np.testing.assert_array_equal(from_a, expected)

    from_0, from_b = (filtered(first, spikes, tau) for first in (np.zeros_like(a), b))
    np.testing.assert_array_equal(
        filtered(a + b, spikes, tau) - from_0, (from_a - from_0) + (from_b - from_0)
    )
    np.testing.assert_array_equal(filtered(-2 * a, spikes, tau) - from_0, -2 * (from_a - from_0))


@both_dtypes
@given(data=st.data())
@examples(20)
def test_what_is_not_linear_in_a_synapse_filter(dtype, data):
    """Superposition of spikes: two trains of which no spikes coincide, sent through one filter,
    make at least the sum of what they make through one each, and more if a spike of one keeps a
    current of the other from decaying. Nor does half a spike make half the current, but less from
    the second on, which lets the current of the first decay. Exact, as above.
    """
    which = data.draw(hnp.arrays(np.int8, (T, N), elements=st.integers(0, 2), fill=st.nothing()))
    x, y = ((which == k).astype(dtype) for k in (1, 2))
    zero = np.zeros(N, np.float32)
    both, one, other = (filtered(zero, spikes) for spikes in (x + y, x, y))
    assert (both >= one + other).all()
    for a, b in ((x, other), (y, one)):  # the first time that a spike meets a current
        meets = (a[1:].astype(np.float32) == 1) & (b[:-1] > 0)
        first = meets & (np.cumsum(meets, axis=0) == 1)
        assert (both[1:] > (one + other)[1:])[first].all()
    half = filtered(zero, x * np.asarray(0.5, dtype))
    second = np.cumsum(x.astype(np.float32), axis=0) > 1
    assert (half < 0.5 * one)[second].all()


@both_dtypes
@pytest.mark.parametrize(
    "synapse", [functional.exponential_synapse_step, functional.double_exponential_synapse_step]
)
@given(data=st.data())
@examples(20)
def test_linear_synapses_are_linear(synapse, dtype, data):
    """Superposition and scaling of inputs and first states together, exponential and alpha. By
    -1 and powers of 2 scaling is exact, for inputs of any size.
    """
    rising = synapse is functional.double_exponential_synapse_step

    def run(firsts, xs):
        first = functional.RisingCurrent(*firsts) if rising else firsts[0]
        states, ys = jax.device_get(currents(synapse, 3.0, first, xs.astype(dtype)))
        i = states.i if rising else states
        np.testing.assert_array_equal(ys, i.astype(dtype))
        return jax.tree.leaves(states)

    a, b = (data.draw(arrays(T, N, of=GRID)).astype(dtype) for _ in range(2))
    ia, ib = (data.draw(arrays(2, N, of=GRID)) for _ in range(2))
    # currents below 64, the sum of up to 8 numbers of up to 8: some roundings of half of 4e-6
    for both, one, other in zip(run(ia + ib, a + b), run(ia, a), run(ib, b), strict=True):
        np.testing.assert_allclose(both, one + other, rtol=0, atol=4e-5)

    c, ic = data.draw(arrays(T, N, of=ANY)).astype(dtype), data.draw(arrays(2, N, of=ANY))
    for factor in (-1, 4, -0.5):
        scaled = run(np.float32(factor) * ic, np.asarray(factor, dtype) * c)
        for actual, one in zip(scaled, run(ic, c), strict=True):
            np.testing.assert_array_equal(actual, np.float32(factor) * one)


# --- Cells over time -----------------------------------------------------------------------------


# Of a neuron one row: others have the same program with other constants.
EVERY = {
    name: row for name, row in ROWS.items() if row.over_time and (name in CELLS or not row.equation)
}
# Sums may be taken in any order, and XLA may or may not round what a layer hands on to bfloat16
# (`xla_allow_excess_precision`): of these inputs, with parameters in quarters below 1, all that
# a layer makes are eighths below 16, which bfloat16 holds.
HALVES = st.integers(-8, 8).map(lambda k: k / 2)

OVER_TIME = {"any": ANY, "rounded": GRID, "sums": HALVES}


def shape_of(name, *leading):
    return (*leading, *ROWS[name].shape, F)


@functools.cache
def cell_in(name, dtype):
    """The cell, its parameters in the dtype of the input and rounded to quarters."""
    graphdef, parameters = nnx.split(EVERY[name].make())
    return nnx.merge(
        graphdef, jax.tree.map(lambda p: (jnp.round(p * 4) / 4).astype(dtype), parameters)
    )


@jax.jit
def in_many_ways(cell, xs, mask, garbage, packed):
    """The whole sequence; in pieces; a row alone; a mask, and what it leaves, step by step."""

    def step(carry, x):
        carry, y = cell(carry, x)
        return carry, (carry, y)

    first = cell.initialize_carry(xs.shape[1:], dtype=xs.dtype)
    carry, head = nn.unroll(cell, xs[:1])
    carry, tail = nn.unroll(cell, xs[1:], carry)
    alone, alone_ys = nn.unroll(cell, xs[:, 1:2])
    each, each_ys = jax.vmap(lambda row: nn.unroll(cell, row[:, None]), 1, 0)(xs)
    return {
        "whole": nn.unroll(cell, xs),
        "pieces": (carry, jnp.concatenate([head, tail])),
        "alone": (jax.tree.map(lambda a: a[0], alone), alone_ys[:, 0]),
        "each": (jax.tree.map(lambda a: a[:, 0], each), each_ys[:, :, 0].swapaxes(0, 1)),
        "masked": nn.unroll(cell, garbage, mask=mask),
        "packed": (first, *jax.lax.scan(step, first, packed)[1]),
    }


# Left to CI: modules that are made of cells and cells with learned constants, the like of which
# are here; and in bfloat16, which compiles as long once more, some of each kind.
LEFT_TO_CI = {"Concatenate", "Graph", "Residual", "Leaky", "Sequential, one scan"}
LEFT_TO_CI |= {name for name in EVERY if "learned" in name or "function" in name or "size" in name}
CONTAINERS = {name for name in EVERY if "Container" in name or "Sequential" in name}
IN_BFLOAT16 = {"IFNode", "LIFNode", "TernaryIFNode", "ILIFNode", "CUBALIFNode", "AlphaSynapse"}
IN_BFLOAT16 |= {"NonSpikingLIFNode", "SynapseFilter", "Delay"} | CONTAINERS
CASES = [
    pytest.param(name, "float32", marks=pytest.mark.slow if name in LEFT_TO_CI else ())
    for name in EVERY
] + [pytest.param(name, "bfloat16", marks=pytest.mark.slow) for name in sorted(IN_BFLOAT16)]


@pytest.mark.slow  # the contract of tests/nn/test_cells.py has the same for drawn numbers
@pytest.mark.parametrize(("name", "dtype"), CASES)
@given(data=st.data())
@examples(12)
def test_pieces_rows_and_masks_change_nothing(name, dtype, data):
    """A sequence in pieces, a row of the batch alone or by `vmap`, and steps masked out anywhere,
    whatever stands there, give the same states and outputs as the whole does: exactly the same,
    unless rounded factors are fused.
    """
    row = EVERY[name]
    of, fused = OVER_TIME[row.over_time], row.over_time == "rounded"
    xs = data.draw(arrays(*shape_of(name, T, N), of=of)).astype(dtype)
    mask = data.draw(hnp.arrays(np.bool_, (T, N), fill=st.nothing()))
    wide = mask.reshape(T, N, *[1] * (xs.ndim - 2))
    garbage = np.where(wide, xs, np.asarray(data.draw(st.sampled_from([np.nan, np.inf, 9])), dtype))
    counting_first = np.argsort(~mask, axis=0, kind="stable")
    packed = np.take_along_axis(xs, counting_first.reshape(wide.shape), 0)
    ways = jax.device_get(in_many_ways(cell_in(name, dtype), xs, mask, garbage, packed))

    carry, ys = ways["whole"]
    assert ys.dtype == xs.dtype
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(ways))
    if row.outputs:
        assert np.isin(ys.astype(np.float32), row.outputs).all()

    # Potentials, currents and thresholds are below 256, of which half a unit in the last place is
    # 8e-6, and no step makes an error many times larger. After the first rounding nothing comes to
    # its threshold exactly, so that no spike depends on it. Outputs have 8 bits in bfloat16.
    close = {"rtol": 1e-5, "atol": 1e-4} if fused else {}
    out = close | {"rtol": 2**-7} if close and dtype == "bfloat16" else close

    def same(way, expected_carry, expected_ys):
        assert_equal(ways[way][0], expected_carry, way, **close)
        assert_equal(ways[way][1], expected_ys, way, **out)

    same("pieces", carry, ys)
    same("alone", jax.tree.map(lambda a: a[1], carry), ys[:, 1])
    same("each", carry, ys)

    first, states, outputs = ways["packed"]
    counts = mask.sum(axis=0)

    def last(first, states):
        return np.stack([states[k - 1, n] if k else first[n] for n, k in enumerate(counts)])

    expected = np.zeros_like(outputs)
    for n, k in enumerate(counts):
        expected[mask[:, n], n] = outputs[:k, n]
    same("masked", jax.tree.map(last, first, states), expected)


RESTING = [name for name, row in ROWS.items() if row.rests and row.over_time]


@pytest.mark.parametrize("name", RESTING)
@given(data=st.data())
@examples(12)
def test_silence_before_the_input_only_delays_the_output(name, data):
    """Of a cell at rest, which silence leaves as it was; exactly, whatever it has rounded."""
    cell = ROWS[name].make()
    of = ANY if ROWS[name].over_time == "any" else GRID
    xs = data.draw(arrays(*shape_of(name, T, N), of=of))
    k = data.draw(st.integers(1, T - 1))
    later = np.concatenate([np.zeros_like(xs[:k]), xs[:-k]])
    runs = [nn.unroll(cell, inputs) for inputs in (xs, later, np.zeros_like(xs))]
    (_, ys), (_, late), (silent, _) = jax.device_get(runs)
    assert_equal(silent, jax.device_get(cell.initialize_carry(xs.shape[1:])))
    assert not late[:k].any()
    np.testing.assert_array_equal(late[k:], ys[:-k])


MONOTONE = {
    "IF": (nn.IFNode(), ANY),
    "IF, soft": (nn.IFNode(v_threshold=0.7, v_reset=None), ANY),
    "LIF, undecayed": (nn.LIFNode(decay_input=False, v_reset=None), ANY),
    "LIF": (nn.LIFNode(), GRID),
    "LIF, tau 4": (nn.LIFNode(tau=4.0, v_threshold=0.5, v_reset=-0.25), GRID),
}


@both_dtypes
@pytest.mark.parametrize("name", MONOTONE)
@given(data=st.data())
@examples(30)
def test_a_larger_input_never_delays_the_first_spike(name, dtype, data):
    """Nor is the potential less before it. For any floats where the potential is a sum of rounded
    sums, each of which grows with its terms, as in the IF neuron and, since halving is exact, in
    the LIF neuron whose input does not decay. In `v + (x - v) / tau`, which takes `v` twice, a
    larger `v` may be rounded to a smaller sum; where nothing is rounded it holds there too.
    """
    cell, of = MONOTONE[name]
    a, b = (data.draw(arrays(T, N, of=of)).astype(dtype) for _ in range(2))
    runs = [nn.unroll(cell, xs, record="v") for xs in (np.minimum(a, b), np.maximum(a, b))]
    (low, v_low), (high, v_high) = (
        (ys.astype(np.float32), extras.records["v"]) for _, ys, extras in jax.device_get(runs)
    )
    fired = np.cumsum(low, axis=0) > 0
    earlier = np.cumsum(high, axis=0) > 0
    assert (earlier >= fired).all()
    assert (v_high >= v_low)[~earlier].all()


GATES = {"alpha": 0.5, "beta": 0.25, "gamma": 0.75, "tau": 0.5, "linear_decay": 0.125}
GATES |= {"v_threshold": 0.5, "v_subreset": 0.25, "conduct": 0.5}


@jax.jit
def gated_step(state, x):
    return functional.gated_lif_step(state, x, **GATES, surrogate_function=surrogate.ATan())


@both_dtypes
@given(data=st.data())
@examples(20)
def test_a_gated_step_resets_for_the_spike_before(dtype, data):
    """Exactly: its numbers are few eighths."""
    x, v = data.draw(arrays(N, F, of=GRID)).astype(dtype), data.draw(arrays(N, F, of=GRID))
    s = data.draw(arrays(N, F, of=SPIKES))
    (after, kept), out = jax.device_get(gated_step((v, s), x))
    current = 0.875 * x.astype(np.float32)
    h = 0.75 * v - 0.0625 + current - s * (0.75 * 0.75 * v + 0.25 * 0.25)
    np.testing.assert_array_equal(after, h)
    np.testing.assert_array_equal(kept, h >= 0.5)
    np.testing.assert_array_equal(out.astype(np.float32), kept)
    assert (after.dtype, kept.dtype, out.dtype) == (np.float32, np.float32, x.dtype)
