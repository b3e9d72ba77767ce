"""Pictures of points and films: what is drawn is what was given, frame by frame."""

import numpy as np
import pytest
from PIL import Image

from scratch import viz
from scratch.viz import films
from scratch.viz import planes as plane


def frames_of(path) -> list:
    with Image.open(path) as film:
        seen = []
        for i in range(film.n_frames):
            film.seek(i)
            seen.append((np.asarray(film.convert("RGB")), film.info["duration"]))
    return seen


def test_clouds_show_every_set_over_one_range(rng):
    sets = [rng.normal(size=(5, 2)), 3 * rng.normal(size=(9, 2)), rng.normal(size=(2500, 2))]
    figure = viz.clouds(sets, ["a", "b", "c"], columns=2, title="three")
    panels = figure.axes[:3]
    for axes, points, name in zip(panels, sets, "abc", strict=True):
        (dots,) = axes.collections
        np.testing.assert_array_equal(dots.get_offsets(), points[:2000])
        assert axes.get_title(loc="left") == name
        assert axes.get_xlim() == panels[0].get_xlim() and axes.get_aspect() == 1
    drawn = np.concatenate([each[:2000] for each in sets])
    assert panels[0].get_xlim()[0] < drawn[:, 0].min() and panels[0].get_ylim()[1] > drawn[:, 1].max()
    assert not figure.axes[3].get_visible() and figure.get_suptitle() == "three"
    small, large = (axes.collections[0].get_sizes()[0] for axes in (panels[2], panels[0]))
    assert small < large


def test_clouds_take_limits():
    axes = viz.clouds([np.zeros((1, 2))], ["a"], limits=((-1, 2), (-3, 4))).axes[0]
    assert axes.get_xlim() == (-1, 2) and axes.get_ylim() == (-3, 4)


def test_arrows_point_as_the_vectors_and_the_longest_spans_one_and_a_half_cells(rng):
    line = np.array([0.0, 2.0, 4.0])
    places = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    vectors = rng.normal(size=(2, 9, 2))
    figure = viz.arrows(places, vectors, ["early", "late"], points=np.ones((4, 2)))
    for axes, each in zip(figure.axes, vectors, strict=True):
        dots, quiver = axes.collections
        np.testing.assert_array_equal(dots.get_offsets(), np.ones((4, 2)))
        np.testing.assert_array_equal(quiver.get_offsets(), places)
        drawn = np.stack([quiver.U, quiver.V], axis=1)
        np.testing.assert_allclose(drawn * np.hypot(*each.T).max(), 3.0 * each)
        assert quiver.scale == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: viz.clouds([np.ones((3, 3))], ["a"]), r"\(n, 2\), got \(3, 3\)"),
        (lambda: viz.clouds([np.ones((3, 2))], []), "one title for each of 1 panels"),
        (lambda: viz.arrows(np.ones((4, 2)), np.ones((4, 2)), ["a"]), r"vectors \(K, 4, 2\)"),
        (lambda: viz.points_film(np.ones((2, 3)), ["a", "b"], "a.gif"), r"\(K, n, 2\) and K titles"),
        (lambda: viz.image_film(np.ones((2, 3, 4, 4)), ["a"], "a.gif"), r"\(K, n, H, W\) and K titles"),
        (lambda: viz.points_film(np.ones((1, 3, 2)), ["a"], "a.png"), r"ending in \.gif, got 'a.png'"),
        (lambda: viz.write_film(viz.figure()[0], print, 0, "a.gif"), "at least one frame"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_film_of_images_changes_images_and_titles(tmp_path):
    frames = np.zeros((3, 2, 1, 4, 5))
    frames[1, 0], frames[2] = 1, 0.5
    gif, still = viz.image_film(frames, ["one", "two", "three"], tmp_path / "a.gif", seconds=0.2, hold=0.4)
    seen = frames_of(gif)
    assert [time for _, time in seen] == [200, 200, 600]
    assert all((a != b).any() for (a, _), (b, _) in zip(seen, seen[1:], strict=False))
    assert gif.stat().st_size < films.MAX_GIF and still == tmp_path / "a.png" and still.is_file()


def test_each_frame_shows_its_own(tmp_path, monkeypatch, rng):
    shown = []

    def film(page, show, count, *_):
        for k in range(count):
            show(k)
            (axes,) = page.axes
            data = [image.get_array() for image in axes.images] or axes.collections[0].get_offsets()
            shown.append((axes.get_title(loc="left"), np.array(data)))

    monkeypatch.setattr(films, "write_film", film)
    images, points = rng.random((2, 3, 4, 4)), rng.normal(size=(2, 2100, 2))
    viz.image_film(images, ["a", "b"], "a.gif")
    viz.points_film(points, ["c", "d"], "a.gif")
    assert [title for title, _ in shown] == list("abcd")
    for (_, data), expected in zip(shown, [*images, *points[:, : plane.MOST]], strict=True):
        np.testing.assert_array_equal(data, expected)


def test_a_film_too_large_is_drawn_smaller_or_refused(tmp_path, rng):
    frames = rng.random((2, 3, 8, 8))
    large, _ = viz.image_film(frames, ["a", "b"], tmp_path / "a.gif", hold=0)
    limit = large.stat().st_size - 1
    small, _ = viz.image_film(frames, ["a", "b"], tmp_path / "b.gif", hold=0, limit=limit)
    assert small.stat().st_size <= limit
    with pytest.raises(ValueError, match="more than 10: give fewer frames"):
        viz.image_film(frames, ["a", "b"], tmp_path / "c.gif", hold=0, limit=10)
