"""Figures for generative models against values that can be computed by hand."""

import math

import numpy as np
import pytest

from scratch.data import SOURCES, gaussian_ring, load_digits, load_fashion_mnist, ring_centres
from scratch.evaluation import count_modes, energy_distance, floor, frechet_distance, nearest, real_distance
from scratch.evaluation import judge as judging


def test_energy_distance_of_a_few_points(rng):
    """X = {0, 2}, Y = {1}: 2 · 1 − 1 − 0."""
    assert energy_distance(np.array([[0.0], [2.0]]), np.array([[1.0]])) == pytest.approx(1)
    x = rng.standard_normal((1203, 2))  # more than a block
    assert energy_distance(x, x) == pytest.approx(0, abs=1e-12)


def test_energy_distance_of_gaussians(rng):
    """For N(0, 1) and N(a, 1): 2 E|Z√2 + a| − 2 E|Z√2|, with E|Z√2 + a| = 2/√π e^(−a²/4) + a erf(a/2)."""
    a, n = 1.5, 4000
    found = energy_distance(rng.standard_normal((n, 1)), a + rng.standard_normal((n, 1)))
    expected = 2 * (2 / math.sqrt(math.pi) * math.exp(-a * a / 4) + a * math.erf(a / 2)) - 4 / math.sqrt(math.pi)
    assert found == pytest.approx(expected, rel=0.1)


def test_frechet_distance_is_the_formula(rng):
    """Of samples whitened to known moments: means (1, 2) apart, covariances diag(4, 9) and diag(1, 25)."""

    def with_moments(mean, deviations):
        x = rng.standard_normal((500, 2))
        x = (x - x.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T
        return x * deviations + mean

    x, y = with_moments([0, 0], [2, 3]), with_moments([1, 2], [1, 5])
    assert frechet_distance(x, y) == pytest.approx(1 + 4 + (2 - 1) ** 2 + (3 - 5) ** 2)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_of_covariances_that_do_not_commute(rng):
    """Tr (Σ₁ Σ₂)^½ by the eigenvalues of the product itself."""
    x, y = (rng.standard_normal((400, 3)) @ rng.standard_normal((3, 3)) for _ in range(2))
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    shared = np.sqrt(np.linalg.eigvals(a @ b).real).sum()
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a) + np.trace(b) - 2 * shared
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-9)


def test_the_floor_is_between_fresh_sets():
    seen = []

    def draw(seed):
        seen.append(seed)
        return np.full((3, 1), float(seed))

    np.testing.assert_allclose(floor(lambda x, y: float(np.abs(x - y).max()), draw, draws=4), 1)
    assert seen == list(range(8))


def test_the_nearest_is_found(rng):
    y = rng.standard_normal((1500, 2, 3))
    x = y[[1400, 3]] + 1e-3
    distances, rows = nearest(x, y)
    np.testing.assert_array_equal(rows, [1400, 3])
    np.testing.assert_allclose(distances, 1e-3 * math.sqrt(6), rtol=1e-9)


def test_modes_are_counted():
    centres = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    samples = np.array([[0.2, 0.0], [-0.2, 0.0], [0.0, 0.31], [10.0, 0.1], [5.0, 5.0]])
    modes = count_modes(samples, centres, sigma=0.1)
    np.testing.assert_array_equal(modes.counts, [2, 1, 0])
    assert modes.inside == pytest.approx(3 / 5) and modes.found(least=1) == 2
    np.testing.assert_allclose(modes.deviations, [math.sqrt(0.08 / 2), math.nan, math.nan])


