"""Figures: what stands on the axes is what was put in; nothing outlasts a call; bad input."""

import jax.numpy as jnp
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from flax import nnx
from matplotlib.colors import to_rgb
from matplotlib.patches import FancyBboxPatch
from PIL import Image, ImageSequence

from jaxsnn import models, nn, plotting, surrogate

SPIKES = np.array([[0, 1, 0], [1, 1, 0], [0, 0, 0], [0, 1, 1]])  # [T=4, neurons=3]
V = np.array([[0.5, 0.1, 0.2], [0.9, 0.0, 0.4], [0.3, 0.7, 0.6], [0.6, 0.0, 0.8]])
CURVES = {"plain": np.array([[50.0, 60.0, 66.0], [54.0, 61.0, 70.0]]), "ss": [55.0, 65.0, 75.0]}
IMAGE = np.array([[0, 40, 80, 120], [200, 160, 255, 100], [30, 60, 90, 250]], np.uint8)

# Every function that returns axes, with good arguments.
DRAW = {
    "raster": lambda **ax: plotting.raster(SPIKES, **ax),
    "membrane": lambda **ax: plotting.membrane(V, threshold=1.0, spikes=SPIKES, **ax),
    "current": lambda **ax: plotting.current(V, **ax),
    "surrogate": lambda **ax: plotting.surrogate(surrogate.ATan(), **ax),
    "learning_curves": lambda **ax: plotting.learning_curves(CURVES, **ax),
    "confusion_matrix": lambda **ax: plotting.confusion_matrix([0, 1], [1, 1], **ax),
    "network_diagram": lambda **ax: plotting.network_diagram("fb", **ax),
    "feedback_diagram": lambda **ax: plotting.feedback_diagram(**ax),
}


@pytest.fixture(autouse=True)
def no_figure_is_left():
    yield
    plt.close("all")


def line(ax, label):
    (found,) = [line for line in ax.lines if line.get_label() == label]
    return found


def marked(ax):
    """The published values, as (epoch, value)."""
    return [
        point
        for drawn in ax.lines
        if drawn.get_marker() == "D"
        for point in map(tuple, drawn.get_xydata())
    ]


def texts(ax):
    return [text.get_text() for text in ax.texts]


@pytest.mark.parametrize("name", DRAW)
def test_axes_are_made_or_used_and_settings_do_not_outlast_the_call(name, monkeypatch):
    monkeypatch.setattr(plt, "show", lambda *args, **kwargs: pytest.fail("shown"))
    before = matplotlib.rcParams.copy()
    ax = DRAW[name]()
    assert plt.get_fignums() == [ax.get_figure().number]
    ax.get_figure().canvas.draw()
    figure, (left, right) = plt.subplots(1, 2)
    plt.sca(left)
    assert DRAW[name](ax=right) is right
    assert not left.has_data()
    assert right.has_data()
    figure.canvas.draw()
    assert len(plt.get_fignums()) == 2
    assert dict(matplotlib.rcParams) == dict(before)


@pytest.mark.parametrize("name", DRAW)
def test_an_array_of_axes_is_refused(name):
    _, pair = plt.subplots(1, 2)
    with pytest.raises(TypeError, match="ax must be one Matplotlib Axes or None, got ndarray"):
        DRAW[name](ax=pair)


def test_a_new_figure_has_the_style_and_one_of_your_own_can_have_it():
    spine = plotting.current(V).spines["top"]
    assert not spine.get_visible()
    with matplotlib.rc_context(plotting.STYLE):
        assert not plt.subplots()[1].spines["top"].get_visible()
    assert plt.subplots()[1].spines["top"].get_visible()


def test_lines_differ_without_colour():
    ax = plotting.current(np.tile(np.arange(6.0), (5, 1)))
    for drawn in ax.lines:
        drawn.set(color="black", marker="")
    canvas = ax.get_figure().canvas
    canvas.draw()
    picture = np.asarray(canvas.buffer_rgba())
    (left, _), (right, _) = ax.transData.transform([(0.0, 0), (4.0, 0)])
    heights = [picture.shape[0] - 1 - int(ax.transData.transform((0, k))[1]) for k in range(6)]
    assert len({picture[y, int(left) : int(right)].tobytes() for y in heights}) == 6


