"""GANs: losses, the penalty's second derivative, spectral norm and both networks, against definitions and PyTorch."""

import inspect
import math
import textwrap
from functools import partial

import numpy as np
import pytest

from scratch import Tensor, gradcheck
from scratch.activations import LeakyReLU, ReLU, Tanh
from scratch.layers import BatchNorm2d, Conv2d, Flatten, LayerNorm, Linear
from scratch.models.gan import losses, penalty, spectral
from scratch.models.gan import train as training
from scratch.models.gan.losses import LOSSES
from scratch.models.gan.model import (
    GAN,
    ConditionalDiscriminator,
    ConditionalGenerator,
    DCGANCritic,
    DCGANDiscriminator,
    DCGANGenerator,
    MLPDiscriminator,
    MLPGenerator,
)
from scratch.models.gan.penalty import (
    between,
    clip_weights,
    gradient_penalty,
    input_gradient,
    r1_penalty,
    row_norms,
    slope,
)
from scratch.models.gan.spectral import SpectralNorm, divided_by_norm, power_iteration, spectral_norm
from scratch.models.gan.train import Settings, discriminator_loss, generator_loss
from scratch.module import Sequential
from scratch.optim import Adam
from scratch.parallel import ShardedLoss
from scratch.random import manual_seed
from tests import lockstep


def mixed(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape)


# -- losses ------------------------------------------------------------------------------------------------------


def losses_are_as_defined(rng):
    real, fake = mixed(rng, 7), 2 * mixed(rng, 7)
    p, q = 1 / (1 + np.exp(-real)), 1 / (1 + np.exp(-fake))
    expected = {
        "minimax": (-np.log(p) - np.log(1 - q), np.log(1 - q)),
        "nonsaturating": (-np.log(p) - np.log(1 - q), -np.log(q)),
        "wasserstein": (fake - real, -fake),
        "hinge": (np.maximum(0, 1 - real) + np.maximum(0, 1 + fake), -fake),
    }
    assert set(expected) == set(LOSSES)
    for name, (d, g) in expected.items():
        np.testing.assert_allclose(LOSSES[name].discriminator(Tensor(real), Tensor(fake)).data, d, err_msg=name)
        np.testing.assert_allclose(LOSSES[name].generator(Tensor(fake)).data, g, err_msg=name)


def test_losses_are_as_defined(rng):
    losses_are_as_defined(rng)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_of_the_losses(name, rng):
    gradcheck(LOSSES[name].discriminator, [2 * mixed(rng, 6), 2 * mixed(rng, 6)])
    gradcheck(LOSSES[name].generator, [2 * mixed(rng, 6)])


def test_where_the_discriminator_is_sure_only_one_loss_keeps_its_slope():
    """σ(D) = 1e-5 of a fake: the minimax loss has a slope of 1e-5, the other of 1."""
    for name, slope_there in (("minimax", -1e-5), ("nonsaturating", -1 + 1e-5)):
        d = Tensor([math.log(1e-5 / (1 - 1e-5))], requires_grad=True, dtype=np.float64)
        LOSSES[name].generator(d).sum().backward()
        np.testing.assert_allclose(d.grad, slope_there, rtol=1e-9)


def test_no_logit_is_too_large():
    logits = Tensor(np.array([-1e4, 1e4], np.float32))
    for name in LOSSES:
        assert np.isfinite(LOSSES[name].discriminator(logits, logits).data).all()
        assert np.isfinite(LOSSES[name].generator(logits).data).all()


def test_the_best_discriminator_costs_two_logarithms_less_the_divergence(rng):
    """D* = p / (p + q) minimises the loss, which is then 2 ln 2 − 2 JS(p ‖ q), for two distributions over 5 values."""
    p, q = rng.dirichlet(np.ones(5), 2)
    best = np.log(p / q)  # the logit of p / (p + q)

    def loss(logits):
        one, two = (LOSSES["minimax"].discriminator(Tensor(a), Tensor(b)).data for a, b in
                    ((logits, np.full(5, -np.inf)), (np.full(5, np.inf), logits)))  # fmt: skip
        return float(p @ one + q @ two)

    m = (p + q) / 2
    divergence = (p @ np.log(p / m) + q @ np.log(q / m)) / 2
    assert loss(best) == pytest.approx(2 * math.log(2) - 2 * divergence, rel=1e-12)
    assert all(loss(best + 0.1 * mixed(rng, 5)) > loss(best) for _ in range(5))


# -- the slope, and penalties on it ------------------------------------------------------------------------------


