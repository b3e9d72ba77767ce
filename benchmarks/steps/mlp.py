"""MLP 784-256-128-10, batch 128, Adam: forward, cross-entropy, backward, update. About 0.9 ms of matrix products."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

INPUTS, HIDDEN, OUTPUTS, BATCH = 784, (256, 128), 10, 128
REFERENCE = "PyTorch, fused Adam"


def batch() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((BATCH, INPUTS)).astype(np.float32)
    return x, rng.integers(0, OUTPUTS, BATCH)


def ours(shards: int) -> Callable[[], object]:
    from scratch.models.mlp.model import MLP
    from scratch.models.mlp.train import summed_loss
    from scratch.optim import Adam
    from scratch.parallel import ShardedLoss

    x, y = batch()
    model = MLP(INPUTS, HIDDEN, OUTPUTS)
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

    from tests.twins.mlp import MLP

    x, y = (torch.from_numpy(array) for array in batch())
    model = MLP(INPUTS, HIDDEN, OUTPUTS)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=fused)

    def step():
        loss = cross_entropy(model(x), y)
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
