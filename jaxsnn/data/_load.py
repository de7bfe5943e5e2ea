"""Data sets by name, for command lines and configuration files."""

import os
from collections.abc import Callable

from jaxsnn.data._fashion_mnist import fashion_mnist
from jaxsnn.data._mini import fashion_mnist_mini
from jaxsnn.data._types import ImageDataset

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
        name: ``"fashion_mnist"`` or ``"fashion_mnist_mini"``.
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
        known = ", ".join(sorted(DATASETS))
        raise ValueError(f"name={name!r}: expected one of {known}")
    if name == "fashion_mnist_mini":
        if data_dir is not None:
            raise ValueError(
                f"data_dir={str(data_dir)!r}: fashion_mnist_mini is inside the package and takes "
                "no directory; leave data_dir out, or load fashion_mnist"
            )
        return fashion_mnist_mini()
    return fashion_mnist(data_dir, download=download)
