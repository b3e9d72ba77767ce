"""Imports point one way: what a file builds on stands below it, and NumPy is all that an import loads.

`LADDER` is the reading order of the library. A file may import files of lower rungs, and of its own rung as long as
no cycle comes of it. The rules are functions of sources, so that planted faults can show that each of them bites.
"""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# From the bottom up; `layers` stands for the file layers.py as well as for everything below layers/. The first
# pattern that fits, from the top rung down, decides: models/*/train.py before the rest of models/.
LADDER: list[tuple[str, ...]] = [
    ("scope", "half", "sums", "interrupt", "messages", "console", "random", "tape", "value", "tensor", "combine"),
    ("", "module", "gradcheck", "memory", "parallel", "blocks", "sampling", "weights",
     "initializers"),  # "" is scratch/__init__.py
    ("activations", "losses"),
    ("layers", "summary"),
    ("optim", "schedules", "data", "tokenizers"),
    ("training", "evaluation", "viz"),
    ("models",),
    ("models.*.train", "models.*.ablations", "models.*.pictures", "models.*.sample", "models.*.classify",
     "models.*.stages", "models.*.tasks", "models.*.speech", "models.*.phonemes", "models.*.evaluate",
     "models.*.portraits", "models.*.objective", "models.*.chat", "models.*.search"),
    ("experiments",),
    ("cli", "__main__", "pretrained"),
]
LAYERS, MODELS = 3, 6

# (model, model that it is built of): latent diffusion on an autoencoder, and such.
MODEL_ON_MODEL: set[tuple[str, str]] = {("autoencoder", "diffusion"), ("autoencoder", "gpt"), ("llama", "gpt"),
                                         ("bert", "gpt")}  # fmt: skip

# Third-party packages and where they may be imported, inside functions; NumPy may be imported anywhere.
LAZY = {
    "safetensors": ("*",),
    "threadpoolctl": ("*",),
    "tyro": ("*",),
    "rich": ("*",),
    "matplotlib": ("viz", "viz.*"),
    "PIL": ("viz.films",),  # Pillow, which matplotlib requires
}


@dataclass(frozen=True)
class Import:
    target: str  # dotted, absolute
    line: int
    at_import: bool = field(default=True)  # runs when the file is imported


def imports_of(source: str, module: str, is_package: bool) -> list[Import]:
    """Every import of a file, function bodies and TYPE_CHECKING blocks included; `from a import b` gives `a.b`."""
    found: list[Import] = []

    def visit(node: ast.AST, at_import: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, node.lineno, at_import) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                package = parts[: len(parts) - node.level + is_package]
                base = ".".join([*package, *([base] if base else [])])
            found.extend(Import(f"{base}.{alias.name}", node.lineno, at_import) for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.body:
                visit(child, False)
            for child in node.orelse:
                visit(child, at_import)
        else:
            inside = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            for child in ast.iter_child_nodes(node):
                visit(child, at_import and not inside)

    visit(ast.parse(source), True)
    return found


def rung(name: str) -> int | None:
    """The rung of a module given without its leading `scratch.`, None when the ladder does not have it."""
    for rank in reversed(range(len(LADDER))):
        for pattern in LADDER[rank]:
            if fnmatchcase(name, pattern) or (pattern and fnmatchcase(name, pattern + ".*")):
                return rank
    return None


def problems(files: dict[str, str]) -> list[str]:
    """What is wrong with the sources of a package, given as {path below its root's parent: text}."""
    modules = {}
    for path, source in files.items():
        is_package = path.endswith("/__init__.py")
        dotted = path.removesuffix("/__init__.py").removesuffix(".py").replace("/", ".")
        modules[dotted] = (path, is_package, source)

    found: list[str] = []
    graph: dict[str, set[str]] = {name: set() for name in modules}
    for name, (path, is_package, source) in sorted(modules.items()):
        if rung(_local(name)) is None:
            found.append(f"{path} has no place in LADDER of tests/test_imports.py: add it to the rung it belongs to")
            continue
        for each in imports_of(source, name, is_package):
            where = f"{path}:{each.line}"
            if each.target.split(".")[0] != "scratch":
                found.extend(f"{where}: {wrong}" for wrong in _foreign(_local(name), each))
                continue
            target = _resolve(each.target, modules)
            if target is None:
                found.append(f"{where}: {each.target} does not exist")
                continue
            if target != name:
                graph[name].add(target)
            found.extend(f"{where}: {wrong}" for wrong in _upward(_local(name), _local(target)))
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found.append("imports go in a circle: " + " -> ".join(error.args[1]))
    return found


def _local(name: str) -> str:
    return name.removeprefix("scratch").removeprefix(".")


def _resolve(target: str, modules: dict) -> str | None:
    """The module that `from a import b` reads: a.b where that is a file, else a, which must then define b."""
    if target in modules:
        return target
    parent = target.rpartition(".")[0]
    return parent if parent in modules else None


def _upward(name: str, target: str) -> list[str]:
    """Faults of one import inside the package."""
    mine, theirs = rung(name), rung(target)
    if mine is None or theirs is None:
        return []  # a file without a rung is a fault of its own
    model, other = _model(name), _model(target)
    if other and model and other != model and (model, other) not in MODEL_ON_MODEL:
        return [f"the model {model} imports {target}; models share layers, not each other (MODEL_ON_MODEL)"]
    if theirs > mine:
        return [f"{name} imports {target}, which stands above it in LADDER"]
    if mine == MODELS and LAYERS < theirs < MODELS:
        return [f"{name} imports {target}; a model may import layers and what is below them"]
    return []


def _model(name: str) -> str:
    parts = name.split(".")
    return parts[1] if parts[0] == "models" and len(parts) > 1 else ""


def _foreign(name: str, each: Import) -> list[str]:
    """Faults of one import from outside the package."""
    package = each.target.split(".")[0]
    if package in sys.stdlib_module_names or package == "numpy":
        return []
    if package not in LAZY:
        return [f"{package} is no dependency of the library"]
    if not any(fnmatchcase(name, pattern) for pattern in LAZY[package]):
        return [f"{package} may be imported only in {', '.join(LAZY[package])}"]
    return [f"{package} must be imported inside the function that uses it"] if each.at_import else []


@pytest.mark.clone
def test_imports_of_the_library_point_one_way():
    files = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
             for path in sorted((ROOT / "scratch").rglob("*.py"))}  # fmt: skip
    assert len(files) > 4
    assert not problems(files), "\n" + "\n".join(problems(files))


