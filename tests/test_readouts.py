"""Readouts; those of the membrane against SpikingJelly are in nn/test_nonspiking.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_arrays import Golden, assert_equal

from jaxsnn import readouts

READOUTS = [
    readouts.firing_rate,
    readouts.spike_count,
    readouts.first_spike_time,
    readouts.max_membrane,
    readouts.max_abs_membrane,
    readouts.mean_membrane,
    readouts.last_membrane,
]
OF_SPIKES = READOUTS[:3]


def test_each_readout():
    v_seq = jnp.array([[[0.5, -0.2]], [[-0.8, 0.6]], [[0.3, -0.1]]])
    for name, expected in {
        "max_membrane": [[0.5, 0.6]],
        "max_abs_membrane": [[-0.8, 0.6]],
        "mean_membrane": [[0.0, 0.1]],
        "last_membrane": [[0.3, -0.1]],
    }.items():
        np.testing.assert_allclose(getattr(readouts, name)(v_seq), expected, atol=1e-7)
    spikes = jnp.array([[[0.0, 0.0]], [[1.0, 0.0]], [[1.0, 0.0]], [[0.0, 0.0]]])
    assert_equal(readouts.firing_rate(spikes), [[0.5, 0.0]])
    assert_equal(readouts.spike_count(spikes), [[2.0, 0.0]])
    assert_equal(readouts.first_spike_time(spikes), [[1.0, 4.0]])


def test_a_tie_goes_to_the_negative_side():
    assert readouts.max_abs_membrane(jnp.array([[2.0], [-2.0]])) == -2.0


def test_first_spike_index_is_that_of_spikingjelly(precision):
    """There time is the last axis."""
    golden = Golden("losses_functional")
    spikes = jnp.moveaxis(golden.input("first_spike_index/spikes", precision), -1, 0)
    first = readouts.first_spike_index(spikes)
    assert first.dtype == bool
    assert_equal(jnp.moveaxis(first, 0, -1), golden.arrays["first_spike_index/out"])


@pytest.mark.parametrize("padded", [True, False], ids=["padded", "scattered"])
def test_a_ragged_batch_equals_each_sequence_alone(padded):
    """Values and gradients, for sequences with rubbish at the end or anywhere."""
    T, N, rng = 7, 4, np.random.default_rng(3)
    potentials = rng.normal(size=(T, N, 2, 3)).astype(np.float32)
    spikes = (potentials > 0.5).astype(np.float32)
    mask = np.arange(T)[:, None] < np.array([[T, 3, 1, 5]])
    mask = mask if padded else rng.permuted(mask, axis=0)
    sequences = {r: jnp.asarray(spikes if r in OF_SPIKES else potentials) for r in READOUTS}
    weights = jnp.arange(1.0, 7.0).reshape(1, 2, 3)

    def value_and_grad(readout, ys, **kwargs):
        out, pull = jax.vjp(lambda ys: readout(ys, **kwargs), ys)
        return out, pull(jnp.broadcast_to(weights, out.shape))[0]

    def results():
        for readout, ys in sequences.items():
            rubbish = jnp.where(mask[..., None, None], ys, jnp.nan)
            together = value_and_grad(readout, rubbish, mask=jnp.asarray(mask))
            alone = [value_and_grad(readout, ys[mask[:, n], n : n + 1]) for n in range(N)]
            yield together, alone

    compared = jax.jit(lambda: list(results()))()  # one compilation for all of it
    for readout, ((out, grad), alone) in zip(READOUTS, compared, strict=True):
        name = readout.__name__
        for n, (out_alone, grad_alone) in enumerate(alone):
            np.testing.assert_allclose(out[n], out_alone[0], rtol=1e-6, err_msg=name)
            at = mask[:, n]
            np.testing.assert_allclose(grad[at, n], grad_alone[:, 0], rtol=1e-6, err_msg=name)
        assert not np.any(np.asarray(grad)[~mask]), name


def test_no_step_that_counts_gives_zero():
    mask = jnp.array([[True, False]] * 3)

    @jax.jit
    def all_of(ys):
        return [
            jax.value_and_grad(lambda y, r=readout: jnp.sum(r(y, mask=mask)[1]))(ys)
            for readout in READOUTS
        ]

    for out, grad in all_of(jnp.ones((3, 2, 4))):
        assert out == 0
        assert np.all(np.isfinite(grad))


def test_dtypes():
    ys = jax.ShapeDtypeStruct((300, 2, 4), jnp.bfloat16)
    mask = jnp.ones((300, 2), bool)
    for readout in READOUTS:
        for kwargs in {}, {"mask": mask}:
            out = jax.eval_shape(lambda ys, r=readout, k=kwargs: r(ys, **k), ys)
            assert out.dtype == (jnp.float32 if readout in OF_SPIKES else jnp.bfloat16)
    counts = readouts.spike_count(jnp.ones((300, 2), jnp.bfloat16))
    assert_equal(counts, [300.0, 300.0])  # beyond bfloat16's integers


def test_gradient_of_the_first_spike_time():
    """More at the first spike counts as earlier, by all the steps that were left."""
    spikes = jnp.array([[0.0], [1.0], [1.0]])
    grad = jax.grad(lambda s: jnp.sum(readouts.first_spike_time(s)))(spikes)
    assert_equal(grad, [[0.0], [-2.0], [0.0]])


def test_a_mask_that_does_not_fit():
    ys = jnp.ones((3, 2, 4))
    with pytest.raises(TypeError, match="mask must be bool"):
        readouts.firing_rate(ys, mask=jnp.ones((3, 2)))
    with pytest.raises(ValueError, match="leading axes"):
        readouts.last_membrane(ys, mask=jnp.ones((2, 3), bool))
