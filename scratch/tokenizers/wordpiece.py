"""WordPiece, BERT's tokens (Devlin et al. 2018, after Schuster and Nakajima 2012).

    "Déjà-vu, unaffable!"
      clean        control characters go, white space becomes a space, Chinese characters stand alone
      lower case   "deja-vu, unaffable!"                       and without accents
      words        deja  -  vu  ,  unaffable  !                at spaces and around every punctuation mark
      tokens       deja  -  vu  ,  una  ##ffa  ##ble  !        the longest token that fits, again and again
      marks        [CLS] … [SEP], or [CLS] … [SEP] … [SEP] for a pair

A token that doesn't begin a word has ## in front. A word that can't be made of tokens, or of more than 100 characters,
is [UNK] as a whole. Case and spacing are lost: what decodes is a text with the same tokens, not the same text.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from scratch.messages import shown
from scratch.tokenizers.bpe import by_number, listed
from scratch.tokenizers.special import Cutter, Special, checked_text, fits
from scratch.tokenizers.split import SPACE
from scratch.tokenizers.truncation import checked_truncation, shortened

MAX_REMEMBERED = 1 << 17  # words
ASCII_OR_NOT = re.compile(r"[\x00-\x7f]+|[^\x00-\x7f]+")
# What `cleanup` takes the space before away from; "n't" and the like are tokens of other vocabularies than BERT's.
JOINED = (".", "?", "!", ",", "n't", "'m", "'s", "'ve", "'re")
# Blocks of Chinese characters, first and last, as BERT lists them; the library `tokenizers` has the one from 0x2B820
# begin at 0x2B920. Hangul and kana are left as they are.
CHINESE = ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F),
           (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F))  # fmt: skip


class Batch(NamedTuple):
    """What BERT reads. numbers (B, T): tokens, padded at the end. mask (B, T): 1 at tokens, 0 at padding. types (B, T):
    0 for the first text, 1 for the second one of a pair."""

    numbers: np.ndarray
    mask: np.ndarray
    types: np.ndarray


# -- words ------------------------------------------------------------------------------------------------------


def cleaned(text: str) -> str:
    """Without control characters, with every white space as a space."""
    return "".join(" " if SPACE.match(c) else c for c in text if c in "\t\n\r" or not _is_control(c))


def _is_control(c: str) -> bool:
    """Control characters, invisible ones, private ones; what Unicode has not assigned may be a letter tomorrow."""
    return c in "\0\ufffd" or unicodedata.category(c) in ("Cc", "Cf", "Co", "Cs")


def spaced_chinese(text: str) -> str:
    """Chinese has no spaces between words, so that each character is one."""
    return "".join(f" {c} " if is_chinese(c) else c for c in text)


def is_chinese(c: str) -> bool:
    return c > "\u33ff" and any(first <= ord(c) <= last for first, last in CHINESE)


def without_accents(text: str) -> str:
    """é → e: taken apart (NFD), the marks (category Mn) dropped."""
    parts = "".join(part if part.isascii() else nfd(part) for part in ASCII_OR_NOT.findall(text))
    return "".join(c for c in parts if unicodedata.category(c) != "Mn")


def nfd(text: str) -> str:
    """Unicode's NFD: characters taken apart, then marks in a row sorted by their class, which Python's own function
    does in quadratic time: 40,000 marks take it 1.6 s."""
    if len(text) < 1000:
        return unicodedata.normalize("NFD", text)
    apart = "".join(unicodedata.normalize("NFD", c) for c in text)
    rows = itertools.groupby(apart, key=lambda c: unicodedata.combining(c) > 0)
    return "".join("".join(sorted(row, key=unicodedata.combining) if marks else row) for marks, row in rows)


def lowered(text: str) -> str:
    """Character by character: a final sigma is as every other one, σ."""
    return "".join(c.lower() for c in text)


def is_punctuation(c: str) -> bool:
    """Unicode's punctuation, and what else ASCII has on a keyboard, such as $ + < ^ `"""
    return "!" <= c <= "/" or ":" <= c <= "@" or "[" <= c <= "`" or "{" <= c <= "~" or unicodedata.category(c)[0] == "P"


