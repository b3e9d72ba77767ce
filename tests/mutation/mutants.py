"""Where faults are planted, and which: small changes of the mathematics, found in the syntax tree of each function.

A mutant is one changed node. Its key is the function and its statement before and after, so that it keeps its name when
lines move:  scratch/losses/distances.py::mse_loss.backward: dx = 2 * d  →  dx = d
Left alone are docstrings, texts, annotations, defaults, dtypes, conditions that only guard a `raise`, `copy=False` in
`astype` (it allows to do without a copy and never changes a value), and `__repr__`.
"""

from __future__ import annotations

import ast
import builtins
import copy
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

# Besides every file that defines a backward:
FOLDERS = ("activations", "layers", "losses", "optim", "tokenizers")
FILES = ("blocks.py", "initializers.py", "sampling.py", "schedules.py", "value.py")
MODELS = re.compile(  # in scratch/models: files named after a loss, a sampler, a noise schedule, a decoder or the like
    "bound|cache|decod|elbo|expert|flow|generat|loss|mask|noise|objective|penalt|prior|process|sampl(er|ing)|seq2seq"
    "|spectral|vq"
)
SPOKEN = ("__repr__", "extra_repr", "__str__")  # functions that only speak
ASKED = ("isinstance", "issubclass", "hasattr", "getattr", "type", "warn", "ValueError", "TypeError", "RuntimeError")
UNTOUCHED = ("dtype", "strict", "casting", "stacklevel", "order", "user_api")  # arguments that are no mathematics

SWAPPED = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
COMPARED = {
    ast.Lt: (ast.LtE, ast.Gt), ast.LtE: (ast.Lt, ast.GtE), ast.Gt: (ast.GtE, ast.Lt), ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,), ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}  # fmt: skip
RENAMED = {
    "maximum": "minimum", "minimum": "maximum", "max": "min", "min": "max", "argmax": "argmin", "add": "subtract",
    "subtract": "add", "multiply": "divide", "divide": "multiply", "sum": "mean", "mean": "sum", "any": "all",
    "all": "any", "zeros": "ones", "zeros_like": "ones_like", "negative": "positive", "floor": "ceil", "ceil": "floor",
}  # fmt: skip
DROPPED = (  # f(x) becomes x
    "exp", "expm1", "log", "log1p", "sqrt", "square", "abs", "sign", "tanh", "cos", "sin", "reciprocal", "swapaxes",
    "transpose", "moveaxis", "flip", "copy",
)  # fmt: skip


@dataclass
class Mutant:
    """One planted fault: `new` in the place of a node of the tree."""

    file: str
    function: str
    line: int
    before: str
    after: str
    scopes: tuple[tuple[int, str], ...]  # (first line, name) of the functions around it, the outermost first
    holder: ast.AST
    field: str
    index: int | None
    new: ast.AST
    number: int = 1

    @property
    def key(self) -> str:
        again = f"  #{self.number}" if self.number > 1 else ""
        return f"{self.file}::{self.function}: {self.before}  →  {self.after}{again}"

    def plant(self) -> None:
        place(self.holder, self.field, self.index, self.new)


def sources(root: Path) -> list[Path]:
    """The files of the library in which faults are planted."""
    found = []
    for path in sorted((root / "scratch").rglob("*.py")):
        parts = path.relative_to(root / "scratch").parts
        named = parts[0] in (*FOLDERS, *FILES) or (parts[0] == "models" and MODELS.search(path.stem))
        if named or "def backward(" in path.read_text(encoding="utf-8"):
            found.append(path)
    return found


def mutants(root: Path, paths: list[Path]) -> tuple[dict[str, ast.Module], list[Mutant]]:
    """The trees of the files by their names, and all faults that can be planted in them."""
    trees, found = {}, []
    for path in paths:
        file = path.relative_to(root).as_posix()
        trees[file] = ast.parse(path.read_text(encoding="utf-8"), file)
        found += Finder(file).find(trees[file])
    return trees, found


