"""The arrays of a whole module, layer by layer, by their names in torch."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from flax import nnx

from jaxsnn import nn
from jaxsnn.interop import _layouts
from jaxsnn.interop._features import FEATURES, INPUT, Flow, Orders
from jaxsnn.interop._layouts import Entry
from jaxsnn.interop._leaky import Leaky

_NORMS = (
    *(nn.BatchNorm, nn.contrib.BatchNormThroughTime, nn.contrib.TemporalEffectiveBatchNorm),
    *(nnx.BatchNorm, nnx.LayerNorm),
)
_RNN_CELLS = (
    nn.contrib.SpikingVanillaRNNCell | nn.contrib.SpikingGRUCell | nn.contrib.SpikingLSTMCell
)


def entries(
    module: Any, flatten_channels: Mapping[str, int] | None = None, *, all_of_it: bool = True
) -> dict[str, Entry]:
    """The arrays of `module` by their names, in the order of its layers.

    Args:
        module: any module.
        flatten_channels: how many channels come into each `Flatten`, by its name.
        all_of_it: whether a variable that has no name in torch is an error. If not, the time
            constant of an `ExponentialSynapse` has its name in snnTorch, `alpha`.

    Raises:
        ValueError: a layer has no counterpart, or the order of features is not known.
    """
    walk = _Walk(Orders(dict(flatten_channels or {})), alphas=not all_of_it)
    walk.visit(module, "", INPUT)
    walk.orders.check()
    if all_of_it:
        _refuse_unseen(module, walk.entries)
    return {entry.name: entry for entry in walk.entries}


def fill(known: dict[str, Entry], arrays: dict[str, np.ndarray]) -> list[str]:
    """Puts `arrays` where they belong; returns what is wrong with those that cannot be."""
    wrong = [f"{name}: unknown, of shape {arrays[name].shape}" for name in arrays.keys() - known]
    written: dict[str, np.ndarray] = {}
    for name, entry in known.items():
        shape = entry.read().shape
        if name not in arrays:
            if not entry.optional:
                wrong.append(f"{name}: missing, expected shape {shape}")
        elif (array := arrays[name]).shape != shape:
            wrong.append(f"{name}: expected shape {shape}, found {array.shape}{entry.hint}")
        elif array.dtype.kind not in "fiu":
            wrong.append(f"{name}: expected numbers, found dtype {array.dtype}")
        else:
            try:
                with np.errstate(over="ignore"):  # said below
                    entry.write(array)
                written[name] = entry.read()
                if not np.all(np.isfinite(written[name])):
                    raise ValueError("holds NaN or infinity, or numbers too large for here")
            except ValueError as error:
                wrong.append(f"{name}: {error}")
    for name, array in written.items():  # a layer that stands in two places has two names
        if not np.array_equal(known[name].read(), array, equal_nan=True):
            wrong.append(f"{name}: another array stands under another name of the same layer")
    return sorted(wrong)


_OF_FLAX = (
    *(nnx.LSTMCell, nnx.OptimizedLSTMCell, nnx.GRUCell, nnx.SimpleCell),
    *(nnx.RNN, nnx.Bidirectional),
)


class _Walk:
    """Goes through the layers in the order in which they run."""

    def __init__(self, orders: Orders, *, alphas: bool) -> None:
        self.orders = orders
        self.alphas = alphas
        self.entries: list[Entry] = []
        self.inside_own = False  # in a module of the user's, which may do anything to its input

    def visit(self, layer: Any, name: str, flow: Flow) -> Flow:
        """Adds the layer's arrays; returns what is known of the features after it."""
        at = f"{name}." if name else ""
        if isinstance(layer, nn.Sequential | nnx.Sequential):
            layers = list(layer.layers)
            if layers and all(map(_is_rnn, layers)):
                return self._rnn_layers(layers, at, flow)
            for k, inner in enumerate(layers):
                flow = self.visit(inner, f"{at}{k}", flow)
            return flow
        if isinstance(layer, nn.Flatten):
            return self.orders.flatten(name, flow)
        if isinstance(layer, nnx.Conv):
            self.entries += _layouts.linear(layer, at)
            return Flow("image", layer.out_features, axes=len(layer.kernel_size))
        if isinstance(layer, nnx.Linear):
            order = self.orders.order(name, layer.in_features, flow)
            self.entries += _layouts.linear(layer, at, order)
            return FEATURES
        if isinstance(layer, nn.LinearRecurrentContainer):
            return self._recurrent(layer, name, flow)
        if isinstance(layer, nn.ElementWiseRecurrentContainer):
            if isinstance(layer.element_wise_function, nnx.Module):
                self.visit(layer.element_wise_function, f"{at}element_wise_function", flow)
            return self.visit(layer.sub_module, f"{at}sub_module", flow)
        if isinstance(layer, _RNN_CELLS):
            order = self.orders.order(name, layer.input_size, flow)
            self.entries += _layouts.linear(layer.linear_ih, f"{at}linear_ih.", order)
            self.entries += _layouts.linear(layer.linear_hh, f"{at}linear_hh.")
            return FEATURES
        if _is_rnn(layer):
            return self._rnn_layers([layer], at, flow)
        if isinstance(layer, _NORMS):
            return self._norm(layer, name, flow)
        if isinstance(layer, nnx.Embed):
            self.entries.append(_layouts.stored(f"{at}weight", layer.embedding))
            return FEATURES
        of_input = flow is INPUT and not self.inside_own
        if isinstance(layer, Leaky):
            self.entries += _layouts.leaky(layer, at, flow.axes, of_input=of_input)
        elif isinstance(layer, nn.ExponentialSynapse) and self.alphas:
            self.entries.append(_layouts.alpha(layer, at, flow.axes, of_input=of_input))
        elif (rule := _layouts.rule_of(layer)) is not None:
            self.entries += rule(layer, at)
        elif isinstance(layer, _OF_FLAX):
            raise ValueError(
                f"{name or 'the module'} is Flax's {type(layer).__name__}, whose parameters torch "
                "has in other shapes; convert the layers around it separately, or use "
                "SpikingLSTMCell or another cell of jaxsnn.nn"
            )
        elif isinstance(layer, nnx.Pytree):
            self._parts(layer, at, flow)
        return self.orders.behind(layer, name, flow)

    def _recurrent(self, layer: nn.LinearRecurrentContainer, name: str, flow: Flow) -> Flow:
        order = self.orders.order(name, layer.in_features, flow)
        if order is not None:
            if layer.feedback_only:
                raise ValueError(
                    f"{name} adds its feedback to the output of {flow.at}, which torch has in "
                    "another order; put a Linear between them"
                )
            order = np.concatenate([order, np.arange(len(order), layer.rc.in_features)])
        at = f"{name}." if name else ""
        self.entries += _layouts.linear(layer.rc, f"{at}rc.", order)
        self.visit(layer.sub_module, f"{at}sub_module", FEATURES)
        return FEATURES

    def _norm(self, layer: Any, name: str, flow: Flow) -> Flow:
        for setting in ("axis", "feature_axes", "reduction_axes"):  # of Flax's
            if (axes := getattr(layer, setting, -1)) not in (-1, (-1,)):
                raise ValueError(
                    f"{name or 'the module'}, Flax's {type(layer).__name__}: {setting} must be -1, "
                    f"the last axis, as in torch, got {axes}"
                )
        features = getattr(layer, "norm", layer).num_features  # TEBN holds one
        of_images = flow.sorted and not isinstance(layer, nnx.LayerNorm)
        order = None if of_images else self.orders.order(name, features, flow)
        self.entries += _layouts.norm(layer, f"{name}." if name else "", order)
        return flow

    def _rnn_layers(self, layers: list[Any], at: str, flow: Flow) -> Flow:
        """Recurrent cells in a row: SpikingJelly's SpikingLSTM and the like."""
        for k, layer in enumerate(layers):
            ways = {"cells": layer}
            if isinstance(layer, nn.Bidirectional):
                ways = {"cells": layer.forward_cell, "cells_reverse": layer.backward_cell}
            for way, cell in ways.items():
                self.visit(cell, f"{at}{way}.{k}", flow)
            flow = FEATURES
        return flow

    def _parts(self, module: Any, at: str, flow: Flow) -> None:
        """A module of the user's, or a list: what is in it, by the names of its attributes."""
        outside = self.inside_own
        if not type(module).__module__.startswith(("flax.", "jaxsnn.")):
            self.inside_own = True
            for attribute, value in vars(module).items():
                if isinstance(value, nnx.Param | nnx.BatchStat):
                    self.entries.append(_layouts.stored(f"{at}{attribute}", value))
        parts = dict(children(module))
        spatial = any(isinstance(m, nnx.Conv | nn.Flatten) for _, m in nnx.iter_modules(module))
        known = len(parts) == 1 or (flow.kind == "features" and not spatial)
        for attribute, part in parts.items():  # in which order they run cannot be seen
            name = f"{at}{attribute}"
            self.visit(part, name, flow if known else self.orders.unclear(name))
        self.inside_own = outside


