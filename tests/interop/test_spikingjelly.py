"""Parameters from and to SpikingJelly: every shared layer, against its arrays and the library."""

import functools
import operator

import golden_arrays
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick
from flax import nnx

from jaxsnn import data, encoding, models, nn, surrogate
from jaxsnn.interop import _layouts, snntorch, spikingjelly
from jaxsnn.interop.nir import to_nir

NETWORKS = golden_arrays.Golden("networks")


def same_arrays(one, other):
    """Equal names, shapes and bits; what torch counts is not known here."""
    assert one.keys() == other.keys()
    for name, array in one.items():
        assert array.shape == other[name].shape, name
        if not name.endswith("num_batches_tracked"):
            assert array.dtype == other[name].dtype, name
            np.testing.assert_array_equal(array, other[name], err_msg=name)


def parameters(golden, case, kind="p"):
    start = f"{case}/{kind}_"
    return {n.removeprefix(start): a for n, a in golden.arrays.items() if n.startswith(start)}


# The three networks.


def test_networks(tmp_path):
    """Loaded from arrays of SpikingJelly they give its spikes and its firing rates."""
    nets = {}
    for name, make in models.MODELS.items():
        arrays = parameters(NETWORKS, name, "p0")
        fresh = make(rngs=nnx.Rngs(1))
        before = nnx.to_pure_dict(nnx.state(fresh))
        nets[name] = spikingjelly.load(fresh, arrays)
        jax.tree.map(np.testing.assert_array_equal, before, nnx.to_pure_dict(nnx.state(fresh)))
        same_arrays(spikingjelly.state_dict(nets[name]), arrays)
        assert list(spikingjelly.state_dict(nets[name])) == list(arrays)

    def run(nets, xs):
        return {name: (nn.unroll(net.fc, xs)[1], net(xs)) for name, net in nets.items()}

    xs = data.columns(NETWORKS.arrays["images"][:64])
    for name, (spikes, rates) in quick.run_once(run, nets, xs).items():
        golden_arrays.assert_equal(spikes, NETWORKS.arrays[f"{name}/out_spikes"])
        golden_arrays.assert_close(rates, NETWORKS.arrays[f"{name}/out_fr"], "float32")


# Every layer that has arrays in both.


class Case:
    """A module and the arrays of SpikingJelly's twin; `out` is None where one like it is run."""

    def __init__(self, file, case, make, *, images=False, x="x", out="out", training=False):
        self.file, self.case, self.make = file, case, make
        self.images, self.x, self.out, self.training = images, x, out, training

    @property
    def id(self):
        return f"{self.file}/{self.case}"

    def load(self):
        golden = golden_arrays.Golden(self.file)
        return golden, spikingjelly.load(made()[self.id], parameters(golden, self.case))


@functools.cache
def made():
    return quick.empty(lambda: {case.id: case.make(nnx.Rngs(0)) for case in CASES})


def rnn(kind, size=5, *, both=False, bias=True):
    def make(rngs):
        def layer(inputs):
            cell = lambda: kind(inputs, size, bias, rngs=rngs)  # noqa: E731
            return nn.Bidirectional(cell(), cell()) if both else cell()

        return nn.Sequential(layer(4), layer(2 * size if both else size))

    return make


def linear_lif(rngs):
    inside = nn.Sequential(nn.Linear(6, 4, rngs=rngs), nn.LIFNode())
    return nn.LinearRecurrentContainer(inside, 6, 4, rngs=rngs)


