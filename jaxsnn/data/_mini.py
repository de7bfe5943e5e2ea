"""Fashion-MNIST mini: 2,500 real images inside the package, for tests and first steps.

It is the first 200 images of each class of the training set and the first 50 of each class of
the test set, in the order of the original files. It stands in for nothing: only its own name
loads it. The images are Zalando's, under the licence in `FASHION_MNIST_LICENSE`.
"""

import hashlib
import io
from pathlib import Path

import numpy as np

from jaxsnn.data._dataset import ImageDataset

_FILE = Path(__file__).with_name("fashion_mnist_mini.npz")
_SHA256 = "0c6c4b2f5ee9fbf5f326f31791a60a6055cc4907064e13517e35ec26e2345a6a"


def fashion_mnist_mini() -> ImageDataset:
    """Return the 2,000 training and 500 test images that the package contains.

    Returns:
        Images `uint8 [n, 28, 28]` and labels `int32 [n]` from 0 to 9, as many of each class.

    Raises:
        ValueError: the installation lacks the file, or the file is damaged.

    Examples:
        >>> fashion_mnist_mini().test_images.shape
        (500, 28, 28)
    """
    content = _FILE.read_bytes() if _FILE.is_file() else b""
    found = hashlib.sha256(content).hexdigest()
    if found != _SHA256:
        raise ValueError(
            f"{_FILE}: {'damaged' if content else 'missing or empty'} (expected SHA-256 {_SHA256}, "
            f"found {found}); install jaxsnn again"
        )
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        return ImageDataset(
            stored["train_images"],
            stored["train_labels"].astype(np.int32),
            stored["test_images"],
            stored["test_labels"].astype(np.int32),
            f"the mini set in {_FILE}",
        )
