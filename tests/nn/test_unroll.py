"""`unroll`: schedules, shapes of layers without state, Flax's cells, images, what it refuses."""

import functools
import operator

import golden_arrays
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick
from flax import nnx

from jaxsnn import models, nn, surrogate


def test_layers_without_state_have_an_empty_carry():
    xs = quick.uniform((5, 3, 4), -1, 1)
    for layer in (nn.Linear(4, 2, rngs=nnx.Rngs(0)), jnp.tanh, jax.nn.relu):
        carry, ys = nn.unroll(layer, xs)
        assert carry == ()
        np.testing.assert_allclose(ys, jnp.stack([layer(x) for x in xs]), rtol=1e-6, atol=1e-6)


def test_a_layer_sees_one_time_step():
    """A function that reduces over the batch must not mix time steps."""
    xs = quick.uniform((5, 3, 4), -1, 1)
    _, ys = nn.unroll(nn.Sequential(lambda x: x - x.mean(0, keepdims=True)), xs)
    np.testing.assert_allclose(ys, xs - xs.mean(1, keepdims=True), rtol=1e-6)


def test_without_a_batch_axis():
    xs = quick.uniform((5, 4))
    net = nn.Sequential(nn.Linear(4, 3, rngs=nnx.Rngs(0)), nn.IFNode())
    _, ys = nn.unroll(net, xs)
    _, batched = nn.unroll(net, xs[:, None])
    np.testing.assert_allclose(ys, batched[:, 0])


def test_convolutional_containers():
    rngs = nnx.Rngs(0)
    net = nn.ElementWiseRecurrentContainer(
        nn.Sequential(nn.Conv(2, 2, (3, 3), padding=1, rngs=rngs), nn.IFNode(v_threshold=0.2)),
        operator.add,
    )
    xs = quick.uniform((4, 3, 6, 5, 2))
    (sub_carry, y), ys = nn.unroll(net, xs)
    assert ys.shape == xs.shape
    assert jnp.any(ys)
    assert y.shape == sub_carry[1].shape == (3, 6, 5, 2)
    assert net.num_feature_axes == 3
    batch_major = nnx.RNN(net)(xs.swapaxes(0, 1))  # time is found before the 3 feature axes
    np.testing.assert_allclose(batch_major.swapaxes(0, 1), ys)


class OfImages(nn.Cell):
    """A cell of a user's own around a convolution."""

    def __init__(self, *, rngs):
        self.conv = nn.Conv(3, 3, (3, 3), padding=1, rngs=rngs)

    def initialize_carry(self, input_shape, rngs=None, *, dtype=jnp.float32):
        return jnp.zeros(input_shape, dtype)

    def __call__(self, carry, x):
        return carry + x, self.conv(carry)


def test_feature_axes_follow_the_layers():
    rngs = nnx.Rngs(0)
    assert nn.IFNode().num_feature_axes == 1
    assert nn.Sequential(nn.IFNode()).num_feature_axes == 1
    assert nn.Sequential(nn.IFNode(), nn.Conv(1, 2, (3, 3), rngs=rngs)).num_feature_axes == 3
    assert nn.Sequential(nn.Linear(3, 3, rngs=rngs)).num_feature_axes == 1
    assert OfImages(rngs=rngs).num_feature_axes == 3
    assert nn.LinearRecurrentContainer(nn.IFNode(), 3, 3, rngs=rngs).num_feature_axes == 1
    assert nn.Residual(nn.MaxPool((2,)), nn.IFNode()).num_feature_axes == 2
    assert nn.Sequential(jnp.tanh, nnx.GRUCell(3, 3, rngs=rngs)).num_feature_axes == 1
    images = jnp.ones((4, 2, 6, 5, 3))  # a bare neuron cannot know: time first is the safe way
    assert nnx.RNN(nn.IFNode(), time_major=True)(images).shape == images.shape


