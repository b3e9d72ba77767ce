"""Diffusion: schedules and the forward process against their definitions, samplers against answers that are known."""

import inspect
import math
import textwrap

import numpy as np
import pytest

from scratch import Tensor, gradcheck, no_grad
from scratch.losses import mse_loss
from scratch.models.diffusion import noise, process, sampling
from scratch.models.diffusion import train as training
from scratch.models.diffusion.model import MLPDenoiser, TimeEmbedding, UNet
from scratch.models.diffusion.noise import NoiseSchedule, cosine, from_betas, from_log_snr, linear, sigmoid
from scratch.models.diffusion.process import diffuse, diffuse_one_step, posterior, target, x0_and_eps
from scratch.models.diffusion.sampling import ask, ddim, ddpm, heun, inpaint, karras_times, slerp, spaced
from scratch.models.diffusion.train import Settings
from scratch.module import Module
from scratch.optim import AdamW
from scratch.random import stream
from tests import lockstep

TINY: dict = {"channels": 2, "widths": (4, 8), "blocks": 2, "classes": 3, "heads": 2, "groups": 2}


def awake(rng, model):
    """Weights large enough that every part matters: the layers that begin at 0 would hide what lies before them."""
    for name, parameter in model.named_parameters():
        parameter.data[...] = rng.standard_normal(parameter.shape) * 0.4
        if "norm" in name and name.endswith("weight"):
            parameter.data += 1
    return model


# -- schedules ---------------------------------------------------------------------------------------------------


def test_linear_is_the_papers():
    s = linear()
    assert s.T == 1000 and s.alpha_bar[0] == 1 and s.beta[0] == 0
    np.testing.assert_allclose(s.beta[[1, 500, 1000]], [1e-4, 1e-4 + 499 / 999 * 0.0199, 0.02], rtol=1e-9)
    np.testing.assert_allclose(s.alpha_bar[2], (1 - s.beta[1]) * (1 - s.beta[2]), rtol=1e-12)
    assert s.alpha_bar[-1] == pytest.approx(4.0358e-5, rel=1e-4)  # √ᾱ_T = 0.0064: next to nothing of the data is left
    np.testing.assert_allclose(linear(250).beta[[1, 250]], [4e-4, 0.08])


def test_cosine_is_the_papers():
    def f(u):
        return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

    s = cosine(100)
    np.testing.assert_allclose(s.alpha_bar[[1, 50, 99]], [f(u) / f(0) for u in (0.01, 0.5, 0.99)], rtol=1e-9)
    assert s.beta[100] == pytest.approx(0.999)  # the formula says 1


def test_sigmoid_is_the_papers():
    def logistic(z):
        return 1 / (1 + math.exp(-z))

    s, lowest = sigmoid(100), logistic(-3)
    expected = [(logistic(3 - 6 * u) - lowest) / (logistic(3) - lowest) for u in (0.01, 0.3, 0.99)]
    np.testing.assert_allclose(s.alpha_bar[[1, 30, 99]], expected, rtol=1e-9)


@pytest.mark.parametrize("make", [linear, cosine, sigmoid])
def test_signal_and_noise(make):
    s = make(50)
    assert s.snr[0] == math.inf and (np.diff(s.snr) < 0).all()
    np.testing.assert_allclose(s.snr[1:], s.alpha_bar[1:] / (1 - s.alpha_bar[1:]))
    np.testing.assert_allclose(from_log_snr(np.log(s.snr[1:])).alpha_bar, s.alpha_bar, rtol=1e-12)
    np.testing.assert_allclose(from_betas(s.beta[1:]).alpha_bar, s.alpha_bar, rtol=1e-12)
    times = np.array([0, 3, 10, 50])
    np.testing.assert_array_equal(s.respaced(times).alpha_bar, s.alpha_bar[times])


@pytest.mark.parametrize("alpha_bar", [[1.0], [0.9, 0.5], [1.0, 0.5, 0.5], [1.0, 0.5, 0.0], [[1.0, 0.5]]])
def test_what_is_no_schedule_is_refused(alpha_bar):
    with pytest.raises(ValueError, match="falling from exactly 1 to above 0"):
        NoiseSchedule(np.array(alpha_bar))


def test_no_steps_are_refused():
    with pytest.raises(ValueError, match="at least one step, got T = 0"):
        linear(0)


# -- the forward process -----------------------------------------------------------------------------------------


