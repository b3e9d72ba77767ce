"""Byte-level byte-pair encoding: GPT-2's tokens (Radford et al. 2019, after Sennrich et al. 2016).

    text ─ split in pieces ─ UTF-8 bytes, each written as a letter ─ merge pairs ─ tokens ─ numbers
    " low"                   Ġ l o w                                 Ġ low         [220, 9319]

A merge is a pair of neighbours that becomes one token; the list of them, in the order in which training found them, is
the tokenizer. To encode a piece: of all pairs of neighbours in it take the one that stands first in the list, merge it
wherever it occurs, and repeat until no pair is in the list. The 256 bytes are tokens, so that there is a way to write
any text, and what is decoded is the text, to the byte.

Files can't hold bytes as such, so each has a printable letter: itself where it is one (a, é), else the next one from
Ā up (Ġ is the space, Ċ the line's end).
"""

from __future__ import annotations

import codecs
import heapq
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from scratch.messages import shown
from scratch.tokenizers.special import Cutter, Special, checked_text, fits
from scratch.tokenizers.split import RULES
from scratch.tokenizers.truncation import checked_truncation, shortened

Merge = tuple[str, str]


def byte_letters() -> list[str]:
    """The letter of each byte, as GPT-2 chose them; in the order of code points they are its first 256 tokens."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


LETTERS = byte_letters()
TO_LETTERS = str.maketrans({chr(byte): letter for byte, letter in enumerate(LETTERS)})
TO_BYTES = str.maketrans({letter: chr(byte) for byte, letter in enumerate(LETTERS)})
MAX_REMEMBERED = 1 << 17  # pieces


def to_letters(text: str) -> str:
    """ "é l" → "Ã©Ġl" """
    return text.encode("utf-8").decode("latin-1").translate(TO_LETTERS)


def to_bytes(letters: str) -> bytes:
    """The bytes behind letters; what is no byte's letter (in a special token) stays as it is, in UTF-8."""
    try:
        return letters.translate(TO_BYTES).encode("latin-1")
    except UnicodeEncodeError:
        return letters.encode("utf-8")


# -- merging ----------------------------------------------------------------------------------------------------


def merge_plain(symbols: Sequence[str], ranks: Mapping[Merge, int]) -> list[str]:
    """Merge the pair that comes first in the list, wherever it is; repeat until none is left."""
    symbols = list(symbols)
    while True:
        pairs = [pair for pair in zip(symbols, symbols[1:], strict=False) if pair in ranks]
        if not pairs:
            return symbols
        symbols = merged(symbols, min(pairs, key=lambda pair: ranks[pair]))


def merged(symbols: Sequence[str], pair: Merge) -> list[str]:
    """Every occurrence of the pair as one symbol, from the left: (a, a) in a a a gives aa a."""
    found: list[str] = []
    at = 0
    while at < len(symbols):
        if tuple(symbols[at : at + 2]) == pair:
            found.append(pair[0] + pair[1])
            at += 2
        else:
            found.append(symbols[at])
            at += 1
    return found


def merge(symbols: Sequence[str], ranks: Mapping[Merge, int]) -> list[str]:
    """The same in O(n log n): candidates wait in a heap by rank and place, symbols are a list linked both ways."""
    parts: list[str | None] = list(symbols)
    n = len(parts)
    after, before = list(range(1, n + 1)), list(range(-1, n - 1))
    heap = [(rank, i, i + 1, pair) for i, pair in enumerate(zip(symbols, symbols[1:], strict=False))
            if (rank := ranks.get(pair)) is not None]  # fmt: skip
    heapq.heapify(heap)
    while heap:
        _, left, right, pair = heapq.heappop(heap)
        if after[left] != right or (parts[left], parts[right]) != pair:
            continue  # one of the two has been merged with another
        parts[left], parts[right] = pair[0] + pair[1], None
        after[left] = end = after[right]
        if end < n:
            before[end] = left
        for i, j in ((before[left], left), (left, end)):
            if 0 <= i and j < n:
                new = (parts[i], parts[j])
                rank = ranks.get(new)  # type: ignore[arg-type]
                if rank is not None:
                    heapq.heappush(heap, (rank, i, j, new))  # type: ignore[misc]
    return [part for part in parts if part is not None]


