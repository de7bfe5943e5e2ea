"""Fashion-MNIST as a TFDS data set that is written and read without TensorFlow.

TFDS's own `fashion_mnist` needs TensorFlow, to encode its PNG images and to read its TFRecord
files. This one holds the pixels as they are, in ArrayRecord files. TFDS writes examples in an order
of its own, so each has its `index` in the original file.
"""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxsnn.data._dataset import ImageDataset
from jaxsnn.data._idx import SHA256, digest

NAME = "jaxsnn_fashion_mnist"
VERSION = "1.0.0"

_REMEDY = "delete it to have it made again, or name another directory with data_dir"

_CLASSES = "T-shirt/top, Trouser, Pullover, Dress, Coat, Sandal, Shirt, Sneaker, Bag, Ankle boot"


def prepare(dataset: ImageDataset, data_dir: Path) -> Path:
    """Write Fashion-MNIST as a TFDS data set.

    Args:
        dataset: the four arrays.
        data_dir: the TFDS directory; a folder is made in it.

    Returns:
        The prepared folder, `data_dir/jaxsnn_fashion_mnist/1.0.0`.

    Raises:
        OSError: a file cannot be written.
    """
    import tensorflow_datasets as tfds  # takes a second

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
        name = NAME
        VERSION = tfds.core.Version(VERSION)
        # Else TFDS looks for checksums of downloads next to this file, with a package that it
        # does not declare.
        code_path = None

        def _info(self) -> Any:
            features = {
                # A plain tensor: the image feature would need TensorFlow to encode a PNG.
                "image": tfds.features.Tensor(shape=(28, 28, 1), dtype=np.uint8, encoding="bytes"),
                "label": tfds.features.ClassLabel(names=_CLASSES.split(", ")),
                "index": tfds.features.Scalar(dtype=np.int64),
            }
            return tfds.core.DatasetInfo(
                builder=self,
                description="Fashion-MNIST: 28x28 grey images of clothing in ten classes.",
                features=tfds.features.FeaturesDict(features),
            )

        def _split_generators(self, _: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
            return {
                "train": self._generate_examples(dataset.train_images, dataset.train_labels),
                "test": self._generate_examples(dataset.test_images, dataset.test_labels),
            }

        def _generate_examples(
            self, images: NDArray[np.uint8], labels: NDArray[np.int32]
        ) -> Iterator[tuple[int, dict[str, Any]]]:
            for index, (image, label) in enumerate(zip(images, labels, strict=True)):
                yield index, {"image": image[:, :, None], "label": int(label), "index": index}

    builder = Builder(data_dir=data_dir, file_format="array_record")
    # TFDS prints and draws bars wherever it runs, and names the folder before it is renamed.
    unseen = io.StringIO()
    with contextlib.redirect_stdout(unseen), contextlib.redirect_stderr(unseen):
        builder.download_and_prepare()
    return Path(builder.data_dir)


def find_prepared(directory: Path) -> Path | None:
    """Return the folder that `prepare` has written, or None where there is none.

    Args:
        directory: that folder, the folder of its versions, or the TFDS directory.

    Raises:
        ValueError: there is a different data set of TFDS.
    """
    for folder in (directory, directory / VERSION, directory / NAME / VERSION):
        if any(folder.glob(f"{NAME}-*.array_record-*")):
            return folder
    for parent in ("", "*/", "fashion_mnist/*/"):
        for info in directory.glob(f"{parent}dataset_info.json"):
            raise ValueError(
                f"{info.parent}: expected TFDS's data set {NAME}, found another one, which cannot "
                "be read (TFDS's own fashion_mnist needs TensorFlow); name a directory of the four "
                "IDX files with data_dir, or leave it out to have the data looked for or downloaded"
            )
    return None


def read_prepared(folder: Path) -> ImageDataset:
    """Return the Fashion-MNIST that `prepare` has written.

    The records are all that is read: the description next to them is not needed, and the Python
    classes that it names are not imported.

    Args:
        folder: the result of `find_prepared`.

    Raises:
        ValueError: the content is not the published one.
        OSError: a file cannot be read.
    """
    try:
        train, test = _read_split(folder, "train"), _read_split(folder, "test")
        dataset = ImageDataset(*train, *test, f"TFDS records in {folder}")
        if [digest(array) for array in dataset[:4]] != list(SHA256.values()):
            raise ValueError("the SHA-256 of the examples is different")
    except OSError as error:
        raise OSError(f"{folder}: a file cannot be read ({error}); {_REMEDY}") from error
    except Exception as error:  # the parsers raise many kinds for damaged content
        raise ValueError(
            f"{folder}: expected the published Fashion-MNIST, found damaged or different content "
            f"({error}); {_REMEDY}"
        ) from error
    return dataset


def _read_split(folder: Path, split: str) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Return images and labels in their original order.

    TFDS's `as_data_source` yields the same examples, but takes four times as long for 70,000.
    """
    from array_record.python.array_record_module import ArrayRecordReader
    from tensorflow_datasets.proto import tf_example_pb2

    records: list[bytes] = []
    for path in sorted(folder.glob(f"{NAME}-{split}.array_record-*")):
        path.open("rb").close()  # the reader's own error does not name the file
        records += ArrayRecordReader(str(path)).read_all()
    examples = [tf_example_pb2.Example.FromString(record).features.feature for record in records]
    pixels = b"".join(example["image"].bytes_list.value[0] for example in examples)
    labels = np.array([example["label"].int64_list.value[0] for example in examples], np.uint8)
    order = np.argsort([example["index"].int64_list.value[0] for example in examples])
    images = np.frombuffer(pixels, np.uint8).reshape(-1, 28, 28)
    return images[order], labels[order].astype(np.int32)
