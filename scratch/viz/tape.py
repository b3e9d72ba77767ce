"""The tape made visible: what was computed from what, with values, and gradients after backward()."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from scratch.tape import Array, Node, ancestors
from scratch.viz import style
from scratch.viz.layered import Placed, place

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_NODES = 60
N = TypeVar("N", bound=Node)
LETTER, LINE, PAD = 0.0835, 0.165, 0.09  # inches: a monospaced letter of 9.5 points, a line, a box's margin


def keep_gradients(root: N) -> N:
    """Keep the gradient of every node that `root` was computed from, to be drawn after backward; → root.

        keep_gradients(L).backward(retain_graph=True)
        draw_tape(L)

    Both parts are needed: backward() drops the gradients of computed nodes and releases the tape as it goes.
    """
    for node in _recorded(root):
        node.retain_grad()
    return root


def nodes_of(root: Node) -> tuple[list[Node], list[tuple[Node, Node]]]:
    """Every node of the tape once, oldest first, and the edges (parent, child), an argument used twice giving two.

    Constants, which receive no gradient, are among the nodes. Raises ValueError for a tape that was released.
    """
    found = {id(node): node for node in _recorded(root)}
    for node in list(found.values()):
        found.update((id(parent), parent) for parent in node._parents)
    nodes = sorted(found.values(), key=lambda node: node._birth)
    return nodes, [(parent, node) for node in nodes for parent in node._parents]


def draw_tape(root: Node, names: Mapping[str, Any] | None = None, values: bool = True) -> Figure:
    """The tape as boxes from left to right: leaves, constants, operations, and the result on the right.

    Each box holds the name or the operation, the value of up to four numbers or else the shape, and the gradient if
    there is one (see `keep_gradients`), of larger arrays its Euclidean norm.

    Args: names: name → tensor; what is no tensor is passed over, so `names=locals()` does.
        values: False shows operations and shapes only.
    Raises ValueError for a released tape, and for more than 60 nodes.
    """
    nodes, edges = _small(root)
    texts = {id(node): _lines(node, _names(names), values) for node in nodes}
    sizes = [
        (LETTER * max(map(len, texts[id(node)])) + 2 * PAD, LINE * len(texts[id(node)]) + 2 * PAD) for node in nodes
    ]
    index = {id(node): i for i, node in enumerate(nodes)}
    plan = place(sizes, [(index[id(a)], index[id(b)]) for a, b in edges])
    left, right, bottom, top = plan.bounds
    foot = 0.55  # room for the legend
    width = max(right - left, 4.9)
    page = style.blank(width + 0.3, top - bottom + 0.3 + foot)
    axes = page.add_axes((0, 0, 1, 1))
    axes.set_xlim(left - 0.15, left + width + 0.15)  # one unit is one inch, so that letters fill their boxes
    axes.set_ylim(bottom - 0.15 - foot, top + 0.15)
    axes.set_axis_off()
    for route in plan.routes:
        _edge(axes, route)
    for node, box in zip(nodes, plan.boxes, strict=True):
        _box(axes, node, box, texts[id(node)], node is root)
    _key(axes, {_kind(node) for node in nodes}, left, bottom - 0.15 - foot / 2)
    return page


def tape_text(root: Node, names: Mapping[str, Any] | None = None, values: bool = True) -> str:
    """The tape as an indented tree in ASCII: the result first, under each node the nodes that it was computed from.

    A node met again is shown by name, with "(above)"; where it has none, it is numbered: #1, #2 ...
    Raises ValueError as `draw_tape`.
    """
    nodes, edges = _small(root)
    uses: dict[int, int] = {}
    for parent, _ in edges:
        uses[id(parent)] = uses.get(id(parent), 0) + 1
    known = _names(names)
    shared = [node for node in nodes if uses.get(id(node), 0) > 1 and id(node) not in known]
    known |= {id(node): f"#{i}" for i, node in enumerate(shared, start=1)}
    rows: list[str] = []
    met: set[int] = set()

    def grow(node: Node, head: str, tail: str) -> None:
        title, *details = _lines(node, known, values)
        if id(node) in met:
            rows.append(f"{head}{known[id(node)]} (above)")
            return
        met.add(id(node))
        rows.append(head + "  ".join([title, *details]))
        for i, parent in enumerate(node._parents):
            last = i == len(node._parents) - 1
            grow(parent, tail + ("`- " if last else "|- "), tail + ("   " if last else "|  "))

    grow(root, "", "")
    return "\n".join(rows).encode("ascii", "backslashreplace").decode("ascii")


def _recorded(root: Node) -> list[Node]:
    try:
        return ancestors(root)
    except ValueError:
        raise ValueError("this tape was released by backward(); compute it again, then keep_gradients(L) and "
                         "L.backward(retain_graph=True) before drawing it") from None  # fmt: skip


def _small(root: Node) -> tuple[list[Node], list[tuple[Node, Node]]]:
    nodes, edges = nodes_of(root)
    if len(nodes) > MAX_NODES:
        raise ValueError(
            f"a tape of {len(nodes)} nodes is too large to read: at most {MAX_NODES}; draw a smaller model"
        )
    return nodes, edges


def _names(names: Mapping[str, Any] | None) -> dict[int, str]:
    """id → name; the first name of a tensor counts."""
    known: dict[int, str] = {}
    for name, value in (names or {}).items():
        if isinstance(value, Node):
            known.setdefault(id(value), name)
    return known


def _lines(node: Node, known: dict[int, str], values: bool) -> list[str]:
    """What is written about a node: what it is, its value or shape, its gradient."""
    name, what = known.get(id(node), ""), node.op or ("leaf" if node.requires_grad else "constant")
    first = f"{name} = {what}" if name and node.op else name or what
    if not values or not _few(node.data):
        second = f"shape {node.data.shape}"
    else:
        second = f"value {_numbers(node.data)}"
    if node.grad is None or not values:
        return [first, second]
    if _few(node.grad):
        return [first, second, f"grad  {_numbers(node.grad)}"]
    return [first, second, f"|grad| {float(np.linalg.norm(node.grad)):.3g}"]


def _few(array: Array) -> bool:
    return array.size <= 4 and array.ndim <= 2


def _numbers(array: Array) -> str:
    """A few numbers in four significant digits: -0.2533, [1, 2], [[1, 2], [3, 4]]."""
    if array.ndim:
        return "[" + ", ".join(_numbers(row) for row in array) + "]"
    return f"{array.item():.4g}"


def _edge(axes: Any, route: list[tuple[float, float]]) -> None:
    """A smooth curve through the route, level at each of its points, with an arrow head at its end."""
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path

    points, codes = [route[0]], [Path.MOVETO]
    for (x0, y0), (x1, y1) in zip(route, route[1:], strict=False):
        middle = (x0 + x1) / 2
        points += [(middle, y0), (middle, y1), (x1, y1)]
        codes += [Path.CURVE4] * 3
    axes.add_patch(
        FancyArrowPatch(
            path=Path(points, codes), shrinkA=0, shrinkB=0, arrowstyle="-|>", mutation_scale=10, color=style.GREY,
            linewidth=1.2, zorder=1,
        )
    )  # fmt: skip


def _kind(node: Node) -> str:
    if node.op:
        return "operation"
    return "leaf, requires a gradient" if node.requires_grad else "constant"


# fill, edge, dashes, corner: an operation is round, a constant dashed
LOOKS: dict[str, tuple[str, str, Any, str]] = {
    "leaf, requires a gradient": ("#FBE3B5", style.ORANGE, "-", "square,pad=0"),
    "constant": ("#F2F2F2", style.GREY, (0, (3, 2)), "square,pad=0"),
    "operation": ("#D6EAF6", style.BLUE, "-", "round,pad=0,rounding_size=0.09"),
}


def _box(axes: Any, node: Node, box: Placed, lines: list[str], is_root: bool) -> None:
    _patch(axes, _kind(node), box.x, box.y, box.width, box.height, 2.6 if is_root else 1.3)
    for i, line in enumerate(lines):
        axes.text(
            box.x - box.width / 2 + PAD, box.y + box.height / 2 - PAD - LINE * (i + 0.5), line, va="center",
            family="DejaVu Sans Mono", fontsize=9.5, weight="bold" if i == 0 else "normal",
            color=style.VERMILLION if i == 2 else "black", zorder=3,
        )  # fmt: skip


def _patch(axes: Any, kind: str, x: float, y: float, width: float, height: float, line: float) -> None:
    from matplotlib.patches import FancyBboxPatch

    fill, edge, dashes, corner = LOOKS[kind]
    axes.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - height / 2), width, height, boxstyle=corner, facecolor=fill, edgecolor=edge,
            linestyle=dashes, linewidth=line, zorder=2,
        )
    )  # fmt: skip


def _key(axes: Any, kinds: set[str], left: float, y: float) -> None:
    """What the boxes mean."""
    x = left + 0.15
    for kind in [kind for kind in LOOKS if kind in kinds]:
        _patch(axes, kind, x, y, 0.26, 0.17, 1.3)
        axes.text(x + 0.2, y, kind, va="center", fontsize=style.SMALL)
        x += 0.6 + 0.072 * len(kind)
