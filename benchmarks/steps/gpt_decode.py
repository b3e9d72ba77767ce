"""GPT, 4 layers, 4 heads, width 128, context 256, 65 tokens: 128 tokens after a prompt of one, greedy, cached."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

CONFIG = {"vocab_size": 65, "context_length": 256, "num_layers": 4, "num_heads": 4, "embed_dim": 128, "bias": False}
TOKENS = 128
REFERENCE = "PyTorch, cache"


def ours(cache: bool) -> Callable[[], object]:
    from scratch.models.gpt import GPT
    from scratch.models.gpt.generate import generate

    model = GPT(**CONFIG)
    prompt = [np.array([1])]
    return lambda: int(generate(model, prompt, TOKENS, temperature=0, cache=cache)[0][-1])


def theirs() -> Callable[[], object]:
    import torch

    from tests.twins.gpt import GPT

    model = GPT(**CONFIG).eval()
    prompt = torch.tensor([[1]])
    return lambda: int(model.greedy(prompt, TOKENS)[0, -1])


CONTENDERS = {
    "scratch": lambda: ours(cache=True),
    "scratch, the whole text again for each token": lambda: ours(cache=False),
    "PyTorch, cache": theirs,
}
