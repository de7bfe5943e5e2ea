"""Layers between the neurons against SpikingJelly: outputs, gradients, running statistics."""

import functools

import cells
import golden_arrays
import jax
import jax.numpy as jnp
import pytest
import quick
from flax import nnx

from jaxsnn import functional, nn

GOLDEN = golden_arrays.Golden("layers")


def last(a):
    """Channels last: `[T, N, C, ...]` to `[T, N, ..., C]`."""
    return a.transpose(0, 1, *range(3, a.ndim), 2)


def first(a):
    """Channels first again."""
    return a.transpose(0, 1, a.ndim - 1, *range(2, a.ndim - 1))


def same(a):
    return a


def transposed(a):
    return a.T


class Case:
    """How a case of the file is run.

    `make(rngs)` makes the module; `places` says of each array of torch's `state_dict` where it
    belongs, and how its layout becomes ours and torch's again. `of_out` converts the outputs,
    where they are not sequences with channels.
    """

    def __init__(self, make, places=None, *, run=None, of_out=(last, first)):
        self.make, self.places = make, places or {}
        self.run = run or unrolled
        self.of_out = of_out

    def results(self, arrays, meta):
        """Everything that is in the file, by its name there."""
        module = self.make(nnx.Rngs(0))
        for name, (place, to, _) in self.places.items():
            assert place(module)[...].shape == to(arrays[f"p_{name}"]).shape, name
            place(module)[...] = to(arrays[f"p_{name}"])
        to, back = self.of_out

        def loss(module, x):
            out, more = self.run(module, x, meta["train"])
            return jnp.sum(out * to(arrays["w_out"])), (out, more)

        x = last(arrays["x"])
        (value, (out, more)), (g, g_x) = jax.value_and_grad(loss, (0, 1), has_aux=True)(module, x)
        results = {"loss": value, "out": back(out), "g_x": first(g_x)}
        for name, (place, _, back) in self.places.items():
            if "running" not in name:
                results[f"g_p_{name}"] = back(place(g)[...])
            elif meta["train"]:
                after = place(more["trained"])[...]
                results[f"buf_after_{name}"] = back(after)
        return results | {name: a for name, a in more.items() if name != "trained"}


def unrolled(module, xs, training):
    if not training:
        return nn.unroll(module, xs)[1], {}
    _, ys, extras = nn.unroll(module, xs, key=jax.random.key(0))
    return ys, {"trained": extras.module}


def check(cases, precision, stored_in=None):
    """Runs all `cases` in one compiled function, and compares."""
    arrays = {
        case: {
            name: GOLDEN.arrays[f"{case}/{name}"].astype(precision)
            for name in ("x", "w_out", *(f"p_{name}" for name in cases[case].places))
        }
        for case in cases
    }

    def everything(arrays):
        return {case: cases[case].results(arrays[case], GOLDEN.cases[case]) for case in cases}

    for case, results in quick.run_once(everything, arrays).items():
        for name, actual in results.items():
            full = f"{case}/{name}"
            kind = "float32" if name.startswith("buf_after") else stored_in or precision
            if name.endswith("running_mean") and not GOLDEN.has(full):  # it was 0 and has stayed so
                assert not actual.any()
                continue
            compare = golden_arrays.assert_close
            compare = golden_arrays.assert_loss_close if name == "loss" else compare
            compare(actual.astype(kind), GOLDEN(full, kind), kind, full)
        of_file = {name.removeprefix(f"{case}/") for name in GOLDEN.arrays if f"{case}/" in name}
        left_out = {name for name in of_file - set(results) if name[:2] in ("g_", "bu", "st", "ou")}
        assert {name.removesuffix("64") for name in left_out} - set(results) <= NOT_OURS


# What PyTorch counts and we do not (the momentum is fixed), and masks, which are put in.
NOT_OURS = {"buf_after_num_batches_tracked", "state_mask", "state_dropped_w", "state_dropped_b"}
NOT_OURS |= {f"buf_after_bn_list.{t}.num_batches_tracked" for t in range(4)}
NOT_OURS |= {f"buf_after_{part}_conv_bn.1.num_batches_tracked" for part in ("qkv", "qk", "proj")}


# Normalisation.

NORMS = ("bn", "tdbn", "tebn", "bntt")


OURS = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}


def of_norm(place, prefix=""):
    return {
        f"{prefix}{torch}": (lambda m, n=n: getattr(place(m), n), same, same)
        for torch, n in OURS.items()
    }