@pytest.mark.parametrize("cls", [nnx.GRUCell, nnx.OptimizedLSTMCell, nnx.SimpleCell])
def test_flax_cells_join_in(cls):
    cell = cls(4, 3, rngs=nnx.Rngs(0))
    net = nn.Sequential(cell, nn.Linear(3, 2, rngs=nnx.Rngs(1)), nn.IFNode(v_threshold=0.1))

    def runs(cell, net, xs):
        carry, ys = nn.unroll(net, xs)
        first = net.initialize_carry((2, 4), nnx.Rngs(2))
        alone = nn.unroll(cell, xs)[1], nnx.RNN(cell, time_major=True)(xs)
        return first, carry, ys, nn.unroll(net, xs, carry)[1], alone

    first, carry, ys, tail, (alone, expected) = quick.run_once(
        runs, cell, net, quick.uniform((5, 2, 4), -1, 1)
    )
    np.testing.assert_allclose(alone, expected, rtol=1e-6)
    assert jax.tree.map(jnp.shape, carry) == jax.tree.map(jnp.shape, first)
    assert tail.shape == ys.shape == (5, 2, 2)


def test_streaming_can_cut_the_gradient():
    """Truncated backpropagation: stop_gradient on the carry between two stretches."""
    xs = jnp.full((4, 1, 1), 0.3)

    def total(x0, cut):
        carry, _ = nn.unroll(nn.LIFNode(), xs.at[0].set(x0))
        carry = jax.lax.stop_gradient(carry) if cut else carry
        return jnp.sum(nn.unroll(nn.LIFNode(), xs, carry)[1])

    assert jax.grad(total)(0.3, False) != 0
    assert jax.grad(total)(0.3, True) == 0


@pytest.mark.parametrize(
    ("xs", "message"),
    [
        (jnp.float32(1.0), "time first, got a scalar"),
        (jnp.zeros((0, 3, 4)), r"at least one time step, got shape \[0, 3, 4\]"),
    ],
)
def test_bad_sequences(xs, message):
    with pytest.raises(ValueError, match=message):
        nn.unroll(nn.IFNode(), xs)


def test_a_sequence_without_an_axis_of_time():
    """The features would be taken for time steps."""
    with pytest.raises(ValueError, match=r"\[T, \.\.\., 4\], before a Linear, got \[4\]"):
        nn.unroll(nn.Sequential(nn.Linear(4, 3, rngs=nnx.Rngs(0)), nn.IFNode()), jnp.ones(4))


class RunsOverTime(nnx.Module):
    """A model, which takes a whole sequence."""

    def __init__(self):
        self.neuron = nn.IFNode()

    def __call__(self, xs):
        return nn.unroll(self.neuron, xs)[1]


def test_a_model_that_runs_over_time_is_no_layer():
    """It would take the examples of one step for time steps."""
    model, xs = RunsOverTime(), jnp.ones((3, 2, 4))
    in_a_stack = nn.Sequential(model, nn.IFNode())
    in_a_loop = nn.ElementWiseRecurrentContainer(model, jnp.add)
    for net in (model, in_a_stack, in_a_loop):
        with pytest.raises(ValueError, match="RunsOverTime calls unroll, so it takes a whole seq"):
            nn.unroll(net, xs)
    assert model(xs).shape == xs.shape  # the mark is gone after an error


def test_bad_modules():
    with pytest.raises(TypeError, match="module must be callable, got 3"):
        nn.unroll(3, jnp.ones((2, 3)))
    with pytest.raises(TypeError, match="layer 1 of Sequential must be callable, got 'IF'"):
        nn.Sequential(nn.IFNode(), "IF")


def test_wrong_features_are_named():
    net = nn.Sequential(nn.Linear(28, 3, rngs=nnx.Rngs(0)), nn.IFNode())
    with pytest.raises(ValueError, match=r"in_features=28.*got \[5, 2, 27\]"):
        nn.unroll(net, jnp.ones((5, 2, 27)))
    conv = nn.Conv(3, 4, (3, 3), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"got \[2, 3, 8, 8\]; channels are first here, jnp.move"):
        nn.unroll(conv, jnp.ones((5, 2, 3, 8, 8)))
    with pytest.raises(ValueError, match=r"got \[8, 3\]; over time xs is \[T, N, \.\.\.\]"):
        nn.unroll(conv, jnp.ones((8, 8, 3)))


