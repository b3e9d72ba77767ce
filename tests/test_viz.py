"""Pictures: what is plotted is what was given, nothing touches pyplot, and files stay small and whole."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from scratch import viz
from scratch.layers.linear import linear
from scratch.tensor import Parameter, Tensor
from scratch.viz import curves, images, layered, style
from scratch.viz.tape import nodes_of

ROOT = Path(__file__).resolve().parent.parent


def lines_by_label(axes) -> dict:
    return {line.get_label(): line for line in axes.get_lines()}


def texts(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def png_size(path: Path) -> tuple[int, int]:
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


# -- style ------------------------------------------------------------------------------------------------------


def test_no_picture_touches_pyplot(tmp_path):
    """In a process of its own, since other tests may import pyplot."""
    script = """
import sys
import numpy as np
from scratch import viz
from scratch.tensor import Parameter
assert "matplotlib" not in sys.modules, "import scratch.viz loads matplotlib"
points, labels = np.array([[0.0, 0.0], [1.0, 2.0]]), np.array([0, 1])
sure = lambda x: 1 / (1 + np.exp(-x[:, 0]))
a = Parameter(2.0)
pictures = [
    viz.loss_curves([{"step": 0, "loss": 1.0}]), viz.compare_runs({"a": [{"step": 0, "loss": 1.0}]}, "loss"),
    viz.decision_boundary(sure, points, labels), viz.image_grid(np.ones((2, 3, 3))), viz.confusion(np.eye(2)),
    viz.first_layer_weights(np.ones((2, 4)), (2, 2)), viz.draw_tape(a * a), viz.histograms({"a": points}),
    viz.worst_mistakes(np.eye(3)[None], [0], [[0.2, 0.8]]),
    viz.surface_paths(lambda x, y: x * x + y * y, {"a": points}, ((-1, 1), (-1, 1))),
]
for i, picture in enumerate(pictures):
    viz.save(picture, f"{sys.argv[1]}/{i}.png")
viz.boundary_animation([(1, 0.5, sure)], points, labels, f"{sys.argv[1]}/film.gif", resolution=9, hold=0.2)
assert "matplotlib.pyplot" not in sys.modules
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", "-c", script, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    assert len(list(tmp_path.iterdir())) == 10 + 2


def test_save_makes_the_folder_replaces_whole_and_repeats_itself(tmp_path):
    figure, axes = viz.figure(panel=(3, 2))
    axes[0, 0].plot([0, 1], [0, 1])
    path = tmp_path / "new" / "folder" / "a.png"
    assert viz.save(figure, path) == path
    assert png_size(path) == (330, 220)
    first = path.read_bytes()
    viz.save(figure, path)
    assert path.read_bytes() == first
    assert [each.name for each in path.parent.iterdir()] == ["a.png"], "nothing is left beside it"


def test_save_draws_smaller_what_would_be_too_large(tmp_path):
    noise = np.random.default_rng(0).random((4, 3, 40, 40))
    figure = viz.image_grid(noise, columns=2)
    large = len(style.png(figure))
    path = viz.save(figure, tmp_path / "a.png", limit=large - 1)
    assert path.stat().st_size < large
    assert png_size(path)[0] < figure.get_size_inches()[0] * style.DPI - 20


def test_save_refuses_another_format(tmp_path):
    with pytest.raises(ValueError, match=r"ending in \.png, got 'a.pdf'"):
        viz.save(viz.figure()[0], tmp_path / "a.pdf")
    assert not list(tmp_path.iterdir())


def test_the_page_is_opaque_white_and_a_notebook_can_show_it():
    figure, axes = viz.figure(2, 3)
    assert axes.shape == (2, 3)
    assert figure.get_facecolor() == (1, 1, 1, 1)
    assert figure._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="at least one row"):
        viz.figure(0, 1)


def test_series_differ_in_more_than_colour():
    assert len(set(style.COLOURS)) == 8 and len(set(style.MARKERS)) == 9 and len(set(style.HATCHES)) == 8
    pairs = {(style.COLOURS[i % 8], style.MARKERS[i % 9]) for i in range(72)}
    assert len(pairs) == 72


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (3, 3), (7, 4), (10, 5), (16, 4), (30, 6), (64, 8)])
def test_grids_have_full_rows_where_they_can(count, columns):
    assert style.columns_for(count) == columns
    assert style.columns_for(count, 2) == min(count, 2)


# -- curves -----------------------------------------------------------------------------------------------------

LOG = [
    *({"step": i, "loss": 2.0 / (1 + i), "accuracy": i / 100, "learning_rate": 0.1 - i / 1000} for i in range(90)),
    {"step": 30, "validation_loss": 1.5, "validation_accuracy": 0.25},
    {"step": 90, "validation_loss": 1.25, "validation_accuracy": 0.5},
]


def test_smoothed_is_the_mean_over_a_window_that_is_centred_and_at_the_end_keeps_the_past():
    x = np.array([1.0, 4.0, -2.0, 8.0, 3.0, 0.5])
    inner = [1.0, (1 + 4 - 2) / 3, (1 + 4 - 2 + 8 + 3) / 5, (4 - 2 + 8 + 3 + 0.5) / 5]
    expected = [*inner, (-2 + 8 + 3 + 0.5) / 4, (8 + 3 + 0.5) / 3]
    np.testing.assert_allclose(viz.smoothed(x, 2), expected, rtol=1e-12)
    line = 3.0 - 0.25 * np.arange(20)
    np.testing.assert_allclose(viz.smoothed(line, 4)[:16], line[:16], rtol=1e-12)  # no lag
    np.testing.assert_array_equal(viz.smoothed(x, 0), x)
    holes = viz.smoothed([1.0, math.nan, 5.0, math.inf, math.nan], 1)
    np.testing.assert_array_equal(holes, [1.0, 3.0, 5.0, 5.0, math.nan])
    with pytest.raises(ValueError, match="at least 0, got -1"):
        viz.smoothed(x, -1)


