"""Autoencoders: the bound against closed forms, quantisation against its definition, all in lockstep with PyTorch."""

import inspect
import math
import textwrap

import numpy as np
import pytest

from scratch import Tensor, gradcheck
from scratch.data import Batches, load_digits
from scratch.losses import mse_loss
from scratch.models.autoencoder import elbo, latent, model, parts, prior, vq
from scratch.models.autoencoder.elbo import Gaussian, gaussian_kl, importance_bound
from scratch.models.autoencoder.latent import GridVAE, LatentDiffusion
from scratch.models.autoencoder.model import VAE, Autoencoder, ConvAutoencoder, ConvVAE
from scratch.models.autoencoder.vq import VQVAE, VectorQuantizer, perplexity
from scratch.models.diffusion.noise import linear
from scratch.models.gpt import GPT
from scratch.optim import AdamW
from scratch.parallel import ShardedLoss
from scratch.random import stream
from tests import lockstep

TINY = (2, 4, 8)  # channels, height, width: all different


def images(rng, n, shape=TINY):
    return rng.random((n, *shape))


# -- the divergence and the noise ---------------------------------------------------------------------------------


def kl_is_the_integral(rng):
    """Of one number: ∫ q ln (q / p), on a fine grid. Of many: the sum."""
    mean, s = np.array([[0.0, 0.7, -1.3, 0.2]]), np.array([[0.0, -1.0, 0.6, 0.9]])
    grid = np.linspace(-15, 15, 60_001)
    expected = 0.0
    for m, log_variance in zip(mean[0], s[0], strict=True):
        variance = math.exp(log_variance)
        q = np.exp(-((grid - m) ** 2) / (2 * variance)) / math.sqrt(2 * math.pi * variance)
        log_ratio = 0.5 * (grid**2 - (grid - m) ** 2 / variance - log_variance)
        expected += float((q * log_ratio).sum()) * (grid[1] - grid[0])
    np.testing.assert_allclose(elbo.gaussian_kl(Tensor(mean), Tensor(s)).data, [expected], rtol=1e-9)
    gradcheck(elbo.gaussian_kl, [rng.standard_normal((3, 4)), rng.standard_normal((3, 4))])
    gradcheck(elbo.gaussian_kl, [rng.standard_normal((2, 3, 1, 4)), rng.standard_normal((2, 3, 1, 4))])


def test_the_divergence_is_the_integral(rng):
    kl_is_the_integral(rng)


def test_the_divergence_from_itself_is_nothing():
    zero = Tensor(np.zeros((2, 3)))
    np.testing.assert_array_equal(gaussian_kl(zero, zero).data, [0, 0])


def composed_kl(mean, s):
    return (mean * mean + s.exp() - 1 - s).sum(axis=1) * 0.5


def test_the_fused_divergence_is_the_composed_one(rng):
    values = [rng.standard_normal((5, 3)) for _ in range(2)]
    upstream = rng.standard_normal(5)
    found = []
    for function in (gaussian_kl, composed_kl):
        mean, s = (Tensor(value, requires_grad=True) for value in values)
        y = function(mean, s)
        y.backward(upstream)
        found.append((y.data, mean.grad, s.grad))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def noise_is_scaled_by_the_deviation(rng):
    eps = rng.standard_normal((2, 3))
    mean, variance = rng.standard_normal((2, 3)), rng.random((2, 3)) + 0.1
    z = elbo.reparameterise(Tensor(mean), Tensor(np.log(variance)), eps)
    np.testing.assert_allclose(z.data, mean + np.sqrt(variance) * eps, rtol=1e-12)
    gradcheck(lambda m, s: elbo.reparameterise(m, s, eps), [mean, np.log(variance)])


def test_noise_is_scaled_by_the_standard_deviation(rng):
    noise_is_scaled_by_the_deviation(rng)


def test_shapes_that_differ_are_refused():
    a, b = np.zeros((2, 3)), np.zeros((2, 4))
    with pytest.raises(ValueError, match=r"gaussian_kl expected .* one shape \(B, ...\), got \(2, 3\) and \(2, 4\)"):
        gaussian_kl(a, b)
    with pytest.raises(ValueError, match=r"noise of the mean's shape \(2, 3\), got \(2, 4\)"):
        elbo.reparameterise(a, a, b)


