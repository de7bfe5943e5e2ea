"""`load` reads a file of programs and makes a network of it again."""

import contextlib
import io
import json
import os
import pathlib
import zipfile
from collections.abc import Iterator
from typing import Any

import jax
import jax.export
import numpy as np
from jaxtyping import Array, Shaped

from jaxsnn.export._format import FORMAT, METADATA, VERSION, check_flatbuffers


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
    with _reading(path), zipfile.ZipFile(io.BytesIO(content)) as file:
        metadata = json.loads(file.read(METADATA))
        _check_versions(metadata)
        programs = {
            name: jax.export.deserialize(bytearray(file.read(f"{name}.bin")))
            for name in metadata["programs"]
        }
    return Network(path, metadata, programs)


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
            raise ValueError(
                f"{self._path} has no {name}: it was saved with stream=False and runs whole "
                "sequences only, with run(xs)"
            )
        try:
            return self._compiled[name](*inputs)
        except Exception as error:
            if self.metadata["jax"] != jax.__version__:
                error.add_note(
                    f"{self._path} was written by jax {self.metadata['jax']}, and this is jax "
                    f"{jax.__version__}; an older one may not know what a newer one writes."
                )
            raise


class _OtherVersionError(Exception):
    """Nothing is wrong with the file."""


def _check_versions(metadata: dict[str, Any]) -> None:
    if metadata["format"] != FORMAT:
        raise ValueError(f"its format is {metadata['format']!r}, not {FORMAT!r}")
    if metadata["version"] != VERSION:
        if isinstance(metadata["version"], int) and metadata["version"] > VERSION:
            raise _OtherVersionError(
                f"a newer jaxsnn wrote it, in version {metadata['version']} of the format, and "
                f"this one reads version {VERSION}; upgrade, pip install -U jaxsnn-nnx, or save "
                "the network again with this one"
            )
        raise ValueError(f"there is no version {metadata['version']!r} of the format")
    first = jax.export.minimum_supported_calling_convention_version
    last = jax.export.maximum_supported_calling_convention_version
    if not first <= metadata["calling_convention"] <= last:
        newer = metadata["calling_convention"] > last
        raise _OtherVersionError(
            f"{'a newer' if newer else 'an older'} jax wrote it, {metadata['jax']}, with calling "
            f"convention {metadata['calling_convention']}, and jax {jax.__version__} here runs "
            f"{first} to {last}; {'upgrade jax' if newer else 'install that one'}, or save the "
            "network again with this one"
        )


@contextlib.contextmanager
def _reading(path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except _OtherVersionError as error:
        raise ValueError(f"cannot read {path}: {error}") from None
    except Exception as error:  # zipfile, json and JAX raise many kinds
        raise ValueError(
            f"cannot read {path}: it is damaged, no file of jaxsnn.export, or one for other "
            f"versions ({type(error).__name__}: {error})"
        ) from error
