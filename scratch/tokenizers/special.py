"""Added tokens, such as <|im_end|>: they are cut out of a text before anything else is done to it.

    "a <mask>b"  with <mask> as an added token that takes the white space on its left     "a", 50264, "b"

Of several that fit, the one that begins first is taken, and of those that begin there the longest; only then does it
take white space. Two passes are made: the first over the text as it is, the second, for tokens with `normalized`, over
what a tokenizer's normalizer makes of the rest. Sources: the library `tokenizers`, added_vocabulary.rs.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from scratch.messages import shown
from scratch.tokenizers.split import SPACES, WHITE

MAX_NAME = 1000  # characters; the time to look for tokens grows with it
WHITE_RUN = re.compile(f"[{SPACES}]*")
JOINERS = "\u200c\u200d"
LETTERS_IN_CIRCLES = ((0x24B6, 0x24E9), (0x1F130, 0x1F149), (0x1F150, 0x1F169), (0x1F170, 0x1F189))


class Special(NamedTuple):
    """An added token's number, and how it is looked for.

    lstrip, rstrip: white space on that side belongs to it. single_word: it is one only between characters that are no
    part of a word. normalized: it is looked for after the normalizer. special: `decode` can leave it out, and `encode`
    can take its name for text; False for tokens that are text themselves, such as <think> or a run of spaces.
    """

    number: int
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False
    normalized: bool = False
    special: bool = True


class Cutter:
    """Cuts a text at added tokens: "a<end>b" gives "a", 7, "b", in time that is linear in the text.

    Args: tokens: {name: Special}. normalise: what happens to a text before tokens with `normalized` are looked for.
    Raises ValueError for a name that is no text, empty or longer than 1,000 characters, and for two that become alike.
    """

    def __init__(self, tokens: Mapping[str, Special], normalise: Callable[[str], str] = str):
        self.normalise = normalise
        first = {checked_name(name): token for name, token in tokens.items() if not token.normalized}
        second = [(checked_name(normalise(checked_name(name))), token)
                  for name, token in tokens.items() if token.normalized]  # fmt: skip
        if len(dict(second)) != len(second):
            raise ValueError("two added tokens are the same text after the normalizer")
        self._passes = (OnePass(first), OnePass(dict(second)))

    def cut(self, text: str, special: bool = True) -> Iterator[str | int]:
        """Pieces of normalised text, none of them empty, and numbers of tokens, in order. special: False: the names of
        special tokens are text."""
        for part in self._passes[0].cut(text, special):
            if isinstance(part, int):
                yield part
            else:
                yield from self._passes[1].cut(self.normalise(part), special)


class OnePass:
    """The tokens that are looked for in one form of a text."""

    def __init__(self, tokens: dict[str, Special]):
        self.tokens = tokens
        self._names = sorted(tokens)
        self._longest = max(map(len, tokens), default=0)
        self._shorter: dict[str, str] = {}  # the longest token that each begins with, "" for none
        inside = [""]
        for name in self._names:
            while not name.startswith(inside[-1]):
                inside.pop()
            self._shorter[name] = inside[-1]
            inside.append(name)
        self._begin = (
            re.compile("[" + "".join(sorted({re.escape(name[0]) for name in tokens})) + "]") if tokens else None
        )

    def cut(self, text: str, special: bool) -> Iterator[str | int]:
        at = white_end = 0  # where the last token ended, and where the white space that one of them took ends
        for start, name in self._found(text):
            token, end = self.tokens[name], start + len(name)
            if token.special and not special:
                continue
            if token.single_word and (is_word(text[start - 1 : start]) or is_word(text[end : end + 1])):
                continue
            if token.lstrip:
                start = at + len(text[at:start].rstrip(WHITE))
            if token.rstrip:
                if end > white_end:
                    found = WHITE_RUN.match(text, end)
                    white_end = found.end() if found else end
                end = white_end
            if at < start:
                yield text[at:start]
            if start < end:  # else the token before, which took white space, has taken all of this one
                yield token.number
            at = end
        if at < len(text):
            yield text[at:]

    def _found(self, text: str) -> Iterator[tuple[int, str]]:
        """(where, name): the leftmost token, of those the longest, and on behind it."""
        at = 0
        while self._begin and (found := self._begin.search(text, at)):
            at = found.start()
            name = self._longest_at(text, at)
            if name:
                yield at, name
            at += len(name) or 1

    def _longest_at(self, text: str, at: int) -> str:
        """The longest token that the text goes on with, "" for none. In the order of the alphabet it is the last one
        that isn't behind the text, or one that this begins with."""
        place = bisect_right(self._names, text[at : at + self._longest])
        name = self._names[place - 1] if place else ""
        while not text.startswith(name, at):
            name = self._shorter[name]
        return name


def is_word(character: str) -> bool:
    r"""\w of Unicode: letters, marks, decimal digits, connectors such as _, joiners. False for "" at a text's ends."""
    if not character:
        return False
    if unicodedata.category(character) in ("Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "Pc"):
        return True
    return character in JOINERS or any(a <= ord(character) <= b for a, b in LETTERS_IN_CIRCLES)


def checked_name(name: object) -> str:
    """The name of an added token. Raises ValueError."""
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        raise ValueError(f"expected names of special tokens with 1 to {MAX_NAME} characters, got {shown(name)!r}")
    return checked_text("a special token", name)


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
