"""Names and axes of each layer's parameters in torch."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxsnn import _checks, encoding, nn
from jaxsnn.interop._files import plain
from jaxsnn.interop._leaky import Leaky

SpikingAttention = (
    nn.contrib.SpikingSelfAttention | nn.contrib.TokenQKAttention | nn.contrib.ChannelQKAttention
)
Change = Callable[[np.ndarray], np.ndarray]


class Entry(NamedTuple):
    """One array of a torch `state_dict`.

    Attributes:
        name: its key.
        read: makes it of what is in the module.
        write: puts it into the module; raises ValueError if it does not belong there.
        variables: those of the module that it holds.
        optional: whether it may be missing, as it says nothing that the module has to know.
        hint: what is to be said about another shape.
    """

    name: str
    read: Callable[[], np.ndarray]
    write: Callable[[np.ndarray], None]
    variables: tuple[Any, ...] = ()
    optional: bool = False
    hint: str = ""


class Layout(NamedTuple):
    """The axes of an array here and in torch."""

    to_torch: Change
    to_ours: Change


def _moved(*axes: int) -> Layout:
    """Ours has torch's `axes` in this order."""
    back = tuple(np.argsort(axes))
    return Layout(lambda a: a.transpose(back), lambda a: a.transpose(axes))


def _with_ones(layout: Layout, ones: int) -> Layout:
    """A layout with `ones` more axes of size 1 at the end in torch."""
    return Layout(
        lambda a: (b := layout.to_torch(a)).reshape(*b.shape, *(1,) * ones),
        lambda a: layout.to_ours(a.reshape(a.shape[: a.ndim - ones])),
    )


def _sorted(layout: Layout, axis: int, order: np.ndarray | None) -> Layout:
    """Along `axis` of ours the features come in another order: ours[k] is torch's order[k]."""
    if order is None:
        return layout
    back = np.argsort(order)
    return Layout(
        lambda a: layout.to_torch(np.take(a, back, axis)),
        lambda a: np.take(layout.to_ours(a), order, axis),
    )


SAME = Layout(lambda a: a, lambda a: a)
LINEAR = _moved(1, 0)  # [out, in] to [in, out]
NEUNORM = _moved(1, 2, 0)  # [C, H, W] to [H, W, C]


def _conv(axes: int) -> Layout:
    """[out, in, *kernel] to [*kernel, in, out]."""
    return _moved(*range(2, axes + 2), 1, 0)


def stored(name: str, variable: nnx.Variable[Any], layout: Layout = SAME, row: Any = ...) -> Entry:
    """The entry of one variable, or of one row of it."""

    def write(array: np.ndarray) -> None:
        # A copy: `asarray` may keep the memory of a torch network that goes on training in place.
        value = jnp.array(layout.to_ours(array), variable[...].dtype)
        variable.set_value(jnp.asarray(variable[...]).at[row].set(value))

    return Entry(name, lambda: layout.to_torch(plain(variable[...])[row]), write, (variable,))


def constant(name: str, value: Any, why: str) -> Entry:
    """The entry of a buffer that follows from the settings."""
    value = np.asarray(value)

    def write(array: np.ndarray) -> None:
        if not np.array_equal(array, value):
            raise ValueError(f"is not that of {why}")

    return Entry(name, lambda: value, write, optional=True)


def _number(
    name: str, cell: nn.ElementwiseCell, attribute: str, layout: Layout = SAME, hint: str = ""
) -> Entry:
    """The entry of a buffer that is a constant here, learned or not."""

    def read() -> np.ndarray:
        value = getattr(cell, attribute)
        array = np.asarray(value, np.float32) if isinstance(value, float) else plain(value)
        return layout.to_torch(array)

    def write(array: np.ndarray) -> None:
        value: Any = layout.to_ours(array)
        if attribute in cell.learned:
            w, bounds = cell.learned[attribute]
            value = nn.learnable(value, bounds, param_dtype=w[...].dtype)
        setattr(cell, attribute, value)

    variables = tuple(cell.learned[key].parameter for key in cell.learned if key == attribute)
    return Entry(name, read, write, variables, hint=hint)


def _field(name: str, cell: nn.ElementwiseCell, attribute: str, most: int = 1) -> Entry:
    """The entry of a buffer that is a constant here: of at most so many axes, the last ones."""
    shape = np.shape(getattr(cell, attribute))
    if len(shape) > most:
        expected = "one number" + (", or one for each channel, [n]" if most else " for the layer")
        raise ValueError(f"{name} has the shape {list(shape)}, and SpikingJelly has {expected}")
    return _number(name, cell, attribute)


