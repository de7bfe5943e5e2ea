"""Neurons are declarations: constructor, checks, printing and documentation follow from fields."""

import inspect
import re
from dataclasses import KW_ONLY

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxsnn import functional, nn, surrogate
from jaxsnn.nn.constants import (
    Fraction,
    Negative,
    NonNegative,
    Positive,
    Real,
    Threshold,
    TimeConstant,
)


class Fading(nn.Neuron):
    """A neuron of ours.

    Args:
        decay: what is left of the potential after a step.
        twice: whether the input counts twice.
    """

    decay: Fraction = 0.5
    _: KW_ONLY
    twice: bool = False

    @staticmethod
    def step(v, x, *, decay, twice, **fire_and_reset):
        return functional.if_step(decay * v, 2 * x if twice else x, **fire_and_reset)


def test_the_constructor_follows_from_the_fields():
    parameters = inspect.signature(Fading).parameters
    assert [*parameters] == [
        *("decay", "twice", "v_threshold", "v_reset", "detach_reset", "surrogate_function")
    ]
    assert [p.name for p in parameters.values() if p.kind is p.KEYWORD_ONLY] == [*parameters][1:]
    assert str(parameters["decay"]) == "decay: Fraction = 0.5"
    assert str(parameters["v_reset"]) == "v_reset: Real | None = 0.0"
    assert Fading.decay == 0.5  # at the class the default
    neuron = Fading(0.25, v_reset=None, surrogate_function=surrogate.ATan())
    assert repr(neuron) == (
        "Fading(decay=0.25, twice=False, v_threshold=1.0, v_reset=None, detach_reset=False, "
        "surrogate_function=ATan(alpha=2.0, spiking=True))"
    )


def test_arguments_are_documented_once():
    """The docstring of a class has the arguments and sections of its step and its base class."""
    described = inspect.getdoc(Fading)
    arguments = described[described.index("Args:") : described.index("Constants:")]
    names = re.findall(r"^    (\w+):", arguments, re.MULTILINE)
    assert names == [*inspect.signature(Fading).parameters]
    assert "Raises:\n    TypeError: an argument is of the wrong type." in described
    own = inspect.getdoc(nn.AdaptiveLIFNode)
    assert "how far back the" in own  # its own words for `tau_a`
    assert "spike function of `h - A`" in own  # those of its step
    assert "Carry: the state `jaxsnn.functional.AdaptiveLIFState(v, a)`," in own
    assert own.count("v_reset:") == own.count("Examples:") == 1
    assert "Examples:" not in described  # those of `Neuron`


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"decay": 1.5}, ValueError, r"^decay must be between 0 and 1, got 1.5"),
        ({"decay": [0.5, 1.5]}, ValueError, r"^decay must be between 0 and 1, got 1.5"),
        ({"decay": np.array([0.5, np.nan])}, ValueError, "^decay must be finite"),
        ({"decay": nn.learnable(1.5)}, ValueError, r"^decay must be between 0 and 1, got 1.5"),
        ({"decay": nn.learnable(1.0)}, ValueError, r"^decay must start inside .*\(0, 1\)"),
        ({"decay": nn.learnable(0.9, (0, 0.5))}, ValueError, r"^decay must start inside .*0.5\)"),
        ({"decay": "a"}, TypeError, r"^decay must be a number, got 'a' \(str\)"),
        ({"decay": ["a"]}, TypeError, "^decay must be an array of numbers"),
        ({"decay": nnx.Param(jnp.ones(2))}, TypeError, r"^decay .*decay=nn.learnable\(value\)"),
        ({"twice": 1}, TypeError, r"^twice must be True or False, got 1 \(int\)"),
        ({"twice": nn.learnable(1.0)}, TypeError, "^twice cannot be learned"),
        ({"surrogate_function": surrogate.ATan}, TypeError, r"write ATan\(\)"),
        (
            {"dekay": 0.5},
            TypeError,
            r"^Fading.__init__\(\) got an .* 'dekay'",
        ),
    ],
)
def test_arguments_are_checked(arguments, error, message):
    with pytest.raises(error, match=message):
        Fading(**arguments)
    if "dekay" not in arguments:  # whenever an attribute is set
        neuron = Fading()
        with pytest.raises(error, match=message):
            setattr(neuron, *arguments.popitem())
        assert repr(neuron) == repr(Fading())


