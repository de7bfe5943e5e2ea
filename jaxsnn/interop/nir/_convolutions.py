"""Convolutions and poolings: channels last here, channels first in NIR."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxsnn import nn
from jaxsnn.interop.nir._layers import SumPool
from jaxsnn.interop.nir._layout import Layout, parameter, weights
from jaxsnn.interop.nir._notes import KEY, flag, read_notes
from jaxsnn.interop.nir._products import product_notes, product_settings


def conv_to_nir(nir: Any, layer: Any, before: Layout) -> tuple[Any, Layout]:
    """The node of a convolution, and the layout of its output."""
    axes = len(layer.kernel_size)
    after = _after(layer, before, axes)
    if axes > 2:
        raise ValueError(f"NIR convolves over one or two axes, kernel_size={layer.kernel_size}")
    strides = _sides(layer.strides, axes)
    dilation = _sides(layer.kernel_dilation, axes)
    if layer.mask is not None or any(side != 1 for side in _sides(layer.input_dilation, axes)):
        raise ValueError(
            "NIR has nothing for a mask or an input_dilation; multiply the kernel by the mask, or "
            "leave them out"
        )
    padding = _padding_to_nir(layer.padding, layer.kernel_size, strides, axes)
    kernel = weights("kernel", layer.kernel[...])
    weight = np.ascontiguousarray(np.moveaxis(kernel, (-1, -2), (0, 1)))
    # NIR always has a bias here.
    bias = np.zeros(len(weight), weight.dtype)
    notes: dict[str, Any] = dict(product_notes(layer))
    if layer.bias is None:
        notes["use_bias"] = False
    else:
        bias = weights("bias", layer.bias[...])
    metadata = {KEY: notes} if notes else {}
    rest = layer.feature_group_count, bias
    if axes == 1:
        pad = padding if isinstance(padding, str) else padding[0]
        node = nir.Conv1d(
            before.shape[0], weight, *strides, pad, *dilation, *rest, metadata=metadata
        )
    else:
        node = nir.Conv2d(
            before.shape[:2], weight, strides, padding, dilation, *rest, metadata=metadata
        )
    return node, after


def read_conv(node: Any, before: Layout, param_dtype: Any) -> tuple[Any, Layout]:
    """The convolution of a node."""
    weight, bias = np.asarray(node.weight), node.bias
    axes = 1 if type(node).__name__ == "Conv1d" else 2
    if weight.ndim != axes + 2:
        raise ValueError(f"its weight must have {axes + 2} axes, got shape {list(weight.shape)}")
    (groups,) = _sides(node.groups, 1)
    _check_input(before, axes, weight.shape[1] * groups)
    strides = _sides(node.stride, axes)
    use_bias = flag(read_notes(node), "use_bias", bias is not None)
    if bias is not None and np.any(np.asarray(bias) != 0):
        use_bias = True
    layer = nn.Conv(
        weight.shape[1] * groups,
        weight.shape[0],
        weight.shape[2:],
        _one_or_all(strides),
        padding=_padding_to_ours(node.padding, strides),
        kernel_dilation=_one_or_all(_sides(node.dilation, axes)),
        feature_group_count=groups,
        use_bias=use_bias,
        kernel_init=nnx.initializers.zeros,
        bias_init=nnx.initializers.zeros,
        param_dtype=param_dtype,
        **product_settings(read_notes(node)),
        rngs=nnx.Rngs(0),
    )
    kernel = np.moveaxis(weight, (0, 1), (-1, -2))
    layer.kernel[...] = parameter("weight", kernel, param_dtype)
    if layer.bias is not None:
        layer.bias[...] = parameter("bias", _shaped("bias", bias, (len(weight),)), param_dtype)
    return layer, _after(layer, before, axes)


def pool_to_nir(nir: Any, layer: Any, before: Layout) -> tuple[Any, Layout]:
    """The node of a pooling, and the layout of its output."""
    axes = len(layer.window_shape)
    if axes != 2:
        raise ValueError(f"NIR pools over two axes, got window_shape={layer.window_shape}")
    after = _after(layer, before, axes)
    padding = _padding_to_nir(layer.padding, layer.window_shape, layer.strides, axes, explicit=True)
    make = nir.SumPool2d if isinstance(layer, SumPool) else nir.AvgPool2d
    return make(np.array(layer.window_shape), np.array(layer.strides), np.array(padding)), after


def read_pool(node: Any, before: Layout) -> tuple[Any, Layout]:
    """The pooling of a node."""
    _check_input(before, 2, None)
    make = SumPool if type(node).__name__ == "SumPool2d" else nn.AvgPool
    strides = _sides(node.stride, 2)
    padding = _padding_to_ours(node.padding, strides)
    layer = make(_sides(node.kernel_size, 2), strides, padding=padding)
    return layer, _after(layer, before, 2)


def _after(layer: Any, before: Layout, axes: int) -> Layout:
    if len(before.shape) != axes + 1:
        raise ValueError(
            f"it needs {axes} axes and channels, its input has shape {list(before.shape)} a step"
        )
    x = jax.ShapeDtypeStruct((1, *before.shape), jnp.float32)
    shape = jax.eval_shape(lambda x: layer(x).astype(jnp.float32), x).shape[1:]
    if 0 in shape:
        raise ValueError(f"of an input of shape {list(before.shape)} nothing is left")
    return Layout(shape)


def _check_input(before: Layout, axes: int, channels: int | None) -> None:
    shape = before.shape
    if len(shape) != axes + 1 or channels not in (None, shape[-1]):
        count = "" if channels is None else f"{channels} "
        raise ValueError(
            f"it needs {count}channels and {axes} axes, its input has shape "
            f"{list(before.nir_shape)}"
        )


def _padding_to_nir(
    padding: Any, kernel: Any, strides: Any, axes: int, *, explicit: bool = False
) -> Any:
    """The padding on either side of each axis, or `"same"` or `"valid"`."""
    if isinstance(padding, str):
        name = padding.upper()
        if name == "VALID":
            return (0,) * axes if explicit else "valid"
        if name != "SAME" or any(stride != 1 for stride in strides):
            raise ValueError(
                f"NIR has nothing for padding={padding!r} with strides={tuple(strides)}: its "
                "'same' is that of strides of 1; give numbers, the same on both sides of an axis"
            )
        if not explicit:
            return "same"
        padding = tuple(((side - 1) // 2, side // 2) for side in kernel)
    pairs = [pad if isinstance(pad, tuple | list) else (pad, pad) for pad in _items(padding, axes)]
    if any(low != high for low, high in pairs):
        raise ValueError(
            f"NIR pads both sides of an axis alike, got padding={padding!r}; choose a kernel of "
            "odd size, or pad alike"
        )
    return tuple(int(low) for low, _ in pairs)


def _padding_to_ours(padding: Any, strides: tuple[int, ...]) -> Any:
    if isinstance(padding, bytes):
        padding = padding.decode()
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise ValueError(f"padding must be 'same', 'valid' or numbers, got {padding!r}")
        if padding == "same" and set(strides) != {1}:
            raise ValueError(
                f"padding 'same' is for strides of 1, got {strides}: libraries pad differently "
                "then; write numbers"
            )
        return padding.upper()
    sides = _sides(padding, len(strides), least=0)
    return sides[0] if len(set(sides)) == 1 else tuple((side, side) for side in sides)


def _sides(value: Any, axes: int, *, least: int = 1) -> tuple[int, ...]:
    """One integer for each axis."""
    if value is None:
        value = 1
    numbers = np.asarray(value)
    if numbers.dtype.kind not in "iu" or numbers.size not in (1, axes) or np.any(numbers < least):
        raise ValueError(f"it needs {axes} integers of at least {least}, got {value!r}")
    return tuple(int(number) for number in np.broadcast_to(numbers.ravel(), (axes,)))


def _items(value: Any, axes: int) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,) * axes


def _one_or_all(sides: tuple[int, ...]) -> Any:
    return sides[0] if len(set(sides)) == 1 else sides


def _shaped(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    array = np.asarray(value)
    if array.shape != shape:
        raise ValueError(f"its {name} must have shape {list(shape)}, got {list(array.shape)}")
    return array