# -- likelihoods --------------------------------------------------------------------------------------------------


def likelihoods_are_their_formulas(rng):
    out, x = rng.standard_normal((3, 2, 5)), rng.random((3, 2, 5))
    p = 1 / (1 + np.exp(-out))
    expected = -(x * np.log(p) + (1 - x) * np.log(1 - p)).reshape(3, -1).sum(axis=1)
    bernoulli = elbo.Bernoulli()
    np.testing.assert_allclose(bernoulli.each(Tensor(out), Tensor(x)), expected, rtol=1e-12)
    np.testing.assert_allclose(bernoulli.nats(Tensor(out), Tensor(x)).item(), expected.sum(), rtol=1e-12)
    np.testing.assert_allclose(bernoulli.picture(Tensor(out)), p, rtol=1e-12)

    gaussian = elbo.Gaussian(0.7).to(np.float64)
    sigma = math.exp(gaussian.log_sigma.item())
    density = np.exp(-((x - out) ** 2) / (2 * sigma**2)) / math.sqrt(2 * math.pi * sigma**2)
    expected = -np.log(density).reshape(3, -1).sum(axis=1)
    np.testing.assert_allclose(gaussian.each(Tensor(out), Tensor(x)), expected, rtol=1e-12)
    np.testing.assert_allclose(gaussian.nats(Tensor(out), Tensor(x)).item(), expected.sum(), rtol=1e-12)
    gradcheck(lambda o: gaussian.nats(o, Tensor(x)), [out], {"log_sigma": gaussian.log_sigma})


def test_likelihoods_are_their_formulas(rng):
    likelihoods_are_their_formulas(rng)


def test_the_best_deviation_is_the_root_mean_squared_error(rng):
    out, x = rng.standard_normal((4, 6)), rng.random((4, 6))
    best = Gaussian(math.sqrt(((x - out) ** 2).mean())).to(np.float64)
    best.nats(Tensor(out), Tensor(x)).backward()
    assert abs(best.log_sigma.grad) < 1e-5  # the deviation was rounded to float32


def test_a_deviation_of_nothing_is_refused():
    with pytest.raises(ValueError, match="a standard deviation above 0, got 0"):
        Gaussian(0)


# -- the bounds ---------------------------------------------------------------------------------------------------


class Linear:
    """x = w z + N(0, σ²), z ~ N(0, 1), for one number x: p(x) and p(z|x) are known.  q(z|x) = N(a x, v)"""

    w, sigma = 1.5, 0.8

    def __init__(self, a=None, v=None):
        self.likelihood = Gaussian(self.sigma).to(np.float64)
        self.sigma = math.exp(self.likelihood.log_sigma.item())
        total = self.w**2 + self.sigma**2
        self.a, self.v = self.w / total if a is None else a, self.sigma**2 / total if v is None else v
        self.variance = total

    def encode(self, x):
        return x * self.a, Tensor(np.full(x.shape, math.log(self.v)))

    def decode(self, z):
        return z * self.w

    def __call__(self, x, eps):
        mean, s = self.encode(x)
        return self.decode(elbo.reparameterise(mean, s, eps)), mean, s

    def log_p(self, x):
        return -0.5 * (x[:, 0] ** 2 / self.variance + math.log(2 * math.pi * self.variance))


def bounds_are_known():
    x = np.array([[0.3], [-1.2], [2.5]])
    true = Linear()
    for K in (1, 5):  # with the posterior itself for q, every weight is p(x), whatever is drawn
        found = elbo.importance_bound(true, x, K, np.random.default_rng(1))
        np.testing.assert_allclose(found, true.log_p(x), rtol=1e-9)
    wrong = Linear(a=0.2, v=0.9)
    nodes, weights = np.polynomial.hermite_e.hermegauss(20)
    nodes, weights = nodes, weights / math.sqrt(2 * math.pi)
    negative = 0.0
    for node, weight in zip(nodes, weights, strict=True):  # the expectation over ε, exactly
        nats, kl = elbo.elbo_parts(wrong, x, np.full((3, 1), node))
        negative = negative + weight * (nats + kl)
    mean = wrong.a * x[:, 0]
    posterior_mean, posterior_variance = true.a * x[:, 0], true.v
    gap = 0.5 * (wrong.v / posterior_variance + (mean - posterior_mean) ** 2 / posterior_variance - 1
                 + math.log(posterior_variance / wrong.v))  # fmt: skip
    np.testing.assert_allclose(-negative, wrong.log_p(x) - gap, rtol=1e-9)  # log p(x) − KL(q ‖ p(z|x))


