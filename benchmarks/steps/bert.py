"""BERT, 4 layers, 4 heads, width 96, context 32, batch 32, 64 tokens, 15 % asked for, AdamW: a training step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

CONFIG: dict = {"vocab_size": 64, "hidden_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4,
                "intermediate_size": 384, "max_position_embeddings": 32, "type_vocab_size": 1}  # fmt: skip
BATCH = 32
ADAMW: dict = {"lr": 1e-3, "betas": (0.9, 0.99)}
REFERENCE = "PyTorch, fused AdamW"


def batch() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    from scratch.models.bert.masking import hide

    rng = np.random.default_rng(0)
    text = rng.integers(0, CONFIG["vocab_size"] - 1, (BATCH, CONFIG["max_position_embeddings"]))
    x, places = hide(text, CONFIG["vocab_size"] - 1, rng)
    return x, text, places


def ours(shards: int) -> Callable[[], object]:
    from scratch.models.bert import BertForMaskedLM
    from scratch.models.bert.train import decayed_apart, summed_loss
    from scratch.optim import AdamW
    from scratch.parallel import ShardedLoss

    x, y, places = batch()
    model = BertForMaskedLM(**CONFIG)
    optimizer = AdamW(decayed_apart(model, 0.01), **ADAMW)
    loss_of = ShardedLoss(model, summed_loss, shards)

    def step():
        loss = loss_of(x, y, places)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def theirs() -> Callable[[], object]:
    import torch
    from torch.nn.functional import cross_entropy

    from tests.twins.bert import BertForMaskedLM

    x, y, places = (torch.from_numpy(array) for array in batch())
    model = BertForMaskedLM(**CONFIG)
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.01},
        {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, fused=True, **ADAMW)

    def step():
        loss = cross_entropy(model(x, places=places), y[places])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


CONTENDERS = {
    "scratch": lambda: ours(shards=2),
    "scratch, one shard": lambda: ours(shards=1),
    "PyTorch, fused AdamW": theirs,
}
