"""Pairs of sequences, one to be turned into the other: text as rows of tokens with padding, begin and end.

    "cab"  →  "abc"        source  c a b $           (S)     the text and the end
                           target  ^ a b c $         (T)     begin, the text, the end; · fills up shorter rows

A model reads the source and the target without its last token, and is asked for the target without its first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scratch.data.dataset import Dataset
from scratch.data.text import CharTokenizer

PAD, BEGIN, END = 0, 1, 2
SPECIAL = 3  # how many of them there are
SHOWN = "·^$"


class SequenceTokenizer:
    """Every character is a token, after three of its own: padding 0, begin 1 and end 2.

    Raises ValueError for characters that are repeated, or none.
    """

    def __init__(self, characters: Iterable[str]):
        self.characters = CharTokenizer(characters)

    def __len__(self) -> int:
        return SPECIAL + len(self.characters)

    def encode(self, texts: Sequence[str], begin: bool = False, end: bool = True) -> np.ndarray:
        """The texts as rows of one length, padded at their ends: int64 (N, longest), all in a few NumPy calls.

        Raises ValueError for a single text (write [text]), for no text, and for a character that is not known, saying
        which and in which text.
        """
        if isinstance(texts, str) or len(texts) == 0:
            raise ValueError(f"encode expected a list of at least one text, got {texts!r}")
        lengths = np.array([len(text) for text in texts])
        rows = np.full((len(texts), begin + lengths.max() + end), PAD, dtype=np.int64)
        column = np.arange(rows.shape[1])
        rows[(column >= begin) & (column < begin + lengths[:, None])] = self._numbers(texts)
        if begin:
            rows[:, 0] = BEGIN
        if end:
            rows[np.arange(len(texts)), begin + lengths] = END
        return rows

    def _numbers(self, texts: Sequence[str]) -> np.ndarray:
        try:
            return SPECIAL + self.characters.encode("".join(texts))
        except ValueError:
            known = set(self.characters.vocabulary)
            wrong, text = next((c, text) for text in texts for c in text if c not in known)
            raise ValueError(
                f"the character {wrong!r} in {text!r} is not known; known are {''.join(self.characters.vocabulary)}"
            ) from None

    def decode(self, rows: Any) -> list[str]:
        """The text of every row up to its first end, without padding and begin.  (N, T) → N texts

        Raises ValueError for numbers outside the vocabulary, and for other than two axes.
        """
        rows = np.asarray(rows)
        if rows.ndim != 2 or (rows.size and rows.dtype.kind not in "iu"):
            raise ValueError(f"decode expected whole numbers of shape (N, T), got {rows.dtype} {rows.shape}")
        if rows.size and (rows.min() < 0 or rows.max() >= len(self)):
            raise ValueError(f"tokens go from 0 to {len(self) - 1}, got {rows.min()} to {rows.max()}")
        before_end = np.cumsum(rows == END, axis=1) == 0
        return [self.characters.decode(row[kept & (row >= SPECIAL)] - SPECIAL)
                for row, kept in zip(rows, before_end, strict=True)]  # fmt: skip

    def symbols(self, row: Any) -> list[str]:
        """A sign for each token of a row, the three special ones as · ^ $; labels of a picture's axis."""
        return [SHOWN[t] if t < SPECIAL else self.characters.vocabulary[t - SPECIAL] for t in np.asarray(row).tolist()]

    def state_dict(self) -> dict[str, list[str]]:
        """What a checkpoint keeps, fit for JSON; `SequenceTokenizer(**state)` makes the same tokenizer again."""
        return {"characters": list(self.characters.vocabulary)}

    def __repr__(self) -> str:
        return f"SequenceTokenizer({len(self.characters)} characters and 3 special tokens)"


@dataclass(frozen=True, eq=False)
class Pairs:
    """A task: sources and targets to learn from, to choose by and to report once, and their common vocabulary.

    In each data set, inputs (N, S) are sources, text and end; targets (N, T) are begin, text and end.
    """

    name: str
    tokenizer: SequenceTokenizer
    train: Dataset
    validation: Dataset
    test: Dataset

    def __str__(self) -> str:
        sizes = " / ".join(f"{len(part):,}" for part in (self.train, self.validation, self.test))
        source, target = (self.tokenizer.decode(rows[:1])[0] for rows in self.train.arrays)
        return f"{sizes} pairs such as {source} → {target}"


def make_pairs(name: str, tokenizer: SequenceTokenizer, sources: Sequence[str], targets: Sequence[str]) -> Dataset:
    """The texts as a data set of rows of tokens."""
    return Dataset(name, tokenizer.encode(sources), tokenizer.encode(targets, begin=True))


def trimmed(*batch: np.ndarray) -> tuple[np.ndarray, ...]:
    """Each array without the columns at its end that hold nothing but padding.  Shapes: (B, T) → (B, longest row)"""
    return tuple(rows[:, : 1 + int(np.flatnonzero((rows != PAD).any(axis=0)).max(initial=0))] for rows in batch)
