"""Text as numbers: nine of Shakespeare's plays, characters and their numbers, and windows for a language model."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scratch.data.bundled import read_bundled
from scratch.data.cache import read
from scratch.data.download import fetch
from scratch.data.order import WINDOWS, checked_seed, draws, is_whole, load_place
from scratch.data.sources import SOURCES

PLAYS = {
    "train": (
        "Hamlet",
        "Romeo and Juliet",
        "Macbeth",
        "Henry V",
        "Much Ado About Nothing",
        "The Comedy of Errors",
        "The Merchant of Venice",
    ),
    "validation": ("As You Like It",),
    "test": ("Twelfth Night",),
}


class Texts(NamedTuple):
    """To learn from, to choose by, and to report once."""

    train: str
    validation: str
    test: str


def load_shakespeare(folder: Path | None = None) -> Texts:
    """The plays of `PLAYS`, split by play: 865,114 characters to train, 118,766 to validate, 110,828 to test.

    A speech is a line `SPEAKER:`, its lines, and a blank line; 63 different characters, all of them in train.
    `folder` is read instead of the package's own files if it is given.
    Raises FileNotFoundError for a missing file and ValueError for a damaged one.
    """
    files = (read_bundled(f"shakespeare-{part}.txt.gz", folder) for part in Texts._fields)
    return Texts(*(gzip.decompress(file).decode("utf-8") for file in files))


def load_tiny_shakespeare(download: bool = True) -> tuple[str, str]:
    """(train, validation) of tiny-shakespeare as nanoGPT cuts it: the first nine tenths, 1,003,854 characters, and
    the last 111,540.

    For comparison with others' figures only: `load_shakespeare` validates on a play of its own. The file, 1.1 MB, is
    downloaded if it isn't here, unless `download` forbids it.
    Raises FileNotFoundError, saying where to put it, and ValueError if it is damaged.
    """
    source = SOURCES["tiny_shakespeare"]
    if download:
        fetch(source)
    text = read(source, source.files[0]).decode("utf-8")
    cut = int(len(text) * 0.9)
    return text[:cut], text[cut:]


class CharTokenizer:
    """Every character is a token; its number is its place in `vocabulary`.

    Raises ValueError for a vocabulary that is empty, repeats a character, or holds anything but single characters.
    """

    def __init__(self, vocabulary: Iterable[str]):
        self.vocabulary = list(vocabulary)
        wrong = [c for c in self.vocabulary if not isinstance(c, str) or len(c) != 1]
        if wrong or not self.vocabulary or len(set(self.vocabulary)) != len(self.vocabulary):
            raise ValueError(f"CharTokenizer expected different single characters, got {self.vocabulary!r:.200}")
        self._points = _code_points("".join(self.vocabulary))
        # From code point to number; −1 for what is not in the vocabulary, the last entry for all that lie above it.
        self._numbers = np.full(int(self._points.max()) + 2, -1, dtype=np.int64)
        self._numbers[self._points] = np.arange(len(self.vocabulary))

    @classmethod
    def fit(cls, text: str) -> CharTokenizer:
        """The tokenizer whose vocabulary is the characters of `text`, in the order of their code points."""
        return cls(sorted(set(text)))

    def __len__(self) -> int:
        return len(self.vocabulary)

    def encode(self, text: str) -> np.ndarray:
        """The characters' numbers, int64 of shape (len(text),). ValueError naming a character it does not know."""
        points = _code_points(text)
        numbers = self._numbers[np.minimum(points, len(self._numbers) - 1)]
        unknown = np.flatnonzero(numbers < 0)
        if len(unknown):
            at = int(unknown[0])
            raise ValueError(f"the character {text[at]!r} at position {at} is not in the vocabulary of {len(self)}")
        return numbers

    def decode(self, numbers: Any) -> str:
        """The text of these numbers. ValueError for one outside the vocabulary or more than one axis."""
        numbers = np.asarray(numbers)
        if numbers.size == 0:
            return ""
        if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
            raise ValueError(f"decode expected whole numbers of shape (N,), got {numbers.dtype} {numbers.shape}")
        if numbers.min() < 0 or numbers.max() >= len(self):
            raise ValueError(f"tokens go from 0 to {len(self) - 1}, got {numbers.min()} to {numbers.max()}")
        return self._points[numbers].tobytes().decode("utf-32-le", "surrogatepass")

    def state_dict(self) -> dict[str, list[str]]:
        """What a checkpoint keeps, fit for JSON; `CharTokenizer(**state)` makes the same tokenizer again."""
        return {"vocabulary": list(self.vocabulary)}

    def __repr__(self) -> str:
        return f"CharTokenizer({len(self)} characters)"


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