def some_critics(rng):
    """(critic, x, labels): perceptron, convolutions whose last row no kernel reaches, told the class, a mere layer."""
    manual_seed(1)
    odd = DCGANCritic((2, 3, 2))
    odd.shape = (1, 9, 12)
    odd.net = Sequential(Conv2d(1, 2, 4, 2, 1), LeakyReLU(0.2), Conv2d(2, 3, 3, 2, dilation=(1, 2)), ReLU(),
                         Flatten(), Linear(3, 1))  # fmt: skip
    told = ConditionalDiscriminator(MLPDiscriminator(5, (6,)), 3, 3)
    yield MLPDiscriminator(2, (7, 5)), mixed(rng, 6, 2), ()
    yield odd, mixed(rng, 4, 1, 9, 12), ()
    yield told, mixed(rng, 6, 2), (np.array([0, 2, 1, 1, 0, 2]),)
    yield MLPDiscriminator(3, ()), mixed(rng, 4, 3), ()


def slopes_are_the_tapes_own(rng):
    """Without looking at weights: what backward() leaves at x."""
    for critic, x, labels in some_critics(rng):
        critic.to(np.float64)
        leaf = Tensor(x, requires_grad=True)
        critic(leaf, *labels).sum().backward()
        np.testing.assert_allclose(slope(critic, x, *labels).data, leaf.grad, rtol=1e-12, atol=1e-14)


def penalties_have_the_right_gradients(rng):
    """By finite differences in every weight, each row with a weight of its own."""
    for critic, x, labels in some_critics(rng):
        critic.to(np.float64)
        weights = {n: p for n, p in critic.named_parameters() if n.endswith("weight") and "label" not in n}
        for function in (gradient_penalty, r1_penalty):
            gradcheck(partial(function, critic, x, *labels), [], parameters=weights)


def penalties_are_as_defined(rng):
    for critic, x, labels in some_critics(rng):
        critic.to(np.float64)
        norms = np.linalg.norm(slope(critic, x, *labels).data.reshape(len(x), -1), axis=1)
        assert (norms < 1).any()  # a one-sided penalty would leave these alone
        np.testing.assert_allclose(gradient_penalty(critic, x, *labels).data, (norms - 1) ** 2, rtol=1e-12)
        np.testing.assert_allclose(r1_penalty(critic, x, *labels).data, norms**2 / 2, rtol=1e-12)


def test_the_slope_is_what_backward_gives_to_the_input(rng):
    slopes_are_the_tapes_own(rng)


def test_gradients_of_the_penalties(rng):
    penalties_have_the_right_gradients(rng)


def test_penalties_are_as_defined(rng):
    penalties_are_as_defined(rng)


def test_biases_get_nothing_from_the_penalty(rng):
    critic = MLPDiscriminator(2, (4,)).to(np.float64)
    gradient_penalty(critic, mixed(rng, 5, 2)).sum().backward()
    assert [p.grad is None for _, p in critic.named_parameters()] == [False, True, False, True]


