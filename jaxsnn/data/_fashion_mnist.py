"""Fashion-MNIST, from the first place that has it: a directory, a cache, the system, the net."""

import os
from pathlib import Path

import platformdirs

from jaxsnn.data._acquire import acquire
from jaxsnn.data._debian import INSTALLED_IN, PACKAGE
from jaxsnn.data._files import NAMES, find_idx_files, read_idx_files
from jaxsnn.data._prepared import find_prepared, read_prepared
from jaxsnn.data._records import OURS, STOCK
from jaxsnn.data._types import ImageDataset

_VARIABLE = "JAXSNN_DATA_DIR"
_DEBIAN_DIRECTORY = INSTALLED_IN
_WAYS_OUT = f"""\
There are three ways to get it:
  - name a directory that holds the four IDX files ({NAMES}) or a Fashion-MNIST prepared by
    TFDS, with data_dir or with the environment variable {_VARIABLE};
  - on Debian or Ubuntu, install the distribution's package: apt-get install {PACKAGE};
  - call it with download=True where there is a network."""


def fashion_mnist(
    data_dir: str | os.PathLike[str] | None = None, *, download: bool = True
) -> ImageDataset:
    """Return Fashion-MNIST: 60,000 training and 10,000 test images of 28x28 pixels.

    Without ``data_dir``, the first of these that has the data set is used: ``$JAXSNN_DATA_DIR``,
    the user's cache, a ``fashion_mnist`` in TFDS's default directory, the files of Debian's and
    Ubuntu's package ``dataset-fashion-mnist``, and at last a download, which is kept as a TFDS
    data set in ``$JAXSNN_DATA_DIR`` or else in the user's cache. The arrays are the same
    whichever it was, except that TFDS's own ``fashion_mnist`` keeps the order TFDS gave it.

    What has the published sizes must have the published content. IDX files of other sizes are
    accepted too; of files with a ``SHA256SUMS`` beside them, which ``sha256sum * > SHA256SUMS``
    makes, all four must be what it says, and are then not compared with the published ones. The
    ``source`` says when nothing has checked the files.

    Args:
        data_dir: directory of the four IDX files, plain or ``.gz``, flat or as torchvision lays
            them out, with names as ``train-images-idx3-ubyte`` or ``train-images.idx3-ubyte``, or
            of a Fashion-MNIST prepared by TFDS. Only this directory is looked at, and nothing is
            written into it.
        download: whether to download when nothing is there.

    Returns:
        Images ``uint8 [n, 28, 28]`` and labels ``int32 [n]`` from 0 to 9.

    Raises:
        ValueError: files are damaged, or are not Fashion-MNIST.
        FileNotFoundError: the data set is nowhere; the message lists what was tried.
        OSError: a file cannot be read, or ``data_dir`` is TFDS's own ``fashion_mnist``, whose
            images are PNGs, and Pillow is not installed.

    Examples:
        >>> fashion_mnist().train_images.shape  # doctest: +SKIP
        (60000, 28, 28)
    """
    user_cache = Path(platformdirs.user_cache_dir("jaxsnn"))
    if data_dir is not None:
        return _read_named(Path(data_dir).expanduser(), user_cache)

    tried: list[str] = []
    variable = os.environ.get(_VARIABLE)
    root = Path(variable).expanduser() if variable else user_cache
    if variable:
        dataset = _read_variable(root, user_cache)
        if dataset is not None:
            return dataset
        tried.append(f"${_VARIABLE} {root}: nothing there")

    # What follows was named by nobody: what cannot be used is passed over, but not in silence.
    tfds_default = Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    passed_over: list[str] = []
    for directory in (
        user_cache,
        tfds_default / OURS,
        tfds_default / STOCK,
        _DEBIAN_DIRECTORY,
    ):
        try:
            dataset = _read(directory, user_cache)
        except (ValueError, OSError) as error:
            passed_over.append(f"passed over {error}")
            continue
        if dataset is not None:
            return dataset._replace(source="; ".join([dataset.source, *passed_over]))
        tried.append(f"{directory}: nothing there")

    tried += passed_over
    if not download:
        tried.append("download: not allowed (download=False)")
        raise _not_found(tried)
    try:
        prepared, origin = acquire(root)
    except OSError as error:
        raise _not_found([*tried, *str(error).splitlines()]) from error
    dataset = read_prepared(prepared, root)
    return dataset._replace(
        source="; ".join([dataset.source, f"made from: {origin}", *passed_over])
    )


def _read(directory: Path, cache: Path) -> ImageDataset | None:
    """Return the data set in a directory, or None where it is missing or holds none."""
    if not directory.exists():
        return None
    if not directory.is_dir():
        raise ValueError(f"{directory}: expected a directory, found a file")
    files = find_idx_files(directory)
    if files is not None:
        return read_idx_files(files)
    prepared = find_prepared(directory)
    return None if prepared is None else read_prepared(prepared, cache)


def _read_named(directory: Path, cache: Path) -> ImageDataset:
    """Return the data set in the directory that the caller named, and look nowhere else."""
    dataset = _read(directory, cache)
    if dataset is None:
        raise FileNotFoundError(
            f"data_dir={str(directory)!r}: expected four IDX files ({NAMES}; here or in "
            f"FashionMNIST/raw) or a Fashion-MNIST prepared by TFDS, found {_found(directory)}; "
            "name another directory, or leave data_dir out to have the data set looked for and "
            "downloaded"
        )
    return dataset


def _found(directory: Path) -> str:
    """Say in words, for an error, that a directory is missing or empty, or name its first files."""
    if not directory.exists():
        return "no such directory"
    names = sorted(path.name for path in directory.iterdir())
    return ", ".join(names[:4]) + (", ..." if names[4:] else "") if names else "an empty directory"


def _read_variable(directory: Path, user_cache: Path) -> ImageDataset | None:
    """Return the data set in ``$JAXSNN_DATA_DIR``, or None where it may become the cache.

    Arrays decoded from a data set that this package downloaded into it are kept beside that;
    those decoded from anything the user has put there are kept in the user's cache.
    """
    cache = directory if (directory / OURS).is_dir() else user_cache
    try:
        return _read(directory, cache)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"${_VARIABLE}: {error}") from error
    except ValueError as error:
        raise ValueError(f"${_VARIABLE}: {error}") from error


def _not_found(tried: list[str]) -> FileNotFoundError:
    """Return the one error that lists what was tried and the ways out."""
    lines = "\n".join(f"  - {line}" for line in tried)
    return FileNotFoundError(f"Fashion-MNIST was not found. Tried:\n{lines}\n{_WAYS_OUT}")
