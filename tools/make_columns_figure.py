"""Draw docs/assets/columns.png: an image of the mini set, read column by column.

``python tools/make_columns_figure.py`` (needs Pillow).
"""

from pathlib import Path

import numpy as np
from PIL import Image

import jaxsnn.data

SNEAKER = 7
STEPS = (7, 14, 21, 28)
SCALE, GAP = 5, 20
MARK = (63, 81, 181)


def panel(image: np.ndarray, steps: int) -> np.ndarray:
    """What has been seen after some steps: faded, the last column as it is, between two lines."""
    ink = image.astype(float)
    ink[:, : steps - 1] *= 0.45
    ink[:, steps:] = 0
    grey = (255 - ink).astype(np.uint8).repeat(SCALE, 0).repeat(SCALE, 1)
    pixels = np.stack([grey] * 3, axis=-1)
    pixels[:, steps * SCALE :] = 236
    for edge in ((steps - 1) * SCALE, steps * SCALE - 1):
        pixels[:, edge] = MARK
    return pixels


def main() -> None:
    """Write the figure."""
    images = jaxsnn.data.fashion_mnist_mini()
    sneaker = images.train_images[np.flatnonzero(images.train_labels == SNEAKER)[0]]
    panels = [panel(sneaker, steps) for steps in STEPS]
    gap = np.full((panels[0].shape[0], GAP, 3), 255, np.uint8)
    row = [piece for one in panels for piece in (one, gap)][:-1]
    target = Path(__file__).parent.parent / "docs" / "assets" / "columns.png"
    Image.fromarray(np.concatenate(row, axis=1)).save(target, optimize=True)


if __name__ == "__main__":
    main()
