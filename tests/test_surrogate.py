"""Surrogates: golden arrays, then what every one keeps to, checked for one table of them."""

import dataclasses
import functools
import inspect

import golden_arrays
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick

from jaxsnn import nn, surrogate

GOLDEN = golden_arrays.Golden("surrogates")

# A new surrogate joins by one row. Points where primal or derivative has a kink or a jump.
ROWS = {
    surrogate.ATan(alpha=1.7): [],
    surrogate.DeterministicPass(): [],
    surrogate.DoubleGaussian(h=0.3, s=4.0, sigma=0.4, gamma=0.7): [],
    surrogate.Erf(alpha=1.7): [],
    surrogate.FakeNumericalGradient(alpha=0.8): [-1.25, 1.25],
    surrogate.FastSigmoid(slope=3.0): [0],
    surrogate.Gaussian(sigma=0.4, gamma=0.7): [],
    surrogate.LeakyKReLU(leak=0.1, k=0.5): [0],
    surrogate.LogTailedReLU(alpha=0.1): [0, 1],
    surrogate.MultiGaussian(h=0.3, s=4.0, sigma=0.4, gamma=0.7): [],
    surrogate.MultiLevelSpikeCount(2): [0, 2],
    surrogate.NonzeroSignLogAbs(alpha=1.7): [0],
    surrogate.PiecewiseExp(alpha=1.7, gamma=0.4): [0],
    surrogate.PiecewiseLeakyReLU(w=0.7, c=0.1): [-0.7, 0.7],
    surrogate.PiecewiseQuadratic(alpha=0.8): [-1.25, 0, 1.25],
    surrogate.QPseudoSpike(alpha=1.7): [0],
    surrogate.Rect(alpha=0.8): [-0.625, 0.625],
    surrogate.Rect(alpha=0.3, width=2.5): [-1.25, 1.25],
    surrogate.S2NN(alpha=1.7, beta=0.6): [0],
    surrogate.Sigmoid(alpha=1.7): [],
    surrogate.SoftSign(alpha=1.7): [0],
    surrogate.SquarewaveFourierSeries(n=4, T_period=5): [],
    surrogate.SuperSpike(alpha=1.7): [0],
    surrogate.Triangle(gamma=0.4, width=1.5): [-1.5, 0, 1.5],
}
every = pytest.mark.parametrize("f", ROWS, ids=lambda f: type(f).__name__)


def smooth(f):
    return dataclasses.replace(f, spiking=False)


def slope(f, x):
    return jax.grad(lambda x: jnp.sum(f(x)))(x)


def everything(f, u):
    """Forward and backward, of the spikes and of the primal."""
    return {
        "fwd": f(u),
        "grad": slope(f, u),
        "prim": smooth(f)(u),
        "prim_grad": slope(smooth(f), u),
        "derivative": f.derivative(u),
    }


def for_every(calls):
    """`{f: calls(f)}`, compiled as one; `calls` gives `{name: (function, *args)}`."""
    found = golden_arrays.all_at_once(
        {(str(f), name): call for f in ROWS for name, call in calls(f).items()}
    )
    return {f: {name: found[str(f), name] for name in calls(f)} for f in ROWS}


def make(case):
    meta = GOLDEN.cases[case]
    settings = dict(meta["params"])
    if "grad_min" in settings:  # stored one by one
        settings["grad_window"] = (settings.pop("grad_min"), settings.pop("grad_max"))
    return getattr(surrogate, meta["surrogate"])(**settings)


@functools.cache
def golden_results(precision):
    """`everything` by case, on the grid and then at the points where each is special."""
    grid = GOLDEN("x", precision)  # float64 has one of its own
    return golden_arrays.all_at_once(
        {
            case: (
                functools.partial(everything, make(case)),
                np.concatenate([grid, GOLDEN.arrays[f"{case}/x_special"].astype(precision)]),
            )
            for case in GOLDEN.cases
        }
    )


@pytest.mark.parametrize("case", GOLDEN.cases)
def test_golden(case, precision):
    outcome = golden_results(precision)[case]
    names = ["fwd", "grad"]
    if GOLDEN.has(f"{case}/prim"):
        names += ["prim", "prim_grad"]
    for name in names:
        actual = np.split(outcome[name], [len(GOLDEN("x", precision))])
        for points, array in zip(["", "_special"], actual, strict=True):
            expected = GOLDEN(f"{case}/{name}{points}", precision)
            if name == "fwd":
                golden_arrays.assert_equal(array, expected)
            else:
                golden_arrays.assert_close(array, expected, precision, name + points)


def test_only_two_have_no_golden_primal():
    """What SpikingJelly refuses is left out above; nothing else."""
    without = {m["surrogate"] for c, m in GOLDEN.cases.items() if not GOLDEN.has(f"{c}/prim")}
    assert without == {"SuperSpike", "FakeNumericalGradient"}


