"""Learning rules against SpikingJelly, against plain loops, and on a recurrent container."""

import golden_arrays
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxsnn import learning, nn

GOLDEN = golden_arrays.Golden("learning")
RULES = {"stdp": learning.STDP, "mstdp": learning.MSTDP, "mstdpet": learning.MSTDPET}
CASES = {case: meta for case, meta in GOLDEN.cases.items() if case.split("_")[0] in RULES}
IN_STRETCHES = ("stdp_linear_soft_pre", "mstdp_linear", "mstdpet_linear")
LEARNERS = [case for case in GOLDEN.cases if case not in CASES]


def clamp(w):
    return jnp.clip(w, -1, 1)


WEIGHT_DEPENDENCES = {
    "identity": learning.proportional,
    "clamp": clamp,
    "one": learning.additive,
    "soft_pre": learning.LowerBound(-1.0, 0.5),
    "soft_post": learning.UpperBound(1.0, 0.5),
}


def make(case):
    meta = CASES[case]
    settings = {name: WEIGHT_DEPENDENCES[meta[name]] for name in ("f_pre", "f_post")}
    if "stride" in meta:
        settings["synapses"] = learning.Convolution(tuple(meta["stride"]), "VALID")
    taus = [meta[name] for name in ("tau_pre", "tau_post", "tau_trace") if name in meta]
    return RULES[case.split("_")[0]](*taus, **settings)


def from_torch(weight, batch=0):
    """A weight `[*batch, out, in, ...]` as ours, `[*batch, ..., in, out]`."""
    return np.moveaxis(weight, (batch, batch + 1), (-1, -2))


def to_torch(weight, batch):
    """The inverse, for one or more of `batch` axes in front."""
    return np.moveaxis(weight, (-1, -2), (batch, batch + 1))


# The golden name of each state, and where it is in ours.
STATES = {
    "trace_pre": lambda states: states.pre,
    "trace_post": lambda states: states.post,
    "elig": lambda states: np.swapaxes(states.eligibility, -1, -2),
    "trace_e": lambda states: np.swapaxes(states.trace, -1, -2),
}


@jax.jit
def run(arrays):
    """Every case step by step, the sum of its changes, and the same from `over_time`."""
    results = {}
    for case, (weight, *sequences) in arrays.items():
        rule = make(case)

        def step(state, now, rule=rule, weight=weight):
            state, dw = rule(state, weight, *now)
            return state, (state, dw)

        state = rule.init(weight, sequences[0][0], sequences[1][0])
        last, (states, dw) = jax.lax.scan(step, state, tuple(sequences))
        head, tail = [xs[:5] for xs in sequences], [xs[5:] for xs in sequences]
        if case in IN_STRETCHES:
            state, head = learning.over_time(rule, weight, *head)
            state, tail = learning.over_time(rule, weight, *tail, state=state)
            at_once = state, head + tail
        else:
            at_once = learning.over_time(rule, weight, *sequences)
        results[case] = states, dw, (last, jnp.sum(dw, 0)), at_once
    return results


def test_golden(precision):
    arrays = {}
    for case in CASES:
        names = ["pre", "post", "reward"][: 2 + GOLDEN.has(f"{case}/reward")]
        weight, *sequences = (
            GOLDEN.arrays[f"{case}/{name}"].astype(precision) for name in ("weight", *names)
        )
        if "stride" in CASES[case]:
            sequences = [np.moveaxis(xs, 2, -1) for xs in sequences]
        arrays[case] = [from_torch(weight), *sequences]

    for case, (states, dw, summed, at_once) in jax.device_get(run(arrays)).items():
        expected = GOLDEN(f"{case}/dw", precision)
        golden_arrays.assert_close(to_torch(dw, 1), expected, precision, f"{case} dw")
        for name, read in STATES.items():
            if GOLDEN.has(f"{case}/{name}"):
                expected = GOLDEN(f"{case}/{name}", precision)
                golden_arrays.assert_close(read(states), expected, precision, f"{case} {name}")
        for actual, wanted in zip(jax.tree.leaves(at_once), jax.tree.leaves(summed), strict=True):
            golden_arrays.assert_close(actual, wanted, precision, f"{case} at once")


