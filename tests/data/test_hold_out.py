"""Holding out a part of the training set."""

import numpy as np
import pytest

from jaxsnn import data


def test_the_same_share_of_each_class() -> None:
    images = data.fashion_mnist_mini()
    numbered = images._replace(  # images that can be told from each other, of unequal classes
        train_images=np.arange(1500).reshape(-1, 1, 1),
        train_labels=np.repeat(np.arange(10, dtype=np.int32), 150)[::-1].copy(),
    )
    numbered.train_labels[:100] = 0
    rest, (held_out, labels) = data.hold_out(numbered, 0.1)
    counts = np.bincount(numbered.train_labels)
    np.testing.assert_array_equal(np.bincount(labels), np.round(0.1 * counts))
    for part, names in ((rest.train_images, rest.train_labels), (held_out, labels)):
        assert (np.diff(part.ravel()) > 0).all()  # in the order of the data set
        np.testing.assert_array_equal(numbered.train_labels[part.ravel()], names)
    together = np.concatenate([rest.train_images, held_out]).ravel()
    np.testing.assert_array_equal(np.sort(together), np.arange(1500))
    assert (rest.test_images is images.test_images, rest.source) == (True, images.source)
    assert labels.dtype == np.int32


def test_it_is_the_same_for_ever() -> None:
    """Else a run that is resumed would be validated on what it was trained on, or be refused."""
    images = data.fashion_mnist_mini()
    rest, (held_out, _) = data.hold_out(images, 0.1)
    assert data.fingerprint(rest).startswith("d4bb94f1c5ee4f01d41423ff1682382f")
    other, _ = data.hold_out(images, 0.1, seed=1)
    assert data.fingerprint(other) != data.fingerprint(rest)
    assert len(held_out) == 200


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan"), 1e-6, 1 - 1e-6])
def test_shares_that_are_none(fraction: float) -> None:
    with pytest.raises(ValueError, match="fraction"):
        data.hold_out(data.fashion_mnist_mini(), fraction)
