"""Special tokens: marks such as <|im_end|> that are cut out of a text before anything else is done to it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple


class Special(NamedTuple):
    """A mark's number, and whether white space on its left or right belongs to it."""

    number: int
    lstrip: bool = False
    rstrip: bool = False


class Cutter:
    """Cuts a text at its special tokens: "a<end>b" gives "a", 7, "b". Of several that fit, the longest counts.

    Raises ValueError for a special token that is no text or empty.
    """

    def __init__(self, special: Mapping[str, Special]):
        wrong = [name for name in special if not isinstance(name, str) or not name]
        if wrong:
            raise ValueError(f"expected the names of special tokens, got {wrong[0]!r}")
        self.special = dict(special)
        longest_first = sorted(special, key=len, reverse=True)
        marks = [r"\s*" * special[name].lstrip + re.escape(name) + r"\s*" * special[name].rstrip
                 for name in longest_first]  # fmt: skip
        self._names, self._pattern = longest_first, re.compile("|".join(f"({mark})" for mark in marks))

    def cut(self, text: str) -> Iterator[str | int]:
        """Pieces of plain text, none of them empty, and numbers of special tokens, in order."""
        at = 0
        for found in self._pattern.finditer(text) if self.special else ():
            if found.start() > at:
                yield text[at : found.start()]
            assert found.lastindex is not None
            yield self.special[self._names[found.lastindex - 1]].number
            at = found.end()
        if at < len(text):
            yield text[at:]


def checked_text(who: str, text: object) -> str:
    """`text`, if it is one that UTF-8 can hold. Raises ValueError."""
    if not isinstance(text, str):
        raise ValueError(f"{who} expected a str, got {type(text).__name__}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"{who}: half a surrogate pair at {error.start} is no character") from None
    return text


def fits(tokenizer: object, size: int, vocab_size: int, model: str) -> None:
    """Raises ValueError where a tokenizer has more tokens than a model knows."""
    if size > vocab_size:
        raise ValueError(f"{tokenizer} has numbers up to {size - 1}, {model} has {vocab_size} tokens: they are no pair")
