"""Pictures of convolutional networks: what is drawn is what was given, in the right place, with a second cue."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from scratch import viz
from scratch.tensor import Tensor
from scratch.viz import pairs, style

ROOT = Path(__file__).resolve().parent.parent


def drawn(axes) -> list:
    return [np.asarray(image.get_array()) for image in axes.images]


def titles(figure) -> list[str]:
    return [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")]


def test_no_picture_touches_pyplot(tmp_path):
    script = """
import sys
import numpy as np
from scratch import viz
assert "matplotlib" not in sys.modules, "import scratch.viz loads matplotlib"
image, mask = np.random.default_rng(0).random((3, 8, 9)), np.zeros((1, 8, 9), int)
mask[0, 2:4, 3:5] = 1
pictures = [
    viz.filter_grid(np.ones((3, 2, 3, 3))), viz.feature_map_rows({"a": image}, image=image),
    viz.heat_maps(image, {"a": image[0], "b": image[0] - 0.5}), viz.receptive_fields(image[0], (3, 3)),
    viz.adversarial_pairs(image[None], image[None] + 0.1, ["a"], ["b"]), viz.segmentation(image[None], mask, 1 - mask),
]
for i, picture in enumerate(pictures):
    viz.save(picture, f"{sys.argv[1]}/{i}.png")
viz.read_photo(f"{sys.argv[1]}/0.png")
assert "matplotlib.pyplot" not in sys.modules
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", "-c", script, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    sizes = [path.stat().st_size for path in sorted(tmp_path.iterdir())]
    assert len(sizes) == 6 and max(sizes) < style.MAX_PNG


# -- filters and maps -------------------------------------------------------------------------------------------


def test_filters_lie_by_output_and_input_on_one_scale_around_zero(rng):
    weight = rng.normal(size=(5, 3, 2, 4))
    board = viz.filter_grid(Tensor(weight), outputs=4, inputs=2, title="conv2").axes[0]
    assert len(board.images) == 8
    for n, image in enumerate(board.images):
        i, j = divmod(n, 2)
        np.testing.assert_array_equal(image.get_array(), weight[i, j])
        left, right, bottom, top = image.get_extent()
        assert (left, top, right, bottom) == pytest.approx((j * 1.12, i * 0.62, j * 1.12 + 1, i * 0.62 + 0.5))
        assert image.get_clim() == pytest.approx((-np.abs(weight[:4, :2]).max(), np.abs(weight[:4, :2]).max()))
    assert "input →  (2 of 3)" in board.get_xlabel()
    assert "output  (4 of 5)" in board.get_ylabel()
    for wrong in (np.zeros((3, 3)), np.zeros((0, 1, 3, 3)), np.full((1, 1, 1, 1), np.nan)):
        with pytest.raises(ValueError, match="filter_grid expected finite weights"):
            viz.filter_grid(wrong)


def test_maps_of_a_stage_are_those_that_vary_most_on_the_rows_own_scale(rng):
    first, second = rng.normal(size=(1, 6, 4, 5)), rng.normal(size=(3, 2, 2)) * 9
    first[0, [1, 4]] = 7.0  # constant: nothing to see
    image = rng.random((3, 8, 10))
    figure = viz.feature_map_rows({"stem": first, "head": second}, count=4, image=image, title="a net")
    top, stem, head = figure.axes
    np.testing.assert_allclose(drawn(top)[0], (np.moveaxis(image, 0, -1) - image.min()) / np.ptp(image))
    assert [text.get_text() for text in stem.texts] == ["0", "2", "3", "5"]
    for array, channel in zip(drawn(stem), (0, 2, 3, 5), strict=True):
        np.testing.assert_array_equal(array, first[0, channel])
    chosen = first[0, [0, 2, 3, 5]]
    assert all(each.get_clim() == (chosen.min(), chosen.max()) for each in stem.images)
    assert len(head.images) == 3 and all(each.get_clim() == (second.min(), second.max()) for each in head.images)
    assert titles(figure)[1].startswith("stem: 4 of 6 maps, 4×5, ")
    assert figure.get_suptitle() == "a net"
    plain = viz.feature_map_rows({"stem": first}, count=2, strongest=False).axes[0]
    assert [text.get_text() for text in plain.texts] == ["0", "1"]
    with pytest.raises(ValueError, match="at least one stage"):
        viz.feature_map_rows({})
    with pytest.raises(ValueError, match=r"stem to be \(channels, h, w\), got \(2, 3, 4, 5\)"):
        viz.feature_map_rows({"stem": np.zeros((2, 3, 4, 5))})


# -- where in the image -----------------------------------------------------------------------------------------


def test_heat_lies_over_the_whole_image_and_is_scaled_to_its_largest(rng):
    image, positive, signed = rng.random((3, 8, 12)), rng.random((2, 3)) * 5, rng.normal(size=(8, 12))
    figure = viz.heat_maps(image, {"cam": positive, "hidden": signed}, title="cat")
    plain, cam, hidden = figure.axes[:3]
    assert drawn(plain)[0].shape == (8, 12, 3)
    for axes, heat, low in ((cam, positive, 0), (hidden, signed, -1)):
        below, above = axes.images
        np.testing.assert_allclose(np.asarray(below.get_array()), image.mean(axis=0), atol=0.5)
        assert np.asarray(below.get_array()).ndim == 2  # grey, so that the heat's colours are its own
        np.testing.assert_allclose(np.asarray(above.get_array()), heat / np.abs(heat).max())
        assert above.get_extent() == below.get_extent() == [0, 12, 8, 0]
        assert above.get_clim() == (low, 1) and 0 < above.get_alpha() < 1
    assert cam.collections, "a line surrounds what is above half, for readers without colours"
    assert titles(figure) == ["image", "cam", "hidden"]
    for wrong in (np.zeros(3), np.full((2, 2), np.nan)):
        with pytest.raises(ValueError, match="heat_maps expected cam to be"):
            viz.heat_maps(image, {"cam": wrong})
    viz.heat_maps(image[0], {"nothing": np.zeros((3, 3))})  # no contour to find, and no warning


