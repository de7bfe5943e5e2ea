"""The task that all sides are given: data, start, order, settings. Needs NumPy alone."""

import dataclasses
import functools
import pathlib

import numpy as np

STEPS, FEATURES, HIDDEN, CLASSES = 28, 28, 32, 10
LEARNING_RATE, MOMENTUM, EPOCHS = 0.1, 0.9, 64  # of train.py; the rate is constant in an epoch
NETWORKS = ("plain", "ss", "fb")
IDX = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}


@dataclasses.dataclass(frozen=True)
class Task:
    """What to train.

    Attributes:
        folder: holds the images and labels as IDX files, as torchvision expects them.
        network: `plain`, `ss` or `fb`.
        batch_size: examples per minibatch.
        seed: of start and order.
    """

    folder: pathlib.Path
    network: str
    batch_size: int
    seed: int = 0

    @functools.cached_property
    def images(self) -> np.ndarray:
        """`[n, 28, 28]`, uint8."""
        return read_idx(self.folder / "FashionMNIST" / "raw" / IDX["train_images"])

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """`[n]`, int32."""
        return read_idx(self.folder / "FashionMNIST" / "raw" / IDX["train_labels"]).astype(np.int32)

    @property
    def minibatches(self) -> int:
        """Minibatches per epoch; the last, partial one is dropped."""
        return len(self.labels) // self.batch_size

    def order(self) -> np.ndarray:
        """The order of the examples in which the losses are compared, `[minibatches, batch]`."""
        order = np.random.default_rng(self.seed).permutation(len(self.labels))
        return order[: self.minibatches * self.batch_size].reshape(self.minibatches, -1)

    def start(self) -> dict[str, np.ndarray]:
        """Parameters to start from; kernels are `[in, out]`."""
        random = np.random.default_rng(self.seed + 1)

        def linear(fan_in: int, fan_out: int) -> tuple[np.ndarray, np.ndarray]:
            bound = 1 / np.sqrt(fan_in)
            shapes = (fan_in, fan_out), (fan_out,)
            return tuple(random.uniform(-bound, bound, s).astype(np.float32) for s in shapes)

        start = {}
        start["w1"], start["b1"] = linear(FEATURES, HIDDEN)
        start["w2"], start["b2"] = linear(HIDDEN, CLASSES)
        if self.network == "fb":
            start["wr"], start["br"] = linear(HIDDEN + HIDDEN, HIDDEN)
        if self.network == "ss":
            start["tau"] = np.zeros((), np.float32)  # w = -log(tau - 1) for tau = 2
        return start


def columns(images: np.ndarray) -> np.ndarray:
    """`[..., N, 28, 28]` uint8 -> `[..., T, N, 28]` float32: columns are steps, rows features."""
    return np.moveaxis(images, -1, -3).astype(np.float32) / np.float32(255)


def products(network: str, batch: int) -> list[tuple[int, int, int, int]]:
    """The matrix products of one training step, as `(count, m, k, n)`: [m, k] times [k, n].

    Forward, weight gradient, input gradient; the images need no gradient. A feed-forward layer
    sees all time steps at once. The recurrent half of `fb` runs step by step, but for its weight
    gradient. `if` and `rif` are spyx's networks: as `plain`, and with a recurrent matrix.
    """
    rows = STEPS * batch
    found = [
        (1, rows, FEATURES, HIDDEN),  # hidden layer
        (1, FEATURES, rows, HIDDEN),
        (1, rows, HIDDEN, CLASSES),  # output layer
        (1, HIDDEN, rows, CLASSES),
        (1, rows, CLASSES, HIDDEN),
    ]
    if network == "fb":
        found += [(1, rows, HIDDEN, HIDDEN)] * 2 + [(1, HIDDEN, rows, HIDDEN)]  # of the input
    if network in ("fb", "rif"):
        found += [(STEPS, batch, HIDDEN, HIDDEN)] * 2 + [(1, HIDDEN, rows, HIDDEN)]
    return found


def flops(network: str, batch: int) -> int:
    """FLOPs of the matrix products of one training step."""
    return sum(2 * count * m * k * n for count, m, k, n in products(network, batch))


def write_idx(folder: pathlib.Path, **arrays: np.ndarray) -> None:
    """Writes uint8 arrays as IDX files where torchvision looks for Fashion-MNIST."""
    raw = folder / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name, array in arrays.items():
        header = bytes([0, 0, 8, array.ndim]) + np.asarray(array.shape, ">i4").tobytes()
        (raw / IDX[name]).write_bytes(header + array.astype(np.uint8).tobytes())


def read_idx(path: pathlib.Path) -> np.ndarray:
    """An IDX file of unsigned bytes."""
    content = path.read_bytes()
    axes = content[3]
    shape = np.frombuffer(content, ">i4", axes, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)
