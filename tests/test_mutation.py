"""The script that plants faults: it finds them, it tells those that a test catches from those that none does."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutation.__main__ import EQUIVALENT, main
from tests.mutation.mutants import Finder, mutants, sources
from tests.mutation.reasons import listing

ROOT = Path(__file__).resolve().parent.parent
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="planting faults needs os.fork")


@pytest.fixture(scope="module")
def everything():
    return mutants(ROOT, sources(ROOT))[1]


# -- which faults ------------------------------------------------------------------------------------------------


def faults(body: str) -> list[str]:
    """What becomes of the one line of a function."""
    found = Finder("f.py").find(ast.parse(f"def f(a, b, dy):\n    {body}"))
    assert {mutant.before for mutant in found} <= {body}
    return [mutant.after for mutant in found]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("y = a + b", ["y = a - b", "y = a", "y = b"]),
        ("y = a - b", ["y = a + b", "y = a", "y = b - a"]),
        ("y = a * b", ["y = a / b", "y = a", "y = b"]),
        ("y = a / b", ["y = a * b", "y = a", "y = b / a"]),
        ("y = a @ b.T", ["y = b.T @ a", "y = a @ b"]),
        ("y = -a", ["y = a"]),
        ("y = sum(a)", []),  # Python has no mean()
        ("y = a < b", ["y = a <= b", "y = a > b"]),
        ("y = a and b", ["y = a or b", "y = b", "y = a"]),
        ("y = a if b else None", ["y = a if not b else None"]),
        ("y = a.sum(0, keepdims=True)",
         ["y = a.mean(0, keepdims=True)", "y = a.sum(1, keepdims=True)", "y = a.sum(0, keepdims=False)"]),
        ("y = np.exp(a)", ["y = a"]),
        ("np.exp(a, out=b)", ["pass", "np.positive(a, out=b)"]),
        ("y = np.where(a, b, dy)", ["y = np.where(a, dy, b)"]),
        ("a += b", ["pass", "a -= b"]),
        ("a[b] = 0", ["pass", "a[b] = 1"]),
        ("y = a + 1e-05", ["y = a - 1e-05", "y = a", "y = 1e-05", "y = a + 2e-05"]),
    ],
)  # fmt: skip
def test_faults_of_a_line(line, expected):
    assert faults(line) == expected


def test_returned_gradients_are_lost_turned_and_exchanged():
    source = "def f():\n    def backward(dy):\n        return (da, db)"
    found = Finder("f.py").find(ast.parse(source))
    came = [mutant.after for mutant in found]
    assert came == [f"return ({gradients})" for gradients in ("None, db", "-da, db", "da, None", "da, -db", "db, da")]
    assert {mutant.key.partition(": ")[0] for mutant in found} == {"f.py::f.backward"}


@pytest.mark.parametrize(
    "body",
    [
        '"""2 + 2"""',
        "if a < 1:\n        raise ValueError(f'{a + 1} is below 1')",
        "y: int | None",
        "return isinstance(a, (1 + 1, float))",
        "return np.array(a, dtype=b or c)",
        "return a.astype(b, copy=False)",
    ],
)
def test_what_is_no_mathematics_is_left_alone(body):
    assert not Finder("f.py").find(ast.parse(f"def f(a: 1 + 1, b=1 + 1):\n    {body}"))


@pytest.mark.clone
def test_every_backward_of_the_library_has_faults(everything):
    """Whoever adds a file with a derivative has nothing else to do."""
    reached = {(mutant.file, *mutant.scopes[-1]) for mutant in everything}
    for path in (ROOT / "scratch").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)) if "def backward" in text else ():
            if isinstance(node, ast.FunctionDef) and node.name == "backward" and len(node.body) > 1:
                assert (path.relative_to(ROOT).as_posix(), node.lineno, "backward") in reached


@pytest.mark.clone
@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 writes statements with other brackets")
def test_the_list_of_equivalent_faults_is_not_stale(everything):
    groups = json.loads(EQUIVALENT.read_text(encoding="utf-8"))
    listed = [key for group in groups for key in group["mutants"]]
    assert len(listed) == len(set(listed))
    assert not [group["mutants"] for group in groups if len(group.get("reason", "")) < 20], "without a reason"
    assert not set(listed) - {mutant.key for mutant in everything}, "no longer in the code"


def test_the_reasons_are_listed_by_folder_with_what_changes_in_an_example():
    at = "scratch/losses/classes.py::f.backward: "
    keys = [f"{at}q = a + b  →  q = a", f"{at}return (first_gradient * (x < 0), second_gradient_of_all)  →  "
            "return (first_gradient * (x <= 0), second_gradient_of_all)"]  # fmt: skip
    far = [keys[1], "scratch/tape.py::g: a  →  b"]
    groups = [{"reason": "Short.", "mutants": keys}, {"reason": "Far.", "mutants": far}]
    assert [line.strip() for line in listing(groups)] == [
        "**scratch/losses**: 3",
        "- Short (2): `f.backward`, `q = a + b` → `q = a`",
        "- Far (1): `f.backward`, `… * (x < 0), …` → `… * (x <= 0), …`",
        "**scratch/tape.py**: 1",
        "- Far (1): `g`, `a` → `b`",
    ]


# -- trying them -------------------------------------------------------------------------------------------------

TOY = """
def clip(x):
    if x > 10.0:
        return 10.0
    return x


def half(x):
    def backward(dy):
        return (dy / 2,)

    return x / 2, backward


def count_down(n):
    while n > 0:
        n -= 1
    return n


def never_called(x):
    return -x
"""
TESTS = """
from scratch.losses.toy import clip, count_down, half

def test_half(tmp_path):
    y, backward = half(6)
    assert y == 3 and backward(4) == (2,)

