"""A file is replaced as a whole or not at all."""

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterator


def replace(path: pathlib.Path, content: bytes) -> None:
    """Writes a file under a temporary name and renames it, so that it is never half there."""
    with named(path):
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with named(path), os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


@contextlib.contextmanager
def named(path: pathlib.Path) -> Iterator[None]:
    """Errors of the system say which file they are about; those of writing do not by themselves."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
