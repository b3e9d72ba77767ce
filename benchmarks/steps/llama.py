"""Llama, 4 layers, 4 heads that share 2, width 128, context 64, batch 12, 65 tokens, AdamW: a training step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

CONFIG: dict = {"vocab_size": 65, "context_length": 64, "embed_dim": 128, "num_layers": 4, "num_heads": 4,
                "num_kv_heads": 2, "ffn_dim": 384}  # fmt: skip
EXPERTS: dict = {**CONFIG, "ffn_dim": 128, "num_experts": 8, "num_experts_per_token": 2}
BATCH = 12
ADAMW: dict = {"lr": 1e-3, "betas": (0.9, 0.99)}
REFERENCE = "PyTorch, fused AdamW"


def batch() -> tuple[np.ndarray, np.ndarray]:
    text = np.random.default_rng(0).integers(0, CONFIG["vocab_size"], (BATCH, CONFIG["context_length"] + 1))
    return text[:, :-1], text[:, 1:]


def ours(shards: int, experts: bool = False) -> Callable[[], object]:
    from scratch.models.llama import Llama, Mixtral
    from scratch.models.llama.train import summed_loss
    from scratch.optim import AdamW, weight_decay_groups
    from scratch.parallel import ShardedLoss

    x, y = batch()
    model = Mixtral(**EXPERTS) if experts else Llama(**CONFIG)
    optimizer = AdamW(weight_decay_groups(model, 0.1), **ADAMW)
    loss_of = ShardedLoss(model, lambda m, x, y: summed_loss(m, x, y, 0.01), shards)

    def step():
        loss = loss_of(x, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def theirs(experts: bool = False) -> Callable[[], object]:
    import torch
    from torch.nn.functional import cross_entropy

    from tests.twins.llama import Llama, Mixtral

    x, y = (torch.from_numpy(array) for array in batch())
    model = Mixtral(**EXPERTS) if experts else Llama(**CONFIG)
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, fused=True, **ADAMW)

    def step():
        loss = cross_entropy(model(x).flatten(0, 1), y.flatten())
        if experts:
            loss = loss + 0.01 * model.load_balancing_loss()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


CONTENDERS = {
    "scratch": lambda: ours(shards=2),
    "scratch, one shard": lambda: ours(shards=1),
    "PyTorch, fused AdamW": theirs,
    "scratch, 8 experts of 128": lambda: ours(shards=2, experts=True),
    "PyTorch, 8 experts of 128, all computed": lambda: theirs(experts=True),
}
