"""Make the mini set inside the package from the four IDX files of Fashion-MNIST.

It takes the first 200 images of each class of the training set and the first 50 of each class
of the test set, in file order: ``python tools/make_fashion_mnist_mini.py DIRECTORY``.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import jaxsnn.data

PER_CLASS_TRAIN = 200
PER_CLASS_TEST = 50


def first_of_each_class(labels: NDArray[np.int32], count: int) -> NDArray[np.intp]:
    """Return the places of the first ``count`` labels of each of the ten classes, ascending."""
    places = [np.flatnonzero(labels == number)[:count] for number in range(10)]
    return np.sort(np.concatenate(places))


def main() -> None:
    """Read the directory on the command line and write the package's file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", help="directory of the four IDX files")
    target = Path(jaxsnn.data.__file__).with_name("fashion_mnist_mini.npz")
    full = jaxsnn.data.fashion_mnist(parser.parse_args().directory)
    train = first_of_each_class(full.train_labels, PER_CLASS_TRAIN)
    test = first_of_each_class(full.test_labels, PER_CLASS_TEST)
    np.savez_compressed(
        target,
        train_images=full.train_images[train],
        train_labels=full.train_labels[train].astype(np.uint8),
        test_images=full.test_images[test],
        test_labels=full.test_labels[test].astype(np.uint8),
    )
    print(f"{target}: {len(train)} + {len(test)} images, {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
