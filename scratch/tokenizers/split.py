"""Text in pieces, before tokens: GPT-2's rule, which no token crosses.

    's|'t|'re|'ve|'m|'ll|'d      an English ending
    | ?\\p{L}+                    letters, with the space before them: " was" is one piece, so that words keep spaces
    | ?\\p{N}+                    digits
    | ?[^\\s\\p{L}\\p{N}]+          anything else but white space
    |\\s+(?!\\S)                   white space, less its last character where a word follows, which that may need
    |\\s+

The first alternative that fits at a place counts, as long as it goes. \\p{L} are Unicode's letters (categories L…),
\\p{N} its numbers (Nd, Nl, No). The pieces joined are the text.

Source: Radford et al. 2019, encoder.py. Python's `re` has no \\p{L}. `split_plain` below is the rule in words;
`split_gpt2` writes it for `re`, whose \\w is letters, numbers and the underscore; they are tested equal for every
character there is.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable
from functools import cache

ENDINGS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")
# Unicode's White_Space; str.isspace has four separators more, of files and records
SPACES = "\t\n\v\f\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
WHITE = "".join(c for c in map(chr, range(0x3001)) if c.isspace() and c not in "\x1c\x1d\x1e\x1f")  # the same
SPACE = re.compile(f"[{SPACES}]")
THREE = re.compile(r"[0-9]{3}|(?:(?![0-9]{3})[\s\S])+")  # three digits, or all up to the next three
LAST_ODD_NUMBER = 0x20000  # beyond it, Unicode has no numbers that aren't digits


def split_plain(text: str) -> list[str]:
    """The pieces of a text by GPT-2's rule, one character after the other."""
    pieces, at = [], 0
    while at < len(text):
        end = _end(text, at)
        pieces.append(text[at:end])
        at = end
    return pieces


def _end(text: str, at: int) -> int:
    """Where the piece that begins at `at` ends."""
    for ending in ENDINGS:
        if text.startswith(ending, at):
            return at + len(ending)
    start = at + (text[at] == " ")
    if start < len(text) and kind(text[start]) != "space":
        return _run(text, start)
    end = _run(text, at)
    return end if end == len(text) or end == at + 1 else end - 1


def _run(text: str, at: int) -> int:
    """The end of the characters of one kind that begin at `at`."""
    end = at + 1
    while end < len(text) and kind(text[end]) == kind(text[at]):
        end += 1
    return end


def kind(character: str) -> str:
    """ "letter", "number", "space" or "other" """
    if SPACE.match(character):
        return "space"
    return {"L": "letter", "N": "number"}.get(unicodedata.category(character)[0], "other")


@cache
def gpt2_pattern() -> re.Pattern[str]:
    """The rule for `re`: a letter is a \\w that is no digit, no underscore and no odd number such as ² or Ⅷ."""
    odd = "".join(map(chr, filter(_is_odd_number, range(LAST_ODD_NUMBER))))
    letter, number, other = rf"[^\W\d_{odd}]", rf"[\d{odd}]", rf"(?:[^\w{SPACES}]|_)"
    return re.compile(
        rf"'s|'t|'re|'ve|'m|'ll|'d| ?{letter}+| ?{number}+| ?{other}+|[{SPACES}]+(?![^{SPACES}])|[{SPACES}]+"
    )


@cache
def number_pattern() -> re.Pattern[str]:
    odd = "".join(map(chr, filter(_is_odd_number, range(LAST_ODD_NUMBER))))
    return re.compile(rf"[\d{odd}]|[^\d{odd}]+")


def _is_odd_number(point: int) -> bool:
    return unicodedata.category(chr(point)) in ("Nl", "No")


def split_gpt2(text: str, prefix_space: bool = False) -> list[str]:
    """What `split_plain` gives, in two thirds of the time. prefix_space: a text that begins with none gets a space."""
    return gpt2_pattern().findall(with_space(text) if prefix_space else text)


def split_smollm(text: str, prefix_space: bool = False) -> list[str]:
    """Every number is a piece of its own, and what lies between is split by GPT-2's rule (SmolLM, StarCoder).

    prefix_space: every such part that begins with none gets a space, as the library's ByteLevel does it after Digits.
    """
    parts = number_pattern().findall(text)
    if prefix_space:
        parts = [with_space(part) for part in parts]
    return [piece for part in parts for piece in split_gpt2(part)]


@cache
def llamacpp_patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """(runs of punctuation and what lies between, runs of numbers and what lies between)"""
    marks = "".join(c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c)[0] == "P") + "$+<=>^~|"
    odd = "".join(map(chr, filter(_is_odd_number, range(LAST_ODD_NUMBER))))
    return re.compile(f"[{re.escape(marks)}]+|[^{re.escape(marks)}]+"), re.compile(rf"[\d{odd}]+|[^\d{odd}]+")


def split_llamacpp(text: str, prefix_space: bool = False) -> list[str]:
    """llama.cpp's default rule: punctuation apart, the rest by GPT-2's rule, numbers apart, 0-9 in groups of three.

    "a , 12345" gives a, a space, a comma, a space, 123, 45. Source: llama.cpp, llama-vocab.cpp, four expressions one
    after the other; the second is GPT-2's:

        [\\p{P}\\$\\+<=>\\^~\\|]+        's|'t|...        \\p{N}+        [0-9][0-9][0-9]
    """
    punctuation, numbers = llamacpp_patterns()
    pieces: list[str] = []
    for part in punctuation.findall(with_space(text) if prefix_space else text):
        for word in split_gpt2(part):
            for run in numbers.findall(word):
                pieces += THREE.findall(run)
    return pieces


def with_space(text: str) -> str:
    return text if text.startswith(" ") else " " + text


RULES: dict[str, Callable[..., list[str]]] = {"gpt2": split_gpt2, "smollm": split_smollm, "llama.cpp": split_llamacpp}