def test_an_argument_without_a_default_must_be_given():
    with pytest.raises(TypeError, match=r"^ExponentialSynapse.* missing 1 .*: 'tau'"):
        nn.ExponentialSynapse()
    with pytest.raises(AttributeError, match="no attribute 'tau'"):
        nn.ExponentialSynapse.tau  # noqa: B018
    with pytest.raises(ValueError, match=r"bounds must be \(low, high\), .* got \(3, 1\)"):
        nn.learnable(2.0, (3, 1))
    with pytest.raises(ValueError, match=r"got \(None, 1\); where there is no bound write"):
        nn.learnable(0.5, (None, 1))


def test_a_constant_may_change_its_kind():
    neuron = Fading()
    for value, leaves in (
        (nn.learnable(0.25), 1),
        (jnp.array([0.25, 0.75]), 1),
        (0.5, 0),
        (nn.learnable(np.array([0.25, 0.75])), 1),
        (np.array([0.25, 0.75]), 1),
    ):
        neuron.decay = value
        assert len(jax.tree.leaves(neuron)) == leaves
        assert ("w_decay" in vars(neuron)) == ("decay" in neuron.learned)
        expected = getattr(value, "value", value)
        np.testing.assert_allclose(neuron.decay, expected, 1e-6)
        again = nnx.merge(*nnx.split(neuron))
        np.testing.assert_array_equal(again.decay, neuron.decay)


def test_bounds_hold_and_contain_the_start():
    kinds = {TimeConstant: 3.0, Positive: 3.0, NonNegative: 3.0, Negative: -3.0, Fraction: 0.25}

    def bounded(low, high):
        class Bounded(nn.ElementwiseCell):
            c: Real = nn.learnable(3.0, (low, high))

            @staticmethod
            def step(v, x, c):  # settings may also be positional
                return v, c * x

        return Bounded()

    cells = []
    for kind, start in kinds.items():

        class OfKind(nn.ElementwiseCell):
            c: kind

            @staticmethod
            def step(v, x, *, c):
                return v, c * x

        cells.append((OfKind(nn.learnable(start)), start, *kind.__metadata__[0].bounds))
    for low, high in ((1, 9), (-np.inf, 5), (2, np.inf), (-np.inf, np.inf)):
        cells.append((bounded(low, high), 3.0, low, high))
    for cell, start, low, high in cells:
        np.testing.assert_allclose(cell.c, start, 1e-6)
        ends = []
        for w in (-9.0, 9.0):
            cell.w_c = nn.Constant(jnp.float32(w))
            assert low < cell.c < high
            ends.append(float(cell.c))
        assert abs(ends[0] - ends[1]) > 0.99 * min(high - low, 9)


def test_what_a_step_returns_is_checked():
    for returned, found in (
        (lambda v, x: (v, x[..., :1]), r"got \(\(2, 3\), \(2, 1\)\)"),
        (lambda v, x: ((v, v), x), r"got \(\(\(2, 3\), \(2, 3\)\), \(2, 3\)\)"),
        (lambda v, x: v, r"got \(2, 3\)"),
    ):

        class Wrong(nn.ElementwiseCell):
            step = returned

        with pytest.raises(TypeError, match=rf"^Wrong.step must return \(state, y\) .* {found}"):
            Wrong()(jnp.zeros((2, 3)), jnp.zeros((2, 3)))


def test_a_field_that_is_declared_again_stays_keyword_only():
    class Low(nn.LIFNode):
        v_threshold: Threshold = 0.5
        gain: float = 2.0

    assert [*inspect.signature(Low).parameters][:3] == ["tau", "gain", "decay_input"]
    assert (Low(3.0).tau, Low(3.0).v_threshold) == (3.0, 0.5)
    assert isinstance(Low(), nn.LIFNode)
    for value in (nn.learnable(1.0), "2"):
        with pytest.raises(TypeError, match=r"^gain (cannot be learned|must be a number)"):
            Low(gain=value)
    with pytest.raises(TypeError, match="value must be a number or an array, got what learnable"):
        nn.learnable(nn.learnable(1.0))


