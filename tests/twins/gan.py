"""The players in PyTorch, told independently, with the same names of parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm


def perceptron(sizes: Sequence[int], activation: Any) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Linear(sizes[0], sizes[1])]
    for n, m in zip(sizes[1:-1], sizes[2:], strict=True):
        layers += [activation, nn.Linear(n, m)]
    return nn.Sequential(*layers)


class Net(nn.Module):
    def __init__(self, net: nn.Sequential):
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor, labels: Any = None) -> torch.Tensor:
        return self.net(x)


class Discriminator(Net):
    def forward(self, x: torch.Tensor, labels: Any = None) -> torch.Tensor:
        return self.net(x).squeeze(1)


def mlp_generator(noise: int, hidden: Sequence[int]) -> Net:
    return Net(perceptron([noise, *hidden, 2], nn.ReLU()))


def mlp_discriminator(hidden: Sequence[int]) -> Discriminator:
    return Discriminator(perceptron([2, *hidden, 1], nn.LeakyReLU(0.2)))


def dcgan_generator(noise: int, fine: int, middle: int, coarse: int) -> Net:
    return Net(nn.Sequential(
        nn.Linear(noise, coarse * 16, bias=False), nn.Unflatten(1, (coarse, 4, 4)), nn.BatchNorm2d(coarse), nn.ReLU(),
        nn.ConvTranspose2d(coarse, middle, 3, 2, 1, bias=False), nn.BatchNorm2d(middle), nn.ReLU(),
        nn.ConvTranspose2d(middle, fine, 4, 2, 1, bias=False), nn.BatchNorm2d(fine), nn.ReLU(),
        nn.ConvTranspose2d(fine, 1, 4, 2, 1), nn.Tanh(),
    ))  # fmt: skip


def dcgan_discriminator(fine: int, middle: int, coarse: int, norm: str, channels: int = 1) -> Discriminator:
    def maybe(layer: nn.Module) -> nn.Module:
        return spectral_norm(layer) if norm == "spectral" else layer

    layers = [maybe(nn.Conv2d(channels, fine, 4, 2, 1)), nn.LeakyReLU(0.2)]
    for n, m, size in ((fine, middle, 4), (middle, coarse, 3)):
        layers += [maybe(nn.Conv2d(n, m, size, 2, 1, bias=norm != "batch"))]
        layers += [nn.BatchNorm2d(m)] if norm == "batch" else []
        layers += [nn.LeakyReLU(0.2)]
    return Discriminator(nn.Sequential(*layers, nn.Flatten(), maybe(nn.Linear(coarse * 16, 1))))


class ConditionalGenerator(nn.Module):
    def __init__(self, generator: Net, classes: int, dim: int):
        super().__init__()
        self.label = nn.Embedding(classes, dim)
        self.generator = generator

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self.generator(torch.cat([z, self.label(labels)], dim=1))


class ConditionalDiscriminator(nn.Module):
    def __init__(self, discriminator: Discriminator, classes: int):
        super().__init__()
        self.label = nn.Embedding(classes, 28 * 28)
        self.discriminator = discriminator

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self.discriminator(torch.cat([x, self.label(labels).unflatten(1, (1, 28, 28))], dim=1))


class GAN(nn.Module):
    def __init__(self, generator: nn.Module, discriminator: nn.Module, together: bool = False):
        super().__init__()
        self.generator, self.discriminator, self.together = generator, discriminator, together

    def both(self, x: torch.Tensor, fake: torch.Tensor, *labels: torch.Tensor) -> Any:
        if self.together:  # spectral norm takes a step in each pass, so it matters how many there are
            return self.discriminator(torch.cat([x, fake]), *labels).chunk(2)
        return self.discriminator(x, *labels), self.discriminator(fake, *labels)


def slopes(discriminator: nn.Module, x: torch.Tensor, *labels: torch.Tensor) -> torch.Tensor:
    x = x.detach().requires_grad_()
    return torch.autograd.grad(discriminator(x, *labels).sum(), x, create_graph=True)[0].flatten(1)


def discriminator_loss(
    gan: GAN, x: torch.Tensor, z: torch.Tensor, t: Any, *labels: torch.Tensor, loss: str,
    penalty: str = "none", weight: float = 0.0,
) -> torch.Tensor:  # fmt: skip
    fake = gan.generator(z, *labels).detach()
    d, g = gan.both(x, fake, *labels)
    if loss == "hinge":
        value = (F.relu(1 - d) + F.relu(1 + g)).mean()
    elif loss == "wasserstein":
        value = g.mean() - d.mean()
    else:
        ones, zeros = torch.ones_like(d), torch.zeros_like(g)
        value = F.binary_cross_entropy_with_logits(d, ones) + F.binary_cross_entropy_with_logits(g, zeros)
    if penalty == "gradient":
        t = t.view(-1, *[1] * (x.ndim - 1))
        norms = slopes(gan.discriminator, t * x + (1 - t) * fake, *labels).norm(dim=1)
        value = value + weight * ((norms - 1) ** 2).mean()
    elif penalty == "r1":
        value = value + weight / 2 * (slopes(gan.discriminator, x, *labels) ** 2).sum(dim=1).mean()
    return value


def generator_loss(gan: GAN, z: torch.Tensor, *labels: torch.Tensor, loss: str) -> torch.Tensor:
    g = gan.discriminator(gan.generator(z, *labels), *labels)
    if loss == "nonsaturating":
        return F.binary_cross_entropy_with_logits(g, torch.ones_like(g))
    if loss == "minimax":
        return -F.binary_cross_entropy_with_logits(g, torch.zeros_like(g))
    return -g.mean()
