"""What the recurrent networks are trained on.

    text      characters, read in parallel streams, the state carried from piece to piece       language model
    adding    two of T numbers are marked: what is their sum?                                   classifier
    rows      a digit of 28 × 28 pixels, row after row: which one?                              classifier
    series    24 years of sunspots: how many next year?                                         classifier
    copy      five symbols, a pause, a sign: now say them                                       tagger
    parity    bits: is the number of ones so far even or odd?                                   tagger
    dates     "the 3rd of March, 1997" → "1997-03-03"                                           encoder and decoder

What is generated follows from the seed in the code, not from that of the run: every run sees the same rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from scratch.data import CharTokenizer, load_digits, load_shakespeare, load_sunspots, load_tiny_shakespeare

IGNORED = -100
Rows = tuple[np.ndarray, np.ndarray, np.ndarray]  # inputs (N, T, in), lengths (N,), targets (N,), (N, T) or (N, 1)
COPIED, SYMBOLS = 5, 8
SPOTS = 100.0  # so many sunspots are 1 to the network
YEARS = (1901, 1941)  # the first year to choose by, and the first to report


@dataclass(frozen=True)
class Text:
    """Running text: the parts as tokens, `test` empty where a set has none."""

    tokenizer: CharTokenizer
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    def __str__(self) -> str:
        sizes = " / ".join(f"{len(part):,}" for part in (self.train, self.validation, self.test) if len(part))
        return f"{sizes} characters, {len(self.tokenizer)} different"

    @property
    def guess(self) -> tuple[str, float]:
        """What knowing nothing costs: its name and its value."""
        return f"ln {len(self.tokenizer)}", math.log(len(self.tokenizer))


@dataclass(frozen=True)
class Sequences:
    """Rows of steps, each with an answer, or with one for every step.

    Args: outputs: classes, or how many numbers are to be estimated (`numbers`). every_step: an answer at each.
        guess: what knowing nothing costs. baselines: figures of simple methods on the test rows, to stand beside.
    """

    name: str
    outputs: int
    train: Rows
    validation: Rows
    test: Rows
    guess: tuple[str, float]
    numbers: bool = False
    every_step: bool = False
    baselines: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        sizes = " / ".join(f"{len(part[0]):,}" for part in (self.train, self.validation, self.test))
        return f"{sizes} sequences of up to {self.train[0].shape[1]} steps with {self.train[0].shape[2]} numbers each"


def text(name: str) -> Text:
    """The plays (test: a play of its own), or tiny-shakespeare as nanoGPT cuts it, without a test part."""
    parts = (*load_tiny_shakespeare(), "") if name == "tiny_shakespeare" else load_shakespeare()
    tokenizer = CharTokenizer.fit("".join(parts) if name == "tiny_shakespeare" else parts[0])
    return Text(tokenizer, *(tokenizer.encode(part) for part in parts))


def pieces(tokens: np.ndarray, length: int, streams: int = 64) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """x and y (streams, ≤ length), piece after piece, all of the text but fewer tokens than there are streams.

    Raises ValueError for a text of fewer tokens than streams + 1.
    """
    each = (len(tokens) - 1) // streams
    if each < 1:
        raise ValueError(f"expected a text of at least {streams + 1} characters, got {len(tokens)}")
    x, y = (tokens[k : k + streams * each].reshape(streams, each) for k in (0, 1))
    return ((x[:, i : i + length], y[:, i : i + length]) for i in range(0, each, length))


def adding(length: int, sizes: tuple[int, ...] = (40_000, 1000, 2000), seed: int = 0) -> Sequences:
    """Each step a number from U(0, 1) and a mark; one mark in each half. The sum of the two marked numbers is asked.

    Always saying 1 has the error 2 · 1/12 = 1/6  (Hochreiter and Schmidhuber 1997; Le, Jaitly and Hinton 2015).
    """
    if length < 2:
        raise ValueError(f"adding expected a length of at least 2, got {length}")
    rng, N = np.random.default_rng(seed), sum(sizes)
    x = np.zeros((N, length, 2), np.float32)
    x[:, :, 0] = rng.random((N, length), np.float32)
    places = rng.integers(0, length // 2, N), rng.integers(length // 2, length, N)
    y = np.zeros((N, 1), np.float32)
    for place in places:
        x[np.arange(N), place, 1] = 1
        y[:, 0] += x[np.arange(N), place, 0]
    parts = cut(x, np.full(N, length), y, sizes=sizes)
    return Sequences("adding", 1, *parts, guess=("1/6", 1 / 6), numbers=True)


def copy(length: int, sizes: tuple[int, ...] = (40_000, 1000, 2000), seed: int = 0) -> Sequences:
    """Five symbols of eight, `length` blanks, a sign, and then the five are asked (Hochreiter and Schmidhuber 1997).

    A step is one of ten signs, as a row of ten numbers: the eight symbols, the blank, "now".
    """
    rng, N = np.random.default_rng(seed), sum(sizes)
    symbols = rng.integers(0, SYMBOLS, (N, COPIED))
    blanks = np.full((N, length + COPIED), SYMBOLS)
    blanks[:, length] = SYMBOLS + 1
    x = np.eye(SYMBOLS + 2, dtype=np.float32)[np.concatenate([symbols, blanks], axis=1)]
    y = np.full((N, length + 2 * COPIED), IGNORED)
    y[:, -COPIED:] = symbols
    parts = cut(x, np.full(N, x.shape[1]), y, sizes=sizes)
    return Sequences("copy", SYMBOLS, *parts, guess=(f"ln {SYMBOLS}", math.log(SYMBOLS)), every_step=True)


def parity(length: int, sizes: tuple[int, ...] = (20_000, 1000, 1000), seed: int = 0) -> Sequences:
    """Bits, and after each whether an even (0) or an odd (1) number of ones has come.

    Strings to learn from and to choose by have 1 to `length` bits, those of the test ten times `length`: whoever has
    understood goes on for ever.
    """
    rng, N = np.random.default_rng(seed), sum(sizes)
    lengths = rng.integers(1, length + 1, N)
    lengths[N - sizes[2] :] = 10 * length
    x = rng.integers(0, 2, (N, 10 * length, 1)).astype(np.float32)
    y = np.where(np.arange(10 * length) < lengths[:, None], np.cumsum(x[:, :, 0], axis=1).astype(np.int64) % 2, IGNORED)
    *known, test = cut(x, lengths, y, sizes=sizes)
    train, validation = ((rows[:, :length], n, asked[:, :length]) for rows, n, asked in known)
    return Sequences("parity", 2, train, validation, test, guess=("ln 2", math.log(2)), every_step=True)


def rows(length: int = 28) -> Sequences:
    """The bundled digits, a row of pixels a step, from above."""
    train, validation, test = ((part.inputs[:, 0], np.full(len(part), 28), part.targets)
                               for part in load_digits(flat=False))  # fmt: skip
    return Sequences("rows", 10, train, validation, test, guess=("ln 10", math.log(10)))


def series(length: int) -> Sequences:
    """`length` years of sunspots, in hundreds, and the next one: to learn from up to 1900, to report from 1941.

    Baselines, as root of the mean squared error in sunspots: as many as last year; a linear function of the same years,
    by least squares.
    """
    years, values = load_sunspots()
    if not 1 <= length < 200:
        raise ValueError(f"series expected a length of 1 to 199 years, got {length}")
    windows = np.lib.stride_tricks.sliding_window_view(values / SPOTS, length + 1)
    x, y, year = windows[:, :-1, None].astype(np.float32), windows[:, -1:].astype(np.float32), years[length:]
    sizes = tuple(np.diff(np.searchsorted(year, (0, *YEARS, 9999))).tolist())
    train, validation, test = cut(x, np.full(len(x), length), y, sizes=sizes)
    fit, asked = [np.pad(part[0][:, :, 0], ((0, 0), (0, 1)), constant_values=1) for part in (train, test)], test[2]
    weights = np.linalg.lstsq(fit[0], train[2], rcond=None)[0]
    found = {"as last year": test[0][:, -1], "linear": fit[1] @ weights}
    baselines = {f"RMSE {name}": float(SPOTS * np.sqrt(((y - asked) ** 2).mean())) for name, y in found.items()}
    guess = ("their variance", float(train[2].var()))
    return Sequences("series", 1, train, validation, test, guess=guess, numbers=True, baselines=baselines)


def cut(x: np.ndarray, lengths: np.ndarray, y: np.ndarray, sizes: tuple[int, ...]) -> tuple[Rows, Rows, Rows]:
    """The rows shared out in this order: to learn from, to choose by, to report."""
    ends = np.cumsum(sizes)
    train, validation, test = ((x[i:j], lengths[i:j], y[i:j]) for i, j in zip((0, *ends[:2]), ends, strict=True))
    return train, validation, test


SEQUENCES: dict[str, Callable[[int], Sequences]] = {
    "adding": adding, "copy": copy, "parity": parity, "rows": rows, "series": series,
}  # fmt: skip
