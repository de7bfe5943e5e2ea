"""Data sets by name, and the places in which Fashion-MNIST is looked for."""

import os
from collections.abc import Callable
from pathlib import Path

import platformdirs

from jaxsnn.data._dataset import ImageDataset
from jaxsnn.data._fetch import INSTALLED_IN, PACKAGE, acquire
from jaxsnn.data._idx import NAMES, find_idx_files, read_idx_files
from jaxsnn.data._mini import fashion_mnist_mini
from jaxsnn.data._tfds import find_prepared, read_prepared

_VARIABLE = "JAXSNN_DATA_DIR"


def fashion_mnist(
    data_dir: str | os.PathLike[str] | None = None, *, download: bool = True
) -> ImageDataset:
    """Return Fashion-MNIST: 60,000 training and 10,000 test images of 28x28 pixels.

    Without `data_dir`, the first of these that has the data set is used: `$JAXSNN_DATA_DIR`, the
    user's cache, the files of Debian's and Ubuntu's package `dataset-fashion-mnist`, and at last a
    download, which is kept as a TFDS data set in `$JAXSNN_DATA_DIR` or else in the user's cache.
    The arrays are the same whichever it was.

    IDX files of the published size must have the published content. IDX files of other sizes are
    accepted too; files with a `SHA256SUMS` next to them, which `sha256sum * > SHA256SUMS` makes,
    must all match it, and are then not compared with the published ones. The `source` says when
    nothing has checked the files.

    Args:
        data_dir: directory of the four IDX files, plain or `.gz`, flat or as torchvision lays them
            out, with names as `train-images-idx3-ubyte` or `train-images.idx3-ubyte`, or of an
            earlier download. Only this directory is looked at, and nothing is written into it.
        download: whether to download when nothing is there.

    Returns:
        Images `uint8 [n, 28, 28]` and labels `int32 [n]` from 0 to 9.

    Raises:
        ValueError: files are damaged, are not Fashion-MNIST, or are TFDS's own `fashion_mnist`,
            which takes TensorFlow to read.
        FileNotFoundError: the data set is nowhere; the message lists what was tried.
        OSError: a file cannot be read.

    Examples:
        >>> fashion_mnist().train_images.shape  # doctest: +SKIP
        (60000, 28, 28)
    """
    if data_dir is not None:
        directory = Path(data_dir).expanduser()
        dataset = _read(directory)
        if dataset is None:
            raise FileNotFoundError(
                f"data_dir={str(directory)!r}: expected four IDX files ({NAMES}; here or in "
                f"FashionMNIST/raw) or an earlier download, found {_found(directory)}; name "
                "another directory, or leave data_dir out to have the data looked for or downloaded"
            )
        return dataset

    cache = Path(platformdirs.user_cache_dir("jaxsnn"))
    variable = os.environ.get(_VARIABLE)
    root = Path(variable).expanduser() if variable else cache
    tried: list[str] = []
    passed_over: list[str] = []
    for directory in dict.fromkeys((root, cache, INSTALLED_IN)):
        try:
            dataset = _read(directory)
        except (ValueError, OSError) as error:
            if variable and directory == root:  # which the user has named
                kind = ValueError if isinstance(error, ValueError) else OSError
                raise kind(f"${_VARIABLE}: {error}") from error
            passed_over.append(f"passed over {error}")
            continue
        if dataset is not None:
            return dataset._replace(source="; ".join([dataset.source, *passed_over]))
        tried.append(f"{directory}: nothing there")
    tried += passed_over
    try:
        if not download:
            raise OSError("download: not allowed (download=False)")
        dataset = acquire(root)
    except OSError as error:
        lines = "".join(f"  - {line}\n" for line in [*tried, *str(error).splitlines()])
        raise FileNotFoundError(
            f"Fashion-MNIST was not found. Tried:\n{lines}There are three ways to get it:\n"
            f"  - name a directory that holds the four IDX files ({NAMES}) with data_dir or with "
            f"the environment variable {_VARIABLE};\n"
            "  - on Debian or Ubuntu, install the distribution's package: apt-get install "
            f"{PACKAGE};\n"
            "  - call it with download=True where there is a network."
        ) from error
    return dataset._replace(source="; ".join([dataset.source, *passed_over]))


def _read(directory: Path) -> ImageDataset | None:
    """Return the data set in a directory, or None where it is missing or holds none."""
    if directory.exists() and not directory.is_dir():
        raise ValueError(f"{directory}: expected a directory, found a file")
    files = find_idx_files(directory)
    if files is not None:
        return read_idx_files(files)
    folder = find_prepared(directory)
    return None if folder is None else read_prepared(folder)


def _found(directory: Path) -> str:
    """Say in words, for an error, that a directory is missing or empty, or name its first files."""
    if not directory.exists():
        return "no such directory"
    names = sorted(path.name for path in directory.iterdir())
    return ", ".join(names[:4]) + (", ..." if names[4:] else "") if names else "an empty directory"


DATASETS: dict[str, Callable[..., ImageDataset]] = {
    "fashion_mnist": fashion_mnist,
    "fashion_mnist_mini": fashion_mnist_mini,
}
"""The function of each data set, under its name."""


def load(
    name: str, data_dir: str | os.PathLike[str] | None = None, *, download: bool = True
) -> ImageDataset:
    """Return a data set by its name.

    Args:
        name: `"fashion_mnist"` or `"fashion_mnist_mini"`.
        data_dir: see `fashion_mnist`; the mini set takes none.
        download: see `fashion_mnist`; the mini set needs none.

    Returns:
        The data set.

    Raises:
        ValueError: an unknown name, or a directory for the mini set.
        FileNotFoundError: the data set is nowhere.

    Examples:
        >>> load("fashion_mnist_mini").train_labels.shape
        (2000,)
    """
    if name not in DATASETS:
        raise ValueError(f"name={name!r}: expected one of {', '.join(sorted(DATASETS))}")
    if name == "fashion_mnist":
        return fashion_mnist(data_dir, download=download)
    if data_dir is not None:
        raise ValueError(
            f"data_dir={str(data_dir)!r}: fashion_mnist_mini is inside the package and takes no "
            "directory; leave data_dir out, or load fashion_mnist"
        )
    return fashion_mnist_mini()