def test_loss_curves_plot_the_log():
    figure = viz.loss_curves(LOG, title="a run", loss_label="cross-entropy (nats)", reference=(math.log(10), "ln 10"))
    (axes,) = figure.axes
    drawn = lines_by_label(axes)
    raw = drawn["training, each logged step"]
    np.testing.assert_array_equal(raw.get_xdata(), np.arange(90))
    np.testing.assert_array_equal(raw.get_ydata(), [2.0 / (1 + i) for i in range(90)])
    smooth = drawn["training, mean of 5 logged steps"]
    np.testing.assert_array_equal(smooth.get_ydata(), viz.smoothed(raw.get_ydata(), 2))
    np.testing.assert_array_equal(drawn["validation"].get_xdata(), [30, 90])
    np.testing.assert_array_equal(drawn["validation"].get_ydata(), [1.5, 1.25])
    assert list(drawn["ln 10 = 2.303"].get_ydata()) == [math.log(10)] * 2
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "cross-entropy (nats)")
    assert axes.get_title(loc="left") == "a run"


@pytest.mark.parametrize("name", ["accuracy", "validation_accuracy"])
def test_a_panel_shows_a_quantity_and_its_validation_twin(name):
    figure = viz.loss_curves(LOG, panels=(name, "learning_rate"), smooth=0)
    top, below, rate = figure.axes
    drawn = lines_by_label(below)
    np.testing.assert_array_equal(drawn["training"].get_ydata(), np.arange(90) / 100)
    np.testing.assert_array_equal(drawn["validation"].get_ydata(), [0.25, 0.5])
    assert [each.get_ylabel() for each in figure.axes] == ["loss", "accuracy", "learning rate"]
    assert below.yaxis.get_major_formatter()(0.25) == "25%"
    np.testing.assert_array_equal(rate.get_lines()[0].get_ydata(), [0.1 - i / 1000 for i in range(90)])
    assert [each.get_xlabel() for each in figure.axes] == ["", "", "step"]
    assert top.get_xlim() == rate.get_xlim()


def test_few_expected_bands_are_bars_and_many_are_shaded():
    bands = [(100, 0.5, 0.9), (0, 2.0, 2.5)]
    (axes,) = viz.loss_curves(LOG, expected=bands).axes
    (bars,) = [each for each in axes.collections if hasattr(each, "get_segments")]
    np.testing.assert_allclose(np.array(bars.get_segments()), [[[0, 2.0], [0, 2.5]], [[100, 0.5], [100, 0.9]]])
    many = [(10 * i, 1.0 - i / 20, 1.5) for i in range(10)]
    (axes,) = viz.loss_curves(LOG, expected=many).axes
    (shade,) = axes.collections
    corners = {tuple(each) for each in shade.get_paths()[0].vertices.tolist()}
    assert {(x, low) for x, low, _ in many} <= corners
    with pytest.raises(ValueError, match="low <= high"):
        viz.loss_curves(LOG, expected=[(0, 2.0, 1.0)])


def test_a_logarithmic_axis_shows_plain_numbers():
    (axes,) = viz.loss_curves(LOG, log_y=True).axes
    assert axes.get_yscale() == "log"
    assert axes.yaxis.get_major_formatter()(0.2, 0) == "0.2"


def test_a_diverged_run_leaves_a_gap():
    log = [{"step": i, "loss": math.nan if i == 3 else 1.0} for i in range(6)]
    (axes,) = viz.loss_curves(log).axes
    np.testing.assert_array_equal(np.isnan(axes.get_lines()[0].get_ydata()), [0, 0, 0, 1, 0, 0])


@pytest.mark.parametrize(
    ("log", "options", "message"),
    [
        ([], {}, "holds neither 'loss' nor 'validation_loss'; its keys are \\[\\]"),
        ([{"step": 1, "los": 2.0}], {}, "its keys are \\['los', 'step'\\]"),
        ([{"loss": 2.0}], {}, "needs a 'step', got one with only \\['loss'\\]"),
        (LOG, {"panels": ("gradient_norm",)}, "panel 'gradient_norm': no line"),
    ],
)
def test_a_log_that_cannot_be_drawn(log, options, message):
    with pytest.raises(ValueError, match=message):
        viz.loss_curves(log, **options)


def test_compare_runs_draws_the_median_and_the_span_of_seeds():
    seeds = [[{"step": s, "loss": value + s} for s in steps] for value, steps in
             [(1.0, (0, 10, 20)), (5.0, (0, 10, 20, 30)), (2.0, (0, 20))]]  # fmt: skip
    single = [{"step": s, "loss": 0.5} for s in (0, 5)]
    (axes,) = viz.compare_runs({"Adam": seeds, "SGD": single}, "loss", label="loss (nats)").axes
    drawn = lines_by_label(axes)
    np.testing.assert_array_equal(drawn["Adam (3 seeds)"].get_xdata(), [0, 20])  # the steps that all have
    np.testing.assert_array_equal(drawn["Adam (3 seeds)"].get_ydata(), [2.0, 22.0])
    span = axes.collections[0].get_paths()[0].vertices
    assert span[:, 1].min() == 1.0 and span[:, 1].max() == 25.0
    np.testing.assert_array_equal(drawn["SGD"].get_xdata(), [0, 5])
    cues = [(line.get_color(), line.get_linestyle(), line.get_marker()) for line in drawn.values()]
    assert all(len(set(each)) == 2 for each in zip(*cues, strict=True))
    assert axes.get_ylabel() == "loss (nats)"


