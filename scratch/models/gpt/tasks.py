"""What a GPT can be trained on: text that goes on, and questions whose answers follow them.

Every task is text to the model: tokens in, the same tokens shifted by one as targets. A question's own characters are
no targets (−100, which `cross_entropy` leaves out): nobody can foresee them, and nobody asks.

    sort     354180>013458      six digits, put in order         add      47+85=231      the sum, its last digit first
    repeat   a segment of random letters over and over; what is seen for the second time can be foretold
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from scratch.data import CharTokenizer, load_shakespeare, load_tiny_shakespeare
from scratch.data.order import SPLIT, shuffled
from scratch.data.text import windows_in_order

IGNORED = -100
Pairs = Iterator[tuple[np.ndarray, np.ndarray]]


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

    def pairs(self, part: np.ndarray, context_length: int, batch_size: int = 64) -> Pairs:
        """All of it in windows side by side, for evaluation."""
        return windows_in_order(part, context_length, batch_size)


@dataclass(frozen=True)
class Questions:
    """Rows of tokens (N, L), question and answer; `given` tokens of a row are the question."""

    tokenizer: CharTokenizer
    given: int
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    def __str__(self) -> str:
        sizes = " / ".join(f"{len(part):,}" for part in (self.train, self.validation, self.test))
        return f"{sizes} questions such as {self.tokenizer.decode(self.train[0])}"

    def shifted(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """x and the targets y, in which what belongs to the question is ignored.  (N, L) → (N, L−1) twice"""
        x, y = rows[:, :-1], rows[:, 1:].copy()
        y[:, : self.given - 1] = IGNORED
        return x, y

    def pairs(self, part: np.ndarray, context_length: int, batch_size: int = 500) -> Pairs:
        x, y = self.shifted(part)
        return ((x[i : i + batch_size], y[i : i + batch_size]) for i in range(0, len(x), batch_size))


@dataclass(frozen=True)
class Rounds(Questions):
    """Rows that go round and round. Until its first letter comes again, nothing of a row can be foretold."""

    def shifted(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x, y = rows[:, :-1], rows[:, 1:].copy()
        period = 1 + (y == rows[:, :1]).argmax(axis=1)  # where the first letter comes again
        y[np.arange(1, rows.shape[1]) <= period[:, None]] = IGNORED
        return x, y


def text(name: str) -> Text:
    """The plays (test: a play of its own), or tiny-shakespeare as nanoGPT cuts it, without a test part."""
    parts = (*load_tiny_shakespeare(), "") if name == "tiny_shakespeare" else load_shakespeare()
    tokenizer = CharTokenizer.fit("".join(parts) if name == "tiny_shakespeare" else parts[0])
    return Text(tokenizer, *(tokenizer.encode(part) for part in parts))


def sort_digits() -> Questions:
    """All 1,000,000 rows of six digits, 5,000 of them to choose by and 5,000 to report."""
    numbers = shuffled(1_000_000, 0, 0, SPLIT)
    digits = numbers[:, None] // 10 ** np.arange(6) % 10
    tokenizer = CharTokenizer("0123456789>")
    mark = np.full((len(numbers), 1), 10)
    return _questions(tokenizer, 7, np.concatenate([digits, mark, np.sort(digits, axis=1)], axis=1), 5000)


def add_numbers() -> Questions:
    """All 10,000 sums of two numbers below 100, 1,000 of them to choose by and 1,000 to report.

    The sum stands with its last digit first, as in minGPT: a carry is then known before it is needed.
    """
    numbers = shuffled(10_000, 0, 0, SPLIT)
    a, b = numbers // 100, numbers % 100
    plus, equals = np.full(len(numbers), 10), np.full(len(numbers), 11)
    columns = [a // 10, a % 10, plus, b // 10, b % 10, equals, *((a + b) // 10**k % 10 for k in range(3))]
    return _questions(CharTokenizer("0123456789+="), 6, np.stack(columns, axis=1), 1000)


def repeats(length: int = 33, longest: int = 16, rows: int = 20_000, seed: int = 0) -> Rounds:
    """A segment of 6 to `longest` different letters of 32, over and over.

    Segments differ in length, so that counting places does not help: the model must look for the letter itself, which
    a segment has only once.
    """
    rng = np.random.default_rng(seed)
    period = rng.integers(6, longest + 1, (rows, 1))
    segment = rng.permuted(np.tile(np.arange(len(LETTERS)), (rows, 1)), axis=1)
    text = np.take_along_axis(segment, np.arange(length) % period, axis=1)
    parts = _questions(CharTokenizer(LETTERS), longest + 1, text, rows // 20)
    return Rounds(**vars(parts))


LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEF"


def _questions(tokenizer: CharTokenizer, given: int, rows: np.ndarray, held_out: int) -> Questions:
    """The first `held_out` rows to report, as many to choose by, the others to learn from."""
    return Questions(tokenizer, given, rows[2 * held_out :], rows[held_out : 2 * held_out], rows[:held_out])


TASKS: dict[str, Callable[[], Text | Questions]] = {
    "shakespeare": lambda: text("shakespeare"),
    "tiny_shakespeare": lambda: text("tiny_shakespeare"),
    "sort": sort_digits,
    "add": add_numbers,
    "repeat": repeats,
}
