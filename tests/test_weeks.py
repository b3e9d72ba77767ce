"""The pages of the weeks plan four hours, name what is there to read, and have all their parts."""

import ast
import re
from pathlib import Path

import pytest

from notebooks import build

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "weeks"
PAGES = sorted(FOLDER.glob("week*.md"))
PARTS = ["Plan", "Read", "Derivation", "Notebook", "Rebuild", "Experiment", "Questions"]
name = lambda page: page.stem  # noqa: E731
every_page = pytest.mark.parametrize("page", PAGES, ids=name)


def section(page, title):
    text = page.read_text(encoding="utf-8")
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)[1]


def length(file, names):
    """Lines of a file, or of the functions and classes in it that are named, as `relu` or `Tensor.__add__`."""
    text = file.read_text(encoding="utf-8")
    if not names:
        return len(text.splitlines())
    found = {}
    for node in ast.parse(text).body:
        for each, prefix in [(node, "")] + [(inner, f"{node.name}.") for inner in getattr(node, "body", [])
                                            if isinstance(node, ast.ClassDef)]:  # fmt: skip
            if isinstance(each, (ast.FunctionDef, ast.ClassDef)):
                found.setdefault(prefix + each.name, each.end_lineno - each.lineno + 1)
    return sum(found[each] for each in names)


def test_the_first_weeks_have_pages_and_the_index_names_every_page_and_notebook():
    assert {"week1", "week2"} <= {page.stem for page in PAGES}
    index = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert not [page.name for page in PAGES if f"]({page.name})" not in index]
    assert not [notebook for notebook in build.names() if f"](../../notebooks/{notebook}.ipynb)" not in index]


@every_page
def test_a_page_has_all_parts_in_order_and_plans_four_hours(page):
    assert re.findall(r"^## (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE) == PARTS
    assert sum(int(minutes) for minutes in re.findall(r"^\| (\d+) \|", section(page, "Plan"), re.MULTILINE)) == 240


@pytest.mark.clone
@every_page
def test_what_is_to_be_read_has_the_lines_that_the_page_says(page):
    rows = re.findall(r"^\| \[[^]]+\]\(([^)]+)\) \| ([^|]+) \| (\d+) \|", section(page, "Read"), re.MULTILINE)
    assert len(rows) >= 3
    for link, part, said in rows:
        names = re.findall(r"`([\w.]+)`", part)
        assert names or part == "whole"
        lines = length(page.parent / link, names)
        assert abs(lines - int(said)) <= max(5, lines // 5), f"{link}: {lines} lines"
    total = sum(int(said) for _, _, said in rows)
    assert total <= 450
    assert abs(int(re.search(r"(\d+) lines\.", section(page, "Read"))[1]) - total) <= 10


@every_page
def test_the_derivation_ends_in_a_worked_example_that_a_test_recomputes(page):
    """tests/test_readmes.py runs it."""
    *_, example = section(page, "Derivation").split("### A worked example")
    assert "```pycon\n" in example and example.rstrip().endswith("```")


@every_page
def test_the_notebook_and_an_experiment_with_what_was_seen(page):
    notebooks = re.findall(r"notebooks/(\w+)\.ipynb", section(page, "Notebook"))
    assert notebooks and set(notebooks) <= set(build.names()) and notebooks[0].startswith(page.stem + "_")
    experiment = section(page, "Experiment")
    assert re.search(r"^(?:\$ )?(?:scratch|python -m scratch[.\w]*) \w+", experiment, re.MULTILINE)
    assert "Seen here" in experiment and "|---|" in experiment


@every_page
def test_five_questions_with_folded_answers(page):
    questions = section(page, "Questions")
    folded = re.findall(r"<details><summary>(\d)\. (.+?\?)</summary>\n\n(.+?)\n\n</details>", questions, re.DOTALL)
    assert [int(number) for number, _, _ in folded] == [1, 2, 3, 4, 5]
    assert all(len(answer) > 80 for _, _, answer in folded)
    text = page.read_text(encoding="utf-8")
    assert text.count("<details>") == text.count("</details>") == text.count("<summary>")