def test_raster_has_one_tick_a_spike():
    (ticks,) = plotting.raster(jnp.asarray(SPIKES)).collections
    middles = [tuple(segment.mean(axis=0)) for segment in ticks.get_segments()]
    assert sorted(middles) == sorted(map(tuple, np.argwhere(SPIKES)))


@pytest.mark.parametrize("dtype", ["bool", "bfloat16", "float32", "int32"])
def test_raster_of_one_neuron(dtype):
    ax = plotting.raster(jnp.array([1, 0, 0, 1], dtype))
    assert [segment[0, 0] for segment in ax.collections[0].get_segments()] == [0, 3]
    assert ax.get_ylim() == (-0.5, 0.5)
    assert ax.get_xlim() == (-0.5, 3.5)


def test_raster_of_silence_still_shows_all_steps_and_neurons():
    ax = plotting.raster(np.zeros((7, 500)))
    assert ax.collections[0].get_segments() == []
    assert ax.get_xlim() == (-0.5, 6.5)
    assert ax.get_ylim() == (-0.5, 499.5)


def test_membrane_draws_potentials_threshold_and_spikes():
    ax = plotting.membrane(V, threshold=1.0, spikes=SPIKES)
    for k in range(3):
        np.testing.assert_array_equal(line(ax, f"neuron {k}").get_ydata(), V[:, k])
        np.testing.assert_array_equal(line(ax, f"neuron {k}").get_xdata(), range(4))
    assert set(line(ax, "threshold").get_ydata()) == {1.0}
    heights = [ax.get_ylim()[1]]  # row by row downwards
    for k, ticks in enumerate(ax.collections):
        segments = np.array(ticks.get_segments())
        np.testing.assert_array_equal(segments[:, 0, 0], np.flatnonzero(SPIKES[:, k]))
        assert (segments[:, 1, 1] < heights[-1]).all()
        np.testing.assert_array_equal(
            ticks.get_color()[0, :3], to_rgb(line(ax, f"neuron {k}").get_color())
        )
        heights.append(segments[0, 0, 1])
    assert len(heights) == 4
    assert heights[-1] > 1.0


@pytest.mark.parametrize("v", [[0.2, 0.4, 0.1], [0.0, 0.0, 0.0], [np.nan] * 3, [0.2, np.inf, 0.1]])
def test_membrane_of_one_neuron(v):
    ax = plotting.membrane(v, spikes=[0, 0, 1])
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), v)
    ((low, high),) = ax.collections[0].get_segments()
    assert low[0] == high[0] == 2
    assert high[1] > low[1] > np.max(v, initial=0, where=np.isfinite(v))
    ax.get_figure().canvas.draw()


def test_marks_in_the_legend_look_like_those_of_the_spikes():
    ax = plotting.current(V)  # on axes where something is drawn already
    plotting.membrane(V[:, 1], spikes=SPIKES[:, 1], ax=ax)
    ticks = ax.collections[0].get_color()[0, :3]
    np.testing.assert_array_equal(to_rgb(line(ax, "spikes").get_color()), ticks)


def test_legend_names_what_is_drawn_and_no_more():
    names = [text.get_text() for text in plotting.membrane(V, threshold=1).get_legend().get_texts()]
    assert names == ["neuron 0", "neuron 1", "neuron 2", "threshold"]
    assert plotting.current(V[:, 0]).get_legend() is None
    assert plotting.current(np.ones((4, 30))).get_legend() is None


@pytest.mark.parametrize("layout", ["constrained", None])
def test_legend_stands_beside_the_lines_where_there_is_room_for_it(layout):
    ax = plotting.current(V, ax=plt.subplots(layout=layout)[1])
    figure = ax.get_figure()
    figure.canvas.draw()
    box = ax.get_legend().get_window_extent()
    assert (box.x0 >= ax.bbox.x1) == (layout == "constrained")
    assert box.x1 <= figure.bbox.x1


def test_current_draws_every_synapse():
    ax = plotting.current(V)
    np.testing.assert_array_equal(np.stack([drawn.get_ydata() for drawn in ax.lines], 1), V)
    (one,) = plotting.current(V[:, 1]).lines
    np.testing.assert_array_equal(one.get_ydata(), V[:, 1])


