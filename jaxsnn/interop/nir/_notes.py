"""What NIR has no field for, kept in the metadata of a node: other readers pass over it."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxsnn import surrogate
from jaxsnn.interop.nir._strict import Strict

KEY = "jaxsnn"


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
    """Whether 0 is a spike for a spike function; what puts out more or less than 1 is an error."""
    spikes = np.asarray(function(jnp.array([-3.0, -1e-3, 0.0, 1e-3, 3.0], jnp.float32)))
    at_threshold = bool(spikes[2] == 1)
    if spikes.tolist() != [0, 0, at_threshold, 1, 1]:
        raise ValueError(
            f"surrogate_function={function} puts out {spikes.round(3).tolist()} for -3, -0.001, 0, "
            "0.001 and 3, and a neuron of NIR a spike or none: 0 below the threshold, 1 above; "
            "leave spiking=False out, take another surrogate"
        )
    return at_threshold


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
            raise ValueError(f"{own} is none of them; say what it is with surrogate_function=")
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