def test_every_surrogate_has_a_row():
    classes = {c for _, c in inspect.getmembers(surrogate, inspect.isclass)}
    assert {type(f) for f in ROWS} == classes - {surrogate.Surrogate}
    golden = {meta["surrogate"] for meta in GOLDEN.cases.values()}
    # not in SpikingJelly
    beyond = {"DoubleGaussian", "FastSigmoid", "Gaussian", "MultiGaussian", "Triangle"}
    assert {c.__name__ for c in classes} == golden | beyond | {"Surrogate"}


GAUSSIANS = golden_arrays.Golden("gaussians")


def test_gaussians_are_those_of_their_papers(precision):
    """Derivative and primal against arrays that other code made from the papers' equations."""
    for case, meta in GAUSSIANS.cases.items():
        f = getattr(surrogate, meta["surrogate"])(**meta["params"])
        u = GAUSSIANS.input(f"{case}/u", precision)
        for name in ("derivative", "primal"):
            expected = GAUSSIANS.arrays[f"{case}/{name}"].astype(precision)
            golden_arrays.assert_close(getattr(f, name)(u), expected, precision, f"{case} {name}")


# By surrogate: the derivative at 0 and the integral of it.
SHAPES = {
    surrogate.Gaussian(): (0.398942, 0.5),
    surrogate.MultiGaussian(): (0.439112, 0.425),
    surrogate.DoubleGaussian(): (0.438837, 0.425),
    surrogate.PiecewiseExp(alpha=5.0, gamma=0.4): (1.0, 0.4),
    surrogate.Rect(): (1.0, 1.0),
    surrogate.Rect(alpha=0.5, width=0.8): (0.5, 0.4),
}


@pytest.mark.parametrize("f", SHAPES, ids=str)
def test_height_and_area(f):
    """The primal rises by the area, of which half is below the threshold."""
    height, area = SHAPES[f]
    with jax.enable_x64(True):
        below, middle, above = np.asarray(f.primal(jnp.array([-60.0, 0.0, 60.0])))
        np.testing.assert_allclose(f.derivative(jnp.float64(0)), height, atol=1e-6)
        np.testing.assert_allclose([middle - below, above - middle], area / 2, rtol=1e-12)
        u = jnp.linspace(-60, 60, 120_001)
        total = np.sum(np.asarray(f.derivative(u))) * 0.001
    np.testing.assert_allclose(total, area, rtol=2e-3)


@pytest.mark.parametrize(
    ("f", "crossing", "lowest", "at"),
    [
        (surrogate.MultiGaussian(), 1.272163, -0.0158655, 1.864),
        (surrogate.DoubleGaussian(), 1.269858, -0.0160057, 1.859),
    ],
    ids=str,
)
def test_negative_far_from_the_threshold(f, crossing, lowest, at):
    with jax.enable_x64(True):
        u = np.linspace(0, 20, 20_001)
        slopes = np.asarray(f.derivative(jnp.asarray(u)))
        np.testing.assert_array_equal(slopes > 0, u < crossing)
        np.testing.assert_allclose(slopes.min(), lowest, atol=1e-7)
        np.testing.assert_allclose(u[slopes.argmin()], at, atol=1e-3)


