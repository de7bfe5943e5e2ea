"""What every cell keeps to: `check_contract` takes a cell through all of it.

    check_contract(lambda: MyNeuron(tau=3.0))

There are five parts: numbers, dtypes, errors, export, diagnosis. Only numbers and diagnosis compile
anything.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick
from flax import nnx

import jaxsnn
from jaxsnn import nn
from jaxsnn.export._programs import sequence, streaming, whole

T, N, F = 4, 3, 4  # time steps, sequences, features


def check_contract(make, shape=(), *, fires=True):
    """Checks a cell, made by `make()`, on inputs `[T, N, *shape, 4]`.

    `fires` is False for a cell whose output is not its spikes, although it has a surrogate.
    """
    check_numbers(make, shape)
    check_dtypes(make, shape)
    check_errors(make, shape)
    check_export(make, shape)
    check_diagnosis(make, shape, fires=fires)


def in_dtype(cell, dtype):
    """The cell with its parameters, and other arrays, in this dtype."""
    return jax.tree.map(lambda a: jnp.asarray(np.asarray(a, dtype)), cell)


def kinds(tree):
    return jax.tree.map(lambda a: (a.shape, a.dtype.name, a.weak_type), tree)


# ----------------------------------------------------------------------------------------- numbers


def by_hand(cell, carry, xs):
    ys = []
    for x in xs:
        carry, y = cell(carry, x)
        ys.append(y)
    return carry, jnp.stack(ys)


def unrolled(cell, carry, xs):
    return nn.unroll(cell, xs, carry)


def scan(cell, carry, xs):
    return jax.lax.scan(cell, carry, xs)


def at(tree, index):
    """The entry `index` along the first axis of all arrays."""
    return jax.tree.map(lambda a: a[index], tree)


def gradients(run, *arguments):
    """The gradients of a sum of outputs and of a sum of states; and state and outputs."""

    def sums(*arguments):
        carry, ys = run(*arguments)
        weights = jnp.cos(jnp.arange(ys.size, dtype=ys.dtype)).reshape(ys.shape)
        of_carry = sum(jnp.sum(state**2) for state in jax.tree.leaves(carry))
        return jnp.stack([jnp.sum(ys * weights), of_carry]), (carry, ys)

    return jax.jacrev(sums, (0, 1, 2), has_aux=True)(*arguments)


def in_many_ways(cell, start, xs, mask):
    """State and outputs by each way to run a cell, and gradients, in one compilation."""

    def piece(carry, xs):
        carry, ys = nn.unroll(cell, xs, carry)
        return carry, (carry, ys)

    def alone(start, x):
        carry, ys = nn.unroll(cell, x[:, None], at(start, None))
        return at(carry, 0), ys[:, 0]

    carry, (carries, pieces) = jax.lax.scan(piece, start, xs.reshape(2, T // 2, *xs.shape[1:]))
    rnn = nnx.RNN(cell, return_carry=True)
    in_batch, batch_ys = rnn(xs.swapaxes(0, 1), initial_carry=start)
    graphdef, params = nnx.split(cell)
    many = jax.tree.map(lambda p: jnp.stack([p, 0.5 * p]), params)
    ways = {
        "by hand": by_hand(cell, start, xs),
        "chunks": (carry, pieces.reshape(T, *pieces.shape[2:])),
        "stretches": nn.unroll(cell, xs, start, checkpoint_every=3),
        "vmap": jax.vmap(alone, (0, 1), (0, 1))(start, xs),
        "RNN": (in_batch, batch_ys.swapaxes(0, 1)),
    }
    derivatives = {run.__name__: gradients(run, cell, start, xs) for run in (unrolled, scan)}
    masked = nn.unroll(cell, xs, start, mask=mask, record="*")[:2]
    of_many = jax.vmap(lambda params: nn.unroll(nnx.merge(graphdef, params), xs), axis_size=2)(many)
    return ways, derivatives, masked, at(carries, 0), of_many


def check_numbers(make, shape=()):
    """State, outputs and gradients are equal, however the cell is run; in float64."""
    made, again = make(), make()  # drawn in float32, as they are elsewhere
    with jax.enable_x64(True):
        cell, again = in_dtype(made, "float64"), in_dtype(again, "float64")
        rng = np.random.default_rng(0)
        xs = jnp.asarray(rng.uniform(0, 1.5, (T, N, *shape, F)))
        first = cell.initialize_carry(xs.shape[1:], dtype=xs.dtype)
        start = jax.tree.map(lambda state: state + rng.uniform(0, 1, state.shape), first)
        mask = nn.sequence_mask(jnp.array([T, 2, T]), T)
        ways, derivatives, masked, half, of_many = quick.run_once(
            in_many_ways, cell, start, xs, mask
        )

        def assert_close(actual, expected, name):
            assert jax.tree.structure(actual) == jax.tree.structure(expected), name
            for a, b in zip(*map(jax.tree.leaves, (actual, expected)), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11, err_msg=name)

        expected = ways.pop("by hand")
        for way, actual in ways.items():
            assert_close(actual, expected, way)
        # The gradients of `unroll` are those of the plain loop.
        (expected_gradients, ends), (actual, more) = derivatives["scan"], derivatives["unrolled"]
        assert_close(ends, expected, "scan")
        assert_close(more, expected, "unroll")
        assert_close(actual, expected_gradients, "gradients")
        leaves = jax.tree.leaves(actual)
        assert all(np.isfinite(leaf).all() for leaf in leaves)
        assert any(np.any(leaf[0]) for leaf in leaves), "no gradient reaches the outputs"

        # Masked and recorded: the second sequence of the batch ends as it does after two steps.
        carry, ys = masked
        assert_close(at(carry, 1), at(half, 1), "masked")
        assert_close(at(carry, 0), at(expected[0], 0), "masked")
        assert_close(ys[:, 0], expected[1][:, 0], "masked")
        assert_close(ys[:2, 1], expected[1][:2, 1], "masked")
        assert not ys[2:, 1].any()

        if isinstance(cell, nn.ElementwiseCell):  # a module compiles each operation by itself
            assert_close(cell(start, xs[0])[1], expected[1][0], "one step, eagerly")
        # Eagerly, with other parameters too, of which none is stale; and all is compiled once.
        assert_close(nn.unroll(cell, xs), at(of_many, 0), "eager")
        halved = jax.tree.map(lambda p: 0.5 * p, nnx.split(cell)[1])
        nnx.update(cell, halved)
        with quick.traces() as traces:
            of_halved, of_again = nn.unroll(cell, xs), nn.unroll(again, xs)
        assert traces == []
        assert_close(of_halved, at(of_many, 1), "after an update")
        assert_close(nnx.split(cell)[1], halved, "unroll changes parameters")
        assert_close(of_again, at(of_many, 0), "an equal cell")


# ------------------------------------------------------------------------------------------ dtypes


def check_dtypes(make, shape=()):
    """Outputs have the dtype of the input; states that or float32, whichever is wider.

    A cell that acts on each element by itself keeps both whatever the dtype of its parameters is.
    """
    for dtype in ("float32", "bfloat16", "float64"):
        wide = "float64" if dtype == "float64" else "float32"
        xs = jax.ShapeDtypeStruct((T, N, *shape, F), dtype)
        with jax.enable_x64(dtype == "float64"):
            made = quick.empty(make)
            alone = isinstance(made, nn.ElementwiseCell)
            for cell in (made, in_dtype(made, dtype)) if alone else (in_dtype(made, dtype),):
                first = cell.initialize_carry(xs.shape[1:], dtype=xs.dtype)
                carry, ys = jax.eval_shape(nn.unroll, cell, xs)
                assert ys.dtype == dtype
                assert kinds(carry) == kinds(first)
                for state in jax.tree.leaves(first):
                    assert state.dtype == wide or (state.dtype == dtype and not alone)
                if alone:
                    assert ys.shape == xs.shape

    def in_flax(cell, xs):  # from a first state that it makes for itself
        return nnx.RNN(cell, time_major=True)(xs)

    xs = jax.ShapeDtypeStruct(xs.shape, jnp.float32)
    assert jax.eval_shape(in_flax, quick.empty(make), xs).shape == ys.shape


# ------------------------------------------------------------------------------------------ errors


def check_errors(make, shape=()):
    """What does not fit is refused by name: carries, inputs, ways to call a cell."""
    cell, xs = quick.empty(make), jnp.ones((T, N, *shape, F))
    kind, x = type(cell).__name__, xs[0]

    carry = cell.initialize_carry(x.shape)
    with pytest.raises(ValueError, match=r"fresh state|carry of"):
        nn.unroll(cell, xs[:, :1], carry)
    for carry in ("v", jnp.zeros(x.shape, jnp.int32), (1, 2, 3, 4, 5, 6, 7)):
        with pytest.raises((ValueError, TypeError), match="carry"):
            nn.unroll(cell, xs, carry)

    of_integers = jax.ShapeDtypeStruct(xs.shape, jnp.int32)
    # A Linear takes integers, as Flax's does; here strict promotion refuses them.
    with pytest.raises((TypeError, jax.dtypes.TypePromotionError), match=r"floating|dtype"):
        jax.eval_shape(nn.unroll, cell, of_integers)

    call = rf"{kind} is a cell: carry, y = cell\(carry, x\)"
    with pytest.raises(TypeError, match=f"{call}.* got one argument.*unroll"):
        cell(x)
    with pytest.raises(TypeError, match=f"{call}.* got the carry last"):
        cell(x, (x, x))
    with pytest.raises(TypeError, match=rf"{call}.* use jaxsnn\.nn\.Sequential"):
        nn.unroll(nnx.Sequential(cell), xs)


# ------------------------------------------------------------------------------ export, diagnosis


def check_export(make, shape=()):
    """A cell can be exported with an open batch and an open number of time steps."""
    module = quick.empty(make)
    xs = sequence(("b", *shape, F), "t", jnp.float32)
    programs = [whole(module, xs), *streaming(module, xs)]
    found = {p.name: jax.eval_shape(p.function, *p.inputs) for p in programs}
    sizes = found["run"].shape
    assert [str(size) for size in sizes[:2]] == ["t", "b"]
    assert sizes[1:] == found["step"][1].shape
    assert found["start"] == found["step"][0]


def check_diagnosis(make, shape=(), *, fires=True):
    """The doctor's rates and outputs are those of `unroll`, and there is a gradient."""
    steps, sequences = 10, 8
    cell = make()
    xs = jax.random.uniform(jax.random.key(0), (steps, sequences, *shape, F), minval=-1, maxval=3)
    report = jaxsnn.doctor(nn.Sequential(cell), xs)
    _, ys, extras = nn.unroll(cell, xs, key=jax.random.key(0), record="*")
    assert report.loss == pytest.approx(float(jnp.mean(ys)), rel=1e-5)  # summed in another order
    spiking = [layer for layer in report.layers if layer.rate is not None]
    assert bool(spiking) == any(hasattr(m, "surrogate_function") for _, m in nnx.iter_modules(cell))
    assert all(layer.window is not None for layer in spiking)
    outputs = {f"0.{path}": value for path, value in extras.records.items()} | {"0": ys}
    for layer in spiking if fires else ():
        rate = float(jnp.mean(jnp.abs(outputs[layer.path])))
        assert layer.rate == pytest.approx(rate, abs=1e-6)
    assert max(report.layers[0].gradient_by_step) > 0
