"""The four IDX files of Fashion-MNIST, or of a set like it: usual folders, reading, checks."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jaxsnn.data._idx import WAY_OUT, decompress, parse_idx
from jaxsnn.data._published import SHA256, SPLITS, TRAIN_IMAGES, is_published
from jaxsnn.data._sums import NAME, check_sum, read_sums
from jaxsnn.data._types import ImageDataset

SIDE = 28
CLASSES = 10


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


NAMES = f"{', '.join(SHA256)}; also with .idx for -idx, and each plain or .gz"
"""The names of the four files, for messages."""


def find_idx_files(directory: Path) -> dict[str, Path] | None:
    """Return the path of each of the four files, or None where there is none of them.

    The files may be plain or ``.gz`` (plain wins), be named with ``-idx`` or, as some archives
    have them, ``.idx`` (the hyphen wins), and lie in the directory itself, in its ``raw`` or in
    its ``FashionMNIST/raw`` folder, as torchvision leaves them.

    Args:
        directory: an existing directory.

    Raises:
        FileNotFoundError: only some of the four files are there.
    """
    incomplete = None
    for folder in (directory, directory / "raw", directory / "FashionMNIST" / "raw"):
        found = {}
        for name in SHA256:
            dotted = name.replace("-idx", ".idx")
            for spelling in (name, f"{name}.gz", dotted, f"{dotted}.gz"):
                if (folder / spelling).is_file():
                    found[name] = folder / spelling
                    break
        if len(found) == len(SHA256):
            return found
        if found and incomplete is None:
            missing = ", ".join(name for name in SHA256 if name not in found)
            incomplete = f"{folder}: expected four IDX files ({NAMES}), missing {missing}"
    if incomplete is not None:
        raise FileNotFoundError(f"{incomplete}; add them, or name another directory with data_dir")
    return None


def read_idx_files(files: dict[str, Path]) -> ImageDataset:
    """Return the data set in four IDX files, however many images they hold.

    A file of the published size must be the published one. Where a SHA256SUMS lies beside the
    files, they must be what it says instead.

    Args:
        files: what `find_idx_files` returned.

    Returns:
        The data set; its ``source`` says when nothing has checked the files.

    Raises:
        ValueError: a file is damaged, or is not 28x28 images or labels 0 to 9.
        OSError: a file cannot be read.
    """
    folder = files[TRAIN_IMAGES].parent
    sums = read_sums(folder)
    unchecked = False
    arrays: dict[str, NDArray[np.uint8]] = {}
    for name, path in files.items():
        stored = path.read_bytes()
        if sums is not None:
            check_sum(path, stored, sums)
        content = decompress(stored, path)
        if sums is None:
            unchecked |= not is_published(name, content, path)
        arrays[name] = parse_idx(content, path, axes=3 if "images" in name else 1)
    pairs: list[tuple[NDArray[np.uint8], NDArray[np.int32]]] = []
    for images_name, labels_name in SPLITS.values():
        images, labels = arrays[images_name], arrays[labels_name].astype(np.int32)
        check_pair(images, labels, f"{files[images_name]} with {files[labels_name].name}")
        pairs.append((images, labels))
    train, test = pairs
    source = f"IDX files in {folder}"
    if sums is not None:
        source += f" (checked with their {NAME})"
    elif unchecked:
        source += f" (unchecked: not those of Fashion-MNIST, and no {NAME} beside them)"
    return ImageDataset(*train, *test, source)