def test_compare_runs_refuses_what_it_cannot_compare():
    for path in ("runs/mlp-1", Path("runs/mlp-1"), {"runs": "mlp-1"}):
        with pytest.raises(ValueError, match="a log is a list of dicts, .* got .*runs"):
            viz.loss_curves(path)
    with pytest.raises(ValueError, match="at least one run as name → log, got .'runs/mlp-1'."):
        viz.compare_runs(["runs/mlp-1"])
    with pytest.raises(ValueError, match="a log is a list of dicts"):
        viz.compare_runs({"a": "runs/mlp-1"})
    with pytest.raises(ValueError, match="at least one run"):
        viz.compare_runs({})
    with pytest.raises(ValueError, match="run 'a' holds no 'validation_loss'"):
        viz.compare_runs({"a": [{"step": 0, "loss": 1.0}]})
    apart = [[{"step": 0, "loss": 1.0}], [{"step": 1, "loss": 1.0}]]
    with pytest.raises(ValueError, match="no logged step in common"):
        viz.compare_runs({"a": apart}, "loss")
    assert curves.series([{"step": 1, "loss": None}, {"step": 2, "loss": 3}], "loss")[0].tolist() == [2]


# -- boundaries -------------------------------------------------------------------------------------------------

POINTS = np.array([[0.0, 0.0], [2.0, 1.0], [1.0, -1.0], [0.5, 0.5]], dtype=np.float32)
LABELS = np.array([0, 1, 2, 0])


def by_distance(x):
    """Softmax over −2 · squared distance to three of the points."""
    scores = -2 * ((x[:, None, :] - POINTS[:3]) ** 2).sum(axis=-1)
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def halves(x):
    return 1 / (1 + np.exp(-4.0 * (x[:, 0] - 0.75)))


def test_the_grid_surrounds_the_points_in_their_dtype():
    grid = viz.boundary_grid(POINTS, 5)
    assert grid.shape == (25, 2) and grid.dtype == np.float32
    margin = 0.12 * 2
    np.testing.assert_allclose(grid[0], [-margin, -1 - margin], rtol=1e-6)
    np.testing.assert_allclose(grid[-1], [2 + margin, 1 + margin], rtol=1e-6)
    assert grid[1, 1] == grid[0, 1] and grid[1, 0] > grid[0, 0], "row by row"
    whole = viz.boundary_grid(np.array([[0, 0], [1, 1]]), 3)
    np.testing.assert_allclose(whole[4], [0.5, 0.5])


def test_a_boundary_shows_points_shades_and_the_line_of_equal_probability():
    figure = viz.decision_boundary(by_distance, POINTS, LABELS, class_names=["a", "b", "c"], resolution=41)
    axes = figure.axes[0]
    scatters = {each.get_label(): each for each in axes.collections if each.get_label() in "abc"}
    for k, name in enumerate("abc"):
        np.testing.assert_array_equal(scatters[name].get_offsets(), POINTS[LABELS == k])
    assert len({each.get_paths()[0].vertices.tobytes() for each in scatters.values()}) == 3, "one marker a class"

    (image,) = axes.get_images()
    shades, p = image.get_array(), by_distance(viz.boundary_grid(POINTS, 41)).reshape(41, 41, 3)
    assert shades.shape == (41, 41, 3) and image.origin == "lower"
    from matplotlib.colors import to_rgb

    colours = np.array([to_rgb(each) for each in style.COLOURS[:3]])
    np.testing.assert_allclose(shades, 0.5 + 0.5 * p @ colours, atol=0.5 / 48 + 1e-6)

    lines = [path.vertices for each in axes.collections if each.get_label() not in "abc"
             for path in each.get_paths() if len(path)]  # fmt: skip
    assert lines
    second, first = np.sort(by_distance(np.concatenate(lines)), axis=1)[:, 1:].T
    np.testing.assert_allclose(first, second, atol=0.03)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "c", "boundary"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x₁", "x₂")
    assert axes.get_xlim() == pytest.approx((-0.24, 2.24)) and axes.get_ylim() == pytest.approx((-1.24, 1.24))


def test_one_probability_a_point_means_class_1_of_two():
    labels = np.array([0, 1, 1, 0])
    one = viz.decision_boundary(lambda x: Tensor(halves(x)), POINTS, labels, resolution=20)
    column = viz.decision_boundary(lambda x: halves(x)[:, None], POINTS, labels, resolution=20)
    stacked = np.stack([1 - halves(viz.boundary_grid(POINTS, 20)), halves(viz.boundary_grid(POINTS, 20))], axis=1)
    given = viz.decision_boundary(stacked, POINTS, labels, resolution=20)
    shades = [each.axes[0].get_images()[0].get_array() for each in (one, column, given)]
    np.testing.assert_array_equal(shades[0], shades[1])
    np.testing.assert_array_equal(shades[0], shades[2])
    (line,) = [each for each in one.axes[0].collections if each.get_label() not in "01"]
    np.testing.assert_allclose(line.get_paths()[0].vertices[:, 0], 0.75, atol=0.01)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": np.ones((4, 3))}, r"points of shape \(n, 2\), got \(4, 3\)"),
        ({"labels": LABELS[:3]}, "expected 4 integer labels"),
        ({"labels": LABELS.astype(float)}, "dtype float64"),
        ({"labels": np.array([0, 1, 3, 0])}, "labels reach 3, but predict knows 3 classes"),
        ({"class_names": ["a", "b"]}, "expected 3 names, got 2"),
        ({"predict": lambda x: by_distance(x)[:-1]}, r"shape \(25600, k\), got \(25599, 3\)"),
        ({"predict": lambda x: 3 * by_distance(x)}, "apply softmax or sigmoid"),
        ({"predict": lambda x: by_distance(x) * np.nan}, "apply softmax or sigmoid"),
    ],
)
def test_a_boundary_says_what_is_wrong(change, message):
    given = {"predict": by_distance, "points": POINTS, "labels": LABELS, **change}
    with pytest.raises(ValueError, match=message):
        viz.decision_boundary(**given)