@pytest.mark.parametrize("function", [surrogate.ATan(), surrogate.Sigmoid(alpha=2, spiking=False)])
@pytest.mark.parametrize("limits", [(-2.0, 2.0), (-0.7, 1.1), (0.5, 1), [0, 1]])
def test_surrogate_draws_step_primal_and_derivative(function, limits):
    ax = plotting.surrogate(function, limits=limits)
    step, primal, derivative = ax.lines
    u = jnp.asarray(step.get_xdata())
    assert (u[0], u[-1]) == pytest.approx(tuple(limits))
    assert ax.get_xlim() == pytest.approx(tuple(limits))
    np.testing.assert_array_equal(step.get_ydata(), np.where(u < 0, 0, 1))
    np.testing.assert_array_equal(primal.get_ydata(), function.primal(u))
    np.testing.assert_array_equal(derivative.get_ydata(), function.derivative(u))
    if limits[0] < 0:
        corners = step.get_path().vertices  # with drawstyle steps-post, as it is drawn
        assert 0 in u
        assert step.get_drawstyle() == "steps-post"
        assert corners[corners[:, 1] == 1][0, 0] == 0


def test_learning_curves_draw_mean_band_and_published():
    ax = plotting.learning_curves(CURVES, published={"ss": 75.6, "plain": 70.5})
    np.testing.assert_allclose(line(ax, "plain").get_ydata(), [52, 60.5, 68])
    np.testing.assert_array_equal(line(ax, "plain").get_xdata(), [1, 2, 3])
    np.testing.assert_array_equal(line(ax, "ss").get_ydata(), [55, 65, 75])

    (band,) = ax.collections  # one seed has none
    vertices = band.get_paths()[0].vertices
    deviation = np.sqrt([8, 0.5, 8])  # of two values: their difference over the root of 2
    for epoch, mean, s in zip([1, 2, 3], [52, 60.5, 68], deviation, strict=True):
        edges = vertices[vertices[:, 0] == epoch, 1]
        assert edges.min() == pytest.approx(mean - s)
        assert edges.max() == pytest.approx(mean + s)
    np.testing.assert_array_equal(
        band.get_facecolor()[0, :3], to_rgb(line(ax, "plain").get_color())
    )

    assert marked(ax) == [(3, 70.5), (3, 75.6)]
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["plain", "ss", "published"]


def test_learning_curves_of_different_lengths_and_one_epoch():
    curves = {"long": np.ones((2, 5)), "short": [3.0]}
    ax = plotting.learning_curves(curves, published={"short": 4.0}, ylabel="loss")
    assert ax.get_ylabel() == "loss"
    assert line(ax, "short").get_marker() == "."
    assert marked(ax) == [(1, 4)]


def test_confusion_matrix_is_in_per_cent_of_each_row():
    labels = np.array([0, 0, 0, 0, 2, 2, 3], np.uint8)
    predictions = jnp.array([0, 0, 0, 1, 2, 1, 2])
    ax = plotting.confusion_matrix(labels, predictions)
    percent = [[75, 25, 0, 0], [0, 0, 0, 0], [0, 50, 50, 0], [0, 0, 100, 0]]
    np.testing.assert_array_equal(ax.images[0].get_array(), percent)
    written = {(*text.get_position(), text.get_text()) for text in ax.texts}
    assert written == {(0, 0, "75"), (1, 0, "25"), (1, 2, "50"), (2, 2, "50"), (2, 3, "100")}
    ax.get_figure().canvas.draw()
    assert [label.get_text() for label in ax.get_yticklabels()] == ["0", "1", "2", "3"]


def test_confusion_matrix_rounds_what_is_rare_to_less_than_one():
    predictions = np.zeros(400, int)
    predictions[0] = 1
    ax = plotting.confusion_matrix(np.zeros(400, int), predictions)
    assert texts(ax) == ["100", "<1"]


def test_confusion_matrix_names_all_classes():
    ax = plotting.confusion_matrix([0], [1], class_names=["bag", "coat", "shirt"])
    for axis in (ax.xaxis, ax.yaxis):
        assert [label.get_text() for label in axis.get_ticklabels()] == ["bag", "coat", "shirt"]
    assert ax.images[0].get_array().shape == (3, 3)


def test_confusion_matrix_of_many_classes_has_no_numbers():
    ax = plotting.confusion_matrix(np.arange(100), np.arange(100))
    assert not ax.texts
    np.testing.assert_array_equal(ax.images[0].get_array(), 100 * np.eye(100))


