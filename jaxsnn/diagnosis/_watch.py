"""A `Run` that records inputs, outputs, states and surrogate calls of all parts of a network."""

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.extend.core import get_opaque_trace_state

from jaxsnn import _checks, nn
from jaxsnn._parts import children, is_final, join
from jaxsnn._repr import Printable
from jaxsnn.surrogate import Surrogate

FLAX_NORMS = nnx.BatchNorm, nnx.LayerNorm, nnx.GroupNorm, nnx.RMSNorm
NORMS = (
    nn.BatchNorm,
    nn.contrib.BatchNormThroughTime,
    nn.contrib.TemporalEffectiveBatchNorm,
    *FLAX_NORMS,
)

# The parameter that the output of a layer is proportional to; the first kind that fits counts.
_WEIGHTS: tuple[tuple[tuple[type, ...], str], ...] = (
    ((nn.contrib.WSLinear, nn.contrib.WSConv), "gain"),
    ((nnx.Linear, nnx.Conv), "kernel"),
    ((nn.BatchNorm, nn.contrib.BatchNormThroughTime, *FLAX_NORMS), "scale"),
)
SPIKING_RNNS = (
    nn.contrib.SpikingVanillaRNNCell,
    nn.contrib.SpikingGRUCell,
    nn.contrib.SpikingLSTMCell,
)
WITHOUT_SURROGATE = nn.contrib.DSRIFNode, nn.contrib.DSRLIFNode
CONTAINERS = nn.ElementWiseRecurrentContainer, nn.LinearRecurrentContainer
_TAPPED = nnx.Linear, nnx.Conv, *FLAX_NORMS


Calls = dict[str, dict[str, list[jax.Array]]]  # by path and attribute, one array per call


class Sight(NamedTuple):
    """Everything that was recorded in a run, time first, by path."""

    inputs: dict[str, list[jax.Array]]  # of each part, one array per call
    outputs: dict[str, jax.Array]  # of the parts that were run by a `Run`
    states: dict[str, jax.Array]  # after each step, e.g. "1.v"; the input "1.i" of a sub-module
    potentials: Calls  # arguments of the surrogates, `h - v_threshold` before the reset
    spikes: Calls  # their results


