"""Boxes of a graph in layers, every edge pointing right: the three steps of Sugiyama, Tagawa and Toda (1981).

1. A node's layer is the longest path that leads to it; one without parents stands just left of its first use.
2. Within a layer, nodes are put in the order of their neighbours' mean position, to and fro, which removes crossings.
3. Heights: each box as near as may be to its neighbours' mean, without touching the box below it.

An edge over several layers passes through an invisible box in each, so that it never runs behind a visible one.
"""

from __future__ import annotations

from dataclasses import dataclass

GAP_X, GAP_Y = 0.42, 0.18  # inches between layers and between boxes
SWEEPS = 8


@dataclass
class Placed:
    """A box by its centre and size."""

    x: float
    y: float
    width: float
    height: float
    layer: int


@dataclass
class Plan:
    boxes: list[Placed]  # in the order of the sizes given
    routes: list[list[tuple[float, float]]]  # in the order of the edges given: from right side to left side
    bounds: tuple[float, float, float, float]  # left, right, bottom, top


def place(sizes: list[tuple[float, float]], edges: list[tuple[int, int]]) -> Plan:
    """Centres for boxes of (width, height), numbered so that every edge (a, b) has a < b."""
    if any(not 0 <= a < b < len(sizes) for a, b in edges):
        raise ValueError("place expected edges (a, b) with 0 <= a < b < number of boxes")
    layer = _layers(len(sizes), edges)
    # `chain` lists, edge by edge, the boxes it passes; new numbers are the invisible ones.
    size, chains = list(sizes), []
    for a, b in edges:
        between = range(layer[a] + 1, layer[b])
        chains.append([a, *range(len(size), len(size) + len(between)), b])
        size += [(0.0, 0.06)] * len(between)
        layer += between
    left: list[list[int]] = [[] for _ in size]
    right: list[list[int]] = [[] for _ in size]
    for chain in chains:
        for a, b in zip(chain, chain[1:], strict=False):
            right[a].append(b)
            left[b].append(a)
    columns = _order(layer, left, right)
    y = _heights(columns, [height for _, height in size], left, right)
    return _plan(columns, layer, size, y, chains, len(sizes))


def _layers(count: int, edges: list[tuple[int, int]]) -> list[int]:
    layer = [0] * count
    for a, b in sorted(edges, key=lambda edge: edge[1]):  # parents first: their layers are final
        layer[b] = max(layer[b], layer[a] + 1)
    computed = {b for _, b in edges}
    for a in range(count):
        uses = [layer[child] for parent, child in edges if parent == a]
        if a not in computed and uses:
            layer[a] = min(uses) - 1
    return layer


def _order(layer: list[int], left: list[list[int]], right: list[list[int]]) -> list[list[int]]:
    """The boxes of each layer from bottom to top."""
    columns: list[list[int]] = [[] for _ in range(max(layer) + 1)]
    for node in reversed(range(len(layer))):  # the first argument of an operation starts on top
        columns[layer[node]].append(node)
    best, fewest = [list(column) for column in columns], _crossings(columns, right)
    for sweep in range(SWEEPS):
        neighbours, walk = (left, columns) if sweep % 2 == 0 else (right, columns[::-1])
        for column in walk:
            rank = {node: i for each in columns for i, node in enumerate(each)}
            mean = {
                node: sum(rank[n] for n in neighbours[node]) / len(neighbours[node]) if neighbours[node] else rank[node]
                for node in column
            }
            column.sort(key=lambda node: mean[node])
        crossings = _crossings(columns, right)
        if crossings < fewest:
            best, fewest = [list(column) for column in columns], crossings
    return best


def _crossings(columns: list[list[int]], right: list[list[int]]) -> int:
    """Pairs of edges between neighbouring layers that cross."""
    count = 0
    for column, following in zip(columns, columns[1:], strict=False):
        rank = {node: i for i, node in enumerate(following)}
        ends = [rank[child] for node in column for child in sorted(right[node], key=rank.__getitem__)]
        count += sum(a > b for i, a in enumerate(ends) for b in ends[i + 1 :])
    return count


def _heights(
    columns: list[list[int]], height: list[float], left: list[list[int]], right: list[list[int]]
) -> list[float]:
    y = [0.0] * len(height)
    for column in columns:
        for node, centre in zip(column, _spread([0.0] * len(column), [height[n] for n in column]), strict=True):
            y[node] = centre
    for sweep in range(SWEEPS):
        neighbours, walk = (left, columns) if sweep % 2 == 0 else (right, columns[::-1])
        for column in walk:
            wish = [sum(y[n] for n in neighbours[a]) / len(neighbours[a]) if neighbours[a] else y[a] for a in column]
            for node, centre in zip(column, _spread(wish, [height[n] for n in column]), strict=True):
                y[node] = centre
    return y


def _spread(wish: list[float], height: list[float]) -> list[float]:
    """Centres c, in order and GAP_Y apart, of least Σ (c − wish)²: isotonic regression by pooling adjacent violators.

    With offsets oᵢ = the room that the boxes before i take, cᵢ − oᵢ must not fall; blocks in which it would are pooled
    to their mean.
    """
    offsets = [0.0]
    for below, above in zip(height, height[1:], strict=False):
        offsets.append(offsets[-1] + (below + above) / 2 + GAP_Y)
    blocks: list[tuple[float, int]] = []  # (mean, how many)
    for value in (w - o for w, o in zip(wish, offsets, strict=True)):
        mean, n = value, 1
        while blocks and blocks[-1][0] > mean:
            before, m = blocks.pop()
            mean, n = (before * m + mean * n) / (m + n), m + n
        blocks.append((mean, n))
    levels = [mean for mean, n in blocks for _ in range(n)]
    return [level + offset for level, offset in zip(levels, offsets, strict=True)]


def _plan(
    columns: list[list[int]], layer: list[int], size: list[tuple[float, float]], y: list[float],
    chains: list[list[int]], visible: int,
) -> Plan:  # fmt: skip
    """Columns get their x from the widest box in each; routes their ends from the boxes' sides."""
    centres, edge = [], 0.0
    for column in columns:
        widest = max(size[node][0] for node in column)
        centres.append(edge + widest / 2)
        edge += widest + GAP_X
    boxes = [Placed(centres[layer[i]], y[i], *size[i], layer[i]) for i in range(len(size))]
    arrivals: dict[int, list[int]] = {}  # edges by the box that they end at, from the lowest to the highest
    for i in sorted(range(len(chains)), key=lambda i: (y[chains[i][-2]], -i)):
        arrivals.setdefault(chains[i][-1], []).append(i)
    routes = []
    for i, chain in enumerate(chains):
        first, last = boxes[chain[0]], boxes[chain[-1]]
        inner = [(boxes[j].x, boxes[j].y) for j in chain[1:-1]]
        here = arrivals[chain[-1]]
        step = min(0.16, 0.7 * last.height / len(here))  # arrows side by side, also two from one box (a · a)
        end = last.y + step * (here.index(i) - (len(here) - 1) / 2)
        routes.append([(first.x + first.width / 2, first.y), *inner, (last.x - last.width / 2, end)])
    low = min(box.y - box.height / 2 for box in boxes)
    high = max(box.y + box.height / 2 for box in boxes)
    return Plan(boxes[:visible], routes, (0.0, edge - GAP_X, low, high))