class TextWindows:
    """Endless iterator over random windows of a text and the same shifted by one: `x, y = next(windows)`.

        x = t[i : i + T],  y = t[i + 1 : i + T + 1],  i uniform over all places where both fit

    The places of batch `step` are a pure function of (seed, step). Shapes: tokens (N,) → x, y (batch_size, length).
    Raises ValueError if the text is shorter than length + 1.
    """

    def __init__(self, tokens: np.ndarray, length: int, batch_size: int, seed: int = 0):
        self.tokens = _checked_tokens(tokens, length, batch_size, "TextWindows")
        self.length = int(length)
        self.batch_size = int(batch_size)
        self.seed = checked_seed(seed)
        self.step = 0

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """The batch of this number, wherever the iterator stands."""
        starts = draws(self.batch_size, len(self.tokens) - self.length, self.seed, step, WINDOWS)
        at = starts[:, None] + np.arange(self.length)
        return self.tokens[at], self.tokens[at + 1]

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return self

    def __next__(self) -> tuple[np.ndarray, np.ndarray]:
        self.step += 1
        return self.batch(self.step - 1)

    def _settings(self) -> dict[str, int | bool]:
        return {"tokens": len(self.tokens), "length": self.length, "batch_size": self.batch_size, "seed": self.seed}

    def state_dict(self) -> dict[str, int | bool]:
        """The place in the order and what it depends on, fit for JSON."""
        return {**self._settings(), "step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue with the batch after the one given last when `state` was saved.

        Raises ValueError, before anything is changed, for a state of another text, window, batch size or seed.
        """
        (self.step,) = load_place(state, self._settings(), ("step",), "TextWindows")


def windows_in_order(tokens: np.ndarray, length: int, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Windows side by side in which every token but the first is a target exactly once; for evaluation.

    What is left at the end of the text comes as one shorter window, so weigh a batch's mean by y.size.
    Shapes: tokens (N,) → x, y (≤ batch_size, length), the last one (1, < length) where length does not divide N − 1.
    Raises ValueError at the call if the text is shorter than length + 1.
    """
    tokens = _checked_tokens(tokens, length, batch_size, "windows_in_order")
    full = (len(tokens) - 1) // length * length

    def windows() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        x, y = tokens[:full].reshape(-1, length), tokens[1 : full + 1].reshape(-1, length)
        for i in range(0, len(x), batch_size):
            yield x[i : i + batch_size], y[i : i + batch_size]
        if full < len(tokens) - 1:
            yield tokens[None, full:-1], tokens[None, full + 1 :]

    return windows()


def _checked_tokens(tokens: np.ndarray, length: int, batch_size: int, owner: str) -> np.ndarray:
    tokens = np.asarray(tokens)
    if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
        raise ValueError(f"{owner} expected tokens, whole numbers of shape (N,), got {tokens.dtype} {tokens.shape}")
    for name, value in (("length", length), ("batch_size", batch_size)):
        if not is_whole(value) or value < 1:
            raise ValueError(f"{owner}: {name} must be a whole number from 1, got {value!r}")
    if len(tokens) < length + 1:
        raise ValueError(f"{owner}: a window of {length} and its target need {length + 1} tokens, got {len(tokens)}")
    return tokens
