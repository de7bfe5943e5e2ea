"""Parameters in the names and shapes of SpikingJelly, which are those of a torch `state_dict`.

Whatever SpikingJelly and this package share has a row in the table of `_layouts.py`.
"""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import nnx

from jaxsnn.interop import _files
from jaxsnn.interop._torch_names import entries, fill


def load(
    module: Any,
    source: Mapping[str, Any] | str | os.PathLike[str],
    *,
    flatten_channels: Mapping[str, int] | None = None,
) -> Any:
    """A copy of a module with the parameters, and running statistics, of its twin in SpikingJelly.

    The twin has the same layers under the same names; a `Sequential` is torch's, the layers of
    which are called 0, 1, ... Arrays are transposed as their kind of layer needs, and converted to
    the dtype that they have in `module`.

    Args:
        module: any module, also a network of your own; it stays as it is.
        source: a `state_dict`, i.e. a mapping of names to arrays of NumPy, JAX or torch; or a file,
            `.npz`, `.safetensors`, or `.pth` and `.pt`, which torch reads, without running code
            in them. A file of torch may hold it beside other things, as checkpoints do.
        flatten_channels: for a layer that reads a flattened image, the number of channels that
            come into the `Flatten` of this name, where the layers before do not tell; or, where a
            module of your own flattens by itself, by the name of the layer that reads it.

    Returns:
        The copy.

    Raises:
        TypeError: `source` is neither, or something in it is not an array.
        ValueError: an array is missing, unknown or of another shape (one error says all), a layer
            has no counterpart, the order of features is not known, or a file is damaged.
        OSError: a file cannot be read.
        ImportError: the package that reads such a file is not there.

    Examples:
        >>> net = Sequential(Linear(2, 3, rngs=nnx.Rngs(0)), IFNode())
        >>> net = load(net, {"0.weight": jnp.ones((3, 2)), "0.bias": jnp.zeros(3)})
        >>> net[0].kernel.shape
        (2, 3)
    """
    arrays = _files.read(source)
    module = nnx.clone(module)
    wrong = fill(entries(module, flatten_channels), arrays)
    if wrong:
        prefixed = ""
        for prefix, writer in (("module.", "DataParallel"), ("_orig_mod.", "compile")):
            if all(name.startswith(prefix) for name in arrays):
                prefixed = f"; leave out the {prefix!r} before each, which torch's {writer} writes"
        where = "" if isinstance(source, Mapping) else f" in {os.fspath(source)}"
        raise ValueError(
            f"the arrays{where} are not those of this {type(module).__name__}: {'; '.join(wrong)}. "
            f"Both must have the same layers under the same names{prefixed}"
        )
    return module


def state_dict(
    module: Any, *, flatten_channels: Mapping[str, int] | None = None
) -> dict[str, np.ndarray]:
    """The parameters and running statistics of a module as SpikingJelly's twin of it has them.

    In torch, `twin.load_state_dict({k: torch.from_numpy(a) for k, a in arrays.items()})` takes
    them. What torch counts and we do not, `num_batches_tracked`, is 0; bfloat16, which NumPy does
    not have, becomes float32.

    Args:
        module: any module.
        flatten_channels: as in `load`.

    Returns:
        Arrays by name.

    Raises:
        ValueError: a layer has no counterpart, or the order of features is not known.

    Examples:
        >>> arrays = state_dict(Sequential(Linear(2, 3, rngs=nnx.Rngs(0)), IFNode()))
        >>> {name: array.shape for name, array in arrays.items()}
        {'0.weight': (3, 2), '0.bias': (3,)}
    """
    known = entries(module, flatten_channels)
    return {name: np.array(entry.read(), order="C") for name, entry in known.items()}


def save(
    module: Any,
    path: str | os.PathLike[str],
    *,
    flatten_channels: Mapping[str, int] | None = None,
) -> None:
    """Writes `state_dict(module)` to a file.

    Args:
        module: any module.
        path: the file, `.npz` or `.safetensors`.
        flatten_channels: as in `load`.

    Raises:
        ValueError: as `state_dict`; or the path has another suffix.
        OSError: it cannot be written.
        ImportError: safetensors is not there.
    """
    _files.write(path, state_dict(module, flatten_channels=flatten_channels))
