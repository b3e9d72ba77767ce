"""The autoencoders in PyTorch, told independently, with the same names of parameters and buffers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence
from torch.nn import functional as F


def dense(sizes: Sequence[int]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for n, m in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [nn.Linear(n, m), nn.ReLU()]
    return layers[:-1]


def halvings(widths: Sequence[int]) -> list[nn.Module]:
    pairs = zip(widths[:-1], widths[1:], strict=True)
    return [layer for n, m in pairs for layer in (nn.Conv2d(n, m, 4, 2, 1), nn.ReLU())]


def doublings(widths: Sequence[int]) -> list[nn.Module]:
    pairs = zip(widths[:-1], widths[1:], strict=True)
    return [layer for n, m in pairs for layer in (nn.ConvTranspose2d(n, m, 4, 2, 1), nn.ReLU())][:-1]


class GaussianScale(nn.Module):
    def __init__(self, sigma: float = 0.3):
        super().__init__()
        self.log_sigma = nn.Parameter(torch.tensor(math.log(sigma)))


class Autoencoder(nn.Module):
    """Dense with `hidden` or convolutional with `widths`; told: numbers that the encoder gives for each of z."""

    def __init__(
        self, shape: tuple[int, int, int] = (1, 28, 28), latent: int = 20, hidden: Sequence[int] = (400,),
        widths: Sequence[int] = (), told: int = 1, gaussian: bool = False,
    ):  # fmt: skip
        super().__init__()
        size = math.prod(shape)
        if widths:
            low = (widths[-1], shape[1] >> len(widths), shape[2] >> len(widths))
            self.encoder = nn.Sequential(*halvings([shape[0], *widths]), nn.Flatten(),
                                         nn.Linear(math.prod(low), told * latent))  # fmt: skip
            self.decoder = nn.Sequential(nn.Linear(latent, math.prod(low)), nn.ReLU(), nn.Unflatten(1, low),
                                         *doublings([*reversed(widths), shape[0]]))  # fmt: skip
        else:
            self.encoder = nn.Sequential(nn.Flatten(), *dense([size, *hidden, told * latent]))
            self.decoder = nn.Sequential(*dense([latent, *reversed(hidden), size]), nn.Unflatten(1, shape))
        self.likelihood = GaussianScale() if gaussian else nn.Module()

    def nats(self, out: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        if isinstance(self.likelihood, GaussianScale):
            return -Normal(out, self.likelihood.log_sigma.exp()).log_prob(x).sum()
        return -Bernoulli(logits=out, validate_args=False).log_prob(x).sum()

    def loss(self, x: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
        return self.nats(self.decoder(self.encoder(shown)), x) / len(x)


class VAE(Autoencoder):
    def __init__(self, **arguments):
        super().__init__(told=2, **arguments)

    def loss(self, x: torch.Tensor, eps: torch.Tensor, beta: float = 1.0) -> torch.Tensor:
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        q = Independent(Normal(mean, log_variance.exp().sqrt()), mean.ndim - 1)
        p = Independent(Normal(torch.zeros_like(mean), torch.ones_like(mean)), mean.ndim - 1)
        z = mean + q.base_dist.scale * eps
        return (self.nats(self.decoder(z), x) + beta * kl_divergence(q, p).sum()) / len(x)


class Residual(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.look, self.mix = nn.Conv2d(channels, channels, 3, padding=1), nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.mix(F.relu(self.look(F.relu(x))))


def grid_parts(channels: int, width: int, blocks: int, told: int, code: int) -> tuple[nn.Sequential, nn.Sequential]:
    encoder = nn.Sequential(
        nn.Conv2d(channels, width // 2, 4, 2, 1), nn.ReLU(), nn.Conv2d(width // 2, width, 4, 2, 1),
        *(Residual(width) for _ in range(blocks)), nn.ReLU(), nn.Conv2d(width, told, 1),
    )  # fmt: skip
    decoder = nn.Sequential(
        nn.Conv2d(code, width, 3, padding=1), *(Residual(width) for _ in range(blocks)), nn.ReLU(),
        nn.ConvTranspose2d(width, width // 2, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(width // 2, channels, 4, 2, 1),
    )  # fmt: skip
    return encoder, decoder


class GridVAE(VAE):
    def __init__(self, channels: int = 1, latent: int = 4, width: int = 32, blocks: int = 1):
        super().__init__()
        self.encoder, self.decoder = grid_parts(channels, width, blocks, 2 * latent, latent)


class Quantizer(nn.Module):
    """The codebook and its moving means, without the revival of dead rows."""

    def __init__(self, codes: int, dim: int, decay: float):
        super().__init__()
        self.decay = decay
        self.register_buffer("codebook", torch.zeros(codes, dim))
        self.register_buffer("counts", torch.zeros(codes))
        self.register_buffer("sums", torch.zeros(codes, dim))

    def forward(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        rows = z.permute(0, 2, 3, 1)
        codes = torch.cdist(rows.detach().flatten(0, 2), self.codebook).argmin(dim=1)
        e = self.codebook[codes].view(rows.shape).permute(0, 3, 1, 2).clone()
        if self.training:
            chosen = F.one_hot(codes, len(self.codebook)).to(z.dtype)
            self.counts.mul_(self.decay).add_(chosen.sum(0), alpha=1 - self.decay)
            self.sums.mul_(self.decay).add_(chosen.T @ rows.detach().flatten(0, 2), alpha=1 - self.decay)
            self.codebook.copy_(self.sums / self.counts[:, None])
        return z + (e - z).detach(), F.mse_loss(z, e, reduction="sum")


class VQVAE(nn.Module):
    def __init__(self, channels: int = 1, codes: int = 128, dim: int = 16, width: int = 32, blocks: int = 2,
                 decay: float = 0.99):  # fmt: skip
        super().__init__()
        self.encoder, self.decoder = grid_parts(channels, width, blocks, dim, dim)
        self.quantizer = Quantizer(codes, dim, decay)

    def loss(self, x: torch.Tensor, beta: float = 0.25) -> torch.Tensor:
        e, commitment = self.quantizer(self.encoder(x))
        nats = F.binary_cross_entropy_with_logits(self.decoder(e), x, reduction="sum")
        return (nats + beta * commitment) / len(x)
