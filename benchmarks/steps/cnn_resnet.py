"""ResNet-like: stem 3→32, then a block each of 32 at 32×32, 64 at 16×16, 128 at 8×8; batch 32, SGD: a training step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

BATCH, SHAPE = 32, (3, 32, 32)
REFERENCE = "PyTorch, fused SGD"


def batch() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((BATCH, *SHAPE)).astype(np.float32), rng.integers(0, 10, BATCH)


def ours(shards: int) -> Callable[[], object]:
    from scratch.models.cnn import ResNet
    from scratch.models.cnn.train import summed_loss
    from scratch.optim import SGD
    from scratch.parallel import ShardedLoss

    x, y = batch()
    model = ResNet()
    optimizer = SGD(model.parameters(), lr=0.05, momentum=0.9)
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

    from tests.twins.cnn import ResNet

    x, y = (torch.from_numpy(array) for array in batch())
    model = ResNet((3, 3), (1, 1, 1), (32, 64, 128))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, fused=fused)

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
    "PyTorch, fused SGD": lambda: theirs(fused=True),
    "PyTorch, SGD": lambda: theirs(fused=False),
}
