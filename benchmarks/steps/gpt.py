"""GPT, 4 layers, 4 heads, width 128, context 64, batch 12, 65 tokens, AdamW: a training step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

CONFIG = {"vocab_size": 65, "context_length": 64, "num_layers": 4, "num_heads": 4, "embed_dim": 128, "bias": False}
BATCH = 12
ADAMW: dict = {"lr": 1e-3, "betas": (0.9, 0.99)}
REFERENCE = "PyTorch, fused AdamW"


def batch() -> tuple[np.ndarray, np.ndarray]:
    text = np.random.default_rng(0).integers(0, CONFIG["vocab_size"], (BATCH, CONFIG["context_length"] + 1))
    return text[:, :-1], text[:, 1:]


def ours(shards: int) -> Callable[[], object]:
    from scratch.models.gpt import GPT
    from scratch.models.gpt.train import summed_loss
    from scratch.optim import AdamW, weight_decay_groups
    from scratch.parallel import ShardedLoss

    x, y = batch()
    model = GPT(**CONFIG)
    optimizer = AdamW(weight_decay_groups(model, 0.1), **ADAMW)
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

    from tests.twins.gpt import GPT

    x, y = (torch.from_numpy(array) for array in batch())
    model = GPT(**CONFIG)
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, fused=fused, **ADAMW)

    def step():
        loss = cross_entropy(model(x).flatten(0, 1), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


CONTENDERS = {
    "scratch": lambda: ours(shards=2),
    "scratch, one shard": lambda: ours(shards=1),
    "PyTorch, fused AdamW": lambda: theirs(fused=True),
    "PyTorch, AdamW": lambda: theirs(fused=False),
}
