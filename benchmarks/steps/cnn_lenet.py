"""LeNet-like: conv 5×5 1→16, pool, 16→32, pool, 1568-128-10; images of 28×28, batch 64, Adam: a training step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

BATCH, SHAPE = 64, (1, 28, 28)
NETWORK: dict = {"channels": (16, 32), "hidden": (128,)}
REFERENCE = "PyTorch, fused Adam"


def batch() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((BATCH, *SHAPE)).astype(np.float32), rng.integers(0, 10, BATCH)


def ours(shards: int) -> Callable[[], object]:
    from scratch.models.cnn import LeNet5
    from scratch.models.cnn.train import summed_loss
    from scratch.optim import Adam
    from scratch.parallel import ShardedLoss

    x, y = batch()
    model = LeNet5(padding=2, **NETWORK)
    optimizer = Adam(model.parameters(), lr=1e-3)
    loss_of = ShardedLoss(model, summed_loss, shards)

    def step():
        loss = loss_of(x, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def theirs(fused: bool) -> Callable[[], object]:
    import torch
    from torch.nn.functional import cross_entropy

    from tests.twins.cnn import LeNet5

    x, y = (torch.from_numpy(array) for array in batch())
    model = LeNet5(places=7 * 7, padding=(2, 2), **NETWORK)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=fused)

    def step():
        loss = cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


CONTENDERS = {
    "scratch": lambda: ours(shards=2),
    "scratch, one shard": lambda: ours(shards=1),
    "PyTorch, fused Adam": lambda: theirs(fused=True),
    "PyTorch, Adam": lambda: theirs(fused=False),
}
