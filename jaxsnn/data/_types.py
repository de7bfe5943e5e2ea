"""The value that every data set function returns: four arrays and where they came from."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class ImageDataset(NamedTuple):
    """A training and a test set of grey images with one class label each.

    Attributes:
        train_images: ``uint8 [n, H, W]``, 0 is black and 255 is white.
        train_labels: ``int32 [n]``, class numbers counted from 0.
        test_images: ``uint8 [m, H, W]``.
        test_labels: ``int32 [m]``.
        source: where the arrays were read from, in words, for the log.
    """

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int32]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int32]
    source: str
