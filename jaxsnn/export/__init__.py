"""Trained networks as files that run with JAX alone, on data of any batch size and length.

A file is a zip archive of programs in StableHLO, with the parameters inside:

    metadata.json   versions, platforms; inputs and outputs of each program, by name
    start.bin       x -> carry                 the state before the first time step
    step.bin        (carry, x) -> (carry, y)   one time step
    run.bin         xs -> ys                   a whole sequence

`carry` is a flat tuple of arrays. Each `.bin` is what `jax.export.deserialize` reads, so that the
network runs where neither this package nor Flax is installed.
"""

from jaxsnn.export._load import Network as Network
from jaxsnn.export._load import load as load
from jaxsnn.export._save import save as save
