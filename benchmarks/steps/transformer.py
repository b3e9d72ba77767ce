"""Encoder–decoder 2+2, width 128, 4 heads, feed-forward 512, length 32, batch 32, vocabulary 64, Adam: one step.

Forward, cross-entropy, backward, update. About 40 ms of matrix products.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

SIZES = {"vocab_size": 64, "d_model": 128, "nhead": 4, "num_encoder_layers": 2, "num_decoder_layers": 2,
         "dim_feedforward": 512, "dropout": 0.0}  # fmt: skip
LENGTH, BATCH = 32, 32
REFERENCE = "PyTorch, fused Adam"


def batch() -> tuple[np.ndarray, np.ndarray]:
    """Sources (B, 32), and targets (B, 33), of which all but the last token are given and all but the first asked."""
    rng = np.random.default_rng(0)
    return rng.integers(1, SIZES["vocab_size"], (BATCH, LENGTH)), rng.integers(1, 64, (BATCH, LENGTH + 1))


def ours(shards: int) -> Callable[[], object]:
    from scratch.models.transformer.model import Transformer
    from scratch.models.transformer.train import summed_loss
    from scratch.optim import Adam
    from scratch.parallel import ShardedLoss

    source, target = batch()
    model = Transformer(**SIZES)
    optimizer = Adam(model.parameters(), lr=1e-3)
    loss_of = ShardedLoss(model, summed_loss, shards)

    def step():
        loss = loss_of(source, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def theirs(fused: bool) -> Callable[[], object]:
    import torch
    from torch.nn.functional import cross_entropy

    from tests.twins.transformer import Transformer

    source, target = (torch.from_numpy(array) for array in batch())
    model = Transformer(**SIZES)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=fused)

    def step():
        logits = model(source, target[:, :-1])
        loss = cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten(), ignore_index=0)
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
