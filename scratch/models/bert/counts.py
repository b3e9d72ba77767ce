"""Filling gaps by counting: how often was it each character, between such neighbours?

    P₀(c) = n(c) / N
    P_k(c | the k neighbours) = (n(neighbours, c) + a_k P_{k−1}(c)) / (n(neighbours) + a_k)

The neighbours come in the order of `ORDER`, the nearest first: one more narrows the count, and where it was seen rarely
the shorter count is leant on, by a_k imagined texts (Witten and Bell's and others' kind of smoothing; MacKay and Peto
1995 for this form). a_k is chosen on validation text. The neighbours are the true ones: where one of them is hidden
too, this model sees what a BERT does not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scratch.tensor import Array

ORDER = (-1, 1, -2, 2)  # the character before, after, two before, two after
STRENGTHS = tuple(float(10 ** (x / 4)) for x in range(-2, 13))  # 0.3 … 1000


class Counts:
    """Counts of characters between their neighbours.

    Args: text: (N,) tokens to count. vocab_size. neighbours: how many of ORDER are looked at, 0 to 4.
    """

    def __init__(self, text: Array, vocab_size: int, neighbours: int):
        if not 0 <= neighbours <= len(ORDER):
            raise ValueError(f"Counts expected 0 to {len(ORDER)} neighbours, got {neighbours}")
        self.V, self.strengths = vocab_size, [1.0] * neighbours
        self.frequency = np.bincount(text, minlength=vocab_size) / len(text)
        everywhere = np.arange(len(text))
        self.tables = [Table(self.code(text, everywhere, k), text, vocab_size) for k in range(1, neighbours + 1)]

    def code(self, text: Array, places: Array, k: int) -> Array:
        """The first k neighbours of each place as one number; the text's two ends are each other's neighbours."""
        code = np.zeros(len(places), np.int64)
        for offset in ORDER[:k]:
            code = code * self.V + text.take(places + offset, mode="wrap")
        return code

    def p(self, text: Array, places: Array) -> Array:
        """The probability of the character that stands at each place, from its neighbours.  → (len(places),)"""
        p = self.frequency[text[places]]
        for k, (table, a) in enumerate(zip(self.tables, self.strengths, strict=True), start=1):
            with_it, all_of_them = table.look_up(self.code(text, places, k), text[places])
            p = (with_it + a * p) / (all_of_them + a)
        return p

    def loss(self, text: Array, places: Array) -> float:
        """The mean of −ln p over the places; no p counts as less than 10⁻¹², for a character that the text lacks."""
        return float(-np.log(np.maximum(self.p(text, places), 1e-12)).mean())

    def choose(self, text: Array, places: Array, strengths: Sequence[float] = STRENGTHS) -> Counts:
        """The strengths a_1 … a_k with the lowest loss, one after the other."""
        for k in range(len(self.strengths)):
            losses = []
            for a in strengths:
                self.strengths[k] = a
                part = Shorter(self, k + 1)
                losses.append(part.loss(text, places))
            self.strengths[k] = strengths[int(np.argmin(losses))]
        return self


class Shorter(Counts):
    """The same counts, with the first k neighbours only."""

    def __init__(self, whole: Counts, k: int):
        self.V, self.frequency = whole.V, whole.frequency
        self.tables, self.strengths = whole.tables[:k], whole.strengths[:k]


class Table:
    """How often each (neighbours, character) came, and how often the neighbours, both sorted to be looked up."""

    def __init__(self, codes: Array, characters: Array, vocab_size: int):
        self.V = vocab_size
        self.pairs, self.pair_counts = np.unique(codes * vocab_size + characters, return_counts=True)
        self.codes, self.code_counts = np.unique(codes, return_counts=True)

    def look_up(self, codes: Array, characters: Array) -> tuple[Array, Array]:
        return (_count(self.pairs, self.pair_counts, codes * self.V + characters),
                _count(self.codes, self.code_counts, codes))  # fmt: skip


def _count(keys: Array, counts: Array, wanted: Array) -> Array:
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, counts[place], 0)
