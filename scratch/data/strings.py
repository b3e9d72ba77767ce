"""Strings of random symbols to be copied, reversed or sorted: what is right is known, and nothing can be guessed.

    copy      dbacb  →  dbacb        look at the same place
    reverse   dbacb  →  bcabd        look from the end
    sort      dbacb  →  abbcd        look at everything, and count
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from scratch.data.dataset import split
from scratch.data.order import PAIRS, checked_seed, draws, is_whole
from scratch.data.pairs import Pairs, SequenceTokenizer, make_pairs

ALPHABET = "abcdefghijklmnopqrstuvwxyz"

STRINGS: dict[str, Callable[[str], str]] = {
    "copy": lambda text: text,
    "reverse": lambda text: text[::-1],
    "sort": lambda text: "".join(sorted(text)),
}


def load_strings(
    task: str = "reverse",
    count: int = 50_000,
    validation: int = 2000,
    test: int = 2000,
    lengths: tuple[int, int] = (4, 16),
    symbols: int = 10,
    seed: int = 0,
) -> Pairs:
    """`count` strings of the first `symbols` letters, lengths uniform from lengths[0] to lengths[1].

    Each is in one of the three parts only: no test string was ever trained on. All follows from the seed.
    Shapes: inputs int64 (N, lengths[1] + 1), targets int64 (N, lengths[1] + 2).
    Raises ValueError for an unknown task, lengths that do not ascend from 1, and other than 1 to 26 symbols.
    """
    if task not in STRINGS:
        raise ValueError(f"load_strings knows {', '.join(STRINGS)}, got {task!r}")
    low, high = lengths
    if not (is_whole(low) and is_whole(high)) or not 1 <= low <= high:
        raise ValueError(f"load_strings expected lengths (shortest, longest) from 1 up, got {lengths!r}")
    if not is_whole(symbols) or not 1 <= symbols <= len(ALPHABET):
        raise ValueError(f"load_strings expected 1 to {len(ALPHABET)} symbols, got {symbols!r}")
    tokenizer = SequenceTokenizer(ALPHABET[:symbols])
    texts = random_strings(count, (low, high), symbols, seed)
    pairs = make_pairs(task, tokenizer, texts, [STRINGS[task](text) for text in texts])
    return Pairs(task, tokenizer, *split(pairs, validation, test, seed))


def random_strings(count: int, lengths: tuple[int, int], symbols: int, seed: int = 0) -> list[str]:
    """`count` strings, each letter and each length as likely as any other; short ones may come more than once."""
    size = lengths[0] + draws(count, lengths[1] - lengths[0] + 1, checked_seed(seed), 0, PAIRS)
    letters = draws(count * lengths[1], symbols, seed, 1, PAIRS).reshape(count, lengths[1])
    codes = (letters + ord("a")).astype(np.uint8)
    return [row[:n].tobytes().decode("ascii") for row, n in zip(codes, size.tolist(), strict=True)]