class Watch(nn.Run):
    """A run of a whole sequence in training that records everything.

    Args:
        key: random key of dropout.
        shifts: arrays that are added to the inputs of parts, by path. The gradient of a shift of 0
            is the gradient at the input.

    Attributes:
        calls: the parts that were run or called, by path, in the order of their first calls.
        order: the same of layers with weights, and of cells at the first call of a surrogate.
        whole: the inputs of all parts that were given all time steps.
    """

    def __init__(self, key: jax.Array, shifts: dict[str, jax.Array] | None = None) -> None:
        self.calls: dict[str, Any] = {}
        self.order: dict[str, None] = {}
        self.whole: dict[str, Any] = {}
        self._shifts = shifts or {}
        self._bodies: list[Watch] = []  # of single steps, in the body of a scan
        super().__init__(steps=True, key=key, record=("*",))
        self._in_rows = False

    def run(self, model: Any, xs: jax.Array) -> tuple[jax.Array, Sight]:
        """The outputs of a model, and everything that was recorded."""
        ys = self._go("", model, None, xs)[1]
        sight = Sight({}, {"": ys}, {}, {}, {})
        for key, value in self._seen.records.items():
            path, kind, name = (*key.split("\n"), "", "")[:3]
            if kind == "input":
                sight.inputs.setdefault(path, []).append(value)
            elif kind:
                called = sight.potentials if kind == "potential" else sight.spikes
                called.setdefault(path, {}).setdefault(name, []).append(value)
            elif path not in self.calls:
                sight.states[path] = value
            elif hasattr(value, "shape"):
                sight.outputs[path] = value
        return ys, sight

    @property
    def chain(self) -> tuple[str, ...]:
        """Paths of the parts that were given all steps and did not pass them on to their parts."""
        inner = {path: [p for p in self.whole if within(p, path)] for path in self.whole}
        return tuple(path for path, found in inner.items() if found == [path])

    def parts(self, model: Any) -> dict[str, Any]:
        """All parts of a model by path, in the order of their first calls.

        A part that was not called follows the calls of the module it is in.
        """
        at, order = dict(inside(model)), list(self.calls)

        def number(path: str) -> tuple[int, bool]:
            if path in order:
                return order.index(path), False
            around = path.rpartition(".")[0]
            return max((k for k, p in enumerate(order) if within(p, around)), default=0), True

        paths = sorted({**at, **self.calls}, key=number)
        return {path: at.get(place(path), self.calls.get(path)) for path in paths}

    def _go(self, name: str, part: Any, carry: Any, x: Any) -> tuple[Any, Any]:
        path = join(self._path, name) if name else self._path
        if isinstance(part, _Tap):
            if not isinstance(part.inner, nnx.Module):  # a surrogate, which is no part
                return (), part(x)
            part = part.inner
        self._hear(path, part)
        if path in self._shifts and self.steps:
            x = x + self._shifts[path]
        if self.steps:
            self.whole[path] = x
        self._note(path, "input", "", x)
        if isinstance(part, nnx.Module):
            part = jax.tree.map(lambda leaf: leaf, part)
            # Parts of our own classes are run by a `Run`, others call their parts themselves.
            self._tap(part, path, by_run=is_final(type(part).__call__))
        return super()._go(name, part, carry, x)

    def _changed(self, **attributes: Any) -> Any:
        other = super()._changed(**attributes)
        if not other.steps:
            self._bodies.append(other)
        return other

    def _hear(self, path: str, part: Any) -> None:
        self.calls.setdefault(path, part)
        if weights(part) or isinstance(part, (nnx.Linear, nnx.Conv, *WITHOUT_SURROGATE)):
            self.order.setdefault(path)

    def _note(self, path: str, kind: str, name: str, value: Any) -> None:
        """Record a value, unless it is inside a transformation, which it cannot leave."""
        trace = get_opaque_trace_state(convention="flax")
        here = next((run for run in [self, *reversed(self._bodies)] if run._trace == trace), None)
        if here is not None and hasattr(value, "shape"):
            key = f"{path}\n{kind}\n{name}\n"
            count = sum(other.startswith(key) for other in here._seen.records)
            here._seen.records[f"{key}{count}"] = value

    def _tap(self, module: Any, path: str, *, by_run: bool) -> None:
        """Put taps in the place of surrogates and layers with weights."""

        def fired(name: str, u: Any, spikes: Any) -> None:
            self.order.setdefault(path)
            self._note(path, "potential", name, u)
            self._note(path, "spikes", name, spikes)

        def called(path: str, layer: Any, x: Any = None, _: Any = None) -> None:
            self._hear(path, layer)
            self._note(path, "input", "", x)

        for name, value in surrogates(module).items():
            setattr(module, name, _Tap(value, functools.partial(fired, name)))
        for name, child in layers(module):
            where = join(path, name)
            if isinstance(child, _TAPPED):
                _replace(module, child, _Tap(child, functools.partial(called, where, child)))
            elif not (by_run and isinstance(child, nnx.RNNCellBase)):
                self._tap(child, where, by_run=False)


