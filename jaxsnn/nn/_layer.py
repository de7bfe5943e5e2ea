"""Modules without state, which are called as layers."""

from typing import Any, ClassVar, NoReturn, final

import jax.numpy as jnp

from jaxsnn.nn._module import Module
from jaxsnn.nn._run import Run


class Layer(Module):
    """Abstract: a module without state, which is called as a layer, `y = layer(x)`."""

    carries_state: ClassVar[bool] = False

    @final  # type: ignore[misc]  # is called without a carry
    def __call__(self, x: Any) -> Any:
        """The output in inference; a module that mixes time steps takes all, `[T, ...]`."""
        return Run(steps=True)._go("", self, None, jnp.asarray(x))[1]


class TrainsApart(Layer):
    """Abstract: a layer that behaves differently in training, that is `unroll(..., key=key)`.

    Flax's `module.train()` and `module.eval()` set `deterministic` and `use_running_average` of all
    layers that have them. Here both raise: a mode kept in a layer could contradict the call.
    """

    trains_apart: ClassVar[bool] = True

    def _refuse_mode(self, _: Any) -> NoReturn:
        raise ValueError(
            f"a jaxsnn {type(self).__name__} keeps no training mode, so train() and eval() change "
            "nothing; call unroll(module, xs, key=key) for training and unroll(module, xs) for "
            "inference"
        )

    deterministic = property(lambda self: True, _refuse_mode)
    use_running_average = property(lambda self: True, _refuse_mode)
