"""ViT, patches of 7×7 pixels, width 64, depth 4, 4 heads, batch 128 of 28×28, AdamW: a training step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

BATCH = 128
ADAMW: dict = {"lr": 1e-3}
REFERENCE = "PyTorch, fused AdamW"


def batch() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((BATCH, 1, 28, 28)).astype(np.float32), rng.integers(0, 10, BATCH)


def ours(shards: int, every_token: bool = False) -> Callable[[], object]:
    """With `every_token` the last block also answers the patches, which nobody reads, as PyTorch's twin does."""
    from scratch.models.vit import VisionTransformer
    from scratch.models.vit.train import decayed_apart, summed_loss
    from scratch.optim import AdamW
    from scratch.parallel import ShardedLoss

    x, y = batch()

    class EveryToken(VisionTransformer):
        def features(self, x, asking=None):
            return super().features(x)

    model = EveryToken() if every_token else VisionTransformer()
    optimizer = AdamW(decayed_apart(model, 0.1), **ADAMW)
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

    from tests.twins.vit import VisionTransformer

    x, y = (torch.from_numpy(array) for array in batch())
    model = VisionTransformer()
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim in (2, 4)], "weight_decay": 0.1},
        {"params": [p for p in parameters if p.ndim not in (2, 4)], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, fused=fused, **ADAMW)

    def step():
        loss = cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


CONTENDERS = {
    "scratch": lambda: ours(shards=2),
    "scratch, every token to the end": lambda: ours(shards=2, every_token=True),
    "scratch, one shard": lambda: ours(shards=1),
    "PyTorch, fused AdamW": lambda: theirs(fused=True),
    "PyTorch, AdamW": lambda: theirs(fused=False),
}
