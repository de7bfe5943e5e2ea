"""Reading a Fashion-MNIST that TFDS has prepared, ours or TFDS's own, without TensorFlow.

Ours restores the original order. TFDS's own shuffled the examples when it was prepared and kept
no trace of their order, so its order is kept as it is.
"""

import json
import re
from pathlib import Path

from jaxsnn.data._array_cache import cache_file, load_arrays, save_arrays
from jaxsnn.data._idx import WAY_OUT
from jaxsnn.data._records import OURS, STOCK, Info, pixel_decoder, read_split
from jaxsnn.data._types import ImageDataset

INFO = "dataset_info.json"
_AGAIN = "delete it to have it made again, or name another directory with data_dir"
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
                _read_info(candidate)
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
        dataset = _decode(directory)
        try:
            save_arrays(file, directory, dataset)
        except OSError as error:
            source += f" (decoded arrays could not be kept: {error})"
    return dataset._replace(source=source)


def _decode(directory: Path) -> ImageDataset:
    """Return the arrays of a prepared Fashion-MNIST, or say why not and what to do."""
    info = _read_info(directory)
    pixels = pixel_decoder(directory, info)
    try:
        train = read_split(directory, info, "train", pixels)
        test = read_split(directory, info, "test", pixels)
    except OSError as error:
        raise OSError(f"{directory}: a file cannot be read ({error}); {_AGAIN}") from error
    except Exception as error:  # TFDS and its parsers raise many kinds for damaged content
        raise ValueError(
            f"{directory}: expected a Fashion-MNIST prepared by TFDS, but it is damaged or "
            f"different ({error}); {_AGAIN}"
        ) from error
    return ImageDataset(*train, *test, source="")


def _read_info(directory: Path) -> Info:
    """Return what TFDS's description says; refuse a data set that is not Fashion-MNIST."""
    path = directory / INFO
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
        name, file_format = info["name"], info.get("fileFormat", "tfrecord")
        lengths = {s["name"]: [int(n) for n in s["shardLengths"]] for s in info["splits"]}
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{path}: expected TFDS's description, found a damaged file; {_AGAIN}"
        ) from error
    if name not in (OURS, STOCK):
        raise ValueError(
            f"{path}: expected a data set named {STOCK!r} or {OURS!r}, found {name!r}; {WAY_OUT}"
        )
    return Info(name, file_format, lengths)