def test_functions_that_hide_a_module_are_refused():
    """Its parameters would be neither trained nor kept up to date."""
    layer = nn.Linear(4, 4, rngs=nnx.Rngs(0))
    for function in (layer.__call__, lambda x: layer(x)):
        with pytest.raises(TypeError, match=r"holds the module Linear.*pass the module itself"):
            nn.Sequential(function, nn.IFNode())
        with pytest.raises(TypeError, match="holds the module Linear"):
            nn.unroll(function, jnp.ones((2, 3, 4)))
        with pytest.raises(TypeError, match="holds the module Linear"):
            nn.ElementWiseRecurrentContainer(function, operator.add)


def test_forgotten_parentheses_are_named():
    with pytest.raises(TypeError, match=r"got the class IFNode; write IFNode\(\)"):
        nn.Sequential(nn.IFNode)
    with pytest.raises(TypeError, match="surrogate_function must be an instance, got the class"):
        nn.IFNode(surrogate_function=surrogate.ATan)


def test_a_carry_of_another_dtype_is_refused():
    xs = jnp.ones((2, 3, 4))
    for dtype in ("bfloat16", "float16"):
        with pytest.raises(TypeError, match=f"has dtype {dtype}.* kept in float32"):
            nn.unroll(nn.LIFNode(), xs, jnp.zeros((3, 4), dtype))
    with pytest.raises(ValueError, match="has no state, so its carry must be"):
        nn.unroll(nn.Linear(4, 4, rngs=nnx.Rngs(0)), xs, jnp.zeros(3))


def test_bad_sizes_and_streams():
    with pytest.raises(ValueError, match="in_features must be at least 1, got 0"):
        nn.Linear(0, 3, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="out_features must be at least 1, got -2"):
        nn.Conv(3, -2, (3, 3), rngs=nnx.Rngs(0))
    with pytest.raises(
        TypeError, match=r"rngs must be flax\.nnx\.Rngs, e\.g\. nnx\.Rngs\(0\), got 0"
    ):
        nn.Linear(3, 3, rngs=0)


def test_numpy_numbers_are_numbers():
    assert nn.LIFNode(tau=np.float32(2), v_threshold=jnp.float32(0.5)).v_threshold == 0.5
    assert nn.Linear(np.int64(3), 2, rngs=nnx.Rngs(0)).in_features == 3


def long_network():
    rngs = nnx.Rngs(0)
    return nn.Sequential(
        nn.Linear(4, 16, rngs=rngs),
        nn.LinearRecurrentContainer(nn.IFNode(v_threshold=0.3), 16, 16, rngs=rngs),
        nn.SynapseFilter(3.0, learnable=True),
        nn.Linear(16, 2, rngs=rngs),
        nn.LIFNode(v_threshold=0.3),
    )


def both_ways(every, net, xs, carry):
    """Loss and gradients, from fresh state and from a carry; state and outputs."""
    weights = jnp.arange(30.0)[:, None, None]

    def loss(net, xs, start):
        return jnp.sum(nn.unroll(net, xs, start, checkpoint_every=every)[1] * weights)

    gradients = [jax.value_and_grad(loss, (0, 1))(net, xs, start) for start in (None, carry)]
    return gradients, nn.unroll(net, xs, checkpoint_every=every)


def long_inputs():
    net, xs = long_network(), quick.uniform((30, 3, 4))
    return net, xs, jax.tree.map(lambda state: state + 0.05, nn.unroll(net, xs)[0])


STRETCHES = [7, 12]  # with a remainder of 2 and of 6


@functools.cache
def checkpointed():
    """`both_ways` by the length of a stretch."""
    inputs = long_inputs()
    return golden_arrays.all_at_once(
        {every: (functools.partial(both_ways, every or None), *inputs) for every in (0, *STRETCHES)}
    )


@pytest.mark.parametrize("every", STRETCHES)
def test_checkpointing_changes_no_number(every):
    (plain, (expected, ys_expected)), (rerun, (after, ys)) = (checkpointed()[k] for k in (0, every))
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(rerun), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)  # sums in another order
    np.testing.assert_array_equal(ys, ys_expected)
    assert jax.tree.structure(after) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def test_one_stretch_is_the_same_program():
    inputs = long_inputs()
    plain, whole, longer = (
        str(jax.make_jaxpr(functools.partial(both_ways, every))(*inputs))
        for every in (None, 30, 100)
    )
    assert plain == whole == longer


