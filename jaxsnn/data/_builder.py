"""Our TFDS builder of Fashion-MNIST, which neither prepares nor reads with TensorFlow.

TFDS's own ``fashion_mnist`` encodes PNG images and writes TFRecord files, both of which need
TensorFlow. This one stores plain bytes as ArrayRecord. TFDS writes records in an order of its
own, so each carries its ``index`` in the original file. Importing this module registers
``jaxsnn_fashion_mnist`` with TFDS; nothing imports it before it is needed.
"""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jaxsnn.data._files import SIDE, find_idx_files, read_idx_files

_CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def features() -> Any:
    """Return what one example of ours is made of."""
    return tfds.features.FeaturesDict(
        {
            # A plain tensor: the image feature would need TensorFlow to encode a PNG.
            "image": tfds.features.Tensor(shape=(SIDE, SIDE, 1), dtype=np.uint8, encoding="bytes"),
            "label": tfds.features.ClassLabel(names=_CLASS_NAMES),
            "index": tfds.features.Scalar(dtype=np.int64),
        }
    )


def stock_features() -> Any:
    """Return what one example of TFDS's own ``fashion_mnist`` is made of."""
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(SIDE, SIDE, 1)),
            "label": tfds.features.ClassLabel(names=_CLASS_NAMES),
        }
    )


class JaxsnnFashionMnist(tfds.core.GeneratorBasedBuilder):
    """Fashion-MNIST from its four IDX files, with each example's place in them.

    Examples:
        >>> builder = tfds.builder(  # doctest: +SKIP
        ...     "jaxsnn_fashion_mnist", data_dir="prepared", file_format="array_record"
        ... )
    """

    VERSION = tfds.core.Version("1.0.0")
    # TFDS looks beside the code for a list of download checksums; there is none, as nothing is
    # downloaded here, and looking would need a package that TFDS does not declare.
    code_path = None
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Put the four IDX files, plain or .gz, into manual_dir."

    def _info(self) -> Any:
        """Describe one example."""
        return tfds.core.DatasetInfo(
            builder=self,
            description="Fashion-MNIST: 28x28 grey images of clothing in ten classes.",
            homepage="https://github.com/zalandoresearch/fashion-mnist",
            features=features(),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        """Read the IDX files in ``manual_dir`` and return a generator for each split."""
        directory = Path(dl_manager.manual_dir)
        files = find_idx_files(directory)
        if files is None:
            raise FileNotFoundError(f"{directory}: {self.MANUAL_DOWNLOAD_INSTRUCTIONS}")
        dataset = read_idx_files(files)
        return {
            "train": self._generate_examples(dataset.train_images, dataset.train_labels),
            "test": self._generate_examples(dataset.test_images, dataset.test_labels),
        }

    def _generate_examples(
        self, images: np.ndarray, labels: np.ndarray
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield each example under its index."""
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            yield index, {"image": image[:, :, None], "label": int(label), "index": index}


def prepare(idx_directory: Path, data_dir: Path) -> Path:
    """Prepare the four IDX files as a TFDS data set.

    Args:
        idx_directory: where the four files are.
        data_dir: the TFDS directory to prepare into; a folder is made in it.

    Returns:
        The prepared folder, ``data_dir/jaxsnn_fashion_mnist/<version>``.

    Raises:
        ValueError: an IDX file is damaged.
        OSError: a file cannot be read or written.
    """
    builder = JaxsnnFashionMnist(data_dir=data_dir, file_format="array_record")
    config = tfds.download.DownloadConfig(manual_dir=idx_directory, try_download_gcs=False)
    # TFDS prints and draws bars wherever it runs, and names the folder before it is renamed.
    unseen = io.StringIO()
    with contextlib.redirect_stdout(unseen), contextlib.redirect_stderr(unseen):
        builder.download_and_prepare(download_config=config)
    return Path(builder.data_dir)
