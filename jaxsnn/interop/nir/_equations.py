"""Neurons and NIR's equations: which cell is which node, and how its numbers become seconds.

A step is one of forward Euler: with `dt` seconds in a step and `tau` steps in a time constant,

    v = v + (v_leak - v + r x) / tau                 LI, LIF; NIR's tau is tau dt
    v = v + dt r x                                   I, IF
    i = i + (w_in x - i) / tau_syn, then v of this i    CubaLI, CubaLIF

then fire and reset in the same step. So `IFNode` is `IF(r=1/dt)`, `LIFNode` is `LIF` with `r=1`,
or with `r=tau` where `decay_input=False`.
"""

import math
from collections.abc import Callable, Container, Mapping
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxsnn import nn
from jaxsnn.interop.nir._layout import finite
from jaxsnn.interop.nir._neuron import Neuron
from jaxsnn.interop.nir._notes import Learned
from jaxsnn.interop.nir._settings import Numbers, array_of, setting, shown

FIELDS = {
    "I": ("r",),
    "IF": ("r", "v_threshold", "v_reset"),
    "LI": ("tau", "r", "v_leak"),
    "LIF": ("tau", "r", "v_leak", "v_threshold", "v_reset"),
    "CubaLI": ("tau_mem", "tau_syn", "r", "v_leak", "w_in"),
    "CubaLIF": ("tau_mem", "tau_syn", "r", "v_leak", "w_in", "v_threshold", "v_reset"),
}
NEURONS = (
    nn.IFNode,
    nn.LIFNode,
    nn.ParametricLIFNode,
    nn.CUBALIFNode,
    nn.NonSpikingIFNode,
    nn.NonSpikingLIFNode,
    Neuron,
)


def equation_of(cell: Any, dt: float) -> tuple[str, dict[str, Any]]:
    """The kind of node that a neuron is, and its fields: numbers, or arrays that broadcast."""
    if isinstance(cell, Neuron):
        if cell.dt != dt:
            raise ValueError(
                f"this Neuron takes steps of dt={cell.dt!r} seconds, to_nir got dt={dt!r}: the "
                "others would take other ones; pass the same dt"
            )
        fields = {name: getattr(cell, name) for name in Neuron.numbers}
        fields["tau_mem"] = cell.tau
        fields["v_reset"] = 0.0 if cell.v_reset is None else cell.v_reset
        return cell.kind, {name: fields[name] for name in FIELDS[cell.kind]}
    if isinstance(cell, nn.NonSpikingIFNode):
        return "I", {"r": 1 / dt}
    if isinstance(cell, nn.NonSpikingLIFNode):
        return "LI", {**_leak(cell, dt), "v_leak": 0.0}
    v_reset = 0.0 if cell.v_reset is None else constant(cell, "v_reset")
    fire = {"v_threshold": constant(cell, "v_threshold"), "v_reset": v_reset}
    if isinstance(cell, nn.IFNode):
        return "IF", {"r": 1 / dt, **fire}
    if isinstance(cell, nn.CUBALIFNode):
        for name in ("c_decay", "v_decay"):
            if np.any(constant(cell, name) == 1):
                raise ValueError(
                    f"{name}=1 never decays, and NIR has no infinite time constant; choose one "
                    "below 1"
                )
        tau_syn = _tau_of_decay(constant(cell, "c_decay"), dt)
        tau_mem = _tau_of_decay(constant(cell, "v_decay"), dt)
        gains = {"r": tau_mem / dt, "w_in": tau_syn / dt, "v_leak": 0.0}
        return "CubaLIF", {"tau_mem": tau_mem, "tau_syn": tau_syn, **gains, **fire}
    return "LIF", {**_leak(cell, dt), "v_leak": v_reset, **fire}


def constant(cell: Any, name: str) -> Any:
    """A constant as it is now, learned or not: a float, or an array in float64."""
    value = finite(name, np.asarray(getattr(cell, name), np.float64))
    return value if value.ndim else float(value)


