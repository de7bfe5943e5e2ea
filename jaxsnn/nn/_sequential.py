"""A stack of layers, with or without state."""

import itertools
from collections.abc import Iterator
from typing import Any, final

from flax import nnx

from jaxsnn import _checks
from jaxsnn.nn._elementwise import is_elementwise, run_elements
from jaxsnn.nn._module import Module
from jaxsnn.nn._run import Run


class Sequential(Module):
    """Layers one after the other.

    Args:
        *layers: cells (neurons, synapses, containers, Flax's recurrent cells) and stateless
            layers, i.e. any other callable (`Linear`, `Conv`, `jax.nn.relu`, ...).

    Carry: a tuple with one entry per layer, `()` for the stateless ones.

    `net[2]` is a layer and `net[:2]` the stack of the first two, with the same parameters; their
    carry is `carry[:2]`. `net[2] = layer` replaces a layer, and `Sequential(*net, layer)` adds one.

    Raises:
        TypeError: a layer is not callable.

    Examples:
        >>> rngs = nnx.Rngs(0)
        >>> net = Sequential(Linear(28, 32, rngs=rngs), IFNode(), Linear(32, 10, rngs=rngs))
        >>> carry, y = unroll(net, jnp.zeros((5, 2, 28)))
        >>> y.shape
        (5, 2, 10)
        >>> unroll(net[:2], jnp.zeros((5, 2, 28)))[1].shape  # the features of the hidden layer
        (5, 2, 32)
    """

    def __init__(self, *layers: Any) -> None:
        for k, layer in enumerate(layers):
            _checks.function(f"layer {k} of Sequential", layer)
        self.layers = nnx.List(layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.layers)

    def __getitem__(self, index: int | slice) -> Any:
        found = list(self.layers)[index]
        return Sequential(*found) if isinstance(index, slice) else found

    def __setitem__(self, index: int | slice, layer: Any) -> None:
        layers = list(self.layers)
        layers[index] = layer
        self.layers = Sequential(*layers).layers

    @final
    def forward(self, x: Any, run: Run) -> Any:
        """Layer by layer: each, or each row of element-wise cells, gets all steps in turn."""
        fuse = run.steps and run._in_rows
        named = self._children().items()
        for row, layers in itertools.groupby(named, lambda pair: fuse and is_elementwise(pair[1])):
            if row:
                names, cells = zip(*layers, strict=True)
                x = run_elements(cells, x, run, names)
            else:
                for name, layer in layers:
                    x = run._part(name, layer, x)
        return x

    def _children(self) -> dict[str, Any]:
        return {str(k): layer for k, layer in enumerate(self.layers)}