MISC = "neuron_psn_glif_misc"
TAU = {"v_threshold": 0.8, "surrogate_function": surrogate.ATan()}
CASES = [
    Case("layers", "bn2d_multistep_eval", lambda _: nn.BatchNorm(5), images=True),
    Case("layers", "tdbn2d_eval", lambda _: nn.contrib.ThresholdDependentBatchNorm(5), images=True),
    Case(
        "layers", "tebn2d_eval", lambda _: nn.contrib.TemporalEffectiveBatchNorm(4, 5), images=True
    ),
    Case("layers", "bntt1d_eval", lambda _: nn.contrib.BatchNormThroughTime(4, 5)),
    Case("layers", "neunorm_shared0", lambda r: nn.contrib.NeuNorm(5, 3, 4, rngs=r), images=True),
    Case(
        "layers",
        "neunorm_shared1",
        lambda r: nn.contrib.NeuNorm(5, 3, 4, 0.9, True, rngs=r),
        images=True,
    ),
    Case(
        "layers",
        "temporal_wise_attention_3d",
        lambda r: nn.contrib.TemporalWiseAttention(6, 2, rngs=r),
    ),
    Case(
        "layers",
        "multi_dimensional_attention",
        lambda rngs: nn.contrib.MultiDimensionalAttention(6, 4, 2, 2, rngs=rngs),
        images=True,
    ),
    Case(
        "layers",
        "SpikingSelfAttention",
        lambda rngs: nn.contrib.SpikingSelfAttention(16, 4, rngs=rngs),
        images=True,
        training=True,
    ),
    Case(
        "layers", "TokenQKAttention", lambda r: nn.contrib.TokenQKAttention(16, 4, rngs=r), out=None
    ),
    Case(
        "layers",
        "ChannelQKAttention",
        lambda r: nn.contrib.ChannelQKAttention(16, 4, rngs=r),
        out=None,
    ),
    Case("layers", "wslinear", lambda rngs: nn.contrib.WSLinear(5, 7, rngs=rngs)),
    Case(
        "layers",
        "wsconv2d",
        lambda rngs: nn.contrib.WSConv(3, 4, (3, 3), padding=1, rngs=rngs),
        images=True,
    ),
    Case(
        "layers",
        "dropconnect_invariant",
        lambda r: nn.contrib.DropConnectLinear(5, 4, rngs=r),
        out=None,
    ),
    Case(
        "neuron_plif",
        "hard0_nodetach_decay_tau3.5_vth0.8_atan2",
        lambda _: nn.ParametricLIFNode(7.0, **TAU),
    ),
    Case(
        "neuron_lif_variants",
        "klif_soft_nodetach_decay_scale",
        lambda _: nn.contrib.KLIFNode(scale_reset=True, v_reset=None),
    ),
    Case(MISC, "psn", lambda rngs: nn.PSN(6, rngs=rngs)),
    Case(MISC, "masked_psn_k3_lambda0.4", lambda rngs: nn.contrib.MaskedPSN(3, 6, rngs=rngs)),
    Case(MISC, "masked_psn_k2_lambda1.0", lambda rngs: nn.contrib.MaskedPSN(2, 6, 0.3, rngs=rngs)),
    Case(MISC, "sliding_psn_k3_exp", lambda _: nn.SlidingPSN(3)),
    Case(
        MISC,
        "gated_lif_inplaneNone",
        lambda rngs: nn.contrib.GatedLIFNode(5, rngs=rngs),
        images=True,
    ),
    Case(
        MISC,
        "gated_lif_inplane3",
        lambda rngs: nn.contrib.GatedLIFNode(5, 3, rngs=rngs),
        images=True,
    ),
    Case(
        MISC,
        "activation_aware_if_soft",
        lambda _: nn.contrib.ActivationAwareIFNode(v_threshold=[1.0] * 5, v_offset=[0.5] * 5),
    ),
    Case(MISC, "dsr_if", lambda _: nn.contrib.DSRIFNode(3.0)),
    Case(MISC, "dsr_lif", lambda _: nn.contrib.DSRLIFNode(3.0)),
    Case("containers_linear", "seq_linear_lif_bias", linear_lif),
    Case("rnn", "lstm_bi_bias", rnn(nn.contrib.SpikingLSTMCell, both=True), out="y"),
    Case("rnn", "gru_uni_nobias", rnn(nn.contrib.SpikingGRUCell, bias=False), out=None),
    Case("rnn", "vanilla_uni_bias", rnn(nn.contrib.SpikingVanillaRNNCell), out=None),
    Case(
        "stateful_conv",
        "real",
        lambda rngs: nn.Sequential(
            nn.Conv(3, 16, (3, 3), padding=1, rngs=rngs), nn.SynapseFilter(9.0, True)
        ),
        images=True,
    ),
    Case(
        "synapse_filter", "tau2.0_learnable_real", lambda _: nn.SynapseFilter(9.0, True), x="x_real"
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_round_trip(case):
    golden, module = case.load()
    same_arrays(spikingjelly.state_dict(module), parameters(golden, case.case))


def last(a):
    return a.transpose(0, 1, *range(3, a.ndim), 2)


def first(a):
    return a.transpose(0, 1, a.ndim - 1, *range(2, a.ndim - 1))


@pytest.mark.parametrize("file", sorted({case.file for case in CASES}))
def test_golden_outputs(file):
    """With the parameters of SpikingJelly's layers ours put out the same."""
    cases = {case.case: case for case in CASES if case.file == file and case.out is not None}
    modules, inputs, expected = {}, {}, {}
    for name, case in cases.items():
        golden, modules[name] = case.load()
        x = golden.arrays[f"{name}/{case.x}" if golden.has(f"{name}/{case.x}") else case.x]
        inputs[name] = jnp.asarray(last(x) if case.images else x, jnp.float32)
        expected[name] = golden(f"{name}/{case.out}", "float32")

    def run(modules, inputs):
        keys = {n: jax.random.key(0) if case.training else None for n, case in cases.items()}
        return {n: nn.unroll(m, inputs[n], key=keys[n])[1] for n, m in modules.items()}

    for name, ys in quick.run_once(run, modules, inputs).items():
        ys = first(ys) if cases[name].images else ys
        golden_arrays.assert_close(ys, expected[name].astype(np.float32), "float32", name)


def test_population_encoder():
    golden = golden_arrays.Golden("encoding_population")
    arrays = parameters(golden, "pop")
    encoder = encoding.PopulationEncoder(2, 3, mean_range=(-9.0, 9.0), std=3.0)
    encoder = spikingjelly.load(encoder, arrays)
    same_arrays(spikingjelly.state_dict(encoder), arrays)
    activity = encoder(golden.input("pop/obs", "float32"))
    golden_arrays.assert_close(activity, golden("pop/out", "float32")[0], "float32")


def test_every_row_of_the_table_is_tested():
    """A new row needs a case above."""
    kinds = [kind for kind, _ in _layouts._RULES]
    others = [
        encoding.PopulationEncoder(1, 2, mean_range=(0.0, 1.0), std=1.0),
        group_norm(),
    ]
    modules = [*made().values(), *others]
    for kind in kinds:
        parts = [part for m in modules for _, part in nnx.iter_modules(m)]
        assert any(isinstance(part, kind) for part in parts), kind


def leaky():
    return snntorch.Leaky([0.5, 0.25], learn_threshold=True)


def group_norm():
    return nnx.GroupNorm(4, num_groups=2, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("make", [leaky, group_norm])
def test_round_trip_of_the_others(make):
    rng = np.random.default_rng(0)
    arrays = {
        name: array if name == "reset_mechanism_val" else rng.random(array.shape, np.float32)
        for name, array in spikingjelly.state_dict(make()).items()
    }
    same_arrays(spikingjelly.state_dict(spikingjelly.load(make(), arrays)), arrays)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_convolutions(axes):
    """Torch's [out, in, *kernel], of which the groups are a part, against a sum by hand."""
    conv = nn.Conv(4, 6, (2,) * axes, padding="VALID", feature_group_count=2, rngs=nnx.Rngs(0))
    arrays = spikingjelly.state_dict(conv)
    assert arrays["weight"].shape == (6, 2, *(2,) * axes)
    same_arrays(spikingjelly.state_dict(spikingjelly.load(conv, arrays)), arrays)
    x = np.random.default_rng(0).random((1, 4, *(2,) * axes), np.float32)  # as large as the kernel
    halves = np.stack([x[0, :2]] * 3 + [x[0, 2:]] * 3)
    expected = (arrays["weight"] * halves).reshape(6, -1).sum(1) + arrays["bias"]
    y = conv(jnp.moveaxis(jnp.asarray(x), 1, -1))
    np.testing.assert_allclose(y.reshape(-1), expected, rtol=1e-5)


# A network of one's own.


class Block(nnx.Module):
    """With a parameter of its own, and a list."""

    def __init__(self, rngs):
        self.scale = nnx.Param(jnp.ones(3))
        self.branches = nnx.List([nn.Linear(2, 3, rngs=rngs), nn.LIFNode()])

    def __call__(self, x):
        return self.branches[0](x) * self.scale[None]


def test_names_of_your_own_modules():
    """Attributes, lists, parameters and element-wise functions that are modules."""
    rngs = nnx.Rngs(0)
    inside = nn.ElementWiseRecurrentContainer(nn.ParametricLIFNode(), operator.add)
    net = models.Classifier(nn.Sequential(Block(rngs), inside, nn.Linear(3, 2, rngs=rngs)))
    arrays = spikingjelly.state_dict(net)
    assert {name: array.shape for name, array in arrays.items()} == {
        "stack.0.scale": (3,),
        "stack.0.branches.0.weight": (3, 2),
        "stack.0.branches.0.bias": (3,),
        "stack.1.sub_module.w": (),
        "stack.2.weight": (2, 3),
        "stack.2.bias": (2,),
    }
    same_arrays(spikingjelly.state_dict(spikingjelly.load(net, arrays)), arrays)


def test_precision():
    """Arrays take the dtype of the module; bfloat16 leaves as float32."""
    small = nn.Linear(2, 3, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    arrays = {"weight": np.full((3, 2), 1 / 3), "bias": np.zeros(3)}
    loaded = spikingjelly.load(small, arrays)
    assert loaded.kernel.dtype == jnp.bfloat16
    out = spikingjelly.state_dict(loaded)
    assert out["weight"].dtype == np.float32
    np.testing.assert_array_equal(out["weight"], np.float32(jnp.bfloat16(1 / 3)))
    with jax.enable_x64(True):
        wide = nn.Linear(2, 3, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
        same_arrays(spikingjelly.state_dict(spikingjelly.load(wide, arrays)), arrays)


# What flattens.


def flattened(x):
    """As torch does it: channels first, then positions."""
    return np.moveaxis(np.asarray(x), -1, 1).reshape(len(x), -1)


def random_arrays(module, **kwargs):
    rng = np.random.default_rng(3)
    arrays = spikingjelly.state_dict(module, **kwargs)
    return {n: rng.normal(size=a.shape).astype(np.float32) for n, a in arrays.items()}


def test_linear_behind_a_flatten():
    """Its weights are sorted, by the channels of the convolution before."""
    rngs = nnx.Rngs(0)
    front = nn.Sequential(
        *(nn.Conv(1, 3, (3, 3), padding=1, rngs=rngs), nn.BatchNorm(3), nn.IFNode()),
        *(nn.MaxPool((2, 2)), nn.Dropout(0.5)),
    )
    net = nn.Sequential(front, nn.Flatten(), nn.SynapseFilter(), nn.Linear(12, 5, rngs=rngs))
    arrays = random_arrays(net) | {"0.1.running_var": np.ones(3, np.float32)}
    net = spikingjelly.load(net, arrays)
    same_arrays(
        {n: a for n, a in spikingjelly.state_dict(net).items() if "tracked" not in n},
        {n: a for n, a in arrays.items() if "tracked" not in n},
    )
    xs = quick.uniform((1, 2, 4, 4, 1), 0, 4)
    images = nn.unroll(net[0], xs)[1][0]
    expected = flattened(images) @ arrays["3.weight"].T + arrays["3.bias"]
    assert len(np.unique(images)) > 1
    np.testing.assert_allclose(nn.unroll(net, xs)[1][0], expected, rtol=1e-5, atol=1e-6)


def test_other_readers_of_a_flatten():
    """Recurrent containers and cells; a batch normalisation on the way."""
    rngs, said = nnx.Rngs(0), {"flatten_channels": {"0": 3}}
    x = quick.uniform((2, 2, 2, 3))
    net = nn.Sequential(
        *(nn.Flatten(), nn.BatchNorm(12)),
        nn.LinearRecurrentContainer(nn.NonSpikingIFNode(), 12, 12, rngs=rngs),
    )
    arrays = random_arrays(net, **said) | {"1.running_var": np.ones(12, np.float32)}
    net = spikingjelly.load(net, arrays, **said)
    normal = flattened(x) - arrays["1.running_mean"]
    normal = normal / np.sqrt(1 + 1e-5) * arrays["1.weight"] + arrays["1.bias"]
    expected = normal @ arrays["2.rc.weight"][:, :12].T + arrays["2.rc.bias"]
    np.testing.assert_allclose(nn.unroll(net, x[None])[1][0], expected, rtol=1e-4, atol=1e-5)

    cell = nn.contrib.SpikingVanillaRNNCell(12, 4, rngs=rngs)
    net = nn.Sequential(nn.Flatten(), cell)
    arrays = random_arrays(net, **said)
    net = spikingjelly.load(net, arrays, **said)
    drive = flattened(x) @ arrays["1.linear_ih.weight"].T
    drive = drive + arrays["1.linear_ih.bias"] + arrays["1.linear_hh.bias"]
    np.testing.assert_array_equal(nn.unroll(net, x[None])[1][0], drive >= 0)


def mean_of_positions(x):
    return jnp.mean(x, (1, 2))


def test_channels_said_of_a_layer_before_the_flatten():
    """Of a function between convolution and Flatten, or of the Flatten: the same weights."""
    rngs = nnx.Rngs(0)
    net = nn.Sequential(conv(rngs), jnp.tanh, nn.Flatten(), nn.Linear(12, 2, rngs=rngs))
    one, two = (spikingjelly.state_dict(net, flatten_channels={k: 3}) for k in "12")
    same_arrays(one, two)


class Flattens(nnx.Module):
    """Nothing tells that its input is an image."""

    def __init__(self, rngs):
        self.fc1, self.fc2 = nn.Linear(12, 4, rngs=rngs), nn.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        return self.fc2(self.fc1(x.reshape(len(x), -1)))


def test_channels_said_of_the_layer_that_reads_them():
    net = Flattens(nnx.Rngs(0))
    stack = nn.Sequential(nn.Flatten(), net.fc1, net.fc2)
    expected = spikingjelly.state_dict(stack, flatten_channels={"0": 3})
    found = spikingjelly.state_dict(net, flatten_channels={"fc1": 3})
    np.testing.assert_array_equal(found["fc1.weight"], expected["1.weight"])
    np.testing.assert_array_equal(found["fc2.weight"], expected["2.weight"])


@pytest.mark.parametrize("number", [np.nan, np.inf, 1e300])
def test_numbers_that_are_none(number):
    net = nn.Sequential(nn.Linear(2, 3, rngs=nnx.Rngs(0)))
    arrays = {"0.weight": np.full((3, 2), number), "0.bias": np.zeros(3)}
    with pytest.raises(ValueError, match=r"0\.weight: holds NaN or infinity"):
        spikingjelly.load(net, arrays)


@pytest.mark.parametrize("prefix", ["module", "_orig_mod"])
def test_names_of_wrapped_modules(prefix):
    net = nn.Sequential(nn.Linear(2, 3, rngs=nnx.Rngs(0)))
    arrays = {f"{prefix}.{name}": array for name, array in spikingjelly.state_dict(net).items()}
    with pytest.raises(ValueError, match=rf"prefix='{prefix}\.' removes the beginning"):
        spikingjelly.load(net, arrays)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_folder_that_is_not_there(tmp_path, suffix):
    net = nn.Sequential(nn.Linear(2, 3, rngs=nnx.Rngs(0)))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        spikingjelly.save(net, tmp_path / "nowhere" / f"net{suffix}")


class Parts(nnx.Module):
    """Which part runs first cannot be seen from outside."""

    def __init__(self, rngs):
        self.head = nn.Linear(12, 2, rngs=rngs)
        self.body = nn.Sequential(nn.Conv(1, 3, (3, 3), rngs=rngs), nn.Flatten())

    def __call__(self, x):
        return self.head(self.body(x))


def conv(rngs):
    return nn.Conv(1, 3, (3, 3), rngs=rngs)


@pytest.mark.parametrize(
    ("make", "way_out"),
    [
        (lambda r: nn.Sequential(nn.Flatten(), nn.Linear(12, 2, rngs=r)), {"0": 3}),
        (lambda r: nn.Sequential(nn.Flatten(), nn.Linear(12, 2, rngs=r)), {"0": 1}),
        (lambda r: nn.Sequential(conv(r), mean_of_positions, nn.Linear(3, 2, rngs=r)), {"1": 3}),
        (lambda r: nn.Sequential(jnp.ravel, nn.Linear(12, 2, rngs=r)), {"0": 3}),
        (
            lambda r: nn.Sequential(conv(r), jnp.tanh, nn.Flatten(), nn.Linear(12, 2, rngs=r)),
            {"2": 3},
        ),
        (lambda r: nn.Sequential(Parts(r), nn.Linear(12, 2, rngs=r)), {"0": 3, "0.head": 3}),
        (Parts, {"head": 3}),
    ],
)
def test_channels_that_must_be_said(make, way_out):
    net = make(nnx.Rngs(0))
    with pytest.raises(ValueError, match="flatten_channels=") as told:
        spikingjelly.state_dict(net)
    assert all(f"{name!r}: ..." in str(told.value) for name in way_out)
    arrays = random_arrays(net, flatten_channels=way_out)
    loaded = spikingjelly.load(net, arrays, flatten_channels=way_out)
    same_arrays(spikingjelly.state_dict(loaded, flatten_channels=way_out), arrays)


@pytest.mark.parametrize(
    ("layers", "said", "message"),
    [
        (lambda r: (conv(r), nn.Linear(3, 2, rngs=r)), {}, "1 reads the features of images"),
        (
            lambda r: (nn.Flatten(), nn.Linear(10, 2, rngs=r)),
            {"0": 3},
            "10 features, not a multiple",
        ),
        (
            lambda r: (nn.Flatten(), nn.VotingLayer(2)),
            {"0": 3},
            "1 .VotingLayer. reads the features of 0",
        ),
        (
            lambda r: (conv(r), nn.Flatten(), nn.contrib.GatedLIFNode(2, 12, rngs=r)),
            {},
            "2 .GatedLIFNode. reads the features of 1",
        ),
        (
            lambda r: (
                *(conv(r), nn.Flatten()),
                nn.LinearRecurrentContainer(nn.IFNode(), 12, 12, feedback_only=True, rngs=r),
            ),
            {},
            "2 adds its feedback to the output of 1",
        ),
        (
            lambda r: (nn.Flatten(), snntorch.Leaky([0.5] * 12, learn_beta=True)),
            {"0": 3},
            "1 .Leaky. reads the features of 0",
        ),
        (lambda r: (nn.Linear(3, 2, rngs=r),), {"7": 3}, r"flatten_channels names \['7'\]"),
        (lambda r: (nn.Flatten(),), {"0": 0}, r"flatten_channels\['0'\] must be at least 1"),
    ],
)
def test_orders_that_are_refused(layers, said, message):
    with pytest.raises(ValueError, match=message):
        spikingjelly.state_dict(nn.Sequential(*layers(nnx.Rngs(0))), flatten_channels=said)


# What does not fit.


def test_all_differences_in_one_error():
    net = nn.Sequential(
        nn.Linear(2, 3, rngs=nnx.Rngs(0)), nn.contrib.MaskedPSN(2, 3, rngs=nnx.Rngs(0))
    )
    arrays = spikingjelly.state_dict(net)
    arrays |= {"1.bias": np.zeros(3), "1.mask0": np.zeros((3, 3)), "fc": np.zeros(4)}
    arrays["1._lambda_"] = np.array("x")
    del arrays["0.weight"]
    with pytest.raises(ValueError, match="not those of this Sequential") as error:
        spikingjelly.load(net, arrays)
    assert str(error.value).split(": ", 1)[1].split(". Both")[0].split("; ") == [
        "0.weight: missing, expected shape (3, 2)",
        "1._lambda_: expected numbers, found dtype <U1",
        "1.bias: expected shape (3, 1), found (3,)",
        "1.mask0: is not that of MaskedPSN(k=2, T=3)",
        "fc: unknown, of shape (4,)",
    ]


def of_a_larger_network():
    """A stack, its arrays under other names, and an array that it does not have."""
    net = nn.Sequential(nn.Linear(2, 3, rngs=nnx.Rngs(0)), nn.IFNode())
    arrays = {"0.weight": np.ones((3, 2)), "0.bias": np.full(3, 2.0)}
    return net, {f"body.{name}": a for name, a in arrays.items()} | {"head.weight": np.zeros(4)}


def test_arrays_whose_names_begin_alike():
    net, arrays = of_a_larger_network()
    loaded = spikingjelly.load(net, arrays, prefix="body.")
    np.testing.assert_array_equal(loaded[0].bias[...], 2)
    with pytest.raises(ValueError, match=r"no name begins with prefix='boby\.'.*body\.0\.bias"):
        spikingjelly.load(net, arrays, prefix="boby.")
    del arrays["body.0.bias"]
    with pytest.raises(ValueError, match=r"0\.bias: missing.* strict=False leaves out"):
        spikingjelly.load(net, arrays, prefix="body.")


def test_not_strict():
    net, arrays = of_a_larger_network()
    bias = np.asarray(net[0].bias[...])
    del arrays["body.0.bias"]
    arrays["body.fc.weight"] = np.zeros(4)
    report = r"missing and left as they are: 0\.bias; not read: fc\.weight$"
    with pytest.warns(UserWarning, match=report):
        loaded = spikingjelly.load(net, arrays, prefix="body.", strict=False)
    np.testing.assert_array_equal(loaded[0].kernel[...], 1)
    np.testing.assert_array_equal(loaded[0].bias[...], bias)

    with pytest.raises(ValueError, match=r"0\.weight: missing.*body\.0\.weight: unknown"):
        spikingjelly.load(net, arrays, strict=False)  # nothing would be read
    arrays["body.0.bias"] = np.zeros(4)
    with (
        pytest.warns(UserWarning, match="left as they are: none; not read: fc"),
        pytest.raises(ValueError, match=r"0\.bias: expected shape \(3,\), found \(4,\)"),
    ):
        spikingjelly.load(net, arrays, prefix="body.", strict=False)
    del arrays["body.fc.weight"], arrays["body.0.bias"]
    spikingjelly.load(net, {"0.weight": np.ones((3, 2)), "0.bias": bias}, strict=False)  # all there


def test_settings_that_are_arrays_in_torch():
    """They are checked as settings are, and may be arrays here."""
    neuron = nn.contrib.with_lambda(nn.contrib.MaskedPSN(2, 3, rngs=nnx.Rngs(0)), jnp.array(0.5))
    arrays = spikingjelly.state_dict(neuron)
    assert arrays["_lambda_"] == 0.5
    loaded = spikingjelly.load(neuron, arrays | {"_lambda_": np.float32(0.25)})
    assert loaded.lambda_ == 0.25
    with pytest.raises(ValueError, match="_lambda_: lambda_ must be between 0 and 1, got 2"):
        spikingjelly.load(neuron, arrays | {"_lambda_": np.float32(2)})


def test_what_torch_counts_may_be_missing():
    norm = nn.BatchNorm(3)
    arrays = spikingjelly.state_dict(norm)
    assert arrays.pop("num_batches_tracked").dtype == np.int64
    spikingjelly.load(norm, arrays)
    arrays["num_batches_tracked"] = np.array(7)
    spikingjelly.load(norm, arrays)


def test_a_layer_in_two_places():
    """Torch names it twice; the arrays must be the same."""
    layer = nn.Linear(2, 2, rngs=nnx.Rngs(0))
    net = nn.Sequential(layer, nn.IFNode(), layer)
    arrays = spikingjelly.state_dict(net)
    assert list(arrays) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    loaded = spikingjelly.load(net, arrays)
    assert loaded[0] is loaded[2]
    arrays["2.bias"] = arrays["2.bias"] + 1
    with pytest.raises(ValueError, match=r"0.bias: another array stands under another name"):
        spikingjelly.load(net, arrays)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.ExponentialSynapse(nn.learnable(2.0)),
        lambda: nnx.ConvTranspose(1, 2, (3, 3), rngs=nnx.Rngs(0)),
    ],
)
def test_layers_without_a_row(make):
    layer = make()
    message = rf"is not known here: layers\.0\.\w+ \(of {type(layer).__name__}\).* by hand"
    with pytest.raises(ValueError, match=message):
        spikingjelly.state_dict(nn.Sequential(layer))


def test_constants_that_are_learned():
    """A learned time constant is SpikingJelly's `w`; other ones have no place there."""
    net = nn.Sequential(nn.LIFNode(nn.learnable(3.0)), nn.contrib.KLIFNode(k=2.0))
    arrays = {"0.w": np.float32(0.5), "1.k": np.float32(1.5)}
    assert spikingjelly.state_dict(net).keys() == arrays.keys()
    loaded = spikingjelly.load(net, arrays)
    np.testing.assert_allclose(loaded[0].tau, 1 + np.exp(-0.5), rtol=1e-6)
    assert loaded[1].k == 1.5
    for neuron, message in (
        (nn.LIFNode(nn.learnable([2.0, 3.0])), r"0.tau is learned for each .* \[2\], .*to_nir"),
        (nn.SynapseFilter(nn.learnable(3.0, (0, 9))), r"0.tau .* \(1.0, inf\) .* \(0.0, 9.0\);"),
        (nn.IFNode(v_threshold=nn.learnable(1.0)), r"layers.0.w_v_threshold \(of IFNode\).*to_nir"),
        (
            nn.contrib.KLIFNode(k=[1.0, 2.0]),
            r"0.k has the shape \[2\], and SpikingJelly has one number",
        ),
        (
            nn.contrib.ActivationAwareIFNode(v_offset=nn.learnable(0.5)),
            r"layers.0.w_v_offset \(of ActivationAwareIFNode\).* neuron.tau = neuron.tau",
        ),
        (
            nn.contrib.ActivationAwareIFNode(v_threshold=[[1.0], [2.0]]),
            r"0.v_threshold has the shape \[2, 1\], and",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            spikingjelly.state_dict(nn.Sequential(neuron))
    ended = nn.IFNode(v_threshold=nn.learnable(1.5))
    ended.v_threshold = ended.v_threshold
    assert spikingjelly.state_dict(ended) == {}
    assert ended.v_threshold == 1.5


def test_other_layers_of_flax():
    """Behind a Flatten they are sorted as a Linear is."""
    rngs = nnx.Rngs(0)
    net = nn.Sequential(
        *(conv(rngs), nnx.BatchNorm(3, rngs=rngs), nn.Flatten(), nnx.LayerNorm(12, rngs=rngs)),
        *(nnx.BatchNorm(12, use_running_average=True, rngs=rngs), nn.Linear(12, 4, rngs=rngs)),
    )
    arrays = random_arrays(net)
    shapes = {"weight": (12,), "bias": (12,), "running_mean": (12,), "running_var": (12,)}
    shapes["num_batches_tracked"] = ()
    found = {n.removeprefix("4."): a.shape for n, a in arrays.items() if n.startswith("4.")}
    assert found == shapes
    assert {n for n in arrays if n.startswith("3.")} == {"3.weight", "3.bias"}
    arrays["4.running_var"] = np.square(arrays["4.running_var"])
    loaded = spikingjelly.load(net, arrays)
    same_arrays(spikingjelly.state_dict(loaded), arrays | {"4.num_batches_tracked": np.array(0)})
    images = quick.uniform((2, 2, 2, 3))
    y = flattened(images)
    y = (y - y.mean(1, keepdims=True)) / np.sqrt(y.var(1, keepdims=True) + 1e-6)
    y = y * arrays["3.weight"] + arrays["3.bias"]
    y = (y - arrays["4.running_mean"]) / np.sqrt(arrays["4.running_var"] + 1e-5)
    y = y * arrays["4.weight"] + arrays["4.bias"]
    y = y @ arrays["5.weight"].T + arrays["5.bias"]
    _, ours = nn.unroll(nn.Sequential(*loaded.layers[2:]), images[None])
    np.testing.assert_allclose(ours[0], y, rtol=1e-4, atol=1e-4)
    embed = nnx.Embed(5, 3, rngs=rngs)
    np.testing.assert_array_equal(spikingjelly.state_dict(embed)["weight"], embed.embedding[...])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda r: nnx.LayerNorm(3, feature_axes=1, rngs=r),
            "^1, Flax's LayerNorm: feature_axes must be -1, .* got 1",
        ),
        (lambda r: nnx.BatchNorm(3, axis=1, rngs=r), "^1, Flax's BatchNorm: axis must be -1"),
        (lambda r: nnx.LayerNorm(3, rngs=r), "1 reads the features of images, which torch has on"),
    ],
)
def test_normalisations_of_flax_over_other_axes(make, message):
    rngs = nnx.Rngs(0)
    with pytest.raises(ValueError, match=message):
        spikingjelly.state_dict(nn.Sequential(conv(rngs), make(rngs)))


def test_numbers_of_snntorch_for_each_channel():
    """Torch has them along the width unless there are axes behind."""
    betas = (0.5, 0.25, 0.125)
    for learned in (False, True):
        neuron = snntorch.Leaky(betas, learn_beta=learned)
        for layer, ones in ((conv(nnx.Rngs(0)), (1, 1)), (nn.Linear(2, 3, rngs=nnx.Rngs(0)), ())):
            net = nn.Sequential(layer, nn.Dropout(0.5), neuron)
            arrays = spikingjelly.state_dict(net)
            assert arrays["2.beta"].shape == (3, *ones)
            same_arrays(spikingjelly.state_dict(spikingjelly.load(net, arrays)), arrays)
            for axes in {(), (1, 1)} - {ones}:
                arrays["2.beta"] = arrays["2.beta"].reshape(3, *axes)
                message = (
                    "torch puts .n. along its width" if ones else "told by a Conv or a pooling"
                )
                with pytest.raises(ValueError, match=rf"2\.beta: expected shape .*{message}"):
                    spikingjelly.load(net, arrays)


def test_numbers_of_snntorch_at_the_input():
    """What reads the input of the network may be fed images, but not with numbers of torch."""
    neuron = snntorch.Leaky([0.5, 0.25])
    images, features = jnp.ones((3, 1, 4, 2)), jnp.ones((3, 1, 2))
    assert nn.unroll(neuron, images)[1].shape == images.shape
    neuron = spikingjelly.load(neuron, spikingjelly.state_dict(neuron))
    assert nn.unroll(neuron, features)[1].shape == features.shape
    with pytest.raises(ValueError, match=r"each of 2 features, .* got one of shape \[1, 4, 2\]"):
        nn.unroll(neuron, images)
    with pytest.raises(ValueError, match=r"for each of 2 features, .* \[4, 2\] a step"):
        to_nir(neuron, (4, 2), soft_reset=True)


@pytest.mark.parametrize("kind", ["LSTMCell", "OptimizedLSTMCell", "GRUCell", "SimpleCell", "RNN"])
def test_recurrent_layers_of_flax(kind):
    """Their parameters are there in torch, but neither so called nor so laid out."""
    make = getattr(nnx, kind.replace("RNN", "GRUCell"))
    cell = quick.empty(lambda: make(2, 3, rngs=nnx.Rngs(0)))
    layer = nnx.RNN(cell) if kind == "RNN" else cell
    message = rf"^0\.sub_module is Flax's {kind}, .* or use SpikingLSTMCell"
    net = nn.Sequential(nn.ElementWiseRecurrentContainer(layer, operator.add))
    with pytest.raises(ValueError, match=message):
        spikingjelly.state_dict(net)
    with pytest.raises(ValueError, match=message):
        spikingjelly.load(net, {})


# Against the library itself, where it is installed.


def twins():
    """Pairs of a module of SpikingJelly and one of ours, and the shape of an input there."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("spikingjelly")
    from spikingjelly.activation_based import layer, neuron, rnn
    from spikingjelly.activation_based import surrogate as theirs

    rngs, atan = nnx.Rngs(0), theirs.ATan()
    ours = {"surrogate_function": surrogate.ATan()}
    yield (
        torch.nn.Sequential(
            layer.Linear(6, 8),
            layer.LinearRecurrentContainer(neuron.ParametricLIFNode(surrogate_function=atan), 8, 8),
            layer.SynapseFilter(5.0, learnable=True),
            layer.Linear(8, 4, bias=False),
            neuron.KLIFNode(surrogate_function=atan),
        ),
        nn.Sequential(
            nn.Linear(6, 8, rngs=rngs),
            nn.LinearRecurrentContainer(nn.ParametricLIFNode(**ours), 8, 8, rngs=rngs),
            nn.SynapseFilter(9.0, learnable=True),
            nn.Linear(8, 4, use_bias=False, rngs=rngs),
            nn.contrib.KLIFNode(**ours),
        ),
        (10, 3, 6),
    )
    yield (
        torch.nn.Sequential(
            layer.Conv2d(2, 4, 3, padding=1),
            layer.BatchNorm2d(4),
            neuron.GatedLIFNode(T=5, inplane=4),
            layer.MaxPool2d(2),
            layer.WSConv2d(4, 3, 3, padding=1),
            layer.ThresholdDependentBatchNorm2d(1.0, 1.0, 3),
            neuron.LIFNode(),
            layer.Flatten(),
            layer.BatchNorm1d(12),
            layer.WSLinear(12, 6),
            neuron.PSN(5),
            layer.Linear(6, 4),
            neuron.MaskedPSN(2, 5, 0.5),
        ),
        nn.Sequential(
            nn.Conv(2, 4, (3, 3), padding=1, rngs=rngs),
            nn.BatchNorm(4),
            nn.contrib.GatedLIFNode(5, 4, rngs=rngs),
            nn.MaxPool((2, 2)),
            nn.contrib.WSConv(4, 3, (3, 3), padding=1, rngs=rngs),
            nn.contrib.ThresholdDependentBatchNorm(3),
            nn.LIFNode(),
            nn.Flatten(),
            nn.BatchNorm(12),
            nn.contrib.WSLinear(12, 6, rngs=rngs),
            nn.PSN(5, rngs=rngs),
            nn.Linear(6, 4, rngs=rngs),
            nn.contrib.MaskedPSN(2, 5, rngs=rngs),
        ),
        (5, 3, 2, 4, 4),
    )
    yield (
        torch.nn.Sequential(
            layer.Conv1d(3, 4, 3), layer.TemporalEffectiveBatchNorm1d(4, 4), neuron.IFNode()
        ),
        nn.Sequential(
            nn.Conv(3, 4, (3,), padding="VALID", rngs=rngs),
            nn.contrib.TemporalEffectiveBatchNorm(4, 4),
            nn.IFNode(),
        ),
        (4, 2, 3, 6),
    )
    yield (
        torch.nn.Sequential(layer.Conv3d(1, 2, 2), layer.BatchNormThroughTime3d(4, 2)),
        nn.Sequential(
            nn.Conv(1, 2, (2, 2, 2), padding="VALID", rngs=rngs),
            nn.contrib.BatchNormThroughTime(4, 2),
        ),
        (4, 2, 1, 3, 3, 3),
    )
    yield (
        rnn.SpikingGRU(6, 5, 2, bidirectional=True),
        nn.Sequential(
            *(
                nn.Bidirectional(*(nn.contrib.SpikingGRUCell(n, 5, rngs=rngs) for _ in range(2)))
                for n in (6, 10)
            )
        ),
        (7, 3, 6),
    )


@pytest.mark.parametrize("k", range(5))
def test_against_the_library(k):
    """Parameters go there and back, and give the same spikes on either side."""
    torch = pytest.importorskip("torch")
    from spikingjelly.activation_based import functional

    torch.manual_seed(k)
    theirs, ours, shape = list(twins())[k]
    functional.set_step_mode(theirs, "m")
    with torch.no_grad():  # what is the same everywhere at first would not show an order
        for name, tensor in theirs.state_dict().items():
            if name.endswith("bias"):
                tensor.uniform_(-0.5, 1.0)
            elif tensor.ndim == 1:
                tensor.uniform_(0.5, 1.5)
            elif name.endswith("weight"):
                tensor *= 2
    theirs.eval()
    xs = 2 * torch.rand(shape)

    def outputs():
        functional.reset_net(theirs)
        with torch.no_grad():
            ys = theirs(xs)
        return (ys[0] if isinstance(ys, tuple) else ys).numpy()

    def ours_of(module):
        images = len(shape) > 3
        ys = quick.run_once(nn.unroll, module, jnp.asarray(last(xs.numpy()) if images else xs))[1]
        return first(ys) if ys.ndim > 3 else ys

    there = {name: tensor.numpy().copy() for name, tensor in theirs.state_dict().items()}
    loaded = spikingjelly.load(ours, theirs.state_dict())
    same_arrays(spikingjelly.state_dict(loaded), there)
    ys = outputs()
    assert len(np.unique(ys)) > 1
    np.testing.assert_allclose(ours_of(loaded), ys, rtol=1e-5, atol=1e-5)

    fixed = ("mask0", "mask1")
    other = {n: a if n.endswith(fixed) else np.roll(a, 1) for n, a in there.items()}
    changed = spikingjelly.load(ours, other)
    arrays = spikingjelly.state_dict(changed)
    theirs.load_state_dict({n: torch.from_numpy(a) for n, a in arrays.items()}, strict=True)
    assert not np.array_equal(outputs(), ys)
    np.testing.assert_allclose(ours_of(changed), outputs(), rtol=1e-5, atol=1e-5)
