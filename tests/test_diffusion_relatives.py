"""Rectified flow, the Transformer as a denoiser, and the likelihood bound: against answers that are known."""

import math

import numpy as np
import pytest

from scratch import Tensor, gradcheck
from scratch.losses import mse_loss
from scratch.models.diffusion import bound, flow
from scratch.models.diffusion.dit import DiT
from scratch.models.diffusion.noise import NoiseSchedule, linear
from scratch.models.diffusion.process import x0_and_eps
from scratch.models.diffusion.train import Settings
from scratch.optim import AdamW
from scratch.random import stream
from tests import lockstep
from tests.test_diffusion import M, S, awake, best, knows

TINY: dict = {"channels": 2, "size": 4, "patch": 2, "dim": 8, "depth": 1, "heads": 2, "classes": 3}


# -- rectified flow ----------------------------------------------------------------------------------------------


def test_a_batch_of_the_flow_lies_on_straight_lines(rng):
    x0, y = rng.standard_normal((3000, 2)), rng.integers(0, 3, 3000)
    with stream(1, 2):
        x, t, velocity, labels = flow.noised(x0, y, Settings(drop_label=0.5), None, 3)
    share = t[:, None] / flow.CLOCK
    assert 0 <= share.min() < 0.01 and 0.99 < share.max() <= 1
    np.testing.assert_allclose(x - share * velocity, x0, rtol=1e-9, atol=1e-12)  # back along the velocity: the data
    eps = x + (1 - share) * velocity  # onwards: the noise
    assert abs(eps.mean()) < 0.05 and abs(eps.std() - 1) < 0.05
    assert 0.4 < (labels == 3).mean() < 0.6
    np.testing.assert_array_equal(labels[labels < 3], y[labels < 3])


def test_a_straight_path_takes_one_step(rng):
    x0, eps = rng.standard_normal((2, 5, 2))
    for solve in (flow.euler, flow.heun):
        for steps in (1, 7):
            np.testing.assert_allclose(solve(lambda x, t: eps - x0, eps, steps), x0, rtol=1e-9, atol=1e-12)


def gaussian_velocity(x, t):
    """E[ε − x_0 | x] for data from N(M, S²): x − (1 − t) M is Gaussian of variance (1 − t)² S² + t²."""
    off = (x - (1 - t) * M) / ((1 - t) ** 2 * S * S + t * t)
    return t * off - (M + (1 - t) * S * S * off)


def test_both_solvers_have_their_order():
    x = np.array([[1.3], [-0.4]])
    end = M + S * x  # the flow maps quantiles to quantiles

    def error(solve, steps):
        return np.abs(solve(gaussian_velocity, x, steps) - end).max()

    assert 1.7 < error(flow.euler, 40) / error(flow.euler, 80) < 2.3
    assert 3.4 < error(flow.heun, 40) / error(flow.heun, 80) < 4.6


def test_the_network_is_asked_with_the_clocks_times():
    def model(x, t, labels=None):
        return Tensor(x.data * t[:, None] + (0 if labels is None else labels[:, None]))

    x = np.ones((2, 1))
    np.testing.assert_allclose(flow.velocity(model)(x, 0.25), 250)
    np.testing.assert_allclose(flow.velocity(model, np.array([3, 4]))(x, 0.25), [[253], [254]])


# -- DiT ---------------------------------------------------------------------------------------------------------


def test_gradients_of_dit(rng):
    model, t, y = awake(rng, DiT(**TINY | {"dim": 4})).to(np.float64), np.array([3, 900]), np.array([1, 3])
    gradcheck(lambda x: model(x, t, y), [rng.standard_normal((2, 2, 4, 4))], parameters=dict(model.named_parameters()))


def test_patches_are_cut_and_joined():
    model = DiT(**TINY)
    x = Tensor(np.arange(32.0).reshape(1, 2, 4, 4))
    patches = model.cut(x).data
    np.testing.assert_array_equal(patches[0, 1], [2, 3, 6, 7, 18, 19, 22, 23])  # upper right, both channels
    np.testing.assert_array_equal(model.joined(Tensor(patches)).data, x.data)


def test_every_block_begins_as_the_identity_and_the_model_silent(rng):
    model = DiT(**TINY)
    h = rng.standard_normal((2, 4, 8)).astype(np.float32)
    e = Tensor(rng.standard_normal((2, 8)).astype(np.float32))
    np.testing.assert_array_equal(model.blocks[0](Tensor(h), e).data, h)
    assert not model(np.ones((1, 2, 4, 4), np.float32), np.array([5]), np.array([0])).data.any()