class Finder:
    """Walks one file's tree and collects its mutants."""

    def __init__(self, file: str):
        self.file = file
        self.names: list[str] = []
        self.scopes: list[tuple[int, str]] = []
        self.statement: ast.stmt | None = None
        self.found: list[Mutant] = []

    def find(self, tree: ast.Module) -> list[Mutant]:
        self.walk_fields(tree)
        seen: dict[str, int] = {}
        unique: dict[tuple[str, int, str], Mutant] = {}
        for mutant in self.found:  # two operators may do the same to one node, and one may do the same in two places
            unique.setdefault((mutant.key, id(mutant.holder), f"{mutant.field}{mutant.index}"), mutant)
        for mutant in unique.values():
            seen[mutant.key] = mutant.number = seen.get(mutant.key, 0) + 1
        return list(unique.values())

    def walk_fields(self, node: ast.AST) -> None:
        for field, value in ast.iter_fields(node):
            if isinstance(value, list):
                for index, child in enumerate(value):
                    if isinstance(child, ast.AST):
                        self.walk(child, node, field, index)
            elif isinstance(value, ast.AST):
                self.walk(value, node, field, None)

    def walk(self, node: ast.AST, holder: ast.AST, field: str, index: int | None) -> None:
        if isinstance(node, ast.FunctionDef):
            self.enter(node)
        elif isinstance(node, ast.ClassDef):
            self.names.append(node.name)
            for i, child in enumerate(node.body):
                if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
                    self.walk(child, node, "body", i)
            self.names.pop()
        elif self.scopes and not untouched(node, holder, field):
            outer = self.statement
            if isinstance(node, ast.stmt):
                self.statement = node
            for new in changes(node, holder, self.names[-1] if self.names else ""):
                self.add(node, holder, field, index, new)
            self.walk_fields(node)
            self.statement = outer

    def enter(self, node: ast.FunctionDef) -> None:
        if node.name in SPOKEN:
            return
        self.names.append(node.name)
        self.scopes.append((first_line(node), node.name))
        for i, child in enumerate(node.body):
            self.walk(child, node, "body", i)
        self.names.pop()
        self.scopes.pop()

    def add(self, node: ast.AST, holder: ast.AST, field: str, index: int | None, new: ast.AST) -> None:
        assert self.statement is not None
        before = headline(self.statement)
        if node is self.statement:
            after = headline(new)
        else:
            place(holder, field, index, new)
            after = headline(self.statement)
            place(holder, field, index, node)
        if after != before:
            ast.fix_missing_locations(ast.copy_location(new, node))
            function, line = ".".join(self.names), node.lineno  # type: ignore[attr-defined]
            self.found.append(
                Mutant(self.file, function, line, before, after, tuple(self.scopes), holder, field, index, new)
            )


def first_line(node: ast.FunctionDef) -> int:
    """Where its code begins: at the first decorator."""
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def untouched(node: ast.AST, holder: ast.AST, field: str) -> bool:
    """Whether nothing below this node is mathematics."""
    if isinstance(node, (ast.Raise, ast.Assert, ast.JoinedStr, ast.Import, ast.ImportFrom, ast.ExceptHandler)):
        return True
    if isinstance(node, ast.If) and not node.orelse and all(isinstance(each, ast.Raise) for each in node.body):
        return True
    if isinstance(node, ast.Call) and called(node) in ASKED:
        return True
    if isinstance(node, ast.keyword) and node.arg in UNTOUCHED:
        return True
    if isinstance(node, ast.keyword) and ast.unparse(node) == "copy=False" and called(holder) == "astype":
        return True
    return field in ("annotation", "returns", "args") and isinstance(holder, (ast.AnnAssign, ast.arg, ast.Lambda))