def test_a_film_has_a_frame_a_step_and_a_still_beside_it(tmp_path):
    from PIL import Image

    weight = [0.0]

    def training():
        for step in (0, 10, 20, 30):
            weight[0] = step / 5.0  # the model changes while the film is shot
            yield step, 1.0 / (1 + step), lambda x: 1 / (1 + np.exp(-weight[0] * (x[:, 0] - 0.75)))

    labels = np.array([0, 1, 1, 0])
    path = tmp_path / "new" / "film.gif"
    gif, still = viz.boundary_animation(training(), POINTS, labels, path, resolution=16, seconds=0.2, hold=1.0)
    assert gif == path and still == path.with_suffix(".png")
    assert sorted(each.name for each in path.parent.iterdir()) == ["film.gif", "film.png"]
    assert gif.stat().st_size < 1_000_000 and still.stat().st_size < 200_000
    with Image.open(gif) as film:
        assert film.n_frames == 4
        frames, times = [], []
        for i in range(4):
            film.seek(i)
            frames.append(np.asarray(film.convert("RGB")))
            times.append(film.info["duration"])
    assert all((a != b).any() for a, b in zip(frames, frames[1:], strict=False))
    assert times == [200, 200, 200, 1200]
    with Image.open(still) as last:
        assert last.width > 400


def test_a_film_captions_each_frame(tmp_path, monkeypatch):
    from scratch.viz import boundary

    shown = []

    def film(page, show, count, *_):
        for k in range(count):
            show(k)
            shown.append((page.axes[0].get_title(loc="left"), np.asarray(page.axes[0].images[0].get_array())))

    monkeypatch.setattr(boundary, "write_film", film)
    frames = [(120, 0.3111, halves), (12_000, 0.0004, halves(viz.boundary_grid(POINTS, 7)))]
    viz.boundary_animation(frames, POINTS, np.array([0, 1, 1, 0]), tmp_path / "a.gif", resolution=7)
    assert [caption for caption, _ in shown] == ["step 120, loss 0.311", "step 12,000, loss 0.0004"]
    np.testing.assert_allclose(shown[0][1], shown[1][1])


def test_a_film_that_cannot_be_made(tmp_path):
    labels = np.array([0, 1, 1, 0])
    with pytest.raises(ValueError, match=r"ending in \.gif"):
        viz.boundary_animation([(0, 1.0, halves)], POINTS, labels, tmp_path / "a.png")
    with pytest.raises(ValueError, match="at least one frame"):
        viz.boundary_animation([], POINTS, labels, tmp_path / "a.gif")
    with pytest.raises(ValueError, match="more than 10: give fewer frames"):
        viz.boundary_animation([(0, 1.0, halves)], POINTS, labels, tmp_path / "a.gif", resolution=5, hold=0, limit=10)
    assert not list(tmp_path.iterdir())


def test_a_film_too_large_is_drawn_smaller(tmp_path):
    labels, frames = np.array([0, 1, 1, 0]), [(0, 1.0, halves)]
    large, _ = viz.boundary_animation(frames, POINTS, labels, tmp_path / "a.gif", resolution=12, hold=0)
    limit = large.stat().st_size - 1
    small, _ = viz.boundary_animation(frames, POINTS, labels, tmp_path / "b.gif", resolution=12, hold=0, limit=limit)
    assert small.stat().st_size <= limit


# -- images -----------------------------------------------------------------------------------------------------


def test_an_image_grid_shows_every_image_on_one_scale():
    given = np.random.default_rng(0).normal(size=(5, 4, 3))
    figure = viz.image_grid(given, titles=list("abcde"), columns=3, title="noise")
    (axes,) = figure.axes
    drawn = axes.get_images()
    assert len(drawn) == 5
    for image, expected in zip(drawn, given, strict=True):
        np.testing.assert_array_equal(image.get_array(), expected)
        assert image.get_clim() == (given.min(), given.max())
    assert texts(figure) == list("abcde") and axes.get_title(loc="left") == "noise"
    corners = [image.get_extent() for image in drawn]
    lefts = [round(extent[0], 6) for extent in corners]
    assert lefts[:3] == lefts[3:] + lefts[2:3] and len(set(lefts)) == 3, "three columns"
    left, right, bottom, top = corners[0]
    assert bottom - top == pytest.approx((right - left) * 4 / 3), "pixels are square; y points down"
    boxes = {(round(a, 6), round(d, 6)) for a, _, _, d in corners}
    assert len(boxes) == 5


def test_an_image_grid_takes_channels_and_limits():
    grey = np.arange(24, dtype=np.uint8).reshape(2, 1, 3, 4)
    first, second = viz.image_grid(grey).axes[0].get_images()
    np.testing.assert_array_equal(second.get_array(), grey[1, 0])
    assert first.get_clim() == (0, 255)
    colour = np.random.default_rng(0).uniform(-1, 1, (2, 3, 5, 4))
    colour[0, 0, 0, 0] = 1.5
    drawn = viz.image_grid(colour, limits=(-1, 1)).axes[0].get_images()[0].get_array()
    np.testing.assert_allclose(drawn, np.clip((np.moveaxis(colour[0], 0, -1) + 1) / 2, 0, 1))


