"""Averaged weights: a second copy of a model that follows the first one slowly, and is steadier than it ever is."""

from __future__ import annotations

import copy

import numpy as np

from scratch.module import Module
from scratch.tensor import Buffer


class AveragedModel(Module):
    """θ̄ ← d θ̄ + (1 − d) θ after every update: the exponential moving average of a model's weights  (Polyak 1990)

    d is `decay`, and while n updates are few min(decay, (1 + n) / (10 + n)), so that the first weights, which know
    nothing, are soon forgotten (as TensorFlow has it; PyTorch's AveragedModel has no such start, and the same state
    keys). Buffers are copied. Calling it calls the averaged copy, `module`. The average of float16 weights is float32,
    for its small steps would be lost otherwise.

    Raises ValueError for a decay outside 0 … 1.
    """

    def __init__(self, model: Module, decay: float = 0.999):
        if not 0 <= decay <= 1:
            raise ValueError(f"AveragedModel expected a decay from 0 to 1, got {decay}")
        self.decay = decay
        self.n_averaged = Buffer(np.zeros((), np.int64))
        self.module = copy.deepcopy(model)
        self.module.eval()
        for parameter in self.module.parameters():
            if parameter.dtype == np.float16:
                parameter.data = parameter.data.astype(np.float32)

    def forward(self, *args, **kwargs):
        return self.module(*args, **kwargs)

    def update_parameters(self, model: Module) -> None:
        """Take a step towards the weights of `model`, the model that this is an average of."""
        n = int(self.n_averaged.data)
        decay = min(self.decay, (1 + n) / (10 + n))
        for mine, theirs in zip(self.module.parameters(), model.parameters(), strict=True):
            mine.data[...] = decay * mine.data + (1 - decay) * theirs.data.astype(mine.dtype, copy=False)
        for copied, buffer in zip(self.module.buffers(), model.buffers(), strict=True):
            copied.data[...] = buffer.data
        self.n_averaged.data[...] = n + 1