def changes(node: ast.AST, holder: ast.AST, function: str) -> Iterator[ast.AST]:
    """What may stand in the place of a node."""
    if isinstance(node, ast.BinOp):
        yield from changed_operation(node)
    elif isinstance(node, ast.UnaryOp) and not isinstance(node.op, ast.UAdd):
        yield copy.deepcopy(node.operand)
    elif isinstance(node, ast.Compare):
        for i, op in enumerate(node.ops):
            for other in COMPARED[type(op)]:
                yield altered(node, ops=[*node.ops[:i], other(), *node.ops[i + 1 :]])
    elif isinstance(node, ast.BoolOp):
        yield altered(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
        for i in range(len(node.values)):
            rest = [*node.values[:i], *node.values[i + 1 :]]
            yield altered(node, values=rest) if len(rest) > 1 else copy.deepcopy(rest[0])
    elif isinstance(node, (ast.If, ast.IfExp)):
        if not isinstance(node.test, (ast.Compare, ast.UnaryOp)):  # there the change of the operator does the same
            yield altered(node, test=ast.UnaryOp(ast.Not(), node.test))
    elif isinstance(node, ast.Attribute) and node.attr in ("T", "mT") and isinstance(node.ctx, ast.Load):
        yield copy.deepcopy(node.value)
    elif isinstance(node, ast.Call):
        yield from changed_call(node)
    elif isinstance(node, ast.Constant):
        yield from changed_number(node, holder)
    elif isinstance(node, ast.AugAssign):
        yield ast.Pass()
        if type(node.op) in SWAPPED and not neutral(node.op, node.value):
            yield altered(node, op=SWAPPED[type(node.op)]())
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield ast.Pass()
    elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
        yield ast.Pass()
    elif isinstance(node, ast.Return) and function == "backward" and isinstance(node.value, ast.Tuple):
        yield from changed_gradients(node, node.value.elts)


def changed_operation(node: ast.BinOp) -> Iterator[ast.AST]:
    """Another operator, one operand dropped, the operands of − and / and @ exchanged."""
    if type(node.op) in SWAPPED and not neutral(node.op, node.right):
        yield altered(node, op=SWAPPED[type(node.op)]())
    if not isinstance(node.op, ast.MatMult):
        yield copy.deepcopy(node.left)
    if isinstance(node.op, (ast.Add, ast.Mult, ast.BitAnd, ast.BitOr)):
        yield copy.deepcopy(node.right)
    if isinstance(node.op, (ast.Sub, ast.Div, ast.MatMult)):
        yield altered(node, left=node.right, right=node.left)


def changed_call(node: ast.Call) -> Iterator[ast.AST]:
    """Another function of the same kind, a function left out, the branches of `where` exchanged."""
    name = called(node)
    if name in RENAMED and exists(node.func, RENAMED[name]):
        yield altered(node, func=renamed(node.func, RENAMED[name]))
    if name == "where" and len(node.args) == 3:
        yield altered(node, args=[node.args[0], node.args[2], node.args[1]])
    if name in DROPPED:
        module = isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") in ("np", "math")
        if module and any(keyword.arg == "out" for keyword in node.keywords):
            yield altered(node, func=renamed(node.func, "positive"))
        elif module:
            yield copy.deepcopy(node.args[0])
        elif isinstance(node.func, ast.Attribute):
            yield copy.deepcopy(node.func.value)


def changed_number(node: ast.Constant, holder: ast.AST) -> Iterator[ast.AST]:
    """Truth turned round, n + 1 for a whole number, twice a broken one."""
    value = node.value
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int):
        if not (isinstance(holder, ast.UnaryOp) and value == 1):  # −1 without its sign is planted already
            yield ast.Constant(value + 1)
    elif isinstance(value, float) and math.isfinite(value):
        yield ast.Constant(2 * value if value else 1.0)


def changed_gradients(node: ast.Return, gradients: list[ast.expr]) -> Iterator[ast.AST]:
    """A returned gradient missing, of the other sign, or in the place of its neighbour."""
    for i, gradient in enumerate(gradients):
        if not isinstance(gradient, (ast.Constant, ast.Starred)):
            others = gradients[:i], gradients[i + 1 :]
            yield altered(node, value=ast.Tuple([*others[0], ast.Constant(None), *others[1]], ast.Load()))
            if not isinstance(gradient, (ast.IfExp, ast.UnaryOp)):  # −dy without its sign is planted already
                minus = ast.UnaryOp(ast.USub(), gradient)
                yield altered(node, value=ast.Tuple([*others[0], minus, *others[1]], ast.Load()))
    if len(gradients) > 1:
        yield altered(node, value=ast.Tuple([gradients[1], gradients[0], *gradients[2:]], ast.Load()))


def neutral(op: ast.operator, value: ast.expr) -> bool:
    """Whether × and ÷ do the same: by 1 and −1."""
    return isinstance(op, (ast.Mult, ast.Div)) and ast.unparse(value) in ("1", "-1", "1.0", "-1.0")


def altered(node: ast.AST, **fields: object) -> ast.AST:
    """A copy of the node with some fields replaced."""
    new = copy.copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new


def exists(function: ast.expr, name: str) -> bool:
    """Whether a function of this name may stand there: Python has no mean(...), a set no subtract."""
    if isinstance(function, ast.Name):
        return hasattr(builtins, name)
    return hasattr(np.ndarray, name) or getattr(getattr(function, "value", None), "id", "") == "np"


def renamed(function: ast.expr, name: str) -> ast.expr:
    if isinstance(function, ast.Attribute):
        return ast.Attribute(function.value, name, ast.Load())
    return ast.Name(name, ast.Load())


def called(node: Any) -> str:
    return getattr(node.func, "attr", getattr(node.func, "id", ""))


def place(holder: ast.AST, field: str, index: int | None, node: ast.AST) -> None:
    if index is None:
        setattr(holder, field, node)
    else:
        getattr(holder, field)[index] = node


def headline(node: ast.AST) -> str:
    """A statement's source on one line, of a compound one the first."""
    if isinstance(node, ast.Match):
        return f"match {ast.unparse(node.subject)}:"
    if hasattr(node, "body") and isinstance(node, ast.stmt):
        shown = altered(node, body=[ast.Pass()], **({"orelse": []} if hasattr(node, "orelse") else {}))
        return ast.unparse(shown).split("\n")[0]
    return ast.unparse(node)
