"""Writing the answer: from scores for one token after the other to the likeliest sequence.

    greedy   yₜ = argmax P(y | x, y₁ … yₜ₋₁)                          one hypothesis, and never a second thought
    beam     the W hypotheses of highest log P(Y | x) go on           a first token may be forgiven
             the best is that of highest log P(Y | x) / lp(Y),  lp(Y) = ((5 + |Y|) / 6)^α

log P falls with every token, so that without lp short answers win (Wu et al. 2016, eq. 14, α = 0.6 … 0.7). |Y| counts
the tokens after begin, the end among them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from scratch.activations import log_softmax
from scratch.models.transformer.cache import CachedDecoder
from scratch.sampling import check_scores
from scratch.tensor import no_grad

BEGIN, END = 1, 2


class Beams(NamedTuple):
    """tokens (B, W, T): the hypotheses of each source, the best first, without begin, padded after their ends.
    scores (B, W): log P / lp of each."""

    tokens: np.ndarray
    scores: np.ndarray


def greedy(model: Any, source: Any, max_length: int | None = None, cache: bool = True) -> np.ndarray:
    """The likeliest token, each time, up to the end or to `max_length` tokens; rows that ended are filled with padding.

    `cache=False` computes all places anew for each token, for which a model needs only `encode` and `decode`.
    Shapes: source (B, S) → tokens (B, T), without begin, T the longest answer.
    Raises ValueError for a max_length outside 1 … model.max_length, and where the scores of a row that has not ended
    are NaN or infinite, naming the step and the row.
    """
    longest = _longest(model, max_length)
    with _evaluating(model):
        decoder = _decoder(model, source, 1, cache)
        begin, end = _marks(model)
        token, running, answer = np.full(len(source), begin), np.ones(len(source), bool), []
        for step in range(longest):
            logits = decoder.read(token)
            check_scores(logits, step, running)
            token = np.where(running, logits.argmax(axis=1), model.pad)
            answer.append(token)
            running &= token != end
            if not running.any():
                break
    return np.stack(answer, axis=1)


def beam_search(
    model: Any, source: Any, width: int = 4, alpha: float = 0.6, max_length: int | None = None, cache: bool = True
) -> Beams:
    """The `width` hypotheses of highest log P, ranked at the end by log P / ((5 + |Y|) / 6)^alpha.

    A hypothesis that ends keeps its place, and the search goes on with as many fewer (Sutskever et al. 2014); so width
    1 is greedy, and a width of as many places as there are sequences tries them all. One of `max_length` tokens stops
    there. Shapes: source (B, S) → tokens (B, W, T), scores (B, W).
    Raises ValueError for a width that is no whole number of at least 1, a negative alpha, and a max_length outside
    1 … model.max_length; and where the scores of a hypothesis that goes on are NaN or infinite, naming step and row.
    """
    if not isinstance(width, (int, np.integer)) or width < 1 or not alpha >= 0:
        raise ValueError(f"beam_search expected width >= 1 and alpha >= 0, got {width} and {alpha}")
    longest, B = _longest(model, max_length), len(source)
    begin, end = _marks(model)
    tokens = np.full((B, width, 1), begin)
    log_p = np.full((B, width), -np.inf)
    log_p[:, 0] = 0  # at first all hypotheses are the same one
    running, lengths = np.ones((B, width), bool), np.zeros((B, width), int)
    with _evaluating(model):
        decoder = _decoder(model, source, width, cache)
        for step in range(longest):
            logits = decoder.read(tokens[:, :, -1].reshape(-1))
            check_scores(logits, step, (running & (log_p > -np.inf)).reshape(-1), width)
            V = logits.shape[-1]
            longer = log_p[:, :, None] + log_softmax(logits, dim=-1).data.reshape(B, width, V)
            longer[~running] = -np.inf  # the one continuation of a hypothesis that has ended is padding,
            longer[~running & (log_p > -np.inf), model.pad] = np.inf  # which comes before all others and costs nothing
            best = np.argsort(-longer.reshape(B, width * V), axis=1, kind="stable")[:, :width]
            parent, token = best // V, best % V
            row = np.arange(B)[:, None]
            chosen = longer[row, parent, token]
            log_p = np.where(chosen == np.inf, log_p[row, parent], chosen)
            lengths = lengths[row, parent] + running[row, parent]
            running = running[row, parent] & (token != end)
            tokens = np.concatenate([tokens[row, parent], token[:, :, None]], axis=2)
            if not (running & (log_p > -np.inf)).any():
                break
            decoder.keep((row * width + parent).reshape(-1))
    scores = log_p / length_penalty(lengths, alpha)
    order = np.argsort(-scores, axis=1, kind="stable")
    return Beams(tokens[row, order, 1:], scores[row, order])


def length_penalty(length: Any, alpha: float) -> Any:
    """lp = ((5 + |Y|) / 6)^α  (Wu et al. 2016, eq. 14)"""
    return ((5 + length) / 6) ** alpha


# -- what the searches ask ------------------------------------------------------------------------------------------


class RecomputingDecoder:
    """What `CachedDecoder` does, by the model's own `encode` and `decode` of all that was written so far."""

    def __init__(self, model: Any, source: Any, width: int = 1):
        with no_grad():
            memory, padding = model.encode(source)
        self.model, self.memory = model, memory[np.arange(len(source)).repeat(width)]
        self.padding = padding.repeat(width, axis=0)
        self.written = np.zeros((len(source) * width, 0), int)

    def read(self, tokens: np.ndarray) -> np.ndarray:
        """Logits of the token after these.  Shapes: (B·W,) → (B·W, V)"""
        self.written = np.concatenate([self.written, tokens[:, None]], axis=1)
        with no_grad():
            return self.model.decode(self.written, self.memory, self.padding).data[:, -1]

    def keep(self, rows: np.ndarray) -> None:
        self.written = self.written[rows]


def _decoder(model: Any, source: Any, width: int, cache: bool) -> Any:
    return (CachedDecoder if cache else RecomputingDecoder)(model, source, width)


def _marks(model: Any) -> tuple[int, int]:
    """The tokens that begin and end an answer; published models have their own."""
    return getattr(model, "begin", BEGIN), getattr(model, "end", END)


def _longest(model: Any, max_length: int | None) -> int:
    longest = model.max_length if max_length is None else max_length
    if not isinstance(longest, (int, np.integer)) or not 1 <= longest <= model.max_length:
        raise ValueError(f"max_length must be from 1 to {model.max_length}, got {max_length}")
    return int(longest)


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """The model without dropout, and afterwards as it was."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
