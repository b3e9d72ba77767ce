"""Two-layer bidirectional LSTM: 128 numbers a step, hidden 128, length 100, batch 32: forward, and all gradients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

LENGTH, BATCH, SIZE = 100, 32, 128
REFERENCE = "PyTorch"


def arrays() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return tuple(rng.standard_normal((LENGTH, BATCH, n)).astype(np.float32) for n in (SIZE, 2 * SIZE))


def ours() -> Callable[[], object]:
    from scratch import Tensor
    from scratch.layers.recurrent import LSTM

    x, dy = arrays()
    x, model = Tensor(x, requires_grad=True), LSTM(SIZE, SIZE, num_layers=2, bidirectional=True)

    def step():
        x.grad = None
        model.zero_grad()
        y, _ = model(x)
        y.backward(dy)
        return float(x.grad[0, 0, 0])

    return step


def theirs() -> Callable[[], object]:
    import torch

    x, dy = map(torch.from_numpy, arrays())
    x, model = x.requires_grad_(), torch.nn.LSTM(SIZE, SIZE, num_layers=2, bidirectional=True)

    def step():
        x.grad = None
        model.zero_grad()
        y, _ = model(x)
        y.backward(dy)
        return float(x.grad[0, 0, 0])

    return step


CONTENDERS = {"scratch": ours, "PyTorch": theirs}
