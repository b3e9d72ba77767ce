"""Writing with a GPT: choose the next token, append it, go on.

    p = softmax(logits / temperature)        cut to the k likeliest, or to the smallest set of probability top_p

Up to `context_length` tokens a cache of keys and values makes every step cheap. Beyond it the text slides through the
window: the last `context_length` tokens are read anew for every further one, as nanoGPT does. Positions are learned for
places in the window, and every token has moved by one, so that nothing kept would still be right.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Any

import numpy as np

from scratch.models.gpt.decoder import Decoder
from scratch.models.gpt.model import GPT
from scratch.module import evaluating
from scratch.random import generator
from scratch.sampling import check_scores, draw
from scratch.tensor import Array

Prompts = Array | Sequence[Any]


def generate(
    model: GPT,
    prompts: Prompts,
    max_new_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    rng: np.random.Generator | None = None,
    cache: bool = True,
) -> list[Array]:
    """Each prompt with `max_new_tokens` tokens after it.

    Args: prompts: rows of tokens, of any lengths from 1 up; a row's text does not depend on the others when nothing
            is drawn at random (temperature 0), and follows the same distribution otherwise.
        temperature: below 1 the likely becomes likelier; 0 takes the likeliest (greedy).
        top_k: keep the k likeliest tokens. top_p: keep the likeliest ones up to this probability together.
        rng: where the draws come from. cache: False runs the whole model for every token, to compare.
    Raises ValueError for an empty prompt, tokens that the model lacks, and options out of range; and where the model's
    scores are NaN or infinite, naming the step and the row.
    """
    texts = checked(model, prompts)
    options: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "rng": rng, "cache": cache}
    for chosen in stream(model, prompts, max_new_tokens, **options):
        for text, token in zip(texts, chosen, strict=True):
            text.append(int(token))
    return [np.array(text, np.int64) for text in texts]


def stream(
    model: GPT,
    prompts: Prompts,
    max_new_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    rng: np.random.Generator | None = None,
    cache: bool = True,
) -> Iterator[Array]:
    """The same, token by token: yields (B,), the next token of each row, as soon as it is chosen."""
    texts = checked(model, prompts)
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens must be at least 0, got {max_new_tokens}")
    check_options(temperature, top_k, top_p)
    rng = generator() if rng is None else rng
    scores = _cached(model, texts) if cache else _uncached(model, texts)

    def tokens() -> Iterator[Array]:
        logits = next(scores)
        for step in range(max_new_tokens):
            chosen = choose(logits, temperature, top_k, top_p, rng, step)
            yield chosen
            if step + 1 < max_new_tokens:
                logits = scores.send(chosen)

    return tokens()


# -- from scores to a token ---------------------------------------------------------------------------------------


def choose(
    logits: Array, temperature: float, top_k: int | None, top_p: float | None, rng: np.random.Generator,
    step: int | None = None,
) -> Array:  # fmt: skip
    """A token for each row: drawn from `distribution`, or the likeliest at temperature 0.  Shapes: (B, V) → (B,)

    Raises ValueError for scores that `check_scores` refuses, naming the step if it is given.
    """
    check_scores(logits, step)
    if temperature == 0:
        return logits.argmax(axis=1)
    return draw(distribution(logits, temperature, top_k, top_p), rng)


def distribution(
    logits: Any, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Array:
    """softmax(logits / temperature), cut to the k likeliest tokens, then to the nucleus, and scaled to the sum 1.

    The nucleus holds the likeliest tokens until their probabilities reach top_p (Holtzman et al. 2020); the first is
    always in it. Of equally likely tokens the ones with smaller numbers come first.
    Shapes: (B, V) → (B, V) in float64. Raises ValueError for options out of range, and for scores that are NaN, +∞, or
    −∞ for every token of a row; one of −∞ has the probability 0.
    """
    check_options(temperature, top_k, top_p)
    logits = np.asarray(logits, np.float64)
    check_scores(logits)
    if temperature == 0:
        return np.eye(logits.shape[1])[logits.argmax(axis=1)]
    with np.errstate(over="ignore"):  # of a temperature near 0: −∞, whose exponential is 0
        p = np.exp((logits - logits.max(axis=1, keepdims=True)) / temperature)
    p /= p.sum(axis=1, keepdims=True)
    if top_k is None and top_p is None:
        return p
    order = np.argsort(-p, axis=1, kind="stable")
    ranked = np.take_along_axis(p, order, axis=1)
    if top_k is not None:
        ranked[:, top_k:] = 0
        ranked /= ranked.sum(axis=1, keepdims=True)
    if top_p is not None:
        before = np.cumsum(ranked, axis=1) - ranked
        ranked[before >= top_p] = 0
        ranked /= ranked.sum(axis=1, keepdims=True)
    np.put_along_axis(p, order, ranked, axis=1)
    return p


# -- from tokens to scores ----------------------------------------------------------------------------------------


def _cached(model: GPT, texts: list[list[int]]) -> Generator[Array, Array, None]:
    """Receives the chosen tokens (B,), yields the scores of the next ones (B, V)."""
    size = model.context_length
    decoder = Decoder(model, len(texts))
    logits = decoder.read(*padded([text[-size:] for text in texts]))
    while True:
        chosen = yield logits
        for text, token in zip(texts, chosen, strict=True):
            text.append(int(token))
        if max(map(len, texts)) <= size:
            logits = decoder.read(chosen[:, None])
        else:  # some row has left the context: all windows are read anew
            decoder.reset()
            logits = decoder.read(*padded([text[-size:] for text in texts]))


def _uncached(model: GPT, texts: list[list[int]]) -> Generator[Array, Array, None]:
    """The same by `GPT.forward`, which the cache is compared with."""
    while True:
        tokens, counts = padded([text[-model.context_length :] for text in texts])
        with evaluating(model):
            logits = model(tokens).data[np.arange(len(texts)), counts - 1]
        chosen = yield logits
        for text, token in zip(texts, chosen, strict=True):
            text.append(int(token))


def padded(texts: Sequence[Sequence[int]]) -> tuple[Array, Array]:
    """Rows filled up on the right with token 0, which nothing before it sees, and their lengths: (B, T), (B,)."""
    counts = np.array([len(text) for text in texts])
    tokens = np.zeros((len(texts), counts.max()), np.int64)
    for text, row in zip(texts, tokens, strict=True):
        row[: len(text)] = text
    return tokens, counts


def checked(model: Any, prompts: Prompts) -> list[list[int]]:
    """The prompts as lists of tokens. Raises ValueError for what the model can't read, saying which and where."""
    rows = [np.asarray(row) for row in prompts]
    if not rows:
        raise ValueError("generate expected at least one prompt, got none")
    V = len(model.lm_head.weight)
    for i, row in enumerate(rows):
        if row.ndim == 1 and not len(row):
            raise ValueError(f"prompt {i} is empty: a GPT needs at least one token to go on from")
        if row.ndim != 1 or row.dtype.kind not in "iu":
            raise ValueError(f"prompt {i} must be whole numbers of shape (T,), got {row.dtype} {row.shape}")
        wrong = np.flatnonzero((row < 0) | (row >= V))
        if len(wrong):
            raise ValueError(f"prompt {i} expected tokens from 0 to {V - 1}, got {row[wrong[0]]} at {wrong[0]}")
    return [row.tolist() for row in rows]


def check_options(temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Raises ValueError for a temperature below 0, a top_k that is no whole number from 1, a top_p outside (0, 1]."""
    if not 0 <= temperature < np.inf:
        raise ValueError(f"temperature must be a number of at least 0, got {temperature}")
    if top_k is not None and (not isinstance(top_k, (int, np.integer)) or top_k < 1):
        raise ValueError(f"top_k must be a whole number of at least 1, got {top_k}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p must be above 0 and at most 1, got {top_p}")
