"""Data sets prepared by TFDS, ours and its own, made and read without TensorFlow."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from fake_files import png_bytes

from jaxsnn.data import ImageDataset, fashion_mnist
from jaxsnn.data import _prepared as prepared_module
from jaxsnn.data import _records as records_module
from jaxsnn.data._builder import prepare
from jaxsnn.data._prepared import find_prepared
from jaxsnn.data._records import Info


def _as_sets(dataset: ImageDataset) -> list[set[tuple[bytes, int]]]:
    """Return the pairs of image and label of both splits, without their order."""
    train, test = dataset[:2], dataset[2:4]
    return [
        {(image.tobytes(), int(label)) for image, label in zip(*pair, strict=True)}
        for pair in (train, test)
    ]


@pytest.mark.parametrize("level", ["", "..", "../.."])
def test_ours_restores_the_order(ours: Path, level: str, same, fake: ImageDataset) -> None:
    dataset = fashion_mnist((ours / level).resolve())
    same(dataset, fake)
    assert dataset.source == f"TFDS records in {ours}"


def test_ours_is_registered_and_shuffled_on_disk(ours: Path, fake: ImageDataset) -> None:
    builder = tfds.builder("jaxsnn_fashion_mnist", data_dir=ours.parents[1])
    source = builder.as_data_source("train")
    assert len(source) == 30
    index = [example["index"] for example in source]
    assert index != sorted(index)  # else the test above could not fail
    for example in source:
        np.testing.assert_array_equal(
            example["image"][:, :, 0], fake.train_images[example["index"]]
        )


@pytest.mark.parametrize("kind", ["stock", "stock_tfrecord"])
def test_tfds_own_keeps_its_order(
    kind: str, request: pytest.FixtureRequest, fake: ImageDataset
) -> None:
    directory = request.getfixturevalue(kind)
    dataset = fashion_mnist(directory)
    assert dataset.train_images.dtype == np.uint8
    assert dataset.train_labels.dtype == np.int32
    assert _as_sets(dataset) == _as_sets(fake)
    assert not np.array_equal(dataset.train_images, fake.train_images)


def test_both_formats_of_tfds_own_are_the_same(
    stock: Path, request: pytest.FixtureRequest, same
) -> None:
    dataset = fashion_mnist(stock)
    same(fashion_mnist(request.getfixturevalue("stock_tfrecord")), dataset)


def test_ours_comes_first_and_the_newest_version(tmp_path: Path, ours: Path, stock: Path) -> None:
    assert find_prepared(tmp_path / "tfds") == ours
    for version in ("1.2.0", "1.10.0"):
        shutil.copytree(ours, ours.parent / version)
    assert find_prepared(tmp_path / "tfds") == ours.parent / "1.10.0"


def test_no_tensorflow(ours: Path, stock_tfrecord: Path) -> None:
    fashion_mnist(ours)
    fashion_mnist(stock_tfrecord)
    assert "tensorflow" not in sys.modules


def test_only_the_records_and_their_numbers_are_believed(
    ours: Path, stock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same, fake
) -> None:
    """TFDS would import the modules that features.json names."""
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    before = fashion_mnist(stock)
    for directory in (ours, stock):
        text = (directory / "features.json").read_text()
        assert "tensorflow_datasets.core.features.class_label_feature" in text
        text = text.replace("tensorflow_datasets.core.features.class_label_feature", "evil")
        (directory / "features.json").write_text(text)
    same(fashion_mnist(ours), fake)
    same(fashion_mnist(stock), before)
    (ours / "features.json").unlink()
    same(fashion_mnist(ours), fake)


class TestPublished:
    """As many examples as were published must be those that were published."""

    @pytest.mark.parametrize("kind", ["ours", "stock", "stock_tfrecord"])
    @pytest.mark.parametrize("split", ["train", "test"])
    def test_other_examples_are_refused(
        self, kind: str, split: str, request: pytest.FixtureRequest, fake: ImageDataset
    ) -> None:
        directory = request.getfixturevalue(kind)
        (fake.train_images if split == "train" else fake.test_images)[3, 4, 5] ^= 1
        request.getfixturevalue("published")
        with pytest.raises(ValueError, match=f"{directory}: .*the split '{split}' has as many"):
            fashion_mnist(directory)

    @pytest.mark.parametrize("kind", ["ours", "stock"])
    def test_only_ours_has_an_order(
        self, kind: str, request: pytest.FixtureRequest, fake: ImageDataset
    ) -> None:
        directory = request.getfixturevalue(kind)
        for array in fake[:2]:
            array[[3, 4]] = array[[4, 3]]
        request.getfixturevalue("published")
        if kind == "ours":
            with pytest.raises(ValueError, match=f"{directory}: .*the split 'train' has as many"):
                fashion_mnist(directory)
        else:
            fashion_mnist(directory)


class TestWithoutPillow:
    """TFDS's own images need Pillow, and nothing else does."""

    @pytest.fixture(autouse=True)
    def no_pillow(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        if "stock" in request.fixturenames:
            request.getfixturevalue("stock")  # made with Pillow
        monkeypatch.setitem(sys.modules, "PIL", None)

    def test_a_named_directory_is_an_error(self, stock: Path) -> None:
        with pytest.raises(OSError, match=f"^{stock}: .*Pillow.*pip install pillow.*data_dir"):
            fashion_mnist(stock)

    def test_the_variable_is_an_error(self, stock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("JAXSNN_DATA_DIR", str(stock))
        with pytest.raises(OSError, match=f"{stock}: .*pip install pillow"):
            fashion_mnist()

    def test_tfds_default_is_passed_over(
        self,
        tmp_path: Path,
        stock: Path,
        write_idx,
        same,
        fake: ImageDataset,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
        write_idx(tmp_path / "not-installed")  # which the system's package is taken from
        dataset = fashion_mnist(download=False)
        same(dataset, fake)
        assert f"passed over {stock}: the images are PNGs" in dataset.source
        assert "pip install pillow" in dataset.source

    def test_ours_is_read(self, ours: Path, same, fake: ImageDataset) -> None:
        same(fashion_mnist(ours), fake)


def test_preparing_prints_nothing(ours: Path, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    prepare(ours.parents[2] / "idx", ours.parents[2] / "again")
    assert capfd.readouterr() == ("", "")


class TestDecodedArrays:
    """Decoding happens once for a directory, and again when that or the copy has changed."""

    @pytest.fixture
    def decoded(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        splits: list[str] = []
        read = prepared_module.read_split

        def spy(directory: Path, info: Info, split: str, *more):
            splits.append(split)
            return read(directory, info, split, *more)

        monkeypatch.setattr(prepared_module, "read_split", spy)
        return splits

    def _file(self, home: Path) -> Path:
        (file,) = (home / ".cache/jaxsnn/arrays").iterdir()
        return file

    def test_are_used_the_second_time(
        self, ours: Path, decoded: list[str], same, fake: ImageDataset
    ) -> None:
        first, second = fashion_mnist(ours), fashion_mnist(ours)
        assert decoded == ["train", "test"]
        same(first, fake)
        same(second, fake)
        assert first.source == second.source

    def test_are_made_again_when_deleted(
        self, ours: Path, home: Path, decoded: list[str], same, fake: ImageDataset
    ) -> None:
        fashion_mnist(ours)
        self._file(home).unlink()
        same(fashion_mnist(ours), fake)
        assert decoded == ["train", "test"] * 2
        assert self._file(home).is_file()

    @pytest.mark.parametrize("damage", [b"", b"no archive", None])
    def test_are_made_again_when_damaged(
        self, ours: Path, home: Path, decoded: list[str], same, fake: ImageDataset, damage
    ) -> None:
        fashion_mnist(ours)
        file = self._file(home)
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content if damage is None else damage)
        same(fashion_mnist(ours), fake)
        assert decoded == ["train", "test"] * 2

    def test_are_made_again_when_an_array_has_become_shorter(
        self, ours: Path, home: Path, decoded: list[str], same, fake: ImageDataset
    ) -> None:
        """Of such a file numpy.load returns ten of the thirty images, without complaint."""
        fashion_mnist(ours)
        file = self._file(home)
        content = file.read_bytes()
        assert content.count(b"(30, 28, 28)") == 1
        file.write_bytes(content.replace(b"(30, 28, 28)", b"(10, 28, 28)"))
        same(fashion_mnist(ours), fake)
        assert decoded == ["train", "test"] * 2

    def test_are_made_again_when_the_directory_changes(
        self, ours: Path, home: Path, decoded: list[str]
    ) -> None:
        fashion_mnist(ours)
        (ours / "features.json").touch()
        fashion_mnist(ours)
        assert decoded == ["train", "test"] * 2
        self._file(home)  # the outdated copy has been replaced

    def test_never_go_into_a_named_directory(self, ours: Path) -> None:
        before = sorted(ours.parents[1].rglob("*"))
        fashion_mnist(ours.parents[1])
        assert sorted(ours.parents[1].rglob("*")) == before

    def test_that_cannot_be_kept_are_mentioned(
        self, ours: Path, home: Path, same, fake: ImageDataset
    ) -> None:
        (home / ".cache").write_text("in the way")
        dataset = fashion_mnist(ours)
        same(dataset, fake)
        assert "decoded arrays could not be kept" in dataset.source


class TestDamage:
    """Damaged or foreign content ends in a ValueError that names it."""

    def test_another_data_set(self, stock: Path) -> None:
        info = stock / "dataset_info.json"
        info.write_text(info.read_text().replace('"fashion_mnist"', '"mnist"'))
        with pytest.raises(ValueError, match=f"{info}: expected .* found 'mnist'"):
            fashion_mnist(stock)

    @pytest.mark.parametrize(
        "text", ["{", "[]", "3", "{}", '{"name": "fashion_mnist", "splits": [3]}', "[" * 100_000]
    )
    def test_a_broken_description(self, stock: Path, text: str) -> None:
        (stock / "dataset_info.json").write_text(text)
        complaint = r"dataset_info.json: .* found a damaged file; .*data_dir"
        with pytest.raises(ValueError, match=complaint):
            fashion_mnist(stock)

    @pytest.mark.parametrize("kind", ["ours", "stock", "stock_tfrecord"])
    @pytest.mark.parametrize("keep", [0, 0.5])
    def test_cut_records(self, kind: str, keep: float, request: pytest.FixtureRequest) -> None:
        directory = request.getfixturevalue(kind)
        (file,) = directory.glob("*-train.*")
        content = file.read_bytes()
        file.write_bytes(content[: int(len(content) * keep)])
        with pytest.raises(ValueError, match=f"{directory}: .* damaged or different"):
            fashion_mnist(directory)

    @pytest.mark.parametrize("kind", ["ours", "stock_tfrecord"])
    def test_missing_records(self, kind: str, request: pytest.FixtureRequest) -> None:
        directory = request.getfixturevalue(kind)
        (file,) = directory.glob("*-test.*")
        file.unlink()
        with pytest.raises(
            OSError, match=f"{directory}: a file cannot be read .*{file.name}.*data_dir"
        ):
            fashion_mnist(directory)

    def test_fewer_records_than_described(self, stock_tfrecord: Path) -> None:
        (file,) = stock_tfrecord.glob("*-test.*")
        content = file.read_bytes()
        first = 12 + int.from_bytes(content[:8], "little") + 4
        file.write_bytes(content[first:])
        with pytest.raises(ValueError, match="found 19 of 20 examples in fashion_mnist-test"):
            fashion_mnist(stock_tfrecord)

    @pytest.mark.parametrize("kind", ["ours", "stock", "stock_tfrecord"])
    def test_a_smaller_number_in_the_description(
        self, kind: str, request: pytest.FixtureRequest
    ) -> None:
        directory = request.getfixturevalue(kind)
        info = directory / "dataset_info.json"
        info.write_text(info.read_text().replace('"30"', '"10"'))
        with pytest.raises(ValueError, match=f"{directory}: .*found 30 of 10 examples in .*-train"):
            fashion_mnist(directory)

    @pytest.mark.parametrize("index", [0, 31, -1])
    def test_another_index(self, ours: Path, monkeypatch: pytest.MonkeyPatch, index: int) -> None:
        examples = [{"image": bytes(28 * 28), "label": 0, "index": n} for n in range(30)]
        examples[7]["index"] = index
        monkeypatch.setattr(records_module, "_examples", lambda *arguments: examples)
        with pytest.raises(ValueError, match=f"{ours}: .*'train' are not numbered from 0 on"):
            fashion_mnist(ours)

    @pytest.mark.parametrize(
        ("shape", "file_format", "keep", "complaint"),
        [
            ((28, 28, 3), "PNG", None, r"expected .* found \('RGB', \(28, 28\)\)"),
            ((28, 27), "PNG", None, r"expected .* found \('L', \(27, 28\)\)"),
            ((28, 28), "BMP", None, "a PNG image is damaged"),
            ((28, 28), "PNG", 400, "a PNG image is damaged"),
            ((28, 28), "PNG", 0, "a PNG image is damaged"),
        ],
    )
    def test_other_images(
        self,
        stock: Path,
        monkeypatch: pytest.MonkeyPatch,
        shape: tuple[int, ...],
        file_format: str,
        keep: int | None,
        complaint: str,
    ) -> None:
        noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        examples = [{"image": png_bytes(noise, file_format)[:keep], "label": 0}] * 30
        monkeypatch.setattr(records_module, "_examples", lambda *arguments: examples)
        with pytest.raises(ValueError, match=f"{stock}: .*{complaint}"):
            fashion_mnist(stock)

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            ({"fileFormat": "riegeli"}, "expected files in array_record or tfrecord, .*'riegeli'"),
            ({"fileFormat": ["tfrecord"]}, "unhashable"),
            ({"splits": []}, "found no split 'train'"),
            ({"splits": [{"name": "train", "shardLengths": []}]}, "found no split 'train'"),
            ({"splits": [{"name": "train", "shardLengths": ["30"]}]}, "found no split 'test'"),
        ],
    )
    def test_a_description_of_what_cannot_be_read(
        self, stock: Path, change: dict[str, object], complaint: str
    ) -> None:
        info = json.loads((stock / "dataset_info.json").read_text())
        (stock / "dataset_info.json").write_text(json.dumps(info | change))
        with pytest.raises(ValueError, match=f"{stock}: .*{complaint}"):
            fashion_mnist(stock)