@pytest.mark.torch
@pytest.mark.parametrize("which", range(3))
def test_the_penalty_is_pytorchs_with_create_graph(which, rng):
    import torch
    from torch import nn

    from tests.twins import gan as twins

    critic, x, labels = list(some_critics(rng))[which]
    critic.to(np.float64)
    if which == 0:
        twin = twins.mlp_discriminator((7, 5))
    elif which == 1:
        twin = twins.Discriminator(nn.Sequential(
            nn.Conv2d(1, 2, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(2, 3, 3, 2, dilation=(1, 2)), nn.ReLU(),
            nn.Flatten(), nn.Linear(3, 1),
        ))  # fmt: skip
    else:
        twin = twins.mlp_discriminator((6,))
        twin.net[0] = nn.Linear(5, 6)
        x = critic.joined(x, *labels).data
        critic, labels = critic.discriminator, ()
    twin.double().load_state_dict({k: torch.tensor(v) for k, v in critic.state_dict().items()})
    up = mixed(rng, 2, len(x))
    for function, of_norms in ((gradient_penalty, lambda n: (n - 1) ** 2), (r1_penalty, lambda n: n**2 / 2)):
        critic.zero_grad()
        twin.zero_grad()
        ours = function(critic, x, *labels)
        theirs = of_norms(twins.slopes(twin, torch.tensor(x)).norm(dim=1))
        np.testing.assert_allclose(ours.data, theirs.detach().numpy(), rtol=1e-9)
        ours.backward(up[0])
        theirs.backward(torch.tensor(up[0]))
        for (name, p), q in zip(critic.named_parameters(), twin.parameters(), strict=True):
            mine = 0 if p.grad is None else p.grad
            theirs_too = 0 if q.grad is None else q.grad.numpy()
            np.testing.assert_allclose(mine, theirs_too, rtol=1e-9, atol=1e-12, err_msg=name)


def test_a_flat_critic_is_penalised_and_gives_no_direction(rng):
    critic = MLPDiscriminator(2, (4,))
    critic.net[2].weight.data[...] = 0
    values = gradient_penalty(critic, mixed(rng, 3, 2).astype(np.float32))
    values.sum().backward()
    np.testing.assert_array_equal(values.data, 1)
    assert not critic.net[2].weight.grad.any()


def test_norms_of_rows(rng):
    g = mixed(rng, 4, 3, 2)
    np.testing.assert_allclose(row_norms(Tensor(g)).data, np.linalg.norm(g.reshape(4, 6), axis=1))
    gradcheck(row_norms, [g])


@pytest.mark.parametrize(
    "make", [lambda: BatchNorm2d(2), Tanh, lambda: LayerNorm(3), lambda: Conv2d(2, 2, 3, padding="same")]
)
def test_a_layer_without_a_constant_slope_is_refused(make):
    layer = make()
    with pytest.raises(ValueError, match=r"layers of constant slope .* got " + type(layer).__name__):
        input_gradient(Sequential(layer), np.zeros((2, 2, 3, 3), np.float32))


def test_points_between(rng):
    x, y, t = mixed(rng, 3, 1, 2, 2), mixed(rng, 3, 1, 2, 2), np.array([0, 1, 0.25])
    z = between(x, y, t)
    np.testing.assert_allclose(z, [y[0], x[1], 0.25 * x[2] + 0.75 * y[2]])
    assert between(x.astype(np.float32), y.astype(np.float32), t).dtype == np.float32


def test_clipping_holds_all_weights():
    critic = MLPDiscriminator(2, (30,))
    before = critic.state_dict()["net.0.weight"].copy()
    clip_weights(critic, 0.1)
    np.testing.assert_array_equal(critic.state_dict()["net.0.weight"], np.clip(before, -0.1, 0.1))
    assert all(np.abs(p.data).max() <= 0.1 for p in critic.parameters())


# -- spectral norm -----------------------------------------------------------------------------------------------


def test_the_weight_is_divided_by_its_largest_singular_value():
    layer = SpectralNorm(Linear(6, 4), n_power_iterations=100).to(np.float64)
    W = layer.parametrizations["weight"]["original"].data
    np.testing.assert_allclose(layer.weight.data, W / np.linalg.svd(W)[1][0], rtol=1e-7)
    kernel = SpectralNorm(Conv2d(3, 5, 2), n_power_iterations=200).to(np.float64)
    flat = kernel.weight.data.reshape(5, 12)
    assert np.linalg.svd(flat)[1][0] == pytest.approx(1, rel=1e-6)


def spectral_norm_has_the_right_gradient(rng):
    W = mixed(rng, 4, 3, 2)
    u, v = power_iteration(W.reshape(4, 6), mixed(rng, 4), mixed(rng, 6), 3, 1e-12)
    gradcheck(lambda weight: divided_by_norm(weight, u, v), [W])


def test_gradient_of_spectral_norm(rng):
    spectral_norm_has_the_right_gradient(rng)


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["Linear", "Conv2d"])
def test_spectral_norm_is_pytorchs(kind, rng):
    """Values, gradients, u and v over three passes in training and one in evaluation, from the same state."""
    import torch
    from torch import nn
    from torch.nn.utils.parametrizations import spectral_norm as theirs

    arguments, shape = ((7, 4), (5, 7)) if kind == "Linear" else ((3, 5, 4, 2, 1), (2, 3, 9, 8))
    ours = SpectralNorm((Linear if kind == "Linear" else Conv2d)(*arguments)).to(np.float64)
    twin = theirs(getattr(nn, kind)(*arguments)).double()
    twin.load_state_dict({name: torch.tensor(value) for name, value in ours.state_dict().items()})
    assert list(ours.state_dict()) == sorted(twin.state_dict(), key=list(ours.state_dict()).index)
    for step in range(4):
        if step == 3:
            ours.eval()
            twin.eval()
        x = Tensor(mixed(rng, *shape), requires_grad=True)
        y, xt = ours(x), torch.tensor(x.data, requires_grad=True)
        t, up = twin(xt), mixed(rng, *y.shape)
        np.testing.assert_allclose(y.data, t.detach().numpy(), rtol=1e-10)
        y.backward(up)
        t.backward(torch.tensor(up))
        np.testing.assert_allclose(x.grad, xt.grad.numpy(), rtol=1e-9, atol=1e-12)
        for name, p in ours.named_parameters():
            np.testing.assert_allclose(p.grad, dict(twin.named_parameters())[name].grad, rtol=1e-9, atol=1e-10)
        for name, value in ours.state_dict().items():
            np.testing.assert_allclose(value, twin.state_dict()[name].numpy(), rtol=1e-12)