def test_the_frame_of_the_theoretical_field_is_centred_and_of_its_size():
    effective = np.zeros((21, 31))
    effective[8:13, 13:18] = np.outer([1, 2, 3, 2, 1], [1, 2, 3, 2, 1])
    figure = viz.receptive_fields(effective, (9, 11), title="conv3")
    field, cut = figure.axes[:2]
    np.testing.assert_allclose(drawn(field)[0], effective / 9)
    (frame,) = field.patches
    assert frame.get_xy() == pytest.approx((15.5 - 5.5, 10.5 - 4.5))
    assert (frame.get_width(), frame.get_height()) == (11, 9)
    assert titles(figure)[0] == "9×11 on paper, 5×5 counted"
    lines = {line.get_label(): line for line in cut.get_lines()}
    np.testing.assert_allclose(lines["effective"].get_ydata(), effective[10] / 9)
    np.testing.assert_allclose(lines["effective"].get_xdata(), np.arange(31) + 0.5)
    assert list(lines["theoretical, 11 wide"].get_xdata()) == pytest.approx([10, 10, 21, 21])
    moved = viz.receptive_fields(effective, (9, 11), centre=(4.5, 6.5)).axes[0].patches[0]
    assert moved.get_xy() == pytest.approx((1, 0))
    for wrong in (np.zeros((3, 3)), -np.ones((3, 3)), np.ones(3)):
        with pytest.raises(ValueError, match="receptive_fields expected"):
            viz.receptive_fields(wrong, (3, 3))


# -- pairs ------------------------------------------------------------------------------------------------------


def test_adversarial_pairs_share_the_scale_of_their_row(rng):
    before = rng.random((2, 1, 4, 5))
    after = before + 0.1 * np.sign(rng.normal(size=before.shape)) * [[[[1]]], [[[0.5]]]]
    figure = viz.adversarial_pairs(before, after, ["3, 99 %", "5, 80 %"], ["8, 60 %", "6, 51 %"], title="ε = 0.1")
    axes = np.array(figure.axes).reshape(2, 3)
    for i in range(2):
        both = np.concatenate([before[i], after[i]])
        for column, values in ((0, before[i]), (2, after[i])):
            expected = (values[0] - both.min()) / np.ptp(both) * 255
            np.testing.assert_allclose(drawn(axes[i, column])[0], expected, atol=0.51)
        change = 127.5 * (1 + (after - before)[i, 0] / 0.1)
        np.testing.assert_allclose(drawn(axes[i, 1])[0], change, atol=0.51)
    assert titles(figure) == ["3, 99 %", "change, at most 0.1", "8, 60 %", "5, 80 %", "change, at most 0.05", "6, 51 %"]
    with pytest.raises(ValueError, match="adversarial_pairs expected two arrays"):
        viz.adversarial_pairs(before, after[:1], ["a", "b"], ["c", "d"])
    with pytest.raises(ValueError, match="n answers each"):
        viz.adversarial_pairs(before, after, ["a"], ["c", "d"])


def test_masks_differ_by_colour_and_hatch_and_mistakes_are_crossed(rng):
    truth = np.zeros((1, 6, 7), int)
    truth[0, 1:3, 1:4], truth[0, 4:6, 5:7] = 1, 2
    predicted = truth.copy()
    predicted[0, 1, 1], predicted[0, 0, 6] = 0, 2
    figure = viz.segmentation(rng.random((1, 6, 7)), truth, predicted, ["ground", "disc", "cross"], title="U-Net")
    image, true_axes, predicted_axes = figure.axes
    pixels = drawn(true_axes)[0]
    np.testing.assert_allclose(pixels[0, 0], 1)
    for at, colour in (((1, 1), style.COLOURS[0]), ((5, 6), style.COLOURS[1])):
        np.testing.assert_allclose(pixels[at], 0.35 + 0.65 * np.array(to_rgb(colour)))
    hatches = [collection.hatches for collection in true_axes.collections]
    assert hatches == [[pairs._hatch(1)], [pairs._hatch(2)]]
    (crosses,) = predicted_axes.get_lines()
    assert sorted(zip(crosses.get_xdata(), crosses.get_ydata(), strict=True)) == [(1.5, 1.5), (6.5, 0.5)]
    assert titles(figure) == ["image", "truth", "predicted, 95.2 % right"]  # 40 of 42
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["ground", "disc", "cross", "wrong"]
    assert len({pairs._hatch(k) for k in range(1, len(style.COLOURS) + 1)}) == len(style.COLOURS)


def test_what_is_no_segmentation():
    image, mask = np.zeros((1, 6, 7)), np.zeros((1, 6, 7), int)
    for arguments in ((image, mask, mask[:, :5]), (image[:, :5], mask, mask), (image, mask[0], mask[0])):
        with pytest.raises(ValueError, match="segmentation expected images"):
            viz.segmentation(*arguments)
    for wrong in (mask - 1, mask + 9):
        with pytest.raises(ValueError, match="classes from 0 to 8"):
            viz.segmentation(image, mask, wrong)
    with pytest.raises(ValueError, match=r"expected an image \(H, W\)"):
        viz.heat_maps(np.zeros((2, 6, 7)), {})
