"""What the Markdown pages tell a reader to type or to open, and whether it exists: `complaints(text, page)`.

Looked at are the commands in fenced blocks and in inline code, and paths in inline code:

    make TARGET                             the Makefile has the target
    python -m MODULE --flag                 the module can be run; one of this repository knows the flag
    pytest PATH::test                       the file exists, and the test in it
    scratch train NAME --preset P --flag V  would start: name, preset, fields and values are known
    scratch sample | bench | data …         names and flags are known
    `folder/file`, `file.py`                lies in the repository, from its root, from scratch/, or from the page

Words in capitals stand for something else (NAME, runs/NAME-1), and so does all that follows `…`.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from scratch.cli import COMMANDS
from scratch.data import SOURCES
from scratch.training import command

ROOT = Path(__file__).resolve().parent.parent
OURS = ("scratch", "tests", "benchmarks", "notebooks")
ELSEWHERE = {
    "scratch.py": "a neighbour that would hide the package", "models/MLP": "in the project's first sketch",
    "data/fashion": "PyTorch's copy of the data", "data/shakespeare_char/prepare.py": "in nanoGPT",
    "data.py": "in statsmodels",
}  # fmt: skip
STARTS = re.compile(r"(?:[A-Z_]+=\S* )*(?:\S*/)?(make|pytest|scratch|python3?)(?: |$)")
PLACEHOLDER = re.compile(r"(?:^|[/_.=-])(?!README|LICENSE|CONTRIBUTING)[A-Z]+(?=$|[/_.-])|weekN|…|\.\.\.|[<>\[\]{}*]")


def complaints(text: str, page: Path) -> list[str]:
    """What does not exist of all that the text of this page names."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    lines = [
        re.split(r"\s{2,}|\s#", line.strip().removeprefix("$ "))[0]
        for language, block in blocks if language not in ("pycon", "python", "mermaid")
        for line in re.sub(r"\s*\\\n\s*", " ", block).splitlines()
    ]  # fmt: skip
    found = [told for line in (*lines, *spans) if STARTS.match(line) for told in of_command(line)]
    return found + [f"`{span}` is not in the repository" for span in spans if not is_there(span, page)]


def of_command(line: str) -> list[str]:
    try:
        words = shlex.split(line)
    except ValueError:  # a lonely quote: no command
        return []
    while "=" in words[0]:
        del words[0]
    program, words = words[0].rpartition("/")[2], words[1:]
    if "…" in words:
        words = words[: words.index("…")]
    if program.startswith("python"):
        return of_module(words[1], words[2:]) if words[:1] == ["-m"] and len(words) > 1 else []
    check = {"make": of_make, "pytest": of_pytest, "scratch": of_scratch}[program]
    return [f"{told} (in: {line})" for told in check(words)]


def of_make(words: list[str]) -> Iterator[str]:
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for word in words:
        if "=" not in word and word not in known:
            yield f"make knows no {word!r}"


def of_pytest(words: list[str]) -> Iterator[str]:
    for before, word in zip(["", *words], words, strict=False):
        if not word.startswith("-") and before not in ("-n", "-k", "-m", "-p") and not PLACEHOLDER.search(word):
            file, *names = word.split("::")
            if not (ROOT / file).exists():
                yield f"there is no {file}"
            elif names and f"def {names[-1].partition('[')[0]}(" not in (ROOT / file).read_text(encoding="utf-8"):
                yield f"{file} has no {names[-1]}"


def of_module(module: str, words: list[str]) -> list[str]:
    if module == "pytest":
        return list(of_pytest(words))
    if module == "scratch":
        return list(of_scratch(words))
    if run := re.fullmatch(r"scratch\.models\.(\w+)\.train", module):
        return list(of_scratch(["train", run[1], *words]))
    if PLACEHOLDER.search(module):
        return []
    source = runnable(module)
    if source is None:
        return [f"there is no module {module} to run"]
    return list(unknown_flags(words, source, module)) if module.split(".")[0] in OURS else []


def runnable(module: str) -> Path | None:
    """The file that `python -m MODULE` runs."""
    try:
        spec = importlib.util.find_spec(module)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{module}.__main__")
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec is not None and spec.origin else None


def unknown_flags(words: list[str], source: Path, who: str) -> Iterator[str]:
    text = source.read_text(encoding="utf-8")
    for flag in (word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)):
        if f'"{flag}"' not in text and flag != "--help":
            yield f"{who} knows no {flag}"


def of_scratch(words: list[str]) -> Iterator[str]:
    if not words or words[0].startswith("-") or PLACEHOLDER.search(words[0]):
        return
    verb, *rest = words
    names = list(itertools.takewhile(re.compile(r"[a-z_0-9]+$").match, rest))
    if verb not in COMMANDS:
        yield f"scratch knows no {verb!r}"
    elif verb in ("train", "sample") and rest and not PLACEHOLDER.search(rest[0]):
        if rest[0] not in command.models():
            yield f"there is no model {rest[0]!r}"
        elif verb == "train":
            yield from refusal(tuple(rest))
        else:
            source = Path(command.model_part(rest[0], "sample").__file__ or "")
            yield from unknown_flags(rest, source, f"scratch sample {rest[0]}")
    elif verb == "bench":
        steps = {path.stem for path in (ROOT / "benchmarks" / "steps").glob("*.py")}
        yield from unknown_flags(rest, ROOT / "benchmarks" / "__main__.py", "scratch bench")
        yield from (f"there is no benchmark {each!r}" for each in names if each not in steps)
    elif verb == "data":
        yield from (f"there is no data set {each!r} to fetch" for each in names[1:] if each not in SOURCES)


class Started(Exception):
    """A run would begin now."""


@functools.cache
def refusal(words: tuple[str, ...]) -> tuple[str, ...]:
    """What `scratch train` says to these words before it would begin; what follows a placeholder is left out."""
    known = list(words)
    for i, word in enumerate(known):
        if PLACEHOLDER.search(word):
            known = known[: i - 1] if known[i - 1].startswith("--") else known[:i]
            break
    told = io.StringIO()
    with mock.patch.object(command.Run, "create", side_effect=Started):
        try:
            with contextlib.redirect_stderr(told), contextlib.redirect_stdout(told):
                command.train(known[0], known[1:])
        except Started:
            return ()
        except ValueError as error:
            return (str(error),)
        except SystemExit as end:
            return () if not end.code else (" ".join(re.findall(r"[\w'.=-]+", told.getvalue())),)
    raise AssertionError("neither started nor refused")


@functools.cache
def names_of_files() -> frozenset[str]:
    return frozenset(path.name for part in OURS for path in (ROOT / part).rglob("*.py"))


def is_there(span: str, page: Path) -> bool:
    """Whether inline code that looks like a path of this repository is one."""
    span = re.sub(r"(::\w+|:\d+)$", "", span)
    if not re.fullmatch(r"[\w./-]+", span) or PLACEHOLDER.search(span) or span in ELSEWHERE:
        return True
    if re.fullmatch(r"\w+\.py", span):
        return span in names_of_files() or span.startswith("my")  # a learner's own file
    first = span.partition("/")[0]
    homes = [home for home in (ROOT, ROOT / "scratch", page.parent) if (home / first).is_dir()]
    return "/" not in span or not first or first in (".", "..") or not homes or any((h / span).exists() for h in homes)