def test_the_chain_ends_where_the_closed_form_does():
    """Signal and variance of t single steps are √ᾱ_t and 1 − ᾱ_t: the chain without noise, and the noise alone."""
    s, x, variance = linear(40), np.ones((1, 1)), 0.0
    for t in range(1, 41):
        x = diffuse_one_step(x, t, np.zeros((1, 1)), s)
        kept = diffuse_one_step(np.ones((1, 1)), t, np.zeros((1, 1)), s).item()
        added = diffuse_one_step(np.zeros((1, 1)), t, np.ones((1, 1)), s).item()
        variance = kept * kept * variance + added * added
        np.testing.assert_allclose(x.item(), diffuse(np.ones((1, 1)), t, np.zeros((1, 1)), s).item(), rtol=1e-12)
        all_noise = diffuse(np.zeros((1, 1)), t, np.ones((1, 1)), s).item()
        np.testing.assert_allclose(variance, all_noise * all_noise, rtol=1e-12)
        np.testing.assert_allclose(variance, 1 - s.alpha_bar[t], rtol=1e-12)


def test_chain_and_closed_form_have_one_distribution(rng):
    s, n, x0 = linear(20), 40_000, 1.7
    x = np.full((n, 1), x0)
    for t in range(1, 11):
        x = diffuse_one_step(x, t, rng.standard_normal((n, 1)), s)
    mean, deviation = math.sqrt(s.alpha_bar[10]) * x0, math.sqrt(1 - s.alpha_bar[10])
    assert abs(x.mean() - mean) < 5 * deviation / math.sqrt(n)
    assert abs(x.std() / deviation - 1) < 5 / math.sqrt(2 * n)


def posterior_is_bayes_rule():
    """q(x_{t−1} | x_t, x_0) ∝ q(x_t | x_{t−1}) q(x_{t−1} | x_0), summed up on a fine grid."""
    s = linear(30)
    for t in (2, 17, 30):
        x0, x = 0.8, -0.3
        grid = np.linspace(-6, 6, 400_001)
        a, before = s.alpha[t], s.alpha_bar[t - 1]
        log_p = -((x - math.sqrt(a) * grid) ** 2) / (2 * (1 - a))
        log_p -= (grid - math.sqrt(before) * x0) ** 2 / (2 * (1 - before))
        p = np.exp(log_p - log_p.max())
        p /= p.sum()
        mean = (p * grid).sum()
        found = process.posterior(np.array([[x0]]), np.array([[x]]), t, s)
        np.testing.assert_allclose(found[0].item(), mean, rtol=1e-6)
        np.testing.assert_allclose(found[1].item(), (p * (grid - mean) ** 2).sum(), rtol=1e-6)


def test_the_posterior_is_bayes_rule():
    posterior_is_bayes_rule()


def test_at_the_first_step_the_posterior_is_the_data(rng):
    x0, x = rng.standard_normal((2, 3, 2))
    mean, variance = posterior(x0, x, 1, linear(10))
    np.testing.assert_allclose(mean, x0, rtol=1e-12)
    assert variance.item() == 0