@pytest.mark.parametrize("shape", [(3, 4), (2, 2, 3, 4), (0, 3, 4), (2, 3, 4, 3, 1)])
def test_an_image_grid_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match="expected at least one image"):
        viz.image_grid(np.zeros(shape))


def test_an_image_grid_refuses_wrong_titles_columns_and_limits():
    pictures = np.zeros((3, 2, 2))
    with pytest.raises(ValueError, match="one title for each of 3 images, got 2"):
        viz.image_grid(pictures, titles=["a", "b"])
    with pytest.raises(ValueError, match="columns expected a number of at least 1, got 0"):
        viz.image_grid(pictures, columns=0)
    with pytest.raises(ValueError, match="low <= high"):
        viz.image_grid(pictures, limits=(1, 0))


def test_first_layer_weights_are_symmetric_about_zero():
    weight = np.random.default_rng(0).normal(size=(7, 12)).astype(np.float32)
    weight[1, 2] = 5.0  # the largest is positive and the smallest is nearer to zero: still symmetric
    figure = viz.first_layer_weights(Parameter(weight), (3, 4), count=5, title="layer 0")
    axes, bar = figure.axes
    largest = 5.0
    for image, row in zip(axes.get_images(), weight[:5], strict=True):
        np.testing.assert_array_equal(image.get_array(), row.reshape(3, 4))
        np.testing.assert_allclose(image.get_clim(), (-largest, largest))
        assert image.get_cmap().name == "RdBu_r"
    assert axes.get_title(loc="left") == "layer 0 (first 5 of 7 units)"
    assert bar.get_ylabel() == "weight"


def test_first_layer_weights_of_convolutions():
    kernels = np.random.default_rng(0).normal(size=(4, 3, 2, 2))
    (axes,) = viz.first_layer_weights(kernels).axes
    largest = np.abs(kernels).max()
    expected = 0.5 + np.moveaxis(kernels[2], 0, -1) / (2 * largest)
    np.testing.assert_allclose(axes.get_images()[2].get_array(), expected)
    assert f"full colour = ±{largest:.3g}" in axes.get_title(loc="left")
    grey = viz.first_layer_weights(kernels[:, :1])
    np.testing.assert_array_equal(grey.axes[0].get_images()[3].get_array(), kernels[3, 0])


def test_first_layer_weights_refuse_other_shapes():
    with pytest.raises(ValueError, match=r"expected \(out, 12\) for images of shape \(3, 4\), got \(7, 11\)"):
        viz.first_layer_weights(np.zeros((7, 11)), (3, 4))
    with pytest.raises(ValueError, match="expected at least one image"):
        viz.first_layer_weights(np.zeros((7, 2, 3, 3)))
    with pytest.raises(ValueError, match="finite weights"):
        viz.first_layer_weights(np.full((7, 12), np.nan), (3, 4))


def test_worst_mistakes_are_those_of_the_largest_loss():
    p = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.25, 0.35, 0.4], [0.001, 0.998, 0.001], [0.3, 0.3, 0.4]])
    labels = np.array([0, 0, 1, 0, 2])  # right, wrong (0.1), wrong (0.35), wrong (0.001), right
    pictures = np.arange(5.0)[:, None, None] + np.zeros((5, 2, 3))
    figure = viz.worst_mistakes(pictures, labels, p, ["cat", "dog", "cow"], count=2, title="pets")
    assert texts(figure) == ["cat → dog\n>99 %", "cat → cow\n60 %"]
    assert [image.get_array()[0, 0] for image in figure.axes[0].get_images()] == [3, 1]
    assert figure.axes[0].get_title(loc="left").startswith("pets: 3 of 5 wrong, the worst 2\n")
    everything = viz.worst_mistakes(pictures, labels, p)
    assert texts(everything) == ["0 → 1\n>99 %", "0 → 2\n60 %", "1 → 2\n40 %"]
    assert "worst" not in everything.axes[0].get_title(loc="left").split("\n")[0]


def test_no_mistakes_is_said():
    figure = viz.worst_mistakes(np.zeros((2, 2, 2)), [0, 1], np.eye(2))
    assert [text.get_text() for text in figure.texts] == ["0 of 2 wrong"]


@pytest.mark.parametrize(
    ("labels", "p", "message"),
    [
        ([0, 1, 0], np.eye(2), r"got 2 images, \(3,\) and \(2, 2\)"),
        ([0, 1], np.eye(2)[0], r"got 2 images, \(2,\) and \(2,\)"),
        ([0, 2], np.eye(2), "integers from 0 to 1"),
        ([0.0, 1.0], np.eye(2), "integers from 0 to 1"),
    ],
)
def test_worst_mistakes_refuse_what_does_not_fit(labels, p, message):
    with pytest.raises(ValueError, match=message):
        viz.worst_mistakes(np.zeros((2, 3, 3)), labels, p)


def test_a_probability_is_never_rounded_to_certainty():
    assert [images._percent(p) for p in (0.5, 0.994, 0.9951, 1.0)] == ["50 %", "99 %", ">99 %", "100 %"]


# -- confusion --------------------------------------------------------------------------------------------------


