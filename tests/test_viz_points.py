"""Points of classes and bars: what is drawn is what was given."""

import numpy as np
import pytest

from scratch import Tensor, viz


@pytest.mark.parametrize("names", [None, tuple("abc"), ("cat", "dog", "owl")])
def test_every_class_has_its_points_and_its_own_mark(names, rng):
    points, labels = rng.standard_normal((20, 2)), np.arange(20) % 3
    figure = viz.class_scatter(Tensor(points), labels, names, title="codes")
    drawn = figure.axes[0].collections
    assert len(drawn) == 3
    for k, each in enumerate(drawn):
        np.testing.assert_allclose(each.get_offsets(), points[labels == k])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(names or "012")
    assert [text.get_text() for text in figure.axes[0].texts] == list(names or "012")  # not by colour alone


def test_a_class_without_points_is_left_out():
    figure = viz.class_scatter(np.zeros((2, 2)), np.array([0, 2]), tuple("abc"))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "c"]


@pytest.mark.parametrize(
    ("points", "labels", "message"),
    [
        (np.zeros((3, 3)), np.zeros(3, int), r"points \(n, 2\) and labels \(n,\), got \(3, 3\)"),
        (np.zeros((3, 2)), np.zeros(2, int), r"got \(3, 2\) and \(2,\)"),
        (np.zeros((3, 2)), np.full(3, -1), "of at least 0"),
        (np.zeros((3, 2)), np.zeros(3), "whole numbers"),
    ],
)
def test_what_can_not_be_scattered(points, labels, message):
    with pytest.raises(ValueError, match=message):
        viz.class_scatter(points, labels)


def test_bars_stand_in_the_given_order():
    figure = viz.bars([0.2, 0.5, 0.3], reference=(0.4, "mean"))
    axes = figure.axes[0]
    assert [bar.get_height() for bar in axes.patches] == [0.2, 0.5, 0.3]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["mean"]
    for wrong in ([], np.zeros((2, 2)), [np.nan]):
        with pytest.raises(ValueError, match=r"bars expected finite values \(n,\)"):
            viz.bars(wrong)