def test_both_bounds_are_known_for_a_linear_model():
    bounds_are_known()


def test_more_samples_tighten_the_bound(rng):
    wrong, x = Linear(a=0.2, v=0.9), np.repeat([[0.3], [-1.2]], 2000, axis=0)
    bounds = [importance_bound(wrong, x, K, np.random.default_rng(2)).reshape(2, -1).mean(axis=1) for K in (1, 5, 50)]
    exact = wrong.log_p(x)[[0, -1]]
    assert (bounds[0] < bounds[1]).all() and (bounds[1] < bounds[2]).all() and (bounds[2] < exact + 0.02).all()
    np.testing.assert_allclose(bounds[2], exact, atol=0.05)
    with pytest.raises(ValueError, match="at least one sample, got 0"):
        importance_bound(wrong, x, 0, rng)


# -- the models ---------------------------------------------------------------------------------------------------

SMALL = {
    "dense": lambda: Autoencoder(TINY, 3, (5, 4)),
    "convolutional": lambda: ConvAutoencoder(TINY, 3, (3, 4)),
}
SMALL_VAES = {
    "dense": lambda: VAE(TINY, 3, (5,)),
    "convolutional": lambda: ConvVAE(TINY, 3, (3, 4)),
    "Gaussian": lambda: VAE(TINY, 3, (5,), Gaussian()),
    "grid": lambda: GridVAE(TINY, 3, 4, 1),
}


@pytest.mark.parametrize("make", SMALL.values(), ids=SMALL)
def test_gradients_of_an_autoencoder(make, rng):
    net = make().to(np.float64)
    gradcheck(net, [images(rng, 3)], parameters=dict(net.named_parameters()))


@pytest.mark.parametrize("make", SMALL_VAES.values(), ids=SMALL_VAES)
def test_gradients_of_a_vae(make, rng):
    net = make().to(np.float64)
    x, target, eps = images(rng, 3), Tensor(images(rng, 3)), rng.standard_normal((3, *net.code))

    def loss(x):
        out, mean, s = net(x, eps)
        return net.likelihood.nats(out, target) + gaussian_kl(mean, s).sum() * 0.7

    gradcheck(loss, [x], parameters=dict(net.named_parameters()))


def test_counts_of_parameters(rng):
    """784-400-20-400-784: PyTorch's example of a VAE has 652,824."""
    assert VAE().count_parameters() == 652_824
    assert Autoencoder().count_parameters() == 652_824 - 20 * 401
    for net in (Autoencoder(), ConvAutoencoder()):
        assert net.forward(images(rng, 2, (1, 28, 28)).astype(np.float32)).shape == (2, 1, 28, 28)


def test_noise_is_drawn_where_none_is_given(rng):
    net, x = VAE(TINY, 3, (5,)), images(rng, 2).astype(np.float32)
    with stream(1, 2):
        first = net(x)[0].data
    with stream(1, 2):
        eps = stream_noise((2, 3))
    np.testing.assert_array_equal(first, net(x, eps)[0].data)
    assert first.dtype == np.float32