@pytest.mark.parametrize("case", LEARNERS)
def test_golden_learner(case):
    """A learner on Linear and IF, in float32 (the only precision on record), scaled by 0.5."""
    meta = GOLDEN.cases[case]
    linear = nn.Linear(4, 5, use_bias=False, rngs=nnx.Rngs(0))
    linear.kernel[...] = from_torch(GOLDEN.input(f"{case}/weight", "float32"))
    x = GOLDEN.input(f"{case}/x", "float32")
    _, spikes = nn.unroll(nn.Sequential(linear, nn.IFNode()), x)
    golden_arrays.assert_equal(spikes, GOLDEN(f"{case}/out", "float32"))

    rule = learning.STDP(meta["tau_pre"], meta["tau_post"], f_pre=clamp, f_post=clamp)
    traces, dw = learning.over_time(rule, linear.kernel[...], x, spikes)
    dw = to_torch(meta["scale"] * dw, 0)
    expected = GOLDEN(f"{case}/dw", "float32")
    expected = expected.sum(0) if expected.ndim == 3 else expected
    golden_arrays.assert_close(dw, expected, "float32", "dw")
    if GOLDEN.has(f"{case}/weight_grad"):  # what an optimiser is given
        golden_arrays.assert_close(-dw, GOLDEN(f"{case}/weight_grad", "float32"), "float32")
    for name, trace in traces._asdict().items():
        expected = GOLDEN(f"{case}/trace_{name}_final", "float32")
        golden_arrays.assert_close(trace, expected, "float32", name)


def spikes(seed, *shape):
    return (np.random.default_rng(seed).random(shape) < 0.4).astype("float32")


def all_pairs(pre, post, tau_pre, tau_post):
    """`(up, down)` for `[T, B, in]` and `[T, B, out]`: a sum over all pairs of time steps."""
    t = np.arange(len(pre))
    since = t[:, None] - t[None]
    fade_pre = np.where(since >= 0, (1 - 1 / tau_pre) ** np.maximum(since, 0), 0)
    fade_post = np.where(since >= 0, (1 - 1 / tau_post) ** np.maximum(since, 0), 0)
    up = np.einsum("ts,sbi,tbo->io", fade_pre, pre, post)
    return up, np.einsum("ts,tbi,sbo->io", fade_post, pre, post)


def test_weights_inside_a_recurrent_container():
    """`rc` sees the input and the spikes of the step before; what it drives are the spikes."""
    container = nn.LinearRecurrentContainer(nn.IFNode(), 4, 4, rngs=nnx.Rngs(0))
    kernel = container.rc.kernel
    x = 2 * spikes(0, 7, 2, 4)
    y = np.asarray(nn.unroll(container, x)[1])
    assert 0 < y.mean() < 1
    pre = np.concatenate([x, np.concatenate([np.zeros_like(y[:1]), y[:-1]])], axis=-1)

    rule = learning.STDP(3.0, 5.0, f_pre=learning.LowerBound(-1.0), f_post=learning.additive)
    _, dw = learning.over_time(rule, kernel[...], pre, y)
    up, down = all_pairs(pre, y, 3.0, 5.0)
    np.testing.assert_allclose(dw, up - (1 + np.asarray(kernel[...])) * down, rtol=1e-5, atol=1e-5)
    _, feedback = learning.over_time(rule, kernel[4:], pre[..., 4:], y)
    np.testing.assert_allclose(dw[4:], feedback, rtol=1e-5, atol=1e-5)

    kernel[...] += 0.1 * dw
    assert np.any(np.asarray(nn.unroll(container, x)[1]) != y)


