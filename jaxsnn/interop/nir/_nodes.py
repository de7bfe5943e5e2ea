"""One node of NIR as a layer of ours."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from flax import nnx

from jaxsnn import nn
from jaxsnn.interop.nir._convolutions import read_conv, read_pool
from jaxsnn.interop.nir._equations import FIELDS, neuron_of
from jaxsnn.interop.nir._layers import Scale, Threshold
from jaxsnn.interop.nir._layout import Layout, kernel_to_ours, parameter
from jaxsnn.interop.nir._notes import flag, read_learned, read_notes, read_surrogate
from jaxsnn.interop.nir._products import product_settings
from jaxsnn.interop.nir._strict import Strict
from jaxsnn.surrogate import Sigmoid

RESETS = ("hard", "soft", "delayed")


class Choices(NamedTuple):
    """Arguments of `from_nir`; where one is None, the notes on a node decide."""

    dt: float | None
    reset: str | None
    fires_at_threshold: bool | None
    surrogate_function: Callable[..., Any] | None
    detach_reset: bool | None
    param_dtype: Any

    def seconds(self) -> float:
        """The seconds per step."""
        if self.dt is None:
            raise ValueError(
                "this graph does not give the time step; pass dt= in seconds "
                "(SpikingJelly and snnTorch write for dt=1e-4)"
            )
        return self.dt


def read_node(
    node: Any, before: Layout, after: Layout | None, choices: Choices
) -> tuple[Any, Layout]:
    """The layer of a node, and the layout of its output.

    Args:
        node: a node of NIR that is neither a graph nor an end of one.
        before: what it is fed.
        after: what its output must look like as it meets others, if that is known.
        choices: the arguments of `from_nir`.
    """
    kind = type(node).__name__
    if kind in ("Affine", "Linear"):
        return _read_linear(node, before, after, choices)
    if kind in ("Conv1d", "Conv2d"):
        return read_conv(node, before, choices.param_dtype)
    if kind in ("AvgPool2d", "SumPool2d"):
        return read_pool(node, before)
    if kind == "Flatten":
        return _read_flatten(node, before)
    if kind == "Delay":
        return _read_delay(node, before, choices.seconds()), before
    if kind == "Scale":
        scale = before.to_ours(_numbers(node, "scale", before, spread=True))
        dtype = choices.param_dtype
        return Scale(parameter("scale", scale, dtype), param_dtype=dtype), before
    if kind == "Threshold":
        fire = _fire(node, choices)
        threshold = before.to_ours(_numbers(node, "threshold", before))
        return Threshold(threshold, surrogate_function=fire["surrogate_function"]), before
    if kind in FIELDS:
        return _read_neuron(node, kind, before, choices), before
    raise ValueError(f"this version of jaxsnn does not know the node type {kind}")


def _read_neuron(node: Any, kind: str, before: Layout, choices: Choices) -> Any:
    fields = {name: before.to_ours(_numbers(node, name, before)) for name in FIELDS[kind]}
    notes = read_notes(node)
    learned: Any = {"learned": read_learned(notes), "param_dtype": choices.param_dtype}
    if not kind.endswith("F"):
        return neuron_of(kind, fields, dt=choices.seconds(), reset="hard", fire={}, **learned)
    reset = choices.reset or notes.get("reset", "hard")
    if reset not in RESETS:
        raise ValueError(f"its metadata 'reset' must be one of {RESETS}, got {reset!r}")
    return neuron_of(
        kind,
        fields,
        dt=choices.seconds(),
        reset=reset,
        fire=_fire(node, choices),
        parametric="learned" not in notes and "w" in notes,
        **learned,
    )


def _fire(node: Any, choices: Choices) -> dict[str, Any]:
    """The surrogate, and whether the reset is detached."""
    notes = read_notes(node)
    function = choices.surrogate_function
    if function is None:
        function = read_surrogate(notes["surrogate"]) if "surrogate" in notes else Sigmoid()
    at_threshold = choices.fires_at_threshold
    if at_threshold is None:
        at_threshold = flag(notes, "fires_at_threshold", False)
    detach = choices.detach_reset
    if detach is None:
        detach = flag(notes, "detach_reset", False)
    function = function if at_threshold else Strict(function)
    return {"surrogate_function": function, "detach_reset": detach}


def _read_linear(
    node: Any, before: Layout, after: Layout | None, choices: Choices
) -> tuple[Any, Layout]:
    weight = np.asarray(node.weight)
    if weight.ndim != 2 or before.shape != weight.shape[1:]:
        raise ValueError(
            f"its weight of shape {list(weight.shape)} needs an input of one axis of "
            f"{weight.shape[-1] if weight.ndim else 0} features, got {list(before.nir_shape)}; "
            "NIR's shapes have no batch axis: if there is one, write it from a sample without"
        )
    outputs, inputs = weight.shape
    if after is None or after.shape != (outputs,):
        after = Layout((outputs,))
    use_bias = type(node).__name__ == "Affine"
    layer = nn.Linear(
        inputs,
        outputs,
        use_bias=use_bias,
        kernel_init=nnx.initializers.zeros,
        bias_init=nnx.initializers.zeros,
        param_dtype=choices.param_dtype,
        **product_settings(read_notes(node)),
        rngs=nnx.Rngs(0),
    )
    kernel = kernel_to_ours(weight, before, after)
    layer.kernel[...] = parameter("weight", kernel, choices.param_dtype)
    if layer.bias is not None:
        bias = np.asarray(node.bias)
        if bias.shape != (outputs,):
            raise ValueError(f"its bias must have shape [{outputs}], got {list(bias.shape)}")
        layer.bias[...] = parameter("bias", after.to_ours(bias), choices.param_dtype)
    return layer, after


def _read_flatten(node: Any, before: Layout) -> tuple[Any, Layout]:
    axes = len(before.shape)
    start, end = (int(np.asarray(axis).reshape(())) for axis in (node.start_dim, node.end_dim))
    if axes > 1 and (start, end % axes) != (0, axes - 1):
        raise ValueError(
            f"start_dim={start} and end_dim={end} flatten only a part of the shape "
            f"{list(before.nir_shape)} (NIR's shapes have no batch axis); only 0 to -1 is supported"
        )
    return nn.Flatten(), before.flat()


def _read_delay(node: Any, before: Layout, dt: float) -> nn.Delay:
    delays = np.unique(_numbers(node, "delay", before)).tolist()
    if len(delays) > 1:
        raise ValueError(
            f"its delays go from {delays[0]!r} to {delays[-1]!r} seconds, but Delay has one for "
            "all; make a node for each"
        )
    steps = round(delays[0] / dt)
    if steps < 0 or abs(steps * dt - delays[0]) > 1e-6 * dt * max(steps, 1):
        raise ValueError(
            f"its delay of {delays[0]!r} seconds is not a multiple of dt={dt!r}; choose a dt of "
            "which it is"
        )
    return nn.Delay(steps)


def _numbers(node: Any, name: str, layout: Layout, *, spread: bool = False) -> np.ndarray:
    """A field that has a number for each element, or one for all; in NIR's layout."""
    array = np.asarray(getattr(node, name))
    if array.dtype.kind not in "fiu":
        raise ValueError(f"its {name} must hold numbers, got dtype {array.dtype}")
    if not np.all(np.isfinite(array)):
        raise ValueError(f"its {name} must be finite")
    if array.size == 1:
        array = array.reshape(())
        return np.broadcast_to(array, layout.nir_shape) if spread else array
    if array.shape != layout.nir_shape:
        raise ValueError(
            f"its {name} has shape {list(array.shape)}, its input {list(layout.nir_shape)}"
        )
    return array
