"""Compiles quickly what a test runs once."""

import jax


def run_once(function, *args):
    """`function(*args)`, all in one compilation that does not optimise, as NumPy arrays."""
    options = {"xla_backend_optimization_level": 0}
    return jax.device_get(jax.jit(function, compiler_options=options)(*args))