def _is_rnn(layer: Any) -> bool:
    if isinstance(layer, nn.Bidirectional):
        return _is_rnn(layer.forward_cell) and _is_rnn(layer.backward_cell)
    return isinstance(layer, _RNN_CELLS)


def children(module: Any) -> Iterator[tuple[str, Any]]:
    """The modules, and lists of modules, directly in `module`."""
    if isinstance(module, nnx.List):
        yield from ((str(k), part) for k, part in enumerate(module))
    elif isinstance(module, nnx.Dict):
        yield from module.items()
    else:
        for name, value in vars(module).items():
            if isinstance(value, nnx.Module | nnx.List | nnx.Dict):
                yield name, value


def _refuse_unseen(module: Any, found: list[Entry]) -> None:
    """Every parameter and statistic must have a name in torch."""
    seen = {id(variable) for entry in found for variable in entry.variables}
    nodes = dict(nnx.iter_graph(module))
    left = {
        f"{'.'.join(map(str, path))} (of {type(nodes[path[:-1]]).__name__})": node
        for path, node in nodes.items()
        if isinstance(node, nnx.Param | nnx.BatchStat) and id(node) not in seen
    }
    if left:
        constants = any(isinstance(variable, nn.Constant) for variable in left.values())
        raise ValueError(
            f"the name in SpikingJelly or torch of these of {type(module).__name__} is not known "
            f"here: {', '.join(left)}; convert the layers around them separately, and these arrays "
            f"by hand{f'. Constants that are learned: {_layouts.WAY_OUT}' if constants else ''}"
        )
