"""Parameters in the names and shapes of SpikingJelly, which are those of a torch `state_dict`.

Whatever SpikingJelly and this package share has a row in the table of `_layouts.py`.
"""

import os
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import nnx

from jaxsnn import _checks
from jaxsnn.interop import _files
from jaxsnn.interop._torch_names import entries, fill


def load(
    module: Any,
    source: Mapping[str, Any] | str | os.PathLike[str],
    *,
    prefix: str = "",
    strict: bool = True,
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
        prefix: beginning of the names to read, which is removed from them, e.g. `"module."` after
            `DataParallel`, or `"encoder."` for one part of a larger network. Arrays under other
            names are not read.
        strict: whether an array that is missing or unknown is an error. If False, the module keeps
            its own values for missing arrays, unknown arrays are left out, and a warning lists
            both. An array of another shape is an error in any case, as in torch.
        flatten_channels: for a layer that reads a flattened image, the number of channels that
            come into the `Flatten` of this name, where the layers before do not tell; or, where a
            module of your own flattens by itself, by the name of the layer that reads it.

    Returns:
        The copy.

    Raises:
        TypeError: `source` is neither, or something in it is not an array.
        ValueError: an array is missing, unknown or of another shape (one error lists all), no name
            begins with `prefix`, no array is read, a layer has no counterpart, the order of
            features is not known, or a file is damaged.
        OSError: a file cannot be read.
        ImportError: the package that reads such a file is not there.

    Examples:
        >>> net = Sequential(Linear(2, 3, rngs=nnx.Rngs(0)), IFNode())
        >>> net = load(net, {"0.weight": jnp.ones((3, 2)), "0.bias": jnp.zeros(3)})
        >>> net[0].kernel.shape
        (2, 3)
    """
    arrays = _files.read(source)
    where = "" if isinstance(source, Mapping) else f" in {os.fspath(source)}"
    if prefix:
        names = sorted(arrays)
        arrays = {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
        if not arrays:
            first = ", ".join(names[:3])
            raise ValueError(f"no name{where} begins with prefix={prefix!r}; the first are {first}")
    module = nnx.clone(module)
    known = entries(module, flatten_channels)
    shared = known.keys() & arrays.keys()
    if not _checks.boolean("strict", strict) and shared:
        missing = [name for name, e in known.items() if name not in shared and not e.optional]
        unknown = [name for name in arrays if name not in shared]
        known = {name: entry for name, entry in known.items() if name in shared}
        arrays = {name: array for name, array in arrays.items() if name in shared}
        if missing or unknown:
            warnings.warn(
                f"strict=False: missing{where} and left as they are: "
                f"{', '.join(missing) or 'none'}; not read: {', '.join(unknown) or 'none'}",
                stacklevel=2,
            )
    wrong = fill(known, arrays)
    if wrong:
        starts = ("module.", "_orig_mod.")  # written by torch's DataParallel and compile
        start = next((s for s in starts if all(name.startswith(s) for name in arrays)), None)
        prefixed = "" if start is None else f"; prefix={start!r} removes the beginning of the names"
        raise ValueError(
            f"the arrays{where} are not those of this {type(module).__name__}: {'; '.join(wrong)}. "
            f"Both must have the same layers under the same names{prefixed}"
            + (". strict=False leaves out missing and unknown arrays" if strict else "")
        )
    return module


def state_dict(
    module: Any, *, flatten_channels: Mapping[str, int] | None = None
) -> dict[str, np.ndarray]:
    """The parameters and running statistics of a module as SpikingJelly's twin of it has them.

    In torch, `twin.load_state_dict({k: torch.from_numpy(a) for k, a in arrays.items()})` takes
    them. `num_batches_tracked`, which torch counts and we do not, is 0; bfloat16, which NumPy does
    not have, becomes float32.

    Args:
        module: any module.
        flatten_channels: as in `load`.

    Returns:
        Arrays by name.

    Raises:
        ValueError: a layer, or a constant that it learns, has no counterpart, or the order of
            features is not known.

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
