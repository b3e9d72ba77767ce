"""Text generation with a Llama: read the prompt, choose a token, append it, repeat. Sampling is the GPT's.

Up to `context_length` tokens a KV cache makes every step cheap. A model that was trained on 64 positions has never seen
a distance of 65. So beyond its context length the window slides, as in the GPT: the last `context_length` tokens are
read again for every new one. The rotary embedding itself has no such limit; only training sets it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from scratch.models.gpt.generate import Prompts, check_options, checked, choose, padded
from scratch.models.llama.decoder import Decoder
from scratch.models.llama.model import Llama
from scratch.module import evaluating
from scratch.random import generator
from scratch.tensor import Array


def generate(model: Llama, prompts: Prompts, max_new_tokens: int, **options: Any) -> list[Array]:
    """Each prompt, continued by `max_new_tokens` tokens; options and errors as in `stream`."""
    texts = checked(model, prompts)
    for chosen in stream(model, prompts, max_new_tokens, **options):
        for text, token in zip(texts, chosen, strict=True):
            text.append(int(token))
    return [np.array(text, np.int64) for text in texts]


def stream(
    model: Llama,
    prompts: Prompts,
    max_new_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    rng: np.random.Generator | None = None,
    cache: bool = True,
) -> Iterator[Array]:
    """Yields (B,), the next token of each row, as soon as it is chosen.

    Args: as in the GPT's `generate`; cache False runs the whole model for every token, for comparison.
    Raises ValueError for an empty prompt, tokens outside the vocabulary and options out of range, and if logits are NaN
    or infinite, naming the step and the row.
    """
    texts = checked(model, prompts)
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens must be at least 0, got {max_new_tokens}")
    check_options(temperature, top_k, top_p)
    rng = generator() if rng is None else rng

    def tokens() -> Iterator[Array]:
        logits = Cached(model, texts, max_new_tokens) if cache else Recomputed(model, texts)
        for step in range(max_new_tokens):
            chosen = choose(logits.next(), temperature, top_k, top_p, rng, step)
            yield chosen
            for text, token in zip(texts, chosen, strict=True):
                text.append(int(token))

    return tokens()


class Cached:
    """Logits of the next tokens of texts that grow by `new` tokens, with a KV cache while they fit into the context.

    The cache is as long as the texts will be: one for a context length of 131,072 would take gigabytes.
    """

    def __init__(self, model: Llama, texts: list[list[int]], new: int):
        self.size, self.texts = model.context_length, texts
        self.decoder = Decoder(model, len(texts), min(max(map(len, texts)) + new, self.size))

    def next(self) -> Array:
        fits = max(map(len, self.texts)) <= self.size
        if fits and self.decoder.lengths.all():
            return self.decoder.read([[text[-1]] for text in self.texts])
        self.decoder.reset()
        return self.decoder.read(*padded([text[-self.size :] for text in self.texts]))


class Recomputed:
    """The same by `Llama.forward`, for comparison."""

    def __init__(self, model: Llama, texts: list[list[int]]):
        self.model, self.texts = model, texts

    def next(self) -> Array:
        tokens, counts = padded([text[-self.model.context_length :] for text in self.texts])
        with evaluating(self.model):
            return self.model(tokens).data[np.arange(len(counts)), counts - 1]
