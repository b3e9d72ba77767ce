"""Character model: 65 characters, embedding 64, LSTM of 256, length 64, batch 32, Adam: a training step."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

BATCH, LENGTH, VOCABULARY, EMBEDDING, HIDDEN = 32, 64, 65, 64, 256
REFERENCE = "PyTorch, fused Adam"


def batch() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    text = rng.integers(0, VOCABULARY, (BATCH, LENGTH + 1))
    return text[:, :-1], text[:, 1:]


def our_model(kind: str):
    """Time comes first inside, as PyTorch's layers have it too."""
    from scratch import Module
    from scratch.layers import Embedding, Linear, recurrent

    class Characters(Module):
        def __init__(self):
            self.embedding = Embedding(VOCABULARY, EMBEDDING)
            self.recurrence = getattr(recurrent, kind)(EMBEDDING, HIDDEN)
            self.output = Linear(HIDDEN, VOCABULARY)

        def forward(self, tokens, state=None):
            y, state = self.recurrence(self.embedding(tokens), state)
            return self.output(y), state

    return Characters()


def their_model(kind: str):
    from torch import nn

    class Characters(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(VOCABULARY, EMBEDDING)
            self.recurrence = getattr(nn, kind)(EMBEDDING, HIDDEN)
            self.output = nn.Linear(HIDDEN, VOCABULARY)

        def forward(self, tokens, state=None):
            y, state = self.recurrence(self.embedding(tokens), state)
            return self.output(y), state

    return Characters()


def ours(kind: str, shards: int) -> Callable[[], object]:
    from scratch.losses import cross_entropy
    from scratch.optim import Adam
    from scratch.parallel import ShardedLoss

    def summed_loss(model, tokens, targets):
        scores, _ = model(np.ascontiguousarray(tokens.T))
        loss = cross_entropy(scores.reshape(-1, VOCABULARY), targets.T.reshape(-1), reduction="sum")
        return loss, targets.size

    tokens, targets = batch()
    model = our_model(kind)
    optimizer = Adam(model.parameters(), lr=1e-3)
    loss_of = ShardedLoss(model, summed_loss, shards)

    def step():
        loss = loss_of(tokens, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def theirs(kind: str, fused: bool) -> Callable[[], object]:
    import torch
    from torch.nn.functional import cross_entropy

    tokens, targets = (torch.from_numpy(np.ascontiguousarray(array.T)) for array in batch())
    model = their_model(kind)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=fused)

    def step():
        scores, _ = model(tokens)
        loss = cross_entropy(scores.view(-1, VOCABULARY), targets.view(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def contenders(kind: str) -> dict[str, Callable[[], Callable[[], object]]]:
    return {
        "scratch": partial(ours, kind, shards=1),
        "scratch, two shards": partial(ours, kind, shards=2),
        "PyTorch, fused Adam": partial(theirs, kind, fused=True),
        "PyTorch, Adam": partial(theirs, kind, fused=False),
    }


CONTENDERS = contenders("LSTM")