def test_arrays_must_fit_the_input():
    neuron = Fading(jnp.array([0.5, 0.25]), v_threshold=nn.learnable(np.ones((3, 2))))
    assert nn.unroll(neuron, jnp.ones((4, 5, 3, 2)))[1].shape == (4, 5, 3, 2)
    for shape in ((4, 5, 3, 3), (4, 5, 2), (4,)):
        with pytest.raises(ValueError, match=r"^v_threshold of Fading has the shape .3, 2., which"):
            nn.unroll(neuron, jnp.ones(shape))


def test_a_declaration_that_cannot_work_is_refused():
    def declare(name, **body):
        return type(nn.Neuron)(name, (nn.Neuron,), {"__module__": __name__, **body})

    with pytest.raises(TypeError, match="Without is abstract"):
        declare("Without")()
    for body, message in (
        ({"step": lambda self, v, x: (v, x)}, "must be a function of the state.* got self, v, x"),
        ({"step": lambda v: (v, v)}, r"without self, .* got v$"),
        ({"step": lambda v, x, *, gain: (v, x)}, "step takes gain, which the class does not decl"),
        (
            {"step": lambda v, x, *, gain, **_: (v, x)},
            "step takes gain, which the class does not d",
        ),
        ({"v_threshold": 2.0}, "v_threshold is a field: declare it with its annotation"),
        ({"__annotations__": {"tau": Real, "w": Real}}, "Neuron1.w has the name of the parameter"),
        ({"__annotations__": {"tau": "Unknown"}}, "annotation of Neuron1 cannot be .* 'Unknown'"),
    ):
        with pytest.raises(TypeError, match=message):
            declare("Neuron1", **body)
    named = {"__annotations__": {"tau": "TimeConstant"}, "step": lambda v, x: (v, x)}
    assert declare("Read", **named)(4.0).tau == 4.0


def test_several_base_classes():
    class Gain(nn.ElementwiseCell):
        """A mixin.

        Args:
            gain: factor of the input.
        """

        _: KW_ONLY
        gain: Real = 2.0

    class Louder(Gain, nn.LIFNode):
        """A LIF neuron with a gain.

        Note:
            This section stays.
        """

        @staticmethod
        def step(v, x, *, gain, **lif):
            return functional.lif_step(v, gain * x, **lif)

    class Doubled(nn.LIFNode, Gain):
        step = Louder.step

    xs = jnp.full((4, 2), 0.7)
    _, expected = nn.unroll(nn.LIFNode(3.0), 3.0 * xs)
    for kind in (Louder, Doubled):
        assert {*inspect.signature(kind).parameters} == {
            *inspect.signature(nn.LIFNode).parameters,
            "gain",
        }
        np.testing.assert_array_equal(nn.unroll(kind(3.0, gain=3.0), xs)[1], expected)
    described = inspect.getdoc(Louder)
    assert "Note:\n    This section stays." in described
    assert "    gain: factor" in described
    assert "    tau: membrane time constant" in described


def test_what_would_mislead_is_refused():
    class Own(nn.LIFNode):
        def __init__(self):
            super().__init__(3.0)

    with pytest.raises(TypeError, match=r"^Mine declares extra, which the __init__ of its base"):

        class Mine(Own):
            extra: Real = 1.0

    for name in ("settings", "learned", "state"):
        with pytest.raises(TypeError, match=f"^Mine.{name} cannot be a field: its base class"):
            type(nn.Neuron)("Mine", (nn.Neuron,), {"__annotations__": {name: Real}})
    with pytest.raises(ValueError, match=r"^c_decay can be learned within \(0, 1\) only, got .*-3"):
        nn.CUBALIFNode(c_decay=nn.learnable(0.5, (-3, 3)))
    with pytest.raises(TypeError, match=r"^param_dtype must be floating, got int32"):
        nn.learnable(2.5, param_dtype=jnp.int32)
    for value in ([], [[1.0], [1.0, 2.0]]):
        with pytest.raises(TypeError, match=r"^tau must be an array of numbers"):
            nn.LIFNode(value)
    with pytest.raises(
        ValueError, match=r"^v_reset of LIFNode has the shape \[3\], which does not"
    ):
        nn.LIFNode(v_reset=jnp.zeros(3)).initialize_carry((2, 4))