def neuron_of(
    kind: str,
    fields: dict[str, np.ndarray],
    *,
    dt: float,
    reset: str,
    fire: dict[str, Any],
    learned: Mapping[str, Learned] = MappingProxyType({}),
    parametric: bool = False,
    param_dtype: Any = jnp.float32,
) -> Any:
    """The cell that has a node's equation: one of `jaxsnn.nn` if any has, else a `Neuron`.

    Args:
        kind: the kind of node.
        fields: its fields, in our layout.
        dt: seconds in a step.
        reset: "hard", "soft" or "delayed".
        fire: the surrogate and whether the reset is detached.
        learned: the constants that are learned, as notes give them.
        parametric: if it was a `ParametricLIFNode`.
        param_dtype: dtype of their parameters.
    """
    numbers: dict[str, Any] = {name: setting(name, array) for name, array in fields.items()}
    v_reset = numbers.get("v_reset")
    if reset != "hard":
        if v_reset != 0.0:
            raise ValueError(f"a {reset} reset subtracts the threshold, but v_reset is {v_reset!r}")
        v_reset = None
    firing = {"v_threshold": numbers.get("v_threshold"), "v_reset": v_reset, **fire}
    delayed = reset == "delayed" and kind != "IF"  # without a leak there is no difference
    plain = None
    if not delayed:
        plain = _plain_neuron(kind, numbers, firing, dt, _rounding(fields), learned)
    if plain is not None:
        of_kind, settings = plain
        starts = _starts(of_kind, settings, learned, param_dtype)
        if parametric and of_kind is nn.LIFNode and isinstance(settings["tau"], float):
            of_kind = nn.ParametricLIFNode
            starts["init_tau"] = starts.pop("tau").value
        fixed = {name: value for name, value in settings.items() if name not in learned}
        cell = of_kind(**fixed, **starts)
        shape = np.broadcast_shapes(*(array.shape for array in fields.values()))
        for name, note in learned.items():
            _learn(cell, name, note, settings[name], shape, param_dtype)
        return cell
    if learned:
        raise ValueError(
            f"its metadata note that {', '.join(learned)} is learned, but with this dt, reset and "
            "these numbers it is no neuron of jaxsnn.nn, and a jaxsnn.interop.nir.Neuron learns "
            "nothing; read it with the dt and the reset with which it was written, or, for fixed "
            "numbers, remove 'learned' and 'w' from its metadata['jaxsnn']"
        )
    if "tau_mem" in numbers:
        numbers["tau"] = numbers.pop("tau_mem")
    if kind.endswith("F"):
        numbers |= firing | {"delayed_reset": delayed}
    return Neuron(dt=dt, **numbers)


def _plain_neuron(
    kind: str,
    numbers: dict[str, Any],
    firing: dict[str, Any],
    dt: float,
    close: float,
    learned: Container[str],
) -> tuple[Any, dict[str, Any]] | None:
    """The class in `jaxsnn.nn` and the settings of the neuron with this equation, None if there
    is none.
    """

    def same(a: Any, b: Any) -> bool:
        return bool(np.all(np.abs(a - b) <= close * np.abs(b)))

    number = {name: array_of(value) for name, value in numbers.items()}
    firing = {
        name: _features(value.array) if isinstance(value, Numbers) else value
        for name, value in firing.items()
    }
    if kind in ("I", "IF"):
        if not same(number["r"], 1 / dt):
            return None
        return (nn.NonSpikingIFNode, {}) if kind == "I" else (nn.IFNode, firing)
    if kind in ("LI", "LIF"):
        tau = _invert(lambda steps: steps * dt, number["tau"], number["tau"] / dt)
        decay_input = same(number["r"], 1.0)
        rests = np.all(number["v_leak"] == number.get("v_reset", 0.0))
        least = 1.0 if "tau" in learned else np.nextafter(1.0, 2.0)  # it may reach its bound
        if not rests or not (decay_input or same(number["r"], tau)) or np.any(tau < least):
            return None
        leak = {"tau": _features(tau), "decay_input": decay_input}
        return (nn.NonSpikingLIFNode, leak) if kind == "LI" else (nn.LIFNode, leak | firing)
    if kind == "CubaLIF" and np.all(number["v_leak"] == 0):
        decays: dict[str, Any] = {}
        for ours, tau_name, gain in (("c_decay", "tau_syn", "w_in"), ("v_decay", "tau_mem", "r")):
            tau = number[tau_name]
            if np.any(tau < dt) or not same(number[gain], tau / dt):
                return None
            decay = _invert(lambda decay: _tau_of_decay(decay, dt), tau, 1 - dt / tau)
            decays[ours] = _features(decay)
        return nn.CUBALIFNode, decays | firing
    return None


def _features(array: np.ndarray) -> Any:
    """A float, or the shortest array that broadcasts to `array`: one for each channel, if equal."""
    while array.ndim > 1 and np.all(array == array[:1]):
        array = array[0]
    return array if array.ndim else float(array)


