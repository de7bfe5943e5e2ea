"""Layers that are not neurons: a row per type of node, how it is written and how it is read."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype

from jaxsnn import nn
from jaxsnn._convolution import conv_general_dilated
from jaxsnn._dot_general import dot_general
from jaxsnn._parameters import standardized
from jaxsnn.interop.nir._cells import Scale, SumPool, Threshold, numbers, refuse, shown
from jaxsnn.interop.nir._neurons import fire_notes, read_fire
from jaxsnn.interop.nir._node import Layout, Reading, Row, Writing, Written, shaped, weights


class OfInput(NamedTuple):
    """The weights of the input in the `rc` of a `LinearRecurrentContainer`, a node of its own.

    Attributes:
        linear: these weights as a layer.
        rc: the path of the other part.
    """

    linear: nn.Linear
    rc: str


# Linear and Affine: `y = W x`, `y = W x + b`; W is `[out, in]` in NIR and `[in, out]` here.


def _write_linear(layer: Any, at: Writing) -> Written:
    part_of = {}
    if isinstance(layer, OfInput):
        layer, part_of = layer.linear, {"part_of": layer.rc}
    kernel, bias, notes = _product(layer)
    if at.before.shape != kernel.shape[:1]:
        raise ValueError(
            f"it needs one axis of {len(kernel)} features, but its input has shape "
            f"{list(at.before.shape)}; put a Flatten before it"
        )
    after = _after_linear(at, kernel.shape[1])
    fields = {"weight": after.to_nir(at.before.to_nir(kernel).T)}
    if bias is not None:
        fields["bias"] = after.to_nir(bias)
    return Written("Linear" if bias is None else "Affine", fields, after, notes | part_of)


def _read_linear(at: Reading) -> tuple[Any, Layout]:
    weight, bias = numbers("weight", at.node.weight), None
    if weight.ndim != 2 or at.before.shape != weight.shape[1:]:
        raise ValueError(
            f"its weight of shape {list(weight.shape)} needs an input of one axis of features and "
            f"no batch axis, got {list(at.before.nir_shape)}"
        )
    outputs, inputs = weight.shape
    after = _after_linear(at, outputs)
    if at.kind == "Affine":
        bias = after.to_ours(shaped("bias", at.node.bias, (outputs,)))
    kernel = at.before.to_ours(after.to_ours(weight).T)
    return _multiplying(at, (kernel, bias), nn.Linear, inputs, outputs), after


def _after_linear(at: Writing | Reading, size: int) -> Layout:
    """The layout of the output: where it is fed back, the one that it meets there."""
    return at.after if at.after is not None and at.after.shape == (size,) else Layout((size,))


# Conv1d and Conv2d: kernels are `[out, in, ...]` in NIR, which always has a bias, and `[..., in,
# out]` here.


def _write_conv(layer: Any, at: Writing) -> Written:
    axes = len(layer.kernel_size)
    after = _after_window(layer, at.before, axes)
    dilated = set(sides_of(layer.input_dilation, axes)) != {1}
    refuse(
        (axes > 2, f"NIR convolves over one or two axes, kernel_size={layer.kernel_size}"),
        (layer.mask is not None, "NIR has no mask; multiply the kernel by it, and leave it out"),
        (dilated, f"NIR has no input_dilation={layer.input_dilation}; leave it out"),
    )
    kernel, bias, notes = _product(layer)
    strides = sides_of(layer.strides, axes)
    weight = np.moveaxis(kernel, (-1, -2), (0, 1))
    if bias is None:
        bias, notes = np.zeros(len(weight), weight.dtype), {**notes, "use_bias": False}
    fields = {
        "input_shape": at.before.shape[:axes],
        "stride": strides,
        "padding": _write_padding(layer.padding, layer.kernel_size, strides, words=True),
        "dilation": sides_of(layer.kernel_dilation, axes),
    }
    if axes == 1:
        fields = {name: v if isinstance(v, str) else v[0] for name, v in fields.items()}
    fields |= {"weight": weight, "bias": bias, "groups": layer.feature_group_count}
    return Written(f"Conv{axes}d", fields, after, notes)


def _read_conv(at: Reading) -> tuple[Any, Layout]:
    axes = 1 if at.kind == "Conv1d" else 2
    weight = numbers("weight", at.node.weight)
    if weight.ndim != axes + 2:
        raise ValueError(f"its weight must have {axes + 2} axes, got shape {list(weight.shape)}")
    bias = None if at.node.bias is None else shaped("bias", at.node.bias, weight.shape[:1])
    if not (at.flag("use_bias", True) or np.any(bias)):
        bias = None
    (groups,) = sides_of(at.node.groups, 1)
    strides = sides_of(at.node.stride, axes)
    layer = _multiplying(
        at,
        (np.moveaxis(weight, (0, 1), (-1, -2)), bias),
        nn.Conv,
        *(weight.shape[1] * groups, weight.shape[0], weight.shape[2:], _one_or_all(strides)),
        padding=_read_padding(at.node.padding, strides),
        kernel_dilation=_one_or_all(sides_of(at.node.dilation, axes)),
        feature_group_count=groups,
    )
    return layer, _after_window(layer, at.before, axes)


# AvgPool2d and SumPool2d.


def _write_pool(layer: Any, at: Writing) -> Written:
    window, strides = layer.window_shape, layer.strides
    if len(window) != 2:
        raise ValueError(f"NIR pools over two axes, got window_shape={window}")
    padding = _write_padding(layer.padding, window, strides, words=False)
    fields = {"kernel_size": window, "stride": strides, "padding": padding}
    kind = "SumPool2d" if isinstance(layer, SumPool) else "AvgPool2d"
    after = _after_window(layer, at.before, 2)
    return Written(kind, {name: np.array(sides) for name, sides in fields.items()}, after)


def _read_pool(at: Reading) -> tuple[Any, Layout]:
    make = SumPool if at.kind == "SumPool2d" else nn.AvgPool
    strides = sides_of(at.node.stride, 2)
    padding = _read_padding(at.node.padding, strides)
    layer = make(sides_of(at.node.kernel_size, 2), strides, padding=padding)
    return layer, _after_window(layer, at.before, 2)


# Flatten: NIR's channels are first, so that the elements are in another order here.


def _write_flatten(layer: Any, at: Writing) -> Written:
    fields = {"input_type": np.array(at.before.nir_shape), "start_dim": 0, "end_dim": -1}
    return Written("Flatten", fields, at.before.flat())


def _read_flatten(at: Reading) -> tuple[Any, Layout]:
    axes = len(at.before.shape)
    (start,), (end,) = np.ravel(at.node.start_dim).tolist(), np.ravel(at.node.end_dim).tolist()
    if axes > 1 and (start, end % axes) != (0, axes - 1):
        raise ValueError(
            f"start_dim={start} and end_dim={end} flatten only a part of the shape "
            f"{list(at.before.nir_shape)}, which has no batch axis; only 0 to -1 is supported"
        )
    return nn.Flatten(), at.before.flat()


# Delay: in seconds in NIR, in steps here.


def _write_delay(layer: Any, at: Writing) -> Written:
    return Written("Delay", {"delay": at.spread("delay", layer.delay_steps * at.dt)}, at.before)


def _read_delay(at: Reading) -> tuple[Any, Layout]:
    dt, delay = at.seconds(), at.elements("delay")
    steps = np.round(delay / dt)
    if delay.ndim or steps < 0 or abs(steps * dt - delay) > 1e-6 * dt * np.maximum(steps, 1):
        raise ValueError(f"its delay must be one multiple of dt={dt!r}, got {shown(delay)} seconds")
    return nn.Delay(int(steps)), at.before


# Scale: `y = scale x`.


def _write_scale(layer: Any, at: Writing) -> Written:
    scale = shaped("scale", weights("scale", layer.scale[...]), at.before.shape)
    return Written("Scale", {"scale": at.before.to_nir(scale)}, at.before)


def _read_scale(at: Reading) -> tuple[Any, Layout]:
    scale = np.broadcast_to(at.elements("scale"), at.before.shape)
    return Scale(at.parameter("scale", scale), param_dtype=at.param_dtype), at.before


# Threshold: `y = H(x - threshold)`.


def _write_threshold(layer: Any, at: Writing) -> Written:
    fields = {"threshold": at.spread("threshold", layer.threshold)}
    return Written("Threshold", fields, at.before, fire_notes(layer))


def _read_threshold(at: Reading) -> tuple[Any, Layout]:
    function = read_fire(at)["surrogate_function"]
    return Threshold(at.elements("threshold"), surrogate_function=function), at.before


_LINEAR = (nn.Linear, nn.contrib.WSLinear, nnx.Linear, OfInput)
_CONV = (nn.Conv, nn.contrib.WSConv, nnx.Conv)
LAYERS = (
    Row(("Linear", "Affine"), _LINEAR, _write_linear, _read_linear),
    Row(("Conv1d", "Conv2d"), _CONV, _write_conv, _read_conv),
    Row(("AvgPool2d", "SumPool2d"), (nn.AvgPool, SumPool), _write_pool, _read_pool),
    Row(("Flatten",), (nn.Flatten,), _write_flatten, _read_flatten),
    Row(("Delay",), (nn.Delay,), _write_delay, _read_delay),
    Row(("Scale",), (Scale,), _write_scale, _read_scale),
    Row(("Threshold",), (Threshold,), _write_threshold, _read_threshold),
)

_FOLD = "write the network that jaxsnn.nn.fold_batch_norm(net) returns, in which it is no layer"
_OF_STEPS = "it is another one at each time step; train with a BatchNorm to write the network"
_IN_TRAINING = "it does nothing in inference, so leave it out"
REMEDIES = {
    "SynapseFilter": "train with NonSpikingLIFNode(tau, decay_input=False), which always decays",
    "ExponentialSynapse": (
        "write NonSpikingLIFNode(1 / (1 - exp(-1 / tau)), decay_input=False); one right before a "
        "LIFNode, NonSpikingLIFNode or Leaky in a Sequential is written together with it"
    ),
    "Dropout": _IN_TRAINING,
    "Dropout2d": _IN_TRAINING,
    "BatchNorm": _FOLD,
    "ThresholdDependentBatchNorm": _FOLD,
    "BatchNormThroughTime": _OF_STEPS,
    "TemporalEffectiveBatchNorm": _OF_STEPS,
}


# The arithmetic of a Linear or Conv, which NIR lacks, is in the notes.

_DTYPES = {name: jnp.dtype(name) for name in ("bfloat16", "float16", "float32", "float64")}
_FUNCTIONS = ("dot_general", "conv_general_dilated", "promote_dtype", "preferred_element_type")
_USUAL = (None, dot_general, conv_general_dilated, promote_dtype)
_USUAL_OF_FLAX = (jax.lax.dot_general, jax.lax.conv_general_dilated)


def _product(layer: Any) -> tuple[np.ndarray, np.ndarray | None, dict[str, Any]]:
    """Kernel, bias and notes of a layer that multiplies."""
    if isinstance(layer, nn.contrib.WSLinear | nn.contrib.WSConv):
        layer = standardized(layer)
    for name in _FUNCTIONS:
        if getattr(layer, name, None) not in (*_USUAL, *_USUAL_OF_FLAX):
            raise ValueError(f"NIR has nothing for its {name}={getattr(layer, name)}; leave it out")
    notes = {}
    if layer.dtype is not None:
        notes["dtype"] = jnp.dtype(layer.dtype).name
        if notes["dtype"] not in _DTYPES:
            raise ValueError(f"dtype must be one of {list(_DTYPES)}, got {layer.dtype}")
    if layer.precision is not None:
        notes["precision"] = jax.lax.Precision(layer.precision).name
    bias = None if layer.bias is None else weights("bias", layer.bias[...])
    return weights("kernel", layer.kernel[...]), bias, notes


def _multiplying(at: Reading, arrays: Any, make: Any, *sizes: Any, **settings: Any) -> Any:
    """A layer with a kernel, a bias or None, and the arithmetic of a node."""
    kernel, bias = arrays
    layer = make(
        *sizes,
        **settings,
        use_bias=bias is not None,
        kernel_init=nnx.initializers.zeros,
        bias_init=nnx.initializers.zeros,
        dtype=at.note("dtype", _DTYPES),
        precision=at.note("precision", jax.lax.Precision.__members__),
        param_dtype=at.param_dtype,
        rngs=nnx.Rngs(0),
    )
    layer.kernel[...] = at.parameter("weight", kernel)
    if bias is not None:
        layer.bias[...] = at.parameter("bias", bias)
    return layer


# Windows of convolutions and poolings.


def _after_window(layer: Any, before: Layout, axes: int) -> Layout:
    """The layout of the output of a convolution or pooling."""
    channels = getattr(layer, "in_features", None)
    if len(before.shape) != axes + 1 or channels not in (None, before.shape[-1]):
        raise ValueError(
            f"it needs {'' if channels is None else f'{channels} '}channels and {axes} axes, its "
            f"input has shape {list(before.shape)}, channels last"
        )
    x = jax.ShapeDtypeStruct((1, *before.shape), jnp.float32)
    shape = jax.eval_shape(lambda x: layer(x).astype(jnp.float32), x).shape[1:]
    if 0 in shape:
        raise ValueError(f"of an input of shape {list(before.shape)} nothing is left")
    return Layout(shape)


def _write_padding(padding: Any, kernel: Any, strides: Any, *, words: bool) -> Any:
    """The padding on either side of each axis, or `"same"` or `"valid"` where words may be."""
    word = _word(padding, strides)
    if word is not None and words:
        return word
    if word is not None:
        padding = [((k - 1) // 2, k // 2) if word == "same" else 0 for k in kernel]
    each = padding if isinstance(padding, tuple | list) else [padding] * len(kernel)
    pairs = [pad if isinstance(pad, tuple | list) else (pad, pad) for pad in each]
    if any(low != high for low, high in pairs):
        raise ValueError(f"NIR pads both sides of an axis alike, got padding={padding!r}")
    return tuple(int(low) for low, _ in pairs)


def _read_padding(padding: Any, strides: tuple[int, ...]) -> Any:
    word = _word(padding, strides)
    if word is not None:
        return word.upper()
    sides = sides_of(padding, len(strides), least=0)
    return sides[0] if len(set(sides)) == 1 else tuple((side, side) for side in sides)


def _word(padding: Any, strides: Any) -> str | None:
    """A padding of `"same"` or `"valid"`; None for numbers."""
    if not isinstance(padding, str):
        return None
    word = padding.lower()
    if word != "valid" and (word != "same" or set(strides) != {1}):
        raise ValueError(
            f"padding={padding!r} with strides={tuple(strides)} is not in NIR, which has 'valid', "
            "and 'same' with strides of 1; give numbers, the same on both sides of an axis"
        )
    return word


def sides_of(value: Any, axes: int, *, least: int = 1) -> tuple[int, ...]:
    """One integer for each axis."""
    sides = np.asarray(1 if value is None else value)
    if sides.dtype.kind not in "iu" or sides.size not in (1, axes) or np.any(sides < least):
        raise ValueError(f"it needs {axes} integers of at least {least}, got {value!r}")
    return tuple(int(side) for side in np.broadcast_to(sides.ravel(), (axes,)))


def _one_or_all(sides: tuple[int, ...]) -> Any:
    return sides[0] if len(set(sides)) == 1 else sides