def test_confusion_counts_in_cells_and_colours_by_row():
    matrix = np.array([[8, 2, 0], [0, 0, 0], [30, 10, 60]])
    figure = viz.confusion(matrix, ["cat", "dog", "horse"], title="pets")
    cells, bar = figure.axes
    (image,) = cells.get_images()
    np.testing.assert_allclose(image.get_array(), [[0.8, 0.2, 0], [0, 0, 0], [0.3, 0.1, 0.6]])
    assert image.get_clim() == (0, 1)
    shown = {text.get_position()[::-1]: (text.get_text(), text.get_color()) for text in cells.texts}
    assert shown == {(0, 0): ("8", "white"), (0, 1): ("2", "black"), (2, 0): ("30", "black"),
                     (2, 1): ("10", "black"), (2, 2): ("60", "white")}  # fmt: skip
    assert [text.get_text() for text in cells.get_yticklabels()] == ["cat", "dog", "horse"]
    assert (cells.get_xlabel(), cells.get_ylabel()) == ("predicted class", "true class")
    assert cells.get_title(loc="left") == "pets: 68 of 110 right (61.8%)"
    assert bar.get_ylabel() == "share of the true class"


@pytest.mark.parametrize(
    ("matrix", "names", "message"),
    [
        (np.zeros((2, 3)), None, r"\(k, k\) matrix of 1 to 40 classes, got shape \(2, 3\)"),
        (np.zeros((41, 41)), None, "1 to 40"),
        ([[1, -1], [0, 1]], None, "counts"),
        ([[0.5, 0.5], [0, 1]], None, "counts"),
        ([[math.nan, 0], [0, 1]], None, "counts"),
        (np.eye(3), ["a", "b"], "expected 3 names, got 2"),
    ],
)
def test_confusion_refuses_what_are_no_counts(matrix, names, message):
    with pytest.raises(ValueError, match=message):
        viz.confusion(matrix, names)


def test_confusion_of_nothing():
    assert viz.confusion(np.zeros((2, 2))).axes[0].get_title(loc="left") == "no examples"


# -- the tape ---------------------------------------------------------------------------------------------------


def small_loss():
    """L = (tanh(x·w + b) − 1)²"""
    x, w, b = Tensor([1.0, -2.0]), Parameter([0.5, -0.25]), Parameter(0.1)
    y = ((x * w).sum() + b).tanh()
    return (y - 1.0) ** 2, {"x": x, "w": w, "b": b, "y": y}


def test_tape_text_is_exactly_this():
    a, b, c = Parameter(2.0), Parameter(3.0), Tensor(1.5)
    d = a * b
    loss = d * d + c
    viz.keep_gradients(loss)
    loss.backward(retain_graph=True)
    names = {"a": a, "b": b, "L": loss, "d": d, "seed": 7}
    assert viz.tape_text(loss, names) == (
        "L = add  value 37.5  grad  1\n"
        "|- mul  value 36  grad  1\n"
        "|  |- d = mul  value 6  grad  12\n"
        "|  |  |- a  value 2  grad  36\n"
        "|  |  `- b  value 3  grad  24\n"
        "|  `- d (above)\n"
        "`- constant  value 1.5"
    )
    assert viz.tape_text(loss, values=False) == (
        "add  shape ()\n"
        "|- mul  shape ()\n"
        "|  |- #1 = mul  shape ()\n"
        "|  |  |- leaf  shape ()\n"
        "|  |  `- leaf  shape ()\n"
        "|  `- #1 (above)\n"
        "`- constant  shape ()"
    )


def test_tape_text_survives_an_ascii_terminal_and_shows_large_arrays_by_shape():
    weight = Parameter(np.arange(12.0).reshape(3, 4))
    y = linear(np.ones((2, 4)), weight)
    y.backward(np.full((2, 3), 0.5), retain_graph=True)
    text = viz.tape_text(y, {"θ": weight})
    text.encode("ascii")
    # ∂L/∂W = dyᵀ x is 1 in each of 12 places
    assert text == "linear  shape (2, 3)\n|- constant  shape (2, 4)\n`- \\u03b8  shape (3, 4)  |grad| 3.46"


def test_keep_gradients_keeps_those_of_computed_nodes():
    loss, names = small_loss()
    assert viz.keep_gradients(loss) is loss
    loss.backward(retain_graph=True)
    y = names["y"].data
    np.testing.assert_allclose(names["y"].grad, 2 * (y - 1), rtol=1e-6)
    np.testing.assert_allclose(loss.grad, 1.0)
    assert names["x"].grad is None


def test_draw_tape_writes_every_node_once_with_value_and_gradient():
    loss, names = small_loss()
    viz.keep_gradients(loss).backward(retain_graph=True)
    figure = viz.draw_tape(loss, {**names, "L": loss})
    shown = texts(figure)
    y = names["y"].data
    for first in ("x", "w", "b", "y = tanh", "L = pow", "mul", "sum", "add", "sub"):
        assert shown.count(first) == 1, first
    assert f"value {float(y):.4g}" in shown and f"grad  {2 * float(y - 1):.4g}" in shown
    assert "value [1, -2]" in shown
    at = shown.index("w")
    assert shown[at + 1] == "value [0.5, -0.25]"
    np.testing.assert_allclose(eval(shown[at + 2].removeprefix("grad  ")), names["w"].grad, rtol=1e-3)
    assert shown.count("constant") == 2, "the 1.0 and the key"
    bare = texts(viz.draw_tape(loss, values=False))
    assert "shape (2,)" in bare and not any("value" in each or "grad " in each for each in bare)


