"""Fashion-MNIST mini: 2,500 real images inside the package, for tests and first steps.

It is the first 200 images of each class of the training set and the first 50 of each class of
the test set, in the order of the original files. It stands in for nothing: only its own name
loads it. The images are Zalando's, under the licence in ``FASHION_MNIST_LICENSE``.
"""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from jaxsnn.data._files import check_pair
from jaxsnn.data._types import ImageDataset

_FILE = Path(__file__).with_name("fashion_mnist_mini.npz")


def fashion_mnist_mini() -> ImageDataset:
    """Return the 2,000 training and 500 test images that the package contains.

    Returns:
        Images ``uint8 [n, 28, 28]`` and labels ``int32 [n]`` from 0 to 9, as many of each class.

    Raises:
        FileNotFoundError: the installation lacks the file.
        ValueError: the file is damaged.

    Examples:
        >>> fashion_mnist_mini().test_images.shape
        (500, 28, 28)
    """
    if not _FILE.is_file():
        raise FileNotFoundError(f"{_FILE}: missing from the installation; install jaxsnn again")
    try:
        with np.load(_FILE, allow_pickle=False) as stored:
            dataset = ImageDataset(
                stored["train_images"],
                stored["train_labels"].astype(np.int32),
                stored["test_images"],
                stored["test_labels"].astype(np.int32),
                f"the mini set in {_FILE}",
            )
    except (EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{_FILE}: damaged ({error}); install jaxsnn again") from error
    check_pair(dataset.train_images, dataset.train_labels, str(_FILE))
    check_pair(dataset.test_images, dataset.test_labels, str(_FILE))
    return dataset