def test_what_cannot_be_normalised_is_refused():
    with pytest.raises(ValueError, match="a Linear or Conv2d and at least one iteration, got BatchNorm2d and 1"):
        SpectralNorm(BatchNorm2d(2))
    with pytest.raises(ValueError, match="got Linear and 0"):
        SpectralNorm(Linear(2, 2), n_power_iterations=0)


def test_every_layer_of_a_discriminator_is_wrapped():
    critic = spectral_norm(DCGANCritic((2, 3, 2)))
    assert [type(layer).__name__ for layer in critic.net] == [
        *["SpectralNorm", "LeakyReLU"] * 3, "Flatten", "SpectralNorm",
    ]  # fmt: skip
    assert sum(name.endswith("original") for name in critic.state_dict()) == 4


# -- the networks ------------------------------------------------------------------------------------------------


def test_shapes_and_numbers_of_parameters(rng):
    digits = training.load_task("digits")
    gan = training.build(Settings(conditional=False), digits)
    z, x = mixed(rng, 5, 64).astype(np.float32), mixed(rng, 5, 1, 28, 28).astype(np.float32)
    images = gan.generator(z)
    assert images.shape == (5, 1, 28, 28) and np.abs(images.data).max() <= 1
    assert gan(z).shape == gan.discriminator(x).shape == (5,)
    # 64·2048 + 2·128 + 128·64·9 + 2·64 + 64·32·16 + 2·32 + 32·16 + 1,
    # and 32·16 + 32 + 64·32·16 + 2·64 + 128·64·9 + 2·128 + 2048 + 1
    assert (gan.generator.count_parameters(), gan.discriminator.count_parameters()) == (238_529, 109_473)
    told = training.build(Settings(), digits)  # 16 more numbers of noise and 10·16 of classes; a channel and 10·784
    assert told.generator.count_parameters() == 238_529 + 16 * 2048 + 160
    assert told.discriminator.count_parameters() == 109_473 + 32 * 16 + 7840


def test_dcgan_starts_as_published():
    manual_seed(0)
    for network in (DCGANGenerator(), DCGANDiscriminator()):
        for name, p in network.named_parameters():
            if name.endswith("bias"):
                assert not p.data.any(), name
                continue
            mean = 1 if p.ndim == 1 else 0
            assert abs(p.data.mean() - mean) < 0.02 / math.sqrt(p.size) * 4, name
            assert abs(p.data.std() / 0.02 - 1) < 4 / math.sqrt(2 * p.size), name


@pytest.mark.parametrize("kind", [DCGANCritic, DCGANDiscriminator])
def test_both_are_what_each_alone_is(kind, rng):
    manual_seed(0)
    critic, x, fake = kind((2, 3, 2)).to(np.float64), mixed(rng, 4, 1, 28, 28), mixed(rng, 4, 1, 28, 28)
    for one, other in zip(critic.both(x, fake), (critic(x), critic(fake)), strict=True):
        np.testing.assert_allclose(one.data, other.data, rtol=1e-12)
    told, labels = ConditionalDiscriminator(kind((2, 3, 2), 2).to(np.float64), 4).to(np.float64), np.array([3, 0, 1, 1])
    for one, other in zip(told.both(x, fake, labels), (told(x, labels), told(fake, labels)), strict=True):
        np.testing.assert_allclose(one.data, other.data, rtol=1e-12)


