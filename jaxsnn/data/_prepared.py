"""Reading a Fashion-MNIST that TFDS has prepared, ours or TFDS's own, without TensorFlow.

Ours restores the original order. TFDS's own shuffled the examples when it was prepared and kept
no trace of their order, so its order is kept as it is.
"""

import io
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxsnn.data._array_cache import cache_file, load_arrays, save_arrays
from jaxsnn.data._files import SIDE, check_pair
from jaxsnn.data._idx import WAY_OUT
from jaxsnn.data._tfrecord import read_tfrecords
from jaxsnn.data._types import ImageDataset

OURS = "jaxsnn_fashion_mnist"
STOCK = "fashion_mnist"
INFO = "dataset_info.json"
_VERSION = re.compile(r"\d+\.\d+\.\d+")


def find_prepared(directory: Path) -> Path | None:
    """Return the folder of a prepared Fashion-MNIST, or None where there is none.

    Args:
        directory: that folder itself, a data set's folder of versions, or a TFDS ``data_dir``.
            Of several versions the newest counts, and ours comes before TFDS's own.

    Raises:
        ValueError: the directory is a prepared data set, but another one.
    """
    for folder in (directory, directory / OURS, directory / STOCK):
        versions = [path for path in folder.glob("*") if _VERSION.fullmatch(path.name)]
        versions.sort(key=lambda path: [int(number) for number in path.name.split(".")])
        for candidate in (folder, *reversed(versions)):
            if (candidate / INFO).is_file():
                _check_name(candidate)
                return candidate
    return None


def read_prepared(directory: Path, cache: Path) -> ImageDataset:
    """Return the arrays of a prepared Fashion-MNIST, decoded once and kept in a cache.

    Args:
        directory: what `find_prepared` returned.
        cache: the directory in which the decoded arrays are kept.

    Returns:
        The data set. A cache that cannot be written is mentioned in its ``source``.

    Raises:
        ValueError: the content is damaged or not Fashion-MNIST.
        OSError: a file cannot be read, or the images are PNGs and Pillow is not installed.
    """
    source = f"TFDS records in {directory}"
    file = cache_file(cache, directory)
    dataset = load_arrays(file, directory)
    if dataset is None:
        try:
            train, test = _read_split(directory, "train"), _read_split(directory, "test")
        except (OSError, ImportError):
            raise
        except Exception as error:  # TFDS and its parsers raise many kinds for damaged content
            raise ValueError(
                f"{directory}: expected a Fashion-MNIST prepared by TFDS, but it is damaged or "
                f"different ({error}); delete it to have it made again, or name another directory "
                "with data_dir"
            ) from error
        dataset = ImageDataset(*train, *test, source="")
        try:
            save_arrays(file, directory, dataset)
        except OSError as error:
            source += f" (decoded arrays could not be kept: {error})"
    return dataset._replace(source=source)


def _check_name(directory: Path) -> None:
    """Refuse a prepared data set that is not Fashion-MNIST."""
    info = directory / INFO
    try:
        name = json.loads(info.read_text(encoding="utf-8"))["name"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{info}: expected TFDS's description, found a damaged file") from error
    if name not in (OURS, STOCK):
        raise ValueError(
            f"{info}: expected a data set named {STOCK!r} or {OURS!r}, found {name!r}; {WAY_OUT}"
        )


def _read_split(directory: Path, split: str) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Decode one split, ``train`` or ``test``, in its original order where that is known."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(directory)
    features = builder.info.features
    if split not in builder.info.splits or not {"image", "label"} <= set(features):
        raise ValueError(f"found splits {sorted(builder.info.splits)}, features {sorted(features)}")
    is_png = isinstance(features["image"], tfds.features.Image)
    pixels = _png_decoder(directory) if is_png else bytes  # before any slow reading
    examples = list(_examples(builder, split))
    expected = builder.info.splits[split].num_examples
    if len(examples) != expected:
        raise ValueError(f"found {len(examples)} of {expected} examples in the split {split!r}")
    content = b"".join(pixels(example["image"]) for example in examples)
    images = np.frombuffer(content, np.uint8).reshape(-1, SIDE, SIDE)
    labels = np.array([example["label"] for example in examples], np.int32)
    if "index" in features:
        order = np.argsort([example["index"] for example in examples])
        images, labels = images[order], labels[order]
    check_pair(images, labels, f"{directory}, split {split!r}")
    return images, labels


def _png_decoder(directory: Path) -> Callable[[bytes], bytes]:
    """Return a function that turns a PNG file into its grey pixels; only it needs Pillow."""
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


def _examples(builder: Any, split: str) -> Iterable[dict[str, Any]]:
    """Return a split's examples as TFDS parses them, but with the images still encoded."""
    import tensorflow_datasets as tfds

    decoders = {"image": tfds.decode.SkipDecoding()}
    if builder.info.file_format is not tfds.core.FileFormat.TFRECORD:
        source = builder.as_data_source(split, decoders=decoders)
        # one call for all: asking for one record after another is twenty times slower
        return source.__getitems__(range(len(source)))
    parse = builder.info.features.deserialize_example_np
    return (
        parse(record, decoders=decoders)
        for path in builder.info.splits[split].filepaths
        for record in read_tfrecords(Path(path))
    )
