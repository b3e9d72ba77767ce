"""DCGAN on 28×28, channels 32, 64 and 128, batch 64: one step of the discriminator and one of the generator, Adam each.

The discriminator's step makes its own fake images, as the training loop does; both networks are in training mode.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

BATCH, NOISE, WIDTHS = 64, 64, (32, 64, 128)
LR, BETAS = 2e-4, (0.5, 0.999)
REFERENCE = "PyTorch, fused Adam"


def batch() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(x, z of the discriminator's step, z of the generator's)"""
    rng = np.random.default_rng(0)
    x = np.tanh(rng.standard_normal((BATCH, 1, 28, 28))).astype(np.float32)
    z, z_too = rng.standard_normal((2, BATCH, NOISE)).astype(np.float32)
    return x, z, z_too


def ours(shards: int) -> Callable[[], object]:
    from scratch.models.gan import GAN, DCGANDiscriminator, DCGANGenerator
    from scratch.models.gan.train import Settings, discriminator_loss, generator_loss
    from scratch.optim import Adam
    from scratch.parallel import ShardedLoss

    x, z, z_too = batch()
    t, settings = np.zeros(BATCH), Settings()
    gan = GAN(DCGANGenerator(NOISE, WIDTHS), DCGANDiscriminator(WIDTHS))
    d_optimizer, g_optimizer = (Adam(part.parameters(), LR, BETAS) for part in (gan.discriminator, gan.generator))
    d_loss_of, g_loss_of = (
        ShardedLoss(gan, partial(loss, settings=settings), shards) for loss in (discriminator_loss, generator_loss)
    )

    def step():
        d_loss = d_loss_of(x, z, t)
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()
        gan.discriminator.requires_grad_(False)
        g_loss = g_loss_of(z_too)
        g_optimizer.zero_grad()
        g_loss.backward()
        g_optimizer.step()
        gan.discriminator.requires_grad_(True)
        return d_loss.item()

    return step


def theirs(fused: bool) -> Callable[[], object]:
    import torch

    from tests.twins import gan as twins

    x, z, z_too = (torch.from_numpy(array) for array in batch())
    gan = twins.GAN(twins.dcgan_generator(NOISE, *WIDTHS), twins.dcgan_discriminator(*WIDTHS, "batch"))
    d_optimizer, g_optimizer = (
        torch.optim.Adam(part.parameters(), LR, BETAS, fused=fused) for part in (gan.discriminator, gan.generator)
    )

    def step():
        d_loss = twins.discriminator_loss(gan, x, z, None, loss="nonsaturating")
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()
        gan.discriminator.requires_grad_(False)
        g_loss = twins.generator_loss(gan, z_too, loss="nonsaturating")
        g_optimizer.zero_grad()
        g_loss.backward()
        g_optimizer.step()
        gan.discriminator.requires_grad_(True)
        return d_loss.item()

    return step


CONTENDERS = {
    "scratch": lambda: ours(shards=2),
    "scratch, one shard": lambda: ours(shards=1),
    "PyTorch, fused Adam": lambda: theirs(fused=True),
    "PyTorch, Adam": lambda: theirs(fused=False),
}
