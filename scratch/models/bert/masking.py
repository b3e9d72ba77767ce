"""Gaps in a text: some tokens are hidden, and asked for (Devlin et al. 2019, section 3.1).

Of every 100 tokens 15 are chosen. Of these

    80 %   become [MASK]                        the gap
    10 %   become a token drawn at random       a place without [MASK] may be wrong, so each must be thought about
    10 %   stay as they are                     and may be right

and the loss asks for what stood at all the chosen places. [MASK] never comes in a text that a trained model is used
on; the two tenths are there so that its features are good without it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from scratch.tensor import Array

CHOSEN, MASKED, RANDOM = 0.15, 0.8, 0.1


def hide(
    text: Array, mask: int, rng: np.random.Generator,
    chosen: float = CHOSEN, masked: float = MASKED, random: float = RANDOM,
) -> tuple[Array, Array]:  # fmt: skip
    """(the text with gaps, bool: the places asked for). Tokens from 0 to mask − 1, [MASK] is `mask`.  (B, T) → twice

    Every text has at least one place: a loss over none would be no number.
    """
    places = rng.random(text.shape) < chosen
    places[np.arange(len(text)), rng.integers(0, text.shape[1], len(text))] |= ~places.any(axis=1)
    fate = rng.random(text.shape)
    others = rng.integers(0, mask, text.shape)
    x = np.where(places & (fate < masked), mask, text)
    return np.where(places & (fate >= masked) & (fate < masked + random), others, x), places


def examined(text: Array, length: int, mask: int, seed: int = 0, batch_size: int = 64) -> Iterator[tuple[Array, ...]]:
    """All of a text in windows side by side, as (with gaps, the text, the places), each (B, length).

    Here all chosen places become [MASK], so that nothing of an answer is seen; they depend on the seed alone, and all
    models are asked for the same ones. What is left at the end, shorter than a window, is left out.
    Raises ValueError for a text shorter than a window.
    """
    count = len(text) // length
    if not count:
        raise ValueError(f"the text has {len(text)} tokens, fewer than a window of {length}")
    windows = text[: count * length].reshape(count, length)
    places = np.random.default_rng(seed).random(windows.shape) < CHOSEN
    places[np.flatnonzero(~places.any(axis=1)), 0] = True
    for start in range(0, count, batch_size):
        rows = slice(start, start + batch_size)
        yield np.where(places[rows], mask, windows[rows]), windows[rows], places[rows]
