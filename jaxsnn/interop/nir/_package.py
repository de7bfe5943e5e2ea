"""The package `nir`, imported when it is needed."""

from typing import Any


def package() -> Any:
    """The module `nir`."""
    try:
        import nir  # inside this package too the name is absolute: it is the one from PyPI
    except ImportError as error:
        raise ImportError(
            'jaxsnn.interop.nir needs the package nir: pip install "jaxsnn-nnx[nir]", or from '
            'source pip install -e ".[nir]"'
        ) from error
    return nir
