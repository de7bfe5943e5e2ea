"""Data sets as NumPy arrays, checked before use; TFDS is imported only where it is used."""

from ._fashion_mnist import fashion_mnist as fashion_mnist
from ._fingerprint import fingerprint as fingerprint
from ._load import DATASETS as DATASETS
from ._load import load as load
from ._mini import fashion_mnist_mini as fashion_mnist_mini
from ._sequences import SEQUENCES as SEQUENCES
from ._sequences import columns as columns
from ._sequences import rows as rows
from ._types import ImageDataset as ImageDataset