@pytest.mark.slow
def test_checkpointing_saves_memory():
    """XLA's own account: from linear in T to about its square root."""
    net = long_network()

    def temporary(steps, every):
        def rate(net, xs):
            return jnp.mean(nn.unroll(net, xs, checkpoint_every=every)[1])

        xs = jax.ShapeDtypeStruct((steps, 64, 4), jnp.float32)
        compiled = jax.jit(jax.grad(rate)).lower(net, xs).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    everything = temporary(1024, None)
    assert everything > 3.5 * temporary(256, None)
    assert temporary(1024, 32) < 0.25 * everything


def test_bad_checkpoint_every():
    xs = jnp.ones((4, 3))
    with pytest.raises(ValueError, match="checkpoint_every must be at least 1, got 0"):
        nn.unroll(nn.IFNode(), xs, checkpoint_every=0)
    with pytest.raises(TypeError, match=r"checkpoint_every must be an integer, got 1\.5"):
        nn.unroll(nn.IFNode(), xs, checkpoint_every=1.5)
    _, ys = nn.unroll(jnp.tanh, xs, checkpoint_every=2)  # nothing to keep, nothing lost
    np.testing.assert_allclose(ys, jnp.tanh(xs))


def test_layers_that_draw_weights_ask_for_streams():
    for make in (
        lambda: nn.Linear(3, 4),
        lambda: nn.contrib.WSConv(3, 4, (3, 3)),
        lambda: nn.LinearRecurrentContainer(nn.IFNode(), 3, 4),
        lambda: nn.contrib.SpikingSelfAttention(8),
        lambda: models.PlainNet(),
    ):
        with pytest.raises(TypeError, match=r"rngs is missing.*pass rngs=nnx.Rngs\(0\)"):
            make()


def test_a_part_of_a_stack_is_a_stack():
    rngs = nnx.Rngs(0)
    net = nn.Sequential(nn.Linear(4, 4, rngs=rngs), nn.LIFNode(), nn.Linear(4, 3, rngs=rngs))
    repr(net)
    xs = jnp.ones((3, 2, 4))
    carry, ys = nn.unroll(net, xs)
    head, tail = net[:-1], net[-1:]
    assert list(head) == [net[0], net[1]]
    assert tail[0] is net[-1]
    of_head, features = nn.unroll(head, xs)
    np.testing.assert_array_equal(nn.unroll(tail, features)[1], ys)
    assert jax.tree.structure(of_head) == jax.tree.structure(carry[:-1])
    jax.eval_shape(nn.unroll, net[1:], xs, carry[1:])

    net[-1] = nn.Linear(4, 5, rngs=rngs)
    assert jax.eval_shape(nn.unroll, net, xs)[1].shape == (3, 2, 5)
    net[1:] = [nn.IFNode()]
    assert repr(net[1]).startswith("IFNode")
    assert len(nn.Sequential(*net, jax.nn.relu)) == 3
    for index, error, text in (
        (5, IndexError, "out of range"),
        (0, TypeError, "layer 0 of Sequential must be callable, got 3"),
    ):
        with pytest.raises(error, match=text):
            net[index] = 3


@pytest.mark.parametrize("kind", [nn.Conv, nn.contrib.WSConv])
def test_the_window_of_a_convolution_has_a_size_per_axis(kind):
    """In torch 3 is a square, in Flax a window along one axis."""
    with pytest.raises(TypeError, match=r"one size per axis.*\(3, 3\) for images.*got 3"):
        kind(1, 8, 3, rngs=nnx.Rngs(0))
    along_one_axis = kind(1, 2, (3,), rngs=nnx.Rngs(0))
    assert along_one_axis(jnp.ones((2, 6, 1))).shape == (2, 6, 2)


def test_a_missing_axis_of_channels_is_named():
    conv = nn.Conv(1, 2, (3, 3), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"xs\[\.\.\., None\] adds the missing axis"):
        nn.unroll(conv, jnp.ones((5, 2, 6, 6)))
    with pytest.raises(ValueError, match=r"got \[2, 1, 6, 6\]; channels are first"):
        nn.unroll(conv, jnp.ones((5, 2, 1, 6, 6)))
