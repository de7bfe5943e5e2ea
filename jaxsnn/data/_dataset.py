"""A data set of images in memory: four arrays, a part held out, a fingerprint."""

import hashlib
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, UInt8
from numpy.typing import NDArray


class ImageDataset(NamedTuple):
    """A training and a test set of grey images with one class label each.

    Attributes:
        train_images: `uint8 [n, H, W]`, 0 is black and 255 is white.
        train_labels: `int32 [n]`, class numbers counted from 0.
        test_images: `uint8 [m, H, W]`.
        test_labels: `int32 [m]`.
        source: where the arrays were read from, in words, for the log.
    """

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int32]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int32]
    source: str


def hold_out(
    images: ImageDataset, fraction: float, *, seed: int = 0
) -> tuple[ImageDataset, tuple[UInt8[np.ndarray, "n H W"], Int32[np.ndarray, " n"]]]:
    """Hold out a random part of the training set, the same share of each class.

    Args:
        images: the data set.
        fraction: the share that is held out, between 0 and 1; of each class the nearest whole
            number of images.
        seed: of the choice. It is no run's seed: runs of different seeds keep the same images.

    Returns:
        The data set without these training images, in the same order, and `(images, labels)` of
        those held out, in the order of the data set too.

    Raises:
        ValueError: the fraction is not between 0 and 1, or leaves one of the two parts empty.

    Examples:
        >>> rest, (held_out, labels) = hold_out(jaxsnn.data.fashion_mnist_mini(), 0.1)
        >>> len(rest.train_images), len(held_out), np.bincount(labels).tolist()
        (1800, 200, [20, 20, 20, 20, 20, 20, 20, 20, 20, 20])
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must be between 0 and 1, e.g. 0.1, got {fraction}")
    held = np.zeros(len(images.train_labels), np.bool_)
    draws = np.random.default_rng(seed)
    for label in np.unique(images.train_labels):
        (members,) = np.nonzero(images.train_labels == label)
        held[draws.permutation(members)[: round(fraction * len(members))]] = True
    if held.all() or not held.any():
        raise ValueError(
            f"fraction={fraction} of {len(held)} training images holds out {held.sum()} of them; "
            "choose one that leaves some for training and some for validation"
        )
    rest = images._replace(
        train_images=images.train_images[~held], train_labels=images.train_labels[~held]
    )
    return rest, (images.train_images[held], images.train_labels[held])


def fingerprint(images: ImageDataset) -> str:
    """SHA-256 over shapes, dtypes and bytes of the four arrays, in hexadecimal.

    Two sources with the same images in another order differ: a run that is resumed would see
    different minibatches.
    """
    digest = hashlib.sha256()
    for array in images[:4]:
        digest.update(f"{array.shape} {array.dtype.str} ".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
