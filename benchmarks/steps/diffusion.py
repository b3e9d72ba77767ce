"""DDPM's U-Net, 32×32, channels 32-64-128, two blocks a level, attention at 8×8, batch 16: a training step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

CONFIG = {"channels": 1, "widths": (32, 64, 128), "blocks": 2, "classes": 10, "heads": 4, "groups": 8}
BATCH, SIZE, LR = 16, 32, 1e-3
REFERENCE = "PyTorch, fused AdamW"


def batch() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(x_t, t, ε, labels)"""
    rng = np.random.default_rng(0)
    x = np.zeros((BATCH, 1, SIZE, SIZE), np.float32)
    x[:, :, 2:30, 2:30] = rng.standard_normal((BATCH, 1, 28, 28))
    eps = rng.standard_normal(x.shape).astype(np.float32)
    return x, rng.integers(1, 1001, BATCH), eps, rng.integers(0, 10, BATCH)


def ours(shards: int) -> Callable[[], object]:
    from scratch.models.diffusion import UNet
    from scratch.models.diffusion.train import summed_loss
    from scratch.optim import AdamW
    from scratch.parallel import ShardedLoss

    arrays = batch()
    model = UNet(**CONFIG)
    optimizer = AdamW(model.parameters(), lr=LR)
    loss_of = ShardedLoss(model, summed_loss, shards)

    def step():
        loss = loss_of(*arrays)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def theirs(fused: bool, channels_last: bool) -> Callable[[], object]:
    import torch
    from torch.nn.functional import mse_loss

    from tests.twins.diffusion import UNet

    x, t, eps, labels = (torch.from_numpy(array) for array in batch())
    model = UNet(**CONFIG)
    if channels_last:
        model, x = model.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, fused=fused)

    def step():
        loss = mse_loss(model(x, t, labels), eps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


CONTENDERS = {
    "scratch": lambda: ours(shards=2),
    "scratch, one shard": lambda: ours(shards=1),
    "PyTorch, fused AdamW": lambda: theirs(fused=True, channels_last=False),
    "PyTorch, fused AdamW, channels last": lambda: theirs(fused=True, channels_last=True),
}
