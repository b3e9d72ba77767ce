"""The list of equivalent faults for docs/mutation.md: their reasons by folder, each with its number and an example."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Iterator
from typing import Any

AROUND = 18  # characters of a statement that are shown beside what changes


def listing(groups: list[dict[str, Any]]) -> Iterator[str]:
    """Markdown: a heading for each folder, a point for each reason."""
    folders: dict[str, dict[str, list[str]]] = {}
    for group in groups:
        for key in group["mutants"]:
            file = key.partition("::")[0]
            folder = file if file.count("/") == 1 else os.path.dirname(file)
            folders.setdefault(folder, {}).setdefault(group["reason"], []).append(key)
    for folder, reasons in sorted(folders.items()):
        yield f"\n**{folder}**: {sum(map(len, reasons.values()))}\n"
        for reason, keys in reasons.items():
            yield wrapped(f"- {reason.rstrip('.')} ({len(keys)}): {example(min(keys, key=len))}")


def wrapped(text: str) -> str:
    return textwrap.fill(text, 120, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def example(key: str) -> str:
    """The function, and what changes in its statement, as code."""
    file, _, rest = key.partition("::")
    function, _, change = rest.partition(": ")
    before, _, after = re.sub(r"  #\d+$", "", change).partition("  →  ")
    start = len(os.path.commonprefix([before, after]))
    end = min(len(os.path.commonprefix([before[::-1], after[::-1]])), len(before) - start, len(after) - start)
    return f"`{function}`, {code(before, start, end)} → {code(after, start, end)}"


def code(statement: str, start: int, end: int) -> str:
    """A statement without what lies far from the change between its first `start` and last `end` characters."""
    stop = len(statement) - end
    left, right = statement[:start], statement[stop:]
    if len(left) > AROUND:
        left = "… " + re.sub(r"^\S*\s", "", left[-AROUND:])
    if len(right) > AROUND:
        right = re.sub(r"\s\S*$", "", right[:AROUND]) + " …"
    return f"`{left}{statement[start:stop]}{right}`"