def test_the_class_makes_a_difference_and_only_where_it_is_asked():
    manual_seed(0)
    maker = ConditionalGenerator(MLPGenerator(5, (8,)), 3, 2)
    judge = ConditionalDiscriminator(MLPDiscriminator(4, (8,)), 3, 2)
    assert maker.noise == 3 and judge.shape == (2,)
    z = np.ones((3, 3), np.float32)
    points = maker(z, np.array([0, 1, 1])).data
    assert (points[0] != points[1]).any() and (points[1] == points[2]).all()
    logits = judge(np.ones((3, 2), np.float32), np.array([0, 1, 1])).data
    assert logits[0] != logits[1] == logits[2]
    assert GAN(maker, judge)(z, np.array([0, 1, 2])).shape == (3,)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: MLPGenerator(4)(np.zeros((2, 3))), r"MLPGenerator expected z of shape \(B, 4\), got \(2, 3\)"),
        (lambda: DCGANGenerator(4)(np.zeros(4)), r"DCGANGenerator expected z of shape \(B, 4\), got \(4,\)"),
        (lambda: MLPDiscriminator(2)(np.zeros((2, 3))), r"expected x of shape \(B, 2\), got \(2, 3\)"),
        (lambda: DCGANCritic()(np.zeros((2, 1, 32, 32))), r"DCGANCritic expected x of shape \(B, 1, 28, 28\), got"),
        (lambda: DCGANCritic()(np.zeros((1, 28, 28))), r"expected x of shape \(B, 1, 28, 28\), got \(1, 28, 28\)"),
        (lambda: MLPDiscriminator(2)(np.zeros((2, 2)), np.zeros(2, int)), "built without classes"),
        (lambda: ConditionalDiscriminator(MLPDiscriminator(3), 2)(np.zeros((2, 2))), "expected a label for each row"),
        (lambda: Settings(lr=-1), "lr must be at least 0, got -1"),
        (lambda: Settings(lr=math.nan), "lr must be at least 0, got nan"),
        (lambda: Settings(beta1=1.5), "beta1 must be from 0 to 1, got 1.5"),
        (lambda: Settings(ratio=math.inf), "ratio must be a finite number, got inf"),
        (lambda: Settings(weight=math.inf), "weight must be a finite number, got inf"),
        (lambda: Settings(widths=()), "widths must be at least one number"),
        (lambda: Settings(widths=(8,)), "are three, at 14×14, 7×7 and 4×4"),
        (lambda: Settings(penalty="gradient"), "a penalty on the slope needs norm none"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(call, told):
    with pytest.raises(ValueError, match=told):
        call()


def gradcheck_both_losses(
    rng: np.random.Generator, gan: GAN, x: np.ndarray, *labels: np.ndarray, settings: Settings
) -> None:
    """Every weight of the discriminator in its loss, every weight of the generator in its own."""
    z, t = mixed(rng, len(x), gan.generator.noise), rng.random(len(x))
    gan.discriminator.requires_grad_(True)
    gradcheck(lambda: discriminator_loss(gan, x, z, t, *labels, settings=settings)[0], [],
              parameters={n: p for n, p in gan.discriminator.named_parameters()})  # fmt: skip
    gan.discriminator.requires_grad_(False)
    gradcheck(lambda: generator_loss(gan, z, *labels, settings=settings)[0], [],
              parameters={n: p for n, p in gan.generator.named_parameters()})  # fmt: skip


def test_gradients_of_both_losses_through_perceptrons(rng):
    manual_seed(2)
    gan = GAN(MLPGenerator(3, (5, 4)), MLPDiscriminator(2, (4, 5))).to(np.float64)
    for name in LOSSES:
        gradcheck_both_losses(rng, gan, mixed(rng, 5, 2), settings=Settings(data="spirals", norm="none", loss=name))


def test_gradients_through_a_conditional_dcgan(rng):
    manual_seed(0)
    gan = GAN(ConditionalGenerator(DCGANGenerator(3, (1, 2, 2)), 2, 1),
              ConditionalDiscriminator(DCGANDiscriminator((1, 2, 2), 2), 2)).to(np.float64)  # fmt: skip
    for name, p in gan.named_parameters():
        p.data += 0.1 * mixed(rng, *p.shape) * ("label" not in name)
    gan.discriminator.label.requires_grad_(False)  # 784 numbers a class, which an embedding's own test has
    z, labels = mixed(rng, 3, 2), np.array([1, 0, 1])
    gradcheck(lambda: generator_loss(gan, z, labels, settings=Settings())[0], [],
              parameters={n: p for n, p in gan.named_parameters() if p.size < 100})  # fmt: skip


# -- steps -------------------------------------------------------------------------------------------------------


CASES = {
    "GAN on points": {"data": "spirals", "norm": "none"},
    "minimax": {"data": "spirals", "norm": "none", "loss": "minimax"},
    "WGAN-GP on points": {"data": "spirals", "norm": "none", "loss": "wasserstein", "penalty": "gradient"},
    "R1 on points": {"data": "spirals", "norm": "none", "penalty": "r1", "weight": 2.0},
    "DCGAN": {"norm": "batch"},
    "conditional": {"norm": "batch", "conditional": True},
    "WGAN-GP on images": {"norm": "none", "loss": "wasserstein", "penalty": "gradient"},
    "hinge and spectral norm": {"norm": "spectral", "loss": "hinge"},
}


def case(name: str) -> Settings:
    return Settings(**{"conditional": False, **CASES[name]})


def small(settings: Settings) -> GAN:
    manual_seed(0)
    if settings.data == "spirals":
        return GAN(MLPGenerator(4, (8, 7)), MLPDiscriminator(2, (6, 8)))
    told = 3 if settings.conditional else 0
    maker = DCGANGenerator(4 + told, (3, 4, 2))
    judge = (DCGANDiscriminator if settings.norm == "batch" else DCGANCritic)((3, 4, 2), 1 + bool(told))
    judge = spectral_norm(judge) if settings.norm == "spectral" else judge
    return GAN(ConditionalGenerator(maker, 5, 3), ConditionalDiscriminator(judge, 5)) if told else GAN(maker, judge)


def small_twin(settings: Settings):
    from tests.twins import gan as twins

    if settings.data == "spirals":
        return twins.GAN(twins.mlp_generator(4, (8, 7)), twins.mlp_discriminator((6, 8)))
    told = 3 if settings.conditional else 0
    maker = twins.dcgan_generator(4 + told, 3, 4, 2)
    judge = twins.dcgan_discriminator(3, 4, 2, settings.norm, 1 + bool(told))
    if told:
        maker, judge = twins.ConditionalGenerator(maker, 5, 3), twins.ConditionalDiscriminator(judge, 5)
    return twins.GAN(maker, judge, together=settings.norm == "spectral")


def batches_for(rng: np.random.Generator, settings: Settings, n: int, real: bool):
    """Five rows in a batch, so that two shards differ in length."""
    while True:
        x = mixed(rng, n, 2) + 1 if settings.data == "spirals" else np.tanh(mixed(rng, n, 1, 28, 28) + 1)
        labels = (rng.integers(0, 5, n),) if settings.conditional else ()
        yield (x, mixed(rng, n, 4), rng.random(n), *labels) if real else (mixed(rng, n, 4), *labels)


@pytest.mark.torch
@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("name", CASES)
def test_twenty_steps_of_both_players_in_lockstep_with_pytorch(name, shards, rng):
    train_beside_pytorch(rng, case(name), shards)


def train_beside_pytorch(rng: np.random.Generator, settings: Settings, shards: int = 1, steps: int = 20) -> None:
    """The losses of train.py, Adam for each player, 20 alternating steps: equal to 1e-9."""
    import torch

    from tests.twins import gan as twins

    gan, twin = small(settings), small_twin(settings)
    betas, lr = (0.5, 0.9), 1e-3
    about = {"loss": settings.loss, "penalty": settings.penalty, "weight": settings.weight}
    players = []
    for part, loss, theirs, options, real in (
        ("discriminator", discriminator_loss, twins.discriminator_loss, about, True),
        ("generator", generator_loss, twins.generator_loss, {"loss": settings.loss}, False),
    ):
        ours = Adam(getattr(gan, part).parameters(), lr, betas)
        other = torch.optim.Adam(getattr(twin, part).parameters(), lr, betas)
        batches = batches_for(rng, settings, 5, real)
        sharded = ShardedLoss(gan, partial(loss, settings=settings), shards)
        players.append((ours, other, batches, sharded, partial(theirs, twin, **options)))
    lockstep.check_players(gan, twin, players, steps)


def nothing_of_the_discriminators_step_reaches_the_generator(rng):
    for name in ("GAN on points", "WGAN-GP on images", "DCGAN"):
        settings = case(name)
        gan = small(settings)
        batch = [a.astype(np.float32) for a in next(batches_for(rng, settings, 4, True))]
        training.discriminator_loss(gan, *batch, settings=settings)[0].backward()
        assert all(p.grad is None for p in gan.generator.parameters()), "the fake rows were not detached"
        assert all(p.grad is not None for n, p in gan.discriminator.named_parameters() if n.endswith("weight"))


def test_nothing_of_the_discriminators_step_reaches_the_generator(rng):
    nothing_of_the_discriminators_step_reaches_the_generator(rng)


# -- planted faults ----------------------------------------------------------------------------------------------

FAULTS = {
    "fakes not detached": (training, "discriminator_loss", ".detach()", ""),
    "penalty without the slopes": (penalty, "transposed", "lambda g: g * slopes", "lambda g: g"),
    "slopes of the output, not the input, of a negative number": (penalty, "transposed", "h.data > 0", "h.data < 0"),
    "sign of the Wasserstein loss": (losses, "wasserstein_of_both", "fake - real", "real - fake"),
    "sign of the generator's loss": (losses, "higher", "-fake", "fake"),
    "hinge turned around": (losses, "hinge_of_both", "relu(1 - real) + relu(1 + fake)",
                            "relu(1 + real) + relu(1 - fake)"),
    "saturating loss in the other's place": (losses, "nonsaturating", "softplus(-fake)", "-softplus(fake)"),
    "real and fake exchanged": (losses, "cross_entropy_of_both", "softplus(-real) + softplus(fake)",
                                "softplus(real) + softplus(-fake)"),
    "one-sided norm": (penalty, "gradient_penalty", "off = row_norms(slope(critic, x, labels)) - 1",
                       "off = (row_norms(slope(critic, x, labels)) - 1).clip(0, None)"),
    "norm not squared": (penalty, "gradient_penalty", "off * off", "off"),
    "half forgotten": (penalty, "r1_penalty", "0.5 * ", ""),
    "norm over the batch": (penalty, "row_norms", "g.data.reshape(len(g), -1)", "g.data.reshape(1, -1)"),
    "a norm's derivative without the norm": (penalty, "row_norms", "np.divide(dy, n,", "np.divide(dy, 1 + 0 * n,"),
    "far edge forgotten": (penalty, "_transposed_convolution", "layer.padding, left,", "layer.padding, 0,"),
    "spectral: norm taken as constant": (spectral, "divided_by_norm",
                                         "dy - (dy * y).sum() * np.outer(u, v)", "dy"),
    "spectral: gradient not divided": (spectral, "divided_by_norm", "dW / sigma", "dW"),
}  # fmt: skip


def all_is_right(rng):
    losses_are_as_defined(rng)
    slopes_are_the_tapes_own(rng)
    penalties_are_as_defined(rng)
    penalties_have_the_right_gradients(rng)
    spectral_norm_has_the_right_gradient(rng)
    nothing_of_the_discriminators_step_reaches_the_generator(rng)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_planted_fault_is_caught(fault, monkeypatch, rng):
    module, name, old, new = fault
    source = textwrap.dedent(inspect.getsource(getattr(module, name)))
    assert source.count(old) == 1, f"{old!r} stands {source.count(old)} times in {name}"
    space = dict(vars(module))
    exec("from __future__ import annotations\n" + source.replace(old, new), space)
    wrong = space[name]
    for user in (losses, penalty, spectral, training):
        if hasattr(user, name):
            monkeypatch.setattr(user, name, wrong)
    for key, pair in LOSSES.items():
        changed = [wrong if getattr(each, "__name__", "") == name else each for each in pair]
        monkeypatch.setitem(LOSSES, key, losses.Losses(*changed))
    for mine in ("slope", "gradient_penalty", "r1_penalty", "divided_by_norm", "row_norms"):
        if mine == name:
            monkeypatch.setitem(globals(), mine, wrong)
    with pytest.raises((AssertionError, ValueError)), np.errstate(all="ignore"):
        all_is_right(rng)


def test_without_a_fault_all_is_right(rng):
    all_is_right(rng)


# -- values that single changed expressions would move -----------------------------------------------------------------


def test_the_slope_at_a_kink_is_that_of_the_negative_side(rng):
    """PyTorch's derivative of a leaky ReLU at 0 is negative_slope, of a ReLU 0."""
    x = np.array([[-1.0, 0.0, 2.0]])
    for activation, slopes in ((LeakyReLU(0.25), [0.25, 0.25, 1]), (ReLU(), [0, 0, 1])):
        np.testing.assert_array_equal(input_gradient(Sequential(activation), x).data, [slopes])


def test_a_row_whose_norm_rounds_to_zero_has_no_direction():
    g = Tensor(np.array([[3e-200, 4e-200], [3.0, 4.0]]), requires_grad=True)
    n = row_norms(g)
    n.backward(np.array([5.0, 10.0]))
    np.testing.assert_array_equal(n.data, [0, 5])  # the squares underflow
    np.testing.assert_allclose(g.grad, [[0, 0], [6, 8]], rtol=1e-14, atol=0)


def test_the_slope_is_taken_at_a_tensor_that_is_on_the_tape(rng):
    net, x = Sequential(Linear(3, 4), LeakyReLU(0.2), Linear(4, 1)), rng.standard_normal((5, 3)).astype(np.float32)
    on_tape = input_gradient(net, Tensor(x, requires_grad=True))
    np.testing.assert_array_equal(on_tape.data, input_gradient(net, x).data)


def normalised(layer, u, v):
    """The layer with spectral norm whose iteration stands at u and v."""
    wrapped = SpectralNorm(layer)
    vectors = wrapped.parametrizations["weight"]["0"]
    vectors["_u"].data[...], vectors["_v"].data[...] = u, v
    return wrapped, vectors


def test_in_training_the_vectors_take_one_step_and_in_evaluation_none():
    """W = diag(3, 1), v = (0.6, 0.8): u ∝ (1.8, 0.8), v ∝ (5.4, 0.8), σ = uᵀ W v."""
    layer = Linear(2, 2, bias=False)
    layer.weight.data[...] = [[3, 0], [0, 1]]
    u, v = np.array([0.8, 0.6]), np.array([0.6, 0.8])
    wrapped, vectors = normalised(layer, u, v)
    wrapped.eval()
    x = np.eye(2, dtype=np.float32)
    at_rest = np.diag([3, 1]) / (0.8 * 3 * 0.6 + 0.6 * 0.8)
    np.testing.assert_allclose(wrapped(x).data, at_rest, rtol=1e-6)
    np.testing.assert_allclose(vectors["_u"].data, u, rtol=1e-6)

    wrapped.train()
    u, v = np.array([1.8, 0.8]) / math.hypot(1.8, 0.8), np.array([5.4, 0.8]) / math.hypot(5.4, 0.8)
    np.testing.assert_allclose(wrapped(x).data, np.diag([3, 1]) / (3 * u[0] * v[0] + u[1] * v[1]), rtol=1e-6)
    np.testing.assert_allclose(vectors["_u"].data, u, rtol=1e-6)
    np.testing.assert_allclose(vectors["_v"].data, v, rtol=1e-6)


def test_a_convolution_with_spectral_norm_keeps_its_geometry(rng):
    layer = Conv2d(2, 4, 3, stride=2, padding=1, groups=2)
    weight, x = layer.weight.data.copy(), rng.standard_normal((1, 2, 5, 5)).astype(np.float32)
    plain = layer(x).data - layer.bias.data[:, None, None]
    wrapped = SpectralNorm(layer).eval()
    sigma = np.linalg.svd(weight.reshape(4, -1), compute_uv=False)[0]
    u, v = (each.data for each in wrapped.parametrizations["weight"]["0"].values())
    np.testing.assert_allclose(u @ weight.reshape(4, -1) @ v, sigma, rtol=0.05)  # after 15 steps
    found = wrapped(x).data - layer.bias.data[:, None, None]
    np.testing.assert_allclose(found, plain / (u @ weight.reshape(4, -1) @ v), rtol=1e-5, atol=1e-6)


def test_spectral_norm_begins_with_fifteen_steps():
    """Two singular values that lie close together, so that every further step still changes the vectors."""
    layer = Linear(2, 2, bias=False)
    layer.weight.data[...] = [[1, 0], [0, 0.97]]
    manual_seed(3)
    found = SpectralNorm(layer).parametrizations["weight"]["0"]
    rng = manual_seed(3)
    rng.standard_normal(2)  # u, which is replaced in the first step
    v = rng.standard_normal(2)
    for _ in range(15):
        u = layer.weight.data @ v / np.linalg.norm(layer.weight.data @ v)
        v = layer.weight.data.T @ u / np.linalg.norm(layer.weight.data.T @ u)
    np.testing.assert_allclose(found["_u"].data, u, rtol=1e-5)
    np.testing.assert_allclose(found["_v"].data, v, rtol=1e-5)


def test_a_step_between_forward_and_backward_leaves_the_gradient_alone(rng):
    """In evaluation the derivative holds the vectors of its own forward pass, not those that a later step moves."""
    layer = Linear(3, 2, bias=False)
    u, v = np.array([0.6, 0.8]), np.array([1.0, 0.0, 0.0])
    x, gradients = rng.standard_normal((4, 3)).astype(np.float32), []
    for moved in (False, True):
        wrapped, _ = normalised(layer, u, v)
        wrapped.eval()
        y = wrapped(x)
        if moved:
            wrapped.train()
            wrapped(x)
        layer.weight.grad = None
        (y * y).sum().backward()
        gradients.append(layer.weight.grad.copy())
    np.testing.assert_array_equal(*gradients)
