"""Pages keep their word: worked examples give the numbers they print, links lead somewhere, commands exist."""

import doctest
import re
import subprocess
from pathlib import Path

import pytest

from tests.pages import complaints

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.clone
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
def test_what_a_page_names_exists(page):
    assert complaints(page.read_text(encoding="utf-8"), page) == []


PLANTED = {
    "`make tset`": "make knows no 'tset' (in: make tset)",
    "```\nmake test ARGS=-x lint tests\n```": "make knows no 'tests' (in: make test ARGS=-x lint tests)",
    "`python -m scratch.training.expectd NAME`": "there is no module scratch.training.expectd to run",
    "`python -m tests.twins`": "there is no module tests.twins to run",
    "```sh\n$ X=1 .venv/bin/python -m tests.mutation --onyl losses/\n```": "tests.mutation knows no --onyl",
    "`pytest -q tests/test_activation.py`": "there is no tests/test_activation.py",
    "`pytest tests/test_tape.py::test_nothing`": "tests/test_tape.py has no test_nothing",
    "`python -m pytest -n 2 test`": "there is no test",
    "`scratch tarin mlp`": "scratch knows no 'tarin'",
    "`scratch train mpl --steps N`": "there is no model 'mpl'",
    "`scratch train mlp --preset qick`": "there is no preset 'qick'",
    "```\nscratch train mlp --hidden 64 64 --lerning-rate 1   why\n```": "lerning-rate",
    "```\nscratch train cnn \\\n  --data fashion\n```": "fashion",
    "`python -m scratch.models.mlp.train --stepps 3`": "stepps",
    "`scratch sample mlp --cuont 3`": "scratch sample mlp knows no --cuont",
    "`scratch bench mpl`": "there is no benchmark 'mpl'",
    "`scratch bench mlp --round 3`": "scratch bench knows no --round",
    "`scratch data fetch fashion`": "there is no data set 'fashion' to fetch",
    "see `tests/test_lossess.py`": "`tests/test_lossess.py` is not in the repository",
    "see `layers/liner.py`": "`layers/liner.py` is not in the repository",
    "see `liner.py`": "`liner.py` is not in the repository",
    "see `figures/filters.png`": "`figures/filters.png` is not in the repository",
}


@pytest.mark.parametrize(("text", "told"), PLANTED.items(), ids=str)
def test_what_does_not_exist_is_named(text, told):
    found = complaints(text, ROOT / "scratch" / "models" / "mlp" / "README.md")
    assert len(found) == 1 and told in found[0], found


@pytest.mark.parametrize("text", [
    "`make train ARGS=\"--help\"` `pytest -q tests/test_SUBJECT.py` `python -m pytest -n 2 -k tape tests/test_tape.py`",
    "`scratch train NAME` `scratch train mlp --steps N` `scratch resume runs/mlp-1` `scratch train mlp --help`",
    "`python -m venv .venv` `tests/test_SUBJECT.py` `layers/linear.py` `figures/curves.png` `mytape.py` `utils/loss`",
    "```\nmake all outputs equal\n```".replace("make", "we make"), "```python\nmake in pairs\n```",
])  # fmt: skip
def test_what_exists_or_stands_for_something_else_is_left_alone(text):
    assert complaints(text, ROOT / "scratch" / "models" / "mlp" / "README.md") == []


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
