"""Runs a layer over time and looks on: inputs, outputs, states, what its surrogates are given."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.extend.core import get_opaque_trace_state

from jaxsnn.diagnosis._stack import Part, children, is_own, parts
from jaxsnn.nn import AttentionState, Bidirectional, Sequential
from jaxsnn.nn._cell import first_carry, is_cell, runs_as
from jaxsnn.nn._modal_layer import ModalLayer
from jaxsnn.nn._mode import NOTHING, Mode, join
from jaxsnn.nn._run import run, step
from jaxsnn.nn._schedule import scan
from jaxsnn.nn._spike_representation import _SpikeRepresentationNode
from jaxsnn.nn._spiking_attention import _SpikingAttention
from jaxsnn.surrogate import Surrogate

Values = dict[str, jax.Array]
Called = dict[str, dict[str, list[jax.Array]]]


class Sight(NamedTuple):
    """What was seen of a layer, time first, by path.

    Attributes:
        inputs: of the layer itself and of the weight layers inside of it.
        outputs: of the layer, and of those inside of it that its kind shows.
        states: after each step, by path and name, e.g. `"1.v"`; among them the current `i` that a
            container feeds to its sub-module.
        potentials: what each surrogate function was called on, `h - v_threshold` before the
            reset: by the path of the cell, by the attribute, one array a call.
        spikes: what it gave for them.
    """

    inputs: Values
    outputs: Values
    states: Values
    potentials: Called
    spikes: Called

    def __or__(self, other: "Sight") -> "Sight":
        return Sight(
            self.inputs | other.inputs,
            self.outputs | other.outputs,
            self.states | other.states,
            self.potentials | other.potentials,
            self.spikes | other.spikes,
        )


def watch(
    layer: Part, xs: jax.Array, mode: Mode, heard: list[str] | None = None
) -> tuple[jax.Array, Sight]:
    """All steps of `xs` `[T, ...]` through `layer`, from a fresh state, and what was seen.

    Cells are run step by step, which gives the same numbers as `unroll`. Where the parts of a
    layer are given all steps at once, they are watched one by one. To `heard` the paths of
    weight layers and spiking parts are added, in the order in which they are called.
    """
    heard = [] if heard is None else heard
    module, within = layer.module, mode.at(layer.path) if layer.path else mode
    sight = Sight({layer.path: xs}, {}, {}, {}, {})

    def go(module: Any, _: Any, xs: jax.Array, within: Mode) -> Any:
        """As `run`, for what is inside of the layer."""
        nonlocal sight
        ys, here = watch(Part(within.path, module), xs, mode, heard)
        sight |= here
        return (), ys, NOTHING

    if runs_as(module, Sequential):
        ys = xs
        for k, part in enumerate(module.layers):
            _, ys, _ = go(part, None, ys, within.at(str(k)))
    elif isinstance(module, _SpikingAttention):
        _, ys, _ = module._advance(go, AttentionState(None, None, None), xs, within)
    elif isinstance(module, Bidirectional):
        _, ys, _ = go(module.forward_cell, None, xs, within.at("forward_cell"))
        back = within.at("backward_cell")
        _, backwards, _ = go(module.backward_cell, None, jnp.flip(xs, 0), back)
        ys = jnp.concatenate([ys, jnp.flip(backwards, 0)], axis=-1)
    else:
        ys, here = _watch_one(layer, xs, within, heard)
        sight |= here
    return ys, sight._replace(outputs=sight.outputs | {layer.path: ys})


def _watch_one(layer: Part, xs: jax.Array, mode: Mode, heard: list[str]) -> tuple[jax.Array, Sight]:
    """A layer that is run as a whole."""
    if is_cell(layer.module):
        carry = first_carry(layer.module, jax.ShapeDtypeStruct(xs.shape[1:], xs.dtype))

        def body(carry: Any, x: jax.Array, mode: Mode) -> Any:
            calls = _Calls(heard)
            carry, y, seen = step(_tapped(layer, calls), carry, x, mode)
            return carry, y, (seen.records, calls.told())

        shown: Any
        _, ys, shown = scan(body, carry, xs, mode)
    else:
        calls = _Calls(heard)
        _, ys, seen = run(_tapped(layer, calls), None, xs, mode)
        shown = seen.records, calls.told()
    records, (inputs, potentials, spikes) = shown
    # A cell that calls its layers by itself shows its states alone.
    names = {layer.path} if is_own(layer.module) else {part.path for part in parts(layer)}
    outputs = {path: value for path, value in records.items() if path in names}
    states = {path: value for path, value in records.items() if path not in names}
    return ys, Sight(inputs, outputs, states, potentials, spikes)


class _Calls:
    """What is called while one step, or one layer, is traced; not what scans inside it call.

    But `heard`, the order of the calls, is told of those, too.
    """

    def __init__(self, heard: list[str]) -> None:
        self._heard = heard
        self._level = get_opaque_trace_state(convention="flax")
        self._inputs: Values = {}
        self._potentials: Called = {}
        self._spikes: Called = {}

    def told(self) -> tuple[Values, Called, Called]:
        """Inputs of weight layers, potentials, spikes."""
        return self._inputs, self._potentials, self._spikes

    def of_layer(self, path: str) -> Callable[[jax.Array, Any], None]:
        """Notes what the layer at `path` is called on."""

        def note(x: jax.Array, _: Any) -> None:
            self._heard.append(path)
            if self._here():
                self._inputs[path] = jnp.asarray(x)

        return note

    def of_surrogate(self, path: str, name: str) -> Callable[[jax.Array, Any], None]:
        """Notes what the surrogate `name` of the cell at `path` is called on, and gives."""

        def note(u: jax.Array, spikes: Any) -> None:
            self._heard.append(path)
            if self._here():
                for called, array in ((self._potentials, u), (self._spikes, spikes)):
                    called.setdefault(path, {}).setdefault(name, []).append(array)

        return note

    def _here(self) -> bool:
        """Whether what is traced now may leave the step."""
        return bool(get_opaque_trace_state(convention="flax") == self._level)


class _Tap:
    """Stands in the place of a function or layer and says what that is called on."""

    def __init__(self, inner: Any, note: Callable[[jax.Array, Any], None]) -> None:
        self._inner, self._note = inner, note

    def __call__(self, x: jax.Array, *args: Any, **kwargs: Any) -> Any:
        y = self._inner(x, *args, **kwargs)
        self._note(x, y)
        return y

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def _tapped(layer: Part, calls: _Calls) -> Any:
    """A copy of the layer whose surrogate functions and inner weight layers tell `calls`."""
    copy = jax.tree.map(lambda leaf: leaf, layer.module)
    if isinstance(copy, nnx.Module):
        _tap(copy, layer.path, calls)
    return copy


def _tap(module: Any, path: str, calls: _Calls) -> None:
    for name, value in surrogates(module).items():
        setattr(module, name, _Tap(value, calls.of_surrogate(path, name)))
    for child in list(children(module)):
        where = join(path, child.path)
        told = has_weights(child.module) or isinstance(child.module, NORMS)
        if told and not isinstance(child.module, ModalLayer):
            tap = _Tap(child.module, calls.of_layer(where))
            attribute, *index = child.keys
            if index:
                getattr(module, str(attribute))[index[0]] = tap
            else:
                setattr(module, str(attribute), tap)
        else:
            _tap(child.module, where, calls)


NORMS = nnx.LayerNorm, nnx.GroupNorm, nnx.RMSNorm


def has_weights(layer: Any) -> bool:
    """Whether a layer is a `Linear` or a `Conv`, ours or Flax's."""
    return isinstance(layer, nnx.Linear | nnx.Conv)


def fires(module: Any) -> bool:
    """Whether a module itself, not one inside of it, puts out spikes."""
    return bool(surrogates(module)) or isinstance(module, _SpikeRepresentationNode)


def surrogates(module: Any) -> dict[str, Any]:
    """The spike functions that a module itself, not one inside of it, has, by attribute."""
    if not isinstance(module, nnx.Module):
        return {}
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, Surrogate) or (name == "surrogate_function" and callable(value))
    }
