"""Generating 100 characters one at a time, embedding 64, hidden 256; 100,000 / ms is characters a second."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks.steps.rnn_lstm_gru_lstm import our_model, their_model

CHARACTERS = 100


def ours(kind: str) -> Callable[[], object]:
    from scratch import no_grad

    model = our_model(kind).eval()

    @no_grad()
    def step():
        token, state = np.zeros((1, 1), np.int64), None
        for _ in range(CHARACTERS):
            scores, state = model(token, state)
            token = scores.data.argmax(axis=-1)
        return int(token[0, 0])

    return step


def theirs(kind: str) -> Callable[[], object]:
    import torch

    model = their_model(kind).eval()

    @torch.inference_mode()
    def step():
        token, state = torch.zeros((1, 1), dtype=torch.int64), None
        for _ in range(CHARACTERS):
            scores, state = model(token, state)
            token = scores.argmax(dim=-1)
        return int(token[0, 0])

    return step


CONTENDERS: dict[str, Callable[[], Callable[[], object]]] = {}
REFERENCE: dict[str, str] = {}  # which contender each is compared with
for _kind in ("LSTM", "GRU"):
    CONTENDERS |= {f"scratch, {_kind}": partial(ours, _kind), f"PyTorch, {_kind}": partial(theirs, _kind)}
    REFERENCE |= {f"scratch, {_kind}": f"PyTorch, {_kind}", f"PyTorch, {_kind}": f"PyTorch, {_kind}"}
