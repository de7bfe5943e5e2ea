"""The records of a Fashion-MNIST that TFDS has prepared, ours or TFDS's own, without TensorFlow.

What the examples look like is known for both. So of the description beside them only names and
numbers of records are used, and the Python classes that it names are not imported.
"""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxsnn.data._files import SIDE, check_pair
from jaxsnn.data._published import check_examples
from jaxsnn.data._tfrecord import read_tfrecords

OURS = "jaxsnn_fashion_mnist"
STOCK = "fashion_mnist"


class Info(NamedTuple):
    """What a prepared data set says of its files.

    Attributes:
        name: the data set's name.
        file_format: ``"array_record"`` or ``"tfrecord"``.
        shard_lengths: of each split, the number of records in each of its files.
    """

    name: str
    file_format: str
    shard_lengths: dict[str, list[int]]


def pixel_decoder(directory: Path, info: Info) -> Callable[[bytes], bytes]:
    """Return a function that turns a stored image into its grey pixels; only PNGs need Pillow.

    Args:
        directory: for the message.
        info: ours stores the pixels as they are, TFDS's own stores PNG files.

    Raises:
        OSError: the images are PNGs, and Pillow is not installed.
    """
    if info.name == OURS:
        return bytes
    try:
        from PIL import Image
    except ImportError as error:
        raise OSError(
            f"{directory}: the images are PNGs, which takes Pillow to read ({error}); pip install "
            "pillow, name another directory with data_dir, or leave it out to have one looked for"
        ) from error

    def pixels(file: bytes) -> bytes:
        try:
            with Image.open(io.BytesIO(file), formats=["PNG"]) as image:
                found = (image.mode, image.size)
                if found == ("L", (SIDE, SIDE)):
                    return image.tobytes()
        except OSError as error:  # damaged content, nothing of the system's
            raise ValueError(f"a PNG image is damaged: {error}") from error
        raise ValueError(f"expected PNGs of mode 'L' and size {SIDE, SIDE}, found {found}")

    return pixels


def read_split(
    directory: Path, info: Info, split: str, pixels: Callable[[bytes], bytes]
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Decode one split, in its original order where that is known.

    Args:
        directory: where the records' files are.
        info: what the data set says of them.
        split: ``"train"`` or ``"test"``.
        pixels: what `pixel_decoder` returned.

    Raises:
        OSError: a file cannot be read.
        Exception: of any kind, for damaged content.
    """
    ours = info.name == OURS
    examples = list(_examples(directory, info, split))
    content = b"".join(pixels(example["image"]) for example in examples)
    images = np.frombuffer(content, np.uint8).reshape(-1, SIDE, SIDE)
    labels = np.array([example["label"] for example in examples], np.int32)
    if ours:
        index = np.array([example["index"] for example in examples])
        order = np.argsort(index)
        if not np.array_equal(index[order], np.arange(len(index))):
            raise ValueError(f"the examples of the split {split!r} are not numbered from 0 on")
        images, labels = images[order], labels[order]
    check_pair(images, labels, f"split {split!r}")
    check_examples(split, images, labels, ordered=ours)
    return images, labels


def _examples(directory: Path, info: Info, split: str) -> Iterator[dict[str, Any]]:
    """Yield a split's examples as TFDS parses them, but with the images still encoded."""
    import tensorflow_datasets as tfds

    from jaxsnn.data._builder import features, stock_features

    known = features() if info.name == OURS else stock_features()
    decoders = {"image": tfds.decode.SkipDecoding()}
    formats = {"array_record": _read_array_records, "tfrecord": read_tfrecords}
    if info.file_format not in formats:
        raise ValueError(f"expected files in {' or '.join(formats)}, found {info.file_format!r}")
    lengths = info.shard_lengths.get(split)
    if not lengths:
        raise ValueError(f"found no split {split!r}")
    for number, expected in enumerate(lengths):
        shard = f"{number:05d}-of-{len(lengths):05d}"
        path = directory / f"{info.name}-{split}.{info.file_format}-{shard}"
        records = list(formats[info.file_format](path))
        if len(records) != expected:
            raise ValueError(f"found {len(records)} of {expected} examples in {path.name}")
        for record in records:
            yield known.deserialize_example_np(record, decoders=decoders)


def _read_array_records(path: Path) -> list[bytes]:
    """Return all records of an ArrayRecord file, whose checksums its reader verifies."""
    from array_record.python.array_record_module import ArrayRecordReader

    path.open("rb").close()  # the reader's own error does not say which file is missing
    reader = ArrayRecordReader(str(path))
    try:
        return reader.read_all()
    finally:
        reader.close()
