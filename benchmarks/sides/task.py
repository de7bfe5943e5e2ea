"""The task that all sides are given: data, start, order, settings. Needs NumPy alone."""

import dataclasses
import functools
import pathlib

import numpy as np

STEPS, FEATURES, HIDDEN, CLASSES = 28, 28, 32, 10
LEARNING_RATE, MOMENTUM, EPOCHS = 0.1, 0.9, 64  # of train.py; the rate is constant in an epoch
TUTORIAL = ("plain", "ss", "fb")
NETWORKS = (*TUTORIAL, "sew")
# The convolutional network: an image is shown at each of 4 steps to 16 channels.
SEW_STEPS, SIDE, CHANNELS, WINDOW = 4, 28, 16, 3
SEW_EXAMPLES, SEW_BATCH = 1000, 50
SEW_LEARNING_RATE = 1e-3  # its readout sums 784 channels without bound: 0.1 diverges
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
        network: `plain`, `ss`, `fb` or `sew`.
        batch_size: examples per minibatch.
        examples: how many of the images are used; None is all.
        seed: of start and order.
    """

    folder: pathlib.Path
    network: str
    batch_size: int
    examples: int | None = None
    seed: int = 0

    @functools.cached_property
    def images(self) -> np.ndarray:
        """`[n, 28, 28]`, uint8."""
        images = read_idx(self.folder / "FashionMNIST" / "raw" / IDX["train_images"])
        return images[: self.examples]

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """`[n]`, int32."""
        labels = read_idx(self.folder / "FashionMNIST" / "raw" / IDX["train_labels"])
        return labels[: self.examples].astype(np.int32)

    @property
    def learning_rate(self) -> float:
        """Learning rate of SGD."""
        return SEW_LEARNING_RATE if self.network == "sew" else LEARNING_RATE

    @property
    def minibatches(self) -> int:
        """Minibatches per epoch; the last, partial one is dropped."""
        return len(self.labels) // self.batch_size

    def order(self) -> np.ndarray:
        """The order of the examples in which the losses are compared, `[minibatches, batch]`."""
        order = np.random.default_rng(self.seed).permutation(len(self.labels))
        return order[: self.minibatches * self.batch_size].reshape(self.minibatches, -1)

    def start(self) -> dict[str, np.ndarray]:
        """Parameters to start from; kernels are `[in, out]`, of convolutions `[h, w, in, out]`."""
        random = np.random.default_rng(self.seed + 1)

        def linear(fan_in: int, fan_out: int) -> tuple[np.ndarray, np.ndarray]:
            bound = 1 / np.sqrt(fan_in)
            shapes = (fan_in, fan_out), (fan_out,)
            return tuple(random.uniform(-bound, bound, s).astype(np.float32) for s in shapes)

        start = {}
        if self.network == "sew":
            for k in range(5):  # of the stem, and two in each block
                shape = WINDOW, WINDOW, CHANNELS if k else 1, CHANNELS
                bound = 1 / np.sqrt(np.prod(shape[:-1]))
                start[f"conv{k}"] = random.uniform(-bound, bound, shape).astype(np.float32)
            start["w"], start["b"] = linear((SIDE // 4) ** 2 * CHANNELS, CLASSES)
            return start
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


def frames(images: np.ndarray) -> np.ndarray:
    """`[..., N, 28, 28]` uint8 -> `[..., T, N, 28, 28]` float32: each image at every step."""
    scaled = images.astype(np.float32) / np.float32(255)
    return np.repeat(scaled[..., None, :, :, :], SEW_STEPS, axis=-4)


def products(network: str, batch: int) -> list[tuple[int, int, int, int]]:
    """The matrix products of one training step, as `(count, m, k, n)`: [m, k] times [k, n].

    Forward, weight gradient, input gradient; the images need no gradient. A feed-forward layer
    sees all time steps at once. The recurrent half of `fb` runs step by step, but for its weight
    gradient. `if` and `rif` are spyx's networks: as `plain`, and with a recurrent matrix. A
    convolution of `sew` is the product of the windows of its input and the kernel.
    """
    if network == "sew":
        return _products_of_sew(batch)
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


def _products_of_sew(batch: int) -> list[tuple[int, int, int, int]]:
    window = WINDOW**2 * CHANNELS
    stem = SEW_STEPS * batch * SIDE**2, WINDOW**2, CHANNELS
    layers = [(1, stem), *((2, (stem[0] // shrunk, window, CHANNELS)) for shrunk in (1, 4))]
    layers.append((1, (SEW_STEPS * batch, (SIDE // 4) ** 2 * CHANNELS, CLASSES)))
    found = []
    for count, (rows, fan_in, out) in layers:
        found += [(count, rows, fan_in, out), (count, fan_in, rows, out)]
        if fan_in != WINDOW**2:  # the images need no gradient
            found.append((count, rows, out, fan_in))
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