def test_clip():
    assert clip(30.0) == 10 and clip(2.0) == 2

def test_count_down():
    assert count_down(3) == 0
"""


def run(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "tests.mutation", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def counts(done: subprocess.CompletedProcess) -> list[int]:
    """Faults, killed, equivalent, survived: the last row of the table."""
    return [int(cell) for cell in done.stdout.splitlines()[-1].split("|")[2:6]]


@pytest.fixture
def toy(tmp_path):
    """A repository of one file and its tests."""
    for file, text in {
        "scratch/__init__.py": "", "scratch/losses/__init__.py": "", "scratch/losses/toy.py": TOY,
        "tests/test_toy.py": TESTS, "pyproject.toml": "[tool.pytest.ini_options]\nmarkers = ['torch: none']\n",
    }.items():  # fmt: skip
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text, encoding="utf-8")
    return tmp_path


@needs_fork
def test_a_toy_with_known_survivors(toy):
    arguments = ["--root", toy, "--out", toy / "out.jsonl", "--limit", "0.1"]
    done = run(*arguments)
    survivors = re.findall(r"^survived  \S+  (.*)$", done.stdout, re.MULTILINE)
    assert survivors == [
        "clip: if x > 10.0:  →  if x >= 10.0:",  # equivalent: at 10 both are 10
        "clip: if x > 10.0:  →  if x > 20.0:",  # a missing test
        "never_called: return -x  →  return x",
    ], done.stdout + done.stderr
    rows = [json.loads(line) for line in (toy / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    results = {row["mutant"].partition("::")[2]: row for row in rows}
    assert results["count_down: n -= 1  →  pass"]["by"].startswith("time")  # without an end
    assert results["half.backward: return (dy / 2,)  →  return (dy * 2,)"]["test"] == "tests/test_toy.py::test_half"
    assert done.returncode == 1

    again = run(*arguments)  # nothing is tried twice
    assert " 0 to try" in again.stdout
    assert counts(again) == counts(done)

    named = [{"reason": "10 either way", "mutants": [f"scratch/losses/toy.py::{survivors[0]}"]}]
    (toy / "tests/mutation").mkdir()
    (toy / "tests/mutation/equivalent.json").write_text(json.dumps(named), encoding="utf-8")
    total, killed, equivalent, left = counts(run(*arguments))
    assert (equivalent, left) == (1, 2) and total == killed + 3


@needs_fork
@pytest.mark.clone
def test_the_faults_of_a_loss_are_caught():
    tests = "tests/test_losses.py::test_distances"
    done = run("--only", "distances.py::mse_loss.backward", "--tests", tests)
    total, killed, *_ = counts(done)
    assert total == killed > 8, done.stdout + done.stderr
    assert done.returncode == 0


def test_faults_are_listed_and_sampled_the_same_each_time(toy, capsys):
    arguments = ["--root", str(toy), "--list", "--only", "count_down", "--sample", "4", "--seed", "3"]
    assert main(arguments) == main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10 and lines[:5] == lines[5:]
    assert lines[4] == "4 faults in 1 files" and len(set(lines)) == 5


def test_a_table_of_several_files_counts_a_fault_as_killed_where_one_says_so(toy, capsys):
    root = ["--root", str(toy)]
    assert main([*root, "--list"]) == 0
    first, second, third, *more, _ = capsys.readouterr().out.splitlines()
    rows = {"one": [(first, "survived"), (second, "killed")], "two": [(first, "killed"), (third, "survived")]}
    for name, verdicts in rows.items():
        lines = [json.dumps({"mutant": key, "verdict": verdict, "seconds": 60.0}) for key, verdict in verdicts]
        (toy / name).write_text("\n".join(lines), encoding="utf-8")
    assert main([*root, "--table", str(toy / "one"), str(toy / "two")]) == 1
    *_, row, untried = capsys.readouterr().out.splitlines()
    assert untried.startswith(f"{len(more)} of them")
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells == ["all", str(len(more) + 3), "2", "0", "1", "66.7 %", "3.0"]


@pytest.mark.clone
def test_losses_samplers_schedules_decoders_and_tokenizers_are_covered():
    """Found by what a file is called or defines, so that a new one is covered without being registered."""
    covered = {path.relative_to(ROOT / "scratch").as_posix() for path in sources(ROOT)}
    for name in ("losses", "sampling", "schedules", "noise", "experts", "masking", "spectral", "vq", "cache"):
        found = {path.relative_to(ROOT / "scratch").as_posix() for path in (ROOT / "scratch").rglob(f"{name}.py")}
        assert found - {"data/cache.py"} <= covered, name
    tokenizers = {f"tokenizers/{path.name}" for path in (ROOT / "scratch/tokenizers").glob("*.py")}
    assert tokenizers <= covered and len(tokenizers) > 5
    names = r"class \w*Decoder\b|def (greedy|beam_search|generate|ddpm|ddim|heun|stream)\("
    defining = re.compile(rf"^({names})", re.MULTILINE)
    for path in (ROOT / "scratch/models").rglob("*.py"):
        if defining.search(path.read_text(encoding="utf-8")):
            assert path.relative_to(ROOT / "scratch").as_posix() in covered


def test_a_match_statement_is_named_by_its_subject():
    source = "def f(a):\n    match a + 1:\n        case 0:\n            return 2\n        case _:\n            return a"
    found = Finder("f.py").find(ast.parse(source))
    assert [mutant.key.partition(": ")[2] for mutant in found][:3] == [
        "match a + 1:  →  match a - 1:", "match a + 1:  →  match a:", "match a + 1:  →  match 1:",
    ]  # fmt: skip
    assert not any("\n" in mutant.key for mutant in found)
