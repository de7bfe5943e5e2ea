"""Trains networks with normalisation and dropout as one of several processes.

    one_of_several.py NUMBER ID COORDINATOR FILE

Process 0 writes parameters and running statistics to FILE; see test_processes.py.
"""

import sys

import composed
import jax
import numpy as np

from jaxsnn.experiment import devices

NAMES = ("dense", "padded")


def main(number, own, coordinator, file):
    """Trains on the devices of all processes, on the device and streamed."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", True)
    if number > 1:
        devices.join(coordinator, number, own)
    chosen = devices.select("cpu", "all")
    there = chosen if len(chosen) > 1 else None
    found = {}
    for name in NAMES:
        for streamed in (False, True):
            leaves = jax.tree.leaves_with_path(composed.trained(name, there, streamed=streamed))
            for path, leaf in leaves:
                found[f"{name} {streamed} {jax.tree_util.keystr(path)}"] = leaf
    devices.wait_for_all()
    if own == 0:
        np.savez(file, **found)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
