"""Added tokens as files describe them: {"id": 50264, "content": "<mask>", "lstrip": true, "special": true, ...}."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scratch.messages import shown
from scratch.tokenizers.fields import Fields
from scratch.tokenizers.special import Special


def added_tokens(tokens: list[Any], vocabulary: Mapping[str, Any]) -> dict[str, Special]:
    """{name: Special} of a list of added tokens.

    Raises ValueError for a token that occurs twice, and for a number that the library wouldn't give it: the
    vocabulary's, or the next ones behind the vocabulary.
    """
    found: dict[str, Special] = {}
    for i, each in enumerate(tokens):
        fields = Fields(each, f"added_tokens[{i}]")
        name, token = fields.text("content", ""), added_token(fields, fields.whole("id"))
        if name in found:
            raise ValueError(f"its added token {shown(name)!r} occurs twice")
        found[name] = token
    check_numbers({name: token.number for name, token in found.items()}, vocabulary)
    return found


def added_token(fields: Fields, number: int, special: bool = False, normalized: bool = True) -> Special:
    """What is left of an added token's fields once its name and number are taken."""
    token = Special(
        number, fields.flag("lstrip", False), fields.flag("rstrip", False), fields.flag("single_word", False),
        fields.flag("normalized", normalized), fields.flag("special", special),
    )  # fmt: skip
    fields.done()
    return token


def check_numbers(added: Mapping[str, int], vocabulary: Mapping[str, Any]) -> None:
    following = len(vocabulary)
    for name, number in sorted(added.items(), key=lambda item: item[1]):
        known = name in vocabulary
        right = vocabulary[name] if known else following
        following += not known
        if number != right:
            raise ValueError(f"its added token {shown(name)!r} has the number {number}, where the vocabulary and the "
                             f"added tokens before it leave it {shown(right)}")  # fmt: skip
