"""The pictures show what the samplers gave: with a denoiser that knows the answer, each cell is known."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from scratch import viz
from scratch.models.diffusion import pictures, portraits, sample
from scratch.models.diffusion.noise import SCHEDULES, linear
from scratch.models.diffusion.process import at, diffuse
from scratch.models.diffusion.tasks import load_task, to_pixels
from scratch.models.diffusion.train import Settings
from scratch.module import Module
from scratch.tensor import Tensor
from tests.test_diffusion_evaluate import Knows, of_each_class

SETTINGS = replace(Settings(), T=20, sampling_steps=5, guidance=0.0)
SCHEDULE = SCHEDULES[SETTINGS.schedule](20)


@pytest.fixture(scope="module")
def digits():
    return load_task("digits")


@pytest.fixture(scope="module")
def ring():
    return load_task("gaussian_ring")


@pytest.fixture
def grids(monkeypatch):
    """What image_grid was given."""
    seen = []
    monkeypatch.setattr(viz, "image_grid", lambda images, titles=None, **rest: seen.append((images, titles, rest)))
    return seen


class Home(Module):
    """ε of the one point (1, −1)."""

    def forward(self, x, t):
        a = at(SCHEDULE.alpha_bar, t, x.data)
        return Tensor((x.data - np.sqrt(a) * np.array([1, -1], x.dtype)) / np.sqrt(1 - a))


def test_schedules_are_drawn_at_every_time():
    left, right = pictures.draw_schedules(50).axes
    for axes, values in ((left, lambda s: s.alpha_bar), (right, lambda s: s.snr[1:])):
        curves = {line.get_label(): line.get_ydata() for line in axes.get_lines()}
        for name, make in SCHEDULES.items():
            np.testing.assert_allclose(curves[name], values(make(50)))
    assert right.get_yscale() == "log"


def test_the_noising_strip_begins_at_the_data_and_ends_in_noise(digits, grids):
    pictures.draw_noising(digits, linear(), 2)
    images, titles, options = grids[0]
    assert options["columns"] == 11 and titles[0] == "t = 0" and titles[10] == "t = 1000" and not any(titles[11:])
    np.testing.assert_allclose(images[[0, 11]], to_pixels(digits.test.inputs[:2]), atol=1e-6)
    for row in range(2):
        eps = 2 * images[11 * row + 10] - 1  # as good as pure noise, and the same for all times
        half = diffuse(digits.test.inputs[row : row + 1], 500, eps[None], linear())[0]
        np.testing.assert_allclose(2 * images[11 * row + 5] - 1, half, atol=0.02)
        assert abs(eps.std() - 1) < 0.1


def test_points_drown_panel_by_panel(ring):
    first, *_, last = pictures.draw_noising(ring, linear()).axes[:6]
    np.testing.assert_allclose(first.collections[0].get_offsets(), ring.scale * ring.test.inputs[:1500], rtol=1e-5)
    assert abs(np.asarray(last.collections[0].get_offsets()).std() / ring.scale - 1) < 0.05
    assert last.get_title(loc="left") == "t = 1000"


def test_the_path_has_two_rows_a_class_the_guesses_below(digits, grids):
    images = of_each_class(digits)
    pictures.draw_path(Knows(images), digits, SETTINGS, SCHEDULE, classes=(3, 8))
    drawn, titles, options = grids[0]
    columns = options["columns"]
    rows = drawn.reshape(4, columns, 1, 28, 28)
    assert titles[0] == "t = 20" and titles[columns - 1] == "t = 0"
    for row, c in ((1, 3), (3, 8)):
        np.testing.assert_allclose(rows[row], np.broadcast_to((images[c] + 1) / 2, rows[row].shape), atol=0.02)
        np.testing.assert_allclose(rows[row - 1, -1], (images[c] + 1) / 2, atol=1e-4)
    assert abs((2 * rows[0, 0] - 1).std() - 1) < 0.1


def test_reconstructions_stand_below_what_was_noised(digits, grids):
    images = of_each_class(digits)
    pictures.draw_reconstruction(Knows(images), digits, SETTINGS, SCHEDULE, shares=(0.05, 0.5), count=2)
    rows = grids[0][0].reshape(2, 2, 3, 1, 28, 28)
    for i in range(2):
        original = to_pixels(digits.test.inputs[i])
        np.testing.assert_allclose(rows[i, :, 0], [original] * 2, atol=1e-6)
        np.testing.assert_allclose(rows[i, 1, 1:], [to_pixels(images[0])] * 2, atol=1e-4)  # no_class 10 knows image 0
        assert np.abs(rows[i, 0, 1] - original).mean() < np.abs(rows[i, 0, 2] - original).mean()
    assert grids[0][1][:3] == ["t = 0", "t = 1", "t = 10"]


def test_guidance_inpainting_and_interpolation(digits, grids):
    images = of_each_class(digits)
    known = (Knows(images), digits, SETTINGS, SCHEDULE)
    portraits.draw_guidance(*known, strengths=(0, 2))
    portraits.draw_inpainting(*known, count=2, fills=2)
    portraits.draw_interpolation(*known, classes=(4, 7), steps=3)
    guided, inpainted, between = (drawn.reshape(-1, 1, 28, 28) for drawn, _, _ in grids)
    np.testing.assert_allclose(guided[:10], to_pixels(images), atol=1e-4)
    np.testing.assert_allclose(guided[10:], to_pixels(3 * images - 2 * images[0]), atol=1e-4)  # none knows image 0
    assert grids[0][1][10] == "w = 2"
    test = to_pixels(digits.test.inputs[:2])
    np.testing.assert_allclose(inpainted[:2], test, atol=1e-6)
    assert (inpainted[2:4, :, 14:] == 0.5).all()
    for filled in (inpainted[4:6], inpainted[6:8]):
        np.testing.assert_allclose(filled[:, :, :14], test[:, :, :14], atol=1e-5)
        np.testing.assert_allclose(filled[:, :, 14:], [to_pixels(images[0])[:, 14:]] * 2, atol=1e-4)
    for row, c in ((0, 4), (3, 7)):
        np.testing.assert_allclose(between[row : row + 3], [to_pixels(images[c])] * 3, atol=1e-4)


def test_arrows_of_the_score_point_home(ring):
    figure = pictures.draw_score(Home(), ring, SETTINGS, SCHEDULE, shares=(0.05, 0.5))
    for axes, t in zip(figure.axes[:2], (1, 10), strict=True):
        quiver = axes.collections[1]
        places = np.asarray(quiver.get_offsets()) / ring.scale
        home = np.sqrt(SCHEDULE.alpha_bar[t]) * np.array([1, -1])
        drawn, expected = np.stack([quiver.U, quiver.V], axis=1), home - places
        scale = np.abs(drawn).max() / np.abs(expected).max()
        np.testing.assert_allclose(drawn, scale * expected, atol=1e-4)


def test_points_end_at_home_and_are_drawn_beside_real_ones(ring):
    figure = pictures.draw_point_path(Home(), ring, SETTINGS, SCHEDULE, count=50)
    home = ring.scale * np.array([1, -1])
    assert figure.axes[0].get_title(loc="left") == "t = 20" and figure.axes[5].get_title(loc="left") == "t = 0"
    for axes in figure.axes[5:12]:  # x_0 and all guesses
        np.testing.assert_allclose(axes.collections[0].get_offsets(), np.broadcast_to(home, (50, 2)), rtol=0.02)
    real, samples = pictures.draw_points(np.ones((7, 2)), ring).axes
    np.testing.assert_array_equal(samples.collections[0].get_offsets(), np.ones((7, 2)))
    np.testing.assert_allclose(real.collections[0].get_offsets(), ring.scale * ring.test.inputs[:7])


def test_a_run_on_points_draws_five_pictures(ring, tmp_path):
    log = [{"step": 0, "loss": 1.0}, {"step": 1, "loss": 0.5}, {"step": 2, "validation_loss": 0.6}]
    files = pictures.draw_all(tmp_path, log, Home(), ring, np.ones((9, 2)), SETTINGS, SCHEDULE)
    assert [file.stem for file in files] == ["curves", "samples", "path", "score"]
    assert all(file.stat().st_size < 200_000 for file in files)


def test_sample_draws_all_pictures(ring, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sample, "load_run", lambda folder: (Home(), ring, SETTINGS))
    monkeypatch.setattr(portraits, "FRAMES", 5)
    sample.main(["--run", "x", "--pictures", str(tmp_path / "seen")])
    names = sorted(file.name for file in (tmp_path / "seen").iterdir())
    assert names == ["noising.png", "noising_film.gif", "noising_film.png", "path.png", "path_film.gif",
                     "path_film.png", "schedules.png", "score.png"]  # fmt: skip
    assert capsys.readouterr().out.count("picture  ") == 8
    for name in ("noising_film.gif", "path_film.gif"):
        with Image.open(tmp_path / "seen" / name) as film:
            assert film.n_frames >= 5
        assert (tmp_path / "seen" / name).stat().st_size < 1_000_000


def test_films_of_digits_show_each_class(digits, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(viz, "image_film", lambda frames, names, *_, **__: seen.append((frames, names)) or ())
    images = of_each_class(digits)
    portraits.film_noising(digits, SCHEDULE, tmp_path / "a.gif")
    portraits.film_path(Knows(images), digits, SETTINGS, SCHEDULE, tmp_path / "b.gif")
    (noised, times), (back, _) = seen
    np.testing.assert_allclose(noised[0], to_pixels(digits.test.inputs[:10]), atol=1e-6)
    np.testing.assert_allclose(back[-1], to_pixels(images), atol=1e-4)
    assert times[0] == "t = 0 of 20" and times[-1] == "t = 20 of 20" and back.shape[1:] == (10, 1, 28, 28)