def test_boxes_hold_their_text_and_do_not_overlap():
    loss, names = small_loss()
    viz.keep_gradients(loss).backward(retain_graph=True)
    figure = viz.draw_tape(loss, names)
    (axes,) = figure.axes
    figure.draw_without_rendering()
    from matplotlib.patches import FancyBboxPatch

    boxes = [each.get_window_extent() for each in axes.patches if isinstance(each, FancyBboxPatch)]
    for text in axes.texts:
        if text.get_family() == ["DejaVu Sans Mono"]:
            inside = text.get_window_extent()
            held = [box for box in boxes if box.x0 <= inside.x0 and inside.x1 <= box.x1 and box.y0 - 2 <= inside.y0
                    and inside.y1 <= box.y1 + 2]  # fmt: skip
            assert len(held) == 1, text.get_text()
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_nodes_of_lists_constants_and_repeated_edges():
    a, c = Parameter(2.0), Tensor(3.0)
    square = a * a
    loss = square * c + square
    nodes, edges = nodes_of(loss)
    assert len(nodes) == len({id(node) for node in nodes}) == 5
    assert [node for node in nodes if not node.requires_grad] == [c]
    assert len(edges) == 6 and sum(parent is a for parent, _ in edges) == 2
    births = [node._birth for node in nodes]
    assert births == sorted(births)


def test_a_released_tape_is_explained():
    loss, _ = small_loss()
    loss.backward()
    for look in (viz.draw_tape, viz.tape_text, viz.keep_gradients):
        with pytest.raises(ValueError, match="keep_gradients"):
            look(loss)


def test_a_large_tape_is_refused():
    y = Parameter(1.0)
    for _ in range(60):
        y = -y
    for look in (viz.draw_tape, viz.tape_text):
        with pytest.raises(ValueError, match="61 nodes is too large to read: at most 60"):
            look(y)
    assert len(viz.tape_text(y._parents[0]).splitlines()) == 60


def test_a_leaf_alone_can_be_drawn():
    assert viz.tape_text(Parameter(2.5)) == "leaf  value 2.5"
    assert "value 2.5" in texts(viz.draw_tape(Tensor(2.5), {"c": 1}))


# -- layered layout ---------------------------------------------------------------------------------------------


def random_graph(seed: int) -> tuple[list, list]:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 25))
    edges = [(int(rng.integers(0, b)), b) for b in range(1, count) for _ in range(int(rng.integers(0, 3)))]
    sizes = [(float(rng.uniform(0.5, 2)), float(rng.uniform(0.2, 0.8))) for _ in range(count)]
    return sizes, edges


@pytest.mark.parametrize("seed", range(12))
def test_layout_has_every_box_once_and_edges_point_right(seed):
    sizes, edges = random_graph(seed)
    plan = layered.place(sizes, edges)
    assert [(box.width, box.height) for box in plan.boxes] == sizes
    for (a, b), route in zip(edges, plan.routes, strict=True):
        one, two = plan.boxes[a], plan.boxes[b]
        assert one.layer < two.layer and one.x + one.width / 2 < two.x - two.width / 2
        xs = [x for x, _ in route]
        assert xs == sorted(xs) and len(set(xs)) == len(xs) == 1 + two.layer - one.layer
        assert route[0] == (one.x + one.width / 2, one.y)
        assert xs[-1] == two.x - two.width / 2 and abs(route[-1][1] - two.y) < two.height / 2
    for i, a in enumerate(plan.boxes):
        for b in plan.boxes[:i]:
            apart_x = abs(a.x - b.x) >= (a.width + b.width) / 2 - 1e-9
            assert apart_x or abs(a.y - b.y) >= (a.height + b.height) / 2 + layered.GAP_Y - 1e-9
    left, right, low, high = plan.bounds
    for box in plan.boxes:
        assert left <= box.x - box.width / 2 + 1e-9 and box.x + box.width / 2 <= right + 1e-9
        assert low <= box.y - box.height / 2 and box.y + box.height / 2 <= high


def test_layout_puts_a_late_leaf_beside_its_use_and_keeps_parallel_edges_apart():
    #  0 → 1 → 2 → 3,  the leaf 4 → 5 ← 3, and 5 takes 3 twice
    sizes = [(1.0, 0.5)] * 6
    plan = layered.place(sizes, [(0, 1), (1, 2), (2, 3), (3, 5), (3, 5), (4, 5)])
    assert [box.layer for box in plan.boxes] == [0, 1, 2, 3, 3, 4]
    ends = [route[-1] for route in plan.routes[3:]]
    assert len(set(ends)) == 3


def test_layout_removes_a_crossing_that_can_be_removed():
    sizes = [(1.0, 0.5)] * 4
    plan = layered.place(sizes, [(0, 3), (1, 2)])
    heights = [box.y for box in plan.boxes]
    assert (heights[0] - heights[1]) * (heights[3] - heights[2]) > 0


def test_spread_is_the_nearest_arrangement_without_overlap():
    height = [0.5, 0.3, 0.4]
    wish = [1.0, 0.2, 5.0]
    gap = 0.4 + layered.GAP_Y  # between the centres of the first two
    middle = (1.0 + 0.2 - gap) / 2  # least squares: both move by the same amount
    np.testing.assert_allclose(layered._spread(wish, height), [middle, middle + gap, 5.0])


def test_layout_refuses_edges_that_point_back():
    for edges in ([(1, 0)], [(0, 0)], [(0, 2)]):
        with pytest.raises(ValueError, match="0 <= a < b"):
            layered.place([(1.0, 1.0)] * 2, edges)


# -- surfaces and histograms ------------------------------------------------------------------------------------


def bowl(x, y):
    return x * x + 10 * y * y + 2


