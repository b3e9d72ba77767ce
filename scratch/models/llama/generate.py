"""Writing with a Llama: read the prompt, choose a token, append it, go on; choosing is the GPT's.

Up to the model's context a cache of keys and values makes every step cheap. A model that was trained on 64 places has
never seen a distance of 65, so beyond its context the text slides through the window, as with the GPT: the last tokens
are read anew. The rotation itself would allow more; nothing but training stands against it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from scratch.models.gpt.generate import Prompts, check_options, checked, choose, padded
from scratch.models.llama.decoder import Decoder
from scratch.models.llama.inside import looking
from scratch.models.llama.model import Llama
from scratch.random import generator
from scratch.tensor import Array


def generate(model: Llama, prompts: Prompts, max_new_tokens: int, **options: Any) -> list[Array]:
    """Each prompt with `max_new_tokens` tokens after it; options and errors as `stream`."""
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

    Args: as the GPT's `generate`; cache False runs the whole model for every token, to compare.
    Raises ValueError for an empty prompt, tokens that the model lacks, and options out of range; and where the model's
    scores are NaN or infinite, naming the step and the row.
    """
    texts = checked(model, prompts)
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens must be at least 0, got {max_new_tokens}")
    check_options(temperature, top_k, top_p)
    rng = generator() if rng is None else rng

    def tokens() -> Iterator[Array]:
        scores = Cached(model, texts, max_new_tokens) if cache else Recomputed(model, texts)
        for step in range(max_new_tokens):
            chosen = choose(scores.next(), temperature, top_k, top_p, rng, step)
            yield chosen
            for text, token in zip(texts, chosen, strict=True):
                text.append(int(token))

    return tokens()


class Cached:
    """Scores of the next tokens of texts that grow by `new`, from a cache while they fit into the context; the cache is
    as long as the texts will be, for a context of 131,072 places would take gigabytes."""

    def __init__(self, model: Llama, texts: list[list[int]], new: int):
        self.size, self.texts = model.max_position_embeddings, texts
        self.decoder = Decoder(model, len(texts), min(max(map(len, texts)) + new, self.size))

    def next(self) -> Array:
        fits = max(map(len, self.texts)) <= self.size
        if fits and self.decoder.lengths.all():
            return self.decoder.read([[text[-1]] for text in self.texts])
        self.decoder.reset()
        return self.decoder.read(*padded([text[-self.size :] for text in self.texts]))


class Recomputed:
    """The same by `Llama.forward`, which the cache is compared with."""

    def __init__(self, model: Llama, texts: list[list[int]]):
        self.model, self.texts = model, texts

    def next(self) -> Array:
        tokens, counts = padded([text[-self.model.max_position_embeddings :] for text in self.texts])
        with looking(self.model):
            return self.model(tokens).data[np.arange(len(counts)), counts - 1]
