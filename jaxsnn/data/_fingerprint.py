"""A short name for the exact content and order of a data set."""

import hashlib

import numpy as np

from jaxsnn.data._types import ImageDataset


def fingerprint(images: ImageDataset) -> str:
    """SHA-256 over shapes, dtypes and bytes of the four arrays, in hexadecimal.

    Two sources with the same images in another order differ: a run that is resumed would see
    other minibatches.
    """
    digest = hashlib.sha256()
    for array in images[:4]:
        digest.update(f"{array.shape} {array.dtype.str} ".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