class Row:
    """Row `t` of a parameter that has one for each step, where torch has as many modules."""

    def __init__(self, module, name, t):
        self.variable, self.t = getattr(module, name), t

    def __getitem__(self, _):
        return self.variable[...][self.t]

    def __setitem__(self, _, value):
        self.variable[...] = self.variable[...].at[self.t].set(value)


def batch_norm(kind, case, dtype):
    meta, (steps, _, channels, *_) = GOLDEN.cases[case], GOLDEN.arrays[f"{case}/x"].shape
    settings = {"param_dtype": dtype}
    if kind == "bn":
        return Case(lambda _: nn.BatchNorm(channels, **settings), of_norm(same))
    if kind == "tdbn":
        settings |= {"alpha": meta["alpha"], "v_threshold": meta["v_th"]}
        return Case(
            lambda _: nn.contrib.ThresholdDependentBatchNorm(channels, **settings), of_norm(same)
        )
    if kind == "tebn":
        places = of_norm(lambda m: m.norm) | {"scale": (lambda m: m.scale, same, same)}
        return Case(
            lambda _: nn.contrib.TemporalEffectiveBatchNorm(steps, channels, **settings), places
        )
    places = {
        f"bn_list.{t}.{torch}": (functools.partial(Row, name=name, t=t), same, same)
        for t in range(steps)
        for torch, name in OURS.items()
        if name != "bias"
    }
    return Case(lambda _: nn.contrib.BatchNormThroughTime(steps, channels, **settings), places)


def batch_norms(dtype):
    kinds = {case: case.split("1d")[0].split("2d")[0] for case in GOLDEN.cases}
    return {case: batch_norm(kind, case, dtype) for case, kind in kinds.items() if kind in NORMS}


def neunorms(dtype):
    def run(module, xs, _):
        s, ys = nn.unroll(module, xs)
        return ys, {"state_x": s.transpose(0, 3, 1, 2)}

    def case(shared):
        make = functools.partial(nn.contrib.NeuNorm, 5, 3, 4, 0.9, shared, param_dtype=dtype)
        place = (lambda m: m.w, lambda w: w.transpose(1, 2, 0), lambda w: w.transpose(2, 0, 1))
        return Case(lambda rngs: make(rngs=rngs), {"w": place}, run=run)

    return {f"neunorm_shared{int(shared)}": case(shared) for shared in (False, True)}


# Attention.


def attentions(dtype):
    settings = {"param_dtype": dtype}

    def mlp(place, prefix="", to=transposed, back=transposed):
        return {
            f"{prefix}sharedMLP.0.weight": (lambda m: place(m).reduce.kernel, to, back),
            f"{prefix}sharedMLP.2.weight": (lambda m: place(m).expand.kernel, to, back),
        }

    by_conv = (lambda w: w[:, :, 0, 0, 0].T), (lambda w: w.T[:, :, None, None, None])
    temporal = Case(
        lambda rngs: nn.contrib.TemporalWiseAttention(6, 2, rngs=rngs, **settings),
        mlp(lambda m: m.weights),
    )
    multi = Case(
        lambda rngs: nn.contrib.MultiDimensionalAttention(6, 4, 2, 2, 3, rngs=rngs, **settings),
        mlp(lambda m: m.of_time, "ta.", *by_conv)
        | mlp(lambda m: m.of_channels, "ca.", *by_conv)
        | {"sa.conv.weight": (lambda m: m.of_positions.kernel, *CONV_KERNEL)},
    )
    return {
        "temporal_wise_attention_3d": temporal,
        "temporal_wise_attention_5d": temporal,
        "multi_dimensional_attention": multi,
    }


def spiking_attentions(dtype):
    def places(part, stored):
        kernel = (
            lambda m: getattr(m, part)[0].kernel,
            lambda w: w[:, :, 0].T,
            lambda w: w.T[:, :, None],
        )
        norm = of_norm(lambda m: getattr(m, part)[1], f"{stored}_conv_bn.1.")
        return {f"{stored}_conv_bn.0.weight": kernel} | norm

    def case(name, stored):
        make = functools.partial(getattr(cells.nn, name), 16, 4, param_dtype=dtype)
        of_parts = places("in_proj", stored) | places("out_proj", "proj")
        return Case(lambda rngs: make(rngs=rngs), of_parts)

    names = {"SpikingSelfAttention": "qkv", "TokenQKAttention": "qk", "ChannelQKAttention": "qk"}
    return {name: case(name, stored) for name, stored in names.items()}


