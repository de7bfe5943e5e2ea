"""Spares a test the compilation of what it does not test."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np


def run_once(function, *args):
    """`function(*args)`, all in one compilation that does not optimise, as NumPy arrays."""
    options = {"xla_backend_optimization_level": 0}
    return jax.device_get(jax.jit(function, compiler_options=options)(*args))


def empty(make):
    """What `make()` makes, with zeros for all parameters: nothing is drawn, nothing compiled."""
    return jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), jax.eval_shape(make))


def uniform(shape, low=0.0, high=1.0, *, seed=0):
    """Numbers in float32. NumPy draws them: JAX compiles anew for each shape."""
    return jnp.asarray(np.random.default_rng(seed).uniform(low, high, shape), jnp.float32)


@contextlib.contextmanager
def watched(*events):
    """A list to which the name of every function is added that JAX reports one of `events` of."""
    names = []

    def note(event, duration, **facts):
        if event in events:
            names.append(facts.get("fun_name", "?"))

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(note)


COMPILED, TRACED = (
    f"/jax/core/compile/{name}_duration" for name in ("backend_compile", "jaxpr_trace")
)


def compilations():
    """A list to which the name of every function is added that XLA compiles meanwhile."""
    return watched(COMPILED)


def traces():
    """A list to which the name of every function is added that JAX traces or XLA compiles."""
    return watched(COMPILED, TRACED)


def as_arrays(tree):
    """NumPy arrays, of random keys their data."""

    def convert(leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        return np.asarray(leaf)

    return jax.tree.map(convert, tree)