@pytest.mark.parametrize("seen_only", [False, True])
def test_read_columns_frame_by_frame(seen_only, tmp_path):
    animation = plotting.read_columns(IMAGE, seen_only=seen_only)
    path = tmp_path / "columns.gif"
    animation.save(path, writer="pillow")
    (ax,) = plt.gcf().axes
    with Image.open(path) as gif:
        frames = [np.asarray(frame.convert("RGB"), float) for frame in ImageSequence.Iterator(gif)]
    assert len(frames) == 4
    for step, frame in enumerate(frames):
        height = frame.shape[0]
        for row, column in np.ndindex(3, 4):
            x, y = ax.transData.transform((column, row))
            expected = 255 if seen_only and column > step else IMAGE[row, column]
            pixel = frame[height - 1 - int(y), int(x)]
            assert np.abs(pixel - expected).max() <= 4, (step, row, column)  # 256 colours
        red = np.flatnonzero((frame[..., 0] - frame[..., 2] > 100).any(axis=0))  # the mark
        if seen_only:
            assert not red.size
        else:
            edges = [ax.transData.inverted().transform((x, 0))[0] for x in (red[0], red[-1])]
            np.testing.assert_allclose(edges, [step - 0.5, step + 0.5], atol=0.05)


def layers(module):
    """Types of the layers in the order of the computation."""
    if isinstance(module, nn.Sequential):
        return [name for layer in module.layers for name in layers(layer)]
    if isinstance(module, nn.LinearRecurrentContainer):
        return layers(module.rc) + layers(module.sub_module)
    return [type(module).__name__]


@pytest.mark.parametrize("name", models.MODELS)
def test_network_diagram_shows_the_layers_of_the_network(name):
    net = models.MODELS[name](rngs=nnx.Rngs(0))
    ax = plotting.network_diagram(name)
    chain = sorted(
        (text for text in ax.texts if text.get_position()[1] == 0), key=lambda t: t.get_position()
    )
    words = [text.get_text().split("\n")[0] for text in chain]
    assert words[1:-1] == layers(net.fc)
    sizes = [text.get_text().split("\n")[1] for text in chain if "Linear" in text.get_text()]
    kernels = [layer for layer in nnx.to_flat_state(nnx.state(net)) if layer[0][-1] == "kernel"]
    assert sizes == ["{} → {}".format(*kernel.get_value().shape) for _, kernel in kernels]
    feedback = name == "fb"
    assert ("LinearRecurrentContainer" in texts(ax)) == feedback
    assert ("delay: 1 step" in texts(ax)) == feedback


@pytest.mark.parametrize("width", [None, 3.0])
@pytest.mark.parametrize("name", [*models.MODELS, None])
def test_words_of_a_diagram_stay_in_their_boxes(name, width):
    ax = None if width is None else plt.subplots(figsize=(width, width))[1]
    ax = plotting.feedback_diagram(ax=ax) if name is None else plotting.network_diagram(name, ax=ax)
    figure = ax.get_figure()
    figure.canvas.draw()
    boxes = [patch.get_window_extent() for patch in ax.patches if isinstance(patch, FancyBboxPatch)]
    assert len(boxes) == {"plain": 4, "ss": 5, "fb": 6, None: 3}[name]
    for text in ax.texts:
        words = text.get_window_extent()
        for box in boxes:
            if box.overlaps(words):
                assert box.x0 < words.x0 < words.x1 < box.x1, text.get_text()
                assert box.y0 < words.y0 < words.y1 < box.y1, text.get_text()
        assert figure.bbox.x0 <= words.x0 < words.x1 <= figure.bbox.x1, text.get_text()


def test_feedback_diagram_names_the_signals():
    assert {"x[t]", "y[t-1]", "f", "i[t]", "sub-module", "y[t]"} < set(
        texts(plotting.feedback_diagram())
    )


