"""Figures of spikes, potentials, results and networks, with Matplotlib, in one look."""

try:
    import matplotlib as matplotlib
except ModuleNotFoundError as error:
    raise ImportError(
        'jaxsnn.plotting needs Matplotlib: pip install "jaxsnn-nnx[plot]", or from source '
        'pip install -e ".[plot]"'
    ) from error

from jaxsnn.plotting._columns import read_columns as read_columns
from jaxsnn.plotting._diagrams import feedback_diagram as feedback_diagram
from jaxsnn.plotting._diagrams import network_diagram as network_diagram
from jaxsnn.plotting._neurons import current as current
from jaxsnn.plotting._neurons import membrane as membrane
from jaxsnn.plotting._neurons import raster as raster
from jaxsnn.plotting._neurons import surrogate as surrogate
from jaxsnn.plotting._results import confusion_matrix as confusion_matrix
from jaxsnn.plotting._results import learning_curves as learning_curves
from jaxsnn.plotting._style import STYLE as STYLE
