"""What is seen on the way from noise to data, with a denoiser that is known; and what `scratch sample` prints."""

import math

import numpy as np
import pytest

from scratch.models.diffusion import inside, sample
from scratch.models.diffusion.noise import linear
from scratch.models.diffusion.process import diffuse
from scratch.models.diffusion.tasks import load_task
from tests.test_diffusion import M, S, best, knows


def test_noising_is_the_closed_form_with_one_noise(rng):
    x0, s = np.zeros((2, 3)), linear(10)
    seen = inside.noising(x0, [0, 5, 10], s, rng)
    assert seen.shape == (2, 3, 3)
    np.testing.assert_array_equal(seen[:, 0], x0)
    eps = seen[:, 2] / math.sqrt(1 - s.alpha_bar[10])
    np.testing.assert_allclose(seen[:, 1], math.sqrt(1 - s.alpha_bar[5]) * eps, rtol=1e-9)


@pytest.mark.parametrize("noisy", [False, True])
def test_a_path_begins_at_the_noise_and_ends_at_the_data(noisy, rng):
    s, x0, x = linear(40), rng.standard_normal((3, 2)), rng.standard_normal((3, 2))
    times, states, guesses = inside.path(knows(x0, s), x, s, 20, show=5, rng=rng if noisy else None)
    assert times[0] == 40 and times[-1] == 0 and len(times) == 6 and (np.diff(times) < 0).all()
    np.testing.assert_array_equal(states[:, 0], x)
    np.testing.assert_allclose(states[:, -1], x0, rtol=1e-9)
    for k in range(6):
        np.testing.assert_allclose(guesses[:, k], x0, rtol=1e-7)


def test_little_noise_is_undone_and_much_is_replaced(rng):
    s, x0 = linear(100), np.array([[3.0], [-2.0]])  # far from what best() knows, N(0.7, 0.4²)
    x, back = inside.reconstruct(best(s), x0, 1, s, rng)
    np.testing.assert_allclose(back, x0, atol=0.15)
    _, back = inside.reconstruct(best(s), x0, 100, s, rng)
    assert np.abs(back - M).max() < 4 * S
    assert x.shape == x0.shape


def test_interpolation_ends_at_both_ends(rng):
    s, a, b = linear(30), *rng.standard_normal((2, 2, 2))
    between = inside.interpolate(best(s), a, b, [0.0, 0.5, 1.0], s, 30)
    ends = inside.interpolate(best(s), a, b, [0.0, 1.0], s, 30)
    np.testing.assert_allclose(between[[0, 2]], ends, rtol=1e-12)
    assert between.shape == (3, 2, 2)


def test_the_score_is_that_of_a_gaussian():
    """q(x_t) = N(√ᾱ M, ᾱ S² + 1 − ᾱ), so its score is −(x − √ᾱ M) / (ᾱ S² + 1 − ᾱ)."""
    s, t = linear(100), 40
    places, score = inside.score_field(best(s), t, s, reach=2, count=3)
    np.testing.assert_allclose(places[:4], [[-2, -2], [0, -2], [2, -2], [-2, 0]])
    a = s.alpha_bar[t]
    np.testing.assert_allclose(score, -(places - math.sqrt(a) * M) / (a * S * S + 1 - a), rtol=1e-4)


def test_digits_are_printed_without_their_margin(capsys):
    task = load_task("digits")
    images = np.zeros((1, 1, 28, 28))
    images[0, 0, 4:6, 3] = 1
    sample.show(images, task, None)
    assert capsys.readouterr().out.split("\n")[:11] == ["0:", "@", *[""] * 9]


@pytest.mark.parametrize(("words", "message"), [(["--count", "0"], "--count expected at least 1"),
                                               (["--run", "a", "--weights", "b"], "not both")])  # fmt: skip
def test_orders_that_make_no_sense_are_refused(words, message):
    with pytest.raises(ValueError, match=message):
        sample.main(words)


def test_at_time_0_nothing_is_added():
    x0 = np.ones((1, 2))
    assert diffuse(x0, 0, x0, linear(3)).tolist() == [[1, 1]]
