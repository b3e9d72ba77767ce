"""Pages keep their word: worked examples give the numbers they print, links lead somewhere, commands exist."""

import doctest
import re
import subprocess
from pathlib import Path

import pytest

from scratch.cli import COMMANDS
from scratch.training import command

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    path for path in ROOT.rglob("*.md")
    if not any(part.startswith(".") or part in ("runs", "build") for part in path.relative_to(ROOT).parts)
)  # fmt: skip
EXAMPLES = [page for page in PAGES if "```pycon" in page.read_text(encoding="utf-8")]
name = lambda page: page.relative_to(ROOT).as_posix()  # noqa: E731


@pytest.mark.parametrize("page", EXAMPLES, ids=name)
def test_worked_examples_give_the_numbers_on_the_page(page):
    blocks = re.findall(r"```pycon\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    test = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, name(page), str(page), 0)
    report: list[str] = []
    doctest.DocTestRunner(verbose=False).run(test, out=report.append)
    assert not report, "".join(report)
    assert len(test.examples) > 3


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_and_pictures_exist(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|srcset)="([^"]+)"', text)
    for target in targets:
        if not re.match(r"[a-z]+:", target):
            file, _, anchor = target.partition("#")
            assert not file or (page.parent / file).exists(), f"{name(page)} links to {target}"
            if anchor and (not file or file.endswith(".md")):
                other = (page.parent / file if file else page).read_text(encoding="utf-8")
                assert anchor in {slug(line) for line in re.findall(r"^#+ (.*)$", other, re.MULTILINE)}, target


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_name_commands_models_and_targets_that_exist(page):
    text = page.read_text(encoding="utf-8")
    for word, model in re.findall(r"^\s*(?:\$ )?scratch ([a-z]+)(?: ([a-z_]+)\b)?", text, re.MULTILINE):
        assert word in COMMANDS, f"{name(page)}: scratch {word}"
        if word in ("train", "sample") and model:
            assert model in command.models(), f"{name(page)}: scratch {word} {model}"
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for target in re.findall(r"^\s*(?:\$ )?make ([a-z]+)", text, re.MULTILINE):
        assert target in targets, f"{name(page)}: make {target}"


def slug(heading: str) -> str:
    """GitHub's name of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def test_pictures_are_small_and_the_repository_too():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git clone")
    files = [ROOT / file for file in listed.stdout.split("\0") if file and (ROOT / file).is_file()]
    assert len(files) > 50
    large = [name(file) for file in files if file.suffix == ".png" and file.stat().st_size > 200_000]
    large += [name(file) for file in files if file.suffix == ".gif" and file.stat().st_size > 1_000_000]
    assert not large
    assert sum(file.stat().st_size for file in files) < 40_000_000
