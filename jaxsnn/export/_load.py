"""`load` reads a file of programs and makes a network of it again."""

import io
import json
import os
import pathlib
import zipfile
from typing import Any

import jax
import jax.export
import numpy as np
from jaxtyping import Array, Shaped

FORMAT, VERSION = "jaxsnn.export", 1
METADATA = "metadata.json"


def check_flatbuffers() -> None:
    try:
        import flatbuffers  # noqa: F401  (JAX imports it, too late for a clear error)
    except ImportError as error:
        raise ImportError(
            "jaxsnn.export needs flatbuffers, in which JAX writes programs: "
            'pip install "jaxsnn-nnx[export]", or in a clone pip install -e ".[export]"'
        ) from error


def load(path: str | os.PathLike[str]) -> "Network":
    """Reads what `save` has written.

    The file holds programs. Running one means to trust whoever wrote it; see SECURITY.md.

    Args:
        path: of the file.

    Raises:
        ValueError: the file is damaged, or something else, or of a version that cannot be read.
        ImportError: flatbuffers is not installed.
        OSError: the file cannot be read.
    """
    check_flatbuffers()
    content = pathlib.Path(path).read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            metadata = json.loads(file.read(METADATA))
            other = _other_version(metadata)
            programs = {
                name: jax.export.deserialize(bytearray(file.read(f"{name}.bin")))
                for name in ([] if other else metadata["programs"])
            }
    except Exception as error:  # zipfile, json and JAX raise many kinds
        raise ValueError(
            f"cannot read {path}: it is damaged, no file of jaxsnn.export, or one for other "
            f"versions ({type(error).__name__}: {error})"
        ) from error
    if other:
        raise ValueError(f"cannot read {path}: {other}")
    return Network(path, metadata, programs)


def _other_version(metadata: dict[str, Any]) -> str:
    """The reason why another version is needed to read a file, else an empty string."""
    version, convention = metadata["version"], metadata["calling_convention"]
    if metadata["format"] != FORMAT or not isinstance(version, int) or version < VERSION:
        raise ValueError(f"format {metadata['format']!r}, version {version!r}")
    if version > VERSION:
        return (
            f"a newer jaxsnn wrote it, in version {version} of the format, and this one reads "
            f"version {VERSION}; upgrade, pip install -U jaxsnn-nnx"
        )
    first = jax.export.minimum_supported_calling_convention_version
    last = jax.export.maximum_supported_calling_convention_version
    if first <= convention <= last:
        return ""
    age, remedy = ("a newer", "upgrade jax") if convention > last else ("an older", "install it")
    return (
        f"{age} jax wrote it, {metadata['jax']}, with calling convention {convention}, and jax "
        f"{jax.__version__} here runs {first} to {last}; {remedy}, or save the network again"
    )


class Network:
    """The programs of a file; made by `load`.

    Attributes:
        metadata: versions, platforms, and inputs and outputs of each program: name, shape, dtype.
        programs: the programs themselves, `jax.export.Exported`, by name.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        metadata: dict[str, Any],
        programs: dict[str, jax.export.Exported],
    ) -> None:
        self.metadata, self.programs = metadata, programs
        self._path = path
        # Called as they are, they would be looked up anew at each call.
        self._compiled = {name: jax.jit(program.call) for name, program in programs.items()}

    def start(self, x: Shaped[Array | np.ndarray, "*shape"]) -> tuple[Shaped[Array, "..."], ...]:
        """The state before the first time step.

        Args:
            x: an input of one time step, `[N, ...]`. Only its shape counts.

        Returns:
            The carry, a flat tuple of arrays.

        Raises:
            ValueError: the file was written with `stream=False`, or the shape does not fit.
        """
        return self._call("start", x)

    def step(
        self,
        carry: tuple[Shaped[Array | np.ndarray, "..."], ...],
        x: Shaped[Array | np.ndarray, "*shape"],
    ) -> tuple[tuple[Shaped[Array, "..."], ...], Shaped[Array, "*out"]]:
        """One time step.

        Args:
            carry: the state, from `start` or the step before.
            x: the input of this time step, `[N, ...]`.

        Returns:
            `(carry, y)`: the new state and the output.

        Raises:
            ValueError: the file was written with `stream=False`, or a shape or dtype does not fit.
        """
        return self._call("step", carry, x)

    def run(self, xs: Shaped[Array | np.ndarray, "T *shape"]) -> Shaped[Array, "..."]:
        """A whole sequence.

        Args:
            xs: the sequence, time first, `[T, N, ...]`.

        Returns:
            The outputs of all time steps `[T, N, ...]`, or what the model makes of them.

        Raises:
            ValueError: a shape or dtype does not fit.
        """
        return self._call("run", xs)

    def _call(self, name: str, *inputs: Any) -> Any:
        if name not in self._compiled:
            raise ValueError(f"{self._path} has no {name}: it was saved with stream=False; use run")
        try:
            return self._compiled[name](*inputs)
        except Exception as error:
            if self.metadata["jax"] != jax.__version__:
                written = f"{self._path} was written by jax {self.metadata['jax']}"
                error.add_note(f"{written}, and this is jax {jax.__version__}.")
            raise
