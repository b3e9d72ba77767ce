"""No test shares random numbers with another: what a file draws, it draws inside a test, from a generator of its own.

A generator of a module would give each test other numbers in another order, in another process, beside a new test.
The rules are functions of sources, so that planted faults can show that each of them bites.
"""

from __future__ import annotations

import ast
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("tests", "benchmarks", "notebooks")
# The sources of notebooks are scripts from top to bottom: they draw at their top level, and nobody imports them.
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if not path.stem.startswith("week"))
OWN_GENERATORS = {"default_rng", "Generator", "SeedSequence", "PCG64", "Philox", "MT19937", "Random", "SystemRandom"}


def runs_at_import(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run when a file is imported: decorators and defaults of functions, no bodies, no annotations."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            parts = [*getattr(node, "decorator_list", []), *node.args.defaults, *filter(None, node.args.kw_defaults)]
        elif isinstance(node, ast.AnnAssign):
            parts = [node.value] if node.value is not None else []
        else:
            parts = [node]
        for part in parts:
            yield part
            yield from runs_at_import(part)


def random_names(tree: ast.AST) -> dict[str, str]:
    """The names under which a file knows NumPy's and Python's random modules and what they hold: {name: dotted}."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in ("numpy", "random", "numpy.random"):
                    whole = alias.asname is not None
                    names[alias.asname or alias.name.split(".")[0]] = alias.name if whole else alias.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom) and node.module in ("numpy", "random", "numpy.random"):
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def dotted(node: ast.AST, names: dict[str, str]) -> str:
    """`np.random.normal` as "numpy.random.normal", a name that is not of these modules as ""."""
    if isinstance(node, ast.Name):
        return names.get(node.id, "")
    if isinstance(node, ast.Attribute):
        base = dotted(node.value, names)
        return f"{base}.{node.attr}" if base else ""
    return ""


def shared_randomness(source: str) -> list[str]:
    """Generators and draws at import time, and the generators that NumPy and Python keep for a whole process."""
    tree = ast.parse(source)
    names, found = random_names(tree), []

    def random_calls(nodes):
        for node in nodes:
            called = dotted(node.func, names) if isinstance(node, ast.Call) else ""
            if called.startswith(("numpy.random.", "random.")):
                yield node.lineno, called

    found += [f"line {line}: {called} when the file is imported" for line, called in random_calls(runs_at_import(tree))]
    for line, called in random_calls(ast.walk(tree)):
        if called.rsplit(".", 1)[1] not in OWN_GENERATORS:
            found.append(f"line {line}: {called}, the generator of the whole process")
    return found


BAD = {
    "a module's generator": "import numpy as np\nrng = np.random.default_rng(0)",
    "under another name": "from numpy.random import default_rng as make\nDRAW = make(0)",
    "of a submodule": "import numpy.random as nr\ng = nr.default_rng()",
    "with an annotation": "import numpy as np\nrng: object = np.random.default_rng(0)",
    "in a class": "import numpy as np\nclass A:\n    rng = np.random.default_rng(0)",
    "in a table": "import numpy as np\nCASES = [1, (2, np.random.default_rng(0).random(3))]",
    "in a condition": "import numpy as np\nif True:\n    x = np.random.default_rng(0).random()",
    "in a comprehension": "import numpy as np\nx = [np.random.default_rng(i) for i in range(3)]",
    "in a decorator": "import numpy as np\n@mark('x', [np.random.default_rng(0).random()])\ndef test_a(x):\n    pass",
    "as a default": "import numpy as np\ndef f(rng=np.random.default_rng(0)):\n    pass",
    "as a lambda's default": "import numpy as np\nf = lambda x, *, rng=np.random.default_rng(0): x",
    "a bit generator": "from numpy.random import PCG64\nSTATE = PCG64(0).state",
    "Python's": "import random\nchooser = random.Random(0)",
    "Python's own one": "import random\nx = random.random()",
    "NumPy's old one, in a test": "import numpy as np\ndef test_a():\n    np.random.seed(0)",
    "Python's own one, in a test": "from random import shuffle\ndef test_a():\n    shuffle([1, 2])",
    "Python's own one, in a method": "import random\nclass A:\n    def f(self):\n        return random.choice([1, 2])",
}
GOOD = """
import random
import numpy as np
from numpy.random import Generator

Draw = "Callable[[np.random.Generator], float]"
OPERATIONS = {"normal": lambda rng: rng.standard_normal(3), "own": lambda: np.random.default_rng(0).random()}
kinds: tuple[np.random.Generator, ...]

def helper(rng: np.random.Generator, n: int = 3) -> Generator:
    chooser = random.Random(0)
    return np.random.default_rng(chooser.randrange(n))

class Case:
    def draw(self):
        return np.random.default_rng(0)

def test_a(rng):
    assert isinstance(rng, np.random.Generator)
"""


@pytest.mark.parametrize("name", BAD)
def test_the_rule_finds(name):
    assert shared_randomness(BAD[name])


def test_the_rule_lets_pass_what_is_a_functions_own():
    assert shared_randomness(GOOD) == []


def test_no_file_shares_random_numbers_between_tests():
    found = {str(path.relative_to(ROOT)): shared_randomness(path.read_text(encoding="utf-8")) for path in FILES}
    assert len(FILES) > 100 and not {path: lines for path, lines in found.items() if lines}


# -- what a file's own functions hide from the rule: seen by importing it --------------------------------------------


def generators_in(value: object, depth: int = 3) -> bool:
    """Whether a generator, or what holds one, is among a module's values, which all of its tests share."""
    if isinstance(value, (np.random.Generator, np.random.RandomState, random.Random)):
        return True
    if depth and isinstance(value, (list, tuple, set, frozenset)):
        return any(generators_in(each, depth - 1) for each in value)
    if depth and isinstance(value, dict):
        return any(generators_in(each, depth - 1) for each in value.values())
    return bool(depth) and any(generators_in(each, depth - 1) for each in getattr(value, "__dict__", {}).values()
                               if type(value).__module__.split(".")[0] in (*FOLDERS, "test_planted"))


SCRIPT = """
import importlib, json, random, sys
import numpy as np
import scratch.random
from tests.test_randomness import generators_in
sys.path += sys.argv[2:]
def states():
    return repr((random.getstate(), np.random.get_state(), scratch.random.get_state()))
found = {}
for name in json.loads(sys.argv[1]):
    before = states()
    module = importlib.import_module(name)
    drawn = ["draws from a generator that all share"] if states() != before else []
    kept = [f"{key} holds a generator" for key, value in vars(module).items()
            if not key.startswith("__") and generators_in(value)]
    if drawn or kept:
        found[name] = drawn + kept
print(json.dumps(found))
"""


def found_by_importing(names: list[str], *folders: Path) -> dict[str, list[str]]:
    command = [sys.executable, "-c", SCRIPT, json.dumps(names), *map(str, folders)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_importing_a_file_draws_nothing_and_keeps_no_generator(tmp_path):
    planted = tmp_path / "test_planted.py"
    planted.write_text(
        "import numpy as np\n"
        "from scratch.layers import Linear\n"
        "def make():\n    return np.random.default_rng(0)\n"
        "class Table:\n    def __init__(self):\n        self.rng = make()\n"
        "FIRST, SECOND, MODEL = {'a': [make()]}, Table(), Linear(2, 3)\n"
    )
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in FILES if path.stem.startswith("test_")]
    found = found_by_importing([*names, "test_planted"], tmp_path)
    assert found.pop("test_planted") == [
        "draws from a generator that all share", "FIRST holds a generator", "SECOND holds a generator",
    ]  # fmt: skip
    assert len(names) > 60 and not found