@jax.tree_util.register_pytree_node_class
class _Tap:
    """Replaces a function or layer and reports its calls, and that its kernel is read."""

    def __init__(self, inner: Any, hear: Callable[..., None]) -> None:
        self.inner, self._hear = inner, hear

    def __call__(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        y = self.inner(x, *args, **kwargs)
        self._hear(x, y)
        return y

    def __getattr__(self, name: str) -> Any:
        if name == "kernel":
            self._hear()
        return getattr(self.inner, name)

    def tree_flatten(self) -> tuple[list[Any], Any]:
        layer = isinstance(self.inner, nnx.Module)
        return ([self.inner], (None, self._hear)) if layer else ([], (self.inner, self._hear))

    @classmethod
    def tree_unflatten(cls, fixed: Any, layers: list[Any]) -> "_Tap":
        return cls(layers[0] if layers else fixed[0], fixed[1])


def _replace(module: Any, child: Any, tap: _Tap) -> None:
    """Put a tap where a child is: an attribute, or an entry of a list or dictionary."""
    for name, value in list(vars(module).items()):
        if value is child:
            setattr(module, name, tap)
        elif isinstance(value, nnx.List | list | nnx.Dict | dict):
            keys = range(len(value)) if isinstance(value, nnx.List | list) else list(value)
            for key in keys:
                if value[key] is child:
                    value[key] = tap


def look(caller: str, model: Any, xs: jax.Array, key: jax.Array) -> Watch:
    """Trace a run of a model, without computing anything.

    Raises:
        TypeError: `model` is neither a `Module` nor a cell.
        ValueError: as for `unroll` in training.
    """
    if not isinstance(model, nnx.RNNCellBase):
        raise TypeError(
            f"model must be a cell such as a Sequential, got {type(model).__name__}; {caller} sees "
            "what is run by run(part, x): derive the model from jaxsnn.nn.Module"
        )
    watches: list[Watch] = []

    def watched(model: Any, xs: jax.Array) -> jax.Array:
        watches.append(Watch(key))
        return watches[0].run(model, xs)[0]

    jax.eval_shape(lambda model, xs: nn.unroll(model, xs, key=key)[1], model, xs)  # its checks
    jax.eval_shape(watched, model, xs)
    return watches[0]


def check_input(xs: Any, key: Any) -> tuple[jax.Array, jax.Array]:
    """`xs` as an array `[T, N, ...]`, and a random key, `jax.random.key(0)` for None."""
    if isinstance(xs, tuple | list):
        raise TypeError(
            f"xs must be one array [T, N, ...], got a {type(xs).__name__}; of padded sequences "
            "take those of one length, without their mask"
        )
    xs = jnp.asarray(xs)
    if xs.ndim < 3 or 0 in xs.shape:
        raise ValueError(f"xs must be [T, N, ...] and not empty, got shape {list(xs.shape)}")
    key = jax.random.key(0) if key is None else key
    _checks.random_key("key", key)
    return xs, key


def within(path: str, around: str) -> bool:
    """True if the part at `path` is the one at `around` or inside of it."""
    return not around or f"{path}.".startswith(f"{around}.")


def place(path: str) -> str:
    """The path of a part in its module; the path of its second call ends in `#2`."""
    return re.sub(r"#\d+", "", path)


def inside(module: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """A module and the modules inside of it with their paths, outermost first."""
    yield path, module
    for name, child in layers(module):
        yield from inside(child, join(path, name))


def layers(module: Any) -> list[tuple[str, Any]]:
    """The modules directly inside of a module; another library's layers are not opened."""
    if not isinstance(module, nn.Cell | Printable):
        return []
    return [(name, m) for name, m in children(module).items() if isinstance(m, nnx.Module)]


def weights(layer: Any) -> list[str]:
    """The parameters of a layer that its output is proportional to."""
    first = next((name for kinds, name in _WEIGHTS if isinstance(layer, kinds)), None)
    if first is None or getattr(layer, first, None) is None:
        return []
    return [first] if getattr(layer, "bias", None) is None else [first, "bias"]


def has_state(part: Any) -> bool:
    """True if a part is a cell with a carry."""
    return isinstance(part, nnx.RNNCellBase) and getattr(part, "carries_state", True)


def fires(module: Any) -> bool:
    """True if a module itself, not one inside of it, outputs spikes."""
    return bool(surrogates(module)) or isinstance(module, WITHOUT_SURROGATE)


def surrogates(module: Any) -> dict[str, Any]:
    """The spike functions that a module itself, not one inside of it, has, by attribute."""
    if not isinstance(module, nnx.Module):
        return {}
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, Surrogate)
        or (name == "surrogate_function" and callable(value) and not isinstance(value, _Tap))
    }


def name_of(path: str, part: Any) -> str:
    """The path of a part, or where that is empty the name of its class."""
    return path or type(part).__name__