def test_one_curve_by_several_names():
    u = jnp.linspace(-3, 3, 121)
    for a, b in [
        (surrogate.Gaussian(sigma=0.4, gamma=1.0), surrogate.Erf(alpha=1 / (0.4 * 2**0.5))),
        (surrogate.MultiGaussian(h=0.0, gamma=0.3), surrogate.Gaussian(gamma=0.3)),
        (surrogate.DoubleGaussian(h=0.0, gamma=0.3), surrogate.Gaussian(gamma=0.3)),
        (surrogate.Rect(alpha=0.8, width=1.25), surrogate.Rect(alpha=0.8)),
        (surrogate.Rect(alpha=0.7), surrogate.PiecewiseLeakyReLU(w=0.5 / 0.7, c=0.0)),
    ]:
        np.testing.assert_allclose(a.derivative(u), b.derivative(u), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(a.primal(u), b.primal(u), rtol=1e-5, atol=1e-6)


EPS = 1e-5


@functools.cache
def smooth_results():
    """Off the kinks, and a little below and above for finite differences."""

    def calls(f):
        kinks = np.array([*ROWS[f], np.inf])
        x = np.linspace(-3, 3, 122)
        x = jnp.asarray(x[np.min(np.abs(x[:, None] - kinks), axis=1) > 1e-3])
        return {
            "at": (functools.partial(everything, f), x),
            "below": (smooth(f), x - EPS),
            "above": (smooth(f), x + EPS),
        }

    return for_every(calls)


@every
def test_derivative_is_that_of_the_primal(f):
    """By `jax.grad` of the primal and by finite differences of it, off its kinks."""
    with jax.enable_x64(True):
        found = smooth_results()[f]
    # S2NN's primal has SpikingJelly's 1e-5 inside of the logarithm, its derivative has not
    rtol = 1.1e-5 if isinstance(f, surrogate.S2NN) else 1e-12
    derivative = found["at"]["derivative"]
    np.testing.assert_array_equal(found["at"]["grad"], derivative)
    np.testing.assert_allclose(found["at"]["prim_grad"], derivative, rtol=rtol, atol=1e-15)
    slopes = (found["above"] - found["below"]) / (2 * EPS)
    np.testing.assert_allclose(slopes, derivative, rtol=max(rtol, 1e-8), atol=1e-9)


@every
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_dtype_and_shape_are_kept(f, dtype):
    with jax.enable_x64(dtype == "float64"):
        for shape in [(), (3,), (2, 3, 4), (0, 3)]:
            u = jax.ShapeDtypeStruct(shape, dtype)
            for name, y in jax.eval_shape(functools.partial(everything, f), u).items():
                assert (y.dtype, y.shape, y.weak_type) == (dtype, shape, False), name


@every
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_threshold_fires_and_nan_does_not(f, dtype):
    if isinstance(f, surrogate.MultiLevelSpikeCount):
        u, expected = [-0.0, 0.5, 0.75, 1.5, jnp.inf, -jnp.inf], [0, 0, 1, 2, 2, 0]
    else:
        u, expected = [-0.0, 0.0, -1e-3, jnp.inf, -jnp.inf, jnp.nan], [1, 1, 0, 1, 0, 0]
    spikes = f(jnp.array(u, dtype))
    assert spikes.dtype == dtype
    golden_arrays.assert_equal(spikes.astype("float32"), expected)


@functools.cache
def results_at_extremes(dtype):
    tiny = float(jnp.finfo(dtype).tiny)
    u = np.array([0.0, tiny, 1e-8, 1e-4, 1.0, 2.0, 88.0, 104.0, 1e4, 1e18])
    finite = jnp.asarray(np.concatenate([u, -u]), dtype)
    infinite = jnp.asarray([-np.inf, np.inf], dtype)
    return for_every(
        lambda f: {
            "finite": (functools.partial(everything, f), finite),
            "infinite": (f.derivative, infinite),
        }
    )


@every
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_finite_everywhere(f, dtype):
    """Everything up to 1e18; at infinity the derivative, which only a wave lacks there."""
    with jax.enable_x64(dtype == "float64"):
        found = results_at_extremes(dtype)[f]
    for name, y in found["finite"].items():
        assert np.all(np.isfinite(np.asarray(y, "float64"))), name
    if not isinstance(f, surrogate.SquarewaveFourierSeries):
        assert np.all(np.isfinite(np.asarray(found["infinite"], "float64")))


@functools.cache
def compiled_and_mapped():
    u = jnp.linspace(-3, 3, 20).reshape(4, 5)

    def calls(f):
        run = functools.partial(everything, f)
        return {"jit": (run, u), "vmap": (jax.vmap(run, in_axes=1, out_axes=1), u)}

    return u, for_every(calls)


@pytest.mark.slow  # each neuron runs its own under jit
@every
def test_jit_and_vmap_change_nothing(f):
    u, found = compiled_and_mapped()
    expected = everything(f, u)
    for way, outcome in found[f].items():
        for name, y in outcome.items():
            message = f"{way}, {name}"
            np.testing.assert_allclose(y, expected[name], rtol=1e-6, atol=1e-6, err_msg=message)


@functools.cache
def gradients_through_a_scan(v_reset):
    """The inputs, and the gradient by surrogate."""
    xs = quick.uniform((6, 5), -0.5, 1.5)

    def calls(f):
        node = nn.IFNode(v_reset=v_reset, surrogate_function=f)

        def total(xs):
            v, out = nn.unroll(node, xs)
            return jnp.sum(out) + jnp.sum(v)

        return {"gradient": (jax.grad(total), xs)}

    return xs, for_every(calls)


@every
@pytest.mark.parametrize("v_reset", [0.0, None])
def test_gradient_through_a_scan(f, v_reset):
    """Against the gradient of IF written out: `derivative` alone goes back through time."""
    xs, found = gradients_through_a_scan(v_reset)
    v, hs, spikes = np.zeros(5, "float32"), [], []
    for x in np.asarray(xs):
        hs.append(v + x)
        spikes.append(np.asarray(f(jnp.asarray(hs[-1] - 1))))
        v = hs[-1] - spikes[-1] if v_reset is None else (1 - spikes[-1]) * hs[-1]
    slopes = np.asarray(f.derivative(jnp.asarray(np.stack(hs) - 1)))
    g, expected = 1.0, []
    for h, s, d in zip(hs[::-1], spikes[::-1], slopes[::-1], strict=True):
        g = d + g * (1 - d if v_reset is None else 1 - s - h * d)
        expected.insert(0, g)

    assert np.any(spikes)
    assert np.any(expected)
    limit = 1e-5 * np.max(np.abs(expected))
    np.testing.assert_allclose(found[f]["gradient"], np.stack(expected), rtol=1e-5, atol=limit)


@every
def test_equal_settings_are_one_to_jit(f):
    run = jax.jit(lambda f, x: f(x), static_argnums=0)
    again = dataclasses.replace(f)
    assert again is not f
    assert again == f
    assert hash(again) == hash(f)
    assert f != smooth(f)
    run(f, jnp.ones(3))
    run(again, jnp.ones(3))
    assert run._cache_size() == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        f.spiking = False


@every
def test_repr_says_it_all(f):
    assert eval(repr(f), vars(surrogate)) == f
    assert repr(f).startswith(type(f).__name__ + "(")
    assert repr(f).endswith("spiking=True)")


def test_integers_and_numpy_scalars_are_numbers():
    assert surrogate.ATan(alpha=3) == surrogate.ATan(alpha=np.float32(3))
    assert repr(surrogate.ATan(alpha=3)) == "ATan(alpha=3.0, spiking=True)"
    fourier = "SquarewaveFourierSeries(n=3, T_period=8.0, spiking=True)"
    assert repr(surrogate.SquarewaveFourierSeries(np.int64(3), 8)) == fourier
    count = "MultiLevelSpikeCount(max_spike_count=4, grad_window=(-1.0, 5.0), spiking=True)"
    assert repr(surrogate.MultiLevelSpikeCount(4, [-1, 5])) == count


NOT_NEGATIVE = {
    ("DoubleGaussian", "h"),
    ("LeakyKReLU", "leak"),
    ("LogTailedReLU", "alpha"),
    ("MultiGaussian", "h"),
    ("PiecewiseLeakyReLU", "c"),
}
NUMBERS = [
    pytest.param(f, field.name, id=f"{type(f).__name__}-{field.name}")
    for f in ROWS
    for field in dataclasses.fields(f)
    if field.name not in ("spiking", "n", "max_spike_count", "grad_window")
]


@pytest.mark.parametrize(("f", "name"), NUMBERS)
def test_bad_numbers(f, name):
    def bad(value, error, message):
        with pytest.raises(error, match=message):
            dataclasses.replace(f, **{name: value})

    bad(-1.0, ValueError, f"{name} must be .*got -1.0")
    bad(float("nan"), ValueError, f"{name} must be finite, got nan")
    bad(float("inf"), ValueError, f"{name} must be finite, got inf")
    bad("2", TypeError, f"{name} must be a number, got '2'")
    bad(True, TypeError, f"{name} must be a number, got True")
    if (type(f).__name__, name) == ("Rect", "width"):
        dataclasses.replace(f, **{name: None})
    else:
        bad(None, TypeError, f"{name} must be a number, got None")
    if (type(f).__name__, name) in NOT_NEGATIVE:
        dataclasses.replace(f, **{name: 0})
    else:
        bad(0, ValueError, f"{name} must be greater than .*got 0")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: surrogate.QPseudoSpike(1), ValueError, "alpha must be greater than 1 .*got 1"),
        (
            lambda: surrogate.SquarewaveFourierSeries(1),
            ValueError,
            r"n must be at least 2 \(the .*1",
        ),
        (
            lambda: surrogate.SquarewaveFourierSeries(2.0),
            TypeError,
            "n must be an integer, got 2.0",
        ),
        (lambda: surrogate.MultiLevelSpikeCount(0), ValueError, "max_spike_count must be at least"),
        (lambda: surrogate.MultiLevelSpikeCount(2.0), TypeError, "max_spike_count must be an int"),
        (lambda: surrogate.MultiLevelSpikeCount(True), TypeError, "max_spike_count must be an int"),
        (
            lambda: surrogate.MultiLevelSpikeCount(2, 3),
            TypeError,
            r"grad_window must be a pair .*3",
        ),
        (lambda: surrogate.MultiLevelSpikeCount(2, (0, "2")), TypeError, r"grad_window\[1\] must"),
        (lambda: surrogate.MultiLevelSpikeCount(2, (2, 0)), ValueError, "low <= high, got .2, 0"),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


@every
def test_bad_calls(f):
    with pytest.raises(TypeError, match="spiking must be True or False, got 1"):
        dataclasses.replace(f, spiking=1)
    for g in (f, smooth(f)):
        with pytest.raises(TypeError, match=r"u must be floating, got dtype int32"):
            g(jnp.arange(3))
