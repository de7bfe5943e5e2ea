"""What was published as Fashion-MNIST: its four files' names, sizes and digests, and the checks."""

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jaxsnn.data._idx import WAY_OUT, idx_header, read_content

TRAIN_IMAGES = "train-images-idx3-ubyte"
TRAIN_LABELS = "train-labels-idx1-ubyte"
TEST_IMAGES = "t10k-images-idx3-ubyte"
TEST_LABELS = "t10k-labels-idx1-ubyte"

SHA256 = {
    TRAIN_IMAGES: "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    TRAIN_LABELS: "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    TEST_IMAGES: "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    TEST_LABELS: "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""SHA-256 of each file's uncompressed bytes (compression differs from one copy to another)."""

SIZE = {
    TRAIN_IMAGES: 47_040_016,
    TRAIN_LABELS: 60_008,
    TEST_IMAGES: 7_840_016,
    TEST_LABELS: 10_008,
}
"""Each file's uncompressed bytes."""

SPLITS = {"train": (TRAIN_IMAGES, TRAIN_LABELS), "test": (TEST_IMAGES, TEST_LABELS)}
"""The files of images and of labels of each split."""

EXAMPLES_SHA256 = {
    "train": "0c69d5cdeb902b69084012f812f066de080317bb3c64f43ca87f910d8ec86906",
    "test": "90c92c0507755a7d443edde8297ce4d0f131e42884e2e87e7fc9b81ffe215258",
}
"""`examples_digest` of each split."""


def check_checksum(path: Path, sha256: str) -> None:
    """Refuse a file whose uncompressed bytes are not the published ones.

    Args:
        path: a plain or gzip-compressed file.
        sha256: the expected digest of its uncompressed bytes, in hexadecimal.

    Raises:
        ValueError: the digest differs, or the gzip stream is damaged.
    """
    found = hashlib.sha256(read_content(path)).hexdigest()
    if found != sha256:
        raise ValueError(f"{path}: expected SHA-256 {sha256} of the content, found {found}")


def is_published(name: str, content: bytes, path: Path) -> bool:
    """Tell whether a file is the published one; refuse one that has only its size.

    Args:
        name: which of the four files it is.
        content: its uncompressed bytes.
        path: where it lies, for the message.

    Returns:
        False when its size is another: it is part of another data set.

    Raises:
        ValueError: the size is the published one, but the content is not.
    """
    if len(content) != SIZE[name]:
        return False
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256[name]:
        raise ValueError(
            f"{path}: it has the size of Fashion-MNIST's file, whose content has SHA-256 "
            f"{SHA256[name]}, but found {found}: damaged, or another data set in the same format; "
            f"{WAY_OUT}; if it is the data set you mean, run `sha256sum * > SHA256SUMS` in "
            f"{path.parent}, and that is checked instead"
        )
    return True


def check_examples(
    split: str, images: NDArray[np.uint8], labels: NDArray[np.int32], *, ordered: bool
) -> None:
    """Refuse a split that has as many examples as the published one, but other ones.

    Args:
        split: ``"train"`` or ``"test"``.
        images: ``[n, 28, 28]``.
        labels: ``[n]``.
        ordered: whether the examples should be in the order of the published files.

    Raises:
        ValueError: an image or a label is another, or they are in another order.
    """
    name_of_images, name_of_labels = SPLITS[split]
    if len(idx_header(labels.shape)) + len(labels) != SIZE[name_of_labels]:
        return
    if ordered:
        right = all(
            hashlib.sha256(idx_header(array.shape) + array.astype(np.uint8).tobytes()).hexdigest()
            == SHA256[name]
            for name, array in ((name_of_images, images), (name_of_labels, labels))
        )
    else:
        right = examples_digest(images, labels) == EXAMPLES_SHA256[split]
    if not right:
        raise ValueError(
            f"the split {split!r} has as many examples as Fashion-MNIST, but not the same: their "
            "SHA-256 is another"
        )


def examples_digest(images: NDArray[np.uint8], labels: NDArray[np.int32]) -> str:
    """Return a digest of images with their labels that does not depend on their order.

    It is the SHA-256 of the sorted SHA-256 of each label and image.
    """
    rows = np.column_stack([labels.astype(np.uint8), images.reshape(len(images), -1)])
    return hashlib.sha256(
        b"".join(sorted(hashlib.sha256(row).digest() for row in rows))
    ).hexdigest()
