"""Finding functions that read variables which are not among their arguments.

A compiled function keeps every array that it reads from outside as a constant. If the array is the
value of a variable, e.g. of a module that a lambda names, the compiled program continues to use the
old value after the variable has changed, and no gradient reaches the variable.
"""

import functools
import gc
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.extend import core

F = TypeVar("F", bound=Callable[..., Any])


def no_captured_variables(*, static: int = 0) -> Callable[[F], F]:
    """Make a decorator: the function raises if its trace captures the value of a variable.

    Captured arrays are constants of the traced program, however the function reaches them: by a
    global name, a closure, a default argument, an attribute, a bound method. An array that is not
    the value of a variable may be captured, as in all functions that JAX compiles, because an array
    does not change. Variables that were alive at a `gc.freeze()` are not seen. Compiled calls pay
    nothing: the check runs while the function is traced.

    The decorator belongs inside of `jax.jit`. A call without traced arguments runs as it is:
    nothing is compiled, so nothing becomes stale.

    Args:
        static: number of leading arguments that are not pytrees of arrays.

    Raises:
        ValueError: when traced, if the function reads a variable that is not in its arguments.
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def checked(*args: Any) -> Any:
            traced = args[static:]
            if not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(traced)):
                return function(*args)
            traced = jax.tree.map(_as_jax, traced)
            # A new object for each trace: of a known function JAX would return the earlier one.
            of_arrays = functools.partial(function, *args[:static])
            program, returned = jax.make_jaxpr(of_arrays, return_shape=True)(*traced)
            constants = [*_constants(program)]
            if constants and _variables(constants):
                gc.collect()  # what the trace itself has made is gone now
                _refuse(_variables(constants))
            # Its operations one by one, which keep the lines of code that profilers show.
            outputs = core.jaxpr_as_fun(program)(*jax.tree.leaves(traced))
            return jax.tree.unflatten(jax.tree.structure(returned), outputs)

        return cast(F, checked)

    return decorate


def _refuse(variables: list[Any]) -> None:
    for variable in variables:
        holders = gc.get_referrers(variable)
        holders += gc.get_referrers(*(holder for holder in holders if isinstance(holder, dict)))
        kinds = [type(holder).__name__ for holder in holders if isinstance(holder, nnx.Module)]
        owner = f" of a {kinds[0]}" if kinds else ""
        raise ValueError(
            f"a function in this network, its readout or its loss reads a "
            f"{type(variable).__name__}{owner}, shape {list(np.shape(variable.get_raw_value()))}, "
            "which is not a variable of the network, or an array that such a variable shares. It "
            "would be compiled in as a constant: neither trained nor kept up to date. Use the "
            "module itself as a layer, or as an attribute of an nnx.Module that calls it. "
            "If its values stay fixed, let the function read a copy of them: "
            " jax.tree.map(jnp.copy, nnx.to_pure_dict(nnx.state(module)))"
        )


def _variables(arrays: list[Any]) -> list[Any]:
    """Find the live variables that hold one of `arrays`, or the array of which it is a view."""
    values = []
    for array in arrays:
        array = getattr(array, "val", array)  # JAX wraps NumPy's arrays
        while array is not None:
            values.append(array)
            array = array.base if isinstance(array, np.ndarray) else None
    return [holder for holder in gc.get_referrers(*values) if isinstance(holder, nnx.Variable)]


def _constants(program: core.ClosedJaxpr | core.Jaxpr) -> Iterator[Any]:
    """Yield the captured arrays of a traced program and of the programs inside it."""
    yield from getattr(program, "consts", ())
    for equation in getattr(program, "jaxpr", program).eqns:
        for parameter in jax.tree.leaves([*equation.params.values()]):
            if isinstance(parameter, core.ClosedJaxpr | core.Jaxpr):
                yield from _constants(parameter)


def _as_jax(leaf: Any) -> jax.Array:
    return leaf if isinstance(leaf, jax.Array) else jnp.asarray(leaf)
