"""Notes in the metadata of a node on properties that NIR has no field for."""

import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxsnn import _checks, nn, surrogate
from jaxsnn.interop.nir._layout import finite, weights
from jaxsnn.interop.nir._strict import Strict

KEY = "jaxsnn"


class Learned(NamedTuple):
    """A constant that is learned: its parameter and its bounds."""

    w: np.ndarray
    bounds: tuple[float, float]


def notes_of(cell: Any, *, spikes: bool) -> dict[str, Any]:
    """The notes on a neuron, or on a layer that fires."""
    if not spikes:
        return {}
    function = cell.surrogate_function
    notes: dict[str, Any] = {"fires_at_threshold": _fires_at_threshold(function)}
    if isinstance(function, Strict):
        function = function.surrogate
    if _known(type(function).__name__) is type(function):
        settings = {"name": type(function).__name__, **dataclasses.asdict(function)}
    else:
        settings = {"own": getattr(function, "__name__", type(function).__name__)}
    notes["surrogate"] = json.dumps(settings)
    if getattr(cell, "detach_reset", False):
        notes["detach_reset"] = True
    if getattr(cell, "v_reset", 0.0) is None:
        notes["reset"] = "delayed" if getattr(cell, "delayed_reset", False) else "soft"
    return notes


def _fires_at_threshold(function: Callable[..., Any]) -> bool:
    """True if 0 is a spike for a spike function.

    Raises:
        ValueError: it outputs other numbers than 0 and 1.
    """
    spikes = np.asarray(function(jnp.array([-3.0, -1e-3, 0.0, 1e-3, 3.0], jnp.float32)))
    at_threshold = bool(spikes[2] == 1)
    if spikes.tolist() != [0, 0, at_threshold, 1, 1]:
        raise ValueError(
            f"surrogate_function={function} outputs {spikes.round(3).tolist()} for -3, -0.001, 0, "
            "0.001 and 3, and a neuron of NIR a spike or none: 0 below the threshold, 1 above; "
            "leave spiking=False out, or use a different surrogate"
        )
    return at_threshold


def learned_notes(cell: Any) -> dict[str, Any]:
    """The notes on the constants that a neuron learns."""
    learned = getattr(cell, "learned", {})
    if not learned:
        return {}
    if "tau" in learned and not cell.decay_input and np.all(np.asarray(cell.tau) == 1):
        raise ValueError(
            "tau is learned and has become 1 with decay_input=False, which NIR cannot distinguish "
            "from decay_input=True; set it to more, e.g. neuron.tau = nn.learnable(1.01)"
        )
    if type(cell) is nn.ParametricLIFNode and [*learned] == ["tau"]:
        w, bounds = learned["tau"]
        if w[...].ndim == 0 and bounds == (1.0, math.inf):
            return {"w": float(finite("w", np.asarray(w[...])))}
    ends = {
        name: [end if math.isfinite(end) else None for end in constant.bounds]
        for name, constant in learned.items()
    }
    parameters: dict[str, Any] = {}
    for name, constant in learned.items():
        w = weights(f"parameter of {name}", constant.parameter[...])
        parameters[f"w_{name}"] = w if w.ndim else float(w)  # HDF5 compresses no array of no axes
    return {"learned": json.dumps(ends), **parameters}


def read_learned(notes: dict[str, Any]) -> dict[str, Learned]:
    """The constants that are learned, by name."""
    if "learned" not in notes:
        if "w" not in notes:
            return {}
        w = _checks.real("its metadata 'w'", notes["w"])
        return {"tau": Learned(np.asarray(w), (1.0, math.inf))}
    text = notes["learned"]
    try:
        found = json.loads(text)
        bounds = {name: _ends(low, high) for name, (low, high) in found.items()}
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"its metadata 'learned' must be the bounds of each constant, e.g. "
            f'{{"tau": [1.0, null]}}, got {str(text)[:100]!r}: {error}'
        ) from error
    return {name: Learned(_parameter(f"w_{name}", notes), ends) for name, ends in bounds.items()}


def _ends(low: Any, high: Any) -> tuple[float, float]:
    low = -math.inf if low is None else _checks.real("a bound", low)
    high = math.inf if high is None else _checks.real("a bound", high)
    if not low < high:
        raise ValueError(f"the lower bound must be below the upper, got {low!r} and {high!r}")
    return low, high


def _parameter(name: str, notes: dict[str, Any]) -> np.ndarray:
    array = np.asarray(notes.get(name))
    if array.dtype.kind not in "fiu" or not np.all(np.isfinite(array)):
        raise ValueError(f"its metadata {name!r} must hold finite numbers, got {notes.get(name)!r}")
    return array


def read_notes(node: Any) -> dict[str, Any]:
    """The notes on a node, `{}` where there are none."""
    metadata = getattr(node, "metadata", None)
    notes = metadata.get(KEY, {}) if isinstance(metadata, dict) else {}
    if not isinstance(notes, dict):
        raise ValueError(f"its metadata {KEY!r} must be a group, got {notes!r}")
    return notes


def flag(notes: dict[str, Any], name: str, otherwise: bool) -> bool:
    """A note that is true or false (HDF5 brings NumPy's)."""
    value = notes.get(name, otherwise)
    if value not in (True, False):
        raise ValueError(f"its metadata {name!r} must be true or false, got {value!r}")
    return bool(value)


def read_surrogate(text: Any) -> Callable[..., Any]:
    """The surrogate of a note."""
    try:
        settings = json.loads(text, object_hook=_with_tuples)
        own = settings.pop("own", None)
        if own is not None:
            raise ValueError(f"{own} is a custom one; pass it as surrogate_function=")
        return _known(settings.pop("name"))(**settings)
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"its metadata 'surrogate' must be one of jaxsnn.surrogate, got {str(text)[:100]!r}: "
            f"{error}"
        ) from error


def _with_tuples(settings: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no tuples, and settings no lists."""
    return {name: tuple(v) if isinstance(v, list) else v for name, v in settings.items()}


def _known(name: Any) -> Any:
    """A class of `jaxsnn.surrogate` by its name; None where there is none."""
    found = vars(surrogate).get(name)
    return found if isinstance(found, type) and dataclasses.is_dataclass(found) else None