# -- the tokenizer ----------------------------------------------------------------------------------------------


class ByteLevelBPE:
    """Text to numbers and back.

    Args: vocabulary: {token, in letters: number}. merges: pairs of tokens, the most important first. special: added
            tokens such as <|endoftext|>, outside of the vocabulary or in it. rule: how text is split, of RULES.
        begin, end: numbers that `encode` puts around a text. unknown: the number of a byte that the vocabulary lacks;
            None: such a text is refused. prefix_space: whether a text that begins with none gets a space.
        whole: whether a piece that is in the vocabulary is taken at once, whatever the merges make of it (Llama 3).
        max_length, truncation_side: how many numbers `encode` gives at most, and where it cuts; None: no limit.
    Raises ValueError for a vocabulary whose numbers repeat or aren't whole, a merge of what isn't in it, an unknown
    rule or side, and numbers around a text that aren't tokens.
    """

    def __init__(
        self, vocabulary: Mapping[str, int], merges: Iterable[Merge], special: Mapping[str, Special] | None = None, *,
        rule: str = "gpt2", begin: Sequence[int] = (), end: Sequence[int] = (), unknown: int | None = None,
        prefix_space: bool = False, whole: bool = False, max_length: int | None = None, truncation_side: str = "right",
    ):  # fmt: skip
        if rule not in RULES:
            raise ValueError(f"ByteLevelBPE has the rules {', '.join(RULES)}, got {shown(rule)!r}")
        self.vocabulary, self.special, self.rule = dict(vocabulary), dict(special or {}), rule
        self.merges, self.unknown, self.prefix_space, self.whole = list(merges), unknown, prefix_space, whole
        self.tokens = by_number(self.vocabulary, {name: each.number for name, each in self.special.items()})
        self.begin, self.end = list(begin), list(end)
        self.max_length, self.truncation_side = max_length, truncation_side
        lacking = [each for each in (*begin, *end, *([] if unknown is None else [unknown]))
                   if type(each) is not int or each not in self.tokens]  # fmt: skip
        if lacking:
            raise ValueError(f"ByteLevelBPE: begin, end and unknown must be numbers of tokens, got {shown(lacking[0])}")
        checked_truncation(max_length, truncation_side, "longest_first", len(self.begin) + len(self.end))
        made = checked_merges(self.merges, self.vocabulary)
        self._as_written = {name for name in self.special if name not in made and name not in LETTERS}
        self._ranks: dict[Merge, int] = {}
        for rank, pair in enumerate(self.merges):
            self._ranks.setdefault(pair, rank)
        self._cutter = Cutter(self.special)
        self._remembered: dict[str, list[int]] = {}

    def __len__(self) -> int:
        """One more than the largest number, which is how many tokens a model must know."""
        return max(self.tokens) + 1

    def encode(self, text: str, special: bool = True, around: bool = True) -> np.ndarray:
        """The text's numbers, int64 (T,), at most `max_length`.

        Args: special: whether special tokens in the text are recognised; not in what strangers write. around: whether
            `begin` and `end` go around it.
        Raises ValueError for what is no text, and for a byte that isn't in the vocabulary where there is no `unknown`.
        """
        body = self.body(text, special)
        begin, end = (self.begin, self.end) if around else ([], [])
        if self.max_length is not None:
            shortened([body, []], self.max_length - len(begin) - len(end), self.truncation_side)
        return np.array([*begin, *body, *end], np.int64)

    def body(self, text: str, special: bool = True) -> list[int]:
        """All numbers of a text, without any around it, however many they are. Raises what `encode` raises."""
        numbers: list[int] = []
        split, prefix_space = RULES[self.rule], self.prefix_space
        for part in self._cutter.cut(checked_text("encode", text), special):
            if isinstance(part, int):
                numbers.append(part)
                continue
            for piece in split(part, prefix_space):
                numbers += self._remembered.get(piece) or self._encode(piece)
        return numbers

    def _encode(self, piece: str) -> list[int]:
        """The numbers of one piece, which are remembered: a few words make up most of a text."""
        letters = to_letters(piece)
        whole = self.whole and letters in self.vocabulary and letters not in self._as_written
        symbols = [letters] if whole else merge(letters, self._ranks)
        numbers = [self.vocabulary.get(symbol, self.unknown) for symbol in symbols]
        if None in numbers:
            raise ValueError(f"the vocabulary lacks the byte {symbols[numbers.index(None)]!r} of {shown(piece)!r}")
        if len(self._remembered) < MAX_REMEMBERED and len(piece) < 100:
            self._remembered[piece] = numbers  # type: ignore[assignment]
        return numbers  # type: ignore[return-value]

    def decode(self, numbers: Any, special: bool = True) -> str:
        """The text of these numbers; bytes that are no UTF-8 become �. special: whether special tokens are written.

        Raises ValueError for a number without a token.
        """
        return b"".join(self.bytes_of(number, special) for number in listed(numbers)).decode("utf-8", "replace")

    def bytes_of(self, number: int, special: bool = True) -> bytes:
        """What one token stands for, maybe a part of a character."""
        token = self.tokens.get(number)
        if token is None:
            raise ValueError(f"decode expected numbers of tokens below {len(self)}, got {number}")
        if not special and token in self.special and self.special[token].special:
            return b""
        return token.encode("utf-8") if token in self._as_written else to_bytes(token)

    def fits(self, vocab_size: int, model: str = "the model") -> None:
        """Raises ValueError where a model knows fewer tokens than there are here."""
        fits(self, len(self), vocab_size, model)

    def __repr__(self) -> str:
        return f"ByteLevelBPE({len(self.tokens)} tokens, {len(self.merges)} merges, rule {self.rule!r})"


