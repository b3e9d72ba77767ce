"""The glossary: each term once, and every name in code that it gives exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.clone


def rows() -> list[list[str]]:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    table = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in cells] for cells in table]


def test_every_term_is_defined_once():
    terms = [term.lower() for cells in rows() for cell in cells[:2] for term in re.findall(r"\*\*([^*]+)\*\*", cell)]
    assert len(terms) >= 80
    assert sorted(set(terms)) == sorted(terms)
    assert all(len(cells) == 3 and cells[1] for cells in rows())


def test_names_in_code_exist():
    names = {name for cells in rows() for name in re.findall(r"`([A-Za-z_]+)`", " ".join(cells))}
    words = set()
    for path in (ROOT / "scratch").rglob("*.py"):
        words |= set(re.findall(r"[A-Za-z_]+", path.read_text(encoding="utf-8")))
    assert len(names) > 20
    assert names - words == set()
