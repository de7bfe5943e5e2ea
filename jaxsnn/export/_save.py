"""`save` writes a network as a file of programs."""

import contextlib
import io
import json
import os
import pathlib
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.export
import jax.numpy as jnp

from jaxsnn import _checks
from jaxsnn._replace import replace
from jaxsnn.export._load import FORMAT, METADATA, VERSION, check_flatbuffers
from jaxsnn.export._programs import sequence, streaming, whole

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def save(
    path: str | os.PathLike[str],
    module: Any,
    input_shape: Sequence[int | str],
    *,
    steps: int | str = "t",
    stream: bool = True,
    dtype: Any = jnp.float32,
    platforms: Sequence[str] | None = None,
) -> None:
    """Writes a network as a file that runs with JAX alone.

    It runs as in inference. How products are rounded (`jax_default_matmul_precision`) becomes
    part of the file. Nothing is differentiated later.

    Args:
        path: of the file, e.g. `net.zip`. One that is there is replaced.
        module: a cell or module, e.g. a `Sequential` or an `nn.Module` of your own, or any other
            model from whole sequences to outputs. The step of a `Classifier` is the step of its
            `stack`, the step of the three networks of the experiment is the step of `fc`.
        input_shape: shape of the input of one time step, as a rule `("b", features)`. A name in
            place of a number leaves the size open.
        steps: number of time steps of a sequence; a name leaves it open.
        stream: whether `start` and `step` are written. False for modules that need whole sequences
            (`PSN`, `Bidirectional`, and all others that call `run.require_whole_sequence`), and for
            models that are no `nn.Module`.
        dtype: dtype of the inputs.
        platforms: where it is to run, some of `"cpu"`, `"cuda"`, `"rocm"`, `"tpu"`; None is where
            JAX runs now.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument is out of range, or the module does not run on such inputs.
        ImportError: flatbuffers is not installed.
        OSError: the file cannot be written.

    Examples:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/net.zip"
        >>> net = nn.Sequential(nn.Linear(28, 10, rngs=nnx.Rngs(0)), nn.LIFNode())
        >>> save(path, net, ("b", 28))
        >>> jaxsnn.export.load(path).run(jnp.ones((5, 2, 28))).shape
        (5, 2, 10)
    """
    check_flatbuffers()
    xs = sequence(input_shape, steps, dtype)
    platforms = _check_platforms(platforms)
    members: dict[str, bytes] = {}
    described: dict[str, dict[str, list[dict[str, Any]]]] = {}
    try:
        programs = [whole(module, xs)]
        if _checks.boolean("stream", stream):
            programs = [*streaming(module, xs), *programs]
        for program in programs:
            with _without_paths():
                export = jax.export.export(jax.jit(program.function), platforms=platforms)
                lowered = export(*program.inputs)
            members[f"{program.name}.bin"] = bytes(lowered.serialize())
            described[program.name] = {
                "inputs": _described(program.takes, lowered.in_avals),
                "outputs": _described(program.gives, lowered.out_avals),
            }
    except Exception as error:
        error.add_note(
            f"In the export of {type(module).__name__} with input_shape={input_shape!r} and "
            f"steps={steps!r}. A name leaves a size open, where a layer may need a number; a "
            "module that needs all time steps together has no step: stream=False leaves it out."
        )
        raise
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "jax": jax.__version__,
        "calling_convention": lowered.calling_convention_version,
        "platforms": list(lowered.platforms),
        "module": type(module).__name__,
        "programs": described,
    }
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        # Members without a date: equal programs make equal files.
        file.writestr(zipfile.ZipInfo(METADATA), json.dumps(metadata, indent=2) + "\n")
        for name, content in members.items():
            file.writestr(zipfile.ZipInfo(name), content)
    replace(pathlib.Path(path), archive.getvalue())


def _check_platforms(platforms: Any) -> tuple[str, ...] | None:
    if platforms is None:
        return None
    if isinstance(platforms, str) or not platforms or not set(platforms) <= set(PLATFORMS):
        raise ValueError(f"platforms must be some of {PLATFORMS}, in a tuple, got {platforms!r}")
    return tuple(platforms)


def _described(names: Sequence[str], arrays: Sequence[Any]) -> list[dict[str, Any]]:
    """Name, shape and dtype of each; an open size is a string."""
    return [
        {
            "name": name,
            "shape": [size if isinstance(size, int) else str(size) for size in array.shape],
            "dtype": str(array.dtype),
        }
        for name, array in zip(names, arrays, strict=True)
    ]


@contextlib.contextmanager
def _without_paths() -> Iterator[None]:
    """Leaves out where in which file of this machine each operation was written."""
    name = "jax_traceback_in_locations_limit"
    before = getattr(jax.config, name)
    jax.config.update(name, 0)
    try:
        yield
    finally:
        jax.config.update(name, before)
