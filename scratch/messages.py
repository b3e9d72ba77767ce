"""Names and values from files and command lines, as messages show them.

A name in a file may hold escape sequences, which a terminal obeys, and may be a megabyte long. `shown` is used for
every name, path and value that a message quotes.
"""

from __future__ import annotations

import os
import reprlib
from typing import Any

LIMIT = 80  # characters, unless the caller gives another limit

_repr = reprlib.Repr()  # shows a part of long or deeply nested lists and dicts, without visiting the rest
_repr.maxstring = _repr.maxother = _repr.maxlong = 4 * LIMIT


def shown(value: Any, limit: int | None = None) -> str:
    """`value` as text on one line: control characters escaped, the middle of a long text replaced by `...`.

    A string or a path is shown without quotes, anything else as `repr` gives it. A path keeps its full length, because
    its end says which file it is, unless a `limit` is given.
    """
    is_path = isinstance(value, os.PathLike)
    limit = limit or (len(os.fspath(value)) * 10 if is_path else LIMIT)
    text = os.fsdecode(value) if is_path else value if isinstance(value, str) else _repr.repr(value)
    return shortened(escaped(shortened(text, limit)), limit)  # the first cut keeps a huge text from being escaped


def quoted(value: Any, limit: int | None = None) -> str:
    """The same as `shown`, strings in quotation marks: for names that could be taken for words of the message."""
    return f"'{shown(value, limit)}'" if isinstance(value, str) else shown(value, limit)


def escaped(text: str) -> str:
    """`text` with every character that a terminal may obey or cannot show as an escape, such as \\x1b."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def shortened(text: str, limit: int) -> str:
    """`text` with `...` for its middle if it has more than `limit` characters."""
    tail = limit // 3
    return text if len(text) <= limit else f"{text[: limit - tail - 3]}...{text[len(text) - tail :]}"


def require_positive(caller: str, **sizes: int) -> None:
    """Raise ValueError if a size is below 1, naming each size and its value."""
    if min(sizes.values()) < 1:
        got = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise ValueError(f"{caller} expected sizes of at least 1, got {got}")