def _learned(
    attribute: str, name: str, bounds: tuple[float, float]
) -> Callable[[nn.ElementwiseCell, str], list[Entry]]:
    """The parameter `name` of a neuron that learns the constant `attribute`, between `bounds`."""

    def entries(cell: nn.ElementwiseCell, at: str) -> list[Entry]:
        if attribute not in cell.learned:
            return []
        parameter, actual = cell.learned[attribute]
        if parameter[...].ndim > 0:
            raise ValueError(
                f"{at}{attribute} is learned for each neuron, in the shape "
                f"{list(parameter[...].shape)}, and SpikingJelly has one for the layer; {WAY_OUT}"
            )
        if actual != bounds:
            raise ValueError(
                f"{at}{attribute} must be learned between {bounds} as in SpikingJelly, got "
                f"{actual}; leave bounds= out, or {WAY_OUT}"
            )
        return [stored(f"{at}{name}", parameter)]

    return entries


def _klif(cell: nn.contrib.KLIFNode, at: str) -> list[Entry]:
    """The gain, which SpikingJelly always learns."""
    gain = _learned("k", "k", (-math.inf, math.inf))(cell, at)
    return gain or [_field(f"{at}k", cell, "k", most=0)]


WAY_OUT = (
    "write them with jaxsnn.interop.nir.to_nir; or end their training, neuron.tau = neuron.tau, "
    "and give them to the neuron of SpikingJelly, whose files hold no settings"
)


def linear(layer: Any, at: str, order: np.ndarray | None = None) -> list[Entry]:
    """`nnx.Linear`, `nnx.Conv` and those made of them; `order` is that of their input."""
    convolves = isinstance(layer, nnx.Conv)
    layout = _conv(len(layer.kernel_size)) if convolves else LINEAR
    entries = [stored(f"{at}weight", layer.kernel, _sorted(layout, -2, order))]
    if layer.bias is not None:
        entries.append(stored(f"{at}bias", layer.bias))
    if getattr(layer, "gain", None) is not None:
        ones = len(layer.kernel_size) + 1 if convolves else 1
        entries.append(stored(f"{at}gain", layer.gain, _with_ones(SAME, ones)))
    return entries


def _no_batches() -> np.ndarray:
    return np.zeros((), np.int64)


_NORM = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}


def norm(layer: Any, at: str, order: np.ndarray | None = None) -> list[Entry]:
    """Normalisations over the last axis, ours and Flax's.

    Only torch counts batches; ours and Flax's have a fixed momentum.
    """
    if isinstance(layer, nn.contrib.TemporalEffectiveBatchNorm):
        return [stored(f"{at}scale", layer.scale), *norm(layer.norm, at, order)]
    found = {name: getattr(layer, ours, None) for name, ours in _NORM.items()}
    arrays = {name: array for name, array in found.items() if array is not None}
    rows: list[tuple[str, Any]] = [(at, ...)]
    if isinstance(layer, nn.contrib.BatchNormThroughTime):
        rows = [(f"{at}bn_list.{t}.", t) for t in range(layer.T)]
    entries: list[Entry] = []
    for start, row in rows:
        layout = _sorted(SAME, -1, order)
        entries += [stored(f"{start}{name}", array, layout, row) for name, array in arrays.items()]
        if "running_mean" in arrays:
            count = f"{start}num_batches_tracked"
            entries.append(Entry(count, _no_batches, lambda _: None, optional=True))
    return entries


def _masked_psn(layer: nn.contrib.MaskedPSN, at: str) -> list[Entry]:
    apart = np.arange(layer.T)[:, None] - np.arange(layer.T)
    masks = ((apart >= 0) & (apart < layer.k), np.ones((layer.T, layer.T)))
    settings = f"MaskedPSN(k={layer.k}, T={layer.T})"

    def write(array: np.ndarray) -> None:
        layer.lambda_ = _checks.probability("lambda_", array.item())

    return [
        *_by_name("weight", "bias")(layer, at),
        Entry(f"{at}_lambda_", lambda: np.asarray(layer.lambda_, np.float32), write),
        *(constant(f"{at}mask{k}", np.float32(m), settings) for k, m in enumerate(masks)),
    ]


def leaky(layer: Leaky, at: str, axes: int, *, of_input: bool) -> list[Entry]:
    """The neuron of snnTorch.

    Numbers for each neuron lie along the last axis here and in torch. Those for each channel of
    an image therefore have axes of size 1 after them in torch.

    Args:
        layer: the neuron.
        at: the beginning of its names.
        axes: how many axes of positions its input has.
        of_input: whether the layer reads the input of the network, which may be an image.
    """
    reset = layer.reset_mechanism
    number = {"subtract": 0, "zero": 1, "discard": 1, "none": 2}[reset]
    entries = [constant(f"{at}reset_mechanism_val", number, f"reset_mechanism={reset!r}")]
    for name in layer.numbers:
        value = getattr(layer, name)
        layout, hint = _along(np.ndim(value), axes)
        entry = _number(f"{at}{name}", layer, name, layout, hint)
        if np.ndim(value) and of_input:  # then no image may be the input
            entry = entry._replace(write=functools.partial(_write_of_features, entry, layer))
        entries.append(entry)
    return entries