def test_importing_scratch_loads_numpy_and_nothing_else():
    script = (
        "import sys, numpy, numpy.random; before = set(sys.modules); import scratch; "
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert "scratch" in loaded
    heavy = {"matplotlib", "rich", "tyro", "safetensors", "threadpoolctl", "torch", "scipy", "pandas"}
    assert not loaded & heavy
    assert loaded - set(sys.stdlib_module_names) <= {"scratch", "numpy"}


# -- the rules bite -------------------------------------------------------------------------------------------

SOUND = {
    "scratch/__init__.py": "from scratch.tensor import Tensor\n__version__ = '1'",
    "scratch/tape.py": "import numpy as np",
    "scratch/tensor.py": "from scratch.tape import Node\nimport numpy.linalg",
    "scratch/module.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import safetensors",
    "scratch/weights.py": "def load(path):\n    from safetensors.numpy import load_file",
    "scratch/layers/__init__.py": "from scratch.layers.linear import Linear",
    "scratch/layers/linear.py": "from ..module import Module\nfrom scratch import tensor",
    "scratch/optim.py": "from scratch.module import Module",
    "scratch/viz/curves.py": "def draw():\n    import matplotlib.pyplot as plt",
    "scratch/models/__init__.py": "",
    "scratch/models/mlp/__init__.py": "from scratch.models.mlp.model import MLP",
    "scratch/models/mlp/model.py": "from scratch.layers import Linear",
    "scratch/models/mlp/train.py": "from scratch.optim import SGD\nfrom .model import MLP\nimport scratch.viz.curves",
    "scratch/models/gan/model.py": "from scratch.layers import Linear",
    "scratch/cli.py": "from scratch import __version__\nfrom scratch.models.mlp import train",
}

FAULTS = [
    ("scratch/extra.py", "", "scratch/extra.py has no place in LADDER of tests/test_imports.py"),
    ("scratch/extra/deep.py", "", "has no place in LADDER"),
    ("scratch/tensor.py", "from scratch.module import Module", "tensor imports module, which stands above"),
    ("scratch/tensor.py", "def f():\n    from scratch.module import Module", "tensor imports module, which"),
    ("scratch/tensor.py", "from .layers import linear", "tensor imports layers.linear, which stands above"),
    ("scratch/layers/linear.py", "from ..optim import SGD", "layers.linear imports optim, which stands above"),
    ("scratch/layers/linear.py", "from scratch.layers import Linear", "circle"),
    ("scratch/module.py", "from scratch import Tensor", None),
    ("scratch/tape.py", "from scratch import tensor", "circle"),
    ("scratch/tensor.py", "from scratch import Tensor", "tensor imports , which stands above"),
    ("scratch/module.py", "from scratch.weights import load", None),
    ("scratch/weights.py", "import scratch.weight.files", "scratch.weight.files does not exist"),
    ("scratch/models/mlp/model.py", "from scratch.optim import SGD", "a model may import layers and what is below"),
    ("scratch/models/mlp/data.py", "import scratch.viz.curves", "a model may import layers and what is below"),
    ("scratch/models/mlp/model.py", "from .train import Settings", "models.mlp.model imports models.mlp.train"),
    ("scratch/models/mlp/model.py", "from ..gan.model import GAN", "the model mlp imports models.gan.model"),
    ("scratch/models/mlp/train.py", "from scratch.models.gan import model", "the model mlp imports models.gan.model"),
    ("scratch/models/mlp/train.py", "from scratch.cli import main", "models.mlp.train imports cli"),
    ("scratch/viz/curves.py", "import matplotlib", "matplotlib must be imported inside the function"),
    ("scratch/viz/curves.py", "try:\n    import matplotlib\nexcept ImportError:\n    pass", "inside the function"),
    ("scratch/viz/curves.py", "class Plot:\n    from matplotlib import pyplot", "inside the function"),
    ("scratch/optim.py", "def f():\n    import matplotlib", "matplotlib may be imported only in viz, viz.*"),
    ("scratch/weights.py", "import safetensors.numpy", "safetensors must be imported inside the function"),
    ("scratch/optim.py", "def f():\n    import torch", "torch is no dependency"),
    ("scratch/optim.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch", "torch is no"),
    ("scratch/optim.py", "from scipy.special import erf", "scipy is no dependency"),
]  # fmt: skip


def test_a_sound_tree_passes():
    assert problems(SOUND) == []


@pytest.mark.parametrize(("path", "source", "complaint"), FAULTS)
def test_a_planted_fault_is_caught_and_a_sound_change_is_not(path, source, complaint):
    found = problems({**SOUND, path: source})
    assert any(complaint in each for each in found) if complaint else not found, found


# -- PyTorch in the tests -------------------------------------------------------------------------------------


def torch_faults(source: str) -> list[int]:
    """Lines that import PyTorch outside of functions or in a test without the marker; helpers may import it.

    Whether a helper is called by marked tests only is what the fixture `_pytorch_only_where_marked` watches.
    """
    found: list[int] = []

    def visit(node: ast.AST, allowed: bool) -> None:
        if isinstance(node, ast.Import):
            imports = any(alias.name.split(".")[0] == "torch" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imports = (node.module or "").split(".")[0] == "torch" and not node.level
        else:
            imports = isinstance(node, ast.Call) and "importorskip('torch" in ast.unparse(node)
        if imports and not allowed:
            found.append(node.lineno)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            marked = any("mark.torch" in ast.unparse(decorator) for decorator in node.decorator_list)
            helper = not isinstance(node, ast.ClassDef) and not node.name.startswith("test")
            allowed = allowed or marked or helper
        for child in ast.iter_child_nodes(node):
            visit(child, allowed)

    visit(ast.parse(source), False)
    return sorted(set(found))


def test_tests_import_pytorch_only_where_marked():
    # A twin *is* PyTorch code: a file of its own, imported inside the marked tests.
    files = [path for path in sorted((ROOT / "tests").rglob("*.py")) if path.parent.name != "twins"]
    assert len(files) > 20
    found = [f"{path.name}:{line}" for path in files for line in torch_faults(path.read_text(encoding="utf-8"))]
    assert not found, f"outside of functions, or in a test without @pytest.mark.torch: {', '.join(found)}"


MARK = "@pytest.mark.torch\n"
TORCH = [
    ("import torch", [1]),
    ("from torch.nn import functional", [1]),
    ("torch = pytest.importorskip('torch')", [1]),
    ("def test_a():\n    import torch", [2]),
    ("def test_a():\n    torch = pytest.importorskip('torch')\n    return 1", [2]),
    ("def test_a():\n    def helper():\n        import torch.nn", []),
    ("class TestA:\n    import torch", [2]),
    ("class TestA:\n    def test_a(self):\n        from torch import nn", [3]),
    (MARK + "def test_a():\n    import torch", []),
    (MARK + "class TestA:\n    def test_a(self):\n        import torch", []),
    ("def theirs():\n    import torch", []),
    ("from safetensors.torch import load_file\nimport torchless\nfrom .torch import a", []),
]


@pytest.mark.parametrize(("source", "lines"), TORCH)
def test_unmarked_imports_of_pytorch_are_found(source, lines):
    assert torch_faults(source) == lines


def test_pytorch_is_out_of_reach_without_the_marker():
    with pytest.raises(ModuleNotFoundError, match="PyTorch is for tests marked"):
        importlib.import_module("torch")