def test_real_points_have_all_modes_and_their_deviation():
    modes = count_modes(gaussian_ring(8000, seed=3).inputs, ring_centres(), 0.1)
    assert modes.found() == 8 and modes.inside > 0.98  # 1 − e^(−9/2) lie within three deviations in the plane
    np.testing.assert_allclose(modes.deviations, 0.1, rtol=0.06)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: energy_distance(np.zeros((2, 2)), np.zeros((2, 3))), r"rows of one length, got shapes \(2, 2\)"),
        (lambda: frechet_distance(np.zeros((1, 2)), np.zeros((5, 2))), "at least two rows of each, got 1 and 5"),
        (lambda: count_modes(np.zeros((2, 2)), np.zeros((2, 3)), 1), r"\(N, d\) and \(K, d\)"),
        (lambda: judging.features(np.zeros((1, 28, 28))), r"images \(N, 1, 28, 28\) in 0 … 1, got shape \(1, 28, 28\)"),
    ],
)
def test_other_shapes_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_judge_is_what_its_card_says():
    test = load_digits(flat=False).test
    judge = judging.load_judge()
    found = judging.agreement(*test.arrays, judge)
    assert found == pytest.approx(float(judging.card()["test accuracy"]), abs=0.002)  # the file has half numbers
    assert found > 0.975
    shares, kl = judging.class_balance(test.inputs, judge)
    assert shares.sum() == pytest.approx(1) and kl < 1e-3
    ones = test.inputs[test.targets == 1]
    assert judging.class_balance(ones, judge)[1] == pytest.approx(math.log(10), abs=0.15)


@pytest.mark.skipif(
    not (SOURCES["fashion_mnist"].installed[0] / "train-images-idx3-ubyte.gz").is_file(),
    reason="Debian's dataset-fashion-mnist is not installed",
)
def test_the_judge_of_clothes_is_what_its_card_says():
    test = load_fashion_mnist(flat=False, download=False).test
    found = judging.agreement(*(part[:2000] for part in test.arrays), judging.load_judge("fashion_mnist"))
    assert found == pytest.approx(float(judging.card("fashion_mnist")["test accuracy"]), abs=0.02)  # a fifth of them
    assert found > 0.9


def test_there_is_no_judge_of_points():
    with pytest.raises(ValueError, match="judges of digits, mnist, fashion_mnist, got 'two_moons'"):
        judging.load_judge("two_moons")


def test_the_real_distance_is_the_mean_over_fresh_sets():
    sets = {0: np.array([[1.0]]), 1: np.array([[4.0]])}
    assert real_distance(lambda x, y: float(x[0, 0] - y[0, 0]), np.array([[0.5]]), sets.__getitem__, 2) == 2


def test_a_judges_figures():
    data = load_digits(flat=False)
    judge, samples, asked = judging.load_judge(), data.test.inputs[:300], data.test.targets[:300]
    found = judging.figures(samples, data.test.inputs, data.train.inputs, judge, asked)
    assert found["read as asked"] == judging.agreement(samples, asked, judge)
    drawn, real, known = (judging.features(x, judge) for x in (samples, data.test.inputs, data.train.inputs[:300]))
    assert found["Fréchet distance"] == pytest.approx(frechet_distance(drawn, real))
    assert found["Fréchet distance, real"] == pytest.approx(frechet_distance(known, real))
    assert "read as asked" not in judging.figures(samples, data.test.inputs, data.train.inputs, judge)


def test_features_tell_real_digits_from_noise(rng):
    test = load_digits(flat=False).test.inputs
    judge = judging.load_judge()
    real = judging.features(test[:500], judge)
    close = frechet_distance(judging.features(test[500:], judge), real)
    noise = rng.random((500, 1, 28, 28)).astype(np.float32)
    assert frechet_distance(judging.features(noise, judge), real) > 20 * close


def test_the_energy_distance_to_one_set_is_that_of_the_formula_each_time(rng):
    """What is remembered of a set is its own: not that of the same numbers in another shape, nor of older numbers."""
    y = rng.standard_normal((6, 2)).astype(np.float32)

    def by_formula(x, y):
        apart = [np.linalg.norm(a[:, None] - b, axis=2).mean() for a, b in ((x, y), (x, x), (y, y))]
        return 2 * apart[0] - apart[1] - apart[2]

    for _ in range(2):
        for other in (y, y.reshape(4, 3), y.reshape(3, 4), np.asfortranarray(y), y.astype(np.float64), y[::2]):
            x = rng.standard_normal((5, other.shape[1])).astype(other.dtype)
            assert energy_distance(x, other) == pytest.approx(by_formula(x, other), abs=1e-6)
        y += 1
        y[0] *= 3
