"""Neurons: a row per type of node, with its equation, how it is written and how it is read.

A step is one of forward Euler: with `dt` seconds in a step and `tau` steps in a time constant,

    v = v + (v_leak - v + r x) / tau                 LI, LIF; NIR's tau is tau dt
    v = v + dt r x                                   I, IF
    i = i + (w_in x - i) / tau_syn, then v of this i    CubaLI, CubaLIF

then fire and reset in the same step. So `IFNode` is `IF(r=1/dt)`, `LIFNode` is `LIF` with `r=1`,
or with `r=tau` where `decay_input=False`.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxsnn import nn, surrogate
from jaxsnn.interop._leaky import Leaky
from jaxsnn.interop.nir._cells import Neuron, Strict, numbers, refuse, shown
from jaxsnn.interop.nir._node import Layout, Reading, Row, Writing, Written, notes_of, weights

RESETS = ("hard", "soft", "delayed")
Same = Callable[[Any, Any], bool]
Fields = dict[str, Any]


# Without a leak: I and IF.


def _write_integrator(cell: Any, dt: float) -> Fields:
    return {"r": 1 / dt}


def _read_integrator(fields: Fields, dt: float, same: Same) -> Fields | None:
    return {} if same(fields["r"], 1 / dt) else None


# With a leak: LI and LIF.


def _write_leaky(cell: Any, dt: float) -> Fields:
    tau, rest = constant(cell, "tau"), getattr(cell, "v_reset", None)
    if np.any(tau < 1):
        raise ValueError(
            f"tau must be at least 1 in NIR, got {shown(tau)}; learn it in bounds=(1.0, math.inf)"
        )
    v_leak = 0.0 if rest is None else constant(cell, "v_reset")
    return {"tau": tau * dt, "r": 1.0 if cell.decay_input else tau, "v_leak": v_leak}


def _read_leaky(fields: Fields, dt: float, same: Same) -> Fields | None:
    tau = _invert(lambda steps: steps * dt, fields["tau"], fields["tau"] / dt)
    decay_input = same(fields["r"], 1.0)
    rests = np.all(fields["v_leak"] == fields.get("v_reset", 0.0))
    if not rests or not (decay_input or same(fields["r"], tau)) or np.any(tau < 1):
        return None
    return {"tau": tau, "decay_input": decay_input}


# With a leak and a synaptic current: CubaLIF. A decay is the share that is left after a step.


def _write_cuba(cell: Any, dt: float) -> Fields:
    for name in ("c_decay", "v_decay"):
        if np.any(constant(cell, name) == 1):
            raise ValueError(f"{name}=1 never decays, which NIR has not; choose one below 1")
    tau_syn, tau_mem = (_tau_of(constant(cell, name), dt) for name in ("c_decay", "v_decay"))
    gains = {"r": tau_mem / dt, "w_in": tau_syn / dt}
    return {"tau_mem": tau_mem, "tau_syn": tau_syn, **gains, "v_leak": 0.0}


def _read_cuba(fields: Fields, dt: float, same: Same) -> Fields | None:
    decays = {}
    for name, tau_name, gain in (("c_decay", "tau_syn", "w_in"), ("v_decay", "tau_mem", "r")):
        tau = fields[tau_name]
        if np.any(tau < dt) or not same(fields[gain], tau / dt):
            return None
        decays[name] = _invert(lambda decay: _tau_of(decay, dt), tau, 1 - dt / tau)
    return decays if np.all(fields["v_leak"] == 0) else None


def _tau_of(decay: Any, dt: float) -> Any:
    """The time constant of a potential of which `decay` is left after a step."""
    return dt / (1 - decay)


class Equation(NamedTuple):
    """A type of node, and the cells of `jaxsnn.nn` with the same equation.

    Attributes:
        fields: names of its fields.
        cells: types of cells; with numbers that these cells cannot have it is a `Neuron`.
        write: returns the fields of a cell, without `v_threshold` and `v_reset`.
        read: returns the settings of a cell, without these two; None if no cell has the numbers.
    """

    fields: tuple[str, ...]
    cells: tuple[type, ...] = ()
    write: Callable[[Any, float], Fields] = _write_integrator
    read: Callable[[Fields, float, Same], Fields | None] = lambda *_: None


_LI, _CUBA = ("tau", "r", "v_leak"), ("tau_mem", "tau_syn", "r", "v_leak", "w_in")
FIRES = ("v_threshold", "v_reset")
_LIFS = (nn.LIFNode, nn.ParametricLIFNode)
EQUATIONS = {
    "I": Equation(("r",), (nn.NonSpikingIFNode,), _write_integrator, _read_integrator),
    "IF": Equation(("r", *FIRES), (nn.IFNode,), _write_integrator, _read_integrator),
    "LI": Equation(_LI, (nn.NonSpikingLIFNode,), _write_leaky, _read_leaky),
    "LIF": Equation((*_LI, *FIRES), _LIFS, _write_leaky, _read_leaky),
    "CubaLI": Equation(_CUBA),
    "CubaLIF": Equation((*_CUBA, *FIRES), (nn.CUBALIFNode,), _write_cuba, _read_cuba),
}
_KINDS = {cell: kind for kind, equation in EQUATIONS.items() for cell in equation.cells}


# A neuron as a node.


def _write_neuron(cell: Any, at: Writing) -> Written:
    cell, synapse = (cell.neuron, cell.synapse) if isinstance(cell, Synaptic) else (cell, None)
    if isinstance(cell, Leaky):
        cell = _neuron_of_leaky(cell, at)
    kind, fields = _fields_of(cell, at.dt)
    if synapse is not None:
        kind, fields = _with_current(kind, fields, synapse, at.dt)
    notes = {}
    if kind.endswith("F"):
        if cell.v_reset is None and not at.soft_reset:
            raise ValueError(
                "NIR has no soft reset; soft_reset=True writes a reset to 0, which other programs "
                "take for one, and a note for from_nir"
            )
        notes = fire_notes(cell)
    if synapse is None:  # the cell that comes back has other constants than these two
        notes |= _learned_notes(cell)
    arrays = {name: at.spread(name, value) for name, value in fields.items()}
    return Written(kind, arrays, at.before, notes)


def _fields_of(cell: Any, dt: float) -> tuple[str, Fields]:
    """The type of node that a neuron is, and its fields: numbers, or arrays that broadcast."""
    if isinstance(cell, Neuron):
        if cell.dt != dt:
            raise ValueError(f"its dt={cell.dt!r} seconds, to_nir got dt={dt!r}; pass the same dt")
        kind = cell.kind
        number: Callable[[Any, str], Any] = getattr
        fields = {name: getattr(cell, name) for name in cell.numbers} | {"tau_mem": cell.tau}
    else:
        kind, number = _KINDS[type(cell)], constant
        fields = EQUATIONS[kind].write(cell, dt)
    if kind.endswith("F"):
        fields |= {n: 0.0 if getattr(cell, n) is None else number(cell, n) for n in FIRES}
    return kind, {name: fields[name] for name in EQUATIONS[kind].fields}


def constant(cell: Any, name: str) -> np.ndarray:
    """A constant as it is now, learned or not, in float64."""
    value = getattr(cell, name)
    value = value[...] if isinstance(value, nnx.Variable) else value
    return numbers(name, np.asarray(value, np.float64))


# ExponentialSynapse and the leaky neuron right after it are one node, CubaLIF or CubaLI. The
# current, of which `alpha = exp(-1 / tau)` is left after a step and to which the whole input is
# added, is NIR's with `tau_syn = dt / (1 - alpha)` and `w_in = tau_syn / dt`.


_AFTER_SYNAPSE = (Leaky, nn.LIFNode, nn.NonSpikingLIFNode)


class Synaptic(NamedTuple):
    """A synapse and the neuron that its current feeds."""

    synapse: nn.ExponentialSynapse
    neuron: Any


def in_nodes(layers: Sequence[Any]) -> dict[str, Any]:
    """The layers of a stack by their places; two that are one node are one, at the second."""
    nodes: dict[str, Any] = {}
    for k, layer in enumerate(layers):
        before = nodes.get(str(k - 1))
        if type(before) is nn.ExponentialSynapse and type(layer) in _AFTER_SYNAPSE:
            layer = Synaptic(nodes.pop(str(k - 1)), layer)
        nodes[str(k)] = layer
    return nodes


def _with_current(
    kind: str, fields: Fields, synapse: nn.ExponentialSynapse, dt: float
) -> tuple[str, Fields]:
    """The type of node that a neuron is with the synapse before it, and its fields."""
    if "tau" not in fields:
        raise ValueError(f"NIR has no {kind} node with a synaptic current; choose a beta below 1")
    with np.errstate(divide="ignore"):  # a learned time constant may have become 0
        alpha = np.exp(-1 / constant(synapse, "tau"))
    fields = {("tau_mem" if name == "tau" else name): value for name, value in fields.items()}
    return f"Cuba{kind}", {**fields, "tau_syn": _tau_of(alpha, dt), "w_in": 1 / (1 - alpha)}


# snnTorch's Leaky: a potential of which `beta` is left after a step, and to which the whole input
# is added, is a LIF with `tau = dt / (1 - beta)` and `r = tau / dt`; with `beta = 1` it is an IF.
# The delayed reset takes `threshold / beta` off before the leak, and float32 rounds what is left
# by up to 6e-8 of that. In a million steps of neurons with inputs of twice the normal distribution
# none differed from beta = 3e-3 on, one at 1e-3, 23 at 1e-4, 1128 at 1e-6.

_LEAST_BETA = 1e-3
_SCALE = "spikes of NIR are 0 or 1: put a jaxsnn.interop.nir.Scale after the layer"
_ROUNDING = "rounding would make other spikes; choose more, or reset_mechanism='zero'"
_INTEGRATOR = (
    "a jaxsnn.interop.nir.Neuron(dt=dt, tau=dt / (1 - beta), r=1 / (1 - beta), v_leak=0.0), or "
    "jaxsnn.nn.NonSpikingIFNode() if beta is 1, with a jaxsnn.interop.nir.Threshold(threshold, "
    "surrogate_function=jaxsnn.interop.nir.Strict(surrogate)) after it"
)
_REFUSED = {
    ("subtract", False): "subtracts again in the next step; train with reset_delay=True",
    ("discard", True): "drops the input after a spike; train with reset_delay=False",
    ("none", True): f"never resets, and in NIR what fires does; write {_INTEGRATOR}",
    ("none", False): f"never resets, and in NIR what fires does; write {_INTEGRATOR}",
}


def _neuron_of_leaky(leaky: Leaky, at: Writing) -> Neuron:
    """The `Neuron` with the same spikes, but for rounding."""
    reset, delay = leaky.reset_mechanism, leaky.reset_delay
    factor, beta, threshold = (
        _of_each(leaky, name, at) for name in ("graded_spikes_factor", "beta", "threshold")
    )
    beta = np.clip(beta, 0, 1)
    some, no_decay = f"beta={shown(beta)}", bool(np.all(beta == 1))
    delayed = reset == "subtract" and not no_decay
    if (reset, delay) in _REFUSED:
        reason = _REFUSED[reset, delay]
        raise ValueError(f"reset_mechanism={reset!r} with reset_delay={delay} {reason}")
    refuse(
        (factor != 1, f"graded_spikes_factor={shown(factor)} is not 1; {_SCALE}"),
        (threshold < 0, f"threshold={shown(threshold)} is below 0; choose one of at least 0"),
        (not no_decay and np.any(beta == 1), f"{some} is 1 for some; choose less, or 1 for all"),
        (delayed & (beta < _LEAST_BETA), f"{some} is below {_LEAST_BETA}; {_ROUNDING}"),
    )
    function = leaky.surrogate_function
    settings: Fields = {
        "v_threshold": threshold,
        "v_reset": None if reset == "subtract" else 0.0,
        "surrogate_function": function if isinstance(function, Strict) else Strict(function),
        "detach_reset": delay,  # without delay a gradient flows through the spike that resets
    }
    if no_decay:
        return Neuron(dt=at.dt, r=1 / at.dt, **settings)
    r = 1 / (1 - beta)
    return Neuron(dt=at.dt, r=r, tau=r * at.dt, v_leak=0.0, delayed_reset=delayed, **settings)


def _of_each(leaky: Leaky, name: str, at: Writing) -> np.ndarray:
    """A setting or parameter as one number, or one for each element of the input."""
    values = constant(leaky, name)
    shape = list(at.before.shape)
    if values.ndim and leaky.of_features and len(shape) > 1:
        raise ValueError(f"{name} is for each of {len(values)} features, not of {shape} a step")
    return at.broadcast(name, values) if values.ndim else values


# A node as a neuron: a cell of `jaxsnn.nn` if any has its equation, else a `Neuron`.


def _read_neuron(at: Reading) -> tuple[Any, Layout]:
    dt, equation, notes = at.seconds(), EQUATIONS[at.kind], notes_of(at.node)
    fields = {name: at.elements(name) for name in equation.fields}
    dtypes = [np.asarray(getattr(at.node, name)).dtype for name in fields]
    floats = [float(np.finfo(dtype).eps) for dtype in dtypes if dtype.kind == "f"]
    rounding = 4 * max(floats, default=0.0)

    def same(a: Any, b: Any) -> bool:
        """Equal but for the rounding of a file."""
        return bool(np.all(np.abs(a - b) <= rounding * np.abs(b)))

    firing: Fields = {}
    delayed = False
    if at.kind.endswith("F"):
        reset = at.reset or at.note("reset", {name: name for name in RESETS}, "hard")
        v_reset: Any = fields["v_reset"]
        if reset != "hard":
            if np.any(v_reset != 0):
                raise ValueError(f"a {reset} reset needs a v_reset of 0, got {shown(v_reset)}")
            v_reset = None
        firing = {"v_threshold": fields["v_threshold"], "v_reset": v_reset, **read_fire(at)}
        delayed = reset == "delayed" and at.kind != "IF"  # without a leak there is no difference
    learned = _read_learned(notes, at)
    found = None if delayed else equation.read(fields, dt, same)
    if found is not None and "tau" not in learned and np.any(found.get("tau", 2.0) == 1.0):
        found = None  # at this bound it may only be learned
    if found is not None:
        settings = {name: _features(value) for name, value in (found | firing).items()}
        cell = equation.cells[0]
        parametric = "w" in notes and "learned" not in notes
        if parametric and cell is nn.LIFNode and isinstance(settings["tau"], float):
            cell = nn.ParametricLIFNode
        return _learning(cell, settings, learned, at), at.before
    if learned:
        raise ValueError(
            f"its metadata note that {', '.join(learned)} is learned, but a Neuron learns nothing; "
            "read it with the dt and reset of before, or remove 'learned' and 'w' from the metadata"
        )
    settings = {("tau" if name == "tau_mem" else name): value for name, value in fields.items()}
    if firing:
        settings |= firing | {"delayed_reset": delayed}
    return Neuron(dt=dt, **settings), at.before


def _features(value: Any) -> Any:
    """An array as a float, or as the shortest that broadcasts to it: a number per channel where
    the positions have the same. Everything else as it is.
    """
    if not isinstance(value, np.ndarray):
        return value
    while value.ndim > 1 and np.all(value == value[:1]):
        value = value[0]
    return value if value.ndim else float(value)


def _invert(forward: Callable[[Any], Any], values: np.ndarray, guesses: np.ndarray) -> np.ndarray:
    """The numbers that `forward` takes to `values`: of float32 if there are any, as arrays have
    them, otherwise the shortest, as they are written.
    """
    with np.errstate(all="ignore"):  # numbers that float32 does not have are among the others
        found = np.array(np.asarray(guesses, np.float32), np.float64)
        others = (found == 1) | (forward(found) != values)
    for value in np.unique(values[others]):
        here = others & (values == value)
        guess = guesses[here][0]
        shorter = (float(f"{guess:.{digits}g}") for digits in range(1, 18))
        found[here] = next((x for x in shorter if x != 1 and forward(x) == value), guess)
    return found


# Constants that are learned: their parameters and bounds are in the notes.

_OF_PARAMETRIC = {"tau": [1.0, None]}  # the bounds of a ParametricLIFNode, whose note is `w`


def _learned_notes(cell: Any) -> dict[str, Any]:
    learned = getattr(cell, "learned", {})
    if "tau" in learned and not cell.decay_input and np.all(np.asarray(cell.tau) == 1):
        raise ValueError("tau has become 1 with decay_input=False; set nn.learnable(1.01) instead")
    parameters, ends = {}, {}
    for name, (parameter, bounds) in learned.items():
        w = weights(f"parameter of {name}", parameter[...])
        parameters[f"w_{name}"] = w if w.ndim else float(w)  # HDF5 compresses no array of no axes
        ends[name] = [end if math.isfinite(end) else None for end in bounds]
    parametric = type(cell) is nn.ParametricLIFNode and ends == _OF_PARAMETRIC
    if parametric and isinstance(parameters["w_tau"], float):
        return {"w": parameters["w_tau"]}
    return {"learned": json.dumps(ends), **parameters} if learned else {}


def _read_learned(notes: Mapping[str, Any], at: Reading) -> dict[str, tuple[np.ndarray, Any]]:
    """The parameter of each constant, and a start within its bounds to make a cell with."""
    text = notes.get("learned", json.dumps(_OF_PARAMETRIC if "w" in notes else {}))
    found = {}
    try:
        for name, (low, high) in json.loads(text).items():
            bounds = -math.inf if low is None else low, math.inf if high is None else high
            start = _inside(*bounds, least=1.0 if name == "tau" else -math.inf)
            note = f"w_{name}" if "learned" in notes else "w"
            w = numbers(f"metadata {note!r}", notes.get(note))
            found[name] = w, nn.learnable(start, bounds, param_dtype=at.param_dtype)
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"its metadata 'learned' must be like {{'tau': [1, null]}}, got {text!r:.100}: {error}"
        ) from error
    return found


def _inside(low: float, high: float, *, least: float) -> float:
    """A number between two bounds; time constants start above 1 only."""
    low = max(low, least)
    return (low + min(high, low + 2.0)) / 2 if math.isfinite(low) else min(high, 1.0) - 1.0


def _learning(
    of_kind: Any, settings: Fields, learned: Mapping[str, tuple[np.ndarray, Any]], at: Reading
) -> Any:
    """A cell that learns constants: from the parameters of the notes, except where the node has a
    different number by now; there it learns from this number.
    """
    for name in learned:
        if not isinstance(settings.get(name), float | np.ndarray):
            raise ValueError(f"its metadata 'learned' name {name!r}, which it does not have")
    starts = {name: start for name, (_, start) in learned.items()}
    made = settings | starts
    if of_kind is nn.ParametricLIFNode:
        made["init_tau"] = made.pop("tau").value
    cell = of_kind(**made)
    tiny = np.finfo(np.float32).tiny  # a number of float64 below it is 0 here
    for name, (w, start) in learned.items():
        try:
            cell.learned[name].parameter.set_value(jnp.asarray(w, at.param_dtype))
            noted = np.asarray(getattr(cell, name), np.float64)
            np.broadcast_to(noted, at.before.shape)
            kept = np.isclose(noted, settings[name], rtol=1e-6, atol=tiny)
            if np.all(kept):  # a parameter of fewer numbers than the node, too
                continue
            value = np.where(kept, start.value, settings[name])[()]
            setattr(cell, name, nn.learnable(value, start.bounds, param_dtype=at.param_dtype))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name} does not fit its metadata 'learned': {error}") from error
        edited = cell.learned[name].parameter
        edited.set_value(jnp.asarray(np.where(kept, w, edited[...]), at.param_dtype))
    return cell


# How a neuron fires: its surrogate, whether a potential at the threshold fires, and its reset.


def fire_notes(cell: Any) -> dict[str, Any]:
    """The notes on a neuron or layer that fires."""
    function = cell.surrogate_function
    spikes = np.asarray(function(jnp.array([-3.0, -1e-3, 0.0, 1e-3, 3.0], jnp.float32)))
    at_threshold = bool(spikes[2] == 1)
    if spikes.tolist() != [0, 0, at_threshold, 1, 1]:
        raise ValueError(
            f"surrogate_function={function} outputs {spikes.round(3).tolist()}, and a neuron of "
            "NIR a spike or none; leave spiking=False out, or use a different surrogate"
        )
    if isinstance(function, Strict):
        function = function.surrogate
    name = getattr(function, "__name__", type(function).__name__)
    known = _known(name) is type(function)
    settings = {"name": name, **dataclasses.asdict(function)} if known else {"own": name}
    notes = {"fires_at_threshold": at_threshold, "surrogate": json.dumps(settings)}
    if getattr(cell, "detach_reset", False):
        notes["detach_reset"] = True
    if getattr(cell, "v_reset", 0.0) is None:
        notes["reset"] = "delayed" if getattr(cell, "delayed_reset", False) else "soft"
    return notes


def read_fire(at: Reading) -> dict[str, Any]:
    """The surrogate, and whether the reset is detached."""
    function, at_threshold, detach = at.surrogate_function, at.fires_at_threshold, at.detach_reset
    if function is None:
        text = notes_of(at.node).get("surrogate")
        function = surrogate.Sigmoid() if text is None else _read_surrogate(text)
    if at_threshold is None:
        at_threshold = at.flag("fires_at_threshold")
    return {
        "surrogate_function": function if at_threshold else Strict(function),
        "detach_reset": at.flag("detach_reset") if detach is None else detach,
    }


def _read_surrogate(text: Any) -> Callable[..., Any]:
    """The surrogate of a note."""
    try:
        # JSON knows no tuples, and settings no lists.
        notes = json.loads(text).items()
        settings = {name: tuple(v) if isinstance(v, list) else v for name, v in notes}
        if "own" in settings:
            raise ValueError(f"{settings['own']} is a custom one; pass it as surrogate_function=")
        function: Callable[..., Any] = _known(settings.pop("name"))(**settings)
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"its metadata 'surrogate' must be of jaxsnn.surrogate, got {text!r:.100}: {error}"
        ) from error
    return function


def _known(name: Any) -> Any:
    """A class of `jaxsnn.surrogate` by its name; None where there is none."""
    found = vars(surrogate).get(name)
    return found if isinstance(found, type) and dataclasses.is_dataclass(found) else None


_LAYERS = (*_KINDS, Neuron, Leaky, Synaptic)
NEURONS = (Row(tuple(EQUATIONS), _LAYERS, _write_neuron, _read_neuron),)
