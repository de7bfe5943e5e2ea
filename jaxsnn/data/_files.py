"""The four IDX files of Fashion-MNIST: their names, checksums, usual folders and checks."""

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jaxsnn.data._idx import WAY_OUT, read_content, read_idx
from jaxsnn.data._types import ImageDataset

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

SIDE = 28
CLASSES = 10


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


def check_pair(images: NDArray[np.uint8], labels: NDArray[np.integer], where: str) -> None:
    """Refuse arrays that are not Fashion-MNIST images with their labels.

    Args:
        images: ``[n, H, W]``.
        labels: ``[n]``.
        where: what the arrays were read from, for the message.

    Raises:
        ValueError: the images are not 28x28, a label is outside 0..9, or the numbers differ.
    """
    if images.ndim != 3 or images.shape[1:] != (SIDE, SIDE):
        raise ValueError(
            f"{where}: expected images of {SIDE}x{SIDE} pixels, found shape {images.shape}; "
            f"{WAY_OUT}"
        )
    if len(images) != len(labels):
        raise ValueError(
            f"{where}: expected as many labels as images, found {len(images)} images and "
            f"{len(labels)} labels; {WAY_OUT}"
        )
    if labels.size and not 0 <= labels.min() <= labels.max() < CLASSES:
        raise ValueError(
            f"{where}: expected labels from 0 to {CLASSES - 1}, found {labels.min()} to "
            f"{labels.max()}; {WAY_OUT}"
        )


def find_idx_files(directory: Path) -> dict[str, Path] | None:
    """Return the path of each of the four files, or None where there is none of them.

    The files may be plain or ``.gz`` (plain wins) and lie in the directory itself, in its
    ``raw`` or in its ``FashionMNIST/raw`` folder, as torchvision leaves them.

    Args:
        directory: an existing directory.

    Raises:
        FileNotFoundError: only some of the four files are there.
    """
    incomplete = None
    for folder in (directory, directory / "raw", directory / "FashionMNIST" / "raw"):
        found = {}
        for name in SHA256:
            for path in (folder / name, folder / f"{name}.gz"):
                if path.is_file():
                    found[name] = path
                    break
        if len(found) == len(SHA256):
            return found
        if found and incomplete is None:
            missing = ", ".join(name for name in SHA256 if name not in found)
            incomplete = f"{folder}: expected four IDX files (plain or .gz), missing {missing}"
    if incomplete is not None:
        raise FileNotFoundError(f"{incomplete}; add them, or name another directory with data_dir")
    return None


def read_idx_files(files: dict[str, Path]) -> ImageDataset:
    """Return the data set in four IDX files, however many images they hold.

    Args:
        files: what `find_idx_files` returned.

    Raises:
        ValueError: a file is damaged, or is not 28x28 images or labels 0 to 9.
        OSError: a file cannot be read.
    """
    arrays: list[tuple[NDArray[np.uint8], NDArray[np.int32]]] = []
    for images_name, labels_name in ((TRAIN_IMAGES, TRAIN_LABELS), (TEST_IMAGES, TEST_LABELS)):
        images = read_idx(files[images_name], axes=3)
        labels = read_idx(files[labels_name], axes=1).astype(np.int32)
        check_pair(images, labels, f"{files[images_name]} with {files[labels_name].name}")
        arrays.append((images, labels))
    (train_images, train_labels), (test_images, test_labels) = arrays
    source = f"IDX files in {files[TRAIN_IMAGES].parent}"
    return ImageDataset(train_images, train_labels, test_images, test_labels, source)
