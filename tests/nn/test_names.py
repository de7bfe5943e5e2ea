"""Layers that Flax has, and their variants, have Flax's names of arguments and variables."""

import inspect

import pytest
from flax import nnx

from jaxsnn import nn


def arguments(of):
    """The names of a function's arguments, of a class's, or of the class of a layer."""
    kind = type(of) if isinstance(of, nnx.Module) else of
    function = kind.__init__ if isinstance(kind, type) else kind
    return set(inspect.signature(function).parameters) - {"self", "kwargs"}


def variables(layer):
    return {name: type(v) for name, v in vars(layer).items() if isinstance(v, nnx.Variable)}


def layers():
    """Each layer, Flax's layers and functions with its arguments, and names that Flax lacks."""
    rngs = nnx.Rngs(0)
    linear, conv = nnx.Linear(4, 3, rngs=rngs), nnx.Conv(2, 3, (3, 3), rngs=rngs)
    norm = nnx.BatchNorm(3, rngs=rngs)
    dropped = {"invariant", "activation"}
    yield nn.Linear(4, 3, rngs=rngs), [linear], set()
    yield nn.contrib.WSLinear(4, 3, rngs=rngs), [linear, nnx.WeightNorm], {"gain"}
    yield nn.contrib.DropConnectLinear(4, 3, rngs=rngs), [linear, nnx.Dropout], dropped
    yield nn.Conv(2, 3, (3, 3), rngs=rngs), [conv], set()
    yield nn.contrib.WSConv(2, 3, (3, 3), rngs=rngs), [conv, nnx.WeightNorm], {"gain"}
    yield nn.BatchNorm(3), [norm], set()
    yield nn.contrib.ThresholdDependentBatchNorm(3), [norm], {"alpha", "v_threshold"}
    yield nn.contrib.BatchNormThroughTime(5, 3), [norm], {"T"}
    yield (
        nn.contrib.TemporalEffectiveBatchNorm(5, 3),
        [norm],
        {"T"},
    )  # the variables are in its `norm`
    yield nn.Dropout(), [nnx.Dropout], set()
    yield nn.Dropout2d(), [nnx.Dropout], set()
    yield nn.MaxPool((2, 2)), [nnx.max_pool], set()
    yield nn.AvgPool((2, 2)), [nnx.avg_pool], set()


def test_names_of_flax():
    for layer, of_flax, more in layers():
        name = type(layer).__name__
        known = set().union(*map(arguments, of_flax))
        assert arguments(layer) - known == more, name
        ours, theirs = variables(getattr(layer, "norm", layer)), variables(of_flax[0])
        assert {n: kind for n, kind in ours.items() if n not in more}.items() <= theirs.items(), (
            name
        )
        if "BatchNorm" in name:
            assert {"scale", "mean", "var"} <= set(ours), name


def test_a_name_of_contrib_is_found():
    with pytest.raises(AttributeError, match=r"no attribute 'QIFNode'; it is jaxsnn\.nn\.contrib"):
        nn.QIFNode  # noqa: B018
    with pytest.raises(AttributeError, match=r"no attribute 'NoNode'$"):
        nn.NoNode  # noqa: B018