def test_convolution_pairs_every_position():
    """Strides and padding, against one dense rule for each tap on the padded input."""
    pre, post = spikes(1, 3, 2, 4, 5, 2), spikes(2, 3, 2, 2, 5, 3)
    rule = learning.STDP(
        2.0,
        4.0,
        f_pre=learning.additive,
        f_post=learning.additive,
        synapses=learning.Convolution(strides=[2, 1], padding=[1, (1, 1)]),
    )
    _, dw = learning.over_time(rule, jnp.zeros((3, 3, 2, 3)), pre, post)
    padded = np.pad(pre, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)))
    for row in range(3):
        for column in range(3):
            seen = padded[:, :, row : row + 3 : 2, column : column + 5]
            up, down = all_pairs(seen.reshape(3, -1, 2), post.reshape(3, -1, 3), 2, 4)
            np.testing.assert_allclose(dw[row, column], up - down, rtol=1e-5, atol=1e-5)


def test_eligibility_belongs_to_one_example():
    """A reward for one example changes what its own spikes made eligible; a convolution too."""
    pre, post = spikes(1, 3, 2, 5, 2), spikes(2, 3, 2, 5, 3)
    rule = learning.MSTDPET(
        2.0, 4.0, 3.0, f_post=learning.additive, synapses=learning.Convolution()
    )
    weight = jnp.full((3, 2, 3), 0.5)
    rewards = jnp.array([[0.0, 0.0], [0.0, 0.0], [0.0, 2.0]])
    _, dw = learning.over_time(rule, weight, pre, post, rewards)
    _, alone = learning.over_time(rule, weight, pre[:, 1], post[:, 1], rewards[:, 1])
    assert jnp.any(dw != 0)
    np.testing.assert_allclose(dw, alone, rtol=1e-6, atol=1e-6)


def test_the_dtype_of_the_weight_is_kept():
    rule = learning.STDP(2.0, 2.0)
    weight, pre = jnp.ones((2, 2), jnp.bfloat16), jnp.ones((3, 1, 2), jnp.bfloat16)
    traces, dw = learning.over_time(rule, weight, pre, pre)
    assert dw.dtype == jnp.bfloat16
    assert traces.pre.dtype == jnp.float32


def test_weight_dependences_at_their_bounds():
    w = jnp.array([-1.5, -1.0, 0.0, 1.0, 1.5])
    np.testing.assert_array_equal(learning.LowerBound(-1.0, 2.0)(w), [0, 0, 1, 4, 6.25])
    np.testing.assert_array_equal(learning.UpperBound(1.0)(w), [2.5, 2, 1, 0, 0])


def over_time(rule, pre=(3, 2, 4), post=(3, 2, 5), **kwargs):
    return learning.over_time(rule, jnp.zeros((4, 5)), jnp.zeros(pre), jnp.zeros(post), **kwargs)


STDP, MSTDP = learning.STDP(2.0, 2.0), learning.MSTDP(2.0, 2.0)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: learning.STDP(0.9, 2.0), ValueError, "tau_pre must be at least 1 .*got 0.9"),
        (lambda: learning.MSTDP(2.0, 0), ValueError, "tau_post must be at least 1"),
        (lambda: learning.MSTDPET(2.0, 2.0, 0.5), ValueError, "tau_trace must be at least 1"),
        (lambda: learning.STDP("2", 2.0), TypeError, "tau_pre must be a number"),
        (lambda: learning.STDP(2.0, 2.0, f_pre=1.0), TypeError, "f_pre must be callable"),
        (lambda: learning.UpperBound(1.0, -1.0), ValueError, "mu must be at least 0"),
        (lambda: over_time(clamp), TypeError, "rule must be a learning rule"),
        (lambda: over_time(MSTDP), TypeError, "MSTDP needs a reward"),
        (lambda: over_time(STDP, reward=jnp.ones(3)), TypeError, "STDP takes no reward"),
        (lambda: over_time(STDP, pre=(2, 2, 4)), ValueError, "same number of steps"),
        (lambda: over_time(STDP, pre=(3, 4)), ValueError, "same batch axes"),
        (lambda: over_time(STDP, post=(3, 2, 6)), ValueError, r"post has\s+\[6\]"),
        (lambda: over_time(MSTDP, reward=jnp.ones((3, 4))), ValueError, "one for each example"),
        (
            lambda: over_time(STDP, state=STDP.init(None, jnp.zeros((1, 4)), jnp.zeros((2, 5)))),
            ValueError,
            "fresh state",
        ),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
