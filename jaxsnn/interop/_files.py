"""Files of named arrays: `.npz`, `.safetensors` and, where torch is installed, `.pth`."""

import io
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxsnn._replace import replace


def read(source: Mapping[str, Any] | str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of a mapping or a file, by name.

    Raises:
        TypeError: it is neither, or something in it is not an array.
        ValueError: the file is damaged, or of another kind.
        OSError: it cannot be read.
        ImportError: the package that reads such files is not there.
    """
    if isinstance(source, Mapping):
        return {str(name): array(str(name), value) for name, value in source.items()}
    if not isinstance(source, str | os.PathLike):
        raise TypeError(
            "source must be a mapping of names to arrays, e.g. a torch state_dict, or the path of "
            f"a file, got {type(source).__name__}"
        )
    path = pathlib.Path(source)
    path.open("rb").close()  # for errors of the system as they are, folders included
    if path.suffix not in _READERS:
        raise ValueError(f"{path} must end in .npz, .safetensors, .pth or .pt")
    return _READERS[path.suffix](path)


def write(path: str | os.PathLike[str], arrays: dict[str, Any]) -> None:
    """Writes `arrays` as the suffix says, the whole file or nothing.

    Raises:
        ValueError: it says something else than `.npz` or `.safetensors`.
        OSError: it cannot be written.
    """
    path = pathlib.Path(path)
    if path.suffix == ".npz":
        content = io.BytesIO()
        np.savez(content, **arrays)
        replace(path, content.getvalue())
    elif path.suffix == ".safetensors":
        replace(path, import_safetensors().save(arrays))
    else:
        raise ValueError(f"{path} must end in .npz or .safetensors")


def import_safetensors() -> Any:
    """safetensors, or an error that says how to get it."""
    try:
        import safetensors.numpy
    except ModuleNotFoundError as error:
        raise ImportError(
            'files in the format of safetensors need pip install "jaxsnn-nnx[interop]", or from '
            'source pip install -e ".[interop]"'
        ) from error
    return safetensors.numpy


def _read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        # Opened here: of a damaged file NumPy leaves its own open.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception as error:  # zipfile, zlib and NumPy raise many kinds
        raise _damaged(path, "not an .npz of plain arrays", error) from error


def _read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    load_file = import_safetensors().load_file
    try:
        return read(load_file(path))
    except Exception as error:  # its own kind, KeyError for a dtype that is not NumPy's, ...
        raise _damaged(path, "not in the format of safetensors", error) from error


def _read_torch(path: pathlib.Path) -> dict[str, np.ndarray]:
    """A state_dict, or the one among the other entries of a checkpoint."""
    try:
        import torch
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{path} can be read with torch only (pip install torch); or save its state_dict with "
            "torch as .npz or .safetensors"
        ) from error
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds
        more = "holds more than tensors and numbers; write torch.save(net.state_dict(), path)"
        raise _damaged(path, more, error) from error
    entries = [saved, *saved.values()] if isinstance(saved, Mapping) else []
    found = [part for part in entries if _is_state_dict(part)]
    if len(found) != 1:
        raise ValueError(
            f"{path} must hold a state_dict, or one among other entries, got "
            f"{list(saved) if entries else type(saved).__name__}; pass the right one of "
            "torch.load(path, weights_only=True)"
        )
    try:
        return read(found[0])
    except TypeError as error:
        raise ValueError(f"{path}: {error}") from error


_READERS = {
    ".npz": _read_npz,
    ".safetensors": _read_safetensors,
    ".pth": _read_torch,
    ".pt": _read_torch,
}


def _damaged(path: pathlib.Path, otherwise: str, error: Exception) -> ValueError:
    # Not with what the error says: NumPy and torch recommend to read pickles.
    return ValueError(f"{path} is damaged, or {otherwise} ({type(error).__name__})")


def _is_state_dict(value: Any) -> bool:
    tensors = [*value.values()] if isinstance(value, Mapping) else []
    return bool(tensors) and all(hasattr(tensor, "detach") for tensor in tensors)


def array(name: str, value: Any) -> np.ndarray:
    """An array of NumPy, JAX or torch as one of NumPy; bfloat16 becomes float32, which is exact."""
    if hasattr(value, "detach"):  # torch's
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
        if value.is_sparse or value.is_quantized or value.is_complex():
            raise TypeError(f"{name} must be a dense tensor of real numbers, got {value.type()}")
        return np.asarray(value.numpy())
    if not hasattr(value, "dtype") or not hasattr(value, "shape"):
        raise TypeError(f"{name} must be an array, got {type(value).__name__}")
    return plain(value)


def plain(array: Any) -> np.ndarray:
    """An array of NumPy's own dtypes, each number in its place in memory."""
    array = np.asarray(array)
    return np.array(array, np.float32 if array.dtype.name == "bfloat16" else None, order="C")