def stream_noise(shape):
    from scratch.random import generator

    return generator().standard_normal(shape)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: VAE(TINY)(np.zeros((2, 2, 4, 4))), r"VAE expected x of shape \(B, 2, 4, 8\), got \(2, 2, 4, 4\)"),
        (lambda: VAE(TINY).decode(np.zeros((2, 3))), r"codes z of shape \(B, 20\), got \(2, 3\)"),
        (lambda: ConvVAE((1, 6, 8)), r"2 halvings need an image whose sides are multiples of 4, got \(1, 6, 8\)"),
        (lambda: ConvAutoencoder(TINY, widths=()), "0 halvings need"),
        (lambda: GridVAE((1, 6, 8)), "GridVAE expected images whose sides are multiples of 4"),
        (lambda: VQVAE((1, 6, 8)), "VQVAE expected images whose sides are multiples of 4"),
        (lambda: VQVAE(TINY)(np.zeros((2, 1, 4, 8))), r"VQVAE expected x of shape \(B, 2, 4, 8\)"),
        (lambda: VectorQuantizer(0, 3), "codes and dim of at least 1"),
        (lambda: VectorQuantizer(4, 3)(np.zeros((2, 4, 1, 1))), r"expected z of shape \(B, 3, H, W\)"),
        (lambda: VectorQuantizer(4, 3).vectors(np.full((1, 2, 2), 4)), "codes .* from 0 to 3"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# -- vector quantisation ------------------------------------------------------------------------------------------


def quantizer(rng, **changes):
    made = VectorQuantizer(**{"codes": 4, "dim": 3, "decay": 0.9, "least": 0.0, **changes}).to(np.float64)
    made.codebook.data[...] = rng.standard_normal(made.codebook.shape)
    made.counts.data[...] = rng.random(len(made.counts)) + 1
    made.sums.data[...] = made.codebook.data * made.counts.data[:, None]
    return made


def codes_are_the_nearest(rng):
    made = quantizer(rng, codes=7)
    made.eval()
    z = rng.standard_normal((2, 3, 4, 5))
    e, codes, commitment = made(Tensor(z))
    for b, i, j in np.ndindex(2, 4, 5):
        distances = ((made.codebook.data - z[b, :, i, j]) ** 2).sum(axis=1)
        assert codes[b, i, j] == distances.argmin()
        np.testing.assert_array_equal(e.data[b, :, i, j], made.codebook.data[codes[b, i, j]])
    np.testing.assert_allclose(commitment.item(), ((z - e.data) ** 2).sum(), rtol=1e-12)
    np.testing.assert_array_equal(made.vectors(codes), e.data)


def test_every_code_is_that_of_the_nearest_row(rng):
    codes_are_the_nearest(rng)


def gradients_go_straight_through(rng):
    """∂L/∂z = ∂L/∂e + β ∂|z − sg(e)|²/∂z: the first as it came, the second 2 (z − e)."""
    made = quantizer(rng)
    made.eval()
    z, upstream = Tensor(rng.standard_normal((2, 3, 4, 5)), requires_grad=True), rng.standard_normal((2, 3, 4, 5))
    e, _, commitment = made(z)
    ((e * Tensor(upstream)).sum() + commitment * 0.25).backward()
    np.testing.assert_allclose(z.grad, upstream + 0.25 * 2 * (z.data - e.data), rtol=1e-12)


def test_gradients_go_straight_through(rng):
    gradients_go_straight_through(rng)


def codebook_follows_by_hand():
    """Two rows, three z: two choose the first row, one the second."""
    made = VectorQuantizer(2, 1, decay=0.75, least=0.0).to(np.float64)
    made.codebook.data[...] = [[0.0], [10.0]]
    made.counts.data[...] = [2.0, 4.0]
    made.sums.data[...] = [[0.0], [40.0]]
    z = np.array([1.0, 3.0, 8.0]).reshape(3, 1, 1, 1)
    e, codes, _ = made(Tensor(z))
    np.testing.assert_array_equal(codes.reshape(-1), [0, 0, 1])
    np.testing.assert_array_equal(e.data.reshape(-1), [0, 0, 10])  # of before
    np.testing.assert_allclose(made.counts.data, [0.75 * 2 + 0.25 * 2, 0.75 * 4 + 0.25 * 1])
    np.testing.assert_allclose(made.sums.data[:, 0], [0.25 * 4, 0.75 * 40 + 0.25 * 8])
    np.testing.assert_allclose(made.codebook.data[:, 0], [1 / 2, 32 / 3.25])
    made.eval()
    before = made.codebook.data.copy()
    made(Tensor(z))
    np.testing.assert_array_equal(made.codebook.data, before)


def test_the_codebook_follows_as_by_hand():
    codebook_follows_by_hand()


def dead_rows_are_revived(rng):
    made = quantizer(rng, codes=3, least=0.5)
    made.codebook.data[...] = [[0, 0, 0], [100, 0, 0], [0, 100, 0]]
    made.counts.data[...] = [5.0, 0.51, 0.9]
    made.sums.data[...] = made.codebook.data * made.counts.data[:, None]
    z = rng.standard_normal((2, 3, 4, 5))
    with stream(0, 0):
        made(Tensor(z))  # 0.51 · 0.9 is below 0.5, 0.9 · 0.9 is not
    rows = z.transpose(0, 2, 3, 1).reshape(-1, 3)
    assert (rows == made.codebook.data[1]).all(axis=1).any() and made.counts.data[1] == 1
    np.testing.assert_allclose(made.codebook.data[2], [0, 100, 0])
    assert made.counts.data[2] == pytest.approx(0.81)


def test_a_dead_row_is_put_onto_a_z_of_the_batch(rng):
    dead_rows_are_revived(rng)


def vq_loss(net, x, beta=0.25):
    out, _, commitment = net(Tensor(x))
    return net.likelihood.nats(out, Tensor(x)) + commitment * beta, len(x)


def test_shards_see_one_codebook_and_change_it_once():
    made: list = []
    start = {name: value.copy() for name, value in VQVAE(TINY, 5, 3, 4, 1).to(np.float64).state_dict().items()}
    for shards in (1, 2, 3):
        net = VQVAE(TINY, 5, 3, 4, 1, least=0.0).to(np.float64)
        net.load_state_dict(start)
        loss = ShardedLoss(net, vq_loss, shards)
        with stream(0, 0):
            total = loss(np.random.default_rng(3).random((6, *TINY)))
        total.backward()
        made.append((total.item(), net.quantizer.codebook.data.copy(), net.encoder[0].weight.grad))
    for other in made[1:]:
        for a, b in zip(made[0], other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
    assert np.abs(made[0][1] - start["quantizer.codebook"]).max() > 1e-3


def test_gradients_of_a_vqvae(rng):
    """The decoder's by differences. The encoder's are those of an encoder whose z was moved to e."""
    net = VQVAE(TINY, 5, 3, 4, 1).to(np.float64)
    net.eval()
    x = images(rng, 2)
    decoder = {name: p for name, p in net.named_parameters() if name.startswith("decoder")}
    gradcheck(lambda: vq_loss(net, x)[0], [], parameters=decoder)

    z = net.encoder(Tensor(x))
    moved = Tensor(net.quantizer(z)[0].data - z.data)  # a constant: e = z + moved has the derivative 1

    def smooth(x):
        z = net.encoder(x)
        e = z + moved
        commitment = mse_loss(z, Tensor(e.data), reduction="sum")
        return net.likelihood.nats(net.decoder(e), Tensor(x.data)) + commitment * 0.25

    found = []
    for loss in (lambda: vq_loss(net, x)[0], lambda: smooth(Tensor(x))):
        net.zero_grad()
        loss().backward()
        found.append([p.grad for p in net.encoder.parameters()])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def test_perplexity():
    assert perplexity(np.array([[0, 1], [2, 3]]), 8) == pytest.approx(4)
    assert perplexity(np.zeros((2, 3), int), 8) == pytest.approx(1)
    assert perplexity(np.array([0, 0, 0, 1]), 2) == pytest.approx(math.exp(0.75 * math.log(4 / 3) + 0.25 * math.log(4)))


# -- the prior over codes, and diffusion of codes -----------------------------------------------------------------


def test_sentences_begin_with_the_class_and_are_read_row_by_row():
    codes = np.array([[[1, 2], [3, 0]], [[0, 0], [1, 1]]])
    np.testing.assert_array_equal(prior.code_sentences(codes, np.array([2, 0]), 4), [[6, 1, 2, 3, 0], [4, 0, 0, 1, 1]])


def test_the_prior_costs_what_its_scores_say():
    gpt, sentences = GPT(6, 4, 8, 1, 2), np.array([[4, 1, 2, 3, 0], [5, 0, 0, 1, 1]])
    total, count = prior.code_loss(gpt, sentences[:, :-1], sentences[:, 1:])
    logits = gpt(sentences[:, :-1]).data.astype(np.float64)
    p = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    expected = -sum(math.log(p[b, t, sentences[b, t + 1]]) for b in range(2) for t in range(4))
    assert count == 8
    np.testing.assert_allclose(total.item(), expected, rtol=1e-5)


def test_the_prior_learns_to_write_grids_and_never_a_class():
    """Class 0 is written 0 1 2 0, class 1 its reverse 2 1 0 2, with a code that is either 0 or 1 at the end."""
    K, gpt = 3, GPT(5, 5, 16, 1, 2)
    optimizer, source = AdamW(gpt.parameters(), lr=1e-2), np.random.default_rng(0)
    for _ in range(150):
        labels = source.integers(0, 2, 32)
        codes = np.where(labels[:, None], [2, 1, 0, 2, 0], [0, 1, 2, 0, 0])
        codes[:, 4] = source.integers(0, 2, 32)
        sentences = prior.code_sentences(codes.reshape(32, 1, 5), labels, K)
        total, count = prior.code_loss(gpt, sentences[:, :-1], sentences[:, 1:])
        optimizer.zero_grad()
        (total / count).backward()
        optimizer.step()
    labels = np.arange(400) % 2
    drawn = prior.sample_codes(gpt, labels, K, (1, 5), np.random.default_rng(1), batch_size=150)
    assert drawn.shape == (400, 1, 5) and drawn.max() < K
    right = (drawn[:, 0, :4] == np.where(labels[:, None], [2, 1, 0, 2], [0, 1, 2, 0])).all(axis=1)
    assert right.mean() > 0.97
    assert 0.4 < drawn[:, 0, 4].mean() < 0.6


def test_latent_diffusion_measures_its_codes_and_draws(rng):
    net = LatentDiffusion(GridVAE((1, 8, 8), 2, 4, 1), (8,), 1, classes=3)
    x = rng.random((30, 1, 8, 8)).astype(np.float32)
    net.measure_scale(x)
    z = net.codes(x)
    assert z.shape == (30, 2, 2, 2) and z.dtype == np.float32
    assert (z * z).mean() == pytest.approx(1, rel=1e-4)
    net.measure_scale(x)  # a second time gives the same
    np.testing.assert_allclose(net.codes(x), z, rtol=1e-6)
    mean, _ = net.first.encode(x)
    expected = 1 / (1 + np.exp(-net.first.decode(mean).data))
    np.testing.assert_allclose(net.pictures(z), expected, rtol=1e-4)
    drawn = net.sample(np.arange(5) % 3, linear(20), 5, 1.0, np.random.default_rng(0), batch_size=2)
    assert drawn.shape == (5, 1, 8, 8) and drawn.dtype == np.float32 and 0 <= drawn.min() and drawn.max() <= 1


# -- in lockstep with PyTorch -------------------------------------------------------------------------------------


def digits(n=64):
    return load_digits(flat=False).train.inputs[:n].astype(np.float64)


def beside_pytorch(net, twin, loss_fn, shards, *more):
    """20 steps of AdamW on the digits; `more` are arrays that go with the images, row by row."""
    import torch

    batches = Batches(digits(), *more, batch_size=16, seed=0)
    sharded = ShardedLoss(net, loss_fn, shards)

    def loss_of(*batch):
        with stream(0, 0):
            return sharded(*batch)

    lockstep.check(net, twin, AdamW(net.parameters(), lr=2e-3), torch.optim.AdamW(twin.parameters(), lr=2e-3), batches,
                   loss_of, twin.loss)  # fmt: skip


def denoising_loss(net, x, shown):
    return net.likelihood.nats(net(Tensor(shown)), Tensor(x)), len(x)


def vae_loss(net, x, eps):
    out, mean, s = net(Tensor(x), eps)
    return net.likelihood.nats(out, Tensor(x)) + elbo.gaussian_kl(mean, s).sum(), len(x)


AUTOENCODERS = {
    "dense": (lambda: Autoencoder(latent=5, hidden=(12, 8)), {"latent": 5, "hidden": (12, 8)}),
    "convolutional": (lambda: ConvAutoencoder(latent=5, widths=(3, 4)), {"latent": 5, "widths": (3, 4)}),
}
VAES = {
    "dense": (lambda: VAE(latent=5, hidden=(12,)), {"latent": 5, "hidden": (12,)}),
    "convolutional": (lambda: ConvVAE(latent=5, widths=(3, 4)), {"latent": 5, "widths": (3, 4)}),
    "Gaussian": (lambda: VAE(latent=5, hidden=(12,), likelihood=Gaussian()),
                 {"latent": 5, "hidden": (12,), "gaussian": True}),
}  # fmt: skip


@pytest.mark.torch
@pytest.mark.parametrize("make, arguments", AUTOENCODERS.values(), ids=AUTOENCODERS)
def test_denoising_autoencoders_in_lockstep(make, arguments):
    from tests.twins.autoencoder import Autoencoder as Twin

    noisy, source = digits(), np.random.default_rng(5)
    noisy += 0.3 * source.standard_normal(noisy.shape)
    net, twin = make(), Twin(**arguments)
    beside_pytorch(net, twin, denoising_loss, 2, noisy)


@pytest.mark.torch
@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("make, arguments", VAES.values(), ids=VAES)
def test_vaes_in_lockstep(make, arguments, shards):
    from tests.twins.autoencoder import VAE as Twin

    beside_pytorch(make(), Twin(**arguments), vae_loss, shards, np.random.default_rng(6).standard_normal((64, 5)))


@pytest.mark.torch
def test_the_vae_of_latent_diffusion_in_lockstep():
    from tests.twins.autoencoder import GridVAE as Twin

    eps = np.random.default_rng(6).standard_normal((64, 3, 7, 7))
    beside_pytorch(GridVAE(latent=3, width=4, blocks=1), Twin(latent=3, width=4, blocks=1), vae_loss, 2, eps)


@pytest.mark.torch
@pytest.mark.parametrize("shards", [1, 2])
def test_the_vqvae_in_lockstep(shards):
    from tests.twins.autoencoder import VQVAE as Twin

    arguments = {"codes": 6, "dim": 3, "width": 4, "blocks": 1, "decay": 0.8}
    beside_pytorch(VQVAE(**arguments, least=0.0), Twin(**arguments), vq_loss, shards)


# -- planted faults -----------------------------------------------------------------------------------------------

FAULTS = {
    "the divergence's sign": (elbo, "gaussian_kl", "y = 0.5 *", "y = -0.5 *"),
    "the sign of its derivative": (elbo, "gaussian_kl", "return dy * mean.data,", "return -dy * mean.data,"),
    "its derivative by ln σ², without the half": (elbo, "gaussian_kl", "(0.5 * (variance - 1))", "(variance - 1)"),
    "the divergence, without the − 1": (elbo, "gaussian_kl", " - mean.data[0].size", ""),
    "the variance for the deviation": (elbo, "reparameterise", "np.exp(0.5 * s.data)", "np.exp(s.data)"),
    "the derivative of the deviation": (elbo, "reparameterise", "dy * (0.5 * spread)", "dy * spread"),
    "the bound, without the prior": (elbo, "importance_bound", " - z.data * z.data", ""),
    "the bound, without q": (elbo, "importance_bound", "eps * eps + log_variance.data", "eps * eps"),
    "the bound, summed for meant": (elbo, "importance_bound", "- largest).mean(", "- largest).sum("),
    "no straight-through": (vq, "straight_through", "return (dy,)", "return (0 * dy,)"),
    "the farthest code": (vq, "nearest", "argmin", "argmax"),
    "the distance without |e|²": (vq, "nearest", "(codebook * codebook)", "0 * (codebook * codebook)"),
}  # fmt: skip
FAULTS_OF_CLASSES = {
    "no commitment": (vq.VectorQuantizer, "forward", "mse_loss(z, ", "0 * mse_loss(z, "),
    "e of after the update": (vq.VectorQuantizer, "_follow", "self._revive(rows)", "self.counts.data[...] = 1"),
    "the means the wrong way round": (vq.VectorQuantizer, "_follow", "(1 - self.decay) * (sums", "self.decay * (sums"),
    "all rows revived": (vq.VectorQuantizer, "_revive", "< self.least", ">= self.least"),
    "σ for σ²": (elbo.Gaussian, "nats", "(-2 * self.log_sigma)", "(-self.log_sigma)"),
    "without ln σ": (elbo.Gaussian, "nats", "(self.log_sigma + 0.5 * LOG_TAU)", "(0 * self.log_sigma + 0.5 * LOG_TAU)"),
}


def all_is_right(rng):
    kl_is_the_integral(rng)
    noise_is_scaled_by_the_deviation(rng)
    likelihoods_are_their_formulas(rng)
    bounds_are_known()
    codes_are_the_nearest(rng)
    gradients_go_straight_through(rng)
    codebook_follows_by_hand()
    dead_rows_are_revived(rng)


def replanted(space, source, old, new):
    source = textwrap.dedent(source)
    assert source.count(old) == 1, f"{old!r} stands {source.count(old)} times"
    exec("from __future__ import annotations\n" + source.replace(old, new), space)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_planted_fault_is_caught(fault, monkeypatch, rng):
    module, name, old, new = fault
    space = dict(vars(module))
    replanted(space, inspect.getsource(getattr(module, name)), old, new)
    for user in (elbo, model, vq, latent, parts):
        if hasattr(user, name):
            monkeypatch.setattr(user, name, space[name])
    with pytest.raises(AssertionError), np.errstate(all="ignore"):
        all_is_right(rng)


@pytest.mark.parametrize("fault", FAULTS_OF_CLASSES.values(), ids=FAULTS_OF_CLASSES)
def test_a_fault_planted_in_a_class_is_caught(fault, monkeypatch, rng):
    kind, name, old, new = fault
    space = dict(vars(inspect.getmodule(kind)))
    replanted(space, inspect.getsource(getattr(kind, name)), old, new)
    monkeypatch.setattr(kind, name, space[name])
    with pytest.raises(AssertionError), np.errstate(all="ignore"):
        all_is_right(rng)


def test_without_a_fault_all_is_right(rng):
    all_is_right(rng)


# -- values that single changed expressions would move -----------------------------------------------------------------


def test_a_picture_of_gaussian_pixels_is_cut_to_0_and_1():
    out = Tensor(np.array([[-0.5, 0.25], [0.75, 3.0]]))
    np.testing.assert_array_equal(Gaussian(0.1).picture(out), [[0, 0.25], [0.75, 1]])


class Fixed:
    """q(z|x) = N(0, 1) = p(z), and −log p(x|z) of each draw as given: ln w is the negative of it."""

    def __init__(self, nats):
        self.likelihood, self.nats = self, iter(nats)

    def encode(self, x):
        return Tensor(np.zeros((1, 1))), Tensor(np.zeros((1, 1)))

    def decode(self, z):
        return z

    def each(self, out, x):
        return np.array([next(self.nats)])


def test_the_bound_of_weights_whose_ratio_is_no_number(rng):
    """e^800 overflows: the largest weight has to be taken out, not the smallest."""
    with np.errstate(over="raise"):
        bound = importance_bound(Fixed([0.0, 800.0]), np.zeros((1, 1)), 2, rng)
        deep = importance_bound(Fixed([900.0, 901.0]), np.zeros((1, 1)), 2, rng)
    np.testing.assert_allclose(bound, [-math.log(2)], rtol=1e-14)
    np.testing.assert_allclose(deep, [-900 + math.log((1 + math.exp(-1)) / 2)], rtol=1e-14)


def test_a_new_codebook_has_a_deviation_of_a_tenth_and_sums_of_its_own():
    q = VectorQuantizer(codes=400, dim=50)
    assert abs(q.codebook.data.std() / 0.1 - 1) < 5 / math.sqrt(2 * 20_000)
    np.testing.assert_array_equal(q.sums.data, q.codebook.data)
    assert not np.shares_memory(q.sums.data, q.codebook.data)  # else m ← … would move e


def test_a_row_chosen_exactly_as_often_as_least_says_is_alive():
    q = VectorQuantizer(codes=2, dim=1, decay=0.5, least=1.0)
    q.codebook.data[...] = q.sums.data[...] = [[0], [8]]
    q(np.array([2.0, 7.0], np.float32).reshape(1, 1, 1, 2))  # N stays (1, 1); m = (0 + 2) / 2 and (8 + 7) / 2
    np.testing.assert_array_equal(q.codebook.data, [[1], [7.5]])


def test_the_grid_of_an_image_that_is_wider_than_high(rng):
    model = VQVAE((1, 8, 12), codes=3, dim=2, width=4, blocks=1)
    assert model.grid == (2, 3)
    out, codes, _ = model(rng.random((1, 1, 8, 12)).astype(np.float32))
    assert codes.shape == (1, 2, 3) and out.shape == (1, 1, 8, 12)


def test_a_vqvae_keeps_the_likelihood_that_it_is_given():
    given = Gaussian(0.5)
    assert VQVAE((1, 8, 8), codes=3, dim=2, width=4, blocks=1, likelihood=given).likelihood is given
    assert isinstance(VQVAE((1, 8, 8), codes=3, dim=2, width=4, blocks=1).likelihood, elbo.Bernoulli)