def test_surface_paths_draw_the_paths_and_name_their_last_value():
    paths = {"SGD": np.array([[2.0, 1.0], [1.0, 0.5], [0.5, 0.1]]), "Adam": [[2.0, 1.0], [9.0, 9.0]],
             "too fast": np.array([[2.0, 1.0], [np.inf, 0.0]])}  # fmt: skip
    (axes,) = viz.surface_paths(bowl, paths, ((-3, 3), (-2, 2)), minimum=(0, 0), title="a bowl").axes
    drawn = lines_by_label(axes)
    np.testing.assert_array_equal(drawn["SGD: f = 2.35 after 2 steps"].get_xydata(), paths["SGD"])
    np.testing.assert_array_equal(drawn["Adam: f = 893 after 1 steps"].get_xydata(), paths["Adam"])
    assert "too fast: diverged after 1 steps" in drawn
    np.testing.assert_array_equal(drawn["start"].get_xydata(), [[2.0, 1.0]])
    np.testing.assert_array_equal(drawn["minimum"].get_xydata(), [[0, 0]])
    assert axes.get_xlim() == (-3, 3) and axes.get_ylim() == (-2, 2)
    markers = [drawn[name].get_marker() for name in drawn if "after" in name]
    assert len(set(markers)) == 3


def test_contour_lines_lie_where_the_function_has_their_value():
    (axes,) = viz.surface_paths(bowl, {}, ((-3, 3), (-2, 2)), levels=[5.0, 3.0, 10.0]).axes
    (lines,) = axes.collections
    np.testing.assert_array_equal(lines.levels, [3.0, 5.0, 10.0])
    for level, path in zip(lines.levels, lines.get_paths(), strict=True):
        np.testing.assert_allclose(bowl(*path.vertices.T), level, atol=0.02)
    (axes,) = viz.surface_paths(bowl, {}, ((-3, 3), (-2, 2)), levels=12).axes
    above = axes.collections[0].levels - 2
    assert len(above) == 11
    np.testing.assert_allclose(np.diff(np.log(above)), np.log(above[1] / above[0]), rtol=0.02)


@pytest.mark.parametrize(
    ("function", "paths", "limits", "message"),
    [
        (bowl, {}, ((3, -3), (-2, 2)), "in rising order"),
        (bowl, {"a": np.ones((3, 3))}, ((-3, 3), (-2, 2)), r"path 'a' expected shape \(steps, 2\), got \(3, 3\)"),
        (bowl, {"a": np.ones((0, 2))}, ((-3, 3), (-2, 2)), "path 'a'"),
        (lambda x, y: x[0], {}, ((-3, 3), (-2, 2)), r"return shape \(200, 200\)"),
        (lambda x, y: 0 * x, {}, ((-3, 3), (-2, 2)), "not constant"),
    ],
)
def test_surface_paths_refuse(function, paths, limits, message):
    with pytest.raises(ValueError, match=message):
        viz.surface_paths(function, paths, limits)


def test_histograms_share_the_range_and_count_what_is_outside():
    layers = {"first": np.array([[-1.0, -0.9], [0.1, 0.95]]), "second": np.array([0.0, 0.1, 0.2, 3.0])}
    figure = viz.histograms(layers, bins=4, limits=(-1, 1), title="spread")
    first, second = figure.axes
    for axes in (first, second):
        assert axes.get_xlim() == (-1, 1) and axes.get_ylim()[0] == 0
    np.testing.assert_allclose(first.patches[0].get_data().values, [0.5, 0, 0.25, 0.25])
    np.testing.assert_allclose(second.patches[0].get_data().values, [0, 0, 0.75, 0])
    assert second.get_title(loc="left") == "second\nmean 0.82, sd 1.3\n25.0% outside"
    assert "outside" not in first.get_title(loc="left")
    assert figure.get_supxlabel() == "activation"
    free = viz.histograms(layers).axes[0]
    assert free.get_xlim() == (-1.0, 3.0)


def test_histograms_of_a_dead_layer():
    figure = viz.histograms({"dead": np.zeros(9)})
    assert figure.axes[0].patches[0].get_data().values.sum() == 1
    assert figure.axes[0].get_title(loc="left") == "dead\nmean 0, sd 0"


@pytest.mark.parametrize(
    ("layers", "message"),
    [({}, "at least one layer"), ({"a": []}, "'a' expected finite values, got none"),
     ({"a": [1.0, math.nan]}, "'a' expected finite values, got NaN")],
)  # fmt: skip
def test_histograms_refuse(layers, message):
    with pytest.raises(ValueError, match=message):
        viz.histograms(layers)


def test_images_and_weights_in_characters():
    image = np.zeros((9, 4))  # an odd row at the end has no other half
    image[2:4, 1], image[4, 3], image[5, 0], image[8] = 1.0, 1.0, 0.42, 1.0
    assert viz.in_lines(image) == ["    ", " @  ", ":  +", "    "]
    assert viz.in_characters(image) == "\n @\n:  +\n"
    assert viz.shades(np.array([0, 0.09, 0.1, 0.55, 1])) == "  .+@"


def test_a_page_is_laid_out_once_for_a_file_and_anew_after_a_change(tmp_path, monkeypatch):
    page, axes = style.figure(panel=(3.0, 2.0))
    axes[0, 0].imshow(np.random.default_rng(0).random((200, 300)))
    settled, settle = [], style.settle
    monkeypatch.setattr(style, "settle", lambda figure: settled.append(1) or settle(figure))
    engine, alone = page.get_layout_engine(), axes[0, 0].get_position().bounds
    viz.save(page, tmp_path / "a.png", limit=100)  # too large at every resolution
    assert len(settled) == 1 and page.get_layout_engine() is engine
    placed = axes[0, 0].get_position().bounds
    first = style.png(page)
    assert placed != alone and style.png(page) == first
    axes[0, 0].set_ylabel("a label\nof two lines")
    assert style.png(page) != first
    assert axes[0, 0].get_position().bounds[0] > placed[0]
