"""Data sets as NumPy arrays, checked before use; TFDS is imported only where it is used."""

from jaxsnn.data._dataset import ImageDataset as ImageDataset
from jaxsnn.data._dataset import fingerprint as fingerprint
from jaxsnn.data._dataset import hold_out as hold_out
from jaxsnn.data._fashion_mnist import DATASETS as DATASETS
from jaxsnn.data._fashion_mnist import fashion_mnist as fashion_mnist
from jaxsnn.data._fashion_mnist import load as load
from jaxsnn.data._mini import fashion_mnist_mini as fashion_mnist_mini
from jaxsnn.data._sequences import SEQUENCES as SEQUENCES
from jaxsnn.data._sequences import columns as columns
from jaxsnn.data._sequences import rows as rows