class TextStream:
    """Text from tokens that come one by one: a character whose bytes are spread over several waits for the last."""

    def __init__(self, tokenizer: ByteLevelBPE, special: bool = False):
        self.tokenizer, self.special = tokenizer, special
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, number: int) -> str:
        """The text that this token completes. Raises ValueError for what is no number of a token."""
        return self._decoder.decode(self.tokenizer.bytes_of(listed([number])[0], self.special))

    def close(self) -> str:
        """What is left of a character that never became whole."""
        return self._decoder.decode(b"", final=True)


def by_number(vocabulary: Mapping[str, Any], added: Mapping[str, Any] = MappingProxyType({})) -> dict[int, str]:
    """{number: token} of a vocabulary and of added tokens, which may be in the vocabulary with the same number.

    Raises ValueError unless all are text that UTF-8 can hold, and different whole numbers.
    """
    found: dict[int, str] = {}
    for token, number in (*vocabulary.items(), *added.items()):
        if not isinstance(token, str) or type(number) is not int or not 0 <= number < 2**31:
            raise ValueError(f"expected a vocabulary of text and whole numbers from 0 to 2**31 - 1, got "
                             f"{shown(token)!r}: {shown(number)}")  # fmt: skip
        if found.setdefault(number, token) != token:
            raise ValueError(f"the tokens {shown(found[number])!r} and {shown(token)!r} share the number {number}")
        if vocabulary.get(token, number) != number:
            raise ValueError(f"the added token {shown(token)!r} has the number {number}, and another in the vocabulary")
    if not found:
        raise ValueError("expected a vocabulary, got an empty one")
    for token in found.values():
        checked_text("a token", token)
    return found


def checked_merges(merges: Sequence[Merge], vocabulary: Mapping[str, int]) -> set[str]:
    """The tokens that merges make. Raises ValueError for a merge of, or into, what isn't in the vocabulary."""
    made = set()
    for left, right in merges:
        lacking = [token for token in (left, right, left + right) if token not in vocabulary]
        if lacking:
            raise ValueError(f"ByteLevelBPE: the merge {shown(left)!r} {shown(right)!r} needs {shown(lacking[0])!r}, "
                             "which isn't in the vocabulary")  # fmt: skip
        made.add(left + right)
    return made


def listed(numbers: Any) -> list[int]:
    numbers = np.asarray(numbers)
    if numbers.size and (numbers.ndim != 1 or numbers.dtype.kind not in "iu"):
        raise ValueError(f"decode expected whole numbers of shape (T,), got {numbers.dtype} {numbers.shape}")
    return numbers.reshape(-1).tolist()