def predictions_are_inverted(rng):
    s, x0, eps = linear(100), rng.standard_normal((4, 3, 2)), rng.standard_normal((4, 3, 2))
    t = np.array([1, 30, 70, 100])  # a time for each row
    x = process.diffuse(x0, t, eps, s)
    for row in range(4):
        a = s.alpha_bar[t[row]]
        np.testing.assert_allclose(x[row], math.sqrt(a) * x0[row] + math.sqrt(1 - a) * eps[row], rtol=1e-12)
    for kind in process.PREDICTIONS:
        found = process.x0_and_eps(kind, process.target(kind, x0, eps, t, s), x, t, s)
        np.testing.assert_allclose(found[0], x0, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(found[1], eps, rtol=1e-7, atol=1e-9)


def test_every_prediction_gives_data_and_noise_back(rng):
    predictions_are_inverted(rng)


def test_v_is_the_papers():
    s, x0, eps = linear(10), np.array([[2.0]]), np.array([[3.0]])
    a = s.alpha_bar[7]
    assert target("v", x0, eps, 7, s).item() == pytest.approx(math.sqrt(a) * 3 - math.sqrt(1 - a) * 2)


def test_unknown_predictions_are_refused():
    x = np.zeros((1, 2))
    for call in (lambda: target("mu", x, x, 1, linear(2)), lambda: x0_and_eps("mu", x, x, 1, linear(2))):
        with pytest.raises(ValueError, match="one of eps, x0, v, got 'mu'"):
            call()


def test_float32_stays_float32(rng):
    x, s = np.ones((2, 3), np.float32), cosine(10)
    assert diffuse(x, np.array([1, 10]), x, s).dtype == np.float32
    assert posterior(x, x, 3, s)[0].dtype == np.float32
    denoise = knows(x, s)
    for drawn in (ddpm(denoise, x, s, spaced(10), rng), ddim(denoise, x, s, spaced(10), rng, 1.0),
                  heun(denoise, x, s, spaced(10))):  # fmt: skip
        assert drawn.dtype == np.float32


# -- samplers ----------------------------------------------------------------------------------------------------


def knows(x0, s):
    """A denoiser that knows what lies behind the noise."""
    return lambda x, t: x0_and_eps("x0", x0, x, t, s)


def samplers_end_at_the_data(rng):
    s, x0, x = linear(200), rng.standard_normal((5, 3)), rng.standard_normal((5, 3))
    for steps in (1, 7, 200):
        times = sampling.spaced(200, steps)
        assert times[0] == 0 and times[-1] == 200 and len(times) == steps + 1
        for drawn in (
            sampling.ddpm(knows(x0, s), x, s, times, rng),
            sampling.ddpm(knows(x0, s), x, s, times, rng, large_variance=True),
            sampling.ddim(knows(x0, s), x, s, times),
            sampling.ddim(knows(x0, s), x, s, times, rng, eta=1.0),
            sampling.heun(knows(x0, s), x, s, times),
            sampling.inpaint(knows(x0, s), x0, np.zeros_like(x0), s, times, rng, again=2),
        ):
            np.testing.assert_allclose(drawn, x0, rtol=1e-9, atol=1e-12)


def test_with_a_denoiser_that_knows_every_sampler_returns_the_data(rng):
    samplers_end_at_the_data(rng)


M, S = 0.7, 0.4  # data from N(M, S²): the best denoiser, and where the equation leads, are known


def best(s):
    """E[x_0 | x_t] for data from N(M, S²)."""

    def denoise(x, t):
        a = s.alpha_bar[t]
        x0 = M + math.sqrt(a) * S * S / (a * S * S + 1 - a) * (x - math.sqrt(a) * M)
        return x0_and_eps("x0", x0, x, t, s)

    return denoise


def samplers_draw_the_distribution(rng):
    """Of Gaussian data with the best denoiser: the mean and the deviation, within five standard errors."""
    s, n = linear(300), 40_000
    for draw in (
        lambda x: sampling.ddpm(best(s), x, s, spaced(300), rng),
        lambda x: sampling.ddim(best(s), x, s, spaced(300), rng, eta=0.5),
        lambda x: sampling.heun(best(s), x, s, spaced(300, 100)),
    ):
        drawn = draw(rng.standard_normal((n, 1)))
        assert abs(drawn.mean() - M) < 5 * S / math.sqrt(n)
        assert abs(drawn.std() / S - 1) < 0.02 + 5 / math.sqrt(2 * n)  # 300 steps are not infinitely many


def test_samplers_draw_the_distribution_of_gaussian_data(rng):
    samplers_draw_the_distribution(rng)


def test_all_steps_of_ddim_with_eta_1_are_ddpm(rng):
    s = linear(60)
    denoise, x = best(s), rng.standard_normal((6, 2))
    for times in (spaced(60), spaced(60, 9)):
        one = ddpm(denoise, x, s, times, np.random.default_rng(3))
        other = ddim(denoise, x, s, times, np.random.default_rng(3), eta=1.0)
        np.testing.assert_allclose(one, other, rtol=1e-10)


def test_ddpm_is_the_papers_line_four(rng):
    s = linear(50)
    x, z = rng.standard_normal((4, 2)), np.random.default_rng(5)
    denoise = best(s)
    drawn = ddpm(denoise, x, s, spaced(50), np.random.default_rng(5), large_variance=True)
    for t in range(50, 0, -1):
        _, eps = denoise(x, t)
        x = (x - s.beta[t] / math.sqrt(1 - s.alpha_bar[t]) * eps) / math.sqrt(s.alpha[t])
        if t > 1:
            x = x + math.sqrt(s.beta[t]) * z.standard_normal(x.shape)
    np.testing.assert_allclose(drawn, x, rtol=1e-9)


def test_heun_is_of_second_order_and_ddim_of_first():
    """Twice the steps: a quarter of Heun's error, half of DDIM's. The equation's end is known for Gaussian data."""
    T = 20_000
    s = linear(T)
    a = s.alpha_bar[-1]
    x = np.array([[1.3], [-0.4]])
    end = M + S / math.sqrt(a * S * S + 1 - a) * (x - math.sqrt(a) * M)

    def error(sampler, steps):
        times = np.concatenate([[0], np.unique(karras_times(s, steps)[1:])])
        return np.abs(sampler(best(s), x, s, times) - end).max()

    assert 1.6 < error(ddim, 20) / error(ddim, 40) < 2.5
    assert 3.0 < error(heun, 20) / error(heun, 40) < 6.0


def test_times_rise_from_0_to_T():
    np.testing.assert_array_equal(spaced(10, 4), [0, 2, 5, 8, 10])
    np.testing.assert_array_equal(spaced(3), [0, 1, 2, 3])
    for steps in (0, 11):
        with pytest.raises(ValueError, match="from 1 to T = 10 steps"):
            spaced(10, steps)
    times = karras_times(linear(), 18)
    assert times[0] == 0 and times[1] == 1 and times[-1] == 1000 and (np.diff(times) > 0).all()
    level = np.sqrt(1 / linear().alpha_bar[times[1:]] - 1) ** (1 / 7)
    np.testing.assert_allclose(np.diff(level)[-6:], np.diff(level)[-6:].mean(), rtol=0.05)


def test_noise_without_a_generator_is_refused():
    with pytest.raises(ValueError, match="eta = 1.0 draws noise, and needs a generator"):
        ddim(best(linear(4)), np.zeros((1, 1)), linear(4), spaced(4), eta=1.0)


def test_a_look_at_each_step_sees_time_state_and_guess(rng):
    s, seen = linear(8), []
    x0, x = rng.standard_normal((2, 3, 2))
    for sampler in (
        lambda look: ddpm(knows(x0, s), x, s, spaced(8, 4), rng, look=look),
        lambda look: ddim(knows(x0, s), x, s, spaced(8, 4), look=look),
        lambda look: heun(knows(x0, s), x, s, spaced(8, 4), look=look),
    ):
        seen.clear()
        sampler(lambda t, state, guess: seen.append((t, state, guess)))
        assert [t for t, _, _ in seen] == [8, 6, 4, 2]
        np.testing.assert_allclose(seen[0][1], x, rtol=1e-12)
        for _, _, guess in seen:
            np.testing.assert_allclose(guess, x0, rtol=1e-9)


def test_inpainting_keeps_what_is_known(rng):
    s, known = linear(30), rng.standard_normal((2, 1, 4, 4))
    mask = (rng.random((2, 1, 4, 4)) < 0.5).astype(float)
    filled = inpaint(best(s), known, mask, s, spaced(30, 10), rng)
    np.testing.assert_allclose(filled * mask, known * mask, rtol=1e-12)
    assert np.abs((filled - known) * (1 - mask)).max() > 0.1


def test_slerp_keeps_the_length():
    a, b = np.array([3.0, 0.0]), np.array([0.0, 3.0])
    np.testing.assert_allclose(slerp(a, b, 1 / 3), [3 * math.cos(math.pi / 6), 1.5])
    np.testing.assert_allclose([slerp(a, b, 0), slerp(a, b, 1)], [a, b], atol=1e-12)
    np.testing.assert_allclose(slerp(a, 2 * a, 0.5), 1.5 * a)


class Fixed(Module):
    """Says 1 + t for class 0, 10 for class 1, and −2 where the class is withheld (2)."""

    no_class = 2

    def forward(self, x, t, labels):
        said = np.where(labels == 2, -2.0, np.where(labels == 1, 10.0, 1.0 + t))
        return Tensor(np.broadcast_to(said[:, None], x.shape).copy())


def test_guidance_is_the_papers(rng):
    s, x = linear(10), rng.standard_normal((2, 3))
    _, eps = ask(Fixed(), s, labels=np.array([0, 1]), guidance=1.5)(x, 4)
    np.testing.assert_allclose(eps, [[2.5 * 5 + 3] * 3, [2.5 * 10 + 3] * 3])
    _, eps = ask(Fixed(), s, labels=np.array([0, 1]))(x, 4)
    np.testing.assert_allclose(eps, [[5.0] * 3, [10.0] * 3])


def test_a_clipped_guess_and_its_noise_make_x_together(rng):
    s, x = linear(10), rng.standard_normal((2, 3))
    x0, eps = ask(Fixed(), s, labels=np.array([0, 1]), limit=0.5)(x, 9)
    assert np.abs(x0).max() == 0.5
    np.testing.assert_allclose(diffuse(x0, 9, eps, s), x, rtol=1e-10)


# -- networks ----------------------------------------------------------------------------------------------------


def test_the_embedding_of_a_time_is_the_sinusoidal_one(rng):
    embedding = awake(rng, TimeEmbedding(6)).to(np.float64)
    w = embedding.state_dict()
    angles = 7 / 10000 ** (np.array([0, 2, 4]) / 6)
    waves = np.stack([np.sin(angles), np.cos(angles)], axis=1).ravel()
    h = w["first.weight"] @ waves + w["first.bias"]
    h = h / (1 + np.exp(-h))
    np.testing.assert_allclose(embedding(np.array([7])).data[0], w["second.weight"] @ h + w["second.bias"], rtol=1e-10)


def test_gradients_of_the_denoiser_for_points(rng):
    model = awake(rng, MLPDenoiser(3, 4, 2)).to(np.float64)
    t = np.array([3, 900])
    gradcheck(lambda x: model(x, t), [rng.standard_normal((2, 3))], parameters=dict(model.named_parameters()))


def test_gradients_of_the_unet(rng):
    """Of every parameter and the input, along random directions: a wrong element shows in any of them, and of some
    3,000 elements the time for each would be ten times as long."""
    config = {"channels": 1, "widths": (2, 4), "blocks": 1, "classes": 2, "heads": 2, "groups": 2}
    model, t, y = awake(rng, UNet(**config)).to(np.float64), np.array([3, 900]), np.array([1, 2])
    x = Tensor(rng.standard_normal((2, 1, 4, 4)), requires_grad=True)
    v = rng.standard_normal((2, 1, 4, 4))
    model(x, t, y).backward(v)

    def loss():
        with no_grad():
            return float((v * model(x, t, y).data).sum())

    eps, checked = 1e-6, {"x": x, **dict(model.named_parameters())}
    assert len(checked) > 80
    for name, tensor in checked.items():
        for _ in range(2):
            kept, direction = tensor.data.copy(), rng.standard_normal(tensor.shape)
            tensor.data[...] = kept + eps * direction
            above = loss()
            tensor.data[...] = kept - eps * direction
            below = loss()
            tensor.data[...] = kept
            expected = (above - below) / (2 * eps)
            np.testing.assert_allclose((tensor.grad * direction).sum(), expected, rtol=1e-6, atol=1e-7, err_msg=name)


def test_both_begin_by_saying_nothing(rng):
    x = rng.standard_normal((2, 2, 4, 8)).astype(np.float32)
    assert not UNet(**TINY)(x, np.array([1, 9]), np.array([0, 3])).data.any()
    assert not MLPDenoiser(2)(x[:, 0, 0, :2], np.array([1, 9])).data.any()


def test_the_default_unet_fits_into_a_megabyte_of_half_numbers():
    assert UNet(1, Settings().widths, Settings().blocks, 10).count_parameters() == 433_089


@pytest.mark.torch
def test_the_unet_trains_in_lockstep_with_its_twin(rng):
    import torch

    from tests.twins.diffusion import UNet as Twin

    model, twin = awake(rng, UNet(**TINY)), Twin(**TINY)
    assert list(model.state_dict()) == list(twin.state_dict())
    in_lockstep(rng, model, twin, torch, lambda: (rng.standard_normal((3, 2, 4, 8)), rng.integers(1, 1000, 3),
                                             rng.integers(0, 4, 3)))  # fmt: skip


@pytest.mark.torch
def test_the_denoiser_for_points_trains_in_lockstep_with_its_twin(rng):
    import torch

    from tests.twins.diffusion import MLPDenoiser as Twin

    model, twin = awake(rng, MLPDenoiser(2, 16, 2)), Twin(2, 16, 2)
    assert list(model.state_dict()) == list(twin.state_dict())
    in_lockstep(rng, model, twin, torch, lambda: (rng.standard_normal((7, 2)), rng.integers(1, 1000, 7)))


def in_lockstep(rng, model, twin, torch, draw):
    """On noised batches: x_t, t (and labels) in, the noise as the target."""
    schedule = linear()

    def batches():
        while True:
            x0, t, *labels = draw()
            eps = rng.standard_normal(x0.shape)
            yield diffuse(x0, t, eps, schedule), t, *labels, eps

    lockstep.check(
        model, twin, AdamW(model.parameters(), lr=3e-3), torch.optim.AdamW(twin.parameters(), lr=3e-3), batches(),
        lambda x, t, *rest: mse_loss(model(Tensor(x), t, *rest[:-1]), Tensor(rest[-1])),
        lambda x, t, *rest: torch.nn.functional.mse_loss(twin(x, t, *rest[:-1]), rest[-1]),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x: m(x[:, :1], np.zeros(2, int), np.zeros(2, int)), r"\(B, 2, H, W\) with H and W multiples of 2"),
        (lambda m, x: m(x[..., :3], np.zeros(2, int), np.zeros(2, int)), "multiples of 2, got"),
        (lambda m, x: m(x, 5, np.zeros(2, int)), r"a time for each of 2 rows, shape \(2,\), got shape \(\)"),
        (lambda m, x: m(x, np.zeros(2, int)), "expected labels"),
        (lambda m, x: m(x, np.zeros(2, int), np.zeros(3, int)), "one label for each of 2 images"),
        (lambda m, x: m(x, np.zeros(2, int), np.array([0, 4])), "0 to 3|below 4|3"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(UNet(**TINY), np.zeros((2, 2, 4, 4), np.float32))


def test_labels_for_a_model_without_are_refused():
    with pytest.raises(ValueError, match="no labels"):
        UNet(1, (8,), 1)(np.zeros((1, 1, 2, 2), np.float32), np.array([1]), np.array([0]))


# -- training ----------------------------------------------------------------------------------------------------


def batch_is_noised_row_by_row(rng):
    settings, s = Settings(predict="eps", drop_label=0.25), linear(50)
    x0, y = rng.standard_normal((4000, 2)), rng.integers(0, 3, 4000)
    with stream(1, 2):
        x, t, eps, labels = training.noised(x0, y, settings, s, 3)
    assert t.min() == 1 and t.max() == 50
    assert np.bincount(t, minlength=51)[1:].min() > 30  # 80 each, if it is uniform
    for row in (0, 17, 3999):
        a = s.alpha_bar[t[row]]
        np.testing.assert_allclose(x[row], math.sqrt(a) * x0[row] + math.sqrt(1 - a) * eps[row], rtol=1e-12)
    assert abs(eps.std() - 1) < 0.05
    withheld = labels == 3
    np.testing.assert_array_equal(labels[~withheld], y[~withheld])
    assert 0.2 < withheld.mean() < 0.3


def test_every_row_of_a_batch_has_its_own_time_and_noise(rng):
    batch_is_noised_row_by_row(rng)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"T": 0}, "T must be at least 1"),
        ({"drop_label": 1.5}, "drop_label must be from 0 to 1"),
        ({"sampling_steps": 11, "T": 10}, "at most T = 10"),
        ({"widths": (12,)}, "multiples of 8"),
        ({"lr": math.inf}, "lr must be a number"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Settings(**values)


# -- planted faults ----------------------------------------------------------------------------------------------

FAULTS = {
    "ᾱ off by one": (process, "diffuse", "at(schedule.alpha_bar, t, x0)", "at(schedule.alpha_bar, t - 1, x0)"),
    "the variance for the deviation": (process, "diffuse", "np.sqrt(1 - alpha_bar) * eps", "(1 - alpha_bar) * eps"),
    "posterior, ᾱ off by one": (process, "posterior", "np.asarray(t) - 1]", "np.asarray(t)] * 1.01"),
    "posterior, β for β̃": (process, "posterior", "(1 - before) / (1 - now) * (1 - alpha)\n", "1 - alpha\n"),
    "v with its terms exchanged": (process, "target", "np.sqrt(alpha_bar) * eps - np.sqrt(1 - alpha_bar) * x0",
                                   "np.sqrt(alpha_bar) * x0 - np.sqrt(1 - alpha_bar) * eps"),
    "noise at the last step": (sampling, "ddpm", " if i > 1 else mean", ""),
    "ddpm, the variance for the deviation": (sampling, "ddpm", "np.sqrt(variance) * normal", "variance * normal"),
    "ddim without the noise's place": (sampling, "ddim", "1 - a_s - sigma * sigma", "1 - a_s"),
    "heun, the first slope twice": (sampling, "heun", "d + d_there", "d + d"),
    "one time for the whole batch": (training, "noised", "rng.integers(1, schedule.T + 1, len(x0))",
                                     "np.full(len(x0), rng.integers(1, schedule.T + 1))"),
    "the last time never drawn": (training, "noised", "schedule.T + 1", "schedule.T"),
    "labels never withheld": (training, "noised", "np.where(withheld, no_class, y)", "y"),
}  # fmt: skip


def all_is_right(rng):
    posterior_is_bayes_rule()
    predictions_are_inverted(rng)
    samplers_end_at_the_data(rng)
    samplers_draw_the_distribution(rng)
    heun_beats_euler()
    batch_is_noised_row_by_row(rng)


def heun_beats_euler():
    """To 0.5 % in 60 steps, where Euler's rule is 2 % off."""
    s = linear(1000)
    a, x = s.alpha_bar[-1], np.array([[1.3], [-0.4]])
    end = M + S / math.sqrt(a * S * S + 1 - a) * (x - math.sqrt(a) * M)
    np.testing.assert_allclose(sampling.heun(best(s), x, s, karras_times(s, 60)), end, rtol=5e-3)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_planted_fault_is_caught(fault, monkeypatch, rng):
    module, name, old, new = fault
    source = textwrap.dedent(inspect.getsource(getattr(module, name)))
    assert source.count(old) == 1, f"{old!r} stands {source.count(old)} times in {name}"
    space = dict(vars(module))
    exec("from __future__ import annotations\n" + source.replace(old, new), space)
    for user in (noise, process, sampling, training):
        if hasattr(user, name):
            monkeypatch.setattr(user, name, space[name])
    with pytest.raises(AssertionError), np.errstate(all="ignore"):
        all_is_right(rng)


def test_without_a_fault_all_is_right(rng):
    all_is_right(rng)


# -- values that single changed expressions would move -----------------------------------------------------------------


def test_a_schedule_of_a_list_is_an_array_of_float64():
    s = NoiseSchedule([1, 0.5, 0.25])
    assert isinstance(s.alpha_bar, np.ndarray) and s.alpha_bar.dtype == np.float64
    np.testing.assert_array_equal(s.beta, [0, 0.5, 0.5])
    assert NoiseSchedule(np.array([1, 0.5], np.float32)).alpha_bar.dtype == np.float64


def test_a_sigmoid_schedule_of_other_ends_and_temperature():
    """z from −2 to 6 in four steps, divided by ½ … and cut where β would be more than 0.999."""

    def logistic(z):
        return 1 / (1 + math.exp(-z))

    z = [-2.0, 0.0, 2.0, 4.0, 6.0]  # (start + (end − start) t / T) / tau
    f = [logistic(-each) - logistic(-6) for each in z]
    s = sigmoid(4, start=-1.0, end=3.0, tau=0.5)
    np.testing.assert_allclose(s.alpha_bar[:4], [each / f[0] for each in f[:4]], rtol=1e-12)
    assert s.beta[4] == pytest.approx(0.999, rel=1e-12)


def test_a_linear_schedule_of_few_steps_is_cut_at_the_largest_beta():
    np.testing.assert_allclose(linear(4).beta, [0, 0.025, 0.999, 0.999, 0.999], rtol=1e-12)
    np.testing.assert_allclose(linear(2, first=1e-4, last=2e-4).beta, [0, 0.05, 0.1], rtol=1e-12)


def test_one_step_adds_the_noise_and_not_its_opposite():
    s = from_betas(np.array([0.36, 0.19]))
    x, eps, t = np.array([[2.0], [5.0]]), np.array([[1.0], [-2.0]]), np.array([1, 2])
    expected = [[2 * 0.8 + 0.6], [5 * 0.9 - 2 * math.sqrt(0.19)]]
    np.testing.assert_allclose(diffuse_one_step(x, t, eps, s), expected, rtol=1e-12)


def test_the_posterior_of_images_has_a_time_for_each(rng):
    s, x0, x, t = linear(30), *rng.standard_normal((2, 3, 1, 2, 2)), np.array([1, 9, 30])
    mean, variance = posterior(x0, x, t, s)
    assert variance.shape == (3, 1, 1, 1)
    for row in range(3):
        one, its_variance = posterior(x0[row : row + 1], x[row : row + 1], int(t[row]), s)
        np.testing.assert_allclose(mean[row], one[0], rtol=1e-12)
        np.testing.assert_allclose(variance[row], its_variance[0], rtol=1e-12, atol=1e-15)


class Modes(Module):
    """Says 1, notes its mode, the number of rows, and what it was given as labels."""

    no_class = 5

    def __init__(self):
        self.seen = []

    def forward(self, x, t, labels=None):
        self.seen.append((self.training, len(x), None if labels is None else labels.tolist()))
        return Tensor(np.ones_like(x.data))


@pytest.mark.parametrize("training", [True, False])
def test_a_network_is_asked_in_evaluation_and_left_as_it_was(training):
    model, s = Modes().train(training), linear(10)
    ask(model, s)(np.zeros((1, 2)), 3)
    assert model.seen == [(False, 1, None)] and model.training == training


def test_without_guidance_a_network_is_asked_once_and_without_labels_never_for_guidance():
    model, s, x = Modes(), linear(10), np.zeros((1, 2))
    ask(model, s, labels=np.array([4]))(x, 3)
    ask(model, s, guidance=2.0)(x, 3)
    assert [labels for *_, labels in model.seen] == [[4], None]
    model.seen.clear()
    ask(model, s, labels=np.array([4]), guidance=1.0)(x, 3)
    assert sorted(labels for *_, (labels,) in model.seen) == [4, 5]  # the class and none, in two parts


def test_a_guess_is_clipped_on_both_sides():
    s, x = linear(10), np.array([[-3.0, 0.25, 3.0]])
    x0, _ = ask(Modes(), s, limit=1.0)(x, 1)  # nearly no noise: x̂_0 is nearly x
    assert x0[0, [0, 2]].tolist() == [-1, 1] and abs(x0[0, 1]) < 1


def test_a_network_is_asked_in_two_parts_or_more():
    """Halves for two threads, of at most 1,024 points or 32 images."""
    s = linear(10)
    for shape, parts in (((5, 2), [2, 3]), ((2600, 2), [650] * 4), ((100, 1, 1, 1), [25] * 4), ((6, 1, 1, 1), [3, 3])):
        model = Modes()
        ask(model, s)(np.zeros(shape), 3)
        assert sorted(rows for _, rows, _ in model.seen) == parts


def test_heun_asks_twice_a_step_but_once_in_the_last(rng):
    s, asked = linear(3), []

    def denoise(x, t):
        asked.append(t)
        return best(s)(x, t)

    heun(denoise, rng.standard_normal((2, 1)), s, spaced(3))
    assert asked == [3, 2, 2, 1, 1]


@pytest.mark.parametrize(("rho", "steps"), [(7.0, 5), (2.0, 4), (1.0, 6)])
def test_karras_times_are_the_nearest_to_the_papers_noise_levels(rho, steps):
    """σ_i = (σ_min^(1/ρ) + i / (n − 1) (σ_max^(1/ρ) − σ_min^(1/ρ)))^ρ, the nearest time by the ratio of levels."""
    s = linear(200)
    level = [math.sqrt((1 - a) / a) for a in s.alpha_bar]
    low, high = level[1] ** (1 / rho), level[200] ** (1 / rho)
    times = [0]
    for i in range(steps):
        wanted = (low + i / (steps - 1) * (high - low)) ** rho
        times.append(min(range(1, 201), key=lambda t: abs(math.log(level[t] / wanted))))
    assert karras_times(s, steps, rho).tolist() == times


def test_inpainting_is_the_papers_algorithm(rng):
    """Lugmayr et al., algorithm 1, with U = 3 and fewer times, from the same noise."""
    full, times = linear(40), np.array([0, 5, 22, 40])
    s = full.respaced(times)

    def denoise(x, t):  # what is filled in depends on what is known
        return best(full)(x + 0.5 * x[:, ::-1], t)

    known, mask = rng.standard_normal((3, 2)), np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    found = inpaint(denoise, known, mask, full, times, np.random.default_rng(8), again=3)
    noise = np.random.default_rng(8)

    def z():
        return noise.standard_normal((3, 2))

    x = z()
    for i in (3, 2, 1):
        a, alpha, before = s.alpha_bar[i], s.alpha_bar[i] / s.alpha_bar[i - 1], s.alpha_bar[i - 1]
        for repeat in range(3):
            x0, _ = denoise(x, times[i])
            mean = (math.sqrt(before) * (1 - alpha) * x0 + math.sqrt(alpha) * (1 - before) * x) / (1 - a)
            unknown = mean + math.sqrt((1 - before) / (1 - a) * (1 - alpha)) * z()
            x = np.where(mask == 1, math.sqrt(before) * known + math.sqrt(1 - before) * z(), unknown)
            if repeat < 2:
                x = math.sqrt(alpha) * x + math.sqrt(1 - alpha) * z()
    np.testing.assert_allclose(found, x, rtol=1e-9)


def test_slerp_between_vectors_of_other_lengths_and_angles():
    """60°: sin 45° and sin 15° over sin 60° for a quarter of the way; opposite directions have no one arc."""
    a, b = np.array([[2.0, 0.0]]), np.array([[1.5, 1.5 * math.sqrt(3)]])
    up, down = math.sin(math.radians(45)), math.sin(math.radians(15))
    np.testing.assert_allclose(slerp(a, b, 0.25), (up * a + down * b) / math.sin(math.radians(60)), rtol=1e-12)
    np.testing.assert_allclose(slerp(a, -2 * a, 0.25), 0.75 * a - 0.5 * a, rtol=1e-12)
    nearly = slerp(np.array([1.0, 0.0]), np.array([math.cos(1e-5), math.sin(1e-5)]), 0.5)
    np.testing.assert_allclose(np.linalg.norm(nearly), 1, rtol=1e-15)


def test_slerp_from_a_vector_to_itself_is_that_vector(rng):
    """Rounding makes the cosine of some of them more than 1, of which there is no angle."""
    vectors = rng.standard_normal((300, 7))
    assert any(a @ a / (np.linalg.norm(a) * np.linalg.norm(a)) > 1 for a in vectors)
    for a in vectors:
        np.testing.assert_allclose(slerp(a, a, 0.3), a, rtol=1e-14)