@pytest.mark.torch
def test_dit_trains_in_lockstep_with_its_twin(rng):
    import torch

    from tests.twins.diffusion import DiT as Twin

    model, twin = awake(rng, DiT(**TINY)), Twin(**TINY)
    assert list(model.state_dict()) == list(twin.state_dict())

    def batches():
        while True:
            x, eps = rng.standard_normal((2, 3, 2, 4, 4))
            yield x, rng.integers(1, 1000, 3), rng.integers(0, 4, 3), eps

    lockstep.check(
        model, twin, AdamW(model.parameters(), lr=3e-3), torch.optim.AdamW(twin.parameters(), lr=3e-3), batches(),
        lambda x, t, y, eps: mse_loss(model(Tensor(x), t, y), Tensor(eps)),
        lambda x, t, y, eps: torch.nn.functional.mse_loss(twin(x, t, y), eps),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: DiT(size=28, patch=5), "patches that divide the image, got 5 and 28"),
        (lambda: DiT(**TINY)(np.zeros((1, 2, 4, 8)), np.array([1]), np.array([0])), r"\(B, 2, 4, 4\), got"),
        (lambda: DiT(**TINY)(np.zeros((1, 2, 4, 4)), np.array([1])), "expected labels"),
        (lambda: DiT(**TINY)(np.zeros((1, 2, 4, 4)), np.array([1, 2]), np.array([0])), "a time for each of 1 rows"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# -- the bound ---------------------------------------------------------------------------------------------------


def test_the_last_term_is_the_divergence_of_two_gaussians():
    s, x0 = linear(30), np.array([[0.5, -1.0]])
    a = s.alpha_bar[-1]
    expected = sum(0.5 * (1 - a + a * x * x - 1 - math.log(1 - a)) for x in (0.5, -1.0))
    assert bound.last(x0, s) == pytest.approx(expected, rel=1e-9)


def test_a_middle_term_is_the_divergence_of_two_posteriors(rng):
    """A denoiser that is off by 0.1 in x̂_0: the means are off by 0.1 times the posterior's factor of x_0."""
    s, x0, t = linear(30), rng.uniform(-1, 1, (3, 2)), 11
    off = bound.step(lambda x, t: x0_and_eps("x0", x0 + 0.1, x, t, s), x0, t, s, rng)
    before, now, beta = s.alpha_bar[t - 1], s.alpha_bar[t], s.beta[t]
    shift = 0.1 * math.sqrt(before) * beta / (1 - now)
    variance = (1 - before) / (1 - now) * beta
    assert off == pytest.approx(2 * shift * shift / (2 * variance), rel=1e-9)
    assert bound.step(knows(x0, s), x0, t, s, rng) == pytest.approx(0, abs=1e-12)


def test_the_first_term_is_the_chance_of_the_right_bin(rng):
    """At β_1 = 10⁻⁴ the deviation is 0.01 and a bin 0.0078 wide; the outermost bins have no outer edge."""
    s, x0 = linear(), np.array([[0.0, 1.0, -1.0]])

    def phi(z):
        return 0.5 * (1 + math.erf(z / math.sqrt(2)))

    half = bound.BIN / 2 / math.sqrt(s.beta[1])
    inner, outer = phi(half) - phi(-half), phi(half)
    expected = -math.log(inner) - 2 * math.log(outer)
    assert bound.first(knows(x0, s), x0, s, rng) == pytest.approx(expected, rel=1e-6)


def test_the_parts_add_up_to_bits_per_dimension(rng):
    """The terms once more, one by one, with the same noise."""
    s, x0 = linear(20), np.clip(M + S * rng.standard_normal((200, 3)), -1, 1)
    found = bound.bits_per_dimension(best(s), x0, s, rng)
    assert found["bits"] == pytest.approx(found["L_T"] + found["L_t"] + found["L_0"])
    for times in (range(2, 21), (2, 20)):
        parts = bound.bits_per_dimension(best(s), x0, s, np.random.default_rng(7), np.array(times))
        noise = np.random.default_rng(7)
        terms = [bound.step(best(s), x0, t, s, noise) for t in times]
        assert parts["L_t"] == pytest.approx(19 * sum(terms) / len(times) / (3 * math.log(2)), rel=1e-12)
    assert bound.bits_per_dimension(best(s), x0, s, np.random.default_rng(7))["L_t"] == pytest.approx(
        bound.bits_per_dimension(best(s), x0, s, np.random.default_rng(7), np.arange(2, 21))["L_t"], rel=1e-12
    )


# -- values that single changed expressions would move -----------------------------------------------------------------


def test_a_flow_of_images_has_one_time_an_image_and_withholds_its_share_of_labels(rng):
    x0, y = rng.standard_normal((4000, 1, 2, 2)), rng.integers(0, 3, 4000)
    with stream(5, 1):
        x, t, velocity, labels = flow.noised(x0, y, Settings(drop_label=0.2), None, 3)
    assert x.shape == x0.shape and t.shape == (4000,)
    share = t.reshape(-1, 1, 1, 1) / flow.CLOCK
    np.testing.assert_allclose(x, x0 + share * velocity, rtol=1e-9, atol=1e-12)
    assert abs((labels == 3).mean() - 0.2) < 5 * math.sqrt(0.2 * 0.8 / 4000)
    np.testing.assert_array_equal(labels[labels < 3], y[labels < 3])


def phi(z):
    return 0.5 * (1 + math.erf(z / math.sqrt(2)))


def test_the_bound_of_a_guess_that_never_changes():
    """Every term in closed form: x̂_0 = 0.3 whatever x is, at ᾱ = 0.9, 0.5, 0.2; one image of two numbers."""
    s, x0, guess = NoiseSchedule(np.array([1, 0.9, 0.5, 0.2])), np.array([[1.0, -1.0]]), 0.3
    seen = []

    def denoise(x, t):
        seen.append((t, x))
        return np.full_like(x, guess), x

    found = bound.bits_per_dimension(denoise, x0, s, np.random.default_rng(4))
    bits = 1 / (2 * math.log(2))
    assert found["L_T"] == pytest.approx(bits * sum(0.5 * (0.2 * x * x - 0.2 - math.log(0.8)) for x in (1, -1)))
    middle = 0.0
    for before, now in ((0.9, 0.5), (0.5, 0.2)):
        beta = 1 - now / before
        factor, variance = math.sqrt(before) * beta / (1 - now), (1 - before) / (1 - now) * beta
        middle += sum((factor * (x - guess)) ** 2 / (2 * variance) for x in (1, -1))
    assert found["L_t"] == pytest.approx(bits * middle, rel=1e-12)
    half, sigma = bound.BIN / 2, math.sqrt(0.1)
    chances = 1 - phi((1 - guess - half) / sigma), phi((-1 - guess + half) / sigma)
    assert found["L_0"] == pytest.approx(-bits * sum(map(math.log, chances)), rel=1e-9)

    noise = np.random.default_rng(4)
    for (t, x), expected in zip(seen, (2, 3, 1), strict=True):
        a = s.alpha_bar[expected]
        assert t == expected
        np.testing.assert_allclose(x, math.sqrt(a) * x0 + math.sqrt(1 - a) * noise.standard_normal((1, 2)), rtol=1e-12)
    assert bound.bits_per_dimension(denoise, x0, s, noise, np.array([], int))["L_t"] == 0


def test_the_terms_are_means_over_the_images_and_sums_over_their_numbers(rng):
    s, a, b = NoiseSchedule(np.array([1, 0.9, 0.5])), rng.uniform(-1, 1, (1, 3, 2)), rng.uniform(-1, 1, (1, 3, 2))

    def denoise(x, t):
        return np.full_like(x, 0.3), x

    both = np.concatenate([a, b])
    for term in (lambda x: bound.last(x, s), lambda x: bound.first(denoise, x, s, rng),
                 lambda x: bound.step(denoise, x, 2, s, rng)):  # fmt: skip
        assert term(both) == pytest.approx((term(a) + term(b)) / 2, rel=1e-9)


def test_only_the_outermost_pixels_have_no_outer_edge(rng):
    """254 of 255 is an inner pixel, also where its value is rounded up; and no chance is less than 10⁻¹²."""
    s, half, sigma = NoiseSchedule(np.array([1, 0.9, 0.5])), bound.BIN / 2, math.sqrt(0.1)
    for x in (np.nextafter(1 - bound.BIN, 1), np.nextafter(-1 + bound.BIN, -1)):
        cost = bound.first(lambda x, t: (np.full_like(x, 0.1), x), np.array([[x]]), s, rng)
        chance = phi((x - 0.1 + half) / sigma) - phi((x - 0.1 - half) / sigma)
        assert cost == pytest.approx(-math.log(chance), rel=1e-9)
    far = bound.first(lambda x, t: (np.full_like(x, 9.0), x), np.array([[0.0]]), s, rng)
    assert far == pytest.approx(12 * math.log(10), rel=1e-12)
