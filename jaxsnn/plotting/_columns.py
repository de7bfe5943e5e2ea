"""An image as the networks get it: column by column, one in a time step."""

from collections.abc import Iterable

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.animation import FuncAnimation
from matplotlib.artist import Artist
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from jaxsnn import _checks
from jaxsnn.plotting._style import STYLE, array


@matplotlib.rc_context(STYLE)
def read_columns(image: ArrayLike, *, seen_only: bool = False) -> FuncAnimation:
    """Shows an image being read from left to right, a column in a time step.

    Args:
        image: grey values, `[H, W]`.
        seen_only: False shows the whole image and marks the column that is being read; True
            shows the columns read so far and leaves the others white.

    Returns:
        An animation of `W` frames, ten in a second. Keep it in a variable until it is saved
        (`.save("columns.gif")`) or shown (`.to_jshtml()` in a notebook).

    Raises:
        TypeError: `seen_only` is not a bool.
        ValueError: `image` has other axes or is empty.
    """
    remedy = "of images [N, H, W] take one, images[0], of [H, W, 1] image[..., 0]"
    pixels = array("image", image, (2,), "[H, W]", remedy).astype(np.float64)
    _checks.boolean("seen_only", seen_only)
    height, width = pixels.shape
    figure, ax = plt.subplots(figsize=(3.0, 3.2))
    ax.spines[:].set_visible(True)
    ax.set(title="t = 0", xlabel="column = time step", ylabel="row = input feature")
    picture = ax.imshow(pixels, cmap="gray", vmin=pixels.min(), vmax=pixels.max())
    out = 0.03 * height  # beyond the image, to be seen in grey print too
    mark = Rectangle((-0.5, -0.5 - out), 1, height + 2 * out, fill=False, edgecolor="#D55E00")
    mark.set(clip_on=False, linewidth=2, visible=not seen_only, zorder=3)
    ax.add_patch(mark)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # what is laid out stays, or the image would tremble

    def show(step: int) -> Iterable[Artist]:
        if seen_only:
            picture.set_data(np.where(np.arange(width) <= step, pixels, np.nan))
        mark.set_x(step - 0.5)
        return picture, mark, ax.set_title(f"t = {step}")

    return FuncAnimation(figure, show, frames=width, interval=100)