BAD = [
    (
        lambda: plotting.raster(np.zeros((4, 2, 3))),
        r"spikes .*\[T, neurons\] .*, got \[4, 2, 3\].*\[:, 0\]",
    ),
    (lambda: plotting.raster(np.float32(1)), r"spikes .*got \[\]"),
    (lambda: plotting.raster(np.zeros((0, 3))), r"spikes .* not be empty, got \[0, 3\]"),
    (lambda: plotting.raster([[0.0, 0.3]]), "spikes must hold 0 and 1 only, got 0.3"),
    (lambda: plotting.raster([0.0, np.nan]), "spikes must hold 0 and 1 only, got nan"),
    (lambda: plotting.membrane(np.zeros((4, 2, 3))), r"v .*got \[4, 2, 3\]"),
    (lambda: plotting.membrane([]), r"v .* not be empty, got \[0\]"),
    (lambda: plotting.membrane(V, spikes=SPIKES[:3]), r"spikes .*of v, \[4, 3\], got \[3, 3\]"),
    (lambda: plotting.membrane(V, spikes=V), "spikes must hold 0 and 1 only"),
    (lambda: plotting.membrane(V, threshold=np.inf), "threshold must be finite"),
    (lambda: plotting.current(np.zeros((4, 2, 3))), r"i .*got \[4, 2, 3\]"),
    (lambda: plotting.current(np.zeros((4, 0))), r"i .* not be empty, got \[4, 0\]"),
    (lambda: plotting.surrogate(surrogate.ATan(), limits=(1, 1)), r"limits .*got \(1, 1\)"),
    (lambda: plotting.surrogate(surrogate.ATan(), limits=(0, 1, 2)), r"limits .*\(0, 1, 2\)"),
    (lambda: plotting.surrogate(surrogate.ATan(), limits=(0, np.inf)), "limits must be finite"),
    (lambda: plotting.learning_curves({}), "curves must hold at least one"),
    (lambda: plotting.learning_curves({"fb": []}), r"curves\['fb'\] .*got \[0\]"),
    (lambda: plotting.learning_curves({"fb": np.ones((1, 2, 3))}), r"curves\['fb'\] .*\[1, 2, 3\]"),
    (lambda: plotting.learning_curves(CURVES, published={"fb": 1}), r"\['plain', 'ss'\], got 'fb'"),
    (lambda: plotting.confusion_matrix([0, 1], [1]), "predictions must be as many .* 2, got 1"),
    (lambda: plotting.confusion_matrix([], []), r"labels .*got \[0\]"),
    (lambda: plotting.confusion_matrix([0], [[0.2, 0.8]]), r"predictions .*\[1, 2\].*argmax"),
    (lambda: plotting.confusion_matrix([0, -1], [0, 1]), "labels must be classes from 0, got -1"),
    (lambda: plotting.confusion_matrix([0], [2], class_names="ab"), "0 to 2, got 2 names"),
    (lambda: plotting.read_columns(np.zeros((2, 4, 4))), r"image .*got \[2, 4, 4\].*images\[0\]"),
    (lambda: plotting.read_columns(np.zeros((4, 0))), r"image .*got \[4, 0\]"),
    (
        lambda: plotting.read_columns(np.zeros((4, 4, 1))),
        r"image .*got \[4, 4, 1\].*image\[\.\.\., 0\]",
    ),
    (
        lambda: plotting.network_diagram("lstm"),
        "name must be one of 'plain', 'ss', 'fb', got 'lstm'",
    ),
]
WRONG_TYPE = [
    (lambda: plotting.membrane(V, threshold="high"), "threshold must be a number, got 'high'"),
    (lambda: plotting.surrogate(np.tanh), "function must be a surrogate"),
    (lambda: plotting.surrogate(surrogate.ATan), "function must be a surrogate"),
    (lambda: plotting.learning_curves(np.ones(3)), "curves must be arrays by name.*got ndarray"),
    (
        lambda: plotting.learning_curves(CURVES, published={"ss": "75.6"}),
        r"published\['ss'\] must be a number, got '75.6'",
    ),
    (lambda: plotting.confusion_matrix([0.0], [0]), "labels must be integers.*float64"),
    (lambda: plotting.read_columns(IMAGE, seen_only=1), "seen_only must be True or False, got 1"),
]


@pytest.mark.parametrize(
    ("draw", "message", "error"),
    [(*case, ValueError) for case in BAD] + [(*case, TypeError) for case in WRONG_TYPE],
)
def test_bad_input_is_refused_before_a_figure_is_made(draw, message, error):
    with pytest.raises(error, match=message):
        draw()
    assert not plt.get_fignums()