def _starts(
    of_kind: Any, settings: dict[str, Any], learned: Mapping[str, Learned], dtype: Any
) -> dict[str, Any]:
    """The learned constants as arguments of the constructor, somewhere within their bounds."""
    starts = {}
    for name, note in learned.items():
        if not isinstance(settings.get(name), float | np.ndarray):
            raise ValueError(
                f"its metadata 'learned' name the constant {name!r}, which its {of_kind.__name__} "
                "does not have"
            )
        starts[name] = nn.learnable(_inside(name, note.bounds), note.bounds, param_dtype=dtype)
    return starts


def _inside(name: str, bounds: tuple[float, float]) -> float:
    """A number within the bounds of a note, with which a neuron can be made."""
    low, high = bounds
    if name == "tau":  # its bounds may begin below the time constants that a neuron starts from
        low = max(low, 1.0)
    if low >= high:
        raise ValueError(
            f"its metadata 'learned' give {name} the bounds {bounds}, but no neuron starts from a "
            f"{name} of 1 or less; correct the bounds, or remove {name} from the note"
        )
    if math.isfinite(low) and math.isfinite(high):
        return (low + high) / 2
    if math.isfinite(low):
        return low + abs(low) + 1
    return high - abs(high) - 1 if math.isfinite(high) else 0.0


def _learn(
    cell: Any, name: str, note: Learned, value: Any, shape: tuple[int, ...], dtype: Any
) -> None:
    """Give a learned constant the parameter of its note, except where the node has a different
    number by now: there it is learned from this number.

    Args:
        cell: it learns the constant, from any start.
        name: the constant.
        note: its parameter and bounds.
        value: the number, or array, that the node has.
        shape: the shape of the node's numbers, `()` where they are one for all.
        dtype: dtype of the parameter.
    """
    parameter = cell.learned[name].parameter
    parameter.set_value(jnp.asarray(note.w, dtype))
    noted = np.asarray(getattr(cell, name), np.float64)
    try:
        ends = zip(noted.shape[::-1], shape[::-1], strict=False)
        if shape and (noted.ndim > len(shape) or any(a not in (1, b) for a, b in ends)):
            raise ValueError(f"shape {list(noted.shape)} in the note, {list(shape)} in the node")
        tiny = np.finfo(np.float32).tiny  # a number of float64 below it is 0 here
        kept = np.isclose(noted, value, rtol=1e-6, atol=tiny)
        if np.all(kept):  # a parameter of fewer numbers than the node, too
            return
        start = np.where(kept, _inside(name, note.bounds), value)
        setattr(cell, name, nn.learnable(start[()], note.bounds, param_dtype=dtype))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"its {name} is not the learned constant that its metadata 'learned' note: {error}. "
            f"Give {name} numbers that fit the note, or remove it from there"
        ) from error
    parameter = cell.learned[name].parameter
    parameter.set_value(jnp.asarray(np.where(kept, note.w, parameter[...]), dtype))


def _leak(cell: Any, dt: float) -> dict[str, Any]:
    tau = constant(cell, "tau")
    if np.any(np.asarray(tau) < 1):
        raise ValueError(
            f"tau must be at least one time step, got {shown(np.asarray(tau))}: a node of NIR with "
            "a time constant below dt could not be read; learn tau within bounds=(1.0, math.inf), "
            "the default"
        )
    return {"tau": tau * dt, "r": 1.0 if cell.decay_input else tau}


def _tau_of_decay(decay: Any, dt: float) -> Any:
    """The time constant of a potential of which `decay` is left after a step."""
    return dt / (1 - decay)


def _invert(forward: Callable[[Any], Any], values: Any, guesses: Any) -> np.ndarray:
    """The numbers that `forward` takes to `values`: of float32 if there are any, as arrays have
    them, otherwise the shortest, as they are written.
    """
    values, guesses = np.asarray(values), np.asarray(guesses)
    with np.errstate(all="ignore"):  # numbers that float32 does not have are among the others
        numbers = np.array(guesses.astype(np.float32), np.float64)
        others = (numbers == 1) | (forward(numbers) != values)
    for value in np.unique(values[others]):
        here = others & (values == value)
        numbers[here] = _shortest(forward, value, guesses[here][0])
    return numbers


def _shortest(forward: Callable[[Any], Any], value: float, guess: float) -> float:
    for digits in range(1, 18):
        number = float(f"{guess:.{digits}g}")
        if number != 1 and forward(number) == value:
            return number
    return guess


def _rounding(fields: dict[str, np.ndarray]) -> float:
    """The largest relative difference that the rounding of a file can cause."""
    kinds = [np.finfo(a.dtype).eps for a in fields.values() if a.dtype.kind == "f"]
    return 4 * float(max(kinds, default=0.0))
