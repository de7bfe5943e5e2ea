"""Neurons and NIR's equations: which cell is which node, and how its numbers become seconds.

A step is one of forward Euler: with `dt` seconds in a step and `tau` steps in a time constant,

    v = v + (v_leak - v + r x) / tau                 LI, LIF; NIR's tau is tau dt
    v = v + dt r x                                   I, IF
    i = i + (w_in x - i) / tau_syn, then v of this i    CubaLI, CubaLIF

then fire and reset in the same step. So `IFNode` is `IF(r=1/dt)`, `LIFNode` is `LIF` with `r=1`,
or with `r=tau` where `decay_input=False`.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxsnn import _checks, nn
from jaxsnn._parameters import tau_of_w
from jaxsnn.interop.nir._neuron import Neuron
from jaxsnn.interop.nir._settings import Setting, setting

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


def equation_of(cell: Any, dt: float) -> tuple[str, dict[str, Setting]]:
    """The kind of node that a neuron is, and its fields."""
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
        return "LI", {**_leak(cell.tau, cell.decay_input, dt), "v_leak": 0.0}
    v_reset = 0.0 if cell.v_reset is None else cell.v_reset
    fire = {"v_threshold": cell.v_threshold, "v_reset": v_reset}
    if isinstance(cell, nn.IFNode):
        return "IF", {"r": 1 / dt, **fire}
    if isinstance(cell, nn.CUBALIFNode):
        for name in ("c_decay", "v_decay"):
            if getattr(cell, name) == 1:
                raise ValueError(
                    f"{name}=1 never decays, and NIR has no infinite time constant; choose one "
                    "below 1"
                )
        tau_syn, tau_mem = _tau_of_decay(cell.c_decay, dt), _tau_of_decay(cell.v_decay, dt)
        gains = {"r": tau_mem / dt, "w_in": tau_syn / dt, "v_leak": 0.0}
        return "CubaLIF", {"tau_mem": tau_mem, "tau_syn": tau_syn, **gains, **fire}
    tau = float(cell.tau)  # ParametricLIFNode: what it has learned
    return "LIF", {**_leak(tau, cell.decay_input, dt), "v_leak": v_reset, **fire}


def neuron_of(
    kind: str,
    fields: dict[str, np.ndarray],
    *,
    dt: float,
    reset: str,
    fire: dict[str, Any],
    w: Any = None,
    param_dtype: Any = jnp.float32,
) -> Any:
    """The cell that has a node's equation: one of `jaxsnn.nn` if any has, else a `Neuron`.

    Args:
        kind: the kind of node.
        fields: its fields, in our layout.
        dt: seconds in a step.
        reset: "hard", "soft" or "delayed".
        fire: the surrogate and whether the reset is detached.
        w: the parameter of a learnable time constant, if a note gives it.
        param_dtype: its dtype.
    """
    numbers: dict[str, Any] = {name: setting(name, array) for name, array in fields.items()}
    v_reset = numbers.get("v_reset")
    if reset != "hard":
        if v_reset != 0.0:
            raise ValueError(f"a {reset} reset subtracts the threshold, but v_reset is {v_reset!r}")
        v_reset = None
    firing = {"v_threshold": numbers.get("v_threshold"), "v_reset": v_reset, **fire}
    delayed = reset == "delayed" and kind != "IF"  # without a leak there is no difference
    plain = not delayed and all(isinstance(number, float) for number in numbers.values())
    cell = _plain_neuron(kind, numbers, firing, dt, _rounding(fields)) if plain else None
    if isinstance(cell, nn.LIFNode) and w is not None:
        return _learnable(w, cell.tau, cell.decay_input, firing, param_dtype)
    if cell is not None:
        return cell
    if "tau_mem" in numbers:
        numbers["tau"] = numbers.pop("tau_mem")
    if kind.endswith("F"):
        numbers |= firing | {"delayed_reset": delayed}
    return Neuron(dt=dt, **numbers)


def _plain_neuron(
    kind: str, number: dict[str, Any], firing: dict[str, Any], dt: float, close: float
) -> Any:
    """The neuron of `jaxsnn.nn` with this equation, None if there is none."""

    def same(a: float, b: float) -> bool:
        return abs(a - b) <= close * abs(b)

    if kind in ("I", "IF"):
        if not same(number["r"], 1 / dt):
            return None
        return nn.NonSpikingIFNode() if kind == "I" else nn.IFNode(**firing)
    rest = firing["v_reset"] or 0.0
    if kind in ("LI", "LIF"):
        tau = _invert(lambda steps: steps * dt, number["tau"], number["tau"] / dt)
        decay_input = same(number["r"], 1.0)
        if number["v_leak"] != rest or not (decay_input or same(number["r"], tau)) or tau <= 1:
            return None
        if kind == "LI":
            return nn.NonSpikingLIFNode(tau, decay_input=decay_input)
        return nn.LIFNode(tau, decay_input=decay_input, **firing)
    if kind == "CubaLIF" and number["v_leak"] == 0:
        decays: dict[str, Any] = {}
        for ours, tau_name, gain in (("c_decay", "tau_syn", "w_in"), ("v_decay", "tau_mem", "r")):
            tau = number[tau_name]
            if tau < dt or not same(number[gain], tau / dt):
                return None
            decays[ours] = _invert(lambda decay: _tau_of_decay(decay, dt), tau, 1 - dt / tau)
        return nn.CUBALIFNode(**decays, **firing)
    return None


def _learnable(
    w: Any, tau: float, decay_input: bool, firing: dict[str, Any], dtype: Any
) -> nn.ParametricLIFNode:
    """With the very parameter that a note gives, unless the node has another `tau` by now."""
    w = jnp.asarray(_checks.real("its metadata 'w'", w), dtype)
    cell = nn.ParametricLIFNode(tau, decay_input=decay_input, param_dtype=dtype, **firing)
    if np.isclose(float(tau_of_w(w)), tau, rtol=1e-6, atol=0):
        cell.w = nnx.Param(w)
    return cell


def _leak(tau: float, decay_input: bool, dt: float) -> dict[str, float]:
    return {"tau": tau * dt, "r": 1.0 if decay_input else tau}


def _tau_of_decay(decay: float, dt: float) -> float:
    """Of a potential of which `decay` is left after a step."""
    return dt / (1 - decay)


def _invert(forward: Callable[[float], float], value: float, guess: float) -> float:
    """The number that `forward` takes to `value`: where rounding leaves several, the shortest."""
    for digits in range(1, 18):
        number = float(f"{guess:.{digits}g}")
        if number != 1 and forward(number) == value:
            return number
    return guess


def _rounding(fields: dict[str, np.ndarray]) -> float:
    """How far two numbers may be apart that would be equal but for the rounding of a file."""
    kinds = [np.finfo(a.dtype).eps for a in fields.values() if a.dtype.kind == "f"]
    return 4 * float(max(kinds, default=0.0))