def words(text: str) -> Iterator[str]:
    """A text cut at white space, every punctuation mark for itself."""
    word = ""
    for c in text:
        alone = is_punctuation(c)
        if word and (alone or SPACE.match(c)):
            yield word
            word = ""
        if alone:
            yield c
        elif not SPACE.match(c):
            word += c
    if word:
        yield word


# -- the tokenizer ----------------------------------------------------------------------------------------------


class WordPiece:
    """Text to BERT's numbers.

    Args: vocabulary: {token: number}, with [UNK], [CLS], [SEP] and [PAD] or as they are named below. lowercase: also
            takes accents away unless strip_accents says otherwise. chinese: Chinese characters are words. clean:
            control characters go. unknown, first, last, pad: the names of the marks. special: the names of further
            marks that are recognised in texts; or all of the added tokens, {name: Special}. max_letters: of a word.
        max_length, truncation_side, truncation_strategy: of a row where no length is given, and where and what it
            cuts; None: no limit. cleanup: whether `decode` writes no space before . ? ! , and English endings.
    Raises ValueError for a vocabulary whose numbers repeat or aren't whole, or that lacks a mark.
    """

    def __init__(
        self, vocabulary: Mapping[str, int], *, lowercase: bool = True, strip_accents: bool | None = None,
        chinese: bool = True, clean: bool = True, unknown: str = "[UNK]", first: str = "[CLS]", last: str = "[SEP]",
        pad: str = "[PAD]", special: Sequence[str] | Mapping[str, Special] = ("[MASK]",), max_letters: int = 100,
        max_length: int | None = None, truncation_side: str = "right", truncation_strategy: str = "longest_first",
        prefix: str = "##", cleanup: bool = False,
    ):  # fmt: skip
        self.vocabulary, self.prefix, self.cleanup = dict(vocabulary), prefix, cleanup
        self.lowercase, self.chinese, self.clean = lowercase, chinese, clean
        self.strip_accents = lowercase if strip_accents is None else strip_accents
        self.max_letters, self.max_length = max_letters, max_length
        self.truncation_side, self.truncation_strategy = truncation_side, truncation_strategy
        checked_truncation(max_length, truncation_side, truncation_strategy, 2)
        marks = (unknown, first, last, pad)
        if not isinstance(special, Mapping):
            names = [name for name in dict.fromkeys([*marks, *special]) if name in self.vocabulary]
            special = {name: Special(self.vocabulary[name]) for name in names}
        self.special = dict(special)
        self._cutter = Cutter(self.special, self.normalised)
        numbers = {name: each.number for name, each in self.special.items()}
        self.tokens = by_number(self.vocabulary, numbers)
        lacking = [mark for mark in marks if mark not in self.vocabulary and mark not in numbers]
        if lacking:
            raise ValueError(f"WordPiece: the vocabulary of {len(self.vocabulary)} tokens lacks "
                             f"{', '.join(map(shown, lacking))}")  # fmt: skip
        self.unknown, self.first, self.last, self.pad = ((self.vocabulary | numbers)[mark] for mark in marks)
        self.tokens |= {each.number: self.normalised(name) for name, each in special.items() if each.normalized}
        self._hidden = {each.number for each in self.special.values() if each.special}
        self._longest = max(map(len, self.vocabulary), default=0)
        self._remembered: dict[str, list[int]] = {}

    def __len__(self) -> int:
        """One more than the largest number, which is how many tokens a model must know."""
        return max(self.tokens) + 1

    def encode(
        self, text: str, pair: str | None = None, max_length: int | None = None, around: bool = True
    ) -> np.ndarray:
        """[CLS] text [SEP], or [CLS] text [SEP] pair [SEP], int64 (T,); without the marks if `around` is False.

        Where it is longer than max_length, it is cut as `truncation_side` and `truncation_strategy` say.
        Raises ValueError for what is no text, and a max_length that leaves no room for the marks.
        """
        return np.array(sum(self._parts(text, pair, max_length, around), []), np.int64)

    def encode_batch(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, max_length: int | None = None
    ) -> Batch:
        """Rows of the same length, padded at their ends. Raises ValueError for no texts, or pairs of another number."""
        if isinstance(texts, str) or not len(texts) or pairs is not None and len(pairs) != len(texts):
            raise ValueError("encode_batch expected a list of texts, at least one, and as many second ones or none")
        second: Sequence[str | None] = [None] * len(texts) if pairs is None else pairs
        rows = [self._parts(text, pair, max_length, True) for text, pair in zip(texts, second, strict=True)]
        longest = max(sum(map(len, row)) for row in rows)
        batch = Batch(*(np.zeros((len(rows), longest), np.int64) for _ in range(3)))
        batch.numbers[:] = self.pad
        for i, (a, b) in enumerate(rows):
            length = len(a) + len(b)
            batch.numbers[i, :length], batch.mask[i, :length] = a + b, 1
            batch.types[i, len(a) : length] = 1
        return batch

    def _parts(self, text: str, pair: str | None, max_length: int | None, around: bool) -> list[list[int]]:
        bodies = [self.body(text), [] if pair is None else self.body(pair)]
        marks = 0 if not around else 2 if pair is None else 3
        limit = self.max_length if max_length is None else max_length
        if limit is not None:
            if limit < marks:
                raise ValueError(f"encode expected a max_length of at least {marks}, for the marks, got {limit}")
            shortened(bodies, limit - marks, self.truncation_side, self.truncation_strategy)
        if around:
            bodies[0] = [self.first, *bodies[0], self.last]
            bodies[1] = bodies[1] if pair is None else [*bodies[1], self.last]
        return bodies

    def body(self, text: str) -> list[int]:
        """The numbers of a text, without marks around it."""
        numbers: list[int] = []
        for part in self._cutter.cut(checked_text("encode", text)):
            if isinstance(part, int):
                numbers.append(part)
                continue
            for word in words(part):
                found = self._remembered.get(word)
                if found is None:
                    found = self._pieces(word)
                    if len(self._remembered) < MAX_REMEMBERED:
                        self._remembered[word] = found
                numbers += found
        return numbers

    def normalised(self, text: str) -> str:
        text = cleaned(text) if self.clean else text
        text = spaced_chinese(text) if self.chinese else text
        text = without_accents(text) if self.strip_accents else text
        return lowered(text) if self.lowercase else text

    def _pieces(self, word: str) -> list[int]:
        """A word's tokens: from each place on the longest that there is. [UNK] if at one place there is none."""
        numbers: list[int] = []
        at = 0 if len(word) <= self.max_letters else -1
        while 0 <= at < len(word):
            prefix = self.prefix if at else ""
            for end in range(min(len(word), at + self._longest), at, -1):
                number = self.vocabulary.get(prefix + word[at:end])
                if number is not None:
                    numbers.append(number)
                    at = end
                    break
            else:
                at = -1
        return numbers if at >= 0 else [self.unknown]

    def decode(self, numbers: Any, special: bool = True) -> str:
        """Tokens with spaces between, those with ## joined to the one before. special: whether marks are written.

        Raises ValueError for a number without a token.
        """
        parts: list[str] = []
        for number in listed(numbers):
            token = self.tokens.get(number)
            if token is None:
                raise ValueError(f"decode expected numbers of tokens below {len(self)}, got {number}")
            if number in self._hidden and not special:
                continue
            inside = parts and token.startswith(self.prefix)
            close = inside or not parts or self.cleanup and token.startswith(JOINED)
            parts.append(token[len(self.prefix) :] if inside else token if close else " " + token)
        return "".join(parts)

    def fits(self, vocab_size: int, model: str = "the model") -> None:
        """Raises ValueError where a model knows fewer tokens than there are here."""
        fits(self, len(self), vocab_size, model)

    def __repr__(self) -> str:
        return f"WordPiece({len(self.vocabulary)} tokens, {'lower case' if self.lowercase else 'with case'})"