# The rest.

CONV_KERNEL = (lambda w: w.transpose(2, 3, 1, 0)), (lambda w: w.transpose(3, 2, 0, 1))
LINEAR = {
    "weight": (lambda m: m.kernel, transposed, transposed),
    "bias": (lambda m: m.bias, same, same),
}


def simple_layers(dtype):
    settings = {"param_dtype": dtype}
    gain = lambda *ones: (lambda m: m.gain, jnp.ravel, lambda g: g.reshape(-1, *ones))  # noqa: E731
    of_linear = LINEAR | {"gain": gain(1)}
    of_conv = LINEAR | {"weight": (lambda m: m.kernel, *CONV_KERNEL), "gain": gain(1, 1, 1)}

    def delay(steps):
        return Case(lambda _: nn.Delay(steps))

    def functional_delay(steps):
        return Case(lambda _: (), run=lambda _, xs, training: (functional.delay(xs, steps), {}))

    def two_calls(module, xs, _):
        carry, head = nn.unroll(module, xs)
        _, tail = nn.unroll(module, 2 * xs, carry)
        return jnp.concatenate([head, tail]), {}

    rows = (
        lambda a: last(a.reshape(4, 2, 3, 6, 6)).reshape(4, 2, -1),
        lambda a: first(a.reshape(4, 2, 6, 6, 3)).reshape(4, 2, -1),
    )
    return {
        "voting": Case(lambda _: nn.VotingLayer(10)),
        "voting_remainder": Case(lambda _: nn.VotingLayer(3)),
        "maxpool2d": Case(lambda _: nn.MaxPool((2, 2))),
        "avgpool2d": Case(lambda _: nn.AvgPool((2, 2))),
        "flatten": Case(lambda _: nn.Flatten(), of_out=rows),
        "wslinear": Case(lambda rngs: nn.contrib.WSLinear(5, 7, rngs=rngs, **settings), of_linear),
        "wsconv2d": Case(
            lambda rngs: nn.contrib.WSConv(3, 4, (3, 3), padding=1, rngs=rngs, **settings), of_conv
        ),
        "spike_count_to_binary": Case(
            lambda _: nn.contrib.SpikeCountToBinary(4, always_convert=True)
        ),
        "temporal_bin_sum": Case(lambda _: nn.contrib.TemporalBinSum(4, always_convert=True)),
        "delay_two_calls": Case(lambda _: nn.Delay(2), run=two_calls),
        **{f"delay{steps}": delay(steps) for steps in (0, 1, 3)},
        **{f"functional_delay{steps}": functional_delay(steps) for steps in (0, 1, 3)},
    }


def dropping_layers(dtype):
    make = functools.partial(
        nn.contrib.DropConnectLinear, 5, 4, rate=0.4, invariant=True, param_dtype=dtype
    )
    return {
        "dropout": Case(lambda _: nn.Dropout(0.5)),
        "dropout2d": Case(lambda _: nn.Dropout2d(0.3)),
        "dropconnect_invariant": Case(lambda rngs: make(rngs=rngs), LINEAR),
    }


@pytest.mark.parametrize(
    "cases", [batch_norms, neunorms, attentions, spiking_attentions, simple_layers]
)
def test_golden(cases, precision):
    check(cases(precision), precision)


def test_golden_with_masks(precision, monkeypatch):
    """Layers that drop: recorded in float32 only, as the masks were drawn anew in each run."""

    def kept(name):
        return jnp.asarray(GOLDEN.arrays[name] != 0)

    masks = {
        nn.Dropout: kept("dropout/state_mask"),
        nn.Dropout2d: kept("dropout2d/state_mask").transpose(0, 2, 3, 1),
        nn.contrib.DropConnectLinear: (
            kept("dropconnect_invariant/state_dropped_w").transpose(0, 2, 1),
            kept("dropconnect_invariant/state_dropped_b"),
        ),
    }
    for cls, mask in masks.items():
        monkeypatch.setattr(cls, "_kept", lambda self, key, shape, mask=mask: mask)
    check(dropping_layers(precision), precision, stored_in="float32")


def test_every_case_is_compared():
    groups = (batch_norms, neunorms, attentions, spiking_attentions, simple_layers, dropping_layers)
    assert {case for group in groups for case in group("float32")} == set(GOLDEN.cases)
