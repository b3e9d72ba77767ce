"""VAE 784-400-20-400-784 on black and white images, batch 128, Adam: encode, draw, decode, bound, backward, update."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

BATCH, LATENT = 128, 20
REFERENCE = "PyTorch, fused Adam"


def batch() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = (rng.random((BATCH, 1, 28, 28)) < 0.2).astype(np.float32)
    return x, rng.standard_normal((BATCH, LATENT)).astype(np.float32)


def ours(shards: int) -> Callable[[], object]:
    from scratch.models.autoencoder import VAE
    from scratch.models.autoencoder.stages import vae_loss
    from scratch.optim import Adam
    from scratch.parallel import ShardedLoss

    x, eps = batch()
    model = VAE(latent=LATENT)
    optimizer = Adam(model.parameters(), lr=1e-3)
    loss_of = ShardedLoss(model, vae_loss, shards)

    def step():
        loss = loss_of(x, eps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def theirs(fused: bool) -> Callable[[], object]:
    """As PyTorch's own example of a VAE has it, with the loss from the logits."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    from tests.twins.autoencoder import VAE

    x, eps = (torch.from_numpy(array) for array in batch())
    model = VAE(latent=LATENT)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=fused)

    def step():
        mean, log_variance = model.encoder(x).chunk(2, dim=1)
        out = model.decoder(mean + torch.exp(0.5 * log_variance) * eps)
        nats = binary_cross_entropy_with_logits(out, x, reduction="sum")
        kl = -0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp())
        loss = (nats + kl) / BATCH
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


CONTENDERS = {
    "scratch": lambda: ours(shards=1),
    "scratch, two shards": lambda: ours(shards=2),
    "PyTorch, fused Adam": lambda: theirs(fused=True),
    "PyTorch, Adam": lambda: theirs(fused=False),
}