def _write_of_features(entry: Entry, layer: Leaky, array: np.ndarray) -> None:
    entry.write(array)
    layer.of_features = True


def _along(several: int, axes: int) -> tuple[Layout, str]:
    """The layout of one number, or of several, and what an error about their shape adds."""
    if not several:
        return SAME, ""
    hint = "one for each channel of an image; torch puts [n] along its width"
    if not axes:
        hint = "one for each feature; that images come must be told by a Conv or a pooling before"
    return _with_ones(SAME, axes), f" ({hint})"


def alpha(synapse: nn.ExponentialSynapse, at: str, axes: int, *, of_input: bool) -> Entry:
    """The `alpha = exp(-1 / tau)` of snnTorch's synapse, learned or not; axes as for `leaky`."""
    if np.ndim(synapse.tau) and of_input:
        raise ValueError(
            f"{at}alpha has one number for each of {np.size(synapse.tau)} features, but its layer "
            "reads the input of the network, which may be an image; convert it with the layer "
            "before it, e.g. a Linear"
        )
    along, hint = _along(np.ndim(synapse.tau), axes)
    layout = Layout(
        lambda tau: along.to_torch(np.exp(-1 / tau.astype(np.float64))),
        lambda alpha: -1 / np.log(along.to_ours(alpha).astype(np.float64)),
    )
    return _number(f"{at}alpha", synapse, "tau", layout, hint)


def _axis_weights(weights: Any, at: str, ones: int = 0) -> list[Entry]:
    layout = _with_ones(LINEAR, ones)
    return [
        stored(f"{at}sharedMLP.0.weight", weights.reduce.kernel, layout),
        stored(f"{at}sharedMLP.2.weight", weights.expand.kernel, layout),
    ]


def _multi_dimensional(layer: nn.contrib.MultiDimensionalAttention, at: str) -> list[Entry]:
    return [
        *_axis_weights(layer.of_time, f"{at}ta.", 3),
        *_axis_weights(layer.of_channels, f"{at}ca.", 3),
        *linear(layer.of_positions, f"{at}sa.conv."),
    ]


def _spiking_attention(layer: SpikingAttention, at: str) -> list[Entry]:
    roles = "qkv" if isinstance(layer, nn.contrib.SpikingSelfAttention) else "qk"
    entries: list[Entry] = []
    for stack, name in ((layer.in_proj, roles), (layer.out_proj, "proj")):
        kernel = stack[0].kernel
        entries.append(stored(f"{at}{name}_conv_bn.0.weight", kernel, _with_ones(LINEAR, 1)))
        entries += norm(stack[1], f"{at}{name}_conv_bn.1.")
    return entries


def _by_name(*names: str, layout: Layout = SAME) -> Callable[[Any, str], list[Entry]]:
    """Variables that have torch's name here."""

    def entries(layer: Any, at: str) -> list[Entry]:
        return [
            stored(f"{at}{name}", variable, layout)
            for name in names
            if isinstance(variable := getattr(layer, name, None), nnx.Variable)
        ]

    return entries


_GATED = ("alpha", "beta", "gamma", "tau", "v_threshold", "linear_decay", "v_subreset", "conduct")

Rule = Callable[[Any, str], list[Entry]]  # of a layer and the beginning of its names

_RULES: list[tuple[Any, Rule]] = [
    (nn.SynapseFilter | nn.LIFNode, _learned("tau", "w", (1.0, math.inf))),
    (nn.contrib.KLIFNode, _klif),
    (nn.contrib.GatedLIFNode, _by_name(*_GATED)),
    (
        nn.contrib.ActivationAwareIFNode,
        lambda m, at: [
            _field(f"{at}{name}", m, name)
            for name in ("v_threshold", "v_offset")
            if name not in m.learned
        ],
    ),
    (nn.contrib.DSRIFNode | nn.contrib.DSRLIFNode, _by_name("v_threshold")),
    (nn.contrib.MaskedPSN, _masked_psn),
    (nn.PSN | nn.SlidingPSN, _by_name("weight", "bias")),
    (nn.contrib.NeuNorm, _by_name("w", layout=NEUNORM)),
    (nn.contrib.TemporalWiseAttention, lambda m, at: _axis_weights(m.weights, at)),
    (nn.contrib.MultiDimensionalAttention, _multi_dimensional),
    (SpikingAttention, _spiking_attention),
    (
        encoding.PopulationEncoder,
        _by_name("mean", "std", layout=Layout(lambda a: a[None], lambda a: a[0])),
    ),
    (nnx.GroupNorm, norm),
]


def rule_of(layer: Any) -> Rule | None:
    """The rule to find the arrays of `layer`; None if it has none, or no counterpart in torch."""
    return next((rule for kind, rule in _RULES if isinstance(layer, kind)), None)