def test_synapse_filter_learns_by_either_spelling():
    start = nn.learnable(3.0)
    learned = nn.SynapseFilter(3.0, True), nn.SynapseFilter(start), nn.SynapseFilter(start, True)
    for synapse in learned:
        assert repr(synapse) == "SynapseFilter(tau=learnable(3.0))"
    synapse.tau = 4.0
    assert (synapse.learned, jax.tree.leaves(synapse)) == ({}, [])
    assert "learnable: whether the time constant is learned" in inspect.getdoc(nn.SynapseFilter)
    with pytest.raises(TypeError, match="learnable must be True or False, got 1"):
        nn.SynapseFilter(3.0, 1)
    per_neuron = nn.SynapseFilter(jnp.array([2.0, 3.0]), learnable=True)
    assert per_neuron.w.shape == (2,)


def test_several_attributes_are_checked_together_whenever_one_is_set():
    cells = {
        nn.contrib.QIFNode(): ("v_reset", 2.0, "v_reset must be less than v_threshold"),
        nn.DoubleExponentialSynapse(4.0, 2.0): ("tau_rise", 5.0, "tau_rise must be at most"),
        nn.BRFNode(): ("omega", np.full(3, 500.0), "omega must be less than 1/dt"),
        nn.BRFNode(dt=0.02): ("omega", nn.learnable(10.0), "omega must be less than 1/dt"),
    }
    for cell, (name, value, message) in cells.items():
        before = repr(cell)
        with pytest.raises(ValueError, match=message):
            setattr(cell, name, value)
        assert repr(cell) == before
        assert jax.tree.leaves(cell) == []


def test_a_kind_is_kept_when_a_field_is_declared_again():
    class Slow(nn.LIFNode):
        tau: float = 5.0

    assert Slow(nn.learnable(3.0)).learned
    with pytest.raises(ValueError, match=r"^tau must be greater than 1"):
        Slow(0.2)


def test_a_step_is_computed_in_the_dtype_of_the_state():
    """A step of one's own needs no conversions: its input comes in the dtype of the state."""

    class Leak(nn.ElementwiseCell):
        decay: Fraction = 0.5

        @staticmethod
        def step(v, x, *, decay):
            assert v.dtype == x.dtype == getattr(decay, "dtype", v.dtype) == jnp.float32
            v = decay * v + x
            return v, v

    xs = jnp.linspace(0.0, 1.0, 24, dtype=jnp.bfloat16).reshape(4, 3, 2)
    for decay in (0.5, nn.learnable(jnp.array([0.5, 0.25], jnp.bfloat16))):
        carry, ys = nn.unroll(Leak(decay), xs)
        expected, wide = nn.unroll(Leak(decay), xs.astype(jnp.float32))
        assert (carry.dtype, ys.dtype) == (jnp.float32, jnp.bfloat16)
        np.testing.assert_array_equal(carry, expected)
        np.testing.assert_array_equal(ys, wide.astype(jnp.bfloat16))


def test_a_constructor_of_ones_own_has_its_own_signature():
    class Norm(nn.BatchNorm):
        def __init__(self, a, b=3, *, rngs=None):
            super().__init__(a)

    assert str(inspect.signature(Norm)) == "(a, b=3, *, rngs=None)"
    assert Norm(4).num_features == 4


def test_a_part_may_be_a_function_and_then_a_module():
    block = nn.Residual(nn.IFNode())
    for part in (jax.nn.relu, nn.Linear(3, 3, rngs=nnx.Rngs(0)), jax.nn.relu, nn.IFNode()):
        block.branch = part
        _, ys = nn.unroll(block, jnp.ones((2, 1, 3)))
        assert ys.shape == (2, 1, 3)
